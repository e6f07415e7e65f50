//! A controller: the real machine, and a driver that carries out its commands place by place.

use kutover_core::cutover::{Answer, Command, CommandId, Cutover, Event, Input, Output, Plan, Record, Stop};
use kutover_core::error::{ErrorKind, ProviderError};
use kutover_core::words::{Millis, Nonce, Term};

use super::place::{Dns, Place, looked_for};
use crate::kept::Kept;
use crate::producer::NOW;
use crate::promise::{Broken, Promise};

/// What a controller is in the middle of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Doing {
    /// It waits, for this instant or for an input alone.
    Waiting(Option<Millis>),
    /// It writes to the journal.
    Journal(Term, Record),
    /// It carries out a command.
    Command(CommandId, Command, Scratch),
    /// It has ended.
    Stopped(Stop),
}

/// How far a command is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scratch {
    /// Places done.
    pub(crate) at: u8,
    /// What was read and is to be replaced, by what.
    pub(crate) swap: Option<(Dns, Dns)>,
    /// Where producers belonged when that was read.
    pub(crate) published: Option<kutover_core::owner::Target>,
    pub(crate) created: bool,
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Controller {
    machine: Cutover,
    pub(crate) doing: Doing,
    /// Nobody else has written to the journal since it was read.
    pub(crate) journal_is_ours: bool,
    pub(crate) broken: Option<Broken>,
}

/// How a part of a command went.
pub(crate) enum Went {
    More,
    Done(Answer),
}

impl Controller {
    /// Starts from the journal.
    /// One that only looks after a deployment (`over`) begins no further cutover.
    pub(crate) fn start(plan: Plan, run: &str, place: &Place, over: bool) -> Self {
        let mut machine = Cutover::new(plan, Nonce::new(run), place.journal.records());
        if over {
            machine = machine.adopting();
        }
        let doing = Doing::Waiting(None);
        let mut controller = Self { machine, doing, journal_is_ours: true, broken: None };
        controller.input(Input::Start);
        controller
    }

    pub(crate) fn machine(&self) -> &Cutover {
        &self.machine
    }

    pub(crate) fn stop(&self) -> Option<&Stop> {
        match &self.doing {
            Doing::Stopped(stop) => Some(stop),
            _ => None,
        }
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.machine.handle(NOW, input);
        self.poll();
    }

    /// The instant that it waits for has come: time stands still, and each deadline is a choice.
    pub(crate) fn tick(&mut self) {
        let Doing::Waiting(Some(due)) = self.doing else { return };
        self.machine.handle(due.max(NOW), Input::Tick);
        self.poll();
    }

    /// The operator says something; a command that is under way goes on, unless another one replaces it.
    pub(crate) fn word(&mut self, input: Input) {
        let doing = self.doing.clone();
        self.input(input);
        if matches!((&doing, &self.doing), (Doing::Command(..), Doing::Waiting(_))) {
            self.doing = doing;
        }
    }

    /// Takes outputs until there is something to do.
    fn poll(&mut self) {
        loop {
            self.doing = match self.machine.poll() {
                Output::Notify(Event::InvariantBroken { text }) => {
                    self.broken.get_or_insert(Broken::new(Promise::Machine, text));
                    continue;
                }
                Output::Notify(_) => continue,
                Output::Persist(_, Record::Intent { command, .. }) if !looked_for(&command) => continue,
                Output::Persist(term, record) => Doing::Journal(term, record),
                Output::Run(id, command) => {
                    let id = self.machine.renumber().unwrap_or(id);
                    Doing::Command(id, command, Scratch::default())
                }
                Output::Wait(due) => {
                    self.machine.renumber();
                    Doing::Waiting(due)
                }
                Output::Stop(stop) => Doing::Stopped(stop),
            };
            return;
        }
    }

    /// Writes to the journal; one that somebody else has written to meanwhile ends the run.
    pub(crate) fn append(&mut self, place: &mut Place) {
        let Doing::Journal(term, record) = &self.doing else { return };
        if !self.journal_is_ours || place.journal.term > *term {
            self.doing = Doing::Stopped(Stop::Superseded("the journal has gone on".into()));
            return;
        }
        place.journal.append(*term, record);
        self.poll();
    }

    /// Carries a command on by one place.
    pub(crate) fn carry_on(&mut self, place: &mut Place) {
        let Doing::Command(id, command, scratch) = &mut self.doing else { return };
        let (id, term) = (*id, self.machine.term());
        match place.carry(command, scratch, term, &mut self.broken) {
            Ok(Went::More) => scratch.at += 1,
            Ok(Went::Done(answer)) => self.input(Input::Answer(id, Ok(answer))),
            Err(error) => self.failed(id, error, place),
        }
    }

    /// The answer to a part of a command is lost, whether it was done or not.
    pub(crate) fn lose_answer(&mut self, done: bool, place: &mut Place) {
        let Doing::Command(id, command, scratch) = &mut self.doing else { return };
        let (id, term) = (*id, self.machine.term());
        if done {
            let _ = place.carry(command, scratch, term, &mut self.broken);
        }
        let error = ProviderError::new(ErrorKind::Unreachable, command.name(), "no answer");
        self.failed(id, error, place);
    }

    /// What fails may fail because another controller has gone on without us (L20).
    fn failed(&mut self, id: CommandId, error: ProviderError, place: &Place) {
        let term = self.machine.term();
        let in_force = place.dns.owner.as_ref().map_or(Term(0), |owner| owner.term);
        let error = if term != Term(0) && in_force > term {
            ProviderError::new(ErrorKind::Superseded, "the owner record", "another controller has taken over")
        } else {
            error
        };
        self.input(Input::Answer(id, Err(error)));
    }
}

/// Shared by all states that have it.
pub(crate) type KeptController = Kept<Controller>;
