//! What shuts clients out of a cluster, as the journal's intents know it.

use std::collections::BTreeSet;

use super::Command;
use crate::words::{IncarnationId, Nonce};

/// Fences and isolations that were intended, by incarnation: what a late act of an older term may leave behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Shut {
    fenced: BTreeSet<IncarnationId>,
    isolated: BTreeSet<(IncarnationId, Nonce)>,
}

impl Shut {
    pub(super) fn note(&mut self, command: &Command) {
        match command {
            Command::RaiseFence { old, .. } => {
                self.fenced.insert(old.id.clone());
            }
            Command::Isolate { old, nonce } => {
                self.isolated.insert((old.id.clone(), nonce.clone()));
            }
            _ => {}
        }
    }

    /// Whether anything of the kind was ever begun there.
    pub(super) fn touched(&self, there: &IncarnationId) -> bool {
        self.fenced.contains(there) || self.isolated.iter().any(|(id, _)| id == there)
    }

    /// The isolations of an incarnation.
    pub(super) fn isolations(&self, there: &IncarnationId) -> Vec<Nonce> {
        self.isolated.iter().filter(|(id, _)| id == there).map(|(_, nonce)| nonce.clone()).collect()
    }
}
