//! Whose word moves a producer: the owner record's, its own control topic's, and nobody else's.

mod support;

use kutover_core::messages::ControlBody;
use kutover_core::words::Colour;
use kutover_dns::{Fault as DnsFault, Scope};
use kutover_producer::{FutureRecord, ProducerEvent};
use support::{BOUND, TOPIC, World, on_generation};

/// A start with stale DNS in the middle of it all: the control topic knows better, and blue gets nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_stale_dns_goes_where_control_says() {
    let world = World::start(1).await;
    world.say(Colour::Blue, ControlBody::Announce { target: world.target(2, Colour::Green) }).await;
    let producer = world.producer().await;
    producer.send(FutureRecord::to(TOPIC).key("k").payload("k:1"), BOUND).await.expect("green answers");
    assert!(world.read(Colour::Blue).await.is_empty());
    assert_eq!(world.read(Colour::Green).await.len(), 1);
}

/// L4: SERVFAIL and empty answers move nobody and stop nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_dns_moves_nobody() {
    let world = World::start(1).await;
    let producer = world.producer().await;
    let mut events = producer.events();
    for fault in [DnsFault::ServFail, DnsFault::NoData, DnsFault::NxDomain] {
        world.dns.faults().set(Scope::Everything, fault);
        let trouble = async {
            loop {
                if let ProducerEvent::DnsTrouble(_) = &*events.next().await.expect("the producer lives") {
                    return;
                }
            }
        };
        tokio::time::timeout(BOUND, trouble).await.expect("the trouble is told");
        producer.send(FutureRecord::to(TOPIC).key("k").payload("p"), BOUND).await.expect("blue serves on");
    }
    assert_eq!(world.read(Colour::Blue).await.len(), 3);
    assert!(producer.report().switches.is_empty());
}

/// Another deployment's control topic moves nobody and fences nothing; the producer says so, and DNS goes on to count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_control_topic_moves_nobody() {
    let world = World::start(1).await;
    let producer = world.producer().await;
    let mut events = producer.events();
    let foreign = ControlBody::Announce { target: world.target(9, Colour::Green) };
    world.say_for("payments", Colour::Blue, foreign).await;
    let told = async {
        loop {
            let event = events.next().await.expect("the producer lives");
            if let ProducerEvent::MemberTrouble(error) = &*event {
                return error.to_string();
            }
        }
    };
    let text = tokio::time::timeout(BOUND, told).await.expect("it is told");
    assert!(text.contains("payments") && text.contains("orders"), "{text}");
    producer.send(FutureRecord::to(TOPIC).key("k").payload("p"), BOUND).await.expect("blue serves on");
    assert_eq!(producer.report().generation.0, 1);
    world.publish(2, Colour::Green).await;
    on_generation(&producer, 2).await;
}
