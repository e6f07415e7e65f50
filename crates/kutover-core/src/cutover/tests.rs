//! Lists of outputs: what the machine asks of the world, in which order, and what it does when the world fails it.

use std::collections::BTreeMap;

use super::fixtures::*;
use super::*;
use crate::drain::LogRange;
use crate::words::{Colour, Generation, Offset, TopicPartition};

#[test]
fn a_cutover_that_goes_well() {
    let (stop, world) = World::new(plan(), vec![]).run();
    assert_eq!(stop, Stop::Complete);
    assert_eq!(world.commands[..FORWARD.len()], FORWARD);
    assert_eq!(world.commands[FORWARD.len()..], ["tidy up"]);
    assert_eq!(world.states(), StateName::FORWARD);
    assert!(world.now.since(Millis(1_000)) >= 60_000 + 3_000, "the old TTL and the soak were not waited out");
    let chain = &world.machine.progress().chain;
    assert_eq!(chain.closed_ends(Generation(1), [&place(1)]).unwrap()[&place(1)], Offset(100));
    assert_eq!(chain.segments(&place(0)).len(), 2);
    assert!(world.holds().is_empty());
}

/// L12: a topic that an earlier cutover moved and that is no more keeps its open segment for good. What moves now is closed,
/// held to its ends and removed all the same.
#[test]
fn a_topic_that_left_between_two_cutovers_opens_nothing_again() {
    let with_refunds = || {
        let mut world = World::new(plan(), vec![]);
        let (gone, old) = (TopicPartition::new("refunds", 0), identity(Colour::Blue).cluster_id);
        world.machine.progress.chain.open(gone, Generation(1), Colour::Blue, old, Offset(0)).unwrap();
        world
    };
    let (stop, world) = with_refunds().run();
    assert_eq!(stop, Stop::Complete);
    assert!(world.commands.contains(&"destroy"));
    let records = world.events.iter().find_map(|event| match event {
        Event::Closed { records, .. } => Some(*records),
        _ => None,
    });
    assert_eq!(records, Some(200));
    let mut late = with_refunds().but(|command, _| match command {
        Command::ObserveDrain { .. } => {
            let mut seen = drained(100);
            seen.logs.insert(place(0), Ok(LogRange { start: Offset(0), end: Offset(101) }));
            Some(Ok(Answer::Drain { seen, listed: BTreeMap::new() }))
        }
        _ => None,
    });
    late.machine.plan.timings.hold_limit_ms = Some(1_000);
    let (stop, _) = late.run();
    assert!(matches!(&stop, Stop::Held(why) if why.contains("closed at 100")), "{stop:?}");
}

/// What is left to drain can be told from the journal alone, closed ends and all, by a program that only looks.
#[test]
fn a_checkpoint_tells_what_is_to_be_drained() {
    let (_, world) = World::new(plan(), vec![]).run();
    let told = world.journal.iter().filter_map(|record| match record {
        Record::Checkpoint { progress } => Some((progress.state.name(), progress.to_drain())),
        _ => None,
    });
    for (state, to_drain) in told {
        let drains = (StateName::Converging..=StateName::Retiring).contains(&state);
        assert_eq!(to_drain.is_some(), drains, "{state}");
        let Some((old, required)) = to_drain else { continue };
        assert_eq!(old, incarnation(Colour::Blue));
        let closed = state >= StateName::Draining;
        assert!(required.partitions.iter().all(|(_, end)| !closed || *end == Some(Offset(100))), "{state}");
        assert!(required.groups.contains_key(&"billing".into()));
    }
}

#[test]
fn the_first_outputs_are_a_term_and_then_a_takeover_and_a_claim() {
    let mut machine = Cutover::new(plan(), "run".into(), []);
    machine.handle(Millis(0), Input::Start);
    let take = Command::TakeTerm { nonce: "run".into(), adopt: true, earlier: vec![] };
    let intent = Record::Intent { id: CommandId(1), command: Box::new(take.clone()) };
    assert_eq!(machine.poll(), Output::Persist(Term(0), intent));
    assert_eq!(machine.poll(), Output::Run(CommandId(1), take.clone()));
    assert_eq!(machine.poll(), Output::Wait(Some(Millis(10_000))));
    let taken = answer(&take, 1, &target(1, Colour::Blue));
    machine.handle(Millis(5), Input::Answer(CommandId(1), Ok(taken)));
    assert_eq!(machine.poll(), Output::Persist(Term(1), Record::Takeover { nonce: "run".into() }));
    assert!(matches!(machine.poll(), Output::Persist(Term(1), Record::Checkpoint { .. })));
    assert_eq!(machine.poll(), Output::Notify(Event::TermTaken { term: Term(1) }));
    let claim = Command::Claim {
        nonce: "run".into(),
        target: target(1, Colour::Blue),
        on: vec![incarnation(Colour::Blue)],
        known: [].into(),
    };
    let intent = Record::Intent { id: CommandId(2), command: Box::new(claim.clone()) };
    assert_eq!(machine.poll(), Output::Persist(Term(1), intent));
    assert_eq!(machine.poll(), Output::Run(CommandId(2), claim));
    assert_eq!(machine.poll(), Output::Wait(Some(Millis(10_005))));
}

/// What is done after a command failed: the same again, but a mark rests on a proof that is taken anew.
fn after_failing(command: &'static str, number: usize) -> &'static str {
    match command {
        // Who has come by the end is good to know, and no more.
        _ if number + 1 == FORWARD.len() => "tidy up",
        "mark the removal" => "prove once more",
        // Who has moved meanwhile is heard first.
        "look who writes" | "look for early members" => "read members",
        same => same,
    }
}

/// L14: each command fails once, with its outcome unknown; it is done again, and the cutover completes.
#[test]
fn every_command_may_fail_once() {
    for failing in 0..=FORWARD.len() {
        for kind in [ErrorKind::Unreachable, ErrorKind::Conflict, ErrorKind::NotAuthorised] {
            let (stop, world) =
                World::new(plan(), vec![]).but(|_, n| (n == failing).then(|| Err(failure(kind)))).run();
            assert_eq!(stop, Stop::Complete, "command {failing}");
            assert_eq!(world.commands[failing + 1], after_failing(world.commands[failing], failing));
            assert_eq!(world.holds(), ["test: made to fail"]);
            assert!(world.events.iter().any(|event| matches!(event, Event::Resumed { .. })));
        }
    }
}

/// A cluster that will not be made is not asked for again and again: what was prepared is undone at once, and the reason is the
/// one that was given. A refusal that passes by itself holds.
#[test]
fn a_cluster_that_will_not_be_made_ends_the_cutover() {
    for retry in [Retry::Never, Retry::Later] {
        let mut tries = 0;
        let (stop, world) = World::new(plan(), vec![])
            .but(|command, _| match command {
                Command::Provision { .. } if tries == 0 => {
                    tries += 1;
                    Some(Err(failure(ErrorKind::Refused).with_retry(retry)))
                }
                _ => None,
            })
            .run();
        if retry == Retry::Later {
            assert_eq!((stop, world.holds().len()), (Stop::Complete, 1));
            continue;
        }
        assert_eq!(stop, Stop::Aborted("test: made to fail".into()));
        assert!(world.holds().is_empty(), "{:?}", world.holds());
        assert_eq!(world.commands.iter().filter(|name| **name == "provision").count(), 1);
        assert_eq!(world.commands.last(), Some(&"discard"));
    }
}

/// A command that is never answered is given up on at its deadline and done again, whichever it is.
#[test]
fn every_command_may_time_out() {
    for silent in 0..=FORWARD.len() {
        let mut world = World::new(plan(), vec![]);
        world.silent = Some(silent);
        let (stop, world) = world.run();
        assert_eq!(stop, Stop::Complete, "command {silent}");
        // It may be time again to look for early members first.
        let mut after = world.commands[silent + 1..].iter().filter(|name| **name != "look for early members");
        assert_eq!(after.next(), Some(&after_failing(world.commands[silent], silent)));
        assert_eq!(world.holds().len(), 1, "command {silent}");
        assert!(world.holds()[0].contains("no answer within 10000 ms"), "{:?}", world.holds());
    }
}

/// An answer that comes twice is taken once: nothing is done again for it.
#[test]
fn every_answer_may_come_twice() {
    let mut world = World::new(plan(), vec![]);
    world.twice = true;
    let (stop, world) = world.run();
    assert_eq!(stop, Stop::Complete);
    assert_eq!(world.commands[..FORWARD.len()], FORWARD);
    // The last answer ends the machine, which takes nothing any more.
    assert_eq!(world.machine.late_answers(), FORWARD.len() as u64);
}

/// A command that never answers is given up on and done again; its late answer is counted and ignored.
#[test]
fn a_late_answer_is_counted_and_ignored() {
    let mut machine = Cutover::new(plan(), "run".into(), [Record::Takeover { nonce: "before".into() }]);
    machine.handle(Millis(0), Input::Start);
    let Output::Run(first, command) = machine.poll() else { panic!() };
    machine.handle(Millis(10_000), Input::Tick);
    assert!(matches!(machine.poll(), Output::Notify(Event::Hold { .. })));
    assert_eq!(machine.poll(), Output::Wait(Some(Millis(10_050))));
    machine.handle(Millis(10_050), Input::Tick);
    let Output::Run(second, again) = machine.poll() else { panic!() };
    assert_eq!(command, again);
    let taken = answer(&command, 1, &target(1, Colour::Blue));
    machine.handle(Millis(10_060), Input::Answer(first, Ok(taken.clone())));
    assert_eq!(machine.poll(), Output::Notify(Event::LateAnswer { id: first }));
    machine.handle(Millis(10_070), Input::Answer(second, Ok(taken.clone())));
    machine.handle(Millis(10_071), Input::Answer(second, Ok(taken)));
    assert_eq!(machine.late_answers(), 2);
}

/// G6: whatever was journalled when the controller died, the next one completes the cutover, and nothing is published
/// or opened under another generation than before.
#[test]
fn resumes_from_every_prefix_of_its_journal() {
    let (_, whole) = World::new(plan(), vec![]).run();
    for length in 1..whole.journal.len() {
        let prefix = whole.journal[..length].to_vec();
        let published = prefix.iter().rev().find_map(|record| match record {
            Record::Checkpoint { progress } => progress.published.clone(),
            _ => None,
        });
        let mut world = World::new(plan(), prefix);
        world.term = 2;
        // The publication may have happened without having been journalled; this world says it had not.
        world.published = published.unwrap_or_else(|| target(1, Colour::Blue));
        let (stop, world) = world.run();
        assert_eq!(stop, Stop::Complete, "after {length} records");
        let last = world.machine.progress().published.clone().unwrap();
        assert_eq!(last, target(2, Colour::Green), "after {length} records");
    }
}

#[test]
fn one_cluster_behind_both_colours_holds_and_names_it() {
    let mut tries = 0;
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, _| match command {
            Command::Verify { .. } if tries < 3 => {
                tries += 1;
                let (old, topics) = (identity(Colour::Blue), topics());
                Some(Ok(Answer::Verified { new: old.clone(), old, topics, ttls: ttls(60) }))
            }
            _ => None,
        })
        .run();
    assert_eq!(stop, Stop::Complete, "it goes on when the cause ends");
    assert_eq!(
        world.holds(),
        ["both colours lead to cluster cluster-blue: give the new colour a cluster of its own"]
    );
}

#[test]
fn shared_brokers_are_refused() {
    let mut plan = plan();
    plan.timings.hold_limit_ms = Some(500);
    let (stop, world) = World::new(plan, vec![])
        .but(|command, _| match command {
            Command::Verify { .. } => {
                let mut new = identity(Colour::Green);
                new.brokers.extend(identity(Colour::Blue).brokers);
                Some(Ok(Answer::Verified {
                    old: identity(Colour::Blue),
                    new,
                    topics: topics(),
                    ttls: ttls(60),
                }))
            }
            _ => None,
        })
        .run();
    assert!(matches!(stop, Stop::Aborted(_)));
    assert!(world.holds()[0].starts_with("both clusters advertise the broker 127.9.0.0:9092"));
    assert_eq!(world.commands.last(), Some(&"discard"));
}
