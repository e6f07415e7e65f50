//! From Redirecting to Draining: producers move, the old cluster is closed, groups read it to its end.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::steps::unexpected;
use super::{
    Answer, Cause, Closed, Command, Cutover, Draft, Event, FencePolicy, Fencing, Next, Preparation, Prepared,
    Progress, Redirected, Redirection, State, decide,
};
use crate::chain::ClosedBy;
use crate::controls::{Control, without};
use crate::drain::{self, DrainVerdict, Observation, ReadOut, Required};
use crate::owner::Target;
use crate::ports::{Incarnation, PartitionEnd};
use crate::words::{ClusterId, Generation, Offset, TopicId, TopicName, TopicPartition};

/// How many reasons an event carries.
const REASONS_SHOWN: usize = 10;
impl Cutover {
    pub(super) fn redirecting(
        &mut self,
        mut prepared: Prepared,
        step: Redirection,
        published: &Target,
        cause: Cause,
    ) -> Next {
        let both = prepared.verified.both();
        let to = |prepared, step| Next::Goto(State::Redirecting(prepared, step));
        match (step, cause) {
            (Redirection::Ids, cause) => {
                match self.separate_ids(&prepared.verified, prepared.draft.id_mark, cause) {
                    ControlFlow::Continue(mark) => {
                        let draft = Draft { id_mark: mark, ..prepared.draft };
                        to(Prepared { draft, ..prepared }, Redirection::Recheck)
                    }
                    ControlFlow::Break(next) => next,
                }
            }
            (Redirection::Recheck, Cause::Enter) => Next::Run(Command::Recheck {
                old: prepared.verified.old.incarnation.clone(),
                new: prepared.verified.new.incarnation.clone(),
                topics: prepared.verified.topic_names(),
                starts: self.starts_on(&prepared.verified.new.identity.cluster_id),
                groups: prepared.draft.groups,
                raised: prepared.draft.raised,
            }),
            (Redirection::Recheck, Cause::Answer(answer)) => self.rechecked(prepared, published, answer),
            (Redirection::Chain(_), Cause::Enter) => {
                Next::Run(Command::WriteChain { on: both, chain: self.progress.chain.clone() })
            }
            (Redirection::Chain(target), Cause::Answer(Answer::Done)) => {
                prepared.draft.reopened = true;
                to(prepared, Redirection::Reopen(target))
            }
            // A colour that was left once stays fenced until it is to serve again, which is now.
            (Redirection::Reopen(_), Cause::Enter) => Next::Run(Command::Reopen {
                on: prepared.verified.new.incarnation.clone(),
                topics: Some(prepared.verified.topic_names()),
                isolations: self.shut.isolations(&prepared.verified.new.incarnation.id),
                prove: self.has_served(&prepared.verified.new.identity.cluster_id),
            }),
            (Redirection::Reopen(target), Cause::Answer(Answer::Done)) => self.reopened(prepared, target),
            (Redirection::HandOver(target), cause) => self.handing_over(prepared, target, cause),
            (Redirection::Publish(target), Cause::Enter) => Next::Run(Command::Publish {
                target,
                to: prepared.verified.new.incarnation.clone(),
                nonce: self.act_nonce(),
            }),
            (Redirection::Publish(target), Cause::Answer(Answer::Done)) => {
                self.progress.published = Some(target.clone());
                self.notify(Event::Published { target: target.clone() });
                to(prepared, Redirection::Announce(target))
            }
            (Redirection::Announce(target), Cause::Enter) => {
                Next::Run(Command::Announce { target, on: both })
            }
            (Redirection::Announce(target), Cause::Answer(Answer::Done)) => {
                self.announced(Redirected::of(prepared, target))
            }
            (Redirection::Start(target), cause) => {
                self.starting_sources(Redirected::of(prepared, target), cause)
            }
            (_, Cause::Answer(other)) => unexpected(&other),
        }
    }

    pub(super) fn published_generation(&self) -> Generation {
        self.progress.published.as_ref().map_or(Generation(0), |target| target.generation)
    }

    /// Where the next segments start on a cluster that was left once: what stands behind the last of its segments is theirs.
    pub(super) fn starts_on(&self, cluster: &ClusterId) -> Vec<(TopicPartition, Offset)> {
        decide::starts_on(&self.progress.chain, self.published_generation(), cluster)
    }

    /// Whether a cluster holds segments of earlier generations than the one that is being opened: it was left, and fenced.
    pub(super) fn has_served(&self, cluster: &ClusterId) -> bool {
        let published = self.published_generation();
        let mut segments = self.progress.chain.iter().flat_map(|(_, segments)| segments);
        segments.any(|segment| segment.cluster_id == *cluster && segment.generation <= published)
    }

    fn rechecked(&mut self, mut prepared: Prepared, published: &Target, answer: Answer) -> Next {
        let Answer::Rechecked { old, new, old_ends, new_ends, topics } = answer else {
            return unexpected(&answer);
        };
        self.freshened = self.now;
        if let Err(why) = decide::is_published(published, &old)
            .and_then(|()| decide::same_as_before(&prepared.verified, &old, &new))
        {
            return Next::Hold(why);
        }
        if let Some(why) =
            decide::nothing_moves(&self.plan, &topics).or_else(|| self.unwaived(&topics, Some(&prepared)))
        {
            return Next::Hold(why);
        }
        let topics = self.plan.moving(&topics);
        if topics != prepared.verified.topics && !without(Control::NoRecheck) {
            // A topic was born or grew since: it gets its parity, groups and start offsets like the others.
            self.notify(Event::Note {
                text: "the old cluster's topics have changed; preparing again".into(),
            });
            // Nobody can read what went before it was closed.
            prepared
                .draft
                .groups
                .values_mut()
                .for_each(|read| read.retain(|topic| topics.contains_key(topic)));
            prepared.verified.topics = topics;
            return Next::Goto(State::Preparing(prepared.verified, prepared.draft, Preparation::Topics));
        }
        prepared.draft.log_starts = old_ends.iter().map(|end| (end.place.clone(), end.start)).collect();
        let target = decide::next_target(published, &prepared.verified);
        let opened = decide::open_segments(
            &self.progress.chain,
            published,
            &target,
            &prepared.verified,
            &old_ends,
            &new_ends,
        );
        match opened {
            Ok(chain) => {
                self.progress.chain = chain;
                Next::Goto(State::Redirecting(prepared, Redirection::Chain(target)))
            }
            Err(why) => Next::Hold(why),
        }
    }

    pub(super) fn converging(&mut self, redirected: Redirected, cause: Cause) -> Next {
        match cause {
            Cause::Enter => Next::Run(Command::ReadMembers { on: redirected.prepared.verified.both() }),
            Cause::Answer(Answer::Members { by_cluster }) => {
                let (moved, of, waiting) =
                    decide::convergence(&by_cluster, &redirected.target, &self.plan.waived_members);
                self.watch.all_moved = waiting.is_empty();
                self.notify(Event::Moved { moved, of, waiting });
                self.watch.heard(moved, &by_cluster, &redirected);
                let fencing = self.after_converging(&redirected);
                // Whoever has not moved by the deadline is moved, or named, by the fence.
                match self.until(self.plan.timings.converge_ms, fencing) {
                    Next::After(_) => {
                        let look = self.survey(&redirected);
                        look.unwrap_or_else(|| self.converged(redirected))
                    }
                    over => over,
                }
            }
            Cause::Answer(Answer::Surveyed { partitions, records }) => {
                let more = self.surveyed(&redirected, partitions, &records);
                more.unwrap_or_else(|| self.converged(redirected))
            }
            Cause::Answer(other) => unexpected(&other),
        }
    }

    pub(super) fn after_converging(&self, redirected: &Redirected) -> State {
        let first = match self.plan.fence {
            FencePolicy::Required if without(Control::ReceiptsClose) => Fencing::Quiet(Vec::new()),
            FencePolicy::Required => Fencing::Raise,
            FencePolicy::Waived => Fencing::Quiet(Vec::new()),
        };
        State::Fencing(redirected.clone(), first)
    }

    /// Goes on once every member has moved and nobody else is seen to write. Those that do are given the time that is left
    /// to be found and moved: the fence would refuse them.
    fn converged(&mut self, redirected: Redirected) -> Next {
        let poll_ms = self.plan.timings.poll_ms;
        if self.watch.all_moved && self.nobody_else_writes() {
            return Next::Goto(self.after_converging(&redirected));
        }
        if !self.watch.somebody_writes() {
            return Next::After(poll_ms);
        }
        let why = |ends| {
            format!("still writing to the old cluster: {} (move or stop them; {ends})", self.watch.names())
        };
        match self.plan.fence {
            // Who gave up before the deadline would leave them writing, and nothing closed.
            FencePolicy::Required => {
                Next::HoldUncounted(why("at the deadline the fence refuses them"), poll_ms)
            }
            FencePolicy::Waived => Next::HoldFor(why("nothing is closed while they write"), poll_ms),
        }
    }

    /// Looks again after the poll interval, until a time since the step was entered is over: then goes on.
    pub(super) fn until(&self, limit_ms: u64, onwards: State) -> Next {
        let (Some(entered), Some(now)) = (self.entered, self.now) else {
            return Next::After(self.plan.timings.poll_ms);
        };
        if now.since(entered) >= limit_ms {
            Next::Goto(onwards)
        } else {
            Next::After(self.plan.timings.poll_ms)
        }
    }

    /// Whether ends that stood still may be closed: goes on once the quiet window is over and no transaction is open.
    pub(super) fn quiet(&self, ends: &[PartitionEnd]) -> Next {
        let timings = &self.plan.timings;
        match (self.until(timings.quiet_window_ms, State::Planned), decide::still_open(ends)) {
            (Next::Goto(_), Some(why)) => Next::HoldFor(why, timings.poll_ms),
            (next, _) => next,
        }
    }

    pub(super) fn fencing(&mut self, redirected: Redirected, step: Fencing, cause: Cause) -> Next {
        self.name_silent();
        let verified = &redirected.prepared.verified;
        let (old, topics) = (verified.old.incarnation.clone(), verified.topic_names());
        match (step, cause) {
            (Fencing::Raise, Cause::Enter) => {
                Next::Run(Command::RaiseFence { old, on: verified.both(), topics })
            }
            (Fencing::Raise, Cause::Answer(Answer::FenceRaised { .. })) => {
                Next::Goto(State::Fencing(redirected, Fencing::Prove))
            }
            (Fencing::Prove, Cause::Enter) => Next::Run(Command::ProveFence { old, topics }),
            (Fencing::Prove, Cause::Answer(Answer::FenceProven { proof })) => {
                self.notify(Event::FenceProven { kind: proof.kind, partitions: proof.ends.len() });
                let ids = proof
                    .topics
                    .iter()
                    .filter_map(|(topic, (id, _))| Some((topic.clone(), id.clone()?)))
                    .collect();
                self.close(redirected, &proof.ends, ClosedBy::Fence, ids)
            }
            (Fencing::Quiet(_), Cause::Enter) => {
                let look = self.survey(&redirected);
                look.unwrap_or(Next::Run(Command::ReadEnds { old, topics }))
            }
            (Fencing::Quiet(_), Cause::Answer(Answer::Surveyed { partitions, records })) => {
                let more = self.surveyed(&redirected, partitions, &records);
                more.unwrap_or(Next::Run(Command::ReadEnds { old, topics }))
            }
            (Fencing::Quiet(before), Cause::Answer(Answer::Ends { ends })) => {
                if without(Control::ReceiptsClose) {
                    return self.close(redirected, &ends, ClosedBy::Fence, BTreeMap::new());
                }
                let now: Vec<(TopicPartition, Offset)> =
                    ends.iter().map(|end| (end.place.clone(), end.high_watermark)).collect();
                if now != before && self.watch.somebody_writes() {
                    let why = format!(
                        "still writing to the old cluster, which cannot be closed: {}",
                        self.watch.names()
                    );
                    self.progress.state = State::Fencing(redirected, Fencing::Quiet(now));
                    self.entered = None;
                    return Next::HoldFor(why, self.plan.timings.poll_ms);
                }
                if now != before {
                    return Next::Goto(State::Fencing(redirected, Fencing::Quiet(now)));
                }
                match self.quiet(&ends) {
                    Next::Goto(_) => self.close(redirected, &ends, ClosedBy::Quiet, BTreeMap::new()),
                    wait => wait,
                }
            }
            (Fencing::Chain(..), Cause::Enter) => {
                Next::Run(Command::WriteChain { on: verified.both(), chain: self.progress.chain.clone() })
            }
            (Fencing::Chain(by, topic_ids), Cause::Answer(Answer::Done)) => {
                self.watch.begin_anew();
                Next::Goto(match self.separates() {
                    true => State::Fencing(redirected, Fencing::Ids(by, topic_ids)),
                    false => State::Draining(Closed::new(redirected, by, topic_ids)),
                })
            }
            (Fencing::Ids(by, topic_ids), cause) => {
                match self.separate_ids(verified, redirected.prepared.draft.id_mark, cause) {
                    ControlFlow::Continue(mark) => {
                        let mut redirected = redirected;
                        redirected.prepared.draft.id_mark = mark;
                        Next::Goto(State::Draining(Closed::new(redirected, by, topic_ids)))
                    }
                    ControlFlow::Break(next) => next,
                }
            }
            (_, Cause::Answer(other)) => unexpected(&other),
        }
    }

    fn close(
        &mut self,
        redirected: Redirected,
        ends: &[PartitionEnd],
        by: ClosedBy,
        ids: BTreeMap<TopicName, TopicId>,
    ) -> Next {
        let verified = &redirected.prepared.verified;
        match decide::close_segments(&self.progress.chain, redirected.left, verified, &verified.old, ends, by)
        {
            Ok((chain, topics)) => {
                self.progress.chain = chain;
                let mut redirected = redirected;
                redirected.prepared.verified.topics = topics;
                let verified = &redirected.prepared.verified;
                let records = decide::closed_records(&self.progress.chain, redirected.left, verified);
                self.notify(Event::Closed { generation: redirected.left, partitions: ends.len(), records });
                Next::Goto(State::Fencing(redirected, Fencing::Chain(by, ids)))
            }
            Err(why) => Next::Hold(why),
        }
    }

    pub(super) fn draining(&mut self, mut closed: Closed, cause: Cause) -> Next {
        if closed.sinks_move {
            return self.moving_sinks(closed, cause);
        }
        match cause {
            Cause::Enter => {
                let look = self.survey(&closed.redirected);
                look.unwrap_or_else(|| self.observe_drain(&closed))
            }
            Cause::Answer(Answer::Surveyed { partitions, records }) => {
                let more = self.surveyed(&closed.redirected, partitions, &records);
                more.unwrap_or_else(|| self.observe_drain(&closed))
            }
            Cause::Answer(Answer::Drain { seen, listed }) => {
                let prepared = &mut closed.redirected.prepared;
                if decide::late_groups(&self.plan, &mut prepared.draft, &listed, &prepared.verified.topics) {
                    self.notify(Event::GroupsRequired { groups: prepared.draft.groups.len() });
                    return Next::Goto(State::Draining(closed));
                }
                let Closed { redirected, read_out, .. } = &mut closed;
                let verdict = self.judge(redirected.left, &redirected.prepared, read_out, &seen);
                self.note_released(&verdict);
                if verdict.is_drained() {
                    closed.sinks_move = closed.has_sinks();
                    Next::Goto(if closed.sinks_move {
                        State::Draining(closed)
                    } else {
                        State::Soaking(closed)
                    })
                } else {
                    self.keep(State::Draining(closed.clone()));
                    if seen.lacks_a_topic() {
                        self.suspect();
                    }
                    let Some(mut why) = verdict.broken_end() else {
                        return Next::After(self.plan.timings.poll_ms);
                    };
                    if self.watch.somebody_writes() {
                        why = format!("{why}; still writing there: {}", self.watch.names());
                    }
                    if closed.by == ClosedBy::Quiet {
                        why.push_str("; no fence holds that end: move who writes there, and roll back");
                    }
                    Next::Hold(why)
                }
            }
            Cause::Answer(other) => unexpected(&other),
        }
    }

    fn observe_drain(&self, closed: &Closed) -> Next {
        let prepared = &closed.redirected.prepared;
        Next::Run(Command::ObserveDrain {
            old: prepared.verified.old.incarnation.clone(),
            groups: prepared.must_read(),
            partitions: prepared.verified.partitions(),
        })
    }

    /// Whether what was seen proves a left generation's segments drained, and a word of it. What it proves of tails is taken in.
    pub(super) fn judge(
        &mut self,
        left: Generation,
        prepared: &Prepared,
        read_out: &mut ReadOut,
        seen: &Observation,
    ) -> DrainVerdict {
        let required = decide::required(&self.progress.chain, left, prepared, read_out);
        let mut verdict = drain::prove(&required, seen);
        read_out.learn(std::mem::take(&mut verdict.read_out));
        self.notify(Event::Draining {
            pairs: verdict.pairs,
            unread: verdict.unread,
            remaining: verdict.remaining.iter().take(REASONS_SHOWN).map(ToString::to_string).collect(),
        });
        verdict
    }
}

impl Progress {
    /// What groups must read to its end on the cluster that producers have left, with its closed ends; `None` where nothing
    /// has been left yet, or everything is over.
    pub fn to_drain(&self) -> Option<(Incarnation, Required)> {
        let nothing = ReadOut::default();
        let (redirected, read_out) = match &self.state {
            State::Converging(redirected) | State::Fencing(redirected, _) => (redirected, &nothing),
            State::Draining(closed)
            | State::Soaking(closed)
            | State::Isolating(closed, _)
            | State::Retiring(closed, ..) => (&closed.redirected, &closed.read_out),
            _ => return None,
        };
        let required = decide::required(&self.chain, redirected.left, &redirected.prepared, read_out);
        Some((redirected.prepared.verified.old.incarnation.clone(), required))
    }
}
