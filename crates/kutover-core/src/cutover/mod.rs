//! The cutover machine: one way in ([`Cutover::handle`]), one way out ([`Cutover::poll`]).
//!
//! **After each input, take outputs and carry them out in order until [`Output::Wait`] comes.** A `Persist` must be
//! durable before the next output is taken; that is what makes an intent precede its act.
//!
//! There is at most one command under way. A new [`Output::Run`] replaces the one before it, whose answer, should it
//! still come, is counted and ignored. A command that failed or timed out is run again after a back-off: every command
//! names a state to be reached and looks before it acts, so an unknown outcome is looked up and never assumed. While it
//! fails the cutover *holds*: it says why, nothing is lost, and it goes on by itself when the cause ends.

// Commands, answers and states differ much in size; one of each lives at a time, and boxing would only hide the data.
#![allow(clippy::large_enum_variant)]

mod abandoned;
mod answer;
mod back;
mod behind;
mod boot;
mod command;
mod connect;
mod connect_back;
pub(crate) mod decide;
mod early;
mod event;
mod forward;
mod give_up;
mod gone;
mod hold;
mod invariants;
mod io;
mod next;
mod plan;
mod raise;
mod release;
mod retire;
mod rollback;
mod separate;
mod shut;
mod situation;
mod starts;
mod state;
mod state_name;
mod steps;
mod unheard;
mod unmoved;
mod watch;
mod way_back;

#[cfg(test)]
mod back_tests;
#[cfg(test)]
mod barrier_tests;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod connect_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod guards;
#[cfg(test)]
mod last_home;
#[cfg(test)]
mod raise_tests;
#[cfg(test)]
mod removal_tests;
#[cfg(test)]
mod rollback_tests;
#[cfg(test)]
mod separation_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};

pub use answer::{Answer, StartOffsets};
pub use command::{Command, CommandId};
pub use connect::{
    ConnectAct, ConnectAnswer, ConnectCommand, ConnectPlan, Connector, ConnectorChoice, Connectors,
    chosen_connectors,
};
pub use connect_back::Moved;
pub use event::{ApprovalGate, Event, Record};
pub use io::{Input, Output, Stop};
pub use plan::{Approval, FencePolicy, Plan, SeparationPolicy, Timings, Topics};
pub use release::Release;
pub use state::{
    Closed, Draft, Fencing, Isolation, Preparation, Prepared, Progress, Redirected, Redirection, Retirement,
    Side, State, Undo, Undoing, Verified,
};
pub use state_name::StateName;
pub use way_back::{Barrier, Rollback, WayBack};

use crate::controls::{Control, without};
use crate::error::{ErrorKind, ProviderError, Retry};
use crate::words::{Millis, Nonce, Term};
use behind::Behind;
use boot::Boot;
use early::EarlyWatch;
use gone::Missing;
use hold::Hold;
use next::{Cause, Next};
use shut::Shut;
use unmoved::Unmoved;
use watch::Watch;

/// The longest back-off is this many times the first.
const LONGEST_BACK_OFF: u64 = 32;

const BY_OPERATOR: &str = "asked for by the operator";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pending {
    id: CommandId,
    deadline: Millis,
    purpose: Purpose,
}

/// What a command is for, where that decides what its failure comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Purpose {
    /// The step that is being taken.
    Step,
    /// It looks after start offsets, beside the step.
    Freshens,
    /// It looks for what came behind the closed ends, beside the step.
    LooksBehind,
    /// It asks who has moved.
    Hears,
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cutover {
    plan: Plan,
    nonce: Nonce,
    boot: Boot,
    term: Term,
    progress: Progress,
    /// Whether the journal knows of a term that was taken.
    resumed: bool,
    /// The nonces of adoptions that the journal intended.
    adoptions: Vec<Nonce>,
    /// What was done, or begun, against clusters to shut clients out of them, by this run and every one before it.
    shut: Shut,
    /// Whether taking the deployment over is all that is wanted.
    adopt_only: bool,
    next_id: u64,
    pending: Option<Pending>,
    wake: Option<Millis>,
    entered: Option<Millis>,
    /// The time of the input that is being handled.
    now: Option<Millis>,
    hold: Option<Hold>,
    /// When start offsets were last looked after. Not journalled: after a restart nothing is known of them.
    freshened: Option<Millis>,
    /// Who still writes to the old cluster.
    watch: Watch,
    /// Which groups were early on the new cluster.
    early: EarlyWatch,
    /// What came behind the closed ends.
    behind: Behind,
    /// Which topics may be gone from the old cluster.
    missing: Missing,
    /// Whether the owner record says that a rollback is under way: what is fenced is not left over then.
    going_back: bool,
    approved: BTreeSet<ApprovalGate>,
    /// Who may still write to what is to be removed.
    unmoved: Unmoved,
    asked: Option<ApprovalGate>,
    abort: bool,
    /// Why a rollback was asked for that has not begun yet.
    rollback: Option<String>,
    late: u64,
    stopped: bool,
    outputs: VecDeque<Output>,
}

impl Cutover {
    /// A machine for a plan. `nonce` is random and new at every start of a controller. `journal` is what the journal
    /// holds, oldest first; the newest checkpoint is where it goes on.
    pub fn new(plan: Plan, nonce: Nonce, journal: impl IntoIterator<Item = Record>) -> Self {
        let mut progress = Progress::default();
        let (mut resumed, mut adoptions, mut shut) = (false, Vec::new(), Shut::default());
        for record in journal {
            match record {
                Record::Takeover { .. } => resumed = true,
                Record::Checkpoint { progress: newest } => (resumed, progress) = (true, *newest),
                Record::Intent { command, .. } => {
                    shut.note(&command);
                    if let Command::TakeTerm { nonce, adopt: true, .. } = *command {
                        adoptions.push(nonce);
                    }
                }
            }
        }
        if matches!(progress.state, State::Complete | State::Aborted(_)) {
            progress.cutover += 1;
            progress.state = State::Planned;
        }
        Self {
            plan,
            nonce,
            boot: Boot::TakeTerm,
            term: Term(0),
            progress,
            resumed,
            adoptions,
            shut,
            adopt_only: false,
            next_id: 0,
            pending: None,
            wake: None,
            entered: None,
            now: None,
            hold: None,
            freshened: None,
            watch: Watch::default(),
            early: EarlyWatch::default(),
            behind: Behind::default(),
            missing: Missing::default(),
            going_back: false,
            approved: BTreeSet::new(),
            unmoved: Unmoved::default(),
            asked: None,
            abort: false,
            rollback: None,
            late: 0,
            stopped: false,
            outputs: VecDeque::new(),
        }
    }

    /// The same machine, which stops as soon as the deployment is kutover's: the owner record stands, and kutover's
    /// topics on the active cluster.
    #[must_use]
    pub fn adopting(mut self) -> Self {
        self.adopt_only = true;
        self
    }

    /// Where it stands.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The term it holds; 0 before it has taken one.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Answers that came when nobody waited for them.
    pub fn late_answers(&self) -> u64 {
        self.late
    }

    /// The next output. [`Output::Wait`] and [`Output::Stop`] come again and again until an input changes something.
    pub fn poll(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        Output::Wait(self.pending.as_ref().map(|pending| pending.deadline).or(self.wake))
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Millis, input: Input) {
        if self.stopped {
            return;
        }
        self.now = Some(now);
        let before = self.progress.clone();
        match input {
            Input::Start => self.look(now, Cause::Enter),
            Input::Answer(id, result) => self.answered(now, id, result),
            Input::Tick => self.tick(now),
            Input::Approve(gate) => self.approve(now, gate),
            Input::Abort => self.ask_abort(now, BY_OPERATOR),
            Input::RollBack => self.ask_rollback(now, BY_OPERATOR),
        }
        if let Err(text) = invariants::check(&before, self) {
            self.notify(Event::InvariantBroken { text: text.clone() });
            // What the broken step wanted to do must not be done.
            self.outputs.retain(|output| matches!(output, Output::Notify(_)));
            self.stop(Stop::Broken(text));
        }
    }

    fn answered(&mut self, now: Millis, id: CommandId, result: Result<Answer, ProviderError>) {
        let Some(pending) = self.pending.take_if(|pending| pending.id == id) else {
            self.late += 1;
            self.notify(Event::LateAnswer { id });
            return;
        };
        match result {
            Ok(answer) => self.look(now, Cause::Answer(answer)),
            Err(error) => self.failed(now, &pending, &error),
        }
    }

    fn failed(&mut self, now: Millis, pending: &Pending, error: &ProviderError) {
        match error.kind {
            ErrorKind::Superseded => self.stop(Stop::Superseded(error.to_string())),
            // It is no failure of the step, which would never be taken where this takes its whole time.
            _ if pending.purpose == Purpose::Freshens => {
                self.look(now, Cause::Answer(Answer::StartsFresh { silent: Some(error.to_string()) }));
            }
            _ if pending.purpose == Purpose::LooksBehind => {
                self.look(now, Cause::Answer(Answer::Behind { found: Err(error.to_string()) }));
            }
            kind if self.is_answer(kind) => self.look(now, Cause::Answer(Answer::Done)),
            // Before the deployment is ours nothing is waited for: what is refused then is for a person to put right.
            ErrorKind::Refused | ErrorKind::Invalid if matches!(self.boot, Boot::TakeTerm | Boot::Claim) => {
                self.stop(Stop::Refused(error.to_string()));
            }
            // A cluster that will not be made however often it is asked for, and each try may take most of an hour: nothing has
            // been done yet that a hold would keep.
            ErrorKind::Refused
                if (&self.boot, &self.progress.state) == (&Boot::Running, &State::Provisioning)
                    && error.retry == Retry::Never =>
            {
                self.ask_abort(now, &error.to_string());
            }
            _ if self.abandons(now, error) => {}
            _ if pending.purpose == Purpose::Hears && self.goes_on_unheard(now, error) => {}
            _ => {
                // What the mark rests on can change while it cannot be written.
                let mut marking = false;
                if let State::Retiring(_, _, step @ Retirement::Mark) = &mut self.progress.state {
                    (*step, marking) = (Retirement::Prove, true);
                }
                let refused = self.raise_again(error);
                self.hold.get_or_insert(Hold::new(now)).silent = error.kind.is_silence();
                self.held(now, error.to_string());
                if error.kind == ErrorKind::NotFound {
                    self.suspect();
                }
                if let Some(hold) = &mut self.hold {
                    hold.marking |= marking;
                    hold.refused |= refused;
                }
                self.give_up_barrier(now, error);
                self.give_up_restoring(now, error);
                self.give_up_fencing(now, error);
            }
        }
    }

    fn tick(&mut self, now: Millis) {
        if let Some(pending) = self.pending.take_if(|pending| now >= pending.deadline) {
            let what = format!("no answer within {} ms", self.plan.timings.command_timeout_ms);
            let error = ProviderError::new(ErrorKind::Unreachable, self.progress.state.name(), what);
            self.failed(now, &pending, &error);
        } else if self.pending.is_none() && self.wake.is_some_and(|wake| now >= wake) {
            self.look(now, Cause::Enter);
        }
    }

    /// Looks at the current step until it has to wait for something.
    fn look(&mut self, now: Millis, cause: Cause) {
        self.wake = None;
        let asks = self.progress.state.asks();
        let answered = next::answered(&cause).filter(|_| !asks);
        self.entered.get_or_insert(now);
        let next = self.step(cause);
        if answered.is_some_and(|aside| !next.holds(aside)) {
            self.release();
        }
        match next {
            Next::Run(command) => self.run(now, command),
            Next::Goto(state) => self.goto(now, state),
            Next::After(ms) => self.wake = Some(now.plus(ms)),
            Next::Once(ms, state) => {
                let due = self.entered.unwrap_or(now).plus(ms);
                if now >= due {
                    self.goto(now, *state);
                } else {
                    self.wake = self.aside_due().into_iter().chain([due]).min();
                }
            }
            Next::Approve(gate) => {
                self.wake = self.aside_due();
                if self.asked != Some(gate) {
                    self.asked = Some(gate);
                    let unmoved = self.unmoved.shown(gate);
                    self.notify(Event::AwaitingApproval { gate, unmoved });
                }
            }
            Next::Hold(reason) => self.held(now, reason),
            Next::HoldFor(reason, ms) => {
                self.held_for(now, reason, ms);
                if let Some(hold) = &mut self.hold {
                    hold.writing = self.watch.somebody_writes();
                }
            }
            Next::HoldUncounted(reason, ms) => {
                if let Some(hold) = &mut self.hold {
                    hold.since = now;
                }
                self.held_for(now, reason, ms);
            }
            Next::Stop(stop) => self.stop(stop),
        }
    }

    /// When something beside a step that waits is to be looked after.
    fn aside_due(&self) -> Option<Millis> {
        self.starts_due().into_iter().chain(self.behind_due()).min()
    }

    fn goto(&mut self, now: Millis, state: State) {
        let changed = state.name() != self.progress.state.name();
        // Whether a cluster answers at all is asked in the middle of a hold, and ends none.
        let asks = state.asks();
        self.progress.state = state;
        self.entered = None;
        self.asked = None;
        if !asks {
            self.release();
        }
        self.persist(Record::Checkpoint { progress: Box::new(self.progress.clone()) });
        if changed {
            self.notify(Event::Entered { state: self.progress.state.name() });
        }
        match self.begin_rollback() {
            Some(state) => self.goto(now, state),
            None => self.look(now, Cause::Enter),
        }
    }

    fn run(&mut self, now: Millis, command: Command) {
        self.next_id += 1;
        let id = CommandId(self.next_id);
        self.shut.note(&command);
        // Before a term is ours another controller's journal must not be written to: raising the term is itself a
        // compare-and-set. An adoption has no term before it, and must be known for ours if we die in it.
        let adoption = matches!(command, Command::TakeTerm { adopt: true, .. });
        let intended = adoption || (command.is_mutation() && self.boot != Boot::TakeTerm);
        if intended && !without(Control::NoIntents) {
            self.persist(Record::Intent { id, command: Box::new(command.clone()) });
        }
        let purpose = match command {
            Command::FreshenStarts { .. } => Purpose::Freshens,
            Command::LookBehind { .. } => Purpose::LooksBehind,
            Command::ReadMembers { .. } => Purpose::Hears,
            _ => Purpose::Step,
        };
        let deadline = now.plus(self.plan.timings.command_timeout_ms);
        self.pending = Some(Pending { id, deadline, purpose });
        self.outputs.push_back(Output::Run(id, command));
    }

    fn stop(&mut self, stop: Stop) {
        self.stopped = true;
        self.pending = None;
        self.wake = None;
        self.outputs.push_back(Output::Stop(stop));
    }

    /// Takes in what a look has told of a state that goes on.
    fn keep(&mut self, state: State) {
        if self.progress.state != state {
            self.progress.state = state;
            self.persist(Record::Checkpoint { progress: Box::new(self.progress.clone()) });
        }
    }

    fn persist(&mut self, record: Record) {
        self.outputs.push_back(Output::Persist(self.term, record));
    }

    fn notify(&mut self, event: Event) {
        self.outputs.push_back(Output::Notify(event));
    }

    /// A nonce for one attempt's act, other for every command of every run.
    fn act_nonce(&self) -> Nonce {
        Nonce::new(format!("{}-{}", self.nonce, self.next_id + 1))
    }
}
