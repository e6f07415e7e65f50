//! From Soaking to the end: the drained cluster is kept, shut off, proven once more and removed; or what was prepared is
//! undone.

use super::hold::Hold;
use super::rollback::SWITCHING;
use super::steps::unexpected;
use super::{
    Answer, Approval, ApprovalGate, Boot, Cause, Closed, Command, Cutover, Draft, Event, Isolation, Next,
    Redirection, Retirement, State, Undo, Undoing, decide,
};
use crate::chain::ClosedBy;
use crate::controls::{Control, without};
use crate::error::{ErrorKind, ProviderError};
use crate::messages::HEARD_AGAIN_MS;
use crate::owner::Target;
use crate::ports::TopicDescription;
use crate::words::{Millis, Nonce};

fn reprove(closed: &Closed, shut_out: bool) -> Command {
    let prepared = &closed.redirected.prepared;
    let verified = &prepared.verified;
    Command::Reprove {
        old: verified.old.incarnation.clone(),
        new: verified.new.incarnation.clone(),
        groups: prepared.must_read(),
        topics: verified.topic_names(),
        fence_too: !shut_out && closed.by == ClosedBy::Fence,
    }
}

impl Closed {
    /// A topic that is another one than the one that was closed, where the cluster knows ids.
    pub(super) fn made_anew(&self, there: &[TopicDescription]) -> Option<String> {
        let anew = there.iter().find(|topic| match (&topic.id, self.topic_ids.get(&topic.name)) {
            (Some(now), Some(then)) => now != then && !without(Control::ReCreatedIgnored),
            _ => false,
        })?;
        Some(format!("topic {} was re-created on the old cluster since it was closed", anew.name))
    }
}

impl Cutover {
    /// The endpoints must have pointed elsewhere for longer than the TTL that was in force, however short the soak is.
    pub(super) fn soaking(&mut self, closed: Closed) -> Next {
        let ttl_s = if without(Control::SoakUnderTtl) { 0 } else { self.plan.timings.ttl_s };
        let ttl_ms = u64::from(ttl_s) * 1_000;
        let onwards = if self.plan.remove_old {
            State::Isolating(closed, Isolation::Members(Vec::new()))
        } else {
            State::Retiring(closed, false, Retirement::Keep)
        };
        Next::Once(self.plan.timings.soak_ms.max(ttl_ms), Box::new(onwards))
    }

    /// Every term has an isolation of its own: what an older one still puts back, it may have had put back for a reason
    /// that is over, and must not open what a newer one has shut (L20).
    fn isolation(&self) -> Nonce {
        format!("{}-{}-{}", self.plan.deployment, self.progress.cutover, self.term).as_str().into()
    }

    pub(super) fn isolating(&mut self, closed: Closed, step: Isolation, cause: Cause) -> Next {
        let verified = &closed.redirected.prepared.verified;
        match (step, cause) {
            (Isolation::Members(_), Cause::Enter) => Next::Run(Command::ReadMembers { on: verified.both() }),
            (Isolation::Members(before), Cause::Answer(Answer::Members { by_cluster })) => {
                let on_old = decide::not_on(&by_cluster, &closed.redirected.target.cluster_id);
                let alive: Vec<&str> = on_old
                    .iter()
                    .filter(|(key, beat)| before.iter().any(|(known, then)| known == key && then < beat))
                    .map(|(key, _)| key.as_str())
                    .collect();
                if !alive.is_empty() && !without(Control::LivingIgnored) {
                    let why = format!("still alive elsewhere than on the new cluster: {}", alive.join(", "));
                    self.progress.state = State::Isolating(closed, Isolation::Members(on_old));
                    return Next::HoldFor(why, HEARD_AGAIN_MS);
                }
                if on_old.iter().all(|(key, _)| before.iter().any(|(known, _)| known == key)) {
                    return Next::Goto(State::Isolating(closed, Isolation::Isolate));
                }
                self.progress.state = State::Isolating(closed, Isolation::Members(on_old));
                Next::After(HEARD_AGAIN_MS)
            }
            (Isolation::Isolate, Cause::Enter) => {
                Next::Run(Command::Isolate { old: verified.old.incarnation.clone(), nonce: self.isolation() })
            }
            (Isolation::Isolate, Cause::Answer(Answer::Isolated { shut_out })) => {
                self.notify(Event::Isolated { shut_out });
                Next::Goto(State::Retiring(closed, shut_out, Retirement::Prove))
            }
            (_, Cause::Answer(other)) => unexpected(&other),
        }
    }

    pub(super) fn retiring(
        &mut self,
        closed: Closed,
        shut_out: bool,
        step: Retirement,
        cause: Cause,
    ) -> Next {
        let old = closed.redirected.prepared.verified.old.incarnation.clone();
        let mark = closed.mark();
        let to = |closed, step| Next::Goto(State::Retiring(closed, shut_out, step));
        match (step, cause) {
            // The plan may have been changed since: nothing is removed that was not shut off first.
            (Retirement::Keep, Cause::Enter) if self.plan.remove_old => {
                Next::Goto(State::Isolating(closed, Isolation::Members(Vec::new())))
            }
            (Retirement::Prove | Retirement::Approval | Retirement::Mark, Cause::Enter) if !self.plan.remove_old => {
                Next::Hold(
                    "plan.remove_old = false came too late: clients are shut out of the old cluster already; set it to true, \
                     or roll back"
                        .into(),
                )
            }
            // No fence refuses what comes, and an isolation may leave connections that stand already (as AWS's security groups
            // do): who may still write there is asked for right before the proof, and after a person took their time.
            (Retirement::Prove, Cause::Enter) if closed.by != ClosedBy::Fence => {
                Next::Run(Command::ReadMembers { on: closed.redirected.prepared.verified.both() })
            }
            (Retirement::Prove, Cause::Answer(Answer::Members { by_cluster })) => {
                let elsewhere = decide::not_on(&by_cluster, &closed.redirected.target.cluster_id);
                self.unmoved.saw(elsewhere.into_iter().map(|(key, _)| key));
                Next::Run(reprove(&closed, shut_out))
            }
            (Retirement::Keep | Retirement::Prove, Cause::Enter) => Next::Run(reprove(&closed, shut_out)),
            // Somebody has taken the fence away: nothing is proven before it stands again.
            (Retirement::Keep | Retirement::Prove, Cause::Answer(Answer::Unfenced { why })) => {
                let keeps = step == Retirement::Keep;
                self.progress.state = State::Retiring(closed, shut_out, Retirement::FenceAgain(keeps));
                self.hold.get_or_insert_with(|| Hold::new(self.now.unwrap_or_default())).refused = true;
                Next::Hold(why)
            }
            (Retirement::Keep | Retirement::Prove, Cause::Answer(Answer::Connect(answer))) => {
                self.seen_to_run(closed, shut_out, step, answer)
            }
            (Retirement::Keep | Retirement::Prove, Cause::Answer(answer)) => {
                self.reproved(closed, shut_out, step, answer)
            }
            (Retirement::FenceAgain(_), Cause::Enter) => {
                let verified = &closed.redirected.prepared.verified;
                Next::Run(Command::RaiseFence { old, on: verified.both(), topics: verified.topic_names() })
            }
            (Retirement::FenceAgain(keeps), Cause::Answer(Answer::FenceRaised { .. })) => {
                to(closed, if keeps { Retirement::Keep } else { Retirement::Prove })
            }
            (Retirement::Abandoned, Cause::Enter) => Next::Run(Command::WriteChain {
                on: vec![closed.redirected.prepared.verified.new.incarnation.clone()],
                chain: self.progress.chain.clone(),
            }),
            (Retirement::Abandoned, Cause::Answer(Answer::Done)) => {
                let onwards = closed.with_its_connectors(false);
                to(closed, onwards)
            }
            // What was proven before a person took their time is proven once more after it.
            (Retirement::Approval, _) => {
                let step = if without(Control::OldProof) { Retirement::Mark } else { Retirement::Prove };
                let onwards = State::Retiring(closed, shut_out, step);
                self.gate(ApprovalGate::Removal, Approval::Manual, onwards)
            }
            (Retirement::Mark, Cause::Enter) => {
                Next::Run(Command::MarkRemoval { mark, nonce: self.act_nonce() })
            }
            (Retirement::Mark, Cause::Answer(Answer::Done)) => {
                let onwards = closed.with_its_connectors(true);
                to(closed, onwards)
            },
            (Retirement::Connectors(marked), cause) => {
                self.retiring_connectors(closed, shut_out, marked, cause)
            }
            (Retirement::Destroy, Cause::Enter) => Next::Run(Command::Destroy { colour: old.colour, mark }),
            (Retirement::Destroy, Cause::Answer(Answer::Done)) => {
                self.notify(Event::Removed { incarnation: mark.incarnation, cluster_id: mark.cluster_id });
                to(closed, Retirement::Tidy)
            }
            (Retirement::Tidy, Cause::Enter) => {
                let Draft { old_ttl_s: ttl_s, old_ttls: each, .. } = closed.redirected.prepared.draft;
                Next::Run(Command::Tidy { ttl_s, each, nonce: self.act_nonce() })
            }
            (Retirement::Tidy, Cause::Answer(Answer::Done)) => Next::Goto(State::Complete),
            (_, Cause::Answer(other)) => unexpected(&other),
        }
    }

    fn reproved(&mut self, mut closed: Closed, shut_out: bool, step: Retirement, answer: Answer) -> Next {
        let Answer::Reproved { published, new, seen, listed, topics } = answer else {
            return unexpected(&answer);
        };
        if new.cluster_id != closed.redirected.target.cluster_id {
            return Next::Hold(format!(
                "{} was cluster {} and is now {}: the old cluster is the last way home; find out who replaced the new one, \
                 or roll back",
                closed.redirected.target.colour, closed.redirected.target.cluster_id, new.cluster_id
            ));
        }
        if published != closed.redirected.target {
            return Next::Hold(format!(
                "owner record or endpoints say generation {} on {} ({}), not generation {} on {} ({}): put the record \
                 back, or find out who changed it",
                published.generation,
                published.colour,
                published.cluster_id,
                closed.redirected.target.generation,
                closed.redirected.target.colour,
                closed.redirected.target.cluster_id,
            ));
        }
        if let Some(next) = self.gone(&topics) {
            return next;
        }
        let made_anew = closed.made_anew(&topics);
        let prepared = &mut closed.redirected.prepared;
        if let Some(why) = decide::changed_topics(&prepared.verified.topics, &self.plan.moving(&topics)) {
            return Next::Hold(why);
        }
        if let Some(why) = made_anew {
            return Next::Hold(why);
        }
        if decide::late_groups(&self.plan, &mut prepared.draft, &listed, &prepared.verified.topics) {
            return Next::Goto(State::Retiring(closed, shut_out, step));
        }
        // The plan may have been changed since.
        if let Some(why) = self.unwaived(&topics, Some(&closed.redirected.prepared)) {
            return Next::Hold(why);
        }
        let Closed { redirected, read_out, .. } = &mut closed;
        let verdict = self.judge(redirected.left, &redirected.prepared, read_out, &seen);
        match verdict.remaining.first() {
            None if closed.has_connectors() => closed.see_connectors(),
            None => self.proven(closed, shut_out, step),
            Some(why) => {
                let what = if step == Retirement::Keep { "not over" } else { "not removed" };
                Next::Hold(format!("{what}: {why} (and {} more)", verdict.remaining.len() - 1))
            }
        }
    }

    /// What follows the last proof.
    pub(super) fn proven(&mut self, closed: Closed, shut_out: bool, step: Retirement) -> Next {
        if step == Retirement::Keep {
            let onwards = closed.with_its_connectors(false);
            return Next::Goto(State::Retiring(closed, shut_out, onwards));
        }
        let approval = match closed.by {
            ClosedBy::Fence => self.plan.approve_removal,
            // Without a fence a removal is never automatic.
            ClosedBy::Quiet | ClosedBy::Barrier => Approval::Manual,
        };
        if !self.unmoved.are_given_up() {
            self.approved.remove(&ApprovalGate::Removal);
        }
        let approved = approval == Approval::Automatic || self.approved.contains(&ApprovalGate::Removal);
        let step = match approved {
            true if without(Control::MarkLate) => Retirement::Destroy,
            true => Retirement::Mark,
            false => Retirement::Approval,
        };
        Next::Goto(State::Retiring(closed, shut_out, step))
    }

    pub(super) fn ask_abort(&mut self, now: Millis, reason: &str) {
        let Some(undo) = self.progress.state.undo(reason) else {
            let text = match &self.progress.state {
                State::Redirecting(_, Redirection::Publish(_)) => format!(
                    "{SWITCHING}, which cannot be aborted; it goes on, and `rollback` leads back once all are"
                ),
                state => format!("{} cannot be aborted; it goes on", state.name()),
            };
            self.notify(Event::Note { text });
            return;
        };
        if self.boot == Boot::Running {
            self.pending = None;
            self.goto(now, State::Aborting(undo, Undoing::Chain));
        } else {
            self.abort = true; // Heeded once the term is ours: nothing may be undone without it.
        }
    }

    /// A cluster that was opened again for nothing, and does not answer for too long or can be made to refuse nothing, is left
    /// as it is: the deployment is served by the other one, and the next cutover reads what is written there meanwhile.
    pub(super) fn give_up_fencing(&mut self, now: Millis, error: &ProviderError) {
        let State::Aborting(undo, Undoing::Fence) = &self.progress.state else { return };
        let in_vain =
            matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Unavailable | ErrorKind::Unsupported);
        let since = self.entered.unwrap_or(now);
        if self.stopped
            || self.boot != Boot::Running
            || !in_vain
            || now.since(since) < self.plan.timings.barrier_ms
        {
            return;
        }
        let colour = undo.new.as_ref().map_or_else(String::new, |new| new.colour.to_string());
        let text = format!(
            "{colour} was opened again and is not fenced ({error}): if a producer still writes there, nobody reads it before \
             the next cutover to {colour}"
        );
        let undo = undo.clone();
        self.notify(Event::Note { text });
        self.goto(now, State::Aborting(undo, Undoing::Ttl));
    }

    /// Undoes what was prepared: the chain, the TTL, the new cluster.
    pub(super) fn aborting(&mut self, undo: Undo, step: Undoing, published: &Target, cause: Cause) -> Next {
        let to = |undo, step| Next::Goto(State::Aborting(undo, step));
        match (step, cause) {
            (Undoing::Chain, Cause::Enter) => {
                self.progress.chain.forget_after(published.generation);
                match undo.chain_on.clone() {
                    Some(old) => {
                        let chain = self.progress.chain.clone();
                        Next::Run(Command::WriteChain { on: vec![old], chain })
                    }
                    None => {
                        let onwards = undo.after_chain();
                        to(undo, onwards)
                    }
                }
            }
            (Undoing::Chain, Cause::Answer(Answer::Done)) => {
                let onwards = undo.after_chain();
                to(undo, onwards)
            }
            (Undoing::Connectors | Undoing::ConnectorsGone, cause) => {
                self.undoing_connectors(undo, step, cause)
            }
            (Undoing::Fence, Cause::Enter) => match (undo.new.clone(), &undo.cluster_id) {
                (Some(old), Some(cluster)) if self.has_served(cluster) && !undo.fence.is_empty() => {
                    let topics = undo.fence.difference(&undo.created).cloned().collect();
                    Next::Run(Command::RaiseFence { old, on: Vec::new(), topics })
                }
                _ => to(undo, Undoing::Ttl),
            },
            (Undoing::Fence, Cause::Answer(Answer::FenceRaised { .. })) => to(undo, Undoing::Ttl),
            (Undoing::Ttl, Cause::Enter) if undo.ttl => {
                let ttl_s = (undo.old_ttl_s > 0).then_some(undo.old_ttl_s);
                Next::Run(Command::SetTtl { ttl_s, each: undo.old_ttls })
            }
            (Undoing::Ttl, Cause::Enter) | (Undoing::Ttl, Cause::Answer(Answer::TtlSet { .. })) => {
                to(undo, Undoing::Discard)
            }
            (Undoing::Discard, Cause::Enter) if !undo.provisioned => Next::Goto(State::Aborted(undo.reason)),
            (Undoing::Discard, Cause::Enter) => Next::Run(Command::Discard {
                colour: published.colour.other(),
                new: undo.new,
                keep: published.clone(),
                cluster_id: undo.cluster_id,
                published: self.progress.chain.clusters().into_iter().cloned().collect(),
                created: undo.created,
                request: self.provision_request(),
                kept: self.progress.kept,
            }),
            (Undoing::Discard, Cause::Answer(Answer::Done)) => Next::Goto(State::Aborted(undo.reason)),
            (_, Cause::Answer(other)) => unexpected(&other),
        }
    }
}
