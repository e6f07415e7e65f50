//! Stock clients, and what tests of real Kafka need.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kutover_core::error::ErrorKind;
use kutover_lab::{KafkaVersion, Tools};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};

/// How long anything may take that is meant to succeed.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

pub(crate) fn client(bootstrap: &[String], id: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap.join(","))
        .set("client.id", id)
        .set("reconnect.backoff.max.ms", "200")
        .set("metadata.recovery.strategy", "none")
        .set("message.timeout.ms", "5000");
    config
}

pub(crate) fn producer(bootstrap: &[String], id: &str) -> FutureProducer {
    client(bootstrap, id).set("enable.idempotence", "true").create().expect("producer")
}

/// Sends one record to `orders`.
pub(crate) async fn send(producer: &FutureProducer, text: &str) -> Result<(i32, i64), KafkaError> {
    let record = FutureRecord::<(), str>::to("orders").payload(text);
    producer.send(record, BOUND).await.map(|at| (at.partition, at.offset)).map_err(|(error, _)| error)
}

pub(crate) fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    error.rdkafka_error_code()
}

/// Makes `orders` as an ordinary admin client does.
pub(crate) async fn create_orders(bootstrap: &[String], partitions: i32, replication: i32) {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap, "admin").create().expect("admin");
    let topic = NewTopic::new("orders", partitions, TopicReplication::Fixed(replication));
    let options = AdminOptions::new().operation_timeout(Some(BOUND));
    admin.create_topics(&[topic], &options).await.expect("an answer").remove(0).expect("orders");
}

/// The values of `orders`, read by a stock consumer group until `count` have come.
pub(crate) async fn read(bootstrap: &[String], count: usize) -> BTreeSet<String> {
    let bootstrap = bootstrap.to_vec();
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = client(&bootstrap, "reader")
            .set("group.id", "readers")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .create()
            .expect("consumer");
        consumer.subscribe(&["orders"]).expect("subscribe");
        let mut values = BTreeSet::new();
        let deadline = Instant::now() + BOUND;
        while values.len() < count {
            assert!(Instant::now() < deadline, "read {} of {count} in time", values.len());
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                values.insert(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
            }
        }
        consumer.commit_consumer_state(CommitMode::Sync).expect("commit");
        values
    })
    .await
    .expect("no panic")
}

/// Whether a client gets metadata within a bound.
pub(crate) async fn is_served_in(bound: Duration, bootstrap: &[String], id: &'static str) -> bool {
    let bootstrap = bootstrap.to_vec();
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = client(&bootstrap, id).create().expect("client");
        consumer.fetch_metadata(None, bound).is_ok()
    })
    .await
    .expect("no panic")
}

pub(crate) async fn is_served(bootstrap: &[String], id: &'static str) -> bool {
    is_served_in(BOUND, bootstrap, id).await
}

/// Whether a client is still not served after two seconds.
pub(crate) async fn is_shut_out(bootstrap: &[String], id: &'static str) -> bool {
    !is_served_in(Duration::from_secs(2), bootstrap, id).await
}

/// The tools if these versions can be started here; otherwise the test is skipped with a word. A part that is there but
/// damaged is no missing part and fails the test.
pub(crate) async fn kafka_tools(test: &str, versions: &[KafkaVersion]) -> Option<Tools> {
    let tools = Tools::from_env();
    for version in versions {
        let Err(missing) = tools.ready(*version).await else { continue };
        assert!(missing.kind != ErrorKind::Invalid, "{test}: {missing}");
        kutover_testkit::skip(test, &missing.to_string());
        return None;
    }
    Some(tools)
}
