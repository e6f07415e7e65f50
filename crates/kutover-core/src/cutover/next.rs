//! Why a step of the machine is looked at, and what it decides.

use super::{Answer, ApprovalGate, Command, ConnectAct, State, Stop};

/// What a step decided.
pub(super) enum Next {
    /// Do this; its answer comes back to the same step.
    Run(Command),
    /// Go to this state, journalled.
    Goto(State),
    /// Look at this step again after this many milliseconds.
    After(u64),
    /// This step may be taken this many milliseconds after it was first looked at.
    Once(u64, Box<State>),
    /// A person has to say so.
    Approve(ApprovalGate),
    /// Something is not as it must be: say why, and look again after a back-off.
    Hold(String),
    /// The same, but no sooner than after this many milliseconds.
    HoldFor(String, u64),
    /// The same, and the step has a deadline of its own that ends it: none of this time counts against the limit of a hold.
    HoldUncounted(String, u64),
    /// It is over.
    Stop(Stop),
}

/// Why a step is looked at.
pub(super) enum Cause {
    /// It was entered, or a wait is over.
    Enter,
    /// Its command was answered.
    Answer(Answer),
}

/// Whether a step is looked at because of an answer, and if so, whether that was to a question beside the step's own: who
/// writes, who has moved, whether groups' start offsets stand, who is early, or which topics are there.
pub(super) fn answered(cause: &Cause) -> Option<bool> {
    match cause {
        Cause::Answer(answer) => Some(matches!(
            answer,
            Answer::Surveyed { .. }
                | Answer::StartsFresh { .. }
                | Answer::EarlyLooked { .. }
                | Answer::Behind { .. }
                | Answer::Members { .. }
                | Answer::Topics { .. }
        )),
        Cause::Enter => None,
    }
}

impl Next {
    /// Whether a hold that lasts goes on: a question beside the step's own, and what is asked right after it, ends none.
    pub(super) fn holds(&self, after_aside: bool) -> bool {
        match self {
            Next::Hold(_)
            | Next::HoldFor(..)
            | Next::HoldUncounted(..)
            | Next::Run(Command::Survey { .. }) => true,
            // The second half of a proof: what its first half says ends nothing.
            Next::Run(Command::Connect(connect)) if connect.act == ConnectAct::See => true,
            next => after_aside && matches!(next, Next::Run(_)),
        }
    }
}
