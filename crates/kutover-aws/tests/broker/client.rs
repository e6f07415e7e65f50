//! A stock client of the brokers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

/// How long anything may take that is meant to succeed.
const BOUND: Duration = Duration::from_secs(60);
pub(crate) const TOPIC: &str = "orders";

/// What a cluster says of itself to those who come in by one listener.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) cluster_id: String,
    /// Where clients are sent on to.
    pub(crate) brokers: BTreeSet<(i32, String)>,
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("reconnect.backoff.max.ms", "200");
    config
}

/// What one listener of a broker says.
pub(crate) async fn ask(address: IpAddr, port: u16) -> Said {
    let bootstrap = format!("{address}:{port}");
    tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = config(&bootstrap).create().unwrap();
        let metadata = client.fetch_metadata(None, BOUND).unwrap();
        let place = |broker: &rdkafka::metadata::MetadataBroker| {
            (broker.id(), format!("{}:{}", broker.host(), broker.port()))
        };
        let brokers = metadata.brokers().iter().map(place).collect();
        let cluster_id = client.client().fetch_cluster_id(BOUND).unwrap();
        Said { cluster_id, brokers }
    })
    .await
    .unwrap()
}

/// Makes a topic of one partition, which is kept by one broker alone.
pub(crate) async fn create_topic(bootstrap: &str, broker: i32) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().unwrap();
    let place = [broker];
    let places = [&place[..]];
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Variable(&places));
    let options = AdminOptions::new().operation_timeout(Some(BOUND));
    admin.create_topics(&[topic], &options).await.unwrap().remove(0).unwrap();
}

/// Sends texts, each acknowledged.
pub(crate) async fn send(bootstrap: &str, texts: &[&str]) {
    let producer: FutureProducer = config(bootstrap).set("enable.idempotence", "true").create().unwrap();
    for text in texts {
        let record = FutureRecord::<(), str>::to(TOPIC).payload(text);
        producer.send(record, BOUND).await.expect("acknowledged");
    }
}

/// What a record is refused with.
pub(crate) async fn refused(bootstrap: &str) -> RDKafkaErrorCode {
    let producer: FutureProducer = config(bootstrap).create().unwrap();
    let record = FutureRecord::<(), str>::to(TOPIC).payload("too late");
    let (error, _) = producer.send(record, BOUND).await.expect_err("a fence");
    error.rdkafka_error_code().expect("Kafka's own word")
}

/// The first records of the topic, until `count` have come.
pub(crate) async fn read(bootstrap: &str, count: usize) -> Vec<String> {
    let bootstrap = bootstrap.to_owned();
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config(&bootstrap).set("group.id", "readers").create().unwrap();
        let mut places = TopicPartitionList::new();
        places.add_partition_offset(TOPIC, 0, Offset::Beginning).unwrap();
        consumer.assign(&places).unwrap();
        let deadline = Instant::now() + BOUND;
        let mut texts = Vec::new();
        while texts.len() < count {
            assert!(Instant::now() < deadline, "read {texts:?} of {count} in time");
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                texts.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
            }
        }
        texts
    })
    .await
    .unwrap()
}
