//! The generation in the owner record only grows, and one generation means one target.

use super::{Violation, broken};
use crate::observed::Observed;

pub(super) const NAME: &str = "generation_only_grows";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut last: Option<&kutover_core::owner::Target> = None;
    for (acted, owner) in observed.owners() {
        if let Some(last) = last {
            let (before, now) = (last.generation, owner.target.generation);
            if now < before {
                found.push(broken!("generation {now} followed {before} at {} ms", acted.at_ms));
            }
            if now == before && *last != owner.target {
                found.push(broken!("generation {now} was {last:?}, then {:?}", owner.target));
            }
        }
        last = Some(&owner.target);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{acted, ours, owner};
    use super::*;
    use crate::observed::Act;

    #[test]
    fn a_generation_that_shrinks_or_changes_is_reported() {
        let mut observed = ours();
        let publish =
            |at, generation, cluster| acted(at, Act::Published(Box::new(owner(generation, cluster, 1))));
        observed.acts = vec![publish(1, 1, "b"), publish(2, 2, "g"), publish(3, 2, "g")];
        assert_eq!(check(&observed), []);
        observed.acts.push(publish(4, 2, "b"));
        observed.acts.push(publish(5, 1, "b"));
        assert_eq!(check(&observed).len(), 2);
    }
}
