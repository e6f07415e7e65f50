//! G3: the first copies of one producer's records stand in the order in which it sent them, per key; and a reader that
//! follows the chain is handed them in that order.

use std::collections::BTreeMap;

use kutover_core::chain::{ClosedBy, SegmentEnd};

use super::{Violation, broken};
use crate::observed::{Chains, Ending, Handed, Observed, Reading, RecordId};

pub(super) const NAME: &str = "first_copy_order";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let late = late(observed).into_iter().map(|(before, after)| {
        let producer = &observed.producers[observed.records[after].producer].name;
        broken!("of {producer}: record {before} stands before record {after}, which was sent earlier")
    });
    let mut found: Vec<_> = late.collect();
    let chains = observed.chains();
    for group in observed.groups.iter().filter(|group| group.reading == Reading::Chain) {
        let promised = group.handed.iter().filter(|handed| !no_order_promised(&chains, handed));
        for (before, after) in disorder(observed, promised.map(|handed| handed.record)) {
            let name = &group.name;
            found.push(broken!(
                "group {name} was handed record {before} before record {after}, which was sent earlier"
            ));
        }
    }
    found
}

/// Whether the chain promises no order for it: a rollback without a barrier left it behind, or it came behind an end that
/// a quiet window closed (the fence was waived).
fn no_order_promised(chains: &Chains, handed: &Handed) -> bool {
    chains.of(&handed.cluster, &handed.place).any(|segment| match segment.end {
        SegmentEnd::Unreadable => true,
        SegmentEnd::Closed { end, by: ClosedBy::Quiet } => handed.offset >= end,
        SegmentEnd::Closed { .. } | SegmentEnd::Open => false,
    })
}

/// Pairs that stand the wrong way round: the one that stands first, and the one that should.
pub(super) fn late(observed: &Observed) -> Vec<(RecordId, RecordId)> {
    disorder(observed, observed.appends.iter().map(|append| append.record))
}

fn disorder(observed: &Observed, order: impl Iterator<Item = RecordId>) -> Vec<(RecordId, RecordId)> {
    let mut seen = vec![false; observed.records.len()];
    let mut last: BTreeMap<(usize, u64, usize, u8), RecordId> = BTreeMap::new();
    let mut found = Vec::new();
    for id in order {
        let record = &observed.records[id];
        let first = !std::mem::replace(&mut seen[id], true);
        // What was unknown once is its caller's to know: it may be appended late, or stand twice.
        let judged =
            matches!(record.endings.as_slice(), [(_, Some(Ending::Acknowledged(_)))]) && !record.unknown;
        let ordered = observed.producers.get(record.producer).is_some_and(|producer| producer.ordered);
        if !first || !judged || !ordered {
            continue;
        }
        let newest = last.entry((record.producer, record.life, record.topic, record.key)).or_insert(id);
        if observed.records[*newest].sequence > record.sequence {
            found.push((*newest, id));
        } else {
            *newest = id;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{append, group, handed, ours, record};
    use super::*;

    #[test]
    fn a_first_copy_behind_a_later_one_is_reported() {
        let mut observed = ours();
        let acknowledged = || Ending::Acknowledged("b".into());
        observed.records = vec![record(1, acknowledged()), record(2, acknowledged())];
        observed.appends = vec![append(5, "b", 0, 0), append(6, "b", 1, 1)];
        assert_eq!(check(&observed), []);
        observed.appends.reverse();
        assert_eq!(check(&observed).len(), 1);
        observed.producers[0].ordered = false;
        assert_eq!(check(&observed), []);
    }

    #[test]
    fn a_chain_reader_that_is_handed_a_later_record_first_is_reported() {
        let mut observed = ours();
        let acknowledged = || Ending::Acknowledged("b".into());
        observed.records = vec![record(1, acknowledged()), record(2, acknowledged())];
        let mut reader = group("g");
        reader.reading = Reading::Chain;
        reader.handed = vec![handed(7, "g", 0, 1), handed(8, "b", 0, 0)];
        observed.groups.push(reader);
        assert_eq!(check(&observed).len(), 1);
    }
}
