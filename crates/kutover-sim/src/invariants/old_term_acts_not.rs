//! L20: once a newer term was taken, nothing of an older one goes through in the owner record or the journal.

use super::{Violation, broken};
use crate::observed::{Act, Observed};

pub(super) const NAME: &str = "old_term_acts_not";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    let (mut highest, mut journalled) = (0, 0);
    for acted in &observed.acts {
        let by = acted.by.unwrap_or_default();
        match &acted.act {
            Act::Published(published) => {
                let term = published.owner.as_ref().map_or(0, |owner| owner.term.0);
                if term < highest {
                    found.push(broken!(
                        "controller {by} wrote the owner record under term {term} after {highest}"
                    ));
                }
                highest = highest.max(term);
            }
            Act::Journalled(term) => {
                if term.0 < journalled {
                    let term = term.0;
                    found.push(broken!("controller {by} journalled under term {term} after {journalled}"));
                }
                journalled = journalled.max(term.0);
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use kutover_core::words::Term;

    use super::super::fixtures::{acted, ours, owner};
    use super::*;

    #[test]
    fn an_older_term_after_a_newer_one_is_reported() {
        let mut observed = ours();
        observed.acts = vec![
            acted(1, Act::Published(Box::new(owner(1, "b", 2)))),
            acted(2, Act::Published(Box::new(owner(2, "g", 1)))),
            acted(3, Act::Journalled(Term(3))),
            acted(4, Act::Journalled(Term(2))),
        ];
        assert_eq!(check(&observed).len(), 2);
        observed.acts.truncate(1);
        assert_eq!(check(&observed), []);
    }
}
