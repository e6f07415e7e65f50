//! What goes into the machine, and what comes out.

use super::{Answer, ApprovalGate, Command, CommandId, Event, Record};
use crate::error::ProviderError;
use crate::words::{Millis, Term};

/// What happens to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Begin, or go on after a resume.
    Start,
    /// A command's answer.
    Answer(CommandId, Result<Answer, ProviderError>),
    /// The time of the last [`Output::Wait`] has come.
    Tick,
    /// A person approves.
    Approve(ApprovalGate),
    /// A person wants out. Heeded before the publication; afterwards it is answered with a note.
    Abort,
    /// A person wants to go back to the old cluster. Heeded from the publication to the mark of removal; before it, an
    /// abort.
    RollBack,
}

/// What the machine wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Journal this, durably, before anything else.
    Persist(Term, Record),
    /// Do this.
    Run(CommandId, Command),
    /// Tell this.
    Notify(Event),
    /// Nothing more until an input comes, or this instant (then [`Input::Tick`]).
    Wait(Option<Millis>),
    /// It is over.
    Stop(Stop),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// The cutover is complete.
    Complete,
    /// The deployment is kutover's now; nothing else was asked for.
    Adopted,
    /// It was aborted; the old cluster serves as before.
    Aborted(String),
    /// The old cluster serves again.
    RolledBack(String),
    /// It held for longer than the plan allows, past the point of aborting. Run it again when the cause has ended.
    Held(String),
    /// The deployment or journal is not what it should be; nothing was done.
    Refused(String),
    /// Another controller has taken over.
    Superseded(String),
    /// A promise of the machine itself is broken.
    Broken(String),
}
