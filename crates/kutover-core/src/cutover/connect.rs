//! Kafka Connect in a cutover: sources stand still from right before the publication until right after it, sinks read the
//! old cluster to its end like any other group, and go on to the new one then.
//!
//! The machine knows connectors by name. Configs and offsets, which can hold secrets, go from one Connect cluster to the
//! other without ever being in a command, an answer or the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::steps::unexpected;
use super::{
    Answer, Boot, Cause, Closed, Command, Cutover, Draft, Event, Next, Preparation, Prepared, Redirected,
    Redirection, Retirement, Side, State, Verified,
};
use crate::controls::{Control, without};
use crate::owner::Target;
use crate::ports::{ConnectorDescription, ConnectorKind, ConnectorState};
use crate::words::{ConnectorName, TopicName};

/// Connectors that move along, by what they were found to do when the cutover began.
pub type Connectors = BTreeMap<ConnectorName, Connector>;

/// A connector that moves along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Connector {
    /// Which way it carries records.
    pub kind: ConnectorKind,
    /// What it did on the old cluster, and is to do in the end: one that somebody paused stays paused.
    pub state: ConnectorState,
}

/// Which connectors are meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectorChoice {
    /// All that the old cluster's workers have.
    All,
    /// These and no others.
    Named(BTreeSet<ConnectorName>),
}

/// What the operator wants of Kafka Connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConnectPlan {
    /// The connectors that move along.
    pub connectors: ConnectorChoice,
    /// Topics that the workers of either cluster keep their own affairs in. They belong to one Connect cluster: they do not
    /// move, are never fenced, and go with it.
    pub topics: BTreeSet<TopicName>,
}

/// What is done about connectors. Each act says a state to be reached and looks before it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectAct {
    /// Look which there are on both sides; that each Connect cluster belongs to its side is checked then, and before every
    /// other act too.
    Find,
    /// They are made on `to`, stopped, with the configs that they have on `from`.
    Create,
    /// They are stopped on `from`. How far sources came is carried to `to`, unless they have gone on there already.
    HandOver,
    /// As `HandOver`; then they do on `to` what they did.
    Start,
    /// They do on `to` what they did, whatever they do on `from`.
    StartBeside,
    /// Look whether none has failed on `to`, or is gone there, since it was started.
    See,
    /// They are removed from `from`. A Connect cluster that does not answer goes with its cluster: that is noted.
    Remove,
}

impl ConnectAct {
    /// Its name, for people and logs.
    pub fn name(self) -> &'static str {
        match self {
            ConnectAct::Find => "find connectors",
            ConnectAct::Create => "create connectors",
            ConnectAct::HandOver => "hand sources over",
            ConnectAct::Start => "start connectors",
            ConnectAct::StartBeside => "start connectors beside",
            ConnectAct::See => "see connectors run",
            ConnectAct::Remove => "remove connectors",
        }
    }
}

/// Something to be done about connectors.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConnectCommand {
    /// What.
    pub act: ConnectAct,
    /// The cluster that they leave.
    pub from: Side,
    /// The cluster that they go to.
    pub to: Side,
    /// The connectors.
    pub connectors: Connectors,
}

/// What the world answered to a [`ConnectCommand`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectAnswer {
    /// To [`ConnectAct::Find`].
    Found {
        /// Those on `from`.
        there: BTreeMap<ConnectorName, ConnectorDescription>,
        /// Those on `to`.
        taken: BTreeSet<ConnectorName>,
    },
    /// To any other: it is done, with what a person should know.
    Done {
        /// For people.
        notes: Vec<String>,
    },
}

/// The connectors of one kind.
pub(super) fn only(connectors: &Connectors, kind: ConnectorKind) -> Connectors {
    connectors.iter().filter(|(_, one)| one.kind == kind).map(|(name, one)| (name.clone(), *one)).collect()
}

impl Draft {
    /// What follows the claim.
    pub(super) fn after_claim(&self) -> Preparation {
        if self.connectors.is_empty() { Preparation::Groups } else { Preparation::CreateConnectors }
    }

    pub(super) fn sources(&self) -> Connectors {
        only(&self.connectors, ConnectorKind::Source)
    }

    pub(super) fn sinks(&self) -> Connectors {
        only(&self.connectors, ConnectorKind::Sink)
    }
}

pub(super) fn act(act: ConnectAct, from: &Side, to: &Side, connectors: Connectors) -> Next {
    let command = ConnectCommand { act, from: from.clone(), to: to.clone(), connectors };
    Next::Run(Command::Connect(Box::new(command)))
}

/// What moves along of what was found.
///
/// # Errors
/// Why it cannot, and the fix.
pub fn chosen_connectors(
    choice: &ConnectorChoice,
    there: &BTreeMap<ConnectorName, ConnectorDescription>,
    taken: &BTreeSet<ConnectorName>,
) -> Result<Connectors, String> {
    if let ConnectorChoice::Named(names) = choice
        && let Some(missing) = names.iter().find(|name| !there.contains_key(*name))
    {
        return Err(format!(
            "plan.connectors names {missing}, which the old cluster's Connect does not have: correct the name"
        ));
    }
    let meant = |name: &ConnectorName| match choice {
        ConnectorChoice::All => true,
        ConnectorChoice::Named(names) => names.contains(name),
    };
    let mut connectors = Connectors::new();
    for (name, found) in there.iter().filter(|(name, _)| meant(name)) {
        let ConnectorDescription { kind, state, failed, tasks } = found;
        if *failed {
            return Err(format!(
                "connector {name} (or a task of it) has failed on the old cluster: see its worker's log and restart it, or \
                 leave it out of plan.connectors"
            ));
        }
        if (*state, *tasks) == (ConnectorState::Running, 0) {
            return Err(format!(
                "connector {name} runs without a task on the old cluster, so that nobody could see it run on the new one: see \
                 its worker's log, stop it, or leave it out of plan.connectors"
            ));
        }
        if taken.contains(name) {
            return Err(format!(
                "connector {name} is on the new cluster's Connect already: delete it there, or leave it out of \
                 plan.connectors"
            ));
        }
        connectors.insert(name.clone(), Connector { kind: *kind, state: *state });
    }
    Ok(connectors)
}

impl Cutover {
    /// What preparing begins with.
    pub(super) fn first_preparation(&self) -> Preparation {
        if self.plan.connect.is_some() { Preparation::Connectors } else { Preparation::Topics }
    }

    /// Tells what a person should know of what was done.
    pub(super) fn connected(&mut self, answer: ConnectAnswer) -> ControlFlow<Next> {
        match answer {
            ConnectAnswer::Done { notes } => {
                notes.into_iter().for_each(|text| self.notify(Event::Note { text }));
                ControlFlow::Continue(())
            }
            found @ ConnectAnswer::Found { .. } => ControlFlow::Break(unexpected(&Answer::Connect(found))),
        }
    }

    /// Connectors are found before anything is touched, and made on the new cluster once its topics are there.
    pub(super) fn preparing_connectors(
        &mut self,
        verified: Verified,
        mut draft: Draft,
        step: Preparation,
        cause: Cause,
    ) -> Next {
        match (step, cause) {
            (Preparation::Connectors, Cause::Enter) => {
                act(ConnectAct::Find, &verified.old, &verified.new, Connectors::new())
            }
            (
                Preparation::Connectors,
                Cause::Answer(Answer::Connect(ConnectAnswer::Found { there, taken })),
            ) => {
                // The plan may have been changed since the step was entered.
                let none = ConnectorChoice::Named(BTreeSet::new());
                let choice = self.plan.connect.as_ref().map_or(&none, |connect| &connect.connectors);
                match chosen_connectors(choice, &there, &taken) {
                    Ok(connectors) => {
                        self.notify(Event::Connectors {
                            sources: only(&connectors, ConnectorKind::Source).into_keys().collect(),
                            sinks: only(&connectors, ConnectorKind::Sink).into_keys().collect(),
                        });
                        draft.connectors = connectors;
                        Next::Goto(State::Preparing(verified, draft, Preparation::Topics))
                    }
                    Err(why) => Next::Hold(why),
                }
            }
            (_, Cause::Enter) => act(ConnectAct::Create, &verified.old, &verified.new, draft.connectors),
            (_, Cause::Answer(Answer::Connect(answer))) => match self.connected(answer) {
                ControlFlow::Continue(()) => {
                    Next::Goto(State::Preparing(verified, draft, Preparation::Groups))
                }
                ControlFlow::Break(next) => next,
            },
            (_, Cause::Answer(other)) => unexpected(&other),
        }
    }

    /// The new cluster is open.
    pub(super) fn reopened(&mut self, prepared: Prepared, target: Target) -> Next {
        if prepared.draft.sources().is_empty() {
            return self.before_publishing(prepared, target);
        }
        Next::Goto(State::Redirecting(prepared, Redirection::HandOver(target)))
    }

    /// The last thing before the publication, so that sources stand still for as short as can be; what fails here fails
    /// while there still is an abort.
    pub(super) fn handing_over(&mut self, prepared: Prepared, target: Target, cause: Cause) -> Next {
        let sources = prepared.draft.sources();
        match cause {
            Cause::Enter => {
                let Verified { old, new, .. } = &prepared.verified;
                act(ConnectAct::HandOver, old, new, sources)
            }
            Cause::Answer(Answer::Connect(answer)) => match self.connected(answer) {
                ControlFlow::Continue(()) => self.before_publishing(prepared, target),
                ControlFlow::Break(next) => next,
            },
            Cause::Answer(other) => unexpected(&other),
        }
    }

    /// What was checked right before the switch may have changed while it waited.
    fn before_publishing(&mut self, prepared: Prepared, target: Target) -> Next {
        let step = if self.starts_are_old() {
            self.notify(Event::Note { text: "the last check is too long ago; checking again".into() });
            self.progress.chain.forget_after(self.published_generation());
            self.first_look()
        } else {
            Redirection::Publish(target)
        };
        Next::Goto(State::Redirecting(prepared, step))
    }

    /// The target is announced.
    pub(super) fn announced(&self, redirected: Redirected) -> Next {
        let Redirected { prepared, target, .. } = &redirected;
        if prepared.draft.sources().is_empty() {
            return Next::Goto(State::Converging(redirected));
        }
        Next::Goto(State::Redirecting(prepared.clone(), Redirection::Start(target.clone())))
    }

    /// The first thing after the announcement: sources go on where they stood.
    pub(super) fn starting_sources(&mut self, redirected: Redirected, cause: Cause) -> Next {
        let Prepared { verified, draft } = &redirected.prepared;
        let mut sources = draft.sources();
        if without(Control::SinksEarly) {
            sources.extend(draft.sinks());
        }
        let start = if without(Control::SinksEarly) { ConnectAct::StartBeside } else { ConnectAct::Start };
        match cause {
            Cause::Enter => act(start, &verified.old, &verified.new, sources),
            Cause::Answer(Answer::Connect(answer)) => match self.connected(answer) {
                ControlFlow::Continue(()) => Next::Goto(State::Converging(redirected)),
                ControlFlow::Break(next) => next,
            },
            Cause::Answer(other) => unexpected(&other),
        }
    }

    /// Whether what holds is a source that stands still on both clusters, so that nobody carries what it reads. To go home it
    /// needs no more of the new cluster than its offsets. A sink is not gone back for: what came to the new cluster it has to
    /// read there, whichever way it goes. Nor is it gone back from workers that do not answer: the way back may need them too.
    pub(super) fn stands_still(&self) -> bool {
        self.boot == Boot::Running
            && matches!(self.progress.state, State::Redirecting(_, Redirection::Start(_)))
            && self.hold.as_ref().is_some_and(|hold| !hold.silent)
    }

    /// Every group has read the old cluster to its end: sinks go on to the new one.
    pub(super) fn moving_sinks(&mut self, closed: Closed, cause: Cause) -> Next {
        let Prepared { verified, draft } = &closed.redirected.prepared;
        match cause {
            Cause::Enter => act(ConnectAct::Start, &verified.old, &verified.new, draft.sinks()),
            Cause::Answer(Answer::Connect(answer)) => match self.connected(answer) {
                ControlFlow::Continue(()) => Next::Goto(State::Soaking(closed)),
                ControlFlow::Break(next) => next,
            },
            Cause::Answer(other) => unexpected(&other),
        }
    }

    /// One that failed after it was started would be missed by nobody: with the old cluster goes the last that ran.
    pub(super) fn seen_to_run(
        &mut self,
        closed: Closed,
        shut_out: bool,
        step: Retirement,
        answer: ConnectAnswer,
    ) -> Next {
        match self.connected(answer) {
            ControlFlow::Continue(()) => self.proven(closed, shut_out, step),
            ControlFlow::Break(next) => next,
        }
    }

    /// The old cluster's connectors, which are all stopped, go when there is no way back any more.
    pub(super) fn retiring_connectors(
        &mut self,
        closed: Closed,
        shut_out: bool,
        marked: bool,
        cause: Cause,
    ) -> Next {
        let onwards = if marked { Retirement::Destroy } else { Retirement::Tidy };
        let Prepared { verified, draft } = &closed.redirected.prepared;
        match cause {
            Cause::Enter => act(ConnectAct::Remove, &verified.old, &verified.new, draft.connectors.clone()),
            Cause::Answer(Answer::Connect(answer)) => match self.connected(answer) {
                ControlFlow::Continue(()) => Next::Goto(State::Retiring(closed, shut_out, onwards)),
                ControlFlow::Break(next) => next,
            },
            Cause::Answer(other) => unexpected(&other),
        }
    }
}

impl Closed {
    /// What follows the mark, or, where the old cluster stays, the last proof.
    pub(super) fn with_its_connectors(&self, marked: bool) -> Retirement {
        match (self.has_connectors(), marked) {
            (true, marked) => Retirement::Connectors(marked),
            (false, true) => Retirement::Destroy,
            (false, false) => Retirement::Tidy,
        }
    }

    /// Whether any move along.
    pub(super) fn has_connectors(&self) -> bool {
        !self.redirected.prepared.draft.connectors.is_empty()
    }

    /// Looks whether they still run on the new cluster.
    pub(super) fn see_connectors(&self) -> Next {
        let Prepared { verified, draft } = &self.redirected.prepared;
        act(ConnectAct::See, &verified.old, &verified.new, draft.connectors.clone())
    }

    /// Whether there are sinks that have to be moved.
    pub(super) fn has_sinks(&self) -> bool {
        !self.redirected.prepared.draft.sinks().is_empty()
    }
}
