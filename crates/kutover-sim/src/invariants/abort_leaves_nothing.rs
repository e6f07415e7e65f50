//! An abort takes back what it has made: of the cluster that a cutover asked for, nothing stands once it is aborted.
//!
//! One that landed only after the abort had begun may be left: whoever looked there saw nothing.

use kutover_core::cutover::StateName;
use kutover_core::words::{ClusterId, Nonce};

use super::{Violation, broken};
use crate::observed::{Act, Acted, Observed};

pub(super) const NAME: &str = "abort_leaves_nothing";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    // What the cutover under way asked for, and since when it is being aborted.
    let (mut request, mut aborting): (Option<&Nonce>, Option<usize>) = (None, None);
    for (index, acted) in observed.acts.iter().enumerate() {
        match &acted.act {
            Act::Requested(_, now) if observed.is_in_force(index) && request != Some(now) => {
                (request, aborting) = (Some(now), None);
            }
            Act::Entered(StateName::Aborting) => {
                aborting.get_or_insert(index);
            }
            Act::Entered(StateName::Aborted) => {
                let Some((request, began)) = request.take().zip(aborting.take()) else { continue };
                let before = &observed.acts[..index];
                let left = made(&before[..began], request).filter(|cluster| !went_or_served(before, cluster));
                let at_ms = acted.at_ms;
                found.extend(left.map(|cluster| {
                    broken!("{cluster} was made for {request} and stands when it is aborted, at {at_ms} ms")
                }));
            }
            _ => {}
        }
    }
    found
}

fn made<'a>(acts: &'a [Acted], request: &'a Nonce) -> impl Iterator<Item = &'a ClusterId> {
    acts.iter().filter_map(move |acted| match &acted.act {
        Act::Made(_, _, cluster, by) if by == request => Some(cluster),
        _ => None,
    })
}

fn went_or_served(acts: &[Acted], cluster: &ClusterId) -> bool {
    acts.iter().any(|acted| match &acted.act {
        Act::Destroyed(_, gone) => gone == cluster,
        Act::Published(published) => {
            published.owner.as_ref().is_some_and(|owner| owner.target.cluster_id == *cluster)
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use kutover_core::words::Colour;

    use super::super::fixtures::{acted, ours, owner};
    use super::*;

    #[test]
    fn a_cluster_that_an_aborted_cutover_leaves_is_reported() {
        let mut observed = ours();
        let made = Act::Made(Colour::Green, "KafkaB-1".into(), "g".into(), "sim-1".into());
        let entered = |at_ms, state| acted(at_ms, Act::Entered(state));
        observed.acts = vec![
            acted(1, Act::Published(Box::new(owner(1, "b", 1)))),
            acted(2, Act::Requested(Colour::Green, "sim-1".into())),
            acted(3, made),
            entered(4, StateName::Aborting),
            entered(6, StateName::Aborted),
        ];
        assert_eq!(check(&observed).len(), 1);
        let mut late = observed.clone();
        late.acts.swap(2, 3);
        assert_eq!(check(&late), [], "it was not there when the abort looked");
        observed.acts.insert(4, acted(5, Act::Destroyed("KafkaB-1".into(), "g".into())));
        assert_eq!(check(&observed), []);
    }
}
