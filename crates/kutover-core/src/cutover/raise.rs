//! Retention raised for the time of a cutover (L11): what stood before is in the journal before anything is changed, and
//! every end of a cutover restores it on the clusters that remain.

use std::ops::ControlFlow;

use super::steps::unexpected;
use super::{
    Answer, Cause, Command, Cutover, Draft, Event, Next, Preparation, Retirement, Rollback, Side, State,
    Undoing, Verified,
};
use crate::controls::{Control, without};
use crate::decisions::raise::{self, Raised};
use crate::error::ProviderError;
use crate::ports::{TopicConfigs, TopicDescription};
use crate::words::Millis;

impl State {
    /// Where retention is to be restored, in the steps in which it is. What is to be destroyed is let go of first: a cluster
    /// that belongs to somebody else stays after all.
    fn to_restore(&self) -> &[Raised] {
        match self {
            State::Aborting(undo, Undoing::Ttl) => &undo.raised,
            State::RollingBack(way, Rollback::Ttl) => &way.redirected.prepared.draft.raised,
            State::Retiring(closed, _, Retirement::Destroy | Retirement::Tidy) => {
                &closed.redirected.prepared.draft.raised
            }
            _ => &[],
        }
    }

    /// The same step without one of them.
    fn without_raised(mut self, done: &Raised) -> Self {
        let raised = match &mut self {
            State::Aborting(undo, _) => &mut undo.raised,
            State::RollingBack(way, _) => &mut way.redirected.prepared.draft.raised,
            State::Retiring(closed, ..) => &mut closed.redirected.prepared.draft.raised,
            _ => return self,
        };
        raised.retain(|raised| raised.cluster_id != done.cluster_id);
        self
    }
}

impl Cutover {
    /// What comes after separation.
    pub(super) fn after_ids(&self, verified: &Verified) -> Preparation {
        match self.plan.raising(&verified.topics).is_empty() || without(Control::RetentionNotRaised) {
            true => Preparation::Ttl,
            false => Preparation::Retention,
        }
    }

    /// Looks what is set, and remembers it.
    pub(super) fn knowing_retention(&self, verified: Verified, mut draft: Draft, cause: Cause) -> Next {
        let (old, new) = match cause {
            Cause::Enter => {
                return Next::Run(Command::ReadConfigs {
                    old: verified.old.incarnation.clone(),
                    new: verified.new.incarnation.clone(),
                });
            }
            Cause::Answer(Answer::Configs { old, new }) => (old, new),
            Cause::Answer(other) => return unexpected(&other),
        };
        let sides = [(&verified.old, old), (&verified.new, new)];
        let stood = sides.iter().map(|(side, there)| self.stood(&verified, &draft, side, there));
        match stood.collect::<Result<Vec<_>, _>>() {
            Ok(raised) => draft.raised = raised,
            Err(why) => return Next::Hold(why),
        }
        draft.raised.retain(|raised| !raised.before.is_empty());
        let step = if draft.raised.is_empty() { Preparation::Ttl } else { Preparation::Raise };
        Next::Goto(State::Preparing(verified, draft, step))
    }

    /// What stands on one cluster before it is raised.
    fn stood(
        &self,
        verified: &Verified,
        draft: &Draft,
        side: &Side,
        there: &[TopicDescription],
    ) -> Result<Raised, String> {
        let Side { incarnation, identity } = side;
        let known = draft.raised.iter().find(|raised| raised.on.id == incarnation.id);
        let known = known.map_or_else(TopicConfigs::new, |raised| raised.before.clone());
        let before = raise::before(there, &self.plan.raising(&verified.topics), &known);
        let before = before.map_err(|topic| {
            format!(
                "{} does not tell the configs of topic {topic}, so that its retention could not be restored: take it out of \
                 plan.raise_retention",
                incarnation.colour
            )
        })?;
        Ok(Raised { on: incarnation.clone(), cluster_id: identity.cluster_id.clone(), before })
    }

    /// Raises it, once what stood before is in the journal.
    pub(super) fn raising_retention(&mut self, verified: Verified, draft: Draft, cause: Cause) -> Next {
        match cause {
            Cause::Enter => return Next::Run(Command::RaiseRetention { raised: draft.raised }),
            Cause::Answer(Answer::Done) => {}
            Cause::Answer(other) => return unexpected(&other),
        }
        for Raised { on, before, .. } in &draft.raised {
            let text = format!(
                "retention on {} is without limit until the cutover is over; topics: {}",
                on.colour,
                before.len()
            );
            self.notify(Event::Note { text });
        }
        Next::Goto(State::Preparing(verified, draft, Preparation::Ttl))
    }

    /// Restores retention before a step is taken that ends a cutover, one cluster after the other, and then lets the step
    /// be taken.
    pub(super) fn retention_restored(&mut self, cause: Cause) -> ControlFlow<Next, Cause> {
        match (cause, self.next_to_restore()) {
            (Cause::Enter, Some(raised)) => {
                ControlFlow::Break(Next::Run(Command::RestoreRetention { raised }))
            }
            (Cause::Answer(Answer::RetentionRestored { left }), Some(done)) => {
                left.into_iter().for_each(|text| self.notify(Event::Note { text }));
                let text = format!("retention on {} is restored", done.on.colour);
                self.notify(Event::Note { text });
                ControlFlow::Break(Next::Goto(self.progress.state.clone().without_raised(&done)))
            }
            (cause, _) => ControlFlow::Continue(cause),
        }
    }

    /// The next cluster on which retention is to be restored in this step.
    fn next_to_restore(&self) -> Option<Raised> {
        if without(Control::RetentionNotRestored) {
            return None;
        }
        let state = &self.progress.state;
        // Before the old one goes, only that one is seen to.
        let destroys = matches!(state, State::Retiring(_, _, Retirement::Destroy));
        let now = state.to_restore().iter().filter(|raised| !destroys || !self.serves(raised));
        now.filter_map(|raised| self.what_stays(raised)).next()
    }

    /// Whether it is the cluster that producers belong to: any other may be dead.
    fn serves(&self, raised: &Raised) -> bool {
        self.progress.published.as_ref().is_some_and(|target| target.cluster_id == raised.cluster_id)
    }

    /// Without the topics that an abort takes away. A new cluster may stay: one that somebody else manages is only let go of.
    fn what_stays(&self, raised: &Raised) -> Option<Raised> {
        let mut stays = raised.clone();
        if let State::Aborting(undo, _) = &self.progress.state
            && !self.serves(raised)
        {
            stays.before.retain(|topic, _| !undo.created.contains(topic));
        }
        (!stays.before.is_empty()).then_some(stays)
    }

    /// A cluster that nobody belongs to any more, and that does not answer for too long, keeps what was raised there.
    pub(super) fn give_up_restoring(&mut self, now: Millis, error: &ProviderError) {
        let since = self.hold.as_ref().map_or(now, |hold| hold.since);
        if self.stopped || !error.kind.is_silence() || now.since(since) < self.plan.timings.barrier_ms {
            return;
        }
        let Some(raised) = self.next_to_restore().filter(|raised| !self.serves(raised)) else { return };
        let text = format!(
            "{} does not answer, and its retention stays raised ({error}); if it comes back, set by hand what stood before: \
             {}",
            raised.on.colour,
            raised.by_hand()
        );
        self.notify(Event::Note { text });
        self.goto(now, self.progress.state.clone().without_raised(&raised));
    }
}
