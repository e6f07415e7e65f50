//! Liveness: once all faults have ended, every cutover and every record comes to its end; no cutover is held for good but by
//! what is really amiss; and no machine breaks a promise of its own.

use super::{Violation, broken};
use crate::observed::{Observed, TakenBack};

pub(super) const NAME: &str = "comes_to_an_end";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let stuck = observed.end.stuck.iter().map(|stuck| broken!("{stuck}"));
    let machines = observed.broken.iter().map(|text| broken!("a machine stopped: {text}"));
    let held =
        observed.taken_back.iter().filter(|held| !goes_on(observed, held) && !forgotten(observed, held)).map(
            |held| {
                let TakenBack { at_ms, state, why } = held;
                broken!("a cutover was held for good, and taken back at {at_ms} ms, in {state:?}: {why}")
            },
        );
    stuck.chain(machines).chain(held).collect()
}

/// What time does not mend: records behind a closed end, where that cannot be kept from them. Nothing is removed over them.
fn goes_on(observed: &Observed, held: &TakenBack) -> bool {
    let chains = observed.chains();
    held.why.contains("but the log goes on to")
        && observed.appends.iter().filter(|append| append.at_ms <= held.at_ms).any(|append| {
            chains.is_behind_quiet(append) || observed.is_behind_a_lifted_fence(&chains, append)
        })
}

/// Nor does it bring back commits that a cluster has forgotten of a group which is not there any more: a person says whether it
/// had read everything.
fn forgotten(observed: &Observed, held: &TakenBack) -> bool {
    let named = |group, place| held.why.contains(&format!("group {group}, {place}: no commit"));
    observed.expired(held.at_ms).any(|(_, group, place)| named(group, place))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kutover_core::chain::{ClosedBy, Segment, SegmentEnd};
    use kutover_core::words::{Colour, Generation, Offset, TopicPartition};

    use super::super::fixtures::{acted, append, ours};
    use super::*;
    use crate::observed::Act;

    #[test]
    fn what_is_stuck_or_broken_is_reported() {
        let mut observed = ours();
        assert_eq!(check(&observed), []);
        observed.end.stuck.push("a cutover never ended".into());
        observed.broken.push("a gate is open".into());
        assert_eq!(check(&observed).len(), 2);
    }

    #[test]
    fn what_is_held_for_good_is_reported_unless_a_log_really_goes_on() {
        let mut observed = ours();
        let held = |why: &str| TakenBack { at_ms: 9, state: None, why: why.into() };
        observed.taken_back = vec![held("topic t0, partition 0: closed at 1, but the log goes on to 2")];
        assert_eq!(check(&observed).len(), 1, "it does not");
        let segment = Segment {
            generation: Generation(1),
            colour: Colour::Blue,
            cluster_id: "b".into(),
            start: Offset(0),
            end: SegmentEnd::Closed { by: ClosedBy::Quiet, end: Offset(1) },
        };
        let chain = Act::Chain("b".into(), "t0".into(), BTreeMap::from([(0, vec![segment])]));
        observed.acts.push(acted(5, chain));
        observed.appends.push(append(7, "b", 1, 0));
        assert_eq!(check(&observed), []);
        observed.taken_back.push(held("group g0 has 3 records to read"));
        assert_eq!(check(&observed).len(), 1);
    }

    #[test]
    fn a_commit_that_expired_excuses_its_own_group_alone() {
        let mut observed = ours();
        let why =
            "not removed: group billing, topic t0, partition 0: no commit, 40 records unread".to_owned();
        observed.taken_back = vec![TakenBack { at_ms: 9, state: None, why }];
        let expires = |at_ms, group: &str| {
            acted(at_ms, Act::OffsetsExpired("b".into(), vec![(group.into(), TopicPartition::new("t0", 0))]))
        };
        observed.acts = vec![expires(5, "search"), expires(10, "billing")];
        assert_eq!(check(&observed).len(), 1);
        observed.acts.push(expires(8, "billing"));
        assert_eq!(check(&observed), []);
    }
}
