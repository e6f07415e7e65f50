//! Producers that may still write to a cluster that is to be removed, where no fence keeps them out: a silent one may be asleep
//! inside a send (L8), over a connection that an isolation has left standing. Only a person can know that it has ended.

use std::collections::BTreeSet;

use super::ApprovalGate;

/// Those that were never seen to have moved. Not journalled: after a restart a person is asked again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Unmoved {
    seen: BTreeSet<String>,
    /// Those that a person was told of and said yes to.
    given_up: BTreeSet<String>,
}

impl Unmoved {
    /// What the last look found.
    pub(super) fn saw(&mut self, keys: impl IntoIterator<Item = String>) {
        self.seen = keys.into_iter().collect();
    }

    /// Whether a person has said yes to each of them.
    pub(super) fn are_given_up(&self) -> bool {
        self.seen.is_subset(&self.given_up)
    }

    /// Those that a person is to be told of at a gate.
    pub(super) fn shown(&self, gate: ApprovalGate) -> Vec<String> {
        match gate {
            ApprovalGate::Redirect => Vec::new(),
            ApprovalGate::Removal => self.seen.iter().cloned().collect(),
        }
    }

    /// A person said yes.
    pub(super) fn approved(&mut self, gate: ApprovalGate) {
        self.given_up.extend(self.shown(gate));
    }
}
