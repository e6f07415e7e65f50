//! What each state does: the one match over the machine's states, and the states up to Ready.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{
    Answer, Approval, ApprovalGate, Boot, Cause, Command, Cutover, Draft, Event, Next, Preparation, Prepared,
    Side, State, Stop, Verified, decide,
};
use crate::controls::{Control, without};
use crate::owner::Target;
use crate::ports::{Incarnation, TopicDescription};
use crate::words::{Millis, Nonce};

impl Cutover {
    /// Looks at the current step: what it is waiting for, or what its answer leads to.
    pub(super) fn step(&mut self, cause: Cause) -> Next {
        if self.boot != Boot::Running {
            return self.boot(cause);
        }
        let Some(published) = self.progress.published.clone() else {
            return Next::Stop(Stop::Broken("running without a published target".into()));
        };
        let mut cause = cause;
        for aside in [
            Self::silence_asked,
            Self::starts_fresh,
            Self::early_named,
            Self::behind_named,
            Self::retention_restored,
            Self::topics_there,
        ] {
            cause = match aside(self, cause) {
                ControlFlow::Continue(cause) => cause,
                ControlFlow::Break(next) => return next,
            };
        }
        match self.progress.state.clone() {
            State::Planned if published.colour == self.plan.to => {
                self.notify(Event::Note { text: format!("{} is active already", self.plan.to) });
                Next::Stop(Stop::Complete)
            }
            State::Planned => {
                // What is known of an earlier cutover's cluster says nothing of this one's.
                self.progress.kept = None;
                Next::Goto(State::Provisioning)
            }
            State::Provisioning => self.provisioning(&published, cause),
            State::Verifying(old, new) => self.verifying(old, new, &published, cause),
            State::Preparing(verified, draft, step) => self.preparing(verified, draft, step, cause),
            State::Ready(prepared) => self.gate(
                ApprovalGate::Redirect,
                self.plan.approve_redirect,
                State::Redirecting(prepared, self.first_look()),
            ),
            State::Redirecting(prepared, step) => self.redirecting(prepared, step, &published, cause),
            State::Converging(redirected) => self.converging(redirected, cause),
            State::Fencing(redirected, step) => self.fencing(redirected, step, cause),
            State::Draining(closed) => self.draining(closed, cause),
            State::Soaking(closed) => self.soaking(closed),
            State::Isolating(closed, step) => self.isolating(closed, step, cause),
            State::Retiring(closed, shut_out, step) => self.retiring(closed, shut_out, step, cause),
            State::Complete => Next::Stop(Stop::Complete),
            State::Aborting(undo, step) => self.aborting(undo, step, &published, cause),
            State::Aborted(reason) => Next::Stop(Stop::Aborted(reason)),
            State::RollingBack(way, step) => self.rolling_back(way, step, cause),
            State::RolledBack(reason) => Next::Stop(Stop::RolledBack(reason)),
        }
    }

    /// A person says yes. It counts for what was asked: one that was said by a slip, or ahead of its time, would be found hours
    /// later, and what it is about is not what the person had seen.
    pub(super) fn approve(&mut self, now: Millis, gate: ApprovalGate) {
        if self.asked != Some(gate) {
            let what = match gate {
                ApprovalGate::Redirect => "the redirect",
                ApprovalGate::Removal => "the removal",
            };
            let text = format!("{what} is not waiting for approval: say yes once it is asked for");
            self.notify(Event::Note { text });
            return;
        }
        self.approved.insert(gate);
        self.unmoved.approved(gate);
        if self.pending.is_none() {
            self.look(now, Cause::Enter);
        }
    }

    /// Waits for a person where the plan wants one.
    pub(super) fn gate(&self, gate: ApprovalGate, approval: Approval, onwards: State) -> Next {
        match approval {
            Approval::Manual if !self.approved.contains(&gate) => Next::Approve(gate),
            Approval::Manual | Approval::Automatic => Next::Goto(onwards),
        }
    }

    /// The same for every controller of this cutover, so that a repeated request makes no second cluster.
    pub(super) fn provision_request(&self) -> Nonce {
        format!("{}-{}", self.plan.deployment, self.progress.cutover).as_str().into()
    }

    fn provisioning(&mut self, published: &Target, cause: Cause) -> Next {
        match cause {
            Cause::Enter => Next::Run(Command::Provision {
                colour: published.colour.other(),
                request: self.provision_request(),
            }),
            Cause::Answer(Answer::Provisioned { old, new, made }) => {
                self.progress.kept = Some(!made);
                self.notify(Event::Provisioned { colour: new.colour, incarnation: new.id.clone() });
                Next::Goto(State::Verifying(old, new))
            }
            Cause::Answer(other) => unexpected(&other),
        }
    }

    fn verifying(&mut self, old: Incarnation, new: Incarnation, published: &Target, cause: Cause) -> Next {
        let (old_identity, new_identity, there, old_ttls) = match cause {
            Cause::Enter => return Next::Run(Command::Verify { old, new }),
            Cause::Answer(Answer::Verified { old, new, topics, ttls }) => (old, new, topics, ttls),
            Cause::Answer(other) => return unexpected(&other),
        };
        if let Err(why) = decide::is_published(published, &old_identity)
            .and_then(|()| decide::distinct(&old_identity, &new_identity))
        {
            return Next::Hold(why);
        }
        if let Some(why) = decide::nothing_moves(&self.plan, &there).or_else(|| self.unwaived(&there, None)) {
            return Next::Hold(why);
        }
        let topics = self.plan.moving(&there);
        self.notify(Event::Verified {
            old: old_identity.cluster_id.clone(),
            new: new_identity.cluster_id.clone(),
            topics: topics.len(),
        });
        let verified = Verified {
            old: Side { incarnation: old, identity: old_identity },
            new: Side { incarnation: new, identity: new_identity },
            topics,
        };
        // What stood before is known before it is changed: an answer to the change may be lost.
        let longest = old_ttls.values().copied().max();
        let draft = Draft { old_ttl_s: longest.unwrap_or_default(), old_ttls, ..Draft::default() };
        Next::Goto(State::Preparing(verified, draft, self.first_preparation()))
    }

    /// Why the old cluster cannot be removed: something that nobody waived would die with it.
    pub(super) fn unwaived(&self, there: &[TopicDescription], prepared: Option<&Prepared>) -> Option<String> {
        if without(Control::HistoryIgnored) {
            return None;
        }
        // What is raised for the time being is no wish to keep it.
        let raised = prepared.and_then(|prepared| {
            let old = &prepared.verified.old.incarnation.id;
            prepared.draft.raised.iter().find(|raised| raised.on.id == *old)
        });
        let before = |topic: &TopicDescription| match raised {
            Some(raised) => raised.as_before(topic.clone()),
            None => topic.clone(),
        };
        let there: Vec<TopicDescription> = there.iter().map(before).collect();
        if let Some(topic) = self.plan.left_behind(&there).first() {
            return Some(format!(
                "topic {topic} is not in plan.topics and would die with the old cluster, neither fenced nor drained: add it \
                 there, name it in plan.waive_history, or set plan.remove_old = false"
            ));
        }
        let unwaived = self.plan.unwaived_history(&there);
        let topic = unwaived.first()?;
        Some(format!(
            "the history of topic {topic} (and {} more) would die with the old cluster: name it in plan.waive_history, or \
             set plan.remove_old = false",
            unwaived.len() - 1
        ))
    }

    fn preparing(&mut self, verified: Verified, mut draft: Draft, step: Preparation, cause: Cause) -> Next {
        let (old, new) = (verified.old.incarnation.clone(), verified.new.incarnation.clone());
        let to = |draft, step| Next::Goto(State::Preparing(verified.clone(), draft, step));
        match (step, cause) {
            (Preparation::Connectors | Preparation::CreateConnectors, cause) => {
                self.preparing_connectors(verified, draft, step, cause)
            }
            (Preparation::Topics, Cause::Enter) => {
                let (topics, raised, named) = (verified.topic_names(), draft.raised, Some(draft.created));
                Next::Run(Command::MatchTopics { old, new, topics, strict: true, raised, named })
            }
            // An abort deletes what was made: that is in the journal before it is made, whatever becomes of the answer.
            (Preparation::Topics, Cause::Answer(Answer::TopicsMissing { topics })) => {
                draft.created.extend(topics);
                to(draft, Preparation::Topics)
            }
            (Preparation::Topics, Cause::Answer(Answer::TopicsMatched { notes, .. })) => {
                notes.into_iter().for_each(|text| self.notify(Event::Note { text }));
                to(draft, Preparation::Claim)
            }
            (Preparation::Claim, Cause::Enter) => self.claim(verified.both()),
            (Preparation::Claim, Cause::Answer(Answer::Done)) => {
                let onwards = draft.after_claim();
                to(draft, onwards)
            }
            (Preparation::Groups, Cause::Enter) => Next::Run(Command::ListGroups { old }),
            (Preparation::Groups, Cause::Answer(Answer::Groups { listed, complete })) => {
                if !complete && self.plan.remove_old && self.plan.groups.is_empty() {
                    return Next::Hold(
                        "this cluster cannot list its groups, and the plan names none: name them in plan.groups (who \
                         is not known cannot be waited for), or set plan.remove_old = false"
                            .into(),
                    );
                }
                if !complete {
                    let text =
                        "this cluster cannot list groups: only those that the plan names are waited for";
                    self.notify(Event::Note { text: text.into() });
                }
                self.plan.require(&mut draft.groups, &listed, &verified.topics);
                self.notify(Event::GroupsRequired { groups: draft.groups.len() });
                to(draft, Preparation::StartOffsets)
            }
            (Preparation::StartOffsets, Cause::Enter) => {
                let starts = self.starts_on(&verified.new.identity.cluster_id);
                Next::Run(Command::SetStartOffsets { new, groups: draft.groups, starts })
            }
            (Preparation::StartOffsets, Cause::Answer(Answer::StartOffsetsSet { kept })) => {
                for (group, places) in kept.iter().filter(|(_, places)| !places.is_empty()) {
                    let text = format!(
                        "group {group} has offsets on {} already, on {} partitions: they are left as they are, and its consumers \
                         begin there. If they are left over from something else, delete them \
                         (kafka-consumer-groups.sh --delete-offsets) before the switch: it sets start offsets where there are none",
                        new.colour,
                        places.len()
                    );
                    self.notify(Event::Note { text });
                }
                let onwards = if self.separates() { Preparation::Ids } else { self.after_ids(&verified) };
                to(draft, onwards)
            }
            (Preparation::Ids, cause) => match self.separate_ids(&verified, draft.id_mark, cause) {
                ControlFlow::Continue(mark) => {
                    to(Draft { id_mark: mark, ..draft }, self.after_ids(&verified))
                }
                ControlFlow::Break(next) => next,
            },
            (Preparation::Retention, cause) => self.knowing_retention(verified, draft, cause),
            (Preparation::Raise, cause) => self.raising_retention(verified, draft, cause),
            (Preparation::Ttl, Cause::Enter) => {
                Next::Run(Command::SetTtl { ttl_s: Some(self.plan.timings.ttl_s), each: BTreeMap::new() })
            }
            (Preparation::Ttl, Cause::Answer(Answer::TtlSet { old_ttl_s })) => {
                // What stood before is what the first preparation found; one that was lowered already, by a life that nobody
                // remembers, stood at the ordinary one, and is waited out too. What is restored is each endpoint's own.
                draft.old_ttl_s = draft.old_ttl_s.max(old_ttl_s);
                to(draft, Preparation::OldTtl)
            }
            (Preparation::OldTtl, Cause::Enter) => {
                let lowered = draft.old_ttl_s > self.plan.timings.ttl_s;
                let wait_ms = if lowered { u64::from(draft.old_ttl_s) * 1_000 } else { 0 };
                Next::Once(wait_ms, Box::new(State::Ready(Prepared { verified, draft })))
            }
            (_, Cause::Answer(other)) => unexpected(&other),
        }
    }
}

/// An answer to another command than the one that is under way.
pub(super) fn unexpected(answer: &Answer) -> Next {
    Next::Hold(format!("an answer that does not fit was given: {answer:?}"))
}
