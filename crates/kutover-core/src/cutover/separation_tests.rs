//! L16: nobody is pointed at a cluster that gives out ids which another one has given out.

use std::cell::{Cell, RefCell};

use super::fixtures::*;
use super::*;
use crate::decisions::separation::Room;

fn given(world: &World<'_>, cluster: &str) -> (u64, u64) {
    let given = &world.machine.progress().given[&cluster.into()];
    (given.from, *given.newest[&0].as_ref().unwrap())
}

/// The two clusters are fresh. Ids are used up call by call, with the progress told, and then the preparation goes on.
#[test]
fn ids_are_used_up_before_the_switch() {
    let newest = Cell::new(3);
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, _| match command {
            Command::ProducerIds { mark, .. } => {
                // A call comes no further than 1,500 ids.
                newest.set(mark.map_or(newest.get() + 1, |mark| mark.min(newest.get() + 1_500)));
                Some(Ok(ids(7, newest.get())))
            }
            _ => None,
        })
        .run();
    assert_eq!(stop, Stop::Complete);
    // Blue's block and one in advance end at 2,000, and 1,000 are for whoever starts there meanwhile.
    let told: Vec<String> = world
        .events
        .iter()
        .filter(|event| matches!(event, Event::SeparatingIds { .. } | Event::IdsSeparated { .. }))
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        told[..3],
        [
            "using up producer ids up to 3000: up to 3996 to go, brokers below it: 1",
            "using up producer ids up to 3000: up to 2496 to go, brokers below it: 1",
            "producer ids are separated: all start above 3000",
        ]
    );
    assert_eq!(told.len(), 5, "it is looked at right before the switch and after the fence: {told:?}");
    assert_eq!((given(&world, "cluster-blue"), given(&world, "cluster-green").0), ((0, 7), 3_000));
    assert!(world.holds().is_empty());
}

/// A journal is text: what stands in it is read again as it was.
#[test]
fn what_is_remembered_of_ids_survives_the_journal() {
    let (_, world) = World::new(plan(), vec![]).run();
    assert!(!world.machine.progress().given.is_empty());
    for record in &world.journal {
        let text = serde_json::to_string(record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), *record);
    }
}

/// The head-room is gone when everything is approved: the mark moves before anybody is pointed there.
#[test]
fn head_room_that_is_gone_moves_the_mark_before_the_switch() {
    let looks = Cell::new(0);
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, _| match command {
            Command::ProducerIds { mark: None, .. } => {
                looks.set(looks.get() + 1);
                Some(Ok(ids(if looks.get() == 1 { 7 } else { 6_500 }, 5_007)))
            }
            Command::ProducerIds { mark: Some(mark), .. } => Some(Ok(ids(6_500, *mark))),
            _ => None,
        })
        .run();
    assert_eq!(stop, Stop::Complete);
    let at = |name| world.commands.iter().position(|command| *command == name).unwrap();
    assert!(at("use up producer ids") < at("publish the target"));
    assert_eq!(
        given(&world, "cluster-green"),
        (3_000, 9_000),
        "what it gave out since the first mark is its own"
    );
}

/// A cutover to which this is told of ids, by whether the fence stands and the mark that is asked for; what the fixture tells where
/// it is nothing.
fn told<'a>(tell: impl Fn(bool, Option<u64>) -> Option<Answer> + 'a) -> (Stop, World<'a>) {
    let fenced = Cell::new(false);
    World::new(plan(), vec![])
        .but(move |command, _| match command {
            Command::RaiseFence { .. } => {
                fenced.set(true);
                None
            }
            Command::ProducerIds { mark, .. } => tell(fenced.get(), *mark).map(Ok),
            _ => None,
        })
        .run()
}

/// The old cluster has overtaken the mark while it was left: what it takes to be apart again is done, and said.
#[test]
fn ids_are_looked_at_again_after_the_fence() {
    let (stop, world) = told(|fenced, mark| fenced.then(|| ids(6_500, mark.unwrap_or(5_007))));
    assert_eq!(stop, Stop::Complete);
    let at = |name| world.commands.iter().position(|command| *command == name).unwrap();
    assert!(at("prove the fence") < at("use up producer ids"));
    assert!(at("use up producer ids") < at("observe the drain"));
}

/// The broker of blue that has given out the highest ids is away after the fence: they are as high as they were, for this cutover
/// and the next one.
#[test]
fn what_a_broker_gave_out_that_is_away_is_not_forgotten() {
    let (stop, world) = told(|fenced, mark| {
        let mut old = crate::ports::NewestIds::from([(0, Ok(7)), (1, Ok(6_500))]);
        old.retain(|broker, _| *broker == 0 || !fenced);
        let new = [(0, Ok(mark.unwrap_or(3)))].into();
        Some(Answer::ProducerIds { old, new, live: Some([].into()) })
    });
    assert_eq!(stop, Stop::Complete);
    assert_eq!(world.machine.progress().given[&"cluster-blue".into()].newest[&1], Ok(6_500));
    // Up to 7,000, a block in advance of each broker, and the head-room.
    let apart = |event: &Event| matches!(event, Event::IdsSeparated { mark: 10_000 });
    assert!(world.events.iter().any(apart), "{:?}", world.events);
}

/// More than the plan allows, a broker that is silent, writers whom nobody can tell apart: nobody is pointed there.
#[test]
fn what_cannot_be_separated_holds_and_says_how_to_go_on() {
    let silent = Answer::ProducerIds {
        old: [(0, Ok(7)), (1, Err("timed out".into()))].into(),
        new: [(0, Ok(5_007))].into(),
        live: Some([].into()),
    };
    let unknown_writers = Answer::ProducerIds {
        old: [(0, Ok(7))].into(),
        new: [(0, Ok(5_007))].into(),
        live: Some([7].into()),
    };
    for (seen, why) in [
        (ids(900_000, 3), "about 165 s, more than the 100000 that are allowed"),
        (silent, "broker 1: timed out"),
        (unknown_writers, "1 producer ids with state there"),
    ] {
        let mut plan = plan();
        plan.timings.hold_limit_ms = Some(500);
        let (stop, world) = World::new(plan, vec![])
            .but(|command, _| matches!(command, Command::ProducerIds { .. }).then(|| Ok(seen.clone())))
            .run();
        assert!(matches!(&stop, Stop::Aborted(text) if text.contains(why)), "{stop:?}");
        assert!(world.holds()[0].contains("plan.separation"), "{:?}", world.holds());
        assert!(!world.commands.contains(&"publish the target"));
    }
}

/// A person who stops it while ids are used up is heeded at once.
#[test]
fn using_up_can_be_stopped() {
    let mut plan = plan();
    plan.separation = SeparationPolicy::Required(Room { head_room: 1_000_000, most: u64::MAX });
    let mut machine = Cutover::new(plan, "run".into(), []);
    machine.handle(Millis(0), Input::Start);
    let (mut now, mut used_up, mut commands) = (Millis(0), 0, vec![]);
    loop {
        match machine.poll() {
            Output::Run(id, command) => {
                commands.push(command.name());
                now = now.plus(1);
                let given = answer(&command, 1, &target(1, crate::words::Colour::Blue));
                machine.handle(now, Input::Answer(id, Ok(given)));
                used_up += u64::from(commands.last() == Some(&"use up producer ids"));
                if used_up == 5 {
                    machine.handle(now, Input::Abort);
                }
            }
            Output::Stop(stop) => break assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}"),
            Output::Wait(until) => {
                now = until.unwrap();
                machine.handle(now, Input::Tick);
            }
            Output::Persist(..) | Output::Notify(_) => {}
        }
    }
    assert_eq!(commands.last(), Some(&"discard"));
}

/// On a cluster that was apart from the beginning nobody has to be asked who wrote there, which not every cluster can tell;
/// where the other one has caught up, it is asked.
#[test]
fn writers_are_asked_only_where_ids_may_overlap() {
    for (old_after, asked) in [(7, vec![true, false, false]), (2_500, vec![true, false, false, true])] {
        let (seen, fenced) = (RefCell::new(vec![]), Cell::new(false));
        let (stop, _) = World::new(plan(), vec![])
            .but(|command, _| match command {
                Command::RaiseFence { .. } => {
                    fenced.set(true);
                    None
                }
                Command::ProducerIds { writers_of, mark, .. } => {
                    seen.borrow_mut().push(writers_of.is_some());
                    let old = Ok(if fenced.get() { old_after } else { 7 });
                    let new = Ok(mark.unwrap_or(5_007));
                    let live = writers_of.as_ref().map(|_| [].into());
                    Some(Ok(Answer::ProducerIds { old: [(0, old)].into(), new: [(0, new)].into(), live }))
                }
                _ => None,
            })
            .run();
        assert_eq!(stop, Stop::Complete);
        assert_eq!(seen.into_inner(), asked, "preparing, before the switch, after the fence");
    }
}

/// Waived by name: nobody asks for an id.
#[test]
fn a_waived_separation_asks_nothing() {
    let mut plan = plan();
    plan.separation = SeparationPolicy::Waived;
    let (stop, world) = World::new(plan, vec![]).run();
    assert_eq!(stop, Stop::Complete);
    assert!(!world.commands.iter().any(|command| command.ends_with("producer ids")), "{:?}", world.commands);
}

/// A restart with another plan goes on by that one, whatever stood in the journal.
#[test]
fn a_plan_that_waives_it_later_lets_a_held_cutover_go_on() {
    let mut strict = plan();
    strict.timings.hold_limit_ms = Some(500);
    let fenced = Cell::new(false);
    let (stop, held) = World::new(strict, vec![])
        .but(|command, _| match command {
            Command::RaiseFence { .. } => {
                fenced.set(true);
                None
            }
            Command::ProducerIds { .. } if fenced.get() => Some(Ok(ids(6_500_000, 5_007))),
            _ => None,
        })
        .run();
    assert!(matches!(&stop, Stop::Held(text) if text.contains("plan.separation")), "{stop:?}");
    let mut waived = plan();
    waived.separation = SeparationPolicy::Waived;
    let mut world = World::new(waived, held.journal);
    world.term = 2;
    world.published = held.published;
    assert_eq!(world.run().0, Stop::Complete);
}
