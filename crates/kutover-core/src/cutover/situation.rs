//! For model checkers: two machines that behave alike must be equal, whatever they have counted.

use super::{CommandId, Cutover};

impl Cutover {
    /// Counts commands anew: the one under way, if there is one, becomes the first, and its new id is given. Late answers
    /// are forgotten, and so is how often something failed: the next back-off is the first one again. Nothing else that it
    /// does changes. Only between [`Output::Wait`](super::Output::Wait) and the next input.
    pub fn renumber(&mut self) -> Option<CommandId> {
        self.late = 0;
        if let Some(hold) = &mut self.hold {
            hold.failures = 0;
        }
        self.next_id = u64::from(self.pending.is_some());
        let pending = self.pending.as_mut()?;
        pending.id = CommandId(self.next_id);
        Some(pending.id)
    }
}
