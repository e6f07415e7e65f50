//! G1: every accepted record ends in exactly one of acknowledged and returned; what was acknowledged stands in a log, what
//! was returned as not written does not; and every group that was there is handed what stands, but for what retention took.

use std::collections::BTreeMap;

use kutover_core::chain::SegmentEnd;
use kutover_core::words::{ClusterId, Offset, TopicPartition};

use super::{Violation, broken};
use crate::observed::{Append, Chains, Ending, Group, Observed, Reading};

pub(super) const NAME: &str = "no_silent_loss";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let copies = observed.copies();
    let mut found = Vec::new();
    for (id, record) in observed.records.iter().enumerate() {
        let Some(producer) = observed.producers.get(record.producer).filter(|producer| producer.ours) else {
            continue;
        };
        let name = &producer.name;
        match (record.endings.as_slice(), copies[id]) {
            ([], _) if !record.died => found.push(broken!("record {id} of {name} never ended")),
            ([(at, Some(Ending::Acknowledged(cluster)))], 0) => {
                found.push(broken!(
                    "record {id} of {name} was acknowledged by {cluster} at {at} ms and is lost"
                ));
            }
            ([(_, Some(Ending::NotWritten))], copies) if copies > 0 && !record.died => {
                found.push(broken!(
                    "record {id} of {name} was returned as not written and stands {copies} times"
                ));
            }
            ([_, _, ..], _) => {
                found.push(broken!("record {id} of {name} ended more than once: {:?}", record.endings))
            }
            _ => {}
        }
    }
    found.extend(unread(observed));
    found
}

/// What stands in a log and a group was never handed.
fn unread(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    let (chains, retained) = (observed.chains(), observed.retained(u64::MAX));
    for group in &observed.groups {
        let missed: Vec<_> = never_handed(observed, group)
            .filter(|append| !is_aged_out(&retained, append))
            .filter(|append| !is_held(observed, &chains, group.reading, append))
            .collect();
        if let Some(first) = missed.first() {
            let reading = match group.reading {
                Reading::Chain => "chain",
                Reading::Stock => "stock",
            };
            found.push(broken!(
                "{reading} group {} missed {} records, first record {} at {} {} @{} of {} ms",
                group.name,
                missed.len(),
                first.record,
                first.cluster,
                first.place,
                first.offset,
                first.at_ms
            ));
        }
    }
    found
}

/// How many records retention took before a group had read them, counted for every group.
pub(super) fn aged_out(observed: &Observed) -> u64 {
    let retained = observed.retained(u64::MAX);
    let taken = |group| never_handed(observed, group).filter(|append| is_aged_out(&retained, append)).count();
    observed.groups.iter().map(|group| taken(group) as u64).sum()
}

fn never_handed<'a>(observed: &'a Observed, group: &'a Group) -> impl Iterator<Item = &'a Append> {
    let mut handed = vec![false; observed.records.len()];
    group.handed.iter().for_each(|record| handed[record.record] = true);
    let (begun, appends) = (group.begun(u64::MAX), observed.appends.iter());
    let due = move |append: &&Append| {
        let from = begun.on(&append.cluster, &append.place);
        group.topics.contains(&append.place.topic) && from.is_some_and(|from| append.offset >= from)
    };
    appends.filter(due).filter(move |append| !handed[append.record])
}

/// Whether retention took it, which is Kafka's to lose; whether a drain may be called over it is another promise.
fn is_aged_out(retained: &BTreeMap<(&ClusterId, &TopicPartition), Offset>, append: &Append) -> bool {
    retained.get(&(&append.cluster, &append.place)).is_some_and(|start| append.offset < *start)
}

/// What no segment has, so no reader of the chain is handed it, while its cluster is held for it and still stands: what
/// came behind an end that a quiet window closed, because the fence was waived, or behind a fence that a request lifted
/// which had been given up before it was raised; and what a cluster that did not answer
/// any more, and was really out of reach, had when a rollback left it without a barrier.
fn is_held(observed: &Observed, chains: &Chains, reading: Reading, append: &Append) -> bool {
    let stands = || observed.end.standing.contains_key(&append.cluster);
    let given_up = || {
        let mut segments = chains.of(&append.cluster, &append.place);
        let unreadable =
            segments.any(|segment| segment.end == SegmentEnd::Unreadable && append.offset >= segment.start);
        unreadable && observed.was_out_of_reach(&append.cluster)
    };
    reading == Reading::Chain
        && stands()
        && (chains.is_behind_quiet(append) || given_up() || observed.is_behind_a_lifted_fence(chains, append))
}

#[cfg(test)]
mod tests {
    use kutover_core::chain::{ClosedBy, Segment};
    use kutover_core::words::{Colour, Generation};

    use super::super::fixtures::{acted, append, group, handed, ours, record};
    use super::*;
    use crate::observed::Act;

    /// A world in which a reader of the chain was not handed the record at offset 3 of a cluster that stands.
    fn unread_behind(end: SegmentEnd) -> Observed {
        let mut observed = ours();
        observed.records.push(record(1, Ending::Acknowledged("g".into())));
        observed.appends.push(append(5, "g", 3, 0));
        observed.groups.push(crate::observed::Group { reading: Reading::Chain, ..group("g") });
        observed.end.standing.insert("g".into(), (vec![], false));
        let (generation, colour) = (Generation(2), Colour::Green);
        let segment = Segment { generation, colour, cluster_id: "g".into(), start: Offset(0), end };
        let partitions = [(0, vec![segment])].into();
        observed.acts.push(acted(6, Act::Chain("b".into(), "t0".into(), partitions)));
        observed
    }

    #[test]
    fn a_quiet_end_excuses_only_what_stands_behind_it() {
        let quiet = |end| SegmentEnd::Closed { end: Offset(end), by: ClosedBy::Quiet };
        assert_eq!(check(&unread_behind(quiet(3))), []);
        assert_eq!(check(&unread_behind(quiet(4))).len(), 1);
    }

    #[test]
    fn a_cluster_that_was_never_out_of_reach_is_not_given_up() {
        let mut observed = unread_behind(SegmentEnd::Unreadable);
        assert_eq!(check(&observed).len(), 1);
        observed.acts.push(acted(4, Act::OutOfReach("g".into())));
        assert_eq!(check(&observed), []);
    }

    #[test]
    fn what_was_acknowledged_and_stands_nowhere_is_reported() {
        let mut observed = ours();
        observed.records.push(record(1, Ending::Acknowledged("b".into())));
        assert_eq!(check(&observed).len(), 1);
        observed.appends.push(append(5, "b", 0, 0));
        assert_eq!(check(&observed), []);
    }

    #[test]
    fn what_was_returned_as_not_written_and_stands_is_reported() {
        let mut observed = ours();
        observed.records.push(record(1, Ending::NotWritten));
        assert_eq!(check(&observed), []);
        observed.appends.push(append(5, "b", 0, 0));
        assert_eq!(check(&observed).len(), 1);
    }

    #[test]
    fn no_ending_and_two_endings_are_reported() {
        let mut observed = ours();
        observed.records.push(crate::observed::Record::default());
        assert_eq!(check(&observed).len(), 1);
        let twice = (3, Some(Ending::Unknown));
        observed.records[0].endings = vec![twice.clone(), twice];
        assert_eq!(check(&observed).len(), 1);
    }

    #[test]
    fn what_retention_took_is_counted_and_no_loss() {
        let mut observed = ours();
        observed.records.push(record(1, Ending::Acknowledged("b".into())));
        observed.appends.push(append(5, "b", 0, 0));
        observed.groups.push(group("g"));
        let place = kutover_core::words::TopicPartition::new("t0", 0);
        let retained = |start| acted(6, Act::Retained("b".into(), place.clone(), Offset(start)));
        observed.acts = vec![retained(0)];
        assert_eq!((check(&observed).len(), aged_out(&observed)), (1, 0));
        observed.acts = vec![retained(1)];
        assert_eq!((check(&observed).len(), aged_out(&observed)), (0, 1));
    }

    #[test]
    fn what_a_group_was_not_handed_is_reported() {
        let mut observed = ours();
        observed.records.push(record(1, Ending::Acknowledged("b".into())));
        observed.appends.push(append(5, "b", 0, 0));
        observed.groups.push(group("g"));
        assert_eq!(check(&observed).len(), 1);
        observed.groups[0].handed.push(handed(9, "b", 0, 0));
        assert_eq!(check(&observed), []);
    }
}
