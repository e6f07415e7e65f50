//! G5: the cluster that the owner record names stands, and no controller shuts its clients out, publishes one that refuses
//! records, or fences it but for a rollback's barrier, which the owner record announces.

use std::collections::{BTreeMap, BTreeSet};

use kutover_core::words::{ClusterId, Nonce};

use super::{Violation, broken};
use crate::observed::{Act, Observed};

pub(super) const NAME: &str = "always_a_serving_colour";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut gone: BTreeSet<&ClusterId> = BTreeSet::new();
    let mut fenced: BTreeSet<&ClusterId> = BTreeSet::new();
    let mut isolated: BTreeMap<&ClusterId, BTreeSet<&Nonce>> = BTreeMap::new();
    let mut active: Option<&ClusterId> = None;
    let (mut announced, mut publisher) = (false, None);
    for acted in &observed.acts {
        let at_ms = acted.at_ms;
        match &acted.act {
            Act::Destroyed(_, cluster) => {
                gone.insert(cluster);
            }
            Act::Isolated(cluster, nonce) => {
                isolated.entry(cluster).or_default().insert(nonce);
            }
            Act::PutBack(cluster, nonce) => {
                isolated.entry(cluster).or_default().remove(nonce);
            }
            Act::Fenced(cluster, _) => {
                // What an older controller does late, the newer one undoes.
                let late = acted.by != publisher;
                if active == Some(cluster) && !announced && !late {
                    found.push(broken!("{cluster} was fenced at {at_ms} ms while it was active"));
                }
                fenced.insert(cluster);
            }
            Act::Lifted(cluster, ..) => {
                fenced.remove(cluster);
            }
            Act::Published(published) => {
                let Some(owner) = &published.owner else { continue };
                let now = &owner.target.cluster_id;
                if active != Some(now) && fenced.contains(now) {
                    found.push(broken!("{now} was published at {at_ms} ms while it was fenced"));
                }
                active = Some(now);
                (announced, publisher) = (owner.intent.is_some(), acted.by);
            }
            _ => continue,
        }
        let Some(active) = active else { continue };
        if gone.contains(active) {
            found.push(broken!("{active} is active and gone at {at_ms} ms"));
        }
        if isolated.get(active).is_some_and(|nonces| !nonces.is_empty()) {
            found.push(broken!("{active} is active and isolated at {at_ms} ms"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{acted, made, ours, owner};
    use super::*;

    #[test]
    fn an_active_cluster_that_is_gone_isolated_or_fenced_is_reported() {
        let mut observed = ours();
        let publish = acted(2, Act::Published(Box::new(owner(2, "g", 1))));
        observed.acts = vec![made("g"), publish.clone(), acted(3, Act::Isolated("b".into(), "n".into()))];
        assert_eq!(check(&observed), []);
        observed.acts[2] = acted(3, Act::Isolated("g".into(), "n".into()));
        assert_eq!(check(&observed).len(), 1);
        observed.acts[2] = acted(3, Act::Destroyed("KafkaB-1".into(), "g".into()));
        assert_eq!(check(&observed).len(), 1);
        let fence = |at_ms| acted(at_ms, Act::Fenced("g".into(), vec![]));
        observed.acts = vec![made("g"), fence(1), publish.clone()];
        assert_eq!(check(&observed).len(), 1);
        observed.acts = vec![made("g"), publish, fence(3)];
        assert_eq!(check(&observed).len(), 1, "nobody goes back");
        observed.acts[2].by = Some(0);
        assert_eq!(check(&observed), [], "an older controller's late act");
    }
}
