//! L6: a limit that one cluster sets on a topic is held against what is in force on the other.

mod common;

use std::collections::BTreeMap;

use common::{CONFIG, controller, holds, world};
use futures_util::FutureExt as _;
use kutover_controller::driver::Operator;
use kutover_core::cutover::{Event, Stop};
use kutover_core::ports::{ClusterAdmin as _, ClusterProvisioner as _, NewTopic};
use kutover_core::words::Colour;
use kutover_memory::{ClusterOptions, MemoryCluster, MemoryWorld};
use tokio::sync::mpsc;

const HELD: &str =
    "topic orders: min.insync.replicas is `2` on the old cluster and only `1` on the new cluster";

/// A world whose old cluster asks for two replicas on a topic, and whose new one is there and does not by default.
async fn asking_for_two() -> MemoryWorld {
    let world = world().await;
    world.cluster(Colour::Blue).unwrap().set_config("orders", "min.insync.replicas", "2");
    let topic_defaults = BTreeMap::from([("min.insync.replicas".to_owned(), "1".to_owned())]);
    let options = ClusterOptions { topic_defaults, ..ClusterOptions::default() };
    world.provisioner.set_options(Colour::Green, options);
    world
}

fn make_orders(on: &MemoryCluster, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let topic = NewTopic { name: "orders".into(), partitions: 2, replication: 1, configs };
    on.create_topic(&topic).now_or_never().unwrap().unwrap();
}

/// Runs a cutover in which something happens before it is approved, and gives over what it was aborted.
async fn aborted_over(world: &MemoryWorld, happens: impl Fn(&MemoryCluster) + Sync) -> String {
    let config = CONFIG
        .replace("[plan]", "[plan]\napprove = \"manual\"")
        .replace("hold_limit = \"60s\"", "hold_limit = \"5s\"");
    let (operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller(world, &config)
        .run(words, |event| {
            if let Event::AwaitingApproval { gate, .. } = event {
                happens(&world.cluster(Colour::Green).unwrap());
                operator.send(Operator::Approve(gate)).unwrap();
            }
            events.push(event);
        })
        .await
        .unwrap();
    assert!(!events.iter().any(|event| matches!(event, Event::Published { .. })), "{events:?}");
    let Stop::Aborted(why) = finished.stop else { panic!("{:?}", holds(&events)) };
    why
}

/// Somebody has made the topic there, without what the old cluster asks for.
#[tokio::test(start_paused = true)]
async fn a_topic_that_makes_do_with_less_by_default_holds_before_the_switch() {
    let world = asking_for_two().await;
    world.provisioner.provision(Colour::Green, &"theirs".into()).await.unwrap();
    make_orders(&world.cluster(Colour::Green).unwrap(), &[("retention.ms", "3600000")]);
    let why = aborted_over(&world, |_| panic!("it is ready")).await;
    assert!(why.contains(HELD), "{why}");
}

/// Somebody makes it anew right before the switch.
#[tokio::test(start_paused = true)]
async fn a_topic_that_was_made_anew_with_less_by_default_holds_the_switch() {
    let world = asking_for_two().await;
    let why = aborted_over(&world, |green| {
        green.delete_topics(&["orders".into()]).now_or_never().unwrap().unwrap();
        make_orders(green, &[("retention.ms", "3600000")]);
    })
    .await;
    assert!(why.contains(HELD), "{why}");
}
