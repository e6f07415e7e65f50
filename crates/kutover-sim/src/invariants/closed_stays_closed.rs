//! A segment that was closed by a fence stays as it is: no record is appended behind its end, until its cluster is opened
//! again by a later segment, or its fence lifted by a request that had been given up before it was raised (no broker can
//! tell the one from the other); and its end never moves.

use std::collections::BTreeMap;

use kutover_core::chain::{ClosedBy, SegmentEnd};
use kutover_core::words::{ClusterId, Generation, Offset, TopicPartition};

use super::{Violation, broken};
use crate::observed::{Act, Observed};

pub(super) const NAME: &str = "closed_stays_closed";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    // End, and when it was first said; by partition and generation.
    let mut closed: BTreeMap<TopicPartition, BTreeMap<Generation, (ClusterId, Offset, u64)>> =
        BTreeMap::new();
    let mut starts: BTreeMap<TopicPartition, Vec<(ClusterId, Offset)>> = BTreeMap::new();
    for acted in &observed.acts {
        let Act::Chain(_, topic, partitions) = &acted.act else { continue };
        for (partition, segments) in partitions {
            let place = TopicPartition { topic: topic.clone(), partition: *partition };
            for segment in segments {
                let known = starts.entry(place.clone()).or_default();
                let start = (segment.cluster_id.clone(), segment.start);
                if !known.contains(&start) {
                    known.push(start);
                }
                let SegmentEnd::Closed { end, by: ClosedBy::Fence } = segment.end else { continue };
                let of_place = closed.entry(place.clone()).or_default();
                let first = (segment.cluster_id.clone(), end, acted.at_ms);
                let (_, known, _) = of_place.entry(segment.generation).or_insert(first);
                if *known != end {
                    let generation = segment.generation;
                    found.push(broken!(
                        "{place} of generation {generation} was closed at {known}, then at {end}"
                    ));
                }
            }
        }
    }
    let chains = observed.chains();
    for append in &observed.appends {
        let place = &append.place;
        for (generation, (cluster, end, at_ms)) in closed.get(place).into_iter().flatten() {
            let behind = append.cluster == *cluster && append.at_ms > *at_ms && append.offset >= *end;
            let opened = || {
                let mut starts = starts.get(place).into_iter().flatten();
                starts.any(|(on, start)| on == cluster && start >= end && append.offset >= *start)
            };
            if behind && !opened() && !observed.is_behind_a_lifted_fence(&chains, append) {
                found.push(broken!(
                    "{place} of generation {generation} on {cluster} was closed at {end}; record {} was appended at \
                     @{}, {} ms later",
                    append.record,
                    append.offset,
                    append.at_ms - at_ms
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use kutover_core::chain::Segment;
    use kutover_core::words::Colour;

    use super::super::fixtures::{acted, append, ours, record};
    use super::*;
    use crate::observed::Ending;

    fn chain(end: i64) -> Act {
        let segment = Segment {
            generation: Generation(1),
            colour: Colour::Blue,
            cluster_id: "b".into(),
            start: Offset(0),
            end: SegmentEnd::Closed { end: Offset(end), by: ClosedBy::Fence },
        };
        Act::Chain("g".into(), "t0".into(), [(0, vec![segment])].into())
    }

    #[test]
    fn an_append_behind_a_closed_end_and_an_end_that_moves_are_reported() {
        let mut observed = ours();
        observed.records.push(record(1, Ending::Acknowledged("b".into())));
        observed.acts.push(acted(10, chain(3)));
        observed.appends.push(append(11, "b", 3, 0));
        assert_eq!(check(&observed).len(), 1);
        observed.appends[0].offset = Offset(2);
        assert_eq!(check(&observed), []);
        observed.acts.push(acted(12, chain(4)));
        assert_eq!(check(&observed).len(), 1);
    }
}
