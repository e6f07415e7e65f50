//! Liveness: once all faults have ended, every cutover and every record comes to its end; and no machine breaks a promise
//! of its own.

use super::{Violation, broken};
use crate::observed::Observed;

pub(super) const NAME: &str = "comes_to_an_end";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let stuck = observed.end.stuck.iter().map(|stuck| broken!("{stuck}"));
    let machines = observed.broken.iter().map(|text| broken!("a machine stopped: {text}"));
    stuck.chain(machines).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::ours;
    use super::*;

    #[test]
    fn what_is_stuck_or_broken_is_reported() {
        let mut observed = ours();
        assert_eq!(check(&observed), []);
        observed.end.stuck.push("a cutover never ended".into());
        observed.broken.push("a gate is open".into());
        assert_eq!(check(&observed).len(), 2);
    }
}
