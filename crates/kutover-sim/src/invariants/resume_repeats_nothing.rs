//! G6: whoever goes on where another died repeats nothing that counts: one new cluster per cutover, asked for by one request,
//! one publication per generation, one removal per incarnation.

use std::collections::BTreeSet;

use kutover_core::cutover::StateName;

use super::{Violation, broken};
use crate::observed::{Act, Observed};

pub(super) const NAME: &str = "resume_repeats_nothing";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut destroyed = BTreeSet::new();
    let mut standing = BTreeSet::new();
    let mut published = BTreeSet::new();
    let mut last = None;
    found.extend(asked_anew(observed));
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

/// Requests for a cluster that are new although no cutover has begun since the last one: a provisioner that knows the first
/// answers the second with another cluster, or with none.
fn asked_anew(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    let (mut known, mut begins) = (BTreeSet::new(), false);
    for (index, acted) in observed.acts.iter().enumerate() {
        match &acted.act {
            Act::Requested(colour, request) if observed.is_in_force(index) => {
                let is_new = known.insert(request);
                if is_new && !std::mem::take(&mut begins) {
                    let at_ms = acted.at_ms;
                    found.push(broken!("a second {colour} was asked for at {at_ms} ms, by {request}"));
                }
            }
            Act::Entered(StateName::Planned) => begins = true,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use kutover_core::words::Colour;

    use super::super::fixtures::{acted, made, ours, owner};
    use super::*;
    use crate::observed::Acted;

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

    #[test]
    fn a_second_request_in_one_cutover_is_reported() {
        let mut observed = ours();
        let asked = |by, request: &str| {
            let act = Act::Requested(Colour::Green, request.into());
            Acted { by: Some(by), ..acted(2, act) }
        };
        observed.acts = vec![
            acted(1, Act::Published(Box::new(owner(1, "b", 1)))),
            acted(1, Act::Entered(StateName::Planned)),
            asked(1, "sim-1"),
            asked(1, "sim-1"),
            asked(0, "sim-0"),
        ];
        assert_eq!(check(&observed), [], "an older controller's late act");
        observed.acts.push(asked(1, "sim-1-again"));
        assert_eq!(check(&observed).len(), 1);
        observed.acts.insert(5, acted(3, Act::Entered(StateName::Planned)));
        assert_eq!(check(&observed), []);
    }
}
