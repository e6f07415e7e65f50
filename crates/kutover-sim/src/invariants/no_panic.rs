//! Nothing panics: neither a machine under test nor the world around it, of which nothing could be believed any more.

use super::{Violation, broken};
use crate::observed::Observed;

pub(super) const NAME: &str = "no_panic";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    observed.panics.iter().map(|panic| broken!("{panic}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::ours;
    use super::*;

    #[test]
    fn a_panic_is_reported() {
        let mut observed = ours();
        assert_eq!(check(&observed), []);
        observed.panics.push("index out of bounds".into());
        assert_eq!(check(&observed).len(), 1);
    }
}
