//! Whole cutovers through the driver, in memory and in virtual time, with every port call going wrong in every way.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{
    CONFIG, assert_restored, backends, controller, group, holds, place, reached, record, run, world,
};
use kutover_controller::config::Config;
use kutover_controller::driver::{Controller, DriveError, Finished, Operator};
use kutover_core::chain::ClosedBy;
use kutover_core::cutover::{Event, StateName, Stop};
use kutover_core::error::ErrorKind;
use kutover_core::words::{Colour, Generation, GroupId, Offset};
use kutover_memory::{ClientOptions, Fault, ForeignProducer, MemoryWorld};
use tokio::sync::mpsc;

/// Green serves, blue is gone, and the deployment is at generation 2.
fn assert_complete(world: &MemoryWorld, finished: &Finished, about: &str) {
    assert_eq!(finished.stop, Stop::Complete, "{about}");
    let green = world.cluster(Colour::Green).unwrap_or_else(|| panic!("{about}: green is gone"));
    assert!(world.cluster(Colour::Blue).is_none(), "{about}: blue is still there");
    let blue_destroyed = world.provisioner.destroyed().iter().filter(|id| id.as_str() == "KafkaA-1").count();
    assert_eq!(blue_destroyed, 1, "{about}");
    let endpoint = "kafka.orders.test".into();
    assert_eq!(world.dns.active_cluster(&endpoint), Some(green.cluster_id()), "{about}");
    let published = world.dns.published(&endpoint);
    let owner = published.owner.unwrap();
    assert_eq!(owner.target.generation, Generation(2), "{about}");
    assert_eq!(owner.removal, None, "{about}: the mark is still there");
    assert_eq!(published.endpoint.unwrap().ttl_s, 30, "{about}: the TTL was not restored");
    assert!(green.fenced().is_empty(), "{about}: a fence stands on the active cluster");
    assert_restored(&green, about);
    let generations = world.dns.history().into_iter().filter_map(|(_, p)| Some(p.owner?.target.generation));
    assert!(generations.is_sorted(), "{about}: a generation went back");
}

#[tokio::test(start_paused = true)]
async fn a_cutover_in_memory() {
    let world = world().await;
    let (finished, events) = run(&world, CONFIG).await;
    let finished = finished.unwrap();
    assert_complete(&world, &finished, "all goes well");
    assert!(holds(&events).is_empty());
    let states: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Entered { state } => Some(*state),
            _ => None,
        })
        .collect();
    assert_eq!(states, StateName::FORWARD);
    let ends = finished.progress.chain.closed_ends(Generation(1), &[place(0), place(1)]).unwrap();
    assert_eq!(ends.values().map(|end| end.0).collect::<Vec<_>>(), [10, 10]);
    let green = world.cluster(Colour::Green).unwrap();
    for partition in 0..2 {
        let start = green.committed(&group(), &place(partition));
        assert_eq!(start, Some(Offset(0)), "a group without a start would begin at the latest (L7)");
    }
    let fenced = events.iter().any(|event| matches!(event, Event::FenceProven { partitions: 2, .. }));
    assert!(fenced, "segments were closed without a proven fence");
}

/// L14, G6: each port call goes wrong in each way (not done, done but unknown, not done and unknown, silence); the
/// cutover completes all the same, and does nothing twice that must be done once.
#[tokio::test(start_paused = true)]
async fn every_call_may_go_wrong_in_every_way() {
    let clean = world().await;
    let before = clean.faults.calls().len();
    run(&clean, CONFIG).await.0.unwrap();
    let calls = clean.faults.calls();
    assert!(calls.len() - before > 50, "only {} calls", calls.len() - before);
    for (number, call) in calls.iter().enumerate().skip(before) {
        for fault in Fault::all() {
            let about = format!("call {number} ({call}) {fault:?}");
            let world = world().await;
            world.faults.at(number, fault);
            let mut finished = run(&world, CONFIG).await.0;
            if let Err(error) = &finished {
                // A journal that fails stops the controller; the next one goes on.
                assert!(matches!(error, DriveError::Journal(_)), "{about}: {error}");
                finished = run(&world, CONFIG).await.0;
            }
            assert_complete(&world, &finished.unwrap_or_else(|error| panic!("{about}: {error}")), &about);
        }
    }
}

/// G6: the controller is killed in the middle of each call, before or after it took effect; another one goes on from
/// the journal.
#[tokio::test(start_paused = true)]
async fn killed_in_the_middle_of_every_call() {
    let clean = world().await;
    let before = clean.faults.calls().len();
    run(&clean, CONFIG).await.0.unwrap();
    let calls = clean.faults.calls();
    for (number, call) in calls.iter().enumerate().skip(before) {
        for fault in [Fault::Hang, Fault::HangDone] {
            let about = format!("killed in call {number} ({call}), {fault:?}");
            let world = world().await;
            world.faults.at(number, fault);
            let (_operator, words) = mpsc::unbounded_channel();
            let first = controller(&world, CONFIG).run(words, |_| {});
            tokio::select! {
                finished = first => panic!("{about}: it went on to {finished:?}"),
                () = reached(&world, number) => {}
            }
            let (finished, _) = run(&world, CONFIG).await;
            assert_complete(&world, &finished.unwrap_or_else(|error| panic!("{about}: {error}")), &about);
        }
    }
}

/// L20: a controller that wakes up after another one has taken over does nothing more.
#[tokio::test(start_paused = true)]
async fn the_older_of_two_controllers_stops() {
    let world = world().await;
    world.faults.always("blue.members", Fault::NotDone);
    let (_operator, words) = mpsc::unbounded_channel();
    let mut first = Box::pin(controller(&world, CONFIG).run(words, |_| {}));
    tokio::select! {
        finished = &mut first => panic!("it went on to {finished:?}"),
        () = async {
            while !world.faults.calls().iter().any(|call| call == "blue.members") {
                tokio::task::yield_now().await;
                tokio::time::advance(std::time::Duration::from_millis(10)).await;
            }
        } => {}
    }
    world.faults.clear();
    let (finished, _) = run(&world, CONFIG).await;
    assert_complete(&world, &finished.unwrap(), "the newer one");
    // The older one wakes: its next entry, or its next act, is refused.
    match first.await {
        Err(DriveError::Journal(error)) => {
            assert!(matches!(error.kind, ErrorKind::Superseded | ErrorKind::Conflict), "{error}");
        }
        Ok(Finished { stop: Stop::Superseded(_), .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(world.provisioner.destroyed().len(), 1);
    assert!(world.cluster(Colour::Green).unwrap().fenced().is_empty());
}

/// An abort before Redirecting leaves blue serving and nothing behind.
#[tokio::test(start_paused = true)]
async fn an_abort_leaves_nothing_behind() {
    let world = world().await;
    let config = CONFIG.replace("[plan]", "[plan]\napprove = \"manual\"");
    let (operator, words) = mpsc::unbounded_channel();
    let finished = controller(&world, &config)
        .run(words, |event| {
            if matches!(event, Event::AwaitingApproval { .. }) {
                operator.send(Operator::Abort).unwrap();
            }
        })
        .await
        .unwrap();
    assert!(matches!(finished.stop, Stop::Aborted(_)));
    assert!(world.cluster(Colour::Green).is_none(), "green is still there");
    let blue = world.cluster(Colour::Blue).unwrap();
    assert!(blue.fenced().is_empty() && !blue.is_isolated());
    assert_restored(&blue, "after the abort");
    blue.produce(&place(0), record("after")).unwrap();
    blue.read_all(&group());
    let published = world.dns.published(&"kafka.orders.test".into());
    assert_eq!(published.endpoint.unwrap().ttl_s, 30);
    assert_eq!(published.owner.unwrap().target.generation, Generation(1));
    // And the deployment can be cut over later, by the same journal.
    let (finished, _) = run(&world, CONFIG).await;
    assert_complete(&world, &finished.unwrap(), "after the abort");
}

/// L5: green has blue's cluster id. Nothing is published, the reason names the cause, and it ends aborted.
#[tokio::test(start_paused = true)]
async fn green_with_blues_cluster_id() {
    let world = world().await;
    let blue = world.cluster(Colour::Blue).unwrap();
    let options =
        kutover_memory::ClusterOptions { cluster_id: Some(blue.cluster_id()), ..Default::default() };
    world.provisioner.set_options(Colour::Green, options);
    let (finished, events) = run(&world, CONFIG).await;
    assert!(world.provisioner.destroyed().is_empty(), "what cannot be told apart is not destroyed");
    let published = world.dns.published(&"kafka.orders.test".into());
    assert_eq!(
        published.owner.unwrap().target.generation,
        Generation(1),
        "published, and nothing is over there"
    );
    let finished = finished.unwrap();
    assert!(matches!(finished.stop, Stop::Held(_)), "{:?}", finished.stop);
    let first = holds(&events).first().copied().unwrap_or_default();
    assert!(first.starts_with(&format!("both colours lead to cluster {}", blue.cluster_id())), "{first}");
}

/// L8, L12: a leader that takes a record behind the fence holds the cutover with its name; nothing is closed.
#[tokio::test(start_paused = true)]
async fn a_leader_that_does_not_refuse_holds_with_its_name() {
    let world = world().await;
    world.cluster(Colour::Blue).unwrap().leak(place(1));
    let (finished, events) = run(&world, CONFIG).await;
    assert!(matches!(finished.unwrap().stop, Stop::Held(_)));
    let first = holds(&events).first().copied().unwrap_or_default();
    assert!(first.contains("topic orders, partition 1"), "{first}");
    assert!(!events.iter().any(|event| matches!(event, Event::Closed { .. })));
    // The cause ends: the next run goes on from where this one stopped.
    world.cluster(Colour::Blue).unwrap().stop_leaking();
    let (finished, _) = run(&world, CONFIG).await;
    assert_complete(&world, &finished.unwrap(), "every leader refuses");
}

/// L10: the marker of a transaction passes the fence, and nothing is closed before it stands: the drain would wait for ever.
#[tokio::test(start_paused = true)]
async fn an_open_transaction_is_waited_for() {
    let world = world().await;
    let blue = world.cluster(Colour::Blue).unwrap();
    let open = blue.begin();
    open.produce(&place(1), record("open")).unwrap();
    let (_operator, words) = mpsc::unbounded_channel();
    let mut reasons = vec![];
    let finished = controller(&world, CONFIG)
        .run(words, |event| {
            if let Event::Hold { reason, .. } = event {
                blue.abort_transaction(open.id());
                reasons.push(reason);
            }
        })
        .await
        .unwrap();
    assert_complete(&world, &finished, "its marker stands");
    let [why] = reasons.as_slice() else { panic!("{reasons:?}") };
    assert!(why.contains("topic orders, partition 1: a transaction is open from 10 (end 11)"), "{why}");
    let ends = finished.progress.chain.closed_ends(Generation(1), &[place(0), place(1)]).unwrap();
    assert_eq!(ends[&place(1)], Offset(12), "behind the marker");
}

/// L9: a group that has not read everything, and one born after the plan was made, hold the drain by name.
#[tokio::test(start_paused = true)]
async fn unread_records_hold_the_drain_by_name() {
    let world = world().await;
    let blue = world.cluster(Colour::Blue).unwrap();
    blue.commit(&GroupId::new("late"), &place(1), kutover_core::words::Offset(3));
    let (_operator, words) = mpsc::unbounded_channel();
    let mut reasons = vec![];
    let reader = blue.clone();
    let finished = controller(&world, CONFIG)
        .run(words, |event| {
            if let Event::Draining { remaining, .. } = &event
                && !remaining.is_empty()
            {
                reasons.extend(remaining.clone());
                reader.read_all(&GroupId::new("late"));
            }
        })
        .await;
    assert_complete(&world, &finished.unwrap(), "read to the end");
    assert!(
        reasons.contains(&"group late, topic orders, partition 1: 7 records unread".to_owned()),
        "{reasons:?}"
    );
}

/// Where the fence is waived, the ends are closed by quiet, and a person approves the removal.
#[tokio::test(start_paused = true)]
async fn a_waived_fence_closes_by_quiet() {
    let world = world().await;
    world.provisioner.set_isolates(false);
    let config =
        CONFIG.replace("[plan]", "[plan]\nfence = \"waived\"\napprove = \"manual\"\nquiet_window = \"3s\"");
    let (operator, words) = mpsc::unbounded_channel();
    let finished = controller(&world, &config)
        .run(words, |event| {
            if let Event::AwaitingApproval { gate, .. } = event {
                operator.send(Operator::Approve(gate)).unwrap();
            }
        })
        .await
        .unwrap();
    assert_complete(&world, &finished, "waived");
    let segments = finished.progress.chain.segments(&place(0)).to_vec();
    let by_quiet =
        kutover_core::chain::SegmentEnd::Closed { end: kutover_core::words::Offset(10), by: ClosedBy::Quiet };
    assert_eq!(segments[0].end, by_quiet);
}

/// L8: where nothing can refuse a producer that stays, nothing is closed, and so nothing removed, whatever a person says yes
/// to. It ends held, with its name.
#[tokio::test(start_paused = true)]
async fn without_a_fence_nothing_is_removed_while_somebody_writes() {
    let world = world().await;
    let mut console = ForeignProducer::start(&world.cluster(Colour::Blue).unwrap(), ClientOptions::default());
    let writing = tokio::spawn(async move {
        loop {
            console.send(&place(0), record("from the console")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let config = CONFIG
        .replace("[plan]", "[plan]\nfence = \"waived\"\napprove = \"manual\"\nquiet_window = \"1s\"")
        .replace("hold_limit = \"60s\"", "hold_limit = \"10s\"");
    let (operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller(&world, &config).run(words, |event| {
        if let Event::AwaitingApproval { gate, .. } = event {
            operator.send(Operator::Approve(gate)).unwrap();
        }
        events.push(event);
    });
    let Stop::Held(why) = finished.await.unwrap().stop else { panic!("{events:?}") };
    assert!(
        why.starts_with("still writing to the old cluster, which cannot be closed: producer id "),
        "{why}"
    );
    assert!(!writing.is_finished(), "it was refused");
    assert!(!events.iter().any(|event| matches!(event, Event::Closed { .. } | Event::Removed { .. })));
    assert!(world.provisioner.destroyed().is_empty() && world.cluster(Colour::Blue).is_some());
}

/// The journal is lost, or it is another deployment's record: refused, with the fix, and nothing is done.
#[tokio::test(start_paused = true)]
async fn foreign_and_forgotten_deployments_are_refused() {
    let world = world().await;
    let adopted = controller(&world, CONFIG).adopt(|_| {}).await.unwrap();
    assert_eq!(adopted.stop, Stop::Adopted);
    let mut forgetful = backends(&world);
    forgetful.journal = Arc::new(kutover_memory::MemoryJournal::new(&world.faults));
    let config = Config::parse(CONFIG).unwrap();
    let (_operator, words) = mpsc::unbounded_channel();
    let finished =
        Controller::new(config.cutover_plan(), config.deployment(), forgetful).run(words, |_| {}).await;
    let Stop::Refused(why) = finished.unwrap().stop else { panic!("an empty journal was accepted") };
    assert!(why.contains("but the journal is empty"), "{why}");

    let foreign = CONFIG.replace("deployment = \"orders\"", "deployment = \"payments\"");
    let (finished, _) = run(&world, &foreign).await;
    let Stop::Refused(why) = finished.unwrap().stop else { panic!("a foreign record was taken over") };
    assert!(why.contains("belongs to deployment orders, not payments"), "{why}");
    assert!(world.cluster(Colour::Green).is_none());
}

/// There and back again: a new blue, generation 3; and a blue that was kept, fenced, which takes writes again.
#[tokio::test(start_paused = true)]
async fn there_and_back_again() {
    for keep in [false, true] {
        let world = world().await;
        let there =
            if keep { CONFIG.replace("[plan]", "[plan]\nremove_old = false") } else { CONFIG.to_owned() };
        let (finished, _) = run(&world, &there).await;
        assert_eq!(finished.unwrap().stop, Stop::Complete);
        let green = world.cluster(Colour::Green).unwrap();
        green.read_all(&group());
        assert_eq!(world.cluster(Colour::Blue).is_some(), keep);
        let back = CONFIG.replace("[plan]", "[plan]\nto = \"blue\"");
        let (finished, events) = run(&world, &back).await;
        let finished = finished.unwrap();
        assert_eq!(finished.stop, Stop::Complete, "{:?}", holds(&events));
        let blue = world.cluster(Colour::Blue).unwrap();
        assert!(world.cluster(Colour::Green).is_none(), "green is still there");
        assert!(blue.fenced().is_empty(), "a fence stands on the active cluster");
        blue.produce(&place(0), record("back")).unwrap();
        let owner = world.dns.published(&"kafka.orders.test".into()).owner.unwrap();
        assert_eq!((owner.target.generation, owner.target.colour), (Generation(3), Colour::Blue));
        let segments = finished.progress.chain.segments(&place(0)).to_vec();
        assert_eq!(segments.iter().map(|segment| segment.generation.0).collect::<Vec<_>>(), [1, 2, 3]);
    }
}

/// Two deployments cannot share a cluster: the second one is refused before it has written a word there.
#[tokio::test(start_paused = true)]
async fn another_deployments_cluster_is_refused() {
    let world = world().await;
    assert_eq!(controller(&world, CONFIG).adopt(|_| {}).await.unwrap().stop, Stop::Adopted);
    let elsewhere = kutover_memory::MemoryWorld {
        dns: kutover_memory::MemoryDns::new(&world.faults),
        journal: kutover_memory::MemoryJournal::new(&world.faults),
        ..world.clone()
    };
    let other = CONFIG.replace("deployment = \"orders\"", "deployment = \"payments\"");
    let (finished, _) = run(&elsewhere, &other).await;
    let Stop::Refused(why) = finished.unwrap().stop else { panic!("it took another deployment's cluster") };
    assert!(why.contains("belongs to deployment orders, not payments"), "{why}");
}
