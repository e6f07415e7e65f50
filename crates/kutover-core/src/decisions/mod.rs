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
pub mod retention;
pub mod separation;
pub mod stragglers;

/// JSON objects need text keys, so a map by partition is written as a list of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use crate::words::TopicPartition;

    pub(super) fn serialize<V: Serialize, S: serde::Serializer>(
        map: &BTreeMap<TopicPartition, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, V: Deserialize<'de>, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<TopicPartition, V>, D::Error> {
        Ok(Vec::<(TopicPartition, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
