//! What a service and its surroundings do wrong to a producer, which goes on all the same.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kutover_core::words::Colour;
use kutover_producer::{ClientHooks, FutureRecord};
use support::{BOUND, TOPIC, World, on_generation, until};

/// Every topic that a record was ever sent to is warmed at a switch: names that no cluster can have do not stop it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_impossible_topic_name_does_not_keep_a_producer_where_it_is() {
    let world = World::start(1).await;
    let producer = world.producer().await;
    for impossible in ["a\0b", &"x".repeat(600)] {
        let sent = producer.send(FutureRecord::to(impossible).key("k").payload("p"), BOUND);
        sent.await.expect_err("no cluster has such a topic");
    }
    world.announce(2, Colour::Green).await;
    on_generation(&producer, 2).await;
}

/// A service's callback that panics ends neither the reports nor a switch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_callback_holds_up_no_switch() {
    let world = World::start(1).await;
    let panicked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&panicked);
    let hooks = ClientHooks {
        on_statistics: Some(Arc::new(move |_| {
            seen.store(true, Ordering::SeqCst);
            panic!("the service's own fault");
        })),
        ..ClientHooks::default()
    };
    let often = [("statistics.interval.ms", "20")];
    let builder = world.builder().cluster(Colour::Blue, often).cluster(Colour::Green, often);
    let producer = builder.hooks(hooks).build().await.expect("it starts");
    until("a panic", || async { panicked.load(Ordering::SeqCst).then_some(()) }).await;
    let sent = producer.send(FutureRecord::to(TOPIC).key("k").payload("p"), BOUND);
    tokio::time::timeout(BOUND, sent).await.expect("its report comes").expect("blue answers");
    world.announce(2, Colour::Green).await;
    on_generation(&producer, 2).await;
}
