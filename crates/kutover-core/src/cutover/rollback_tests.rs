//! The way back: lists of outputs, and what happens when it is cut short.

use std::collections::BTreeMap;

use super::fixtures::*;
use super::*;
use crate::chain::{ClosedBy, SegmentEnd};
use crate::owner::Target;
use crate::ports::{FenceKind, FenceProof, PartitionEnd, TopicDescription};
use crate::words::{Colour, Generation, Offset, TopicPartition};

/// The number of the command of this name in a cutover that goes well.
pub(super) fn number(name: &str) -> usize {
    FORWARD.iter().rposition(|known| *known == name).unwrap()
}

fn rolled_back_after(command: &str) -> World<'static> {
    let mut world = World::new(plan(), vec![]);
    world.rollback = Some(number(command));
    world
}

pub(super) const BACK: [&str; 17] = [
    "match topics",
    "read ends",
    "list groups",
    "read ends",
    "freshen start offsets",
    "write the intent",
    "raise the fence",
    "prove the fence",
    "read ends",
    "write the chain",
    "reopen",
    "publish the target",
    "announce the target",
    "read members",
    "observe the drain",
    "reopen",
    "set the TTL",
];

/// The barrier's steps come in their order, and the chain goes there and back.
#[test]
fn a_rollback_that_goes_well() {
    let (stop, world) = rolled_back_after("observe the drain").run();
    assert_eq!(stop, Stop::RolledBack("asked for by the operator".into()));
    assert_eq!(world.commands[number("observe the drain") + 1..], BACK);
    assert_eq!(world.published, target(3, Colour::Blue));
    let chain = &world.machine.progress().chain;
    let segments: Vec<_> = chain
        .segments(&place(0))
        .iter()
        .map(|segment| (segment.generation.0, segment.colour, segment.start.0, segment.end))
        .collect();
    let closed = |end, by| SegmentEnd::Closed { end: Offset(end), by };
    assert_eq!(
        segments,
        [
            (1, Colour::Blue, 0, closed(100, ClosedBy::Fence)),
            (2, Colour::Green, 0, closed(100, ClosedBy::Fence)),
            (3, Colour::Blue, 100, SegmentEnd::Open),
        ]
    );
}

/// What came behind a closed end on the cluster that is gone back to is read: the new segment starts where the old one was
/// closed, not where the log ends by now.
#[test]
fn what_came_behind_a_closed_end_is_in_the_next_segment() {
    let mut world = World::new(plan(), vec![]).but(|command, _| match command {
        Command::ReadEnds { old, .. } if old.colour == Colour::Blue => {
            Some(Ok(Answer::Ends { ends: vec![end(0, 103), end(1, 100)] }))
        }
        _ => None,
    });
    world.rollback = Some(number("observe the drain"));
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    let segments = world.machine.progress().chain.segments(&place(0));
    assert_eq!(segments[0].end, SegmentEnd::Closed { end: Offset(100), by: ClosedBy::Fence });
    assert_eq!((segments[2].generation, segments[2].start), (Generation(3), Offset(100)));
}

/// In the middle of converging the old cluster is not fenced: its open segment ends where the next one starts.
#[test]
fn an_open_segment_ends_where_the_next_one_on_its_cluster_starts() {
    let mut plan = plan();
    plan.timings.converge_ms = 20_000;
    let mut world = World::new(plan, vec![]).but(|command, _| match command {
        Command::ReadMembers { .. } => {
            let waiting = producer(1, &target(1, Colour::Blue));
            Some(Ok(Answer::Members { by_cluster: vec![vec![waiting], vec![]] }))
        }
        _ => None,
    });
    world.rollback = Some(number("announce the target") + 1);
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    let segments = world.machine.progress().chain.segments(&place(0));
    assert_eq!(segments[0].end, SegmentEnd::Closed { end: Offset(100), by: ClosedBy::Barrier });
    assert_eq!((segments[2].generation, segments[2].start), (Generation(3), Offset(100)));
    assert!(!world.states().contains(&StateName::Fencing));
}

/// There is a way back from every command between the publication and the mark of removal, none after it, and an abort
/// before it.
#[test]
fn there_is_a_way_back_from_the_publication_to_the_mark() {
    for (command, name) in FORWARD.iter().enumerate().skip(3) {
        let mut world = World::new(plan(), vec![]);
        world.rollback = Some(command);
        let (stop, world) = world.run();
        let published = number("publish the target");
        match stop {
            Stop::Aborted(_) => assert!(command < published, "{name}"),
            Stop::RolledBack(_) => {
                assert!((published - 1..number("mark the removal")).contains(&command), "{name}")
            }
            Stop::Complete => {
                assert!(command >= number("prove once more"), "{name}");
                let text = "retiring cannot be rolled back; it goes on";
                assert!(world.events.contains(&Event::Note { text: text.into() }), "{name}");
            }
            stop => panic!("{name}: {stop:?}"),
        }
    }
}

/// G6: whatever was journalled of a rollback when the controller died, the next one ends it the same way.
#[test]
fn a_rollback_resumes_from_every_prefix_of_its_journal() {
    let (_, whole) = rolled_back_after("announce the target").run();
    let first = whole.journal.iter().position(|record| match record {
        Record::Checkpoint { progress } => matches!(progress.state, State::RollingBack(..)),
        _ => false,
    });
    for length in first.unwrap() + 1..whole.journal.len() {
        let prefix = whole.journal[..length].to_vec();
        let progress = prefix.iter().rev().find_map(|record| match record {
            Record::Checkpoint { progress } => Some(progress),
            _ => None,
        });
        let mut world = World::new(plan(), prefix.clone());
        world.term = 2;
        world.published = progress.unwrap().published.clone().unwrap();
        let (stop, world) = world.run();
        assert!(matches!(stop, Stop::RolledBack(_)), "after {length} records: {stop:?}");
        assert_eq!(world.published, target(3, Colour::Blue), "after {length} records");
        assert_eq!(world.machine.progress().chain, whole.machine.progress().chain, "after {length} records");
    }
}

/// G4: a rollback ends once every group has read what green took, and not before.
#[test]
fn a_rollback_does_not_end_while_green_holds_unread_records() {
    let begun = number("observe the drain");
    let mut looks = 0;
    let mut world = World::new(plan(), vec![]).but(move |command, _| match command {
        Command::ObserveDrain { old, .. } if old.colour == Colour::Green => {
            looks += 1;
            let seen = drained(if looks < 6 { 99 } else { 100 });
            Some(Ok(Answer::Drain { seen, listed: BTreeMap::new() }))
        }
        _ => None,
    });
    world.rollback = Some(begun);
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    let looks = world.commands[begun + 1..].iter().filter(|command| **command == "observe the drain");
    assert_eq!(looks.count(), 6);
}

/// L14: each command of the way back fails once, with its outcome unknown; it is done again. One error of a green that
/// lives does not give it up: its segment keeps its proven end.
#[test]
fn every_command_of_a_rollback_may_fail_once() {
    for (step, name) in BACK.iter().enumerate() {
        let failing = number("observe the drain") + 1 + step;
        let mut world = World::new(plan(), vec![])
            .but(|_, n| (n == failing).then(|| Err(failure(ErrorKind::Unreachable))));
        world.rollback = Some(number("observe the drain"));
        let (stop, world) = world.run();
        assert!(matches!(stop, Stop::RolledBack(_)), "{name}");
        let holds = world.holds();
        assert!(holds.len() == 1 && holds[0].contains("test: made to fail"), "{name}: {holds:?}");
        let left = &world.machine.progress().chain.segments(&place(0))[1];
        assert_eq!(left.end, SegmentEnd::Closed { end: Offset(100), by: ClosedBy::Fence }, "{name}");
        assert!(world.events.iter().all(|event| !matches!(event, Event::BarrierLost { .. })));
    }
}

/// On the way back, and on an abort's, an answer that comes twice is taken once.
#[test]
fn every_answer_of_a_way_back_may_come_twice() {
    let (stop, _) = World::run_twice(|| {
        let mut world = World::new(plan(), vec![]);
        world.rollback = Some(number("observe the drain"));
        world
    });
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    let (stop, world) = World::run_twice(|| {
        let mut plan = plan();
        plan.timings.hold_limit_ms = Some(300);
        let fails = |command: &Command, _| match command {
            Command::Recheck { .. } => Some(Err(failure(ErrorKind::Unreachable))),
            _ => None,
        };
        World::new(plan, vec![]).but(fails)
    });
    assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
    assert!(world.commands.contains(&"discard"), "{:?}", world.commands);
}

/// Without a fence producers go back at once; what they left is closed when it has been quiet, and drained.
#[test]
fn without_a_fence_the_way_back_is_open_at_once() {
    let mut plan = plan();
    plan.fence = FencePolicy::Waived;
    let mut world = World::new(plan, vec![]);
    world.rollback = Some(number("announce the target"));
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    let after = &world.commands[number("announce the target") + 1..];
    assert_eq!(
        after[1..10],
        [
            "match topics",
            "read ends",
            "list groups",
            "read ends",
            "write the intent",
            "read ends",
            "write the chain",
            "reopen",
            "publish the target"
        ]
    );
    let segments = world.machine.progress().chain.segments(&place(0));
    assert_eq!(segments[1].end, SegmentEnd::Closed { end: Offset(100), by: ClosedBy::Quiet });
}

/// L10: nor is it closed there while a transaction is open.
#[test]
fn what_is_left_without_a_fence_waits_for_open_transactions() {
    let mut plan = plan();
    plan.fence = FencePolicy::Waived;
    let mut reads = 0;
    let mut world = World::new(plan, vec![]).but(move |command, _| match command {
        Command::ReadEnds { old, .. } if old.colour == Colour::Green => {
            reads += 1;
            let open = PartitionEnd { stable_end: Offset(98), ..end(1, 99) };
            let second = if reads < 50 { open } else { end(1, 100) };
            Some(Ok(Answer::Ends { ends: vec![end(0, 100), second] }))
        }
        _ => None,
    });
    world.rollback = Some(number("announce the target"));
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    let [why] = world.holds()[..] else { panic!("{:?}", world.holds()) };
    assert!(why.starts_with("not closed: topic orders, partition 1: a transaction is open from 98"), "{why}");
    let left = &world.machine.progress().chain.segments(&place(1))[1];
    assert_eq!(left.end, SegmentEnd::Closed { end: Offset(100), by: ClosedBy::Quiet }, "behind the marker");
}

/// Where a way back without a fence found both partitions to end later, at 109: the drain's looks, and how it ended.
fn back_with_a_latecomer(committed: impl Fn(usize) -> i64 + 'static) -> (Stop, usize, Vec<Event>) {
    let mut plan = plan();
    plan.fence = FencePolicy::Waived;
    let mut looks = 0;
    let mut world = World::new(plan, vec![]).but(move |command, _| match command {
        Command::ObserveDrain { .. } => {
            looks += 1;
            let mut seen = drained(committed(looks));
            seen.logs.values_mut().for_each(|log| log.as_mut().unwrap().end = Offset(109));
            Some(Ok(Answer::Drain { seen, listed: BTreeMap::new() }))
        }
        _ => None,
    });
    world.rollback = Some(number("announce the target"));
    let (stop, world) = world.run();
    let looks = world.commands.iter().filter(|name| **name == "observe the drain").count();
    (stop, looks, world.events.clone())
}

/// G7 (found by seed 201388): a record that came after the quiet window kept the way back waiting for ever, without a word.
/// No fence holds that end: what came since belongs to that cluster's next segment, and is said.
#[test]
fn what_comes_after_the_quiet_window_is_left_and_named() {
    let (stop, looks, events) = back_with_a_latecomer(|look| if look < 3 { 99 } else { 100 });
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    assert_eq!(looks, 3, "not before everything up to the quiet end was read");
    let named = |event: &Event| matches!(event, Event::Note { text } if text.starts_with("18 records came to green behind"));
    assert_eq!(events.iter().filter(|event| named(event)).count(), 1, "{events:?}");
    // Who reads on past it is as well drained.
    assert!(matches!(back_with_a_latecomer(|_| 105).0, Stop::RolledBack(_)));
}

/// G5 (found by seed 400791): a request to lift green's fence was carried out 90 s after its caller had given it up, when a
/// rollback had raised and proven it again. The fence goes up once more; what came meanwhile is named, and nobody waits.
#[test]
fn a_fence_that_was_lifted_behind_our_back_is_raised_again() {
    let mut raised = 0;
    let mut world = World::new(plan(), vec![]).but(move |command, _| match command {
        Command::RaiseFence { old, .. } if old.colour == Colour::Green => {
            raised += 1;
            None
        }
        Command::ObserveDrain { old, .. } if old.colour == Colour::Green => {
            let mut seen = drained(if raised < 3 { 99 } else { 100 });
            // Some come before the second fence, some before the third.
            let end = Offset([100, 104, 109, 109][raised.min(3)]);
            seen.logs.values_mut().for_each(|log| log.as_mut().unwrap().end = end);
            Some(Ok(Answer::Drain { seen, listed: BTreeMap::new() }))
        }
        _ => None,
    });
    let begun = number("observe the drain");
    world.rollback = Some(begun);
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    let after = &world.commands[begun + 1..];
    let count = |name: &str| after.iter().filter(|command| **command == name).count();
    assert_eq!((count("raise the fence"), count("prove the fence")), (3, 3), "{after:?}");
    let named = |event: &Event| matches!(event, Event::Note { text } if text.starts_with("18 records came to green behind"));
    assert_eq!(world.events.iter().filter(|event| named(event)).count(), 1);
    let left = &world.machine.progress().chain.segments(&place(0))[1];
    assert_eq!(
        left.end,
        SegmentEnd::Closed { end: Offset(100), by: ClosedBy::Fence },
        "a closed end never moves"
    );
}

/// A way back that cannot end says why.
#[test]
fn a_way_back_whose_closed_end_no_longer_stands_says_so() {
    let mut plan = plan();
    plan.timings.hold_limit_ms = Some(500);
    let mut world = World::new(plan, vec![]).but(|command, _| match command {
        Command::ObserveDrain { old, .. } if old.colour == Colour::Green => {
            let mut seen = drained(100);
            seen.logs.values_mut().for_each(|log| log.as_mut().unwrap().end = Offset(90));
            Some(Ok(Answer::Drain { seen, listed: BTreeMap::new() }))
        }
        _ => None,
    });
    world.rollback = Some(number("observe the drain"));
    let (stop, _) = world.run();
    let why = "topic orders, partition 0: closed at 100, but the log ends at 90";
    assert_eq!(stop, Stop::Held(why.into()));
}

/// L6 on the way back: what was made on green since is made on blue as well, and closed and drained like the others.
#[test]
fn what_was_born_since_the_switch_goes_back_too() {
    let audit = |partition| TopicPartition::new("audit", partition);
    let ends = move || {
        let of_audit = [0, 1].map(|partition| PartitionEnd { place: audit(partition), ..end(0, 100) });
        [end(0, 100), end(1, 100)].into_iter().chain(of_audit).collect::<Vec<_>>()
    };
    let asked = std::cell::RefCell::new(Vec::new());
    let mut world = World::new(plan(), vec![]).but(|command, _| match command {
        Command::MatchTopics { strict: false, topics: known, .. } => {
            asked.borrow_mut().push(known.len());
            let born = TopicDescription { name: "audit".into(), ..topics()[0].clone() };
            let there = topics().into_iter().chain([born]).collect();
            Some(Ok(Answer::TopicsMatched { notes: vec![], there }))
        }
        Command::ReadEnds { .. } => Some(Ok(Answer::Ends { ends: ends() })),
        Command::ProveFence { old, .. } if old.colour == Colour::Green => {
            let topics = [("orders".into(), (None, 2)), ("audit".into(), (None, 2))].into();
            let proof = FenceProof { kind: FenceKind::Acl, topics, ends: ends() };
            Some(Ok(Answer::FenceProven { proof }))
        }
        Command::ObserveDrain { .. } => {
            let mut seen = drained(100);
            for place in [0, 1].map(audit) {
                seen.logs.insert(place.clone(), seen.logs[&super::fixtures::place(0)].clone());
                let progress = seen.progress[&("billing".into(), super::fixtures::place(0))].clone();
                seen.progress.insert(("billing".into(), place), progress);
            }
            Some(Ok(Answer::Drain { seen, listed: BTreeMap::new() }))
        }
        _ => None,
    });
    world.rollback = Some(number("announce the target"));
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    assert_eq!(*asked.borrow(), [1, 2], "asked again with what was found");
    let segments = world.machine.progress().chain.segments(&audit(1));
    assert_eq!(segments.last().map(|segment| segment.generation), Some(Generation(3)), "{segments:?}");
}

/// After a rollback the next cutover goes to the same colour again, under the next generation.
#[test]
fn a_cutover_follows_a_rollback() {
    let (_, world) = rolled_back_after("announce the target").run();
    let mut stays = World::new(plan(), world.journal.clone());
    (stays.term, stays.published) = (2, target(3, Colour::Blue));
    let (stop, stays) = stays.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "a restart takes nobody there again");
    let mut next = World::new(plan(), stays.journal);
    next.machine = next.machine.again();
    (next.term, next.published) = (3, target(3, Colour::Blue));
    next = next.but(|command, _| match command {
        Command::Recheck { .. } => Some(Ok(Answer::Rechecked {
            old: identity(Colour::Blue),
            new: identity(Colour::Green),
            old_ends: vec![end(0, 100), end(1, 100)],
            new_ends: vec![end(0, 100), end(1, 100)],
            topics: topics(),
        })),
        _ => None,
    });
    let (stop, next) = next.run();
    assert_eq!(stop, Stop::Complete);
    assert_eq!(next.published, target(4, Colour::Green));
    assert_eq!(next.machine.progress().chain.segments(&place(0)).len(), 4);
}

/// G5, found by the small world `rollback`: a controller that died after the redirect is started again, the new cluster is
/// dead, and the operator wants to go back. The start must not wait for the dead one.
#[test]
fn a_start_on_the_way_back_asks_nothing_of_the_cluster_that_is_left() {
    let (_, world) = World::new(plan(), vec![]).run();
    let converging = |record: &Record| matches!(record, Record::Checkpoint { progress } if matches!(progress.state, State::Converging(_)));
    let at = world.journal.iter().position(converging).unwrap();
    let mut machine = Cutover::new(plan(), "again".into(), world.journal[..=at].to_vec());
    machine.handle(Millis(0), Input::Start);
    machine.handle(Millis(0), Input::RollBack);
    let mut begun = false;
    for _ in 0..50 {
        match machine.poll() {
            Output::Run(_, Command::WriteIntent { .. }) => begun = true,
            Output::Run(id, command) => {
                if let Command::Claim { on, .. } = &command {
                    assert_eq!(on, &vec![incarnation(Colour::Blue)]);
                }
                assert!(!matches!(command, Command::Reopen { .. }), "{command:?}");
                let given = answer(&command, 2, &target(2, Colour::Green));
                machine.handle(Millis(0), Input::Answer(id, Ok(given)));
            }
            Output::Wait(_) => break,
            _ => {}
        }
    }
    assert!(begun);
}

/// L20, found by the small world `takeover`: a start reopens the active cluster only where somebody may have shut it, and
/// puts back no isolation of a newer term.
#[test]
fn a_start_reopens_nothing_that_nobody_shut() {
    let reopened = |journal: Vec<Record>, published: Target| {
        let mut world = World::new(plan(), journal);
        (world.term, world.published) = (7, published);
        world.run().1.commands.iter().position(|command| *command == "reopen")
    };
    let (_, forward) = World::new(plan(), vec![]).run();
    let soaking = forward.journal.iter().position(|record| match record {
        Record::Checkpoint { progress } => matches!(progress.state, State::Soaking(_)),
        _ => false,
    });
    let journal = forward.journal[..=soaking.unwrap()].to_vec();
    assert_eq!(reopened(journal, target(2, Colour::Green)), None, "green was never shut");

    let (_, back) = rolled_back_after("isolate").run();
    assert_eq!(
        reopened(back.journal.clone(), target(3, Colour::Blue)),
        Some(3),
        "blue was, before the way back"
    );
    let mut isolations = back.journal.iter().filter_map(|record| match record {
        Record::Intent { command, .. } => match &**command {
            Command::Isolate { nonce, .. } => Some(nonce.as_str()),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(isolations.next(), Some("orders-1-1"), "cutover 1, term 1");
}
