//! What a service and its surroundings do wrong to a producer, which goes on all the same.

mod support;

use kutover_core::words::Colour;
use kutover_producer::FutureRecord;
use support::{BOUND, World, on_generation};

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
