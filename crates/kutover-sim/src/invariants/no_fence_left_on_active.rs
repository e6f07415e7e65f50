//! When all is over, the active cluster refuses nothing and shuts nobody out.

use super::{Violation, broken};
use crate::observed::Observed;

pub(super) const NAME: &str = "no_fence_left_on_active";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let Some(owner) = &observed.end.published.owner else { return Vec::new() };
    let active = &owner.target.cluster_id;
    match observed.end.standing.get(active) {
        None => vec![broken!("{active} is active at the end and does not stand")],
        Some((fenced, isolated)) => {
            let fence = (!fenced.is_empty()).then(|| broken!("{active} is active and refuses {fenced:?}"));
            let isolation = isolated.then(|| broken!("{active} is active and isolated"));
            fence.into_iter().chain(isolation).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ours, owner};
    use super::*;

    #[test]
    fn a_fence_or_an_isolation_on_the_active_cluster_is_reported() {
        let mut observed = ours();
        observed.end.published = owner(2, "g", 1);
        assert_eq!(check(&observed).len(), 1, "it does not stand");
        observed.end.standing.insert("g".into(), (vec![], false));
        assert_eq!(check(&observed), []);
        observed.end.standing.insert("g".into(), (vec!["t0".into()], true));
        assert_eq!(check(&observed).len(), 2);
    }
}
