//! How long a look waits for the slower of its two sources.

use super::machine::{State, Switch};
use crate::owner::OwnerRecord;
use crate::words::Generation;

/// Whether DNS alone will do, once it has answered a [look](super::Output::Look): as the machine stood when it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Senders wait behind a closed gate: a dead cluster must not hold them up.
    pub sealed: bool,
    /// The newest generation that is known.
    pub known: Option<Generation>,
}

impl Patience {
    /// What says nothing new decides nothing: fences and intents stand in the control topic alone, and a refusal that they
    /// would explain goes back to its caller without them.
    pub fn is_over(&self, owner: Option<&OwnerRecord>) -> bool {
        self.sealed || owner.is_some_and(|owner| Some(owner.target.generation) > self.known)
    }
}

impl Switch {
    /// The patience of a look that is begun now.
    pub fn patience(&self) -> Patience {
        let known = self.newest().map(|newest| newest.generation);
        Patience { sealed: matches!(self.state(), State::Sealing { .. }), known }
    }
}
