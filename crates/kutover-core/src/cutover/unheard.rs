//! Members topics that cannot be read. Nobody counts as moved then, and whoever has moved is told by the fence and the quiet
//! window: no step waits for receipts for longer than producers have to hand them in, but one that has nothing else to go by.

use super::{Boot, Cutover, Event, Isolation, Rollback, State};
use crate::chain::ClosedBy;
use crate::error::ProviderError;
use crate::words::Millis;

impl Cutover {
    /// Who has moved could not be asked: takes the step without it once its time is over. Gives whether it did.
    pub(super) fn goes_on_unheard(&mut self, now: Millis, error: &ProviderError) -> bool {
        let Some(onwards) = self.without_receipts(error) else { return false };
        let in_time = now.since(self.entered.unwrap_or(now)) < self.plan.timings.converge_ms;
        // One call may take longer than that.
        if in_time || self.hold.is_none() {
            // The deadline ends this hold, however much shorter holds may be.
            if let Some(hold) = &mut self.hold {
                hold.since = now;
            }
            return false;
        }
        let text = format!(
            "whether producers have moved cannot be told, and is not waited for any longer ({error})"
        );
        self.notify(Event::Note { text });
        self.goto(now, onwards);
        true
    }

    /// What follows a step that only hears who has moved. Without a fence nothing but its word keeps a producer from being
    /// shut out of where it still writes.
    fn without_receipts(&self, error: &ProviderError) -> Option<State> {
        match &self.progress.state {
            _ if self.boot != Boot::Running || self.abandoning().is_some() => None,
            State::Converging(redirected) => Some(self.after_converging(redirected)),
            // Who was heard there may live.
            State::Isolating(closed, Isolation::Members(heard))
                if heard.is_empty() && closed.by == ClosedBy::Fence =>
            {
                Some(State::Isolating(closed.clone(), Isolation::Isolate))
            }
            // One that is silent is asked whether it answers at all.
            State::RollingBack(way, Rollback::Converge) if !error.kind.is_silence() => {
                Some(State::RollingBack(way.clone(), way.after_convergence()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::super::{Answer, Command, FencePolicy, Plan, StateName, Stop};
    use super::*;
    use crate::error::ErrorKind;
    use crate::words::Colour;

    /// A world in which what members say cannot be read: a newer library has written there.
    fn unreadable(plan: Plan, kind: ErrorKind) -> World<'static> {
        World::new(plan, vec![])
            .but(move |command, _| matches!(command, Command::ReadMembers { .. }).then(|| Err(failure(kind))))
    }

    /// L8: nobody counts as moved, and nobody is waited for past the deadline: the fence decides, and keeps out whoever is
    /// still there when the cluster is shut off.
    #[test]
    fn the_fence_decides_where_nobody_can_be_asked_who_has_moved() {
        for kind in [ErrorKind::Invalid, ErrorKind::Unavailable] {
            let mut plan = plan();
            plan.timings.hold_limit_ms = Some(4_000);
            let (stop, world) = unreadable(plan.clone(), kind).run();
            assert_eq!(stop, Stop::Complete, "{kind:?}");
            let waited = world.now.since(Millis(1_000)) - 60_000 - plan.timings.soak_ms;
            assert!(
                waited >= 2 * plan.timings.converge_ms,
                "before the fence and before the isolation: {waited} ms"
            );
            let told =
                |event: &&Event| event.to_string().contains("whether producers have moved cannot be told");
            assert_eq!(world.events.iter().filter(told).count(), 2, "{:?}", world.events);
            assert!(!world.events.iter().any(|event| matches!(event, Event::Moved { .. })));
        }
    }

    /// A producer whose machine burnt down never says that it has moved. The operator knows, and the rest are not held up; what
    /// stays waited for is named, and named no longer than the deadline.
    #[test]
    fn who_is_gone_for_good_is_not_waited_for_once_it_is_named() {
        let blue = target(1, Colour::Blue);
        for (waived, waits) in [(Some("p1"), false), (Some("p2"), true), (None, true)] {
            let mut plan = plan();
            plan.waived_members = waived.into_iter().map(Into::into).collect();
            let world = World::new(plan.clone(), vec![]).but(|command, _| match command {
                Command::ReadMembers { .. } => {
                    Some(Ok(Answer::Members { by_cluster: vec![vec![producer(7, &blue)], vec![]] }))
                }
                _ => None,
            });
            let (stop, world) = world.run();
            assert_eq!(stop, Stop::Complete, "{waived:?}");
            let at = |name| world.begun[world.commands.iter().position(|one| *one == name).unwrap()];
            let waited = at("raise the fence").since(at("read members")) >= plan.timings.converge_ms;
            assert_eq!(waited, waits, "{waived:?}");
            let named =
                |event: &Event| event.to_string().contains("waiting for p1 (one that is gone for good");
            assert_eq!(world.events.iter().any(named), waits, "{waived:?}: {:?}", world.events);
        }
    }

    /// G7: a pause between two tries does not push the fence past the deadline, however long pauses have become.
    #[test]
    fn a_pause_does_not_outlast_the_deadline() {
        let mut plan = plan();
        (plan.timings.converge_ms, plan.timings.retry_ms) = (5_000, 1_500);
        let (_, world) = unreadable(plan, ErrorKind::Invalid).run();
        let at = |name| world.begun[world.commands.iter().position(|one| *one == name).unwrap()];
        let waited = at("raise the fence").since(at("read members"));
        assert!((5_000..5_100).contains(&waited), "{waited} ms");
    }

    /// Where no fence keeps anybody out, what they say is all there is: nothing is shut off or removed without it.
    #[test]
    fn without_a_fence_nobody_is_shut_out_unheard() {
        let mut plan = Plan { fence: FencePolicy::Waived, ..plan() };
        plan.timings.hold_limit_ms = Some(20_000);
        let (stop, world) = unreadable(plan, ErrorKind::Invalid).run();
        assert!(matches!(&stop, Stop::Held(why) if why.contains("made to fail")), "{stop:?}");
        assert_eq!(
            world.states().last(),
            Some(&StateName::Isolating),
            "it was closed by the quiet window, and drained"
        );
        assert!(!world.commands.contains(&"isolate"));
    }

    /// Producers are home already: receipts are progress, and no proof.
    #[test]
    fn a_way_back_ends_unheard() {
        for kind in [ErrorKind::Invalid, ErrorKind::Unavailable] {
            let mut world = World::new(plan(), vec![]).but(move |command, _| match command {
                // Of the cluster that is left they can be read.
                Command::ReadMembers { on } if on.len() == 2 && on[0].colour == Colour::Blue => {
                    Some(Err(failure(kind)))
                }
                Command::ReadMembers { .. } => Some(Ok(Answer::Members { by_cluster: vec![vec![]] })),
                _ => None,
            });
            world.rollback = FORWARD.iter().position(|name| *name == "announce the target");
            let (stop, world) = world.run();
            assert!(matches!(stop, Stop::RolledBack(_)), "{kind:?}: {stop:?}");
            assert!(world.commands.contains(&"observe the drain"), "green was read to its end");
        }
    }
}
