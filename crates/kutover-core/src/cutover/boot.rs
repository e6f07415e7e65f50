//! What a start does before anything else: it takes the term, claims the control topics, and takes away what an older controller
//! left on the cluster that serves.

use std::collections::BTreeSet;

use super::steps::unexpected;
use super::{
    Answer, BY_OPERATOR, Cause, Command, Cutover, Event, FencePolicy, Fencing, Isolation, Next, Record,
    Redirection, Retirement, State, Stop, Undoing,
};
use crate::controls::{Control, without};
use crate::owner::OwnerRecord;
use crate::ports::Incarnation;
use crate::words::{Term, TopicName};

/// Topics that an event names.
const NAMED: usize = 10;

/// How far a start has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Boot {
    TakeTerm,
    Claim,
    Reconcile,
    /// With the topics on which a fence was found.
    Reopen(BTreeSet<TopicName>),
    /// A fence that cannot be asked is lifted; and, looked at again, has been.
    Lift {
        again: bool,
    },
    Running,
}

impl Cutover {
    /// Before anything else: the term, then the takeover in the journal, then the claim in the control topics.
    pub(super) fn boot(&mut self, cause: Cause) -> Next {
        match (&self.boot, cause) {
            (Boot::TakeTerm, Cause::Enter) => Next::Run(Command::TakeTerm {
                nonce: self.nonce.clone(),
                adopt: !self.resumed,
                earlier: self.adoptions.clone(),
            }),
            (Boot::TakeTerm, Cause::Answer(Answer::TermTaken { term, owner, active })) => {
                self.term_taken(term, owner, active)
            }
            (Boot::Claim, Cause::Enter) => {
                let mut on = self.progress.state.claimable();
                if self.abort && self.progress.state.undo(BY_OPERATOR).is_some() {
                    // What is given up may be dead; it needs no claim to be discarded.
                    on.clear();
                }
                if let Some((redirected, _)) = self.way_back_wanted() {
                    // As in RollingBack: the cluster that is left may be dead, and is claimed with the intent.
                    on = vec![redirected.prepared.verified.old.incarnation];
                }
                if let Some(redirected) = self.abandoning() {
                    on = vec![redirected.prepared.verified.new.incarnation];
                }
                if on.is_empty() {
                    on.extend(self.progress.active.clone());
                }
                self.claim(on)
            }
            (Boot::Claim, Cause::Answer(Answer::Done)) | (Boot::Reconcile, Cause::Enter) => self.reconcile(),
            (Boot::Reconcile, Cause::Answer(Answer::FenceTraces { refusal: Some(refusal), .. })) => {
                self.refused_by_what_cannot_be_asked(&refusal)
            }
            (Boot::Reconcile, Cause::Answer(Answer::FenceTraces { topics, blind, refusal: None })) => {
                self.fence_looked_for(topics, blind)
            }
            (Boot::Lift { again }, Cause::Enter) => self.lifting(*again),
            (Boot::Lift { again: false }, Cause::Answer(Answer::Done)) => self.lifting(true),
            (Boot::Lift { again: true }, Cause::Answer(Answer::FenceTraces { refusal, .. })) => {
                self.lifted(refusal)
            }
            (Boot::Reopen(found), Cause::Enter) => self.reopening(found.clone()),
            (Boot::Reopen(found), Cause::Answer(Answer::Done)) => {
                if !found.is_empty() {
                    let text = "the left-over fence is lifted, and every leader takes records again";
                    self.notify(Event::Note { text: text.into() });
                }
                self.running()
            }
            (_, Cause::Answer(other)) => unexpected(&other),
            (Boot::Running, Cause::Enter) => Next::Stop(Stop::Broken("booted twice".into())),
        }
    }

    fn term_taken(&mut self, term: Term, owner: OwnerRecord, active: Incarnation) -> Next {
        let fresh = self.progress.published.is_none();
        if let Some(known) = &self.progress.published
            && owner.target.generation < known.generation
        {
            return Next::Stop(Stop::Refused(format!(
                "the owner record says generation {}, the journal already had {}: it is not this deployment's record",
                owner.target.generation, known.generation
            )));
        }
        self.term = term;
        self.going_back = owner.intent.is_some() && !matches!(self.progress.state, State::RollingBack(..));
        self.take_up(&owner);
        self.progress.published = Some(owner.target);
        if fresh || self.progress.state == State::Planned {
            self.progress.active = Some(active);
        }
        self.boot = Boot::Claim;
        self.persist(Record::Takeover { nonce: self.nonce.clone() });
        self.persist(Record::Checkpoint { progress: Box::new(self.progress.clone()) });
        self.notify(Event::TermTaken { term });
        self.step(Cause::Enter)
    }

    /// What was proven before a restart is proven again: a redirect that was not published is looked at once more, and
    /// a removal that was not marked gets its proof anew.
    fn take_up(&mut self, owner: &OwnerRecord) {
        let published = &owner.target;
        if without(Control::OldProof) {
            return;
        }
        let first_look = self.first_look();
        let waived = self.plan.fence == FencePolicy::Waived;
        match &mut self.progress.state {
            State::Redirecting(
                _,
                step @ (Redirection::Chain(_)
                | Redirection::Reopen(_)
                | Redirection::HandOver(_)
                | Redirection::Publish(_)),
            ) => {
                let unpublished = match step {
                    Redirection::Publish(target) => target != published,
                    _ => true,
                };
                if unpublished {
                    *step = first_look;
                    self.progress.chain.forget_after(published.generation);
                }
            }
            State::Isolating(_, step @ Isolation::Isolate) => *step = Isolation::Members(Vec::new()),
            // From the mark on there is no way back, and nothing is proven anew.
            State::Retiring(closed, _, step @ (Retirement::Approval | Retirement::Mark)) => {
                let marked = owner.removal.as_ref() == Some(&closed.mark());
                *step = if marked { closed.with_its_connectors(true) } else { Retirement::Prove };
            }
            State::RollingBack(way, step) => way.resume(step, waived),
            // Waived since, by an operator who has seen that it cannot be had.
            State::Fencing(_, step @ (Fencing::Raise | Fencing::Prove)) if waived => {
                *step = Fencing::Quiet(Vec::new());
            }
            _ => {}
        }
    }

    pub(super) fn claim(&self, on: Vec<Incarnation>) -> Next {
        match self.progress.published.clone() {
            Some(target) => {
                let known = self.progress.state.identities();
                Next::Run(Command::Claim { nonce: self.nonce.clone(), target, on, known })
            }
            None => Next::Stop(Stop::Broken("a claim without a published target".into())),
        }
    }

    /// The cluster that producers belong to, as record, intent and chain say; `None` while a rollback closes it, and a fence
    /// there is meant.
    fn active_now(&self) -> Option<Incarnation> {
        match (&self.progress.state, &self.progress.published) {
            _ if without(Control::LateActsStay) || self.going_back => None,
            _ if self.way_back_wanted().is_some() => None,
            (State::RollingBack(way, _), Some(published)) if way.target != *published => None,
            (state, Some(published)) => state.serving(published.colour).or(self.progress.active.clone()),
            (_, None) => None,
        }
    }

    /// What a late act of an older term left on the active cluster, or one that no journal knows any more, is taken away.
    fn reconcile(&mut self) -> Next {
        self.boot = Boot::Reconcile;
        match self.active_now() {
            Some(on) => Next::Run(Command::LookForFence { on }),
            None => self.running(),
        }
    }

    fn fence_looked_for(&mut self, found: BTreeSet<TopicName>, blind: Option<String>) -> Next {
        if let Some(why) = blind {
            let text =
                format!("whether a left-over fence stands on the active cluster cannot be told: {why}");
            self.notify(Event::Note { text });
        }
        if let Some(on) = self.active_now().filter(|_| !found.is_empty()) {
            self.notify(Event::FenceLeft {
                colour: on.colour,
                topics: found.iter().take(NAMED).cloned().collect(),
                more: found.len().saturating_sub(NAMED),
            });
        }
        self.reopening(found)
    }

    /// A fence that a command made cannot be asked where it stands. Its leaders can: what refuses records there is taken for
    /// one, which its command takes away whole, and repeatably.
    fn refused_by_what_cannot_be_asked(&mut self, refusal: &str) -> Next {
        if let Some(on) = self.active_now() {
            let colour = on.colour;
            let text = format!(
                "{colour}, where producers belong, refuses records, and its fence cannot be asked whether it stands: it is \
                 lifted ({refusal})"
            );
            self.notify(Event::Note { text });
        }
        self.lifting(false)
    }

    fn lifting(&mut self, again: bool) -> Next {
        let Some(on) = self.active_now() else { return self.running() };
        self.boot = Boot::Lift { again };
        if again {
            return Next::Run(Command::LookForFence { on });
        }
        let isolations = self.shut.isolations(&on.id);
        Next::Run(Command::Reopen { on, topics: None, isolations, prove: false })
    }

    /// What refuses still is no fence of kutover's, most likely: who may not write is refused without one. Before the next
    /// switch that is in the way, and is said there.
    fn lifted(&mut self, refusal: Option<String>) -> Next {
        let text = match refusal {
            None => "the left-over fence is lifted, and every leader takes records again".to_owned(),
            Some(why) => format!(
                "leaders refuse records still ({why}): the fence's command does not lift it, or the client that proves fences \
                 may not write"
            ),
        };
        self.notify(Event::Note { text });
        self.running()
    }

    /// Opens the active cluster where a fence was found, or where there ever was an act that may land late: whoever reopens
    /// a cluster needlessly may do it late, and open what a newer term has shut.
    fn reopening(&mut self, found: BTreeSet<TopicName>) -> Next {
        let Some(on) = self.active_now() else { return self.running() };
        let touched = self.shut.touched(&on.id);
        if found.is_empty() && !touched {
            return self.running();
        }
        self.boot = Boot::Reopen(found.clone());
        let isolations = self.shut.isolations(&on.id);
        let prove = !found.is_empty();
        Next::Run(Command::Reopen { on, topics: (!touched).then_some(found), isolations, prove })
    }

    fn running(&mut self) -> Next {
        self.boot = Boot::Running;
        if self.adopt_only {
            return Next::Stop(Stop::Adopted);
        }
        if let Some(colour) = self.progress.state.leads_to().filter(|colour| *colour != self.plan.to) {
            return Next::Stop(Stop::Refused(format!(
                "the cutover under way leads to {colour}, and plan.to says {}: put it back, and type `rollback` (before the \
                 redirect `abort`) if that is what was meant",
                self.plan.to
            )));
        }
        self.notify(Event::Entered { state: self.progress.state.name() });
        self.check_abandoned();
        if std::mem::take(&mut self.abort)
            && let Some(undo) = self.progress.state.undo(BY_OPERATOR)
        {
            return Next::Goto(State::Aborting(undo, Undoing::Chain));
        }
        if let Some(state) = self.begin_rollback() {
            return Next::Goto(state);
        }
        self.step(Cause::Enter)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use crate::error::ErrorKind;
    use crate::words::Colour;

    fn refuses(refusal: Option<&str>) -> Answer {
        let refusal = refusal.map(str::to_owned);
        Answer::FenceTraces { topics: BTreeSet::new(), blind: None, refusal }
    }

    /// A fence that a command made cannot be asked where it stands: where leaders refuse records its command lifts it, whole,
    /// and they are asked again.
    #[test]
    fn a_refusal_that_nobody_can_explain_is_lifted() {
        let mut looks = 0;
        let (stop, world) = World::new(plan(), vec![])
            .but(move |command, n| match command {
                Command::LookForFence { on } => {
                    assert_eq!(*on, incarnation(Colour::Blue));
                    looks += 1;
                    Some(Ok(refuses((looks == 1).then_some("topic orders is refused"))))
                }
                Command::Reopen { on, topics: None, prove: false, .. } if n == 3 => {
                    assert_eq!(*on, incarnation(Colour::Blue));
                    None
                }
                _ => None,
            })
            .run();
        assert_eq!(stop, Stop::Complete);
        let look = "look for a left-over fence";
        assert_eq!(world.commands[2..6], [look, "reopen", look, "provision"]);
        let told: Vec<String> = world.events.iter().map(ToString::to_string).collect();
        let named = |text: &str| told.iter().any(|told| told.contains(text));
        assert!(named("blue, where producers belong, refuses records") && named("topic orders is refused"));
        assert!(named("every leader takes records again"), "{told:?}");
    }

    /// Who may not write is refused without a fence: it is said, and keeps no start from going on.
    #[test]
    fn a_refusal_that_no_lifting_ends_holds_no_start() {
        let refused = |command: &Command, _| {
            matches!(command, Command::LookForFence { .. }).then(|| Ok(refuses(Some("refused"))))
        };
        let (stop, world) = World::new(plan(), vec![]).but(refused).run();
        assert_eq!(stop, Stop::Complete);
        assert!(world.holds().is_empty(), "{:?}", world.holds());
        assert!(
            world.events.iter().any(|event| event.to_string().contains("refuse records still (refused)"))
        );
    }

    /// A command that fails, or a controller that dies there, is as with any other step.
    #[test]
    fn lifting_may_fail_and_is_tried_again() {
        for failing in 2..5 {
            let mut looks = 0;
            let (stop, world) = World::new(plan(), vec![])
                .but(move |command, n| {
                    if n == failing {
                        return Some(Err(failure(ErrorKind::Unreachable)));
                    }
                    matches!(command, Command::LookForFence { .. }).then(|| {
                        looks += 1;
                        Ok(refuses((looks == 1).then_some("refused")))
                    })
                })
                .run();
            assert_eq!(stop, Stop::Complete, "command {failing}");
            assert_eq!(world.holds(), ["test: made to fail"], "command {failing}");
        }
    }
}
