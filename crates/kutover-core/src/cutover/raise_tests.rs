//! Retention that is raised and restored (L11).

use super::fixtures::*;
use super::*;
use crate::decisions::raise::Raised;
use crate::ports::{TopicConfigs, TopicDescription};
use crate::words::{Colour, TopicName};

const READ: &str = "read configs";
const RAISE: &str = "raise retention";
const RESTORE: &str = "restore retention";

fn raises() -> Plan {
    Plan { raised_retention: Topics::All, ..plan() }
}

/// The topics of both clusters; `orders` has a retention of its own.
fn configured() -> Vec<TopicDescription> {
    let own = |topic: TopicDescription| TopicDescription {
        configs: Some([("retention.ms".to_owned(), "1000".to_owned())].into()),
        ..topic
    };
    topics().into_iter().map(own).collect()
}

fn configs(command: &Command, _: usize) -> Option<Result<Answer, ProviderError>> {
    let told = Answer::Configs { old: configured(), new: configured() };
    matches!(command, Command::ReadConfigs { .. }).then_some(Ok(told))
}

fn before() -> TopicConfigs {
    let stood = [("retention.bytes".to_owned(), None), ("retention.ms".to_owned(), Some("1000".to_owned()))];
    [(TopicName::new("orders"), stood.into())].into()
}

fn intents(world: &World<'_>) -> Vec<(&'static str, Vec<Raised>)> {
    let of = |record: &Record| match record {
        Record::Intent { command, .. } => match &**command {
            Command::RaiseRetention { raised } => Some((command.name(), raised.clone())),
            Command::RestoreRetention { raised } => Some((command.name(), vec![raised.clone()])),
            _ => None,
        },
        _ => None,
    };
    world.journal.iter().filter_map(of).collect()
}

/// The colours on which retention was restored, in order.
fn restored(world: &World<'_>) -> Vec<Colour> {
    let restored = intents(world).into_iter().filter(|(name, _)| *name == RESTORE);
    restored.flat_map(|(_, raised)| raised).map(|raised| raised.on.colour).collect()
}

/// L11: raised on both clusters before the switch, what stood before in the journal first; restored on what remains.
#[test]
fn retention_is_raised_while_it_runs_and_restored_at_its_end() {
    let (stop, world) = World::new(raises(), vec![]).but(configs).run();
    assert_eq!(stop, Stop::Complete);
    let mut expected: Vec<&str> = FORWARD.to_vec();
    let ttl = expected.iter().position(|name| *name == "set the TTL").unwrap();
    expected.splice(ttl..ttl, [READ, RAISE]);
    // What belongs to somebody else stays after its "removal".
    let destroy = expected.iter().position(|name| *name == "destroy").unwrap();
    expected.splice(destroy..destroy, [RESTORE]);
    expected.extend([RESTORE, "tidy up"]);
    assert_eq!(world.commands, expected);
    assert_eq!(restored(&world), [Colour::Blue, Colour::Green]);
    for (_, raised) in intents(&world) {
        assert!(raised.iter().all(|raised| raised.before == before()), "{raised:?}");
    }
    // A controller that dies in the middle finds in its newest checkpoint what stood before.
    let raise = world
        .journal
        .iter()
        .position(|record| matches!(record, Record::Intent { command, .. } if command.name() == RAISE));
    let Record::Checkpoint { progress } = &world.journal[raise.unwrap() - 1] else { panic!() };
    let State::Preparing(_, draft, Preparation::Raise) = &progress.state else { panic!() };
    assert_eq!(draft.raised.len(), 2);
}

#[test]
fn every_answer_may_come_twice() {
    let (stop, _) = World::run_twice(|| World::new(raises(), vec![]).but(configs));
    assert_eq!(stop, Stop::Complete);
}

/// Where the old cluster stays, retention is restored there too.
#[test]
fn retention_is_restored_on_a_cluster_that_stays() {
    let keeps = Plan { remove_old: false, ..raises() };
    let (stop, world) = World::new(keeps, vec![]).but(configs).run();
    assert_eq!(stop, Stop::Complete);
    assert_eq!(world.commands[world.commands.len() - 3..], [RESTORE, RESTORE, "tidy up"]);
}

/// Nothing is looked at where the plan raises nothing, or topics lose nothing by age or size.
#[test]
fn what_loses_nothing_is_not_raised() {
    let compacted = |topic: TopicDescription| TopicDescription {
        configs: Some([("cleanup.policy".to_owned(), "compact".to_owned())].into()),
        ..topic
    };
    let there: Vec<_> = topics().into_iter().map(compacted).collect();
    let (stop, world) = World::new(raises(), vec![])
        .but(move |command, _| {
            let told = Answer::Configs { old: there.clone(), new: there.clone() };
            matches!(command, Command::ReadConfigs { .. }).then_some(Ok(told))
        })
        .run();
    assert_eq!(stop, Stop::Complete);
    assert!(world.commands.contains(&READ) && intents(&world).is_empty());
}

/// What cannot be restored is not raised, and a name that moves nothing is a slip of the pen.
#[test]
fn what_cannot_be_restored_is_not_raised() {
    let mut plan = raises();
    plan.timings.hold_limit_ms = Some(300);
    let (stop, world) = World::new(plan.clone(), vec![]).run();
    assert!(
        matches!(&stop, Stop::Aborted(why) if why.contains("does not tell the configs of topic orders")),
        "{stop:?}"
    );
    assert!(intents(&world).is_empty());
    let misspelt = Plan { raised_retention: Topics::Named(["ordres".into()].into()), ..plan };
    let (stop, _) = World::new(misspelt, vec![]).run();
    assert!(
        matches!(&stop, Stop::Aborted(why) if why.contains("plan.raise_retention names ordres")),
        "{stop:?}"
    );
}

/// An abort restores both clusters, for the new one may belong to somebody else; topics that this cutover made there go.
#[test]
fn an_abort_restores_what_remains() {
    let both = &[Colour::Blue, Colour::Green][..];
    for (made, created, expected) in [(true, false, both), (false, false, both), (true, true, &both[..1])] {
        let mut plan = raises();
        plan.timings.hold_limit_ms = Some(300);
        let (stop, world) = World::new(plan, vec![])
            .but(move |command, n| match command {
                Command::Provision { .. } => Some(Ok(Answer::Provisioned {
                    old: incarnation(Colour::Blue),
                    new: incarnation(Colour::Green),
                    made,
                })),
                Command::MatchTopics { topics: moving, named, .. }
                    if created && named.as_ref() != Some(moving) =>
                {
                    Some(Ok(Answer::TopicsMissing { topics: moving.clone() }))
                }
                Command::Recheck { .. } => Some(Err(failure(ErrorKind::Unreachable))),
                command => configs(command, n),
            })
            .run();
        assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
        assert_eq!(restored(&world), expected, "made: {made}, its topics too: {created}");
    }
}

/// A rollback restores both clusters, in the end; a green that is dead holds it up no longer than the barrier would.
#[test]
fn a_rollback_restores_both_and_waits_for_no_dead_cluster() {
    for dead in [false, true] {
        let mut world = World::new(raises(), vec![]).but(move |command, n| match command {
            Command::RestoreRetention { raised } if dead && raised.on.colour == Colour::Green => {
                Some(Err(failure(ErrorKind::Unreachable)))
            }
            command => configs(command, n),
        });
        world.rollback = FORWARD.iter().position(|name| *name == "observe the drain").map(|at| at + 2);
        let (stop, world) = world.run();
        assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
        let restored = restored(&world);
        assert_eq!(restored[..2], [Colour::Blue, Colour::Green]);
        let by_hand = "set by hand what stood before: orders: retention.bytes not set on the topic, retention.ms `1000`";
        let told = world.events.iter().any(|event| event.to_string().contains(by_hand));
        assert_eq!((told, restored.len() > 2), (dead, dead), "{:?}", world.events);
        assert_eq!(world.commands.last(), Some(&"set the TTL"));
    }
}

/// The cluster that producers belong to is waited for: nothing ends with its retention raised.
#[test]
fn the_cluster_that_serves_is_waited_for() {
    let mut tries = 0;
    let (stop, world) = World::new(raises(), vec![])
        .but(|command, n| match command {
            Command::RestoreRetention { raised } if raised.on.colour == Colour::Green && tries < 20 => {
                tries += 1;
                Some(Err(failure(ErrorKind::Unreachable)))
            }
            command => configs(command, n),
        })
        .run();
    assert_eq!((stop, restored(&world).len()), (Stop::Complete, 22));
}

/// G6: whatever was journalled when the controller died, the next one restores what was raised, also if the plan no longer
/// says that it should be.
#[test]
fn what_was_raised_is_restored_from_every_prefix_of_the_journal() {
    let (_, whole) = World::new(raises(), vec![]).but(configs).run();
    for length in 1..whole.journal.len() {
        let prefix = whole.journal[..length].to_vec();
        let newest = prefix.iter().rev().find_map(|record| match record {
            Record::Checkpoint { progress } => Some(Progress::clone(progress)),
            _ => None,
        });
        let pending = newest.as_ref().and_then(|progress| match &progress.state {
            State::Preparing(_, draft, _) => Some(draft.raised.len()),
            State::Ready(prepared) | State::Redirecting(prepared, _) => Some(prepared.draft.raised.len()),
            State::Converging(left) | State::Fencing(left, _) => Some(left.prepared.draft.raised.len()),
            State::Draining(closed) | State::Soaking(closed) | State::Isolating(closed, _) => {
                Some(closed.redirected.prepared.draft.raised.len())
            }
            State::Retiring(closed, ..) => Some(closed.redirected.prepared.draft.raised.len()),
            _ => None,
        });
        let mut world = World::new(plan(), prefix).but(configs);
        world.term = 2;
        world.published =
            newest.and_then(|progress| progress.published).unwrap_or_else(|| target(1, Colour::Blue));
        let (stop, world) = world.run();
        assert_eq!(stop, Stop::Complete, "after {length} records");
        let since = world.commands.iter().filter(|name| **name == RESTORE).count();
        assert_eq!(since, pending.unwrap_or(0), "after {length} records");
    }
}

/// A journal of a version that knew nothing of this is read as one in which nothing was raised.
#[test]
fn a_journal_without_the_field_is_read() {
    let (_, whole) = World::new(plan(), vec![]).run();
    for record in whole.journal {
        let mut told = serde_json::to_value(&record).unwrap();
        strip(&mut told);
        assert_eq!(serde_json::from_value::<Record>(told).unwrap(), record);
    }
}

fn strip(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.remove("raised");
            fields.values_mut().for_each(strip);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// L18: what has expired before the removal needs no waiver, although nothing of it is deleted while its retention is raised.
#[test]
fn what_is_raised_is_no_history_that_somebody_wants_kept() {
    let told = |retention: &str| -> Vec<TopicDescription> {
        let own = [("cleanup.policy", "delete"), ("retention.ms", retention)];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let own = |topic| TopicDescription { configs: Some(own.clone().into()), ..topic };
        topics().into_iter().map(own).collect()
    };
    let run = |before: &'static str| {
        let plan = Plan { waived_history: Topics::none(), ..raises() };
        let mut plan = Plan { remove_old: true, ..plan };
        plan.timings.hold_limit_ms = Some(500);
        let told = &told;
        let answers = move |command: &Command, _| {
            let mut answer = answer(command, 1, &target(2, Colour::Green));
            match &mut answer {
                Answer::Configs { old, new } => (*old, *new) = (told(before), told(before)),
                Answer::Verified { topics, .. } => *topics = told(before),
                Answer::Rechecked { topics, .. } | Answer::Reproved { topics, .. } => *topics = told("-1"),
                _ => return None,
            }
            Some(Ok(answer))
        };
        World::new(plan, vec![]).but(answers).run().0
    };
    assert_eq!(run("1000"), Stop::Complete);
    let Stop::Aborted(why) = run("86400000") else { panic!("it is kept for longer than the soak") };
    assert!(why.contains("the history of topic orders"), "{why}");
}
