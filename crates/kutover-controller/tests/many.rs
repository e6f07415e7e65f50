//! Many topics and groups, whose commands have to get through them in their time; and topics whose making was given up.

mod common;

use std::sync::Arc;

use common::{CONFIG, controller, group, holds, run, with_blue, world};
use kutover_controller::driver::Operator;
use kutover_core::cutover::{Event, Stop};
use kutover_core::ports::{ClusterAdmin as _, ClusterProvisioner as _};
use kutover_core::words::{Colour, GroupId, Nonce, Offset, TopicPartition, is_reserved_topic};
use kutover_memory::{CallWeather, Fault, MemoryWorld, Weather};
use tokio::sync::mpsc;

/// Half a second for every topic that is made and for every group whose start offsets are set.
#[derive(Debug)]
struct Slow;

impl Weather for Slow {
    fn call(&self, name: &str) -> CallWeather {
        let slow = ["green.create_topic", "green.set_start_offsets"].contains(&name);
        CallWeather { before_ms: if slow { 500 } else { 0 }, ..CallWeather::default() }
    }
}

/// One after the other they would take ten times as long as a command may, and each try would begin at the first again.
#[tokio::test(start_paused = true)]
async fn a_command_gets_through_many_topics_and_groups() {
    let world = with_blue(MemoryWorld::with_weather(Arc::new(Slow))).await;
    let blue = world.cluster(Colour::Blue).unwrap();
    let last = TopicPartition::new("ledger-49", 0);
    (0..50).for_each(|n| blue.add_topic(&format!("ledger-{n:02}"), 1));
    let groups: Vec<GroupId> = (0..100).map(|n| GroupId::new(format!("group-{n:02}"))).collect();
    groups.iter().chain([&group()]).for_each(|group| blue.read_all(group));
    let (finished, events) = run(&world, CONFIG).await;
    assert_eq!(finished.unwrap().stop, Stop::Complete, "{:?}", holds(&events));
    assert_eq!(holds(&events), Vec::<&str>::new());
    let green = world.cluster(Colour::Green).unwrap();
    for group in &groups {
        assert_eq!(green.committed(group, &last), Some(Offset(0)), "{group}");
    }
}

/// L13: an abort deletes what an attempt has made whose answer never came, and nothing that was there before.
#[tokio::test(start_paused = true)]
async fn an_abort_deletes_what_an_attempt_that_was_given_up_has_made() {
    let world = world().await;
    let blue = world.cluster(Colour::Blue).unwrap();
    ["audit", "ledger"].iter().for_each(|topic| blue.add_topic(topic, 1));
    blue.read_all(&group());
    world.provisioner.provision(Colour::Green, &Nonce::new("somebody-elses")).await.unwrap();
    let green = world.cluster(Colour::Green).unwrap();
    green.add_topic("ledger", 1);
    world.faults.inject("green.create_topic", Fault::HangDone);
    let config = CONFIG.replace("[plan]", "[plan]\napprove = \"manual\"");
    let (operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller(&world, &config)
        .run(words, |event| {
            if matches!(event, Event::AwaitingApproval { .. }) {
                operator.send(Operator::Abort).unwrap();
            }
            events.push(event);
        })
        .await
        .unwrap();
    assert!(matches!(finished.stop, Stop::Aborted(_)), "{:?}", finished.stop);
    assert_eq!(holds(&events).len(), 1, "{:?}", holds(&events));
    assert!(holds(&events)[0].contains("no answer within"), "{:?}", holds(&events));
    let there = green.topics().await.unwrap();
    let left = there.iter().map(|topic| topic.name.as_str()).filter(|topic| !is_reserved_topic(topic));
    assert_eq!(left.collect::<Vec<_>>(), ["ledger"]);
}
