//! Kafka Connect: when connectors are stopped, started and removed, on the way there and on every way back.

use std::collections::BTreeSet;

use super::fixtures::*;
use super::*;
use crate::ports::{ConnectorDescription, ConnectorKind, ConnectorState};
use crate::words::{Colour, ConnectorName};

fn with_connect() -> Plan {
    let connect = ConnectPlan { connectors: ConnectorChoice::All, topics: BTreeSet::new() };
    Plan { connect: Some(connect), ..plan() }
}

/// The acts on connectors of a run, in order: act, left colour, names.
fn acts(journal: &[Record]) -> Vec<(ConnectAct, Colour, Vec<&str>)> {
    let acts = journal.iter().filter_map(|record| match record {
        Record::Intent { command, .. } => match &**command {
            Command::Connect(connect) => Some(connect),
            _ => None,
        },
        _ => None,
    });
    acts.map(|connect| {
        let names = connect.connectors.keys().map(ConnectorName::as_str).collect();
        (connect.act, connect.from.incarnation.colour, names)
    })
    .collect()
}

/// The number of a command among those of a cutover with connectors.
fn number(commands: &[&str], name: &str) -> usize {
    commands.iter().position(|known| *known == name).unwrap()
}

/// What a whole cutover with connectors asks for, in order.
fn clean() -> Vec<&'static str> {
    let (stop, world) = World::new(with_connect(), vec![]).run();
    assert_eq!(stop, Stop::Complete);
    world.commands
}

#[test]
fn sources_stand_still_around_the_publication_and_sinks_follow_the_drain() {
    let (stop, world) = World::new(with_connect(), vec![]).run();
    assert_eq!(stop, Stop::Complete);
    let (both, source, sink) = (vec!["files-in", "files-out"], vec!["files-in"], vec!["files-out"]);
    assert_eq!(
        acts(&world.journal),
        [
            (ConnectAct::Create, Colour::Blue, both.clone()),
            (ConnectAct::HandOver, Colour::Blue, source.clone()),
            (ConnectAct::Start, Colour::Blue, source),
            (ConnectAct::Start, Colour::Blue, sink),
            (ConnectAct::Remove, Colour::Blue, both),
        ]
    );
    let commands = &world.commands;
    let at = |name| number(commands, name);
    assert_eq!(at("find connectors") + 1, at("match topics"), "before anything is touched");
    assert_eq!(at("hand sources over") + 1, at("publish the target"));
    assert!(at("announce the target") < at("start connectors"));
    assert!(at("start connectors") < at("read members"), "before producers are waited for");
    let sinks = commands.iter().rposition(|name| *name == "start connectors").unwrap();
    assert_eq!(sinks, at("observe the drain") + 1);
    assert_eq!(at("see connectors run") + 1, at("mark the removal"), "they are looked at last of all");
    assert!(at("mark the removal") < at("remove connectors") && at("remove connectors") < at("destroy"));
    assert!(
        world
            .events
            .iter()
            .any(|event| event.to_string() == "connectors that move: sources [files-in], sinks [files-out]")
    );
}

/// L14: each command fails once, with its outcome unknown; it is done again.
#[test]
fn every_command_may_fail_once() {
    for failing in 0..clean().len() {
        let unknown = || Err(failure(ErrorKind::Unreachable));
        let (stop, world) = World::new(with_connect(), vec![]).but(|_, n| (n == failing).then(unknown)).run();
        assert_eq!(stop, Stop::Complete, "command {failing}");
        assert_eq!(world.holds(), ["test: made to fail"]);
    }
}

#[test]
fn every_answer_may_come_twice() {
    let (stop, _) = World::run_twice(|| World::new(with_connect(), vec![]));
    assert_eq!(stop, Stop::Complete);
    let publish = number(&clean(), "publish the target");
    let (stop, _) = World::run_twice(|| {
        let mut world = World::new(with_connect(), vec![]);
        world.rollback = Some(publish);
        world
    });
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
}

/// G6: from every prefix of its journal it goes on to its end.
#[test]
fn resumes_from_every_prefix_of_its_journal() {
    let (_, whole) = World::new(with_connect(), vec![]).run();
    for length in 1..whole.journal.len() {
        let prefix = whole.journal[..length].to_vec();
        let published = prefix.iter().rev().find_map(|record| match record {
            Record::Checkpoint { progress } => progress.published.clone(),
            _ => None,
        });
        let mut world = World::new(with_connect(), prefix);
        world.term = 2;
        world.published = published.unwrap_or_else(|| target(1, Colour::Blue));
        let (stop, _) = world.run();
        assert_eq!(stop, Stop::Complete, "after {length} records");
    }
}

/// A step that keeps failing while there is an abort leads to it: sources go on on blue, what was made on green goes.
#[test]
fn what_fails_before_the_publication_goes_back() {
    for failing in [ConnectAct::Create, ConnectAct::HandOver] {
        let mut plan = with_connect();
        plan.timings.hold_limit_ms = Some(500);
        let fails = |command: &Command, _| match command {
            Command::Connect(connect) if connect.act == failing => Some(Err(failure(ErrorKind::Refused))),
            _ => None,
        };
        let (stop, world) = World::new(plan, vec![]).but(fails).run();
        assert_eq!(stop, Stop::Aborted("test: made to fail".into()));
        let acts = acts(&world.journal);
        let [.., (put_back, away, sources), (remove, from, all)] = &acts[..] else { panic!("{acts:?}") };
        assert_eq!(
            (*put_back, *away, &sources[..]),
            (ConnectAct::StartBeside, Colour::Green, &["files-in"][..])
        );
        assert_eq!((*remove, *from, all.len()), (ConnectAct::Remove, Colour::Green, 2));
        assert!(!world.commands.contains(&"publish the target"), "{failing:?}");
    }
}

/// Sinks that cannot be moved hold, and the hold lasts although the drain succeeds again and again.
#[test]
fn sinks_that_cannot_be_moved_hold_up_to_the_limit() {
    let mut plan = with_connect();
    plan.timings.hold_limit_ms = Some(500);
    let fails = |command: &Command, _| match command {
        Command::Connect(connect) if connect.connectors.contains_key(&"files-out".into()) => {
            (connect.act == ConnectAct::Start).then(|| Err(failure(ErrorKind::Unavailable)))
        }
        _ => None,
    };
    let (stop, world) = World::new(plan, vec![]).but(fails).run();
    assert_eq!(stop, Stop::Held("test: made to fail".into()));
    assert_eq!(world.holds().len(), 1);
}

/// Nobody carries what a source reads while it stands still on both clusters: where it cannot be started on the new one for as
/// long as a hold may last, everybody goes back. It goes on at home, from where it stood.
#[test]
fn a_source_that_cannot_be_started_leads_back() {
    let mut plan = with_connect();
    plan.timings.hold_limit_ms = Some(500);
    let fails = |command: &Command, _| match command {
        Command::Connect(connect) => {
            let on_green = connect.to.incarnation.colour == Colour::Green;
            (connect.act == ConnectAct::Start && on_green).then(|| Err(failure(ErrorKind::Refused)))
        }
        _ => None,
    };
    let (stop, world) = World::new(plan, vec![]).but(fails).run();
    assert!(matches!(&stop, Stop::RolledBack(_)), "{stop:?}: {:?}", world.holds());
    let begun = world.journal.iter().find_map(|record| match record {
        Record::Checkpoint { progress } => match &progress.state {
            State::RollingBack(way, _) => Some(way.reason.clone()),
            _ => None,
        },
        Record::Intent { .. } | Record::Takeover { .. } => None,
    });
    assert_eq!(begun.as_deref(), Some("test: made to fail"));
    let home: Vec<_> =
        acts(&world.journal).into_iter().filter(|(_, left, _)| *left == Colour::Green).collect();
    let sources = |act| (act, Colour::Green, vec!["files-in"]);
    assert_eq!(home[..2], [sources(ConnectAct::HandOver), sources(ConnectAct::Start)]);
}

/// An operator need not wait for that.
#[test]
fn a_source_that_cannot_be_started_can_be_taken_back_at_once() {
    let started = number(&clean(), "start connectors");
    let fails = move |command: &Command, n: usize| match command {
        Command::Connect(connect) => {
            let on_green = connect.to.incarnation.colour == Colour::Green;
            (n >= started && connect.act == ConnectAct::Start && on_green)
                .then(|| Err(failure(ErrorKind::Refused)))
        }
        _ => None,
    };
    let mut world = World::new(with_connect(), vec![]).but(fails);
    world.rollback = Some(started + 2);
    let (stop, world) = world.run();
    assert!(matches!(&stop, Stop::RolledBack(_)), "{stop:?}: {:?}", world.holds());
}

/// From every state that has a way back sources are handed over the other way, before anybody is kept from writing; sinks
/// read what came to green, then go on on blue, and green's connectors go.
#[test]
fn a_rollback_hands_over_the_other_way() {
    let clean = clean();
    for from in ["announce the target", "start connectors", "raise the fence", "observe the drain", "isolate"]
    {
        let mut world = World::new(with_connect(), vec![]);
        world.rollback = Some(number(&clean, from));
        let (stop, world) = world.run();
        assert!(matches!(stop, Stop::RolledBack(_)), "{from}: {stop:?}");
        let acts = acts(&world.journal);
        let (source, sink) = (vec!["files-in"], vec!["files-out"]);
        let back: Vec<_> = acts.into_iter().skip_while(|(_, left, _)| *left == Colour::Blue).collect();
        assert_eq!(
            back,
            [
                (ConnectAct::HandOver, Colour::Green, source.clone()),
                (ConnectAct::Start, Colour::Green, source),
                (ConnectAct::StartBeside, Colour::Blue, sink.clone()),
                (ConnectAct::Start, Colour::Green, sink),
                (ConnectAct::Remove, Colour::Green, vec!["files-in", "files-out"]),
            ],
            "{from}"
        );
        let back =
            &world.commands[world.commands.iter().rposition(|name| *name == "match topics").unwrap()..];
        let at = |name| number(back, name);
        assert!(at("hand sources over") < at("write the intent"), "{from}");
        assert_eq!(at("announce the target") + 1, at("start connectors"), "{from}");
        assert_eq!(at("start connectors beside") + 1, at("observe the drain"), "{from}");
    }
}

/// G5: green and its Connect are dead. Producers go back all the same, and so do sources, from where they left blue.
#[test]
fn a_dead_green_keeps_no_source_from_going_back() {
    let (mut dead, raise) = (false, number(&clean(), "raise the fence"));
    let green = |side: &Side| side.incarnation.colour == Colour::Green;
    let mut world = World::new(with_connect(), vec![]).but(move |command, n| {
        dead |= n > raise;
        let reaches_green = match command {
            Command::Connect(connect) => connect.act != ConnectAct::StartBeside && green(&connect.from),
            Command::ReadEnds { old, .. } => old.colour == Colour::Green,
            Command::ReadMembers { on } => on.iter().any(|on| on.colour == Colour::Green),
            _ => false,
        };
        (dead && reaches_green).then(|| match command {
            // What cannot be asked to go is noted by the driver.
            Command::Connect(connect) if connect.act == ConnectAct::Remove => {
                Ok(Answer::Connect(ConnectAnswer::Done { notes: vec!["left".into()] }))
            }
            _ => Err(failure(ErrorKind::Unreachable)),
        })
    });
    world.rollback = Some(raise);
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}: {:?}", world.holds());
    let acts = acts(&world.journal);
    let back: Vec<_> = acts.iter().rev().take(3).map(|(act, _, names)| (*act, names.len())).collect();
    assert_eq!(
        back,
        [(ConnectAct::Remove, 2), (ConnectAct::StartBeside, 1), (ConnectAct::StartBeside, 1)],
        "{acts:?}"
    );
}

/// What was found decides: names that are not there, failed ones, names that green has already.
#[test]
fn connectors_that_cannot_move_hold_before_anything_is_touched() {
    let named = |name: &str| ConnectorChoice::Named([name.into()].into());
    let one = |failed, tasks| {
        let (kind, state) = (ConnectorKind::Sink, ConnectorState::Running);
        ConnectorDescription { kind, state, failed, tasks }
    };
    let taken: BTreeSet<ConnectorName> = ["out".into()].into();
    for (choice, found, taken, why) in [
        (named("in"), one(false, 1), BTreeSet::new(), "plan.connectors names in, which"),
        (ConnectorChoice::All, one(true, 1), BTreeSet::new(), "connector out (or a task of it) has failed"),
        (ConnectorChoice::All, one(false, 0), BTreeSet::new(), "connector out runs without a task"),
        (ConnectorChoice::All, one(false, 1), taken, "connector out is on the new cluster's Connect already"),
    ] {
        let connect = ConnectPlan { connectors: choice, topics: BTreeSet::new() };
        let mut plan = Plan { connect: Some(connect), ..plan() };
        plan.timings.hold_limit_ms = Some(500);
        let found = |command: &Command, _| match command {
            Command::Connect(connect) if connect.act == ConnectAct::Find => {
                let there = [("out".into(), found.clone())].into();
                Some(Ok(Answer::Connect(ConnectAnswer::Found { there, taken: taken.clone() })))
            }
            _ => None,
        };
        let (stop, world) = World::new(plan, vec![]).but(found).run();
        assert!(matches!(&stop, Stop::Aborted(reason) if reason.starts_with(why)), "{stop:?}");
        assert!(!world.commands.contains(&"match topics"), "{why}");
    }
}

/// Topics in which workers keep their own affairs stay: fenced, they would keep the workers from stopping anything.
#[test]
fn the_workers_own_topics_do_not_move() {
    let mut plan = with_connect();
    plan.connect.as_mut().unwrap().topics = ["connect-configs".into()].into();
    let mut there = topics();
    there.push(crate::ports::TopicDescription { name: "connect-configs".into(), ..there[0].clone() });
    assert_eq!(plan.moving(&there).into_keys().collect::<Vec<_>>(), ["orders".into()]);
    let named = Plan { topics: Topics::Named(["orders".into()].into()), ..plan.clone() };
    assert!(named.left_behind(&there).is_empty());
    plan.connect = None;
    assert_eq!(plan.moving(&there).len(), 2);
}
