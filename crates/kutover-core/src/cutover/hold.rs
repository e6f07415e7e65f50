//! Steps that cannot be taken now: said once, tried again after a back-off, and not for ever.

use super::{Boot, Cutover, Event, Fencing, LONGEST_BACK_OFF, Retirement, Rollback, State, Stop};
use crate::words::Millis;

/// Why a step cannot be taken now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hold {
    pub(super) since: Millis,
    pub(super) reason: String,
    pub(super) failures: u32,
    /// The mark of the removal could not be written.
    pub(super) marking: bool,
    /// Somebody writes to what has no fence.
    pub(super) writing: bool,
    /// The proof of a fence was refused.
    pub(super) refused: bool,
    /// What was asked last did not answer.
    pub(super) silent: bool,
}

impl Hold {
    /// One that begins.
    pub(super) fn new(since: Millis) -> Self {
        Self {
            since,
            reason: String::new(),
            failures: 0,
            marking: false,
            writing: false,
            refused: false,
            silent: false,
        }
    }

    /// Whether it lasts on in this state: each mark is tried on a fresh proof, and that the proof succeeds once more does
    /// not end what keeps the mark from being written. Nor does a pause of whoever writes, but a close; nor a fence that is
    /// raised again, but its proof.
    pub(super) fn outlasts(&self, state: &State) -> bool {
        match state {
            State::Retiring(_, _, Retirement::Prove) => self.marking || self.refused,
            State::Retiring(_, _, Retirement::Mark) => self.marking,
            State::Retiring(_, _, Retirement::Keep | Retirement::FenceAgain(_)) => self.refused,
            State::Fencing(_, Fencing::Quiet(_)) => self.writing,
            State::Fencing(_, Fencing::Raise | Fencing::Prove)
            | State::RollingBack(_, Rollback::Raise | Rollback::Prove) => self.refused,
            _ => false,
        }
    }
}

impl Cutover {
    pub(super) fn held(&mut self, now: Millis, reason: String) {
        let state = self.progress.state.name();
        let hold = self.hold.get_or_insert(Hold::new(now));
        hold.failures += 1;
        let factor = 1_u64 << u64::from(hold.failures - 1).min(LONGEST_BACK_OFF.ilog2().into());
        let (since, news) = (hold.since, hold.reason != reason);
        hold.reason.clone_from(&reason);
        if news {
            self.notify(Event::Hold { state, reason: reason.clone() });
        }
        self.wake = Some(self.in_time(now, now.plus(self.plan.timings.retry_ms.saturating_mul(factor))));
        if self.plan.timings.hold_limit_ms.is_some_and(|limit| now.since(since) >= limit) {
            match self.progress.state.undo(&reason) {
                Some(_) if self.boot == Boot::Running => self.ask_abort(now, &reason),
                _ if self.stands_still() => self.ask_rollback(now, &reason),
                _ => {
                    // What an abort is stuck on is not why it was begun: a person needs both.
                    let why = match &self.progress.state {
                        State::Aborting(undo, _) => {
                            format!("{}; and the abort is stuck: {reason}", undo.reason)
                        }
                        _ => reason,
                    };
                    self.stop(Stop::Held(why));
                }
            }
        }
    }

    pub(super) fn held_for(&mut self, now: Millis, reason: String, ms: u64) {
        self.held(now, reason);
        self.wake = self.wake.map(|wake| self.in_time(now, wake.max(now.plus(ms))));
    }

    pub(super) fn release(&mut self) {
        // A proof that succeeds once more does not end what keeps the mark from being written.
        if self.hold.as_ref().is_some_and(|hold| hold.outlasts(&self.progress.state)) {
            return;
        }
        if self.hold.take().is_some() {
            self.notify(Event::Resumed { state: self.progress.state.name() });
        }
    }

    /// A pause that is cut short by the deadline for receipts, where one is still to come: what is held up by its own pauses
    /// would hold up the fence.
    fn in_time(&self, now: Millis, wake: Millis) -> Millis {
        let converges =
            matches!(self.progress.state, State::Converging(_) | State::RollingBack(_, Rollback::Converge));
        let deadline = self.entered.map(|entered| entered.plus(self.plan.timings.converge_ms));
        deadline.filter(|deadline| converges && now < *deadline).map_or(wake, |deadline| wake.min(deadline))
    }
}
