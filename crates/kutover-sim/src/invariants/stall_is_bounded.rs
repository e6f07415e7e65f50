//! G7: what a send waits for at a switch is bounded: room, a closed gate, a client that is settled, and all of it together
//! while a controller is awake and nothing goes wrong.

use super::{Violation, broken};
use crate::observed::{Observed, Wait};

pub(super) const NAME: &str = "stall_is_bounded";

/// A clock that runs a tenth too slowly makes a bound longer, and who waits is looked at now and then.
const fn allowed_ms(bound_ms: u64) -> u64 {
    bound_ms + bound_ms / 8 + 500
}

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let bounds = observed.bounds;
    // A cluster that was given up is told nothing: who is on it learns of the way back from DNS.
    let given_up = observed.chains().has_unreadable();
    let by_dns_ms = if given_up { observed.ttl_ms } else { 0 };
    let waits = observed.waits.iter().flat_map(|wait| {
        let parked_ms = wait.until_ms - wait.from_ms - wait.room_ms;
        let cared_for_ms = cared_for_ms(observed, wait);
        [
            ("for room", wait.room_ms, bounds.parked_ms),
            ("behind a closed gate", parked_ms, bounds.parked_ms),
            (
                "while a controller was awake and nothing went wrong",
                cared_for_ms,
                bounds.switch_ms + by_dns_ms,
            ),
        ]
        .map(|(what, ms, bound_ms)| (wait.producer, what, ms, bound_ms))
    });
    let seals = observed.seals.iter();
    let seals = seals.map(|seal| (seal.producer, "for a client to be settled", seal.took_ms, bounds.seal_ms));
    // No deadline ignores a send that is inside the gate: while its thread sleeps, nothing is promised.
    let slept_ms = |producer: usize| observed.producers.get(producer).map_or(0, |producer| producer.slept_ms);
    waits
        .chain(seals)
        .filter(|(producer, _, ms, bound_ms)| *ms > allowed_ms(*bound_ms) + slept_ms(*producer))
        .map(|(producer, what, ms, bound_ms)| {
            broken!("a send of producer {producer} waited {what} for {ms} ms, {bound_ms} ms at most")
        })
        .collect()
}

/// How much of a wait fell into times in which a controller was awake and all faults had ended.
pub(super) fn cared_for_ms(observed: &Observed, wait: &Wait) -> u64 {
    let Some(calm_ms) = observed.calm_ms else { return 0 };
    let from_ms = wait.from_ms.max(calm_ms);
    let awake = observed.controlled.iter();
    awake.map(|(from, until)| wait.until_ms.min(*until).saturating_sub(from_ms.max(*from))).sum()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::ours;
    use super::*;
    use crate::observed::{Sealed, WaitBounds};

    fn waited(from_ms: u64, until_ms: u64, room_ms: u64) -> Observed {
        let mut observed = ours();
        observed.bounds = WaitBounds { parked_ms: 30_000, seal_ms: 10_000, switch_ms: 20_000 };
        observed.waits.push(Wait { producer: 0, from_ms, until_ms, room_ms });
        observed
    }

    #[test]
    fn a_record_that_waits_too_long_is_reported() {
        assert_eq!(check(&waited(0, 34_250, 0)), []);
        assert_eq!(check(&waited(0, 34_251, 0)).len(), 1);
    }

    #[test]
    fn a_wait_for_room_counts_for_itself() {
        assert_eq!(check(&waited(0, 68_500, 34_250)), []);
        assert_eq!(check(&waited(0, 68_500, 34_251)).len(), 1);
    }

    #[test]
    fn a_seal_that_takes_too_long_is_reported() {
        let mut observed = waited(0, 1, 0);
        observed.seals = vec![Sealed { producer: 0, took_ms: 11_750 }];
        assert_eq!(check(&observed), []);
        observed.seals.push(Sealed { producer: 0, took_ms: 11_751 });
        assert_eq!(check(&observed).len(), 1);
        observed.producers[0].slept_ms = 1;
        assert_eq!(check(&observed), [], "it slept inside a send");
    }

    #[test]
    fn less_is_allowed_while_a_controller_is_awake_and_nothing_goes_wrong() {
        let mut observed = waited(1_000, 31_000, 0);
        observed.controlled = vec![(0, 3_000), (5_000, 60_000)];
        assert_eq!(check(&observed), [], "things go wrong");
        observed.calm_ms = Some(2_000);
        assert_eq!(check(&observed).len(), 1);
        observed.controlled = vec![(0, 3_000), (10_000, 60_000)];
        assert_eq!(check(&observed), [], "nobody was there for some of it");
    }
}
