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

/// G5 and G7: a leader of green dies once the fence stands there, and none takes its place. Green answers, so it is not
/// given up; but it takes no record any more, so producers go back although the fence is not proven. Its segments close
/// when they have been quiet.
#[test]
fn a_leader_that_stays_away_shuts_nobody_out() {
    for step in ["raise the fence", "prove the fence"] {
        let begun = number("observe the drain");
        let failing = begun + BACK.iter().position(|name| *name == step).unwrap();
        let away = move |command: &Command, n: usize| {
            let asked = matches!(command, Command::RaiseFence { .. } | Command::ProveFence { .. });
            (asked && n > failing).then(|| Err(failure(ErrorKind::Unavailable)))
        };
        let mut world = World::new(plan(), vec![]).but(away);
        world.rollback = Some(begun);
        let (stop, world) = world.run();
        assert!(matches!(stop, Stop::RolledBack(_)), "{step}: {stop:?}");
        assert_eq!(world.published, target(3, Colour::Blue), "{step}");
        let told = |event: &Event| matches!(event, Event::BarrierUnproven { generation: Generation(2), .. });
        assert_eq!(world.events.iter().filter(|event| told(event)).count(), 1, "{step}");
        let left = &world.machine.progress().chain.segments(&place(0))[1];
        assert_eq!(left.end, SegmentEnd::Closed { end: Offset(100), by: ClosedBy::Quiet }, "{step}");
        assert!(world.commands[failing..].contains(&"observe the drain"), "{step}: green is read to its end");
    }
}
