//! What each state of the [`Switch`] does with an input. Every function takes a state apart and gives the next one.

use super::candidate::FATAL;
use super::io::{Input, Lane, LaneId, LookId, Output, SealCause, SwitchEvent};
use super::machine::{Candidate, Seal, Start, State, Switch};
use super::policy::Order;
use crate::controls::{Control, without};
use crate::owner::Target;
use crate::words::Millis;

impl Switch {
    pub(super) fn starting(&mut self, now: Millis, phase: Start, deadline: Millis, input: &Input) -> State {
        if now >= deadline {
            return self.start_failed(phase, input);
        }
        let newest = self.newest.clone();
        let phase = match (phase, input) {
            (Start::Wanted, _) => match newest {
                Some(target) => Start::Connecting(self.connect(target)),
                None => Start::Wanted,
            },
            (Start::Connecting(mut lane), Input::Connected { lane: id, cluster_id }) if *id == lane.id => {
                if self.is_fit(&mut lane, cluster_id) {
                    self.emit(Output::ReadControl { lane: lane.id });
                    Start::Reading(lane)
                } else {
                    Start::Pausing { until: now.plus(self.back_off()) }
                }
            }
            (Start::Connecting(lane), Input::ConnectFailed { lane: id, error }) if *id == lane.id => {
                self.candidate_failed(&lane.target, error.to_string());
                Start::Pausing { until: now.plus(self.back_off()) }
            }
            (Start::Connecting(mut lane), Input::Fatal { lane: id }) if *id == lane.id => {
                lane.tainted = true;
                Start::Connecting(lane)
            }
            (Start::Connecting(lane), _) => {
                self.stray(input);
                match newest.filter(|newest| newest.generation > lane.target.generation) {
                    Some(target) => Start::Connecting(self.connect(target)),
                    None => Start::Connecting(lane),
                }
            }
            (Start::Pausing { until }, _) => {
                self.stray(input);
                match newest.filter(|_| now >= until) {
                    Some(target) => Start::Connecting(self.connect(target)),
                    None => Start::Pausing { until },
                }
            }
            (Start::Reading(mut lane), Input::ControlRead { lane: id }) if *id == lane.id => {
                match self.wanted(&lane) {
                    Some(target) if !Self::can_adopt(&lane, &target) => {
                        self.discard(lane.id);
                        Start::Connecting(self.connect(target))
                    }
                    newer => {
                        lane.target = newer.unwrap_or(lane.target);
                        self.open_gate(&lane);
                        self.failures = 0;
                        self.notify(SwitchEvent::Started { target: lane.target.clone() });
                        return self.move_on(now, lane, false);
                    }
                }
            }
            (Start::Reading(lane), Input::Fatal { lane: id }) if *id == lane.id => {
                self.candidate_failed(&lane.target, FATAL.into());
                self.discard(lane.id);
                Start::Pausing { until: now.plus(self.back_off()) }
            }
            (phase @ Start::Reading(_), _) => {
                self.stray(input);
                phase
            }
        };
        State::Starting { phase, deadline }
    }

    fn start_failed(&mut self, phase: Start, input: &Input) -> State {
        self.stray(input);
        let waited_for = match phase {
            Start::Wanted => "no target was found in owner record or control topic".to_owned(),
            Start::Connecting(lane) => format!("{} cluster did not answer", lane.target.colour),
            Start::Pausing { .. } => "the cluster could not be connected".to_owned(),
            Start::Reading(lane) => {
                self.discard(lane.id);
                "the control topic was not read in time".to_owned()
            }
        };
        let reason = format!("not started within {} ms: {waited_for}", self.policy.start_ms);
        self.notify(SwitchEvent::Stopped { reason: reason.clone() });
        State::Stopped { reason }
    }

    pub(super) fn serving(&mut self, now: Millis, mut lane: Lane, held: bool, input: &Input) -> State {
        let held = match input {
            Input::Fatal { lane: id } if *id == lane.id => {
                lane.tainted = true;
                let target = self.wanted(&lane).unwrap_or_else(|| lane.target.clone());
                let seal = self.shut(now, &lane, SealCause::Fatal, self.policy.purge_ms);
                let candidate = Candidate::Connecting(self.connect(target));
                return State::Preparing { lane, candidate, seal };
            }
            Input::Refused { lane: id } if *id == lane.id => true,
            _ => held,
        };
        if held && self.is_fenced(&lane) {
            return self.shut_for_fence(now, lane);
        }
        let waits = match (held, input) {
            _ if self.wanted(&lane).is_some() => held,
            (true, Input::Refused { .. }) if self.refusal_look.is_some() => true,
            (true, Input::Refused { .. }) if !self.looked_lately(now) => {
                self.refusal_look = Some(self.look());
                true
            }
            (true, Input::Refused { .. } | Input::Looked { .. }) if self.refusal_look.is_none() => {
                self.emit(Output::ReturnHeld);
                false
            }
            _ => held,
        };
        self.stray(input);
        self.move_on(now, lane, waits)
    }

    /// Serves, and sets out for a newer target if there is one.
    fn move_on(&mut self, now: Millis, mut lane: Lane, held: bool) -> State {
        let Some(target) = self.wanted(&lane) else { return State::Serving { lane, held } };
        if Self::can_adopt(&lane, &target) {
            self.adopt(now, &mut lane, target);
            return State::Serving { lane, held };
        }
        if now < self.not_before {
            return State::Serving { lane, held };
        }
        self.notify(SwitchEvent::Preparing { target: target.clone() });
        let candidate = Candidate::Connecting(self.connect(target));
        State::Preparing { lane, candidate, seal: Seal::Open }
    }

    /// Serves on after a preparation that came to nothing. Records may have been held for it: find out what they mean.
    fn resume(&mut self, now: Millis, lane: Lane) -> State {
        if self.refusal_look.is_none() {
            self.refusal_look = Some(self.look());
        }
        self.move_on(now, lane, true)
    }

    fn adopt(&mut self, now: Millis, lane: &mut Lane, target: Target) {
        self.notify(SwitchEvent::Adopted { generation: target.generation });
        lane.target = target;
        let receipt = self.receipt(now, lane);
        self.emit(Output::SendReceipt(receipt));
    }

    fn looked_lately(&self, now: Millis) -> bool {
        self.looked_at.is_some_and(|at| now.since(at) < self.policy.look_ms)
    }

    /// A fence refuses: shut the client and look for where the controller wants us.
    fn shut_for_fence(&mut self, now: Millis, mut lane: Lane) -> State {
        lane.tainted = true;
        let seal = self.shut(now, &lane, SealCause::Fence, self.policy.purge_ms);
        let candidate = match self.wanted(&lane) {
            Some(target) => Candidate::Connecting(self.connect(target)),
            None => {
                self.look();
                Candidate::Wanted { next_look: now.plus(self.back_off()) }
            }
        };
        State::Preparing { lane, candidate, seal }
    }

    pub(super) fn preparing(
        &mut self,
        now: Millis,
        mut lane: Lane,
        candidate: Candidate,
        seal: Seal,
        input: &Input,
    ) -> State {
        let seal = match input {
            Input::Fatal { lane: id } if *id == lane.id => {
                lane.tainted = true;
                self.shut_if_open(now, &lane, seal, SealCause::Fatal)
            }
            Input::Refused { lane: id } if *id == lane.id && self.is_fenced(&lane) => {
                lane.tainted = true;
                self.shut_if_open(now, &lane, seal, SealCause::Fence)
            }
            _ => self.advance(now, &mut lane, seal, input),
        };
        let candidate = match (candidate, input) {
            (Candidate::Connecting(mut next), Input::Connected { lane: id, cluster_id })
                if *id == next.id =>
            {
                if !self.is_fit(&mut next, cluster_id) {
                    Candidate::Pausing { until: now.plus(self.back_off()) }
                } else if seal == Seal::Open && Self::can_adopt(&lane, &next.target) {
                    // The name leads to the cluster that we are on (L5).
                    self.discard(next.id);
                    self.adopt(now, &mut lane, next.target);
                    return self.resume(now, lane);
                } else {
                    return self.ready(now, lane, next, seal);
                }
            }
            (Candidate::Connecting(next), Input::ConnectFailed { lane: id, error }) if *id == next.id => {
                self.candidate_failed(&next.target, error.to_string());
                Candidate::Pausing { until: now.plus(self.back_off()) }
            }
            (Candidate::Connecting(mut next), Input::Fatal { lane: id }) if *id == next.id => {
                next.tainted = true;
                Candidate::Connecting(next)
            }
            (candidate, _) => {
                self.stray(input);
                candidate
            }
        };
        self.choose(now, lane, candidate, seal, input)
    }

    /// Looks at the candidate in the light of what is known now: a newer generation cancels it.
    fn choose(&mut self, now: Millis, lane: Lane, candidate: Candidate, seal: Seal, input: &Input) -> State {
        let newer = self.wanted(&lane);
        if seal == Seal::Open {
            let gone = newer.as_ref().is_none_or(|target| Self::can_adopt(&lane, target));
            if gone && !lane.tainted {
                // What we prepare for is not wanted any more, or is where we are.
                return self.resume(now, lane);
            }
        }
        // Without a newer target a shut client is replaced by a new one of the same cluster.
        let again = (!self.is_fenced(&lane)).then(|| lane.target.clone());
        let target = newer.or(again);
        let candidate = match (candidate, target) {
            (Candidate::Connecting(mut next), Some(target)) => {
                if next.target.generation == target.generation {
                    Candidate::Connecting(next)
                } else if next.target.cluster_id == target.cluster_id
                    && !target.cluster_id.as_str().is_empty()
                {
                    // Two targets that name no cluster may well lead to two.
                    next.target = target;
                    Candidate::Connecting(next)
                } else {
                    Candidate::Connecting(self.connect(target))
                }
            }
            (Candidate::Pausing { until }, Some(target)) => {
                if now >= until || matches!(input, Input::Target(_)) {
                    Candidate::Connecting(self.connect(target))
                } else {
                    Candidate::Pausing { until }
                }
            }
            (Candidate::Wanted { .. }, Some(target)) => Candidate::Connecting(self.connect(target)),
            (Candidate::Wanted { next_look }, None) if now < next_look => Candidate::Wanted { next_look },
            (_, None) => {
                self.look();
                Candidate::Wanted { next_look: now.plus(self.back_off()) }
            }
        };
        State::Preparing { lane, candidate, seal }
    }

    /// The candidate is connected.
    fn ready(&mut self, now: Millis, lane: Lane, next: Lane, seal: Seal) -> State {
        let seal = match (seal, self.policy.order) {
            (Seal::Open, Order::Overlap) => Seal::OpenAsking { look: self.look() },
            (Seal::Open, Order::Ordered) => self.shut(now, &lane, SealCause::Target, self.policy.seal_ms),
            (seal, _) => seal,
        };
        let seal = if seal == Seal::Settled { Seal::Asking { look: self.look() } } else { seal };
        State::Sealing { lane, next, seal, overlapped: false }
    }

    fn shut_if_open(&mut self, now: Millis, lane: &Lane, seal: Seal, cause: SealCause) -> Seal {
        if seal == Seal::Open { self.shut(now, lane, cause, self.policy.purge_ms) } else { seal }
    }

    /// Carries a flush or purge on.
    fn advance(&mut self, now: Millis, lane: &mut Lane, seal: Seal, input: &Input) -> Seal {
        match (seal, input) {
            (Seal::Flushing { id, .. }, Input::Flushed { seal, settled, .. })
                if id == *seal && (*settled || without(Control::FlushNotReports)) =>
            {
                self.mark_settled(lane.id);
                Seal::Settled
            }
            (Seal::Flushing { id, began }, Input::Flushed { seal, .. }) if id == *seal => {
                let since = if without(Control::SealUnbounded) { now } else { began };
                let purge_at = since.plus(self.policy.purge_ms);
                if now < purge_at {
                    return Seal::Flushing { id: self.flush(lane.id, purge_at), began };
                }
                lane.tainted = true;
                self.notify(SwitchEvent::Purged { cluster_id: lane.target.cluster_id.clone() });
                Seal::Purging { id: self.purge(lane.id) }
            }
            (Seal::Purging { id }, Input::Purged { seal }) if id == *seal => {
                self.mark_settled(lane.id);
                Seal::Settled
            }
            (seal, _) => seal,
        }
    }

    pub(super) fn sealing(
        &mut self,
        now: Millis,
        mut lane: Lane,
        mut next: Lane,
        seal: Seal,
        overlapped: bool,
        input: &Input,
    ) -> State {
        match input {
            Input::Refused { lane: id } | Input::Fatal { lane: id } => {
                lane.tainted |= *id == lane.id;
                next.tainted |= *id == next.id;
            }
            Input::Flushed { seal: id, settled: false, progress } => {
                let ours = matches!(seal, Seal::Flushing { id: ours, .. } if ours == *id);
                if ours && !overlapped && self.may_go_back(&lane, *progress) {
                    return self.go_back(now, lane, next, false);
                }
            }
            Input::Looked { look } => match seal {
                Seal::Asking { look: ours } if ours == *look => return self.decide(now, lane, next),
                Seal::OpenAsking { look: ours } if ours == *look => return self.overlap(now, lane, next),
                _ => {}
            },
            _ => self.stray(input),
        }
        let seal = match self.advance(now, &mut lane, seal, input) {
            Seal::Settled if overlapped => return self.overlapped_settled(now, lane, next),
            Seal::Settled => Seal::Asking { look: self.look() },
            seal => seal,
        };
        State::Sealing { lane, next, seal, overlapped }
    }

    /// Nothing was offered to the new cluster yet. The way back is open while nothing was purged, to a client that no
    /// fence has refused; for slowness alone only so often, and only to a cluster that lives.
    fn may_go_back(&self, lane: &Lane, progress: bool) -> bool {
        let home = self.wanted(lane).is_some_and(|target| Self::can_adopt(lane, &target));
        let slow = progress && self.returns < self.policy.returns;
        Self::is_good(lane) && !self.is_fenced(lane) && (home || slow)
    }

    fn go_back(&mut self, now: Millis, mut lane: Lane, next: Lane, settled: bool) -> State {
        self.discard(next.id);
        match self.wanted(&lane) {
            Some(target) if Self::can_adopt(&lane, &target) => lane.target = target,
            _ => {
                self.returns += 1;
                self.not_before = now.plus(self.back_off());
            }
        }
        self.notify(SwitchEvent::WentBack { cluster_id: lane.target.cluster_id.clone() });
        self.offer(&lane, lane.id, settled);
        let left = lane.id;
        State::Replaying { lane, left, look: None }
    }

    /// Everything is settled and the target was read once more: the last moment before the first offer.
    fn decide(&mut self, now: Millis, lane: Lane, mut next: Lane) -> State {
        let newer = self.wanted(&next);
        if let Some(target) = newer.clone().filter(|target| Self::can_adopt(&next, target)) {
            next.target = target;
        } else if newer.is_some() || self.is_fenced(&next) || next.tainted {
            if Self::is_good(&lane)
                && !self.is_fenced(&lane)
                && newer.is_none_or(|to| Self::can_adopt(&lane, &to))
            {
                return self.go_back(now, lane, next, true);
            }
            self.discard(next.id);
            let candidate = Candidate::Wanted { next_look: now };
            return self.choose(now, lane, candidate, Seal::Settled, &Input::Tick);
        }
        let left = lane.id;
        self.offer(&next, left, true);
        State::Replaying { lane: next, left, look: None }
    }

    /// `Overlap`: swaps the gates, then settles the old client.
    fn overlap(&mut self, now: Millis, lane: Lane, next: Lane) -> State {
        let wanted = self.wanted(&lane).is_some_and(|to| to.generation == next.target.generation);
        if !wanted || next.tainted {
            self.discard(next.id);
            if Self::is_good(&lane) {
                return self.resume(now, lane);
            }
            // It died, or was refused, while the target was being looked up: nothing more is offered to it.
            let cause = if self.is_fenced(&lane) { SealCause::Fence } else { SealCause::Fatal };
            let seal = self.shut(now, &lane, cause, self.policy.purge_ms);
            return self.choose(now, lane, Candidate::Wanted { next_look: now }, seal, &Input::Tick);
        }
        let seal = self.shut(now, &lane, SealCause::Target, self.policy.purge_ms);
        self.open_gate(&next);
        State::Sealing { lane, next, seal, overlapped: true }
    }

    fn overlapped_settled(&mut self, now: Millis, lane: Lane, next: Lane) -> State {
        if next.tainted {
            self.discard(lane.id);
            return self.shut_for_fence(now, next);
        }
        let left = lane.id;
        self.offer(&next, left, true);
        State::Replaying { lane: next, left, look: None }
    }

    pub(super) fn replaying(
        &mut self,
        now: Millis,
        mut lane: Lane,
        left: LaneId,
        look: Option<LookId>,
        input: &Input,
    ) -> State {
        let refused = match input {
            Input::Offered { lane: id } if *id == lane.id => return self.replayed(now, lane, left, look),
            Input::Fatal { lane: id } if *id == lane.id => {
                lane.tainted = true;
                self.leave(&lane, left);
                let target = self.wanted(&lane).unwrap_or_else(|| lane.target.clone());
                let seal = self.shut(now, &lane, SealCause::Fatal, self.policy.purge_ms);
                let candidate = Candidate::Connecting(self.connect(target));
                return State::Preparing { lane, candidate, seal };
            }
            Input::Refused { lane: id } => *id == lane.id,
            Input::Looked { look: id } => look == Some(*id),
            _ => {
                self.stray(input);
                false
            }
        };
        if !refused {
            return State::Replaying { lane, left, look };
        }
        if self.is_fenced(&lane) || self.wanted(&lane).is_some() {
            // The new cluster refuses in turn: the refused in send order, then the parked, go to the next.
            self.leave(&lane, left);
            return self.shut_for_fence(now, lane);
        }
        let look = match (look, input) {
            (Some(look), Input::Refused { .. }) => Some(look),
            (None, Input::Refused { .. }) if !self.looked_lately(now) => Some(self.look()),
            _ => {
                self.emit(Output::ReturnHeld);
                None
            }
        };
        State::Replaying { lane, left, look }
    }

    /// The client that was left is settled and its acknowledgements have been looked at: it can go.
    fn leave(&mut self, lane: &Lane, left: LaneId) {
        if left != lane.id {
            self.discard(left);
        }
    }

    fn replayed(&mut self, now: Millis, lane: Lane, left: LaneId, look: Option<LookId>) -> State {
        if self.open != Some(lane.id) {
            self.open_gate(&lane);
        }
        self.leave(&lane, left);
        self.failures = if left == lane.id { self.failures } else { 0 };
        let receipt = self.receipt(now, &lane);
        if left != lane.id {
            self.returns = 0;
            self.emit(Output::SendReceipt(receipt.clone()));
            self.notify(SwitchEvent::Switched { receipt });
        }
        // What was refused by report while the rest was taken waits for the same look.
        let held = look.is_some();
        self.refusal_look = look.or(self.refusal_look);
        self.move_on(now, lane, held)
    }
}
