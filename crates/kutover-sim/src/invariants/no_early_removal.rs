//! G4: a cluster is removed only when nobody points at it, and every group that was there has read it to its end.

use super::{Violation, broken, drain_is_true};
use crate::observed::{Act, Observed};

pub(super) const NAME: &str = "no_early_removal";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, acted) in observed.acts.iter().enumerate() {
        let Act::Destroyed(incarnation, cluster) = &acted.act else { continue };
        let at_ms = acted.at_ms;
        for missed in drain_is_true::unread(observed, cluster, at_ms) {
            found.push(broken!("{incarnation} ({cluster}) was removed at {at_ms} ms; {missed}"));
        }
        // Since when the endpoint has pointed elsewhere.
        let published = observed.acts[..index].iter().filter_map(|acted| match &acted.act {
            Act::Published(published) => {
                Some((acted.at_ms, published.owner.as_ref()?.target.cluster_id != *cluster))
            }
            _ => None,
        });
        let since = published.fold(None, |since, (at_ms, elsewhere)| match (since, elsewhere) {
            (Some(since), true) => Some(since),
            (None, true) => Some(at_ms),
            (_, false) => None,
        });
        match since {
            None => {
                found.push(broken!("{cluster} was removed at {at_ms} ms while the endpoint pointed at it"))
            }
            Some(since) if at_ms - since < observed.ttl_ms && has_records(observed, cluster) => {
                found.push(broken!("{cluster} was removed {} ms after the redirect", at_ms - since));
            }
            Some(_) => {}
        }
    }
    found
}

fn has_records(observed: &Observed, cluster: &kutover_core::words::ClusterId) -> bool {
    observed.appends.iter().any(|append| append.cluster == *cluster)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{acted, handed, made, one_unread, owner};
    use super::*;

    #[test]
    fn an_unread_record_and_a_removal_too_soon_are_reported() {
        let mut observed = one_unread("b");
        observed.ttl_ms = 100;
        observed.acts = vec![
            made("b"),
            made("g"),
            acted(10, Act::Published(Box::new(owner(2, "g", 1)))),
            acted(200, Act::Destroyed("KafkaA-1".into(), "b".into())),
        ];
        assert_eq!(check(&observed).len(), 1);
        observed.groups[0].handed.push(handed(8, "b", 0, 0));
        assert_eq!(check(&observed), []);
        observed.acts[3].at_ms = 50;
        assert_eq!(check(&observed).len(), 1);
        observed.acts.remove(2);
        assert_eq!(check(&observed).len(), 1);
    }
}
