//! L13: what is destroyed is what the mark of removal names, or what never served; and never the cluster that serves.

use super::{Violation, broken};
use crate::observed::{Act, Observed};

pub(super) const NAME: &str = "right_incarnation_removed";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, acted) in observed.acts.iter().enumerate() {
        let Act::Destroyed(incarnation, cluster) = &acted.act else { continue };
        let Some(owner) = observed.owner_at(index) else {
            found.push(broken!("{incarnation} was destroyed with no owner record there"));
            continue;
        };
        if owner.target.cluster_id == *cluster {
            found.push(broken!("{incarnation} was destroyed while its cluster {cluster} was the active one"));
        }
        let marked = owner.removal.as_ref().is_some_and(|mark| mark.incarnation == *incarnation);
        let served = observed.acts[..index].iter().any(|acted| match &acted.act {
            Act::Published(published) => {
                published.owner.as_ref().is_some_and(|owner| owner.target.cluster_id == *cluster)
            }
            _ => false,
        });
        if served && !marked {
            let mark = &owner.removal;
            found.push(broken!("{incarnation} ({cluster}) was destroyed; the owner record marked {mark:?}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use kutover_core::owner::RemovalMark;

    use super::super::fixtures::{acted, made, ours, owner};
    use super::*;

    #[test]
    fn an_unmarked_or_active_cluster_that_is_destroyed_is_reported() {
        let mut observed = ours();
        let mut marked = owner(2, "g", 1);
        observed.acts = vec![
            made("b"),
            acted(1, Act::Published(Box::new(owner(1, "b", 1)))),
            acted(2, Act::Published(Box::new(marked.clone()))),
            acted(3, Act::Destroyed("KafkaA-1".into(), "b".into())),
        ];
        assert_eq!(check(&observed).len(), 1);
        let mark = RemovalMark { incarnation: "KafkaA-1".into(), cluster_id: "b".into() };
        if let Some(owner) = &mut marked.owner {
            owner.removal = Some(mark);
        }
        observed.acts[2] = acted(2, Act::Published(Box::new(marked)));
        assert_eq!(check(&observed), []);
        observed.acts.remove(2);
        assert_eq!(check(&observed).len(), 2, "it is active, and not marked");
    }
}
