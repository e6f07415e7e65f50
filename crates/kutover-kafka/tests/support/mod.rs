//! An in-process cluster, and an owner that writes down what its client tells it.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use krafka::testing::FakeBroker;
use kutover_core::owner::Target;
use kutover_core::ports::{
    ClientEvents, Delivery, HeadersRef, ProducerClient, ProducerFactory, RecordRef, Token,
};
use kutover_core::words::{Colour, Generation};
use kutover_kafka::{ClientProperties, KafkaProducerFactory};
use parking_lot::{Condvar, Mutex};

/// The bound of every wait in these tests.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

pub(crate) async fn cluster(id: &str, brokers: usize) -> FakeBroker {
    let cluster = FakeBroker::start_cluster(brokers).await.expect("an embedded cluster starts");
    cluster.with_state(|state| state.cluster_id = id.to_owned());
    cluster
}

pub(crate) fn bootstrap(cluster: &FakeBroker) -> Vec<String> {
    cluster.bootstrap_servers().split(',').map(str::to_owned).collect()
}

pub(crate) fn target(cluster: &FakeBroker, id: &str) -> Target {
    Target {
        generation: Generation(1),
        colour: Colour::Blue,
        cluster_id: id.into(),
        bootstrap: bootstrap(cluster),
    }
}

pub(crate) fn properties(pairs: &[(&str, &str)]) -> ClientProperties {
    let map = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ClientProperties::new(map).expect("properties are accepted")
}

pub(crate) fn factory(pairs: &[(&str, &str)]) -> KafkaProducerFactory {
    KafkaProducerFactory::new(BTreeMap::from([(Colour::Blue, properties(pairs))]))
}

/// What a client told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) reports: Vec<(Token, Delivery)>,
    pub(crate) fatal: Vec<String>,
    pub(crate) producer_ids: Vec<i64>,
}

#[derive(Default)]
pub(crate) struct Recorder {
    told: Mutex<Told>,
    changed: Condvar,
    /// While set, a report's callback waits.
    held: Mutex<bool>,
    released: Condvar,
    /// How long each report's callback takes.
    slowness: Duration,
}

impl Recorder {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn slow(slowness: Duration) -> Arc<Self> {
        Arc::new(Self { slowness, ..Self::default() })
    }

    pub(crate) fn reports(&self) -> Vec<(Token, Delivery)> {
        self.told.lock().reports.clone()
    }

    pub(crate) fn told_producer_id(&self) -> Option<i64> {
        self.told.lock().producer_ids.last().copied()
    }

    /// Waits until what was told passes a check.
    pub(crate) fn wait(&self, what: &str, check: impl Fn(&Told) -> bool) {
        let mut told = self.told.lock();
        let deadline = std::time::Instant::now() + BOUND;
        while !check(&told) {
            assert!(!self.changed.wait_until(&mut told, deadline).timed_out(), "waited in vain for {what}");
        }
    }

    pub(crate) fn hold(&self) {
        *self.held.lock() = true;
    }

    pub(crate) fn release(&self) {
        *self.held.lock() = false;
        self.released.notify_all();
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock());
        self.changed.notify_all();
    }
}

impl ClientEvents for Recorder {
    fn delivered(&self, token: Token, delivery: Delivery) {
        {
            let mut held = self.held.lock();
            let deadline = std::time::Instant::now() + BOUND;
            while *held && !self.released.wait_until(&mut held, deadline).timed_out() {}
            if !self.slowness.is_zero() {
                self.released.wait_for(&mut held, self.slowness);
            }
        }
        self.tell(|told| told.reports.push((token, delivery)));
    }

    fn fatal(&self, reason: String) {
        self.tell(|told| told.fatal.push(reason));
    }

    fn producer_id(&self, id: i64) {
        self.tell(|told| told.producer_ids.push(id));
    }
}

pub(crate) async fn connect(
    factory: &KafkaProducerFactory,
    target: &Target,
    topics: &[&str],
    events: &Arc<Recorder>,
) -> Arc<dyn ProducerClient> {
    let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
    let events: Arc<dyn ClientEvents> = Arc::<Recorder>::clone(events);
    factory.connect(target, &topics, events).await.expect("connects")
}

pub(crate) fn record<'a>(topic: &'a str, key: Option<&'a [u8]>, payload: Option<&'a [u8]>) -> RecordRef<'a> {
    RecordRef {
        topic,
        partition: None,
        key,
        payload,
        timestamp_ms: 1_700_000_000_000,
        headers: HeadersRef::None,
    }
}

pub(crate) async fn flush(client: &Arc<dyn ProducerClient>, timeout: Duration) -> bool {
    let client = Arc::clone(client);
    let timeout_ms = u64::try_from(timeout.as_millis()).expect("fits");
    tokio::task::spawn_blocking(move || client.flush(timeout_ms)).await.expect("flush ends")
}

pub(crate) async fn purge(client: &Arc<dyn ProducerClient>) {
    let client = Arc::clone(client);
    tokio::task::spawn_blocking(move || client.purge()).await.expect("purge ends");
}
