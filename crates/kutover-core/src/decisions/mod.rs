//! Decisions that are neither a machine nor a proof of the drain: each a pure function of what was observed.
//!
//! Every one of them gives a result that says why, in words an operator can act on, and takes what was not answered for
//! what it is: unknown, never "no" and never zero. They know no port; who observes, and what follows from a decision, is
//! the business of others.

pub mod acks;
pub mod closing;
pub mod early_members;
pub mod fence;
pub mod history;
pub mod raise;
pub mod retention;
pub mod separation;
pub mod stragglers;

/// JSON objects need text keys, so a map by another key is written as a list of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: serde::Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: serde::Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
