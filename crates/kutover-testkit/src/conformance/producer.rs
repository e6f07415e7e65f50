//! [`ProducerFactory`] and [`ProducerClient`], on a topic that takes records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kutover_core::error::ErrorKind;
use kutover_core::owner::Target;
use kutover_core::ports::{
    ClientEvents, Delivery, DeliveryFate, HeadersRef, ProducerClient, ProducerFactory, RecordRef, Refusal,
    Token,
};
use parking_lot::Mutex;

use super::Clause;

const CLIENT: &str = "ProducerClient";
const FACTORY: &str = "ProducerFactory";
/// Longer than any flush of a cluster that serves.
const FLUSH_MS: u64 = 30_000;

/// Collects what a client tells.
#[derive(Debug, Default)]
pub struct Collector {
    reports: Mutex<BTreeMap<Token, Vec<Delivery>>>,
    producer_ids: Mutex<BTreeSet<i64>>,
}

impl Collector {
    /// Every report, by token.
    pub fn reports(&self) -> BTreeMap<Token, Vec<Delivery>> {
        self.reports.lock().clone()
    }
}

impl ClientEvents for Collector {
    fn delivered(&self, token: Token, delivery: Delivery) {
        self.reports.lock().entry(token).or_default().push(delivery);
    }
    fn fatal(&self, _reason: String) {}
    fn producer_id(&self, id: i64) {
        self.producer_ids.lock().insert(id);
    }
}

async fn connect(
    clause: Clause,
    factory: &dyn ProducerFactory,
    target: &Target,
    topic: &str,
) -> (Arc<dyn ProducerClient>, Arc<Collector>) {
    let events = Arc::new(Collector::default());
    let client =
        factory.connect(target, &[topic.to_owned()], Arc::clone(&events) as Arc<dyn ClientEvents>).await;
    (clause.ok(client), events)
}

/// Offers records `from..to` with the same key, again where the queue is full.
async fn offer(clause: Clause, client: &dyn ProducerClient, topic: &str, count: u32) {
    for number in 0..count {
        let payload = number.to_string();
        let offered = RecordRef {
            topic,
            partition: None,
            key: Some(b"one key"),
            payload: Some(payload.as_bytes()),
            timestamp_ms: 1_700_000_000_000,
            headers: HeadersRef::None,
        };
        loop {
            match client.try_send(offered, Token::new(number, 7)) {
                Ok(()) => break,
                Err(Refusal::QueueFull) => tokio::task::yield_now().await,
                Err(refusal) => clause.holds(false, refusal),
            }
        }
    }
}

/// Runs a call that blocks its thread.
async fn blocking<T: Send + 'static>(
    client: &Arc<dyn ProducerClient>,
    call: impl FnOnce(&dyn ProducerClient) -> T + Send + 'static,
) -> T {
    let client = Arc::clone(client);
    match tokio::task::spawn_blocking(move || call(&*client)).await {
        Ok(given) => given,
        Err(panicked) => panic!("{CLIENT}: a call panicked: {panicked}"),
    }
}

/// Clause 1 of the factory.
pub async fn a_client_has_spoken_with_its_cluster(
    factory: &dyn ProducerFactory,
    target: &Target,
    topic: &str,
) {
    let clause =
        Clause::new(FACTORY, 1, "`connect` returns a client that has spoken with the target's cluster");
    let (client, _) = connect(clause, factory, target, topic).await;
    clause.holds(client.cluster_id() == target.cluster_id, client.cluster_id());
    clause.holds(client.outstanding() == 0, client.outstanding());
    let nameless = Target { cluster_id: "".into(), ..target.clone() };
    let (client, _) = connect(clause, factory, &nameless, topic).await;
    clause.holds(client.cluster_id() == target.cluster_id, client.cluster_id());
}

/// Clause 2 of the factory (L5).
pub async fn another_cluster_is_refused(factory: &dyn ProducerFactory, target: &Target, topic: &str) {
    let clause = Clause::new(FACTORY, 2, "a cluster with another id is `Refused`, and the error names both");
    let wrong = Target { cluster_id: "some-other-cluster".into(), ..target.clone() };
    let events: Arc<dyn ClientEvents> = Arc::new(Collector::default());
    let given = factory.connect(&wrong, &[topic.to_owned()], events).await;
    match given {
        Ok(_) => clause.holds(false, "a client"),
        Err(error) => {
            let text = error.to_string();
            let names = text.contains("some-other-cluster") && text.contains(target.cluster_id.as_str());
            clause.holds(error.kind == ErrorKind::Refused && names, error);
        }
    }
}

/// Clause 3 of the factory. As far as clients tell their producer ids by then, those differ too (L16).
pub async fn every_client_is_a_new_one(factory: &dyn ProducerFactory, target: &Target, topic: &str) {
    let clause = Clause::new(FACTORY, 3, "every call makes a new client");
    let (first, its) = connect(clause, factory, target, topic).await;
    let (second, own) = connect(clause, factory, target, topic).await;
    clause.holds(!Arc::ptr_eq(&first, &second), "the same one");
    let (its, own) = (its.producer_ids.lock().clone(), own.producer_ids.lock().clone());
    clause.holds(its.is_disjoint(&own), (its, own));
}

/// Clauses 1 and 2 of the client.
pub async fn every_record_is_reported_once_and_in_order(
    factory: &dyn ProducerFactory,
    target: &Target,
    topic: &str,
) {
    let once = Clause::new(
        CLIENT,
        1,
        "`Ok` means that exactly one report will follow; one caller's records keep their order per partition",
    );
    let flushed = Clause::new(CLIENT, 2, "`flush` is true once every report has been handed over");
    let (client, events) = connect(once, factory, target, topic).await;
    offer(once, &*client, topic, 500).await;
    let done = blocking(&client, |client| client.flush(FLUSH_MS)).await;
    flushed.holds(done && client.outstanding() == 0, client.outstanding());
    let reports = events.reports();
    flushed.holds(reports.len() == 500, reports.len());
    let mut last = None;
    for (token, reports) in reports {
        let [Delivery::Acknowledged { partition, offset, .. }] = reports[..] else {
            once.holds(false, (token, reports));
            return;
        };
        once.holds(last.is_none_or(|(p, o)| p == partition && o < offset), (token, last, partition, offset));
        last = Some((partition, offset));
    }
}

/// Clause 3 of the client. What is purged is reported before it returns, and what failed comes back whole.
pub async fn a_purge_leaves_nothing_outstanding(factory: &dyn ProducerFactory, target: &Target, topic: &str) {
    let clause = Clause::new(
        CLIENT,
        3,
        "`purge` makes every outstanding record fail with its fate, and returns when all reports have been handed over",
    );
    let (client, events) = connect(clause, factory, target, topic).await;
    offer(clause, &*client, topic, 500).await;
    blocking(&client, |client| client.purge()).await;
    clause.holds(client.outstanding() == 0, client.outstanding());
    let reports = events.reports();
    clause.holds(reports.len() == 500 && reports.values().all(|reports| reports.len() == 1), reports.len());
    for (token, reports) in reports {
        if let Delivery::Failed { record, .. } = &reports[0] {
            let whole = record.topic == topic
                && record.key.as_deref() == Some(b"one key")
                && record.payload.as_deref() == Some(token.slot().to_string().as_bytes());
            clause.holds(whole, record);
        }
    }
}

/// Clause 3 of the client, on a topic that nobody else ever writes to. `written` reads the payloads that stand there, once
/// nothing is under way any more.
pub async fn a_purge_tells_the_truth(
    factory: &dyn ProducerFactory,
    target: &Target,
    topic: &str,
    written: impl AsyncFn() -> BTreeSet<Vec<u8>>,
) {
    let clause = Clause::new(CLIENT, 3, "`purge` makes every outstanding record fail with its fate");
    let (client, events) = connect(clause, factory, target, topic).await;
    offer(clause, &*client, topic, 500).await;
    blocking(&client, |client| client.purge()).await;
    let stands = written().await;
    for (token, reports) in events.reports() {
        let is_there = stands.contains(token.slot().to_string().as_bytes());
        let is_true = match &reports[0] {
            Delivery::Acknowledged { .. } => is_there,
            Delivery::Failed { fate: DeliveryFate::NotWritten, .. } => !is_there,
            Delivery::Failed { fate: DeliveryFate::Unknown, .. } => true,
        };
        clause.holds(is_true, (token, is_there, &reports[0]));
    }
}

/// Every clause that needs nothing but the factory, on a topic of the target's cluster that exists and takes records.
pub async fn check_all(factory: &dyn ProducerFactory, target: &Target, topic: &str) {
    a_client_has_spoken_with_its_cluster(factory, target, topic).await;
    another_cluster_is_refused(factory, target, topic).await;
    every_client_is_a_new_one(factory, target, topic).await;
    every_record_is_reported_once_and_in_order(factory, target, topic).await;
    a_purge_leaves_nothing_outstanding(factory, target, topic).await;
}
