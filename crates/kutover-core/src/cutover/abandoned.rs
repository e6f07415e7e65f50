//! An old cluster that is dead for good: without a word of the operator's the cutover would wait for it for ever, and no other
//! one could follow.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::steps::unexpected;
use super::{
    Answer, Boot, Cause, Closed, Command, Cutover, Event, Next, Redirected, Retirement, State, StateName,
    Stop,
};
use crate::chain::ClosedBy;
use crate::error::ProviderError;
use crate::ports::Incarnation;
use crate::words::Millis;

/// Who gives up a cluster that lives would leave records behind that groups can still read.
fn it_answers(old: &Incarnation) -> Stop {
    Stop::Refused(format!("plan.abandon_old names {}, and that cluster answers: take the name out", old.id))
}

impl Cutover {
    /// What is being left, if the operator has given up the cluster that it is left on. From the mark of removal on there is
    /// nothing to give up.
    pub(super) fn abandoning(&self) -> Option<Redirected> {
        let named = self.plan.abandoned.as_ref()?;
        let (redirected, _) = self.progress.state.way_back()?;
        (redirected.prepared.verified.old.incarnation.id == *named).then_some(redirected)
    }

    /// The name of another incarnation is a slip, or was left there after an earlier cutover.
    pub(super) fn check_abandoned(&mut self) {
        let Some((named, (redirected, _))) = self.plan.abandoned.as_ref().zip(self.progress.state.way_back())
        else {
            return;
        };
        let old = redirected.prepared.verified.old.incarnation.id;
        if old != *named {
            let text =
                format!("plan.abandon_old names {named}, and the old cluster is {old}: it is not heeded");
            self.notify(Event::Note { text });
        }
    }

    /// Asks a cluster that was given up whether it is really silent, before any step is taken.
    pub(super) fn silence_asked(&mut self, cause: Cause) -> ControlFlow<Next, Cause> {
        let Some(redirected) = self.abandoning() else { return ControlFlow::Continue(cause) };
        let old = redirected.prepared.verified.old.incarnation;
        ControlFlow::Break(match cause {
            Cause::Enter => Next::Run(Command::ReadMembers { on: vec![old] }),
            Cause::Answer(Answer::Members { .. }) => Next::Stop(it_answers(&old)),
            Cause::Answer(other) => unexpected(&other),
        })
    }

    /// It did not answer: once that has lasted it is left as it is, and the cutover ends without its proof. Gives whether it
    /// was decided.
    pub(super) fn abandons(&mut self, now: Millis, error: &ProviderError) -> bool {
        let Some(redirected) = self.abandoning().filter(|_| self.boot == Boot::Running) else { return false };
        let old = &redirected.prepared.verified.old.incarnation;
        if !error.kind.is_silence() {
            self.stop(it_answers(old));
            return true;
        }
        if now.since(self.entered.unwrap_or(now)) < self.plan.timings.barrier_ms {
            return false;
        }
        self.notify(Event::Abandoned { incarnation: old.id.clone() });
        self.progress.chain.give_up(redirected.left);
        let closed = match &self.progress.state {
            State::Draining(closed)
            | State::Soaking(closed)
            | State::Isolating(closed, _)
            | State::Retiring(closed, ..) => closed.clone(),
            _ => Closed::new(redirected, ClosedBy::Quiet, BTreeMap::new()),
        };
        if closed.has_sinks() && self.progress.state.name() <= StateName::Draining {
            let text = "its sinks were not moved: start them on the new cluster's workers by hand";
            self.notify(Event::Note { text: text.into() });
        }
        self.goto(now, State::Retiring(closed, false, Retirement::Abandoned));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::super::{Plan, Record};
    use super::*;
    use crate::chain::SegmentEnd;
    use crate::error::ErrorKind;
    use crate::words::Colour;

    /// The journal of a cutover that came this far.
    fn journal_to(state: StateName) -> Vec<Record> {
        let (_, whole) = World::new(plan(), vec![]).run();
        let there = whole.journal.iter().position(|record| match record {
            Record::Checkpoint { progress } => progress.state.name() == state,
            _ => false,
        });
        whole.journal[..=there.expect("it came there")].to_vec()
    }

    /// Blue is dead, and the next controller is told so, or told of another one.
    fn resumed(from: StateName, named: &str, kind: Option<ErrorKind>) -> World<'static> {
        let mut plan = Plan { abandoned: Some(named.into()), ..plan() };
        plan.timings.hold_limit_ms = Some(10_000);
        let dead = |on: &[Incarnation]| on.iter().any(|on| on.colour == Colour::Blue);
        let mut world = World::new(plan, journal_to(from)).but(move |command, _| {
            let asks = match command {
                Command::Claim { on, .. }
                | Command::ReadMembers { on }
                | Command::WriteChain { on, .. }
                | Command::Announce { on, .. }
                | Command::RaiseFence { on, .. } => dead(on),
                Command::ObserveDrain { .. } | Command::Reprove { .. } | Command::Survey { .. } => true,
                Command::RestoreRetention { raised } => raised.on.colour == Colour::Blue,
                _ => false,
            };
            kind.filter(|_| asks).map(|kind| Err(failure(kind)))
        });
        (world.term, world.published) = (2, target(2, Colour::Green));
        world
    }

    const LEFT: [StateName; 4] =
        [StateName::Converging, StateName::Fencing, StateName::Draining, StateName::Soaking];

    /// The cutover is over, and says what it does not know. Nothing is destroyed, and the next one can begin.
    #[test]
    fn a_dead_old_cluster_that_was_given_up_by_name_ends_the_cutover() {
        for from in LEFT {
            let (stop, world) = resumed(from, "world/blue", Some(ErrorKind::Unreachable)).run();
            assert_eq!(stop, Stop::Complete, "{from}");
            let gone = ["isolate", "mark the removal", "destroy", "observe the drain", "prove once more"];
            assert!(!gone.iter().any(|name| world.commands.contains(name)), "{:?}", world.commands);
            let told = |event: &Event| matches!(event, Event::Abandoned { incarnation } if incarnation.as_str() == "world/blue");
            assert!(world.events.iter().any(told), "{:?}", world.events);
            let end = world.machine.progress().chain.segments(&place(0))[0].end;
            assert_eq!(end == SegmentEnd::Unreadable, from < StateName::Draining, "{from}: {end:?}");
            assert_eq!(world.commands.last(), Some(&"tidy up"));
        }
    }

    /// Who is only named wrongly, or answers, is not given up: nothing is skipped that could be had.
    #[test]
    fn a_cluster_that_answers_or_is_another_is_not_given_up() {
        for kind in [None, Some(ErrorKind::Invalid)] {
            let (stop, world) = resumed(StateName::Draining, "world/blue", kind).run();
            assert!(matches!(&stop, Stop::Refused(why) if why.contains("that cluster answers")), "{stop:?}");
            assert_eq!(world.machine.progress().state.name(), StateName::Draining);
        }
        let (stop, world) = resumed(StateName::Draining, "world/black", None).run();
        assert_eq!(stop, Stop::Complete);
        assert!(world.commands.contains(&"destroy"));
        let told =
            |event: &Event| event.to_string().contains("the old cluster is world/blue: it is not heeded");
        assert!(world.events.iter().any(told), "{:?}", world.events);
        let (stop, _) = resumed(StateName::Draining, "world/black", Some(ErrorKind::Unreachable)).run();
        assert!(matches!(stop, Stop::Held(_)), "{stop:?}");
    }
}
