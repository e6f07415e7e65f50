//! Rollbacks through the driver, in memory and in virtual time, with every port call of one going wrong in every way.

mod common;

use common::{CONFIG, assert_restored, controller, group, holds, place, reached, record, run, world};
use kutover_controller::driver::{DriveError, Finished, Operator};
use kutover_core::chain::{ClosedBy, SegmentEnd};
use kutover_core::cutover::{Event, StateName, Stop};
use kutover_core::ports::ClusterAdmin as _;
use kutover_core::words::{Colour, Generation, Nonce, Offset};
use kutover_memory::{Fault, MemoryWorld};
use tokio::sync::mpsc;

/// Runs a cutover and goes back when it enters a state. Green takes two records before that, which the group reads once
/// they hold the drain.
async fn go_back(
    world: &MemoryWorld,
    config: &str,
    at: StateName,
) -> (Result<Finished, DriveError>, Vec<Event>) {
    let (operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller(world, config)
        .run(words, |event| {
            let green = world.cluster(Colour::Green);
            match (&event, green) {
                (Event::Published { target }, Some(green)) if target.colour == Colour::Green => {
                    for n in 0..2 {
                        green.produce(&place(n), record("on green")).unwrap();
                    }
                }
                (Event::Draining { .. }, Some(green)) => green.read_all(&group()),
                (Event::Entered { state }, _) if *state == at => operator.send(Operator::RollBack).unwrap(),
                (Event::AwaitingApproval { gate, .. }, _) => operator.send(Operator::Approve(*gate)).unwrap(),
                _ => {}
            }
            events.push(event);
        })
        .await;
    (finished, events)
}

/// Goes on with what an earlier controller began, until it ends.
async fn go_on(world: &MemoryWorld) -> (Result<Finished, DriveError>, Vec<Event>) {
    go_back(world, CONFIG, StateName::Draining).await
}

/// Blue serves generation 3 and takes records, green is there, fenced and read to its end.
async fn assert_back(world: &MemoryWorld, finished: &Finished, about: &str) {
    assert!(matches!(finished.stop, Stop::RolledBack(_)), "{about}: {:?}", finished.stop);
    let blue = world.cluster(Colour::Blue).unwrap_or_else(|| panic!("{about}: blue is gone"));
    let green = world.cluster(Colour::Green).unwrap_or_else(|| panic!("{about}: green is gone"));
    let published = world.dns.published(&"kafka.orders.test".into());
    let owner = published.owner.unwrap();
    assert_eq!((owner.target.generation, owner.target.colour), (Generation(3), Colour::Blue), "{about}");
    assert_eq!((owner.intent, owner.removal), (None, None), "{about}");
    assert_eq!(published.endpoint.unwrap().ttl_s, 30, "{about}: the TTL was not restored");
    assert!(blue.fenced().is_empty() && !blue.is_isolated(), "{about}: the active cluster is shut");
    blue.prove_open(&["orders".into()]).await.unwrap();
    assert!(green.fenced().contains(&"orders".into()), "{about}: green takes records");
    assert!(world.provisioner.destroyed().is_empty(), "{about}");
    assert_restored(&blue, about);
    assert_restored(&green, about);
    let chain = &finished.progress.chain;
    for partition in 0..2 {
        let segments = chain.segments(&place(partition));
        assert_eq!(segments.iter().map(|s| s.generation.0).collect::<Vec<_>>(), [1, 2, 3], "{about}");
        assert_eq!(segments[2].start, Offset(10), "{about}");
        let closed = SegmentEnd::Closed { end: Offset(1), by: ClosedBy::Fence };
        assert_eq!(segments[1].end, closed, "{about}");
        assert_eq!(
            green.committed(&group(), &place(partition)),
            Some(Offset(1)),
            "{about}: not read to its end"
        );
    }
}

/// From every state that has a way back, also with clients shut out of blue already.
#[tokio::test(start_paused = true)]
async fn back_from_every_state() {
    for at in [
        StateName::Converging,
        StateName::Fencing,
        StateName::Draining,
        StateName::Soaking,
        StateName::Isolating,
        StateName::Retiring,
    ] {
        let world = world().await;
        let (finished, events) = go_back(&world, CONFIG, at).await;
        assert_back(&world, &finished.unwrap(), &format!("from {at}: {:?}", holds(&events))).await;
    }
}

/// G5: a load balancer that calls blue's brokers ill does not bar the way back to them: producers have nowhere else to go.
#[tokio::test(start_paused = true)]
async fn what_the_platform_says_of_blue_does_not_bar_the_way_back() {
    let world = world().await;
    world.provisioner.set_ready(Colour::Blue, false);
    let (finished, events) = go_back(&world, CONFIG, StateName::Draining).await;
    assert_back(&world, &finished.unwrap(), &format!("{:?}", holds(&events))).await;
    let asked = world.faults.calls().iter().filter(|call| *call == "provisioner.is_ready").count();
    assert_eq!(asked, 1, "only green was switched to");
}

/// G5: a mark that landed without the controller learning it is not yet a removal. Nothing rests on it, and the way back takes
/// it out.
#[tokio::test(start_paused = true)]
async fn a_mark_that_was_never_learnt_does_not_bar_the_way_back() {
    let clean = world().await;
    assert_eq!(run(&clean, CONFIG).await.0.unwrap().stop, Stop::Complete);
    let calls = clean.faults.calls();
    let destroyed = calls.iter().position(|call| call == "provisioner.destroy").unwrap();
    let mark = calls[..destroyed].iter().rposition(|call| call == "dns.compare_and_set").unwrap();
    let world = world().await;
    world.faults.at(mark, Fault::UnknownDone);
    let (operator, words) = mpsc::unbounded_channel();
    let mut marked = None;
    let finished = controller(&world, CONFIG)
        .run(words, |event| {
            if matches!(event, Event::Hold { state: StateName::Retiring, .. }) {
                marked = world.dns.published(&"kafka.orders.test".into()).owner.unwrap().removal;
                operator.send(Operator::RollBack).unwrap();
            }
        })
        .await
        .unwrap();
    assert!(marked.is_some(), "it had landed");
    assert!(matches!(finished.stop, Stop::RolledBack(_)), "{:?}", finished.stop);
    assert_eq!(world.dns.published(&"kafka.orders.test".into()).owner.unwrap().removal, None);
    assert!(world.provisioner.destroyed().is_empty());
}

/// L14, G6: each port call of a rollback goes wrong in each way, and the rollback ends the same way.
#[tokio::test(start_paused = true)]
async fn every_call_of_a_rollback_may_go_wrong_in_every_way() {
    let (clean, first) = clean().await;
    for (number, call) in clean.iter().enumerate().skip(first) {
        for fault in Fault::all() {
            let about = format!("call {number} ({call}) {fault:?}");
            let world = world().await;
            world.faults.at(number, fault);
            let mut finished = go_back(&world, CONFIG, StateName::Draining).await.0;
            if matches!(finished, Err(DriveError::Journal(_))) {
                finished = go_on(&world).await.0;
            }
            assert_back(&world, &finished.unwrap_or_else(|error| panic!("{about}: {error}")), &about).await;
        }
    }
}

/// G6: the controller is killed in the middle of each call of a rollback; another one goes on from the journal.
#[tokio::test(start_paused = true)]
async fn killed_in_the_middle_of_every_call_of_a_rollback() {
    let (clean, first) = clean().await;
    for (number, call) in clean.iter().enumerate().skip(first) {
        for fault in [Fault::Hang, Fault::HangDone] {
            let about = format!("killed in call {number} ({call}), {fault:?}");
            let world = world().await;
            world.faults.at(number, fault);
            tokio::select! {
                finished = go_back(&world, CONFIG, StateName::Draining) => panic!("{about}: it ended, {:?}", finished.0),
                () = reached(&world, number) => {}
            }
            let (finished, _) = go_on(&world).await;
            assert_back(&world, &finished.unwrap_or_else(|error| panic!("{about}: {error}")), &about).await;
        }
    }
}

/// The calls of a rollback in which all goes well, and the number of its first one.
async fn clean() -> (Vec<String>, usize) {
    let world = world().await;
    go_back(&world, CONFIG, StateName::Draining).await.0.unwrap();
    let calls = world.faults.calls();
    // The first call that only a rollback makes is on its way back to blue's topics.
    let first = calls.iter().rposition(|call| call == "green.raise_fence").unwrap();
    (calls, first - 8)
}

/// G5: green is dead. Producers are led back all the same, and only green's removal is left undone.
#[tokio::test(start_paused = true)]
async fn back_from_a_dead_green() {
    let world = world().await;
    let (operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller(&world, CONFIG)
        .run(words, |event| {
            if matches!(event, Event::Entered { state: StateName::Converging }) {
                world.cluster(Colour::Green).unwrap().kill();
                operator.send(Operator::RollBack).unwrap();
            }
            events.push(event);
        })
        .await
        .unwrap();
    assert!(matches!(finished.stop, Stop::RolledBack(_)), "{:?}", finished.stop);
    assert!(events.iter().any(|event| matches!(event, Event::BarrierLost { .. })), "{events:?}");
    assert_eq!(finished.progress.chain.segments(&place(0))[1].end, SegmentEnd::Unreadable);
    let owner = world.dns.published(&"kafka.orders.test".into()).owner.unwrap();
    assert_eq!((owner.target.generation, owner.target.colour), (Generation(3), Colour::Blue));
}

/// G6: a fence and an isolation that an older term's late acts left on the active cluster go at the next start.
#[tokio::test(start_paused = true)]
async fn late_acts_on_the_active_cluster_are_undone() {
    let world = world().await;
    let (finished, _) = go_back(&world, CONFIG, StateName::Retiring).await;
    assert_back(&world, &finished.unwrap(), "before").await;
    let blue = world.cluster(Colour::Blue).unwrap();
    blue.raise_fence(&["orders".into()]).await.unwrap();
    blue.isolate(&Nonce::new("orders-1-1"));
    let stay = CONFIG.replace("[plan]", "[plan]\nto = \"blue\"");
    let (finished, _) = run(&world, &stay).await;
    assert!(matches!(finished.unwrap().stop, Stop::RolledBack(_)), "a restart takes nobody there again");
    assert!(blue.fenced().is_empty() && !blue.is_isolated());
}

/// After a rollback the same plan cuts over again.
#[tokio::test(start_paused = true)]
async fn and_there_again() {
    let world = world().await;
    let (finished, _) = go_back(&world, CONFIG, StateName::Draining).await;
    assert_back(&world, &finished.unwrap(), "before").await;
    let (_operator, words) = mpsc::unbounded_channel();
    let finished = controller(&world, CONFIG).again().run(words, |_| {}).await;
    assert_eq!(finished.unwrap().stop, Stop::Complete);
    assert!(world.cluster(Colour::Blue).is_none());
    let owner = world.dns.published(&"kafka.orders.test".into()).owner.unwrap();
    assert_eq!((owner.target.generation, owner.target.colour), (Generation(4), Colour::Green));
    assert!(world.cluster(Colour::Green).unwrap().fenced().is_empty());
}
