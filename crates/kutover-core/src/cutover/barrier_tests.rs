//! The way back from a cluster that is dead, or that has lost a leader.

use super::fixtures::*;
use super::rollback_tests::{BACK, number};
use super::*;
use crate::chain::{ClosedBy, SegmentEnd};
use crate::words::{Colour, Generation, Offset};

/// G5: a green that is dead holds nobody: producers go back, its segment is given up, and nothing is said of it.
#[test]
fn a_dead_cluster_is_left_without_a_barrier() {
    let dead = |command: &Command, _| {
        let silent = match command {
            Command::MatchTopics { old, .. } => old.colour == Colour::Green,
            Command::ReadMembers { on } => *on == [incarnation(Colour::Green)],
            _ => false,
        };
        silent.then(|| Err(failure(ErrorKind::Unreachable)))
    };
    let mut world = World::new(plan(), vec![]).but(dead);
    world.rollback = Some(number("announce the target"));
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    assert!(world.events.iter().any(|event| matches!(event, Event::BarrierLost { .. })));
    let segments = world.machine.progress().chain.segments(&place(0));
    assert_eq!(segments[1].end, SegmentEnd::Unreadable);
    assert_eq!(segments[2].generation, Generation(3));
    let after = &world.commands[number("announce the target") + 1..];
    assert!(!after.contains(&"raise the fence") && !after.contains(&"observe the drain"), "{after:?}");
}

/// G5, found by the small world `rollback-dead`: green dies at any step of the way back. Producers are led to blue all the
/// same, and a segment whose end is not known yet is given up. A blue that does not answer is not taken for a dead green.
#[test]
fn green_may_die_at_any_step_of_the_way_back() {
    let concerns = |command: &Command, colour: Colour| match command {
        Command::MatchTopics { old, .. }
        | Command::RaiseFence { old, .. }
        | Command::ProveFence { old, .. } => old.colour == colour,
        Command::ObserveDrain { old, .. } | Command::ReadEnds { old, .. } | Command::ListGroups { old } => {
            old.colour == colour
        }
        Command::WriteChain { on, .. } | Command::Announce { on, .. } | Command::ReadMembers { on } => {
            on.iter().any(|incarnation| incarnation.colour == colour)
        }
        _ => false,
    };
    let begun = number("observe the drain");
    for dies in begun + 1..begun + BACK.len() {
        let dead = move |command: &Command, n: usize| {
            (n >= dies && concerns(command, Colour::Green)).then(|| Err(failure(ErrorKind::Unreachable)))
        };
        let mut world = World::new(plan(), vec![]).but(dead);
        world.rollback = Some(begun);
        let about = BACK[dies - begun - 1];
        let (stop, world) = world.run();
        assert!(matches!(stop, Stop::RolledBack(_)), "{about}: {stop:?}");
        assert_eq!(world.published, target(3, Colour::Blue), "{about}");
        let given_up = world.events.iter().any(|event| matches!(event, Event::BarrierLost { .. }));
        let segments = world.machine.progress().chain.segments(&place(0));
        let fenced_before = dies > begun + 8;
        assert_eq!(segments[1].end == SegmentEnd::Unreadable, !fenced_before, "{about}: {segments:?}");
        assert_eq!(given_up, !matches!(dies - begun, 16 | 17), "{about}");
        // L7: whoever read green to its end may have no commits on blue any more.
        let freshened = world.commands[begun + 1..].contains(&"freshen start offsets");
        assert!(freshened, "{about}: nobody's start offsets were set on blue");
    }
    let slow = number("observe the drain") + 10;
    let blue_is_away = move |command: &Command, n: usize| {
        let away = (slow..slow + 30).contains(&n) && concerns(command, Colour::Blue);
        away.then(|| Err(failure(ErrorKind::Unreachable)))
    };
    let mut world = World::new(plan(), vec![]).but(blue_is_away);
    world.rollback = Some(begun);
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    assert!(!world.events.iter().any(|event| matches!(event, Event::BarrierLost { .. })));
}

/// Whether a way back was taken although green's fence was not proven: told once, green's segment closed when it had been
/// quiet, and green read to its end.
fn assert_unproven(stop: &Stop, world: &World<'_>, about: &str) {
    assert!(matches!(stop, Stop::RolledBack(_)), "{about}: {stop:?}");
    assert_eq!(world.published, target(3, Colour::Blue), "{about}");
    let told = |event: &Event| matches!(event, Event::BarrierUnproven { generation: Generation(2), .. });
    assert_eq!(world.events.iter().filter(|event| told(event)).count(), 1, "{about}");
    let left = &world.machine.progress().chain.segments(&place(0))[1];
    assert_eq!(left.end, SegmentEnd::Closed { end: Offset(100), by: ClosedBy::Quiet }, "{about}");
    assert!(world.commands[number("observe the drain") + 1..].contains(&"observe the drain"), "{about}");
}

/// G5 and G7: a leader of green dies once the fence stands there, and none takes its place. Green answers, so it is not
/// given up; but it takes no record any more, so producers go back although the fence is not proven. Its segments close
/// when they have been quiet. So they do where green refuses what is asked: a fence that does not bind everybody, or that it
/// cannot have, is not waited for either.
#[test]
fn a_leader_that_stays_away_shuts_nobody_out() {
    let kinds = [ErrorKind::Unavailable, ErrorKind::Refused, ErrorKind::Unsupported, ErrorKind::Conflict];
    for (step, kind) in
        ["raise the fence", "prove the fence"].into_iter().flat_map(|step| kinds.map(|kind| (step, kind)))
    {
        let begun = number("observe the drain");
        let failing = begun + BACK.iter().position(|name| *name == step).unwrap();
        let away = move |command: &Command, n: usize| {
            let asked = matches!(command, Command::RaiseFence { .. } | Command::ProveFence { .. });
            (asked && n > failing).then(|| Err(failure(kind)))
        };
        let mut world = World::new(plan(), vec![]).but(away);
        world.rollback = Some(begun);
        let (stop, world) = world.run();
        assert_unproven(&stop, &world, &format!("{step}, {kind:?}"));
    }
}

/// A green that is asked whether it answers at all, and answers something that makes no sense, has answered.
#[test]
fn a_refusal_is_an_answer() {
    let begun = number("observe the drain");
    let answers = move |command: &Command, n: usize| match command {
        Command::ProveFence { .. } if n > begun => Some(Err(failure(ErrorKind::Unavailable))),
        Command::ReadMembers { on } if on.len() == 1 => Some(Err(failure(ErrorKind::Invalid))),
        _ => None,
    };
    let mut world = World::new(plan(), vec![]).but(answers);
    world.rollback = Some(begun);
    let (stop, world) = world.run();
    assert_unproven(&stop, &world, "no record of the members topic can be read");
}

/// A fence that goes between the act and its proof is raised again, on the way there and on the way back. All of it is one
/// hold.
#[test]
fn a_fence_that_goes_before_it_is_proven_is_raised_again() {
    for (colour, rollback) in [(Colour::Blue, None), (Colour::Green, Some(number("observe the drain")))] {
        let mut refused = 0;
        let mut world = World::new(plan(), vec![]).but(move |command, _| match command {
            Command::ProveFence { old, .. } if old.colour == colour && refused < 3 => {
                refused += 1;
                Some(Err(failure(ErrorKind::Refused)))
            }
            _ => None,
        });
        world.rollback = rollback;
        let (stop, world) = world.run();
        assert!(matches!(stop, Stop::Complete | Stop::RolledBack(_)), "{colour}: {stop:?}");
        let of_it = rollback.map_or(0, |at| at + 1);
        let fences: Vec<_> =
            world.commands[of_it..].iter().filter(|name| name.ends_with(" the fence")).copied().collect();
        assert_eq!(fences, ["raise the fence", "prove the fence"].repeat(4), "{colour}");
        assert_eq!(world.holds().len(), 1, "{colour}: {:?}", world.events);
        let resumed = world.events.iter().filter(|event| matches!(event, Event::Resumed { .. })).count();
        assert_eq!(resumed, 1, "{colour}");
    }
}

/// What takes the fence away again and again ends in the limit of holds on the way there, and on the way back after as long
/// as a barrier may take.
#[test]
fn a_fence_that_does_not_stay_is_not_raised_for_ever() {
    let refuses = |command: &Command, _| match command {
        Command::ProveFence { .. } => Some(Err(failure(ErrorKind::Refused))),
        _ => None,
    };
    let mut limited = plan();
    limited.timings.hold_limit_ms = Some(5_000);
    let (stop, _) = World::new(limited, vec![]).but(refuses).run();
    assert!(matches!(stop, Stop::Held(_)), "{stop:?}");
    let mut proven = 0;
    let mut world = World::new(plan(), vec![]).but(move |command, n| {
        proven += usize::from(matches!(command, Command::ProveFence { .. }));
        (proven > 1).then(|| refuses(command, n)).flatten()
    });
    world.rollback = Some(number("observe the drain"));
    let (stop, world) = world.run();
    assert_unproven(&stop, &world, "refused for ever");
    let raised = world.commands.iter().filter(|name| **name == "raise the fence").count();
    assert!(raised > 3, "{raised}");
}

/// The journal of a cutover, and of its way back if it takes one, up to where this state was entered.
fn until(back: bool, reached: impl Fn(&State) -> bool) -> Vec<Record> {
    let mut whole = World::new(plan(), vec![]);
    whole.rollback = back.then(|| number("observe the drain"));
    let (_, whole) = whole.run();
    let at = whole.journal.iter().position(|record| match record {
        Record::Checkpoint { progress } => reached(&progress.state),
        _ => false,
    });
    whole.journal[..=at.unwrap()].to_vec()
}

/// Who sees that no fence can be had may waive it and start again, as its error says: in the middle of it too.
#[test]
fn a_fence_that_is_waived_later_is_not_waited_for() {
    let waived = Plan { fence: FencePolicy::Waived, ..plan() };
    let has_none = |command: &Command, _| match command {
        Command::RaiseFence { .. } | Command::ProveFence { .. } => Some(Err(failure(ErrorKind::Unsupported))),
        _ => None,
    };
    let steps = [Rollback::Topics, Rollback::Intent, Rollback::Raise, Rollback::Prove];
    for step in steps {
        let journal = until(true, |state| matches!(state, State::RollingBack(_, at) if *at == step));
        let mut world = World::new(waived.clone(), journal).but(has_none);
        (world.term, world.published) = (2, target(2, Colour::Green));
        let (stop, world) = world.run();
        assert!(matches!(stop, Stop::RolledBack(_)), "{step:?}: {stop:?}");
        assert!(
            !world.commands.iter().any(|name| name.ends_with(" the fence")),
            "{step:?}: {:?}",
            world.commands
        );
        let left = &world.machine.progress().chain.segments(&place(0))[1];
        assert_eq!(left.end, SegmentEnd::Closed { end: Offset(100), by: ClosedBy::Quiet }, "{step:?}");
    }
    for step in [Fencing::Raise, Fencing::Prove] {
        let journal = until(false, |state| matches!(state, State::Fencing(_, at) if *at == step));
        let mut world = World::new(waived.clone(), journal).but(has_none);
        (world.term, world.published) = (2, target(2, Colour::Green));
        let (stop, world) = world.run();
        assert_eq!(stop, Stop::Complete, "{step:?}");
        let left = &world.machine.progress().chain.segments(&place(0))[0];
        assert_eq!(left.end, SegmentEnd::Closed { end: Offset(100), by: ClosedBy::Quiet }, "{step:?}");
    }
}

/// G7: producers are parked meanwhile. A proof that takes its time to fail counts from its beginning.
#[test]
fn a_fence_that_cannot_be_proven_stalls_for_twice_the_deadline() {
    let begun = number("observe the drain");
    let mut world = World::new(plan(), vec![]).but(move |command: &Command, n| {
        let asked = n > begun && matches!(command, Command::ProveFence { .. });
        asked.then(|| Err(failure(ErrorKind::Unavailable)))
    });
    let barrier = world.machine.plan.timings.barrier_ms;
    world.slow = Some(("prove the fence", barrier / 2));
    world.rollback = Some(begun);
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    let first = |name| begun + world.commands[begun..].iter().position(|one| *one == name).unwrap();
    let stalled = world.begun[first("publish the target")].since(world.begun[first("prove the fence")]);
    assert!((2 * barrier..5 * barrier / 2).contains(&stalled), "{stalled} ms");
}

fn blue_takes_no_start_offsets(command: &Command) -> Option<Result<Answer, ProviderError>> {
    let why = || "group audit: its coordinator does not answer".to_owned();
    matches!(command, Command::FreshenStarts { .. }).then(|| Ok(Answer::StartsFresh { silent: Some(why()) }))
}

/// G5 and G7: killed behind the proof of green's fence; whoever takes over has to set start offsets anew, and one of blue's
/// coordinators is away. Nobody can write until generation 3 is published.
#[test]
fn a_coordinator_that_is_away_does_not_hold_the_barrier() {
    let begun = number("observe the drain");
    let mut whole = World::new(plan(), vec![]);
    whole.rollback = Some(begun);
    let (_, whole) = whole.run();
    let publishes = |record: &Record| match record {
        Record::Checkpoint { progress } => {
            matches!(progress.state, State::RollingBack(_, Rollback::Publish))
        }
        _ => false,
    };
    let publish = whole.journal.iter().position(publishes).unwrap();
    let journal = whole.journal[..=publish].to_vec();
    let mut world = World::new(plan(), journal).but(|command, _| blue_takes_no_start_offsets(command));
    (world.term, world.published) = (2, target(2, Colour::Green));
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    assert!(world.holds().is_empty(), "{:?}", world.holds());
    let told = "blue does not take start offsets, and producers belong there";
    assert!(world.events.iter().any(|event| matches!(event, Event::Note { text } if text.starts_with(told))));
}

/// Before the intent green serves, and start offsets are waited for; but no longer than a barrier may take.
#[test]
fn a_coordinator_that_stays_away_does_not_bar_the_way_back() {
    let mut world = World::new(plan(), vec![]).but(|command, _| blue_takes_no_start_offsets(command));
    world.rollback = Some(number("observe the drain"));
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    let waited =
        world.holds().iter().filter(|hold| hold.starts_with("blue does not take start offsets")).count();
    assert_eq!(waited, 1, "{:?}", world.holds());
}

/// L7: starts that take as long to look after as they count as fresh, or longer, keep no step from being taken.
#[test]
fn looking_after_start_offsets_for_long_stops_nothing() {
    for timeout in [10_000, 30_000, 60_000] {
        let mut plan = plan();
        (plan.timings.command_timeout_ms, plan.timings.hold_limit_ms) = (timeout, Some(3_600_000));
        (plan.timings.converge_ms, plan.timings.poll_ms) = (100_000, 9_000);
        let unmoved = || vec![vec![producer(7, &target(1, Colour::Blue))], vec![]];
        let mut looks = 0;
        let mut world = World::new(plan, vec![]).but(move |command, _| match command {
            Command::ReadMembers { .. } if looks < 8 => {
                looks += 1;
                Some(Ok(Answer::Members { by_cluster: unmoved() }))
            }
            _ => None,
        });
        world.hangs = Some("freshen start offsets");
        let (stop, world) = world.run();
        assert_eq!(stop, Stop::Complete, "{timeout} ms");
        assert!(world.commands.contains(&"freshen start offsets"), "{timeout} ms");
    }
}

/// A green that serves and does not say which groups it has keeps nobody there.
#[test]
fn a_cluster_that_does_not_list_its_groups_is_left() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Refused] {
        let begun = number("observe the drain");
        let mut world = World::new(plan(), vec![]).but(move |command, _| match command {
            Command::ListGroups { old } if old.colour == Colour::Green => Some(Err(failure(kind))),
            _ => None,
        });
        world.rollback = Some(begun);
        let (stop, world) = world.run();
        assert!(matches!(stop, Stop::RolledBack(_)), "{kind:?}: {stop:?}");
        assert_eq!(world.published, target(3, Colour::Blue), "{kind:?}");
        assert!(world.commands[begun..].contains(&"prove the fence"), "{kind:?}: with a barrier");
        let told = |event: &Event| matches!(event, Event::Note { text } if text.starts_with("green does not list its groups"));
        assert_eq!(world.events.iter().filter(|event| told(event)).count(), 1, "{kind:?}");
    }
}

/// G5: green is fenced, and its control topic takes no word of kutover's any more. Producers are led home all the same, no later
/// than a barrier may take, and green is read to its end.
#[test]
fn a_cluster_that_refuses_to_be_told_keeps_nobody_behind_its_fence() {
    for refused in ["write the chain", "announce the target"] {
        let begun = number("observe the drain");
        let mut world = World::new(plan(), vec![]).but(move |command, n| match command {
            Command::WriteChain { on, .. } | Command::Announce { on, .. }
                if n > begun
                    && command.name() == refused
                    && on.iter().any(|one| one.colour == Colour::Green) =>
            {
                Some(Err(failure(ErrorKind::NotAuthorised)))
            }
            _ => None,
        });
        let barrier = world.machine.plan.timings.barrier_ms;
        world.rollback = Some(begun);
        let (stop, world) = world.run();
        assert!(matches!(stop, Stop::RolledBack(_)), "{refused}: {stop:?}");
        let at = |name| begun + world.commands[begun..].iter().position(|one| *one == name).unwrap();
        let stalled = world.begun[at("publish the target")].since(world.begun[at("prove the fence")]);
        assert!(stalled < 3 * barrier, "{refused}: {stalled} ms");
        let told = |event: &&Event| event.to_string().starts_with("green does not take what it is told");
        assert_eq!(world.events.iter().filter(told).count(), 1, "{refused}");
        let left = &world.machine.progress().chain.segments(&place(0))[1];
        assert_eq!(left.end, SegmentEnd::Closed { end: Offset(100), by: ClosedBy::Fence }, "{refused}");
        assert!(world.commands[begun + 1..].contains(&"observe the drain"), "{refused}");
    }
}
