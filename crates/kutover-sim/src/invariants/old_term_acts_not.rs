//! L20: once a newer term was taken, nothing of an older one goes through in the owner record or the journal, and nobody
//! journals under a term that never was in force.

use std::collections::BTreeSet;

use kutover_core::words::Term;

use super::{Violation, broken};
use crate::observed::{Act, Observed};

pub(super) const NAME: &str = "old_term_acts_not";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut taken = BTreeSet::new();
    for acted in &observed.acts {
        let Act::Published(published) = &acted.act else { continue };
        let Some(term) = published.owner.as_ref().map(|owner| owner.term) else { continue };
        let (by, highest) = (acted.by.unwrap_or_default(), taken.last().copied());
        if let Some(highest) = highest.filter(|highest| term < *highest) {
            found.push(broken!("controller {by} wrote the owner record under term {term} after {highest}"));
        }
        taken.insert(term);
    }
    // As the journal stands at the end: with what was written by those who died before they heard of it.
    let mut highest = None;
    for term in &observed.end.journal {
        if let Some(highest) = highest.filter(|highest| term < *highest) {
            found.push(broken!("an entry of term {term} stands in the journal behind one of {highest}"));
        }
        // Before the first controller there is no term to take: that it wants one stands there under 0.
        if *term != Term(0) && !taken.contains(term) {
            found.push(broken!("the journal has an entry of term {term}, which no owner record ever had"));
        }
        highest = highest.max(Some(term));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{acted, ours, owner};
    use super::*;

    #[test]
    fn an_older_term_after_a_newer_one_is_reported() {
        let mut observed = ours();
        observed.acts = vec![
            acted(1, Act::Published(Box::new(owner(1, "b", 2)))),
            acted(2, Act::Published(Box::new(owner(2, "g", 1)))),
        ];
        assert_eq!(check(&observed).len(), 1);
        observed.end.journal = vec![Term(0), Term(1), Term(2), Term(1)];
        assert_eq!(check(&observed).len(), 2);
        observed.end.journal.pop();
        observed.acts.truncate(1);
        assert_eq!(check(&observed).len(), 1, "nobody ever had the first term");
        observed.end.journal.remove(1);
        assert_eq!(check(&observed), []);
    }
}
