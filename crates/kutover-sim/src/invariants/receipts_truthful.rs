//! A receipt is true: who says that it has moved to a cluster has, its generations only grow, and no more was acknowledged
//! or returned by its word than really was.

use std::collections::BTreeMap;

use kutover_core::words::Generation;

use super::{Violation, broken};
use crate::observed::{Ending, Observed};

pub(super) const NAME: &str = "receipts_truthful";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut known: BTreeMap<usize, usize> = BTreeMap::new();
    for told in &observed.told {
        let seen = known.entry(told.producer).or_default();
        if told.receipts.len() < *seen {
            *seen = 0; // Another run of it, which begins anew.
        }
        for receipt in &told.receipts[(*seen).min(told.receipts.len())..] {
            let moves = &observed.producers[told.producer].moves;
            let was_there =
                moves.iter().any(|(at_ms, cluster)| *cluster == receipt.to && *at_ms <= told.at_ms);
            if !was_there {
                let name = &observed.producers[told.producer].name;
                found.push(broken!(
                    "{name} says at {} ms that it moved to {}, and had not",
                    told.at_ms,
                    receipt.to
                ));
            }
        }
        *seen = told.receipts.len();
        let generations = told.receipts.iter().map(|receipt| receipt.generation);
        if !generations.is_sorted() {
            let name = &observed.producers[told.producer].name;
            let all: Vec<Generation> = told.receipts.iter().map(|receipt| receipt.generation).collect();
            found.push(broken!("{name} has receipts for generations {all:?}, in this order"));
        }
    }
    found.extend(counts(observed));
    found.extend(appends_after_receipts(observed));
    found
}

/// A receipt tells no more than its producer's callers had been told by then. (Less it may: other runs of the producer,
/// and what it does now.)
fn counts(observed: &Observed) -> Vec<Violation> {
    let mut ends: BTreeMap<usize, (Vec<u64>, Vec<u64>)> = BTreeMap::new();
    for record in &observed.records {
        let (acknowledged, returned) = ends.entry(record.producer).or_default();
        for (at_ms, ending) in &record.endings {
            match ending {
                Some(Ending::Acknowledged(_)) => acknowledged.push(*at_ms),
                Some(Ending::NotWritten | Ending::Unknown) => returned.push(*at_ms),
                None => {}
            }
        }
    }
    for (acknowledged, returned) in ends.values_mut() {
        acknowledged.sort_unstable();
        returned.sort_unstable();
    }
    let none = (Vec::new(), Vec::new());
    let mut found = Vec::new();
    for told in &observed.told {
        let (acknowledged, returned) = ends.get(&told.producer).unwrap_or(&none);
        let by_then = |ends: &[u64]| ends.partition_point(|at_ms| *at_ms <= told.at_ms) as u64;
        let claimed = told.receipts.iter().fold((0, 0), |(acknowledged, returned), receipt| {
            (acknowledged + receipt.acknowledged, returned + receipt.returned)
        });
        let name = &observed.producers[told.producer].name;
        for (what, claimed, ends) in
            [("acknowledged", claimed.0, acknowledged), ("returned", claimed.1, returned)]
        {
            let real = by_then(ends);
            if claimed > real {
                let at_ms = told.at_ms;
                found.push(broken!("{name} says at {at_ms} ms that {claimed} were {what}: {real} were"));
            }
        }
    }
    found
}

/// After its receipt nothing of a producer is appended where it came from, but what was unknown or comes from another run.
fn appends_after_receipts(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    for append in &observed.appends {
        let record = &observed.records[append.record];
        let Some(producer) = observed.producers.get(record.producer).filter(|producer| producer.ours) else {
            continue;
        };
        let newest = producer.moves.iter().rfind(|(at_ms, _)| *at_ms < append.at_ms);
        let unsettled = record.unknown || record.died;
        if let Some((at_ms, cluster)) = newest
            && *cluster != append.cluster
            && record.accepted_ms > *at_ms
            && !unsettled
            && producer.ordered
        {
            let name = &producer.name;
            found.push(broken!(
                "{name} moved to {cluster} at {at_ms} ms; record {} of {} ms stands on {}",
                append.record,
                record.accepted_ms,
                append.cluster
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use kutover_core::messages::Receipt;

    use super::super::fixtures::{append, ours, record};
    use super::*;
    use crate::observed::Told;

    fn told(generation: u64) -> Told {
        let receipt = Receipt {
            generation: Generation(generation),
            from: "b".into(),
            to: "g".into(),
            acknowledged: 0,
            possibly_duplicated: 0,
            returned: 0,
            sealed_ms: 1,
            producer_ids: vec![],
        };
        Told { at_ms: 10, producer: 0, generation: Generation(generation), receipts: vec![receipt] }
    }

    #[test]
    fn a_receipt_for_a_move_that_was_not_made_is_reported() {
        let mut observed = ours();
        observed.told.push(told(2));
        assert_eq!(check(&observed).len(), 1);
        observed.producers[0].moves.push((9, "g".into()));
        assert_eq!(check(&observed), []);
    }

    #[test]
    fn a_receipt_that_counts_more_than_there_was_is_reported() {
        let mut observed = ours();
        observed.producers[0].moves.push((9, "g".into()));
        observed.told.push(told(2));
        observed.told[0].receipts[0].acknowledged = 1;
        assert_eq!(check(&observed).len(), 1);
        observed.records.push(record(1, Ending::Acknowledged("b".into())));
        assert_eq!(check(&observed), []);
        observed.told[0].receipts[0].returned = 1;
        assert_eq!(check(&observed).len(), 1);
    }

    #[test]
    fn a_record_on_the_old_cluster_after_the_move_is_reported() {
        let mut observed = ours();
        observed.producers[0].moves.push((9, "g".into()));
        observed.records.push(record(1, Ending::Acknowledged("b".into())));
        observed.records[0].accepted_ms = 20;
        observed.appends.push(append(21, "b", 0, 0));
        assert_eq!(check(&observed).len(), 1);
        observed.appends[0].cluster = "g".into();
        assert_eq!(check(&observed), []);
    }
}
