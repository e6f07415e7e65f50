//! Rolling back: a barrier on the cluster that is left alone.
//!
//! Whoever wrote there had left the other cluster before the fence stood, and writes on that other one again only after
//! the new generation is published. So any end of it that is read in between separates the two, and it need not be
//! fenced itself.

use std::collections::BTreeMap;

use super::back::MadeAnew;
use super::steps::unexpected;
use super::way_back::{Barrier, Rollback, WayBack};
use super::{
    Answer, Cause, Command, Cutover, Draft, Event, FencePolicy, Next, Redirected, State, Stop, back, decide,
};
use crate::chain::ClosedBy;
use crate::controls::{Control, without};
use crate::drain::ReadOut;
use crate::ports::PartitionEnd;
use crate::words::{Millis, Offset, TopicPartition};

/// What a person is told who wants to get out in the middle of the publication.
pub(super) const SWITCHING: &str = "the endpoints are being switched, and some may be already";

/// Partitions that a note names.
const NAMED: usize = 10;

/// What rests on the final ends of the cluster that is left, in its order.
const BARRIER: [Rollback; 5] =
    [Rollback::Chain, Rollback::Reopen, Rollback::Publish, Rollback::Announce, Rollback::Converge];

/// The step after one of [`BARRIER`], or its first.
fn following(step: Option<&Rollback>) -> Rollback {
    let mut order = BARRIER;
    if without(Control::PublishFirst) {
        order[..4].rotate_left(2);
    }
    if without(Control::LiftFirst) {
        order.swap(0, 1);
    }
    let at = step.and_then(|step| order.iter().position(|known| known == step)).map_or(0, |at| at + 1);
    order.get(at).cloned().unwrap_or(Rollback::Converge)
}

/// A step came to a part of the rollback that is not its own.
fn misled(step: &Rollback) -> Next {
    Next::Stop(Stop::Broken(format!("a rollback's step {step:?} was taken elsewhere")))
}

impl Cutover {
    /// The same machine, which sets out anew if the last cutover was rolled back. Without this it stays rolled back: who
    /// went back did not mean to be taken there again by the next restart.
    #[must_use]
    pub fn again(mut self) -> Self {
        if matches!(self.progress.state, State::RolledBack(_)) {
            self.progress.cutover += 1;
            self.progress.state = State::Planned;
        }
        self
    }

    /// Begins a rollback where there is a way back; before the publication, an abort.
    pub(super) fn ask_rollback(&mut self, now: Millis, reason: &str) {
        if self.progress.state.undo(reason).is_some() {
            return self.ask_abort(now, reason);
        }
        self.rollback = Some(reason.to_owned());
        if self.boot == super::Boot::Running {
            self.heed_rollback(now);
        }
    }

    /// Sets out on the way back that was asked for, if this state has one. In the middle of the publication it is not
    /// known whether there is anything to go back from: it waits for that.
    pub(super) fn heed_rollback(&mut self, now: Millis) {
        match self.begin_rollback() {
            Some(state) => {
                self.pending = None;
                self.goto(now, state);
            }
            None if matches!(self.progress.state, State::Redirecting(..)) => {
                let text = format!("{SWITCHING}: the rollback waits until all are");
                self.notify(Event::Note { text });
            }
            None => {
                self.rollback = None;
                let text = format!("{} cannot be rolled back; it goes on", self.progress.state.name());
                self.notify(Event::Note { text });
            }
        }
    }

    /// What a rollback that was asked for, and has not begun, would go back from.
    pub(super) fn way_back_wanted(&self) -> Option<(Redirected, bool)> {
        self.rollback.as_ref().and_then(|_| self.progress.state.way_back())
    }

    /// The first step of the way back that was asked for.
    pub(super) fn begin_rollback(&mut self) -> Option<State> {
        let (redirected, isolated) = self.progress.state.way_back()?;
        let reason = self.rollback.take()?;
        let target = decide::target_back(&redirected);
        let barrier = match self.plan.fence {
            FencePolicy::Required => Barrier::Fence,
            FencePolicy::Waived => Barrier::Quiet,
        };
        let drained =
            matches!(self.progress.state, State::Soaking(_) | State::Isolating(..) | State::Retiring(..));
        let way = WayBack {
            redirected,
            target,
            isolated,
            barrier,
            drained,
            born_away: BTreeMap::new(),
            arrivals: Vec::new(),
            patient: false,
            mute: false,
            behind: 0,
            read_out: ReadOut::default(),
            reason,
        };
        Some(State::RollingBack(way, Rollback::Topics))
    }

    pub(super) fn rolling_back(&mut self, way: WayBack, step: Rollback, cause: Cause) -> Next {
        match step {
            Rollback::Topics | Rollback::LookAway | Rollback::GroupsAway | Rollback::LookHome => {
                self.looking_back(way, &step, cause)
            }
            Rollback::Intent | Rollback::Raise | Rollback::Prove | Rollback::Ends(_) => {
                self.raising_barrier(way, step, cause)
            }
            Rollback::Chain | Rollback::Reopen | Rollback::Publish | Rollback::Announce => {
                self.going_back(way, step, cause)
            }
            Rollback::Converge
            | Rollback::Quiet(_)
            | Rollback::QuietChain
            | Rollback::Drain
            | Rollback::FenceAgain
            | Rollback::Ttl => self.settling_back(way, step, cause),
            Rollback::SourcesAway
            | Rollback::SourcesHome
            | Rollback::SinksAway
            | Rollback::SinksHome
            | Rollback::ConnectorsGone => self.connectors_back(way, step, cause),
            Rollback::Ask(failed) => match cause {
                Cause::Enter => Next::Run(Command::ReadMembers { on: vec![way.away().clone()] }),
                Cause::Answer(_) => self.answers_after_all(way, *failed),
            },
        }
    }

    /// What has to be so before anybody is kept from writing.
    fn looking_back(&mut self, mut way: WayBack, step: &Rollback, cause: Cause) -> Next {
        let topics = way.redirected.prepared.verified.topic_names();
        let (home, away) = (way.home().clone(), way.away().clone());
        let to = |way, step| Next::Goto(State::RollingBack(way, step));
        match (step, cause) {
            (Rollback::Topics, Cause::Enter) => {
                let raised = way.redirected.prepared.draft.raised;
                Next::Run(Command::MatchTopics {
                    old: away,
                    new: home,
                    topics,
                    strict: false,
                    raised,
                    named: None,
                })
            }
            (Rollback::Topics, Cause::Answer(Answer::TopicsMatched { notes, there, .. })) => {
                let known = &mut way.redirected.prepared.verified.topics;
                let now = self.plan.moving(&there);
                let closing = way.redirected.target.generation;
                if let Some(why) = back::gone(&self.progress.chain, closing, known, &now, away.colour) {
                    return Next::Hold(why);
                }
                // What was made there since goes back like the others.
                let grown = *known != now;
                *known = now;
                if grown {
                    return to(way, Rollback::Topics);
                }
                notes.into_iter().for_each(|text| self.notify(Event::Note { text }));
                to(way, Rollback::LookAway)
            }
            (Rollback::LookAway, Cause::Enter) => Next::Run(Command::ReadEnds { old: away, topics }),
            // Nobody is kept from writing there before it is known that what they wrote can be closed.
            (Rollback::LookAway, Cause::Answer(Answer::Ends { ends })) => {
                match back::close(&self.progress.chain, &way, &ends, ClosedBy::Fence) {
                    Ok(_) => to(way, Rollback::GroupsAway),
                    Err(why) => Next::Hold(why),
                }
            }
            (Rollback::GroupsAway, Cause::Enter) => Next::Run(Command::ListGroups { old: away }),
            (Rollback::GroupsAway, Cause::Answer(Answer::Groups { listed, .. })) => {
                way.born_away(&self.plan, &listed);
                to(way, Rollback::LookHome)
            }
            (Rollback::LookHome, Cause::Enter) => Next::Run(Command::ReadEnds { old: home, topics }),
            (Rollback::LookHome, Cause::Answer(Answer::Ends { ends })) => {
                let topics = &way.redirected.prepared.verified.topics;
                if let Err(why) = back::open(&self.progress.chain, &way, topics, &ends) {
                    return Next::Hold(why);
                }
                way.arrive(&self.progress.chain, &ends);
                // Whatever was looked after before was about the other cluster.
                self.freshened = None;
                let onwards = match way.barrier {
                    // Its connectors are as dead as it is.
                    Barrier::Lost => Rollback::Intent,
                    Barrier::Fence | Barrier::Quiet => way.before_intent(),
                };
                to(way, onwards)
            }
            (_, Cause::Answer(other)) => unexpected(&other),
            (step, Cause::Enter) => misled(step),
        }
    }

    fn raising_barrier(&mut self, way: WayBack, step: Rollback, cause: Cause) -> Next {
        let topics = way.redirected.prepared.verified.topic_names();
        let (home, away) = (way.home().clone(), way.away().clone());
        let to = |way, step| Next::Goto(State::RollingBack(way, step));
        match (step, cause) {
            (Rollback::Intent, Cause::Enter) => Next::Run(Command::WriteIntent {
                intent: way.intent(),
                unmark: way.isolated.then(|| way.redirected.mark()),
                nonce: self.act_nonce(),
                claim: self.nonce.clone(),
                on: home,
                also: away,
            }),
            (Rollback::Intent, Cause::Answer(Answer::Done)) => match way.barrier {
                Barrier::Fence => to(way, Rollback::Raise),
                Barrier::Quiet | Barrier::Lost => to(way, Rollback::Ends(Vec::new())),
            },
            (Rollback::Raise, Cause::Enter) => {
                Next::Run(Command::RaiseFence { old: away, on: way.within_reach(), topics })
            }
            (Rollback::Raise, Cause::Answer(Answer::FenceRaised { .. })) => to(way, Rollback::Prove),
            (Rollback::Prove, Cause::Enter) => Next::Run(Command::ProveFence { old: away, topics }),
            (Rollback::Prove, Cause::Answer(Answer::FenceProven { proof })) => {
                self.notify(Event::FenceProven { kind: proof.kind, partitions: proof.ends.len() });
                to(way, Rollback::Ends(proof.ends))
            }
            (Rollback::Ends(_), Cause::Enter) => Next::Run(Command::ReadEnds { old: home, topics }),
            (Rollback::Ends(final_ends), Cause::Answer(Answer::Ends { ends })) => {
                self.separate(way, &final_ends, &ends)
            }
            (_, Cause::Answer(other)) => unexpected(&other),
            (step, Cause::Enter) => misled(&step),
        }
    }

    /// Closes what is left, and opens what is gone back to where it stands.
    fn separate(&mut self, mut way: WayBack, away: &[PartitionEnd], home: &[PartitionEnd]) -> Next {
        match back::separate(&self.progress.chain, &way, away, home) {
            Ok((chain, topics, anew)) => {
                self.progress.chain = chain;
                self.note_made_anew(&anew);
                way.redirected.prepared.verified.topics = topics;
                if way.barrier == Barrier::Fence {
                    let generation = way.closing();
                    let verified = &way.redirected.prepared.verified;
                    let records = decide::closed_records(&self.progress.chain, generation, verified);
                    self.notify(Event::Closed { generation, partitions: away.len(), records });
                }
                Next::Goto(State::RollingBack(way, following(None)))
            }
            // It could be done when it was looked at: topics have changed since.
            Err(_) if way.barrier == Barrier::Fence => Next::Goto(State::RollingBack(way, Rollback::Topics)),
            Err(why) => Next::Hold(why),
        }
    }

    /// What a topic held that was deleted is gone, whoever did it, and nobody is kept from going back for it.
    fn note_made_anew(&mut self, anew: &[MadeAnew]) {
        if anew.is_empty() {
            return;
        }
        let named: Vec<String> = anew.iter().take(NAMED).map(ToString::to_string).collect();
        let more = match anew.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let text = format!(
            "deleted and made anew: {}{more}; what was there unread is gone, and order across it is not promised; the chain goes \
             on with all that the new logs hold",
            named.join(", ")
        );
        self.notify(Event::Note { text });
    }

    fn going_back(&mut self, way: WayBack, step: Rollback, cause: Cause) -> Next {
        let on = way.within_reach();
        match (&step, cause) {
            (Rollback::Chain, Cause::Enter) => {
                return Next::Run(Command::WriteChain { on, chain: self.progress.chain.clone() });
            }
            (Rollback::Reopen, Cause::Enter) => return Next::Run(self.reopen(&way, true)),
            (Rollback::Publish, Cause::Enter) => {
                return Next::Run(Command::Publish {
                    target: way.target.clone(),
                    to: way.home().clone(),
                    nonce: self.act_nonce(),
                });
            }
            (Rollback::Announce, Cause::Enter) => {
                return Next::Run(Command::Announce { target: way.target, on });
            }
            (Rollback::Publish, Cause::Answer(Answer::Done)) => {
                self.progress.published = Some(way.target.clone());
                self.notify(Event::Published { target: way.target.clone() });
            }
            (_, Cause::Answer(Answer::Done)) => {}
            (_, Cause::Answer(other)) => return unexpected(&other),
            (step, Cause::Enter) => return misled(step),
        }
        let onwards = match following(Some(&step)) {
            Rollback::Converge => way.after_announcement(),
            onwards => onwards,
        };
        Next::Goto(State::RollingBack(way, onwards))
    }

    fn reopen(&self, way: &WayBack, prove: bool) -> Command {
        Command::Reopen {
            on: way.home().clone(),
            topics: Some(way.redirected.prepared.verified.topic_names()),
            isolations: self.shut.isolations(&way.home().id),
            prove,
        }
    }

    fn settling_back(&mut self, way: WayBack, step: Rollback, cause: Cause) -> Next {
        let to = |way, step| Next::Goto(State::RollingBack(way, step));
        let topics = way.redirected.prepared.verified.topic_names();
        match (step, cause) {
            (Rollback::Converge, Cause::Enter) => Next::Run(Command::ReadMembers { on: way.heard() }),
            (Rollback::Converge, Cause::Answer(Answer::Done)) => Next::After(self.plan.timings.poll_ms),
            (Rollback::Converge, Cause::Answer(Answer::Members { by_cluster })) => {
                let (moved, of, waiting) =
                    decide::convergence(&by_cluster, &way.target, &self.plan.waived_members);
                let all = waiting.is_empty();
                self.notify(Event::Moved { moved, of, waiting });
                let reopen = self.reopen(&way, false);
                let onwards = way.after_convergence();
                let onwards = State::RollingBack(way, onwards);
                if all {
                    return Next::Goto(onwards);
                }
                match self.until(self.plan.timings.converge_ms, onwards) {
                    Next::After(_) if !without(Control::LateActsStay) => Next::Run(reopen),
                    next => next,
                }
            }
            (Rollback::Quiet(_), Cause::Enter) => {
                Next::Run(Command::ReadEnds { old: way.away().clone(), topics })
            }
            (Rollback::Quiet(before), Cause::Answer(Answer::Ends { ends })) => {
                self.quiet_back(way, &before, &ends)
            }
            (Rollback::QuietChain, Cause::Enter) => {
                Next::Run(Command::WriteChain { on: way.within_reach(), chain: self.progress.chain.clone() })
            }
            (Rollback::QuietChain, Cause::Answer(Answer::Done)) => match way.barrier {
                Barrier::Lost => {
                    let onwards = way.after_drain();
                    to(way, onwards)
                }
                Barrier::Fence | Barrier::Quiet => {
                    let onwards = way.before_drain();
                    to(way, onwards)
                }
            },
            (Rollback::Drain, cause) => self.draining_back(way, cause),
            (Rollback::FenceAgain, Cause::Enter) => {
                Next::Run(Command::RaiseFence { old: way.away().clone(), on: way.within_reach(), topics })
            }
            (Rollback::FenceAgain, Cause::Answer(Answer::FenceRaised { .. })) => {
                Next::Run(Command::ProveFence { old: way.away().clone(), topics })
            }
            (Rollback::FenceAgain, Cause::Answer(Answer::FenceProven { .. })) => to(way, Rollback::Drain),
            (Rollback::Ttl, Cause::Enter) if !without(Control::LateActsStay) => {
                Next::Run(self.reopen(&way, false))
            }
            (Rollback::Ttl, Cause::Enter | Cause::Answer(Answer::Done)) => {
                let Draft { old_ttl_s, old_ttls: each, .. } = way.redirected.prepared.draft;
                Next::Run(Command::SetTtl { ttl_s: (old_ttl_s > 0).then_some(old_ttl_s), each })
            }
            (Rollback::Ttl, Cause::Answer(Answer::TtlSet { .. })) => {
                Next::Goto(State::RolledBack(way.reason))
            }
            (_, Cause::Answer(other)) => unexpected(&other),
            (step, Cause::Enter) => misled(&step),
        }
    }

    fn quiet_back(
        &mut self,
        way: WayBack,
        before: &[(TopicPartition, Offset)],
        ends: &[PartitionEnd],
    ) -> Next {
        let now: Vec<(TopicPartition, Offset)> =
            ends.iter().map(|end| (end.place.clone(), end.high_watermark)).collect();
        if now != before {
            return Next::Goto(State::RollingBack(way, Rollback::Quiet(now)));
        }
        match self.quiet(ends) {
            Next::Goto(_) => {}
            wait => return wait,
        }
        match back::close(&self.progress.chain, &way, ends, ClosedBy::Quiet) {
            Ok((chain, _, anew)) => {
                self.progress.chain = chain;
                self.note_made_anew(&anew);
                Next::Goto(State::RollingBack(way, Rollback::QuietChain))
            }
            Err(why) => Next::Hold(why),
        }
    }

    /// As a cutover's drain, of the cluster that was left.
    fn draining_back(&mut self, mut way: WayBack, cause: Cause) -> Next {
        let (listed, mut seen) = match cause {
            Cause::Enter => {
                let prepared = &way.redirected.prepared;
                return Next::Run(Command::ObserveDrain {
                    old: way.away().clone(),
                    groups: prepared.draft.groups.clone(),
                    partitions: prepared.verified.partitions(),
                });
            }
            Cause::Answer(Answer::Drain { seen, listed }) => (listed, seen),
            Cause::Answer(other) => return unexpected(&other),
        };
        let prepared = &mut way.redirected.prepared;
        let known = prepared.draft.groups.clone();
        if decide::late_groups(&self.plan, &mut prepared.draft, &listed, &prepared.verified.topics) {
            let mut late = prepared.draft.groups.clone();
            self.notify(Event::GroupsRequired { groups: late.len() });
            late.retain(|group, _| !known.contains_key(group) && !way.born_away.contains_key(group));
            let starts = self.starts_of(&way.target);
            way.expect(late, starts);
            self.freshened = None;
            return Next::Goto(State::RollingBack(way, Rollback::Drain));
        }
        let verified = &way.redirected.prepared.verified;
        let behind = decide::leave_behind(&self.progress.chain, way.closing(), verified, &mut seen);
        if behind > way.behind {
            way.behind = behind;
            if way.barrier == Barrier::Fence {
                return Next::Goto(State::RollingBack(way, Rollback::FenceAgain));
            }
        }
        let closing = way.closing();
        let verdict = self.judge(closing, &way.redirected.prepared, &mut way.read_out, &seen);
        if !verdict.is_drained() {
            self.keep(State::RollingBack(way, Rollback::Drain));
            return verdict.broken_end().map_or(Next::After(self.plan.timings.poll_ms), Next::Hold);
        }
        if way.behind > 0 {
            let text = format!(
                "{} records came to {} behind its closed ends: nothing reads them in order before its next segment, which \
                 begins with them; keep it until then",
                way.behind,
                way.away().colour
            );
            self.notify(Event::Note { text });
        }
        let onwards = way.after_drain();
        Next::Goto(State::RollingBack(way, onwards))
    }
}
