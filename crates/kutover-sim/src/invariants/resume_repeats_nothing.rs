//! G6: whoever goes on where another died repeats nothing that counts: one new cluster per cutover, one publication per
//! generation, one removal per incarnation.

use std::collections::BTreeSet;

use super::{Violation, broken};
use crate::observed::{Act, Observed};

pub(super) const NAME: &str = "resume_repeats_nothing";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut destroyed = BTreeSet::new();
    let mut standing = BTreeSet::new();
    let mut published = BTreeSet::new();
    let mut last = None;
    for acted in &observed.acts {
        let at_ms = acted.at_ms;
        match &acted.act {
            Act::Made(colour, incarnation, ..) => {
                let alone = standing.insert(*colour);
                if !alone {
                    found.push(broken!("{incarnation} was made at {at_ms} ms while another {colour} stood"));
                }
            }
            Act::Destroyed(incarnation, cluster) => {
                if !destroyed.insert(incarnation.clone()) {
                    found.push(broken!("{incarnation} was destroyed again at {at_ms} ms"));
                }
                let made = observed.acts.iter().find_map(|acted| match &acted.act {
                    Act::Made(colour, _, made, _) if made == cluster => Some(*colour),
                    _ => None,
                });
                if let Some(colour) = made {
                    standing.remove(&colour);
                }
            }
            Act::Published(now) => {
                let Some(owner) = &now.owner else { continue };
                let generation = owner.target.generation;
                if last != Some(generation) && !published.insert(generation) {
                    found.push(broken!("generation {generation} was published again at {at_ms} ms"));
                }
                last = Some(generation);
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{acted, made, ours, owner};
    use super::*;

    #[test]
    fn a_second_cluster_publication_or_removal_is_reported() {
        let mut observed = ours();
        observed.acts = vec![made("b"), made("c")];
        assert_eq!(check(&observed).len(), 1);
        let publish = |generation, cluster| acted(1, Act::Published(Box::new(owner(generation, cluster, 1))));
        observed.acts = vec![publish(1, "b"), publish(2, "g"), publish(1, "b")];
        assert_eq!(check(&observed).len(), 1);
        let destroy = acted(3, Act::Destroyed("KafkaA-1".into(), "b".into()));
        observed.acts = vec![made("b"), destroy.clone(), destroy];
        assert_eq!(check(&observed).len(), 1);
    }
}
