//! The machine of one producer's switch.
//!
//! Sans-IO: [`Switch::handle`] takes what happened and when, [`Switch::poll`] gives what to do. **After each input,
//! poll until it gives [`Output::Wait`].**
//!
//! `Starting → Serving → Preparing → Sealing → Replaying → Serving`, and the ways back: a newer generation cancels
//! `Preparing`; `Sealing → Replaying(old)` while nothing was offered and nothing purged; `Replaying → Preparing(next)`
//! when the new cluster refuses in turn; `Serving → Preparing` with the gate closed when a fence refuses or a client
//! becomes fatal.

use std::collections::{BTreeSet, VecDeque};

use super::fences::KnownFences;
use super::io::{
    Input, Lane, LaneId, LookId, Output, SealCause, SealId, SwitchEvent, SwitchReceipt, Violation,
};
use super::policy::{Order, SwitchPolicy};
use crate::controls::{Control, without};
use crate::owner::Target;
use crate::words::{ClusterId, Millis};

/// Where the machine stands. Each state holds exactly its own data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing is accepted until a cluster's id agrees.
    Starting {
        /// What is waited for.
        phase: Start,
        /// When starting becomes an error.
        deadline: Millis,
    },
    /// Sends go to this client.
    Serving {
        /// The client.
        lane: Lane,
        /// Whether refused records are held until a look says what they mean.
        held: bool,
    },
    /// Another client is being connected. Sends go on unless the seal has begun.
    Preparing {
        /// The client in use, or the one that has just been shut.
        lane: Lane,
        /// The other client.
        candidate: Candidate,
        /// How far the client in use is shut.
        seal: Seal,
    },
    /// The candidate is ready; the client in use is being shut.
    Sealing {
        /// The client that is left.
        lane: Lane,
        /// The client to go to.
        next: Lane,
        /// How far the client that is left is shut.
        seal: Seal,
        /// `Overlap`: `next` takes sends already.
        overlapped: bool,
    },
    /// What waits is being offered.
    Replaying {
        /// To this client.
        lane: Lane,
        /// The client that was left; the same one on the way back.
        left: LaneId,
        /// A refusal is being looked into.
        look: Option<LookId>,
    },
    /// For good.
    Stopped {
        /// Why.
        reason: String,
    },
}

/// What starting waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// Any target.
    Wanted,
    /// A client.
    Connecting(Lane),
    /// Another try.
    Pausing {
        /// When.
        until: Millis,
    },
    /// The control topic's end.
    Reading(Lane),
}

/// The client to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Candidate {
    /// The newer target is not known yet; the gate is closed.
    Wanted {
        /// When to look again.
        next_look: Millis,
    },
    /// Being connected.
    Connecting(Lane),
    /// Could not be connected.
    Pausing {
        /// When to try again.
        until: Millis,
    },
}

/// How far a client is shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seal {
    /// Not at all.
    Open,
    /// Not yet: `Overlap` looks once more before it swaps the gates.
    OpenAsking {
        /// The look.
        look: LookId,
    },
    /// The gate is closed, reports are coming in.
    Flushing {
        /// The flush.
        id: SealId,
        /// When the gate was closed.
        began: Millis,
    },
    /// The flush ran out of time.
    Purging {
        /// The purge.
        id: SealId,
    },
    /// Nothing is outstanding.
    Settled,
    /// Nothing is outstanding, and the target is read once more before the first offer.
    Asking {
        /// The look.
        look: LookId,
    },
}

/// One stretch with a closed gate, over however many clusters it leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Journey {
    pub(super) from: ClusterId,
    pub(super) began: Millis,
}

/// The machine of one producer's switch: what happened goes in, what to do comes out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Switch {
    pub(super) policy: SwitchPolicy,
    pub(super) newest: Option<Target>,
    pub(super) fences: KnownFences,
    pub(super) state: State,
    pub(super) journey: Option<Journey>,
    /// When "nothing is under way" was last looked up.
    pub(super) looked_at: Option<Millis>,
    /// The look that refusals wait for.
    pub(super) refusal_look: Option<LookId>,
    /// How often in a row a slow cluster was gone back to.
    pub(super) returns: u32,
    /// Tries in a row that failed.
    pub(super) failures: u32,
    /// No move before this instant.
    pub(super) not_before: Millis,
    pub(super) last_id: u64,
    // What the outputs have done so far, for the invariants.
    pub(super) open: Option<LaneId>,
    pub(super) unsettled: BTreeSet<LaneId>,
    out: VecDeque<Output>,
    broken: Option<Violation>,
}

impl Switch {
    /// A switch that starts now.
    pub fn new(policy: SwitchPolicy, now: Millis) -> Self {
        let deadline = now.plus(policy.start_ms);
        Self {
            policy,
            newest: None,
            fences: KnownFences::default(),
            state: State::Starting { phase: Start::Wanted, deadline },
            journey: None,
            looked_at: None,
            refusal_look: None,
            returns: 0,
            failures: 0,
            not_before: now,
            last_id: 0,
            open: None,
            unsettled: BTreeSet::new(),
            out: VecDeque::new(),
            broken: None,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The newest target that it knows of.
    pub fn newest(&self) -> Option<&Target> {
        self.newest.as_ref()
    }

    /// Takes in what happened.
    ///
    /// # Errors
    /// [`Violation`]: an invariant is broken. The switch has closed its gate and stopped, and every later call says
    /// so again.
    pub fn handle(&mut self, now: Millis, input: &Input) -> Result<(), Violation> {
        if let Some(violation) = &self.broken {
            return Err(violation.clone());
        }
        self.learn(now, input);
        let stopped = State::Stopped { reason: String::new() };
        // The one place where states follow each other.
        let next = match std::mem::replace(&mut self.state, stopped) {
            State::Starting { phase, deadline } => self.starting(now, phase, deadline, input),
            State::Serving { lane, held } => self.serving(now, lane, held, input),
            State::Preparing { lane, candidate, seal } => self.preparing(now, lane, candidate, seal, input),
            State::Sealing { lane, next, seal, overlapped } => {
                self.sealing(now, lane, next, seal, overlapped, input)
            }
            State::Replaying { lane, left, look } => self.replaying(now, lane, left, look, input),
            State::Stopped { reason } => {
                self.stray(input);
                State::Stopped { reason }
            }
        };
        self.state = next;
        self.check();
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Output {
        self.out.pop_front().unwrap_or_else(|| Output::Wait(self.deadline()))
    }

    /// Target and fences are knowledge in every state.
    fn learn(&mut self, now: Millis, input: &Input) {
        match input {
            // A target of an older generation is a stale answer and moves nobody (L4).
            Input::Target(target)
                if self.newest.as_ref().is_none_or(|newest| Self::follows(newest, target)) =>
            {
                self.fences.learn_target(target);
                self.newest = Some(target.clone());
                self.not_before = now;
                self.returns = 0;
            }
            Input::Fences(said) => self.fences.learn(said, self.newest.as_ref()),
            Input::Looked { look } => {
                self.looked_at = Some(now);
                if self.refusal_look == Some(*look) {
                    self.refusal_look = None;
                }
            }
            _ => {}
        }
    }

    /// Whether a target comes after another one.
    fn follows(known: &Target, target: &Target) -> bool {
        let differs = known.generation != target.generation;
        known.generation < target.generation || (without(Control::OlderMoves) && differs)
    }

    /// Whether records are refused on a client's cluster, or are about to be.
    pub(super) fn is_fenced(&self, lane: &Lane) -> bool {
        self.fences.cover(&lane.target)
    }

    /// The same for a client by its name, if it is one that the machine has to do with now.
    pub fn is_under_fence(&self, lane: LaneId) -> Option<bool> {
        let lanes = match &self.state {
            State::Starting { phase: Start::Connecting(lane) | Start::Reading(lane), .. } => {
                [Some(lane), None]
            }
            State::Preparing { lane, candidate: Candidate::Connecting(next), .. } => [Some(lane), Some(next)],
            State::Serving { lane, .. } | State::Preparing { lane, .. } | State::Replaying { lane, .. } => {
                [Some(lane), None]
            }
            State::Sealing { lane, next, .. } => [Some(lane), Some(next)],
            State::Starting { .. } | State::Stopped { .. } => [None, None],
        };
        lanes.into_iter().flatten().find(|known| known.id == lane).map(|known| self.is_fenced(known))
    }

    /// The newer target to go to, if there is one that is not about to be closed again.
    pub(super) fn wanted(&self, lane: &Lane) -> Option<Target> {
        self.newest.clone().filter(|newest| Self::follows(&lane.target, newest) && !self.fences.cover(newest))
    }

    /// Whether a newer target is the cluster that this client is on, and the client is good for it.
    pub(super) fn can_adopt(lane: &Lane, target: &Target) -> bool {
        Self::is_good(lane) && lane.target.cluster_id == target.cluster_id
    }

    /// Whether a client may be offered anything again.
    pub(super) fn is_good(lane: &Lane) -> bool {
        !lane.tainted || without(Control::ReuseClient)
    }

    pub(super) fn back_off(&mut self) -> u64 {
        let doubled = self.policy.back_off_ms.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        doubled.min(self.policy.back_off_max_ms)
    }

    fn number(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn deadline(&self) -> Option<Millis> {
        match &self.state {
            State::Starting { phase: Start::Pausing { until }, deadline } => Some(*until.min(deadline)),
            State::Starting { deadline, .. } => Some(*deadline),
            State::Serving { lane, .. } => self.wanted(lane).map(|_| self.not_before),
            State::Preparing { candidate: Candidate::Wanted { next_look }, .. } => Some(*next_look),
            State::Preparing { candidate: Candidate::Pausing { until }, .. } => Some(*until),
            State::Preparing { .. }
            | State::Sealing { .. }
            | State::Replaying { .. }
            | State::Stopped { .. } => None,
        }
    }
}

/// What goes out, and what the invariants remember of it.
impl Switch {
    pub(super) fn notify(&mut self, event: SwitchEvent) {
        self.out.push_back(Output::Notify(event));
    }

    pub(super) fn emit(&mut self, output: Output) {
        self.out.push_back(output);
    }

    pub(super) fn connect(&mut self, target: Target) -> Lane {
        let lane = Lane { id: LaneId(self.number()), target, tainted: false };
        self.emit(Output::Connect { lane: lane.id, target: lane.target.clone() });
        lane
    }

    pub(super) fn look(&mut self) -> LookId {
        let look = LookId(self.number());
        self.emit(Output::Look { look });
        look
    }

    pub(super) fn flush(&mut self, lane: LaneId, deadline: Millis) -> SealId {
        let seal = SealId(self.number());
        self.emit(Output::Flush { seal, lane, deadline });
        seal
    }

    pub(super) fn purge(&mut self, lane: LaneId) -> SealId {
        let seal = SealId(self.number());
        self.emit(Output::Purge { seal, lane });
        seal
    }

    /// Closes a gate and begins its flush.
    pub(super) fn shut(&mut self, now: Millis, lane: &Lane, cause: SealCause, flush_ms: u64) -> Seal {
        let cluster_id = lane.target.cluster_id.clone();
        if self.journey.is_none() {
            self.journey = Some(Journey { from: cluster_id.clone(), began: now });
            self.notify(SwitchEvent::Sealed { cluster_id, cause });
        }
        if self.open == Some(lane.id) {
            self.open = None;
        }
        self.emit(Output::CloseGate { lane: lane.id });
        if without(Control::NoFlush) {
            self.mark_settled(lane.id);
            return Seal::Settled;
        }
        Seal::Flushing { id: self.flush(lane.id, now.plus(flush_ms)), began: now }
    }

    pub(super) fn mark_settled(&mut self, lane: LaneId) {
        self.unsettled.remove(&lane);
    }

    pub(super) fn offer(&mut self, lane: &Lane, left: LaneId, settled: bool) {
        self.must(!lane.tainted, "nothing is offered to a tainted client", lane);
        self.unsettled.insert(lane.id);
        self.emit(Output::Offer { lane: lane.id, left, settled });
    }

    pub(super) fn open_gate(&mut self, lane: &Lane) {
        self.must(!lane.tainted, "no gate opens on a tainted client", lane);
        self.must(self.open.is_none() || self.open == Some(lane.id), "one gate is open at a time", lane);
        self.unsettled.insert(lane.id);
        self.open = Some(lane.id);
        self.emit(Output::OpenGate { lane: lane.id });
    }

    pub(super) fn discard(&mut self, lane: LaneId) {
        if self.unsettled.contains(&lane) {
            self.violated("a client is dropped only with nothing outstanding (L1)", format!("{lane:?}"));
            return;
        }
        self.emit(Output::Discard { lane });
    }

    /// A client that nobody waits for any more has connected after all.
    pub(super) fn stray(&mut self, input: &Input) {
        if let Input::Connected { lane, .. } = input {
            self.discard(*lane);
        }
    }

    pub(super) fn receipt(&mut self, now: Millis, lane: &Lane) -> SwitchReceipt {
        let to = lane.target.cluster_id.clone();
        let journey = self.journey.take();
        let (from, sealed_ms) =
            journey.map_or((to.clone(), 0), |journey| (journey.from, now.since(journey.began)));
        SwitchReceipt { generation: lane.target.generation, from, to, sealed_ms }
    }
}

/// The invariants. A broken one stops the switch: its gate closes, and nothing is offered any more.
impl Switch {
    fn must(&mut self, holds: bool, invariant: &'static str, lane: &Lane) {
        if !holds {
            self.violated(invariant, format!("{lane:?}"));
        }
    }

    fn violated(&mut self, invariant: &'static str, detail: String) {
        self.broken.get_or_insert(Violation { invariant, detail });
    }

    fn check(&mut self) {
        let should_be_open = match &self.state {
            State::Serving { lane, .. } => Some(lane.id),
            State::Preparing { lane, seal: Seal::Open, .. } => Some(lane.id),
            State::Sealing { lane, seal: Seal::OpenAsking { .. }, .. } => Some(lane.id),
            State::Sealing { next, overlapped: true, .. } => Some(next.id),
            // In `Overlap` the gate stays open while what failed on the old cluster is sent on.
            State::Replaying { lane, .. } if self.policy.order == Order::Overlap => {
                self.open.filter(|open| *open == lane.id)
            }
            State::Preparing { .. } | State::Sealing { .. } | State::Replaying { .. } => None,
            State::Starting { .. } | State::Stopped { .. } => None,
        };
        if self.open != should_be_open {
            let detail = format!("open {:?} in {:?}", self.open, self.state);
            self.violated("the gate is open exactly where the state says so", detail);
        }
        if self.policy.order == Order::Ordered && self.unsettled.len() > 1 {
            let detail = format!("unsettled {:?}", self.unsettled);
            self.violated(
                "everything is settled on one cluster before the next is offered anything (G3)",
                detail,
            );
        }
        if let State::Serving { lane, .. } = &self.state
            && self.newest.as_ref().is_none_or(|newest| newest.generation < lane.target.generation)
        {
            let detail = format!("{lane:?}, newest {:?}", self.newest);
            self.violated("a client serves a target that was named", detail);
        }
        if let Some(violation) = &self.broken {
            let reason = violation.to_string();
            if let Some(lane) = self.open.take() {
                self.out.push_back(Output::CloseGate { lane });
            }
            // What was about to be done rests on a state that cannot be trusted; closing the gate is always safe.
            self.out.retain(|output| matches!(output, Output::CloseGate { .. }));
            self.out.push_back(Output::Notify(SwitchEvent::Stopped { reason: reason.clone() }));
            self.state = State::Stopped { reason };
        }
    }
}
