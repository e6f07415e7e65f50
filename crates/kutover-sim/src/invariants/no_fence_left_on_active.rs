//! When all is over, the active cluster refuses nothing and shuts nobody out.

use kutover_core::words::ClusterId;

use super::{Violation, broken};
use crate::observed::{Act, Observed};

pub(super) const NAME: &str = "no_fence_left_on_active";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let Some(owner) = &observed.end.published.owner else { return Vec::new() };
    let active = &owner.target.cluster_id;
    match observed.end.standing.get(active) {
        None => vec![broken!("{active} is active at the end and does not stand")],
        Some((fenced, isolated)) => {
            let fence = (!fenced.is_empty() && !came_too_late(observed, active))
                .then(|| broken!("{active} is active and refuses {fenced:?}"));
            let isolation = isolated.then(|| broken!("{active} is active and isolated"));
            fence.into_iter().chain(isolation).collect()
        }
    }
}

/// A request that had been given up long ago landed behind the last controller's end: the next start finds it and lifts it.
fn came_too_late(observed: &Observed, active: &ClusterId) -> bool {
    let ended_ms = observed.controlled.iter().map(|(_, until)| *until).max();
    let fenced_ms = observed.acts.iter().rev().find_map(|acted| match &acted.act {
        Act::Fenced(cluster, _) if cluster == active => Some(acted.at_ms),
        _ => None,
    });
    fenced_ms.zip(ended_ms).is_some_and(|(fenced_ms, ended_ms)| fenced_ms > ended_ms)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{acted, ours, owner};
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
        observed.controlled = vec![(0, 9)];
        observed.acts = vec![acted(9, Act::Fenced("g".into(), vec!["t0".into()]))];
        assert_eq!(check(&observed).len(), 2, "somebody could have lifted it");
        observed.controlled = vec![(0, 8)];
        assert_eq!(check(&observed).len(), 1, "the isolation stays");
    }
}
