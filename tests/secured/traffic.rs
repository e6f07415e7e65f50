//! A shop that sends orders and a group that bills them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kutover_core::ports::Incarnation;
use kutover_core::words::Colour;
use kutover_producer::{BlueGreenProducer, FutureRecord, Resolvers};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::Message as _;
use tokio::sync::watch;

use crate::world::{BILLING, Properties, SHOP, TOPIC, World};

/// The bound of every wait.
pub(crate) const BOUND: Duration = Duration::from_secs(90);

/// Sends numbered orders, one after the other, until it is told to end.
pub(crate) struct Shop {
    acknowledged: watch::Receiver<u64>,
    ending: Arc<AtomicBool>,
    sending: tokio::task::JoinHandle<BTreeSet<u64>>,
}

impl Shop {
    pub(crate) async fn open(world: &World) -> Self {
        let properties = world.properties("SCRAM-SHA-512", SHOP);
        let producer = BlueGreenProducer::builder()
            .deployment("orders")
            .endpoint("kafka.orders.test")
            .resolvers(Resolvers::Servers(vec![world.dns]))
            .cluster(Colour::Blue, properties.clone())
            .cluster(Colour::Green, properties)
            .build()
            .await
            .expect("the shop opens on blue");
        let (count, acknowledged) = watch::channel(0);
        let ending = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ending);
        let sending = tokio::spawn(async move {
            let mut sent = BTreeSet::new();
            while !end.load(Ordering::SeqCst) {
                let number = sent.len() as u64;
                let (key, payload) = (format!("{}", number % 7), number.to_string());
                let record = FutureRecord::to(TOPIC).key(&key).payload(&payload);
                producer.send(record, Duration::from_secs(30)).await.expect("an order is acknowledged");
                sent.insert(number);
                count.send_modify(|count| *count += 1);
            }
            producer.close().await;
            sent
        });
        Self { acknowledged, ending, sending }
    }

    /// Waits for so many more acknowledgements.
    pub(crate) async fn sells(&mut self, more: u64) {
        let wanted = *self.acknowledged.borrow() + more;
        let sold = tokio::time::timeout(BOUND, self.acknowledged.wait_for(|count| *count >= wanted)).await;
        assert!(matches!(sold, Ok(Ok(_))), "the shop sells nothing");
    }

    /// Ends it; gives the numbers of what was acknowledged.
    pub(crate) async fn close(self) -> BTreeSet<u64> {
        self.ending.store(true, Ordering::SeqCst);
        self.sending.await.expect("nothing was refused")
    }
}

/// A stock consumer of group `billing` on one cluster.
pub(crate) struct Billing {
    ending: Arc<AtomicBool>,
    reading: std::thread::JoinHandle<Vec<u64>>,
}

impl Billing {
    /// Reads until it is told to end, or until it has read all of `wanted`.
    pub(crate) fn open(world: &World, on: &Incarnation, wanted: Option<BTreeSet<u64>>) -> Self {
        let mut config = group(world.properties("SCRAM-SHA-512", BILLING), on);
        // On green it starts where kutover has put it, or not at all.
        config.set("auto.offset.reset", if wanted.is_some() { "error" } else { "earliest" });
        let ending = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ending);
        let reading = std::thread::spawn(move || {
            let consumer: BaseConsumer = config.create().expect("a consumer");
            consumer.subscribe(&[TOPIC]).expect("subscribed");
            let (mut billed, deadline) = (Vec::new(), Instant::now() + BOUND);
            let mut missing = wanted;
            while !end.load(Ordering::SeqCst) && missing.as_ref().is_none_or(|missing| !missing.is_empty()) {
                let late = missing.as_ref().filter(|_| Instant::now() > deadline);
                assert_eq!(late, None, "not read in time");
                let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
                let Ok(message) = message else { continue };
                let text = std::str::from_utf8(message.payload().expect("an order")).expect("a number");
                let number: u64 = text.parse().expect("a number");
                if let Some(missing) = &mut missing {
                    missing.remove(&number);
                }
                billed.push(number);
            }
            // Nothing may have been assigned yet.
            let _ = consumer.commit_consumer_state(CommitMode::Sync);
            billed
        });
        Self { ending, reading }
    }

    /// Ends it; gives what it read, in the order in which it did.
    pub(crate) fn close(self) -> Vec<u64> {
        self.ending.store(true, Ordering::SeqCst);
        self.end()
    }

    /// Waits for its own end.
    pub(crate) fn end(self) -> Vec<u64> {
        self.reading.join().expect("the group reads")
    }
}

fn group(properties: Properties, on: &Incarnation) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.extend(properties);
    config.set("bootstrap.servers", on.bootstrap.join(","));
    config.set("group.id", "billing");
    config.set("auto.commit.interval.ms", "100");
    config
}
