//! What a service and its surroundings do wrong to a producer, which goes on all the same.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kutover_core::error::ProviderResult;
use kutover_core::messages::{ControlView, MemberState};
use kutover_core::owner::Target;
use kutover_core::ports::{FenceSwitch as _, MemberLink, MemberLinks};
use kutover_core::words::Colour;
use kutover_kafka::KafkaMemberLinks;
use kutover_producer::{BlueGreenProducer, ClientHooks, Events, FutureRecord, ProducerEvent, SwitchEvent};
use rdkafka::types::RDKafkaErrorCode;
use support::{BOUND, TOPIC, World, on_generation, properties, until};

/// Waits until a switch has begun to prepare.
async fn preparing(events: &mut Events) {
    let told = async {
        while !matches!(
            &*events.next().await.expect("the producer lives"),
            ProducerEvent::Switch(SwitchEvent::Preparing { .. })
        ) {}
    };
    tokio::time::timeout(BOUND, told).await.expect("the switch begins");
}

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

/// A fence that nobody announces, where the way to green is known and leads nowhere: what it refuses is held up to the park's bound,
/// and goes to green in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_fence_refuses_unannounced_is_held_within_the_park() {
    let world = World::start(1).await;
    let producer = world.builder().park_bytes(2_000).without_links().build().await.expect("it starts");
    let mut events = producer.events();
    world.publish_target(world.nowhere(2, Colour::Green)).await;
    preparing(&mut events).await;
    world.blue.fence().raise(&[TOPIC.into()]).await.expect("the fence goes up");
    let (text, mut held) = ("x".repeat(500), Vec::new());
    let mut send = || match producer.send_result(FutureRecord::to(TOPIC).key("k").payload(&text)) {
        Ok(future) => {
            held.push(future);
            None
        }
        Err((error, _)) => Some(error.rdkafka_error_code()),
    };
    let code = until("a full park", || std::future::ready(send())).await;
    assert_eq!(code, Some(RDKafkaErrorCode::QueueFull));
    world.publish(3, Colour::Green).await;
    let count = held.len();
    for future in held {
        tokio::time::timeout(BOUND, future).await.expect("in time").expect("handed over");
    }
    assert_eq!(world.read(Colour::Green).await.len(), count);
}

async fn close(producer: BlueGreenProducer) {
    tokio::time::timeout(BOUND, producer.close()).await.expect("it ends");
}

/// A candidate that cannot be connected is nothing that an end has to wait for: the client in use delivers what it has. Who
/// listens after the end is told that there is nothing more to come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_does_not_wait_for_a_cluster_that_is_not_there() {
    let world = World::start(1).await;
    let producer =
        world.builder().close_timeout(Duration::from_secs(3_600)).build().await.expect("it starts");
    let mut events = producer.events();
    world.publish_target(world.nowhere(2, Colour::Green)).await;
    preparing(&mut events).await;
    let last = producer.send_result(FutureRecord::to(TOPIC).key("k").payload("last")).expect("accepted");
    let clone = producer.clone();
    close(producer).await;
    last.await.expect("blue is well");
    assert!(clone.events().next().await.is_none());
}

/// Links of which blue's takes every word and never says so.
struct BlueNeverAnswers {
    links: KafkaMemberLinks,
    asked: Arc<AtomicUsize>,
}

struct NeverAnswers {
    link: Arc<dyn MemberLink>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl MemberLinks for BlueNeverAnswers {
    async fn open(&self, target: &Target) -> ProviderResult<Arc<dyn MemberLink>> {
        let link = self.links.open(target).await?;
        match target.colour {
            Colour::Blue => Ok(Arc::new(NeverAnswers { link, asked: Arc::clone(&self.asked) })),
            Colour::Green => Ok(link),
        }
    }
}

#[async_trait]
impl MemberLink for NeverAnswers {
    async fn next_control(&self) -> ControlView {
        self.link.next_control().await
    }

    async fn control_now(&self) -> ProviderResult<ControlView> {
        self.link.control_now().await
    }

    async fn tell(&self, _: &MemberState) -> ProviderResult<()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }

    async fn end(&self, _: &MemberState) -> ProviderResult<()> {
        std::future::pending().await
    }
}

/// The news of a move does not wait for a word to the cluster that was left, which may be dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_answers_no_more_does_not_withhold_the_news_of_the_move() {
    let world = World::start(1).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let of_each = Colour::BOTH.map(|colour| (colour, properties()));
    let links = KafkaMemberLinks::new(BTreeMap::from(of_each));
    let links = BlueNeverAnswers { links, asked: Arc::clone(&asked) };
    let producer = world.builder().links(Arc::new(links)).build().await.expect("it starts");
    // The registration was given up on; a heartbeat has nobody who gives it up.
    until("a heartbeat", || async { (asked.load(Ordering::SeqCst) > 1).then_some(()) }).await;
    world.announce(2, Colour::Green).await;
    let member = until("the news", || world.member(Colour::Green)).await;
    assert_eq!(member.cluster_id, world.green.cluster_id());
    close(producer).await;
}
