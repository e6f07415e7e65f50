//! What becomes of a way back when the cluster that is left does not answer, or answers and does not do what is asked.

use super::way_back::{Barrier, Rollback, WayBack};
use super::{Boot, Cutover, Event, Fencing, Next, State};
use crate::error::{ErrorKind, ProviderError};
use crate::words::Millis;

impl Cutover {
    /// Whether it is asked if the cluster that is left answers at all, and an error of this kind says that it does.
    pub(super) fn is_answer(&self, kind: ErrorKind) -> bool {
        self.boot == Boot::Running && self.progress.state.asks() && !kind.is_silence()
    }

    /// The cluster that is left answers, and yet a step fails there: a leader is away. Another one is elected once the
    /// dead one's session has ended (18 s with ZooKeeper, 9 s with KRaft, by default), so there is a second time. Who waited
    /// any longer would leave nobody to write to, since the fence may stand there already.
    pub(super) fn answers_after_all(&mut self, mut way: WayBack, failed: Rollback) -> Next {
        match failed {
            Rollback::Raise | Rollback::Prove if way.patient => self.unproven(way),
            Rollback::GroupsAway => {
                let reason = self.hold.as_ref().map_or_else(String::new, |hold| hold.reason.clone());
                self.without_listing(way, &reason)
            }
            // Receipts are progress, and no proof.
            Rollback::Converge if way.patient => {
                let onwards = way.after_convergence();
                Next::Goto(State::RollingBack(way, onwards))
            }
            failed => {
                way.patient = true;
                self.progress.state = State::RollingBack(way, failed);
                self.entered = None;
                Next::After(self.plan.timings.retry_ms)
            }
        }
    }

    /// Producers go back although the fence is not proven.
    fn unproven(&mut self, mut way: WayBack) -> Next {
        let reason = self.hold.as_ref().map_or_else(String::new, |hold| hold.reason.clone());
        self.notify(Event::BarrierUnproven { generation: way.closing(), reason });
        way.barrier = Barrier::Quiet;
        Next::Goto(State::RollingBack(way, Rollback::Ends(Vec::new())))
    }

    /// A proof that was refused is taken again on a fence that is raised again: somebody may have taken it away.
    pub(super) fn raise_again(&mut self, error: &ProviderError) -> bool {
        if error.kind != ErrorKind::Refused {
            return false;
        }
        match &mut self.progress.state {
            State::Fencing(_, step @ Fencing::Prove) => *step = Fencing::Raise,
            State::RollingBack(_, step @ Rollback::Prove) => *step = Rollback::Raise,
            _ => return false,
        }
        true
    }

    /// The cluster that is left serves, and does not say which groups it has: nobody is kept there for that. The drain asks
    /// again, and groups that were born there get their start offsets then.
    fn without_listing(&mut self, way: WayBack, why: &str) -> Next {
        let colour = way.away().colour;
        let text = format!(
            "{colour} does not list its groups; those that only read there are looked after once it does ({why})"
        );
        self.notify(Event::Note { text });
        Next::Goto(State::RollingBack(way, Rollback::LookHome))
    }

    /// A cluster that is left and does not answer for too long is given up: there is no barrier to be had, or nobody to
    /// be told of it and to be drained.
    pub(super) fn give_up_barrier(&mut self, now: Millis, error: &ProviderError) {
        let State::RollingBack(way, step) = self.progress.state.clone() else { return };
        if self.stopped || way.barrier == Barrier::Lost {
            return;
        }
        let over = self.tried_for(now) >= self.plan.timings.barrier_ms;
        if !error.kind.is_silence() {
            return self.refused_back(now, way, step, over, error);
        }
        match step {
            Rollback::Ask(failed) => self.give_up(now, way, *failed, error),
            Rollback::Reopen
            | Rollback::Publish
            | Rollback::LookHome
            | Rollback::Ends(_)
            | Rollback::Intent
            | Rollback::Ttl => {}
            _ if !over => {}
            step => self.goto(now, State::RollingBack(way, Rollback::Ask(Box::new(step)))),
        }
    }

    /// How long a step has been tried: from its first try on, which may itself take long to fail, or from the first refusal of
    /// the proof for which the fence is raised again.
    fn tried_for(&self, now: Millis) -> u64 {
        let refused = self.hold.as_ref().filter(|hold| hold.refused).map(|hold| hold.since);
        now.since(self.entered.into_iter().chain(refused).min().unwrap_or(now))
    }

    /// The cluster that is left answers, if only to refuse. What no waiting mends (a fence that binds not everybody, or that it
    /// cannot have) is not waited for once the intent is said: the fence may stand in part, and nobody could write there.
    fn refused_back(&mut self, now: Millis, way: WayBack, step: Rollback, over: bool, error: &ProviderError) {
        let next = match step {
            Rollback::GroupsAway => self.without_listing(way, &error.to_string()),
            Rollback::Raise | Rollback::Prove if over => self.unproven(way),
            Rollback::Chain | Rollback::Announce if over && !way.mute => self.unsaid(way, step, error),
            _ => return,
        };
        if let Next::Goto(onwards) = next {
            self.goto(now, onwards);
        }
    }

    /// The cluster that is left does not take kutover's word, and its fence stands: nobody is kept from going home for that.
    fn unsaid(&mut self, mut way: WayBack, step: Rollback, error: &ProviderError) -> Next {
        let colour = way.away().colour;
        let text = format!(
            "{colour} does not take what it is told, and is told nothing more: producers there learn of the way back from DNS \
             alone ({error})"
        );
        self.notify(Event::Note { text });
        way.mute = true;
        Next::Goto(State::RollingBack(way, step))
    }

    fn give_up(&mut self, now: Millis, way: WayBack, failed: Rollback, error: &ProviderError) {
        let onwards = match failed {
            // Start offsets are set all the same: a group that read the cluster that is left may have none at home.
            Rollback::Topics | Rollback::LookAway | Rollback::GroupsAway => Rollback::LookHome,
            Rollback::SourcesAway => Rollback::Intent,
            Rollback::Raise | Rollback::Prove => Rollback::Ends(Vec::new()),
            Rollback::Chain | Rollback::Announce | Rollback::SourcesHome | Rollback::SinksHome => failed,
            _ => Rollback::QuietChain,
        };
        self.progress.chain.give_up(way.closing());
        self.notify(Event::BarrierLost { generation: way.closing(), reason: error.to_string() });
        self.goto(now, State::RollingBack(WayBack { barrier: Barrier::Lost, ..way }, onwards));
    }
}
