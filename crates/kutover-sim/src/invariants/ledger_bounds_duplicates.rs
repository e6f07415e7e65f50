//! G2: duplicates come only from records whose fate was unknown and that were sent again, and they are counted.

use super::{Violation, broken};
use crate::observed::Observed;

pub(super) const NAME: &str = "ledger_bounds_duplicates";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut twice = vec![0_u64; observed.producers.len()];
    for (id, (record, copies)) in observed.records.iter().zip(observed.copies()).enumerate() {
        let ours = observed.producers.get(record.producer).is_some_and(|producer| producer.ours);
        if copies < 2 || !ours {
            continue;
        }
        twice[record.producer] += u64::from(copies - 1);
        if !record.unknown {
            found.push(broken!("record {id} stands {copies} times and its fate was never unknown"));
        }
    }
    for (producer, twice) in observed.producers.iter().zip(twice) {
        if twice > producer.possibly_duplicated {
            let counted = producer.possibly_duplicated;
            found.push(broken!("{} duplicated {twice} records and counted {counted}", producer.name));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{append, ours, record};
    use super::*;
    use crate::observed::Ending;

    #[test]
    fn an_uncounted_duplicate_and_one_that_was_never_unknown_are_reported() {
        let mut observed = ours();
        observed.records.push(record(1, Ending::Acknowledged("g".into())));
        observed.appends = vec![append(5, "b", 0, 0), append(9, "g", 0, 0)];
        assert_eq!(check(&observed).len(), 2);
        observed.records[0].unknown = true;
        assert_eq!(check(&observed).len(), 1);
        observed.producers[0].possibly_duplicated = 1;
        assert_eq!(check(&observed), []);
    }
}
