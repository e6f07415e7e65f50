//! L6: a new cluster that keeps fewer copies of a record than the old one is not switched to.

mod common;

use common::{CONFIG, controller, holds, run, world};
use futures_util::FutureExt as _;
use kutover_controller::driver::Operator;
use kutover_core::cutover::{Event, Stop};
use kutover_core::ports::{ClusterAdmin as _, NewTopic};
use kutover_core::words::Colour;
use kutover_memory::{ClusterOptions, MemoryWorld};
use tokio::sync::mpsc;

fn ledger(replication: i16) -> NewTopic {
    NewTopic { name: "ledger".into(), partitions: 1, replication, configs: [].into() }
}

/// A world whose old cluster has three replicas of a topic.
async fn replicated() -> MemoryWorld {
    let world = world().await;
    world.cluster(Colour::Blue).unwrap().create_topic(&ledger(3)).await.unwrap();
    world
}

fn is_published(event: &Event) -> bool {
    matches!(event, Event::Published { .. })
}

/// Whoever makes a topic makes do with the brokers that there are: one of three that is still starting would cost each topic
/// a replica for good.
#[tokio::test(start_paused = true)]
async fn too_few_brokers_for_the_replicas_hold_before_the_switch() {
    let world = replicated().await;
    let (finished, events) =
        run(&world, &CONFIG.replace("hold_limit = \"60s\"", "hold_limit = \"5s\"")).await;
    let Stop::Aborted(why) = finished.unwrap().stop else { panic!("{:?}", holds(&events)) };
    assert!(
        why.contains("topic ledger: 3 replicas of each partition on the old cluster, 1 on the new"),
        "{why}"
    );
    assert!(why.contains("plan.waive_replicas"), "{why}");
    assert!(!events.iter().any(is_published), "{events:?}");

    let waived = CONFIG.replace("[plan]", "[plan]\nwaive_replicas = [\"ledger\"]");
    let (finished, events) = run(&world, &waived).await;
    assert_eq!(finished.unwrap().stop, Stop::Complete, "{:?}", holds(&events));
    assert!(
        events.iter().any(|event| matches!(event, Event::Note { text } if text.contains("3 replicas"))),
        "what is waived is said all the same: {events:?}"
    );
}

/// A broker that went between the look and the making shows in the topic that was made, right before the switch.
#[tokio::test(start_paused = true)]
async fn a_topic_that_was_made_with_too_few_replicas_holds_the_switch() {
    let world = replicated().await;
    let brokers = (1..=3).map(|host| format!("10.0.2.{host}:9092")).collect();
    world
        .provisioner
        .set_options(Colour::Green, ClusterOptions { brokers: Some(brokers), ..ClusterOptions::default() });
    let config = CONFIG
        .replace("[plan]", "[plan]\napprove = \"manual\"")
        .replace("hold_limit = \"60s\"", "hold_limit = \"5s\"");
    let (operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller(&world, &config)
        .run(words, |event| {
            if let Event::AwaitingApproval { gate, .. } = event {
                let green = world.cluster(Colour::Green).unwrap();
                green.delete_topics(&["ledger".into()]).now_or_never().unwrap().unwrap();
                green.create_topic(&ledger(2)).now_or_never().unwrap().unwrap();
                operator.send(Operator::Approve(gate)).unwrap();
            }
            events.push(event);
        })
        .await
        .unwrap();
    let Stop::Aborted(why) = finished.stop else { panic!("{:?}", holds(&events)) };
    assert!(
        why.contains("topic ledger: 3 replicas of each partition on the old cluster, 2 on the new"),
        "{why}"
    );
    assert!(!events.iter().any(is_published), "{events:?}");
}
