//! G7: a record waits behind a closed gate no longer than its delivery time-out.

use super::{Violation, broken};
use crate::observed::Observed;

pub(super) const NAME: &str = "stall_is_bounded";

/// What a look at the records that wait may take, on a clock that runs a tenth too slowly, in milliseconds.
const SLACK_MS: u64 = 5_000;

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let bound = observed.stall_bound_ms + SLACK_MS;
    let records = observed.records.iter().enumerate();
    records
        // No deadline ignores a send that is inside the gate: while its thread sleeps, nothing is promised.
        .filter(|(_, record)| {
            let slept_ms = observed.producers.get(record.producer).map_or(0, |producer| producer.slept_ms);
            record.stalled_ms > bound + slept_ms
        })
        .map(|(id, record)| broken!("record {id} waited for {} ms, {bound} ms at most", record.stalled_ms))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ours, record};
    use super::*;
    use crate::observed::Ending;

    #[test]
    fn a_record_that_waits_too_long_is_reported() {
        let mut observed = ours();
        observed.stall_bound_ms = 30_000;
        observed.records.push(record(1, Ending::NotWritten));
        observed.records[0].stalled_ms = 30_000;
        assert_eq!(check(&observed), []);
        observed.records[0].stalled_ms = 36_000;
        assert_eq!(check(&observed).len(), 1);
    }
}
