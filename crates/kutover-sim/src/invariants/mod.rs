//! The promises, one file each, checked against what really happened.

mod abort_leaves_nothing;
mod always_a_serving_colour;
mod closed_stays_closed;
mod comes_to_an_end;
mod drain_is_true;
mod first_copy_order;
mod generation_only_grows;
mod ledger_bounds_duplicates;
mod no_early_removal;
mod no_fence_left_on_active;
mod no_panic;
mod no_silent_loss;
mod old_term_acts_not;
mod receipts_truthful;
mod resume_repeats_nothing;
mod right_incarnation_removed;
mod stall_is_bounded;

#[cfg(test)]
mod fixtures;

use std::collections::BTreeSet;
use std::fmt;

use crate::observed::{Ending, Observed};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

/// Checks a promise.
type Check = fn(&Observed) -> Vec<Violation>;

/// Every promise, by name.
pub const ALL: &[(&str, Check)] = &[
    (no_silent_loss::NAME, no_silent_loss::check),
    (ledger_bounds_duplicates::NAME, ledger_bounds_duplicates::check),
    (first_copy_order::NAME, first_copy_order::check),
    (receipts_truthful::NAME, receipts_truthful::check),
    (drain_is_true::NAME, drain_is_true::check),
    (closed_stays_closed::NAME, closed_stays_closed::check),
    (no_early_removal::NAME, no_early_removal::check),
    (right_incarnation_removed::NAME, right_incarnation_removed::check),
    (old_term_acts_not::NAME, old_term_acts_not::check),
    (generation_only_grows::NAME, generation_only_grows::check),
    (always_a_serving_colour::NAME, always_a_serving_colour::check),
    (no_fence_left_on_active::NAME, no_fence_left_on_active::check),
    (abort_leaves_nothing::NAME, abort_leaves_nothing::check),
    (resume_repeats_nothing::NAME, resume_repeats_nothing::check),
    (stall_is_bounded::NAME, stall_is_bounded::check),
    (comes_to_an_end::NAME, comes_to_an_end::check),
    (no_panic::NAME, no_panic::check),
];

/// Checks all of them.
pub fn check(observed: &Observed) -> Vec<Violation> {
    ALL.iter().flat_map(|(_, check)| check(observed)).collect()
}

/// Checks what holds whatever moves the producers: other strategies than kutover's promise nothing more.
pub fn check_any(observed: &Observed) -> Vec<Violation> {
    no_panic::check(observed)
}

/// Puts a violation together.
macro_rules! broken {
    ($($detail:tt)+) => {
        crate::invariants::Violation { invariant: NAME, detail: format!($($detail)+) }
    };
}
use broken;

/// What became of a run's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Accepted records.
    pub accepted: u64,
    /// Of them, those of producers that the strategy moves: without strangers'.
    pub own: u64,
    /// Records that were acknowledged, or of which nobody heard again, and that stand nowhere.
    pub lost: u64,
    /// Of [`Count::own`], those that came back to their caller with an error. Nobody sends them again here.
    pub returned: u64,
    /// Copies beyond the first.
    pub duplicated: u64,
    /// First copies that stand behind a later one of their key.
    pub out_of_order: u64,
    /// What retention took before a group had read it, counted for every group.
    pub aged_out: u64,
    /// Producers that ended on the cluster on which they began, while another one was active.
    pub never_moved: u64,
    /// Producers.
    pub producers: u64,
    /// Groups.
    pub groups: u64,
    /// The longest that a send waited at a switch, in milliseconds.
    pub longest_wait_ms: u64,
    /// The longest that one waited for room, in milliseconds.
    pub longest_room_ms: u64,
    /// The longest that one waited while a controller was awake and nothing went wrong, in milliseconds.
    pub longest_calm_wait_ms: u64,
    /// The longest that a client took to be settled behind its closed gate, in milliseconds.
    pub longest_seal_ms: u64,
}

impl Count {
    /// Counts.
    pub fn of(observed: &Observed) -> Self {
        // Where kutover moves the others, a stranger is told that it was refused.
        let only_stock = observed.producers.iter().all(|producer| !producer.ours);
        let copies = observed.copies();
        let mut count =
            Self { out_of_order: first_copy_order::late(observed).len() as u64, ..Self::default() };
        for (record, copies) in observed.records.iter().zip(copies) {
            if record.endings.iter().any(|(_, ending)| ending.is_none()) {
                continue;
            }
            count.accepted += 1;
            count.duplicated += u64::from(copies.saturating_sub(1));
            let ours = observed.producers.get(record.producer).is_some_and(|producer| producer.ours);
            let own = ours || only_stock;
            let acknowledged =
                record.endings.iter().any(|(_, ending)| matches!(ending, Some(Ending::Acknowledged(_))));
            let unheard = record.endings.is_empty() && own;
            count.lost += u64::from(copies == 0 && !record.died && (acknowledged || unheard));
            count.own += u64::from(own);
            count.returned += u64::from(own && !record.endings.is_empty() && !acknowledged);
        }
        // How long a thread sleeps inside a send is no measure of a switch.
        let awake =
            |producer: usize| observed.producers.get(producer).is_some_and(|known| known.slept_ms == 0);
        let waits = observed.waits.iter().filter(|wait| awake(wait.producer));
        count.longest_wait_ms = waits.clone().map(|wait| wait.until_ms - wait.from_ms).max().unwrap_or(0);
        count.longest_room_ms = waits.clone().map(|wait| wait.room_ms).max().unwrap_or(0);
        let calm = waits.map(|wait| stall_is_bounded::cared_for_ms(observed, wait));
        count.longest_calm_wait_ms = calm.max().unwrap_or(0);
        let seals = observed.seals.iter().filter(|seal| awake(seal.producer));
        count.longest_seal_ms = seals.map(|seal| seal.took_ms).max().unwrap_or(0);
        count.aged_out = no_silent_loss::aged_out(observed);
        let active = observed.end.published.owner.as_ref().map(|owner| &owner.target.cluster_id);
        let stays = |moves: &[(u64, _)]| {
            let clusters: BTreeSet<_> = moves.iter().map(|(_, cluster)| cluster).collect();
            clusters.len() == 1 && clusters.first().copied() != active
        };
        count.groups = observed.groups.len() as u64;
        count.producers = observed.producers.len() as u64;
        count.never_moved =
            observed.producers.iter().filter(|producer| stays(&producer.moves)).count() as u64;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::{ours, record};
    use super::*;

    /// What a fence refuses a stranger is what it is there for.
    #[test]
    fn what_a_stranger_gets_back_is_not_counted() {
        let mut observed = ours();
        observed.producers.push(crate::observed::Producer { ours: false, ..observed.producers[0].clone() });
        observed.records = vec![record(1, Ending::NotWritten), record(1, Ending::NotWritten)];
        observed.records[1].producer = 1;
        let count = Count::of(&observed);
        assert_eq!((count.accepted, count.own, count.returned), (2, 1, 1));
        observed.producers.iter_mut().for_each(|producer| producer.ours = false);
        let count = Count::of(&observed);
        assert_eq!((count.own, count.returned), (2, 2), "there all of them are what is compared");
    }
}
