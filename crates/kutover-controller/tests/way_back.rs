//! Ways back, and changes of mind, in a world that has changed meanwhile: a cluster always serves, and nothing is removed
//! that was not shut off.

mod common;

use common::{CONFIG, controller, group, holds, place, record, world};
use futures_util::FutureExt as _;
use kutover_controller::driver::{Finished, Operator};
use kutover_core::chain::SegmentEnd;
use kutover_core::cutover::{Event, StateName, Stop};
use kutover_core::ports::{ClusterAdmin as _, NewTopic};
use kutover_core::words::{Colour, Generation, GroupId, Offset, TopicPartition};
use kutover_memory::MemoryWorld;
use tokio::sync::mpsc;

fn ledger() -> TopicPartition {
    TopicPartition::new("ledger", 0)
}

/// Goes back when the drain begins, after something has happened to the clusters. Groups that are asked for read all there
/// is on green. What holds for a minute ends the run.
async fn back(
    world: &MemoryWorld,
    happens: impl Fn(&MemoryWorld) + Sync,
    readers: &[GroupId],
) -> (Finished, Vec<Event>) {
    let (operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller(world, CONFIG)
        .run(words, |event| {
            match (&event, world.cluster(Colour::Green)) {
                (Event::Entered { state: StateName::Draining }, _) => {
                    happens(world);
                    operator.send(Operator::RollBack).unwrap();
                }
                (Event::Draining { .. }, Some(green)) => {
                    readers.iter().for_each(|group| green.read_all(group))
                }
                _ => {}
            }
            events.push(event);
        })
        .await
        .unwrap();
    (finished, events)
}

/// G5: whoever cannot close the cluster that is left, or cannot open the other, does not shut the one that serves.
async fn green_goes_on(happens: impl Fn(&MemoryWorld) + Sync, says: &str) {
    let world = world().await;
    let (finished, events) = back(&world, happens, &[]).await;
    let Stop::Held(why) = &finished.stop else { panic!("{:?}: {:?}", finished.stop, holds(&events)) };
    assert!(why.contains(says), "{why}");
    world.cluster(Colour::Green).unwrap().produce(&place(0), record("it serves")).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_green_without_one_leader_is_not_shut() {
    let silenced = |world: &MemoryWorld| world.cluster(Colour::Green).unwrap().silence(place(1));
    green_goes_on(silenced, "partition 1").await;
}

#[tokio::test(start_paused = true)]
async fn green_is_not_shut_for_a_blue_without_one_leader() {
    let silenced = |world: &MemoryWorld| world.cluster(Colour::Blue).unwrap().silence(place(1));
    green_goes_on(silenced, "partition 1").await;
}

#[tokio::test(start_paused = true)]
async fn green_is_not_shut_while_partitions_are_gone_there() {
    let gone = |world: &MemoryWorld| {
        let green = world.cluster(Colour::Green).unwrap();
        green.delete_topics(&["orders".into()]).now_or_never().unwrap().unwrap();
        green.add_topic("orders", 1);
    };
    green_goes_on(gone, "topic orders does not have its 2 partitions on green any more").await;
}

/// G5 and G7: blue's topic was closed at 10 and 10, and is deleted and made again, empty. That held behind green's fence, and
/// nobody could write anywhere.
#[tokio::test(start_paused = true)]
async fn a_topic_made_anew_on_blue_bars_no_way_back() {
    let world = world().await;
    let anew = |world: &MemoryWorld| world.cluster(Colour::Blue).unwrap().recreate_topic("orders");
    let (finished, events) = back(&world, anew, &[group()]).await;
    assert!(matches!(finished.stop, Stop::RolledBack(_)), "{:?}: {:?}", finished.stop, holds(&events));
    let blue = world.cluster(Colour::Blue).unwrap();
    blue.produce(&place(0), record("on blue")).unwrap();
    for place in [place(0), place(1)] {
        let segments = finished.progress.chain.segments(&place);
        assert_eq!(segments[0].end, SegmentEnd::Unreadable, "{place}");
        assert_eq!((segments[2].generation, segments[2].start), (Generation(3), Offset(0)), "{place}");
        assert_eq!(
            blue.committed(&group(), &place),
            Some(Offset(0)),
            "{place}: its commit went with the topic"
        );
    }
}

/// L8, L9: a topic that was made on green after the switch goes back like the others, with what stands in it.
#[tokio::test(start_paused = true)]
async fn a_topic_made_on_green_goes_back_too() {
    let world = world().await;
    let accounts = GroupId::new("accounts");
    let made = |world: &MemoryWorld| {
        let green = world.cluster(Colour::Green).unwrap();
        green.add_topic("ledger", 1);
        green.produce(&ledger(), record("acknowledged")).unwrap();
        green.commit(&accounts, &ledger(), Offset(0));
    };
    let (finished, events) = back(&world, made, &[group(), accounts.clone()]).await;
    assert!(matches!(finished.stop, Stop::RolledBack(_)), "{:?}: {:?}", finished.stop, holds(&events));
    let (blue, green) = (world.cluster(Colour::Blue).unwrap(), world.cluster(Colour::Green).unwrap());
    assert!(green.fenced().contains(&"ledger".into()), "it takes records there");
    blue.produce(&ledger(), record("on blue")).unwrap();
    let unread = "group accounts, topic ledger, partition 0: 1 records unread";
    let waited = |event: &Event| matches!(event, Event::Draining { remaining, .. } if remaining.iter().any(|why| why == unread));
    assert!(events.iter().any(waited), "the group was not waited for: {events:?}");
    let segments = finished.progress.chain.segments(&ledger());
    assert_eq!(
        segments.iter().map(|segment| segment.generation).collect::<Vec<_>>(),
        [Generation(2), Generation(3)]
    );
}

/// L7: a group that was born on green has no commit on blue, and would begin there at the end of the log.
#[tokio::test(start_paused = true)]
async fn a_group_that_was_born_on_green_starts_on_blue_where_the_next_segment_does() {
    let world = world().await;
    let audit = GroupId::new("audit");
    let born = |world: &MemoryWorld| {
        let green = world.cluster(Colour::Green).unwrap();
        [0, 1].iter().for_each(|p| green.commit(&audit, &place(*p), Offset(0)));
    };
    let (finished, events) = back(&world, born, &[group(), audit.clone()]).await;
    assert!(matches!(finished.stop, Stop::RolledBack(_)), "{:?}: {:?}", finished.stop, holds(&events));
    let blue = world.cluster(Colour::Blue).unwrap();
    for place in [place(0), place(1)] {
        let next = finished.progress.chain.segments(&place).last().unwrap();
        assert_eq!((next.generation, next.colour), (Generation(3), Colour::Blue));
        assert_eq!(blue.committed(&audit, &place), Some(next.start), "{place}");
    }
}

/// G5: what would be refused on the way there does not bar the way back: the old cluster served as it is.
#[tokio::test(start_paused = true)]
async fn what_differs_on_blue_does_not_bar_the_way_back() {
    let auto = |world: &MemoryWorld| {
        world.cluster(Colour::Blue).unwrap().configure(|options| options.auto_create_topics = true);
    };
    let grown = |world: &MemoryWorld| {
        let more = NewTopic { name: "orders".into(), partitions: 3, replication: 1, configs: [].into() };
        world.cluster(Colour::Blue).unwrap().create_topic(&more).now_or_never().unwrap().unwrap();
    };
    for happens in [&auto as &(dyn Fn(&MemoryWorld) + Sync), &grown] {
        let (finished, events) = back(&world().await, happens, &[group()]).await;
        assert!(matches!(finished.stop, Stop::RolledBack(_)), "{:?}: {:?}", finished.stop, holds(&events));
    }
}

/// G4: an operator who first wants the old cluster kept and then removed gets it shut off first, fenced or not.
#[tokio::test(start_paused = true)]
async fn who_changes_from_keeping_to_removing_gets_an_isolation() {
    for fence in ["", "fence = \"waived\"\napprove = \"manual\"\nquiet_window = \"1s\"\n"] {
        let world = world().await;
        let config = CONFIG.replace("hold_limit = \"60s\"", "hold_limit = \"3s\"");
        let kept = config.replace("[plan]", &format!("[plan]\nremove_old = false\n{fence}"));
        let run = async |config: &str, made: bool| {
            let (operator, words) = mpsc::unbounded_channel();
            let ran = controller(&world, config).run(words, |event| {
                if let Event::AwaitingApproval { gate, .. } = &event {
                    operator.send(Operator::Approve(*gate)).unwrap();
                }
                if made && matches!(event, Event::Published { .. }) {
                    world.cluster(Colour::Blue).unwrap().add_topic("ledger", 1);
                }
            });
            ran.await.unwrap().stop
        };
        assert!(matches!(run(&kept, true).await, Stop::Held(_)), "{fence}");
        let blue = world.cluster(Colour::Blue).unwrap();
        blue.delete_topics(&["ledger".into()]).await.unwrap();
        let removed = config.replace("[plan]", &format!("[plan]\n{fence}"));
        assert_eq!(run(&removed, false).await, Stop::Complete, "{fence}");
        let calls = world.faults.calls();
        let at = |name: &str| calls.iter().position(|call| call == name);
        assert!(
            at("provisioner.isolate").is_some() && at("provisioner.isolate") < at("provisioner.destroy"),
            "{fence}"
        );
    }
}

/// L13: an operator who changes `plan.to` under way means another cluster than the one that would be removed.
#[tokio::test(start_paused = true)]
async fn another_plan_to_under_way_is_refused() {
    let world = world().await;
    world.cluster(Colour::Blue).unwrap().commit(&group(), &place(1), Offset(3));
    let (_operator, words) = mpsc::unbounded_channel();
    let (tell, mut told) = mpsc::unbounded_channel();
    tokio::select! {
        finished = controller(&world, CONFIG).run(words, move |event| {
            if matches!(event, Event::Draining { .. }) {
                tell.send(()).unwrap();
            }
        }) => panic!("{finished:?}"),
        _ = told.recv() => {}
    }
    world.cluster(Colour::Blue).unwrap().read_all(&group());
    let (finished, _) = common::run(&world, &CONFIG.replace("[plan]", "[plan]\nto = \"blue\"")).await;
    let Stop::Refused(why) = finished.unwrap().stop else { panic!("it went on") };
    assert!(why.starts_with("the cutover under way leads to green, and plan.to says blue"), "{why}");
    assert!(world.provisioner.destroyed().is_empty());
}
