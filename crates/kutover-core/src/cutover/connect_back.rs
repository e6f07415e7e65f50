//! Kafka Connect on every way back: what an abort undoes, and a hand-over the other way.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::connect::{Connectors, act, only};
use super::steps::unexpected;
use super::{
    Answer, Barrier, Cause, ConnectAct, Cutover, Draft, Next, Prepared, Rollback, Side, State, Undo, Undoing,
    Verified, WayBack,
};
use crate::ports::ConnectorKind;

impl Cutover {
    /// An abort: sources go on where they were, then what was made on the new cluster goes.
    pub(super) fn undoing_connectors(&mut self, undo: Undo, step: Undoing, cause: Cause) -> Next {
        let onwards = if step == Undoing::Connectors { Undoing::ConnectorsGone } else { Undoing::Fence };
        match (&undo.connect, cause) {
            (Some(moved), Cause::Enter) => match step {
                Undoing::Connectors => {
                    let sources = only(&moved.connectors, ConnectorKind::Source);
                    act(ConnectAct::StartBeside, &moved.to, &moved.from, sources)
                }
                _ => act(ConnectAct::Remove, &moved.to, &moved.from, moved.connectors.clone()),
            },
            (None, Cause::Enter) => Next::Goto(State::Aborting(undo, Undoing::Fence)),
            (_, Cause::Answer(Answer::Connect(answer))) => match self.connected(answer) {
                ControlFlow::Continue(()) => Next::Goto(State::Aborting(undo, onwards)),
                ControlFlow::Break(next) => next,
            },
            (_, Cause::Answer(other)) => unexpected(&other),
        }
    }

    /// A rollback is a hand-over the other way. Where the cluster that is left is lost nobody can be asked how far its
    /// sources came: they go on where they left the other one, since what they have written since is lost with it.
    pub(super) fn connectors_back(&mut self, way: WayBack, step: Rollback, cause: Cause) -> Next {
        let Prepared { verified: Verified { old: home, new: away, .. }, draft } = &way.redirected.prepared;
        let start = match way.barrier {
            Barrier::Lost => ConnectAct::StartBeside,
            Barrier::Fence | Barrier::Quiet => ConnectAct::Start,
        };
        match cause {
            Cause::Enter => match step {
                Rollback::SourcesAway => act(ConnectAct::HandOver, away, home, draft.sources()),
                Rollback::SourcesHome => act(start, away, home, draft.sources()),
                Rollback::SinksAway => act(ConnectAct::StartBeside, home, away, draft.sinks()),
                Rollback::SinksHome => act(start, away, home, draft.sinks()),
                _ => act(ConnectAct::Remove, away, home, draft.connectors.clone()),
            },
            Cause::Answer(Answer::Connect(answer)) => {
                if let ControlFlow::Break(next) = self.connected(answer) {
                    return next;
                }
                let onwards = match step {
                    Rollback::SourcesAway => Rollback::Intent,
                    Rollback::SourcesHome => Rollback::Converge,
                    Rollback::SinksAway => Rollback::Drain,
                    Rollback::SinksHome => Rollback::ConnectorsGone,
                    _ => Rollback::Ttl,
                };
                Next::Goto(State::RollingBack(way, onwards))
            }
            Cause::Answer(other) => unexpected(&other),
        }
    }
}

impl WayBack {
    /// What a rollback does before anything stands still for it.
    pub(super) fn before_intent(&self) -> Rollback {
        let some = !self.redirected.prepared.draft.sources().is_empty();
        if some { Rollback::SourcesAway } else { Rollback::Intent }
    }

    /// What follows the announcement.
    pub(super) fn after_announcement(&self) -> Rollback {
        let some = !self.redirected.prepared.draft.sources().is_empty();
        if some { Rollback::SourcesHome } else { Rollback::Converge }
    }

    /// What the drain begins with: what came to the cluster that is left, its sinks have to read there.
    pub(super) fn before_drain(&self) -> Rollback {
        let some = !self.redirected.prepared.draft.sinks().is_empty();
        if some { Rollback::SinksAway } else { Rollback::Drain }
    }

    /// What follows the drain, or stands in for it where there is nobody to drain.
    pub(super) fn after_drain(&self) -> Rollback {
        let some = !self.redirected.prepared.draft.connectors.is_empty();
        if some { Rollback::SinksHome } else { Rollback::Ttl }
    }
}

impl Undo {
    /// What follows the chain.
    pub(super) fn after_chain(&self) -> Undoing {
        if self.connect.is_some() { Undoing::Connectors } else { Undoing::Fence }
    }
}

/// What an abort has to undo about connectors.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Moved {
    /// The cluster that serves.
    pub from: Side,
    /// The one that is given up.
    pub to: Side,
    /// The connectors.
    pub connectors: Connectors,
}

impl Moved {
    /// What was begun; `None` if no connectors move along.
    pub(super) fn of(verified: &Verified, draft: &Draft) -> Option<Box<Self>> {
        let Verified { old, new, .. } = verified;
        let moved = Self { from: old.clone(), to: new.clone(), connectors: draft.connectors.clone() };
        (!moved.connectors.is_empty()).then(|| Box::new(moved))
    }
}
