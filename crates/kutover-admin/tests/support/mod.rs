//! What the tests share: ordinary clients of a cluster, and what they see of it.

#![allow(dead_code, unreachable_pub)] // Each test file uses its own part.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::StreamExt;
use krafka::__private::protocol::ApiKey;
use krafka::__private::{kafka_metadata, kafka_pool};
use krafka::admin::{
    AclBinding, AclFilter, AclOperation, AclPatternType, AclResourceType, AlterConsumerGroupOffsetsOptions,
    CreateAclsOptions, DeleteAclsOptions, DescribeAclsOptions, ListTransactionsOptions,
    TopicPartition as Place,
};
use krafka::consumer::{AutoOffsetReset, Consumer};
use krafka::error::{ErrorCode, KrafkaError};
use krafka::producer::{Producer, TransactionalProducer};
use krafka::{Kafka, Record};
use kutover_admin::{AdminConfig, KafkaAdmin, Timeouts};
use kutover_core::drain::{GroupProgress, LogRange};
use kutover_core::error::ErrorKind;
use kutover_core::ports::{ClusterAdmin, LagBatch, LagQuery, LagSource, NewTopic};
use kutover_core::words::{GroupId, Offset, TopicName, TopicPartition};
use kutover_testkit::until;

/// The bound on everything that is waited for.
pub const BOUND: Duration = Duration::from_secs(60);

/// Time-outs that a test can sit through.
pub fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(1),
        request: Duration::from_secs(2),
        call: Duration::from_secs(5),
        proof: Duration::from_secs(1),
        tail: Duration::from_secs(5),
    }
}

/// Time-outs for scenes in which nobody is silent: whoever is slow there has a busy disk.
pub fn patient() -> Timeouts {
    Timeouts { connect: BOUND, request: BOUND, call: BOUND, tail: BOUND, ..timeouts() }
}

pub fn config(bootstrap: &str) -> AdminConfig {
    AdminConfig { bootstrap: vec![bootstrap.to_owned()], timeouts: timeouts(), ..AdminConfig::default() }
}

pub async fn ordinary(bootstrap: &str) -> Kafka {
    Kafka::builder(bootstrap).client_id("ordinary").connect().await.expect("the cluster answers")
}

/// A text as Kafka's protocol has it.
pub fn put_text(buffer: &mut BytesMut, text: &str) {
    buffer.put_i16(i16::try_from(text.len()).expect("a short text"));
    buffer.put_slice(text.as_bytes());
}

/// Asks the only broker by hand, for what no client does.
pub async fn ask(kafka: &Kafka, api: ApiKey, version: i16, encode: impl Fn(&mut BytesMut)) -> Bytes {
    let brokers = kafka_metadata(kafka).brokers();
    let [broker] = brokers.as_slice() else { panic!("{brokers:?}") };
    let connection = kafka_pool(kafka).get_connection(broker.address()).await.expect("connect");
    let encode = |buffer: &mut BytesMut| {
        encode(buffer);
        Ok(())
    };
    connection.send_request(api, version, encode).await.expect("an answer")
}

/// Makes a topic and gives its name.
pub async fn make_topic(admin: &KafkaAdmin, name: &str, partitions: i32) -> TopicName {
    let topic = NewTopic { name: name.into(), partitions, replication: 3, configs: BTreeMap::new() };
    // On a busy machine a broker may take longer than these time-outs.
    let made = async || match admin.create_topic(&topic).await {
        Ok(()) => Some(()),
        Err(slow) if slow.kind == ErrorKind::Unreachable => None,
        Err(error) => panic!("{}: {error}", topic.name),
    };
    until("the topic to be made", BOUND, made).await;
    topic.name
}

/// Writes records to one partition as an ordinary client.
pub async fn write(producer: &Producer, place: &TopicPartition, count: usize) -> Result<(), KrafkaError> {
    for n in 0..count {
        let record = Record::new(place.topic.as_str(), format!("{n}")).partition(place.partition);
        let _stored = producer.send(record).await?;
    }
    Ok(())
}

/// Writes a record to partition 0 in the producer's open transaction.
pub async fn write_open(producer: &TransactionalProducer, topic: &TopicName, text: &str) {
    let record = Record::new(topic.as_str(), text.to_owned()).partition(0);
    let _stored = producer.send(record).await.expect("it is stored");
}

/// Begins a transaction with a record in one partition, and gives its offset.
pub async fn begin_in(producer: &TransactionalProducer, place: &TopicPartition) -> Offset {
    producer.begin().expect("begin");
    let record = Record::new(place.topic.as_str(), "open").partition(place.partition);
    Offset(producer.send(record).await.expect("it is stored").offset)
}

/// A new ordinary producer that does not try for long.
pub async fn producer(kafka: &Kafka) -> Producer {
    let producer = kafka.producer().delivery_timeout(Duration::from_secs(31)).metrics_push(false);
    producer.build().await.expect("a producer")
}

/// A consumer that stands at the start of partition 0.
pub async fn reader(kafka: &Kafka, topic: &TopicName) -> Consumer {
    let builder = kafka.consumer_without_group().auto_offset_reset(AutoOffsetReset::Earliest);
    let consumer = builder.metrics_push(false).build().await.expect("a consumer");
    consumer.assign(topic.as_str(), vec![0]).await.expect("it is assigned");
    consumer
}

/// Reads at least a number of records.
pub async fn read(consumer: &Consumer, count: usize) -> usize {
    let reading = async {
        let mut seen = 0;
        while seen < count {
            seen += consumer.poll(Duration::from_millis(200)).await.expect("readers keep reading").len();
        }
        seen
    };
    tokio::time::timeout(BOUND, reading).await.expect("records come in time")
}

pub fn is_refused(result: &Result<(), KrafkaError>) -> bool {
    matches!(result, Err(KrafkaError::Broker { code: ErrorCode::TopicAuthorizationFailed, .. }))
}

/// Every ACL that is about a topic's own name.
pub async fn acls(kafka: &Kafka, topic: &TopicName) -> Vec<AclBinding> {
    let all = kafka.admin().describe_acls(AclFilter::all(), DescribeAclsOptions::default()).await;
    let mut on_topic = all.expect("ACLs can be read");
    on_topic.retain(|binding| binding.resource_name == topic.as_str());
    on_topic
}

/// Leaves a transactional id to somebody else: where it has an ACL, nobody else may describe it, and Kafka lists it no more.
pub async fn hide_transactional_id(kafka: &Kafka, id: &str) -> AclFilter {
    let literal = AclPatternType::from_i8(3); // krafka's own number for it is MATCH to a broker.
    let theirs = AclBinding {
        resource_type: AclResourceType::TransactionalId,
        operation: AclOperation::Describe,
        ..AclBinding::allow_read_topic(id, "User:somebody").with_pattern_type(literal)
    };
    let made = kafka.admin().create_acls(vec![theirs], CreateAclsOptions::default()).await.expect("made");
    assert!(made.iter().all(|(_, result)| result.is_ok()), "{made:?}");
    await_listed(kafka, id, false).await;
    AclFilter::for_resource(AclResourceType::TransactionalId, id).pattern_type(literal)
}

/// Takes that ACL away again.
pub async fn show_transactional_id(kafka: &Kafka, hidden: AclFilter) {
    let id = hidden.resource_name.clone().expect("an id");
    let gone =
        kafka.admin().delete_acls(vec![hidden], DeleteAclsOptions::default()).await.expect("an answer");
    assert!(gone.iter().all(|(_, answer)| answer.is_ok()), "{gone:?}");
    await_listed(kafka, &id, true).await;
}

async fn await_listed(kafka: &Kafka, id: &str, is_listed: bool) {
    let settled = async {
        loop {
            let brokers = kafka.admin().list_transactions(ListTransactionsOptions::default()).await;
            let listed =
                brokers.expect("they answer").into_values().flat_map(|answer| answer.expect("listed"));
            if listed.into_iter().any(|one| one.transactional_id == id) == is_listed {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, settled).await.expect("the brokers know of the ACL");
}

/// Sets a group's commit.
pub async fn commit(kafka: &Kafka, group: &str, place: &TopicPartition, offset: i64) {
    let to = [(Place::new(place.topic.as_str(), place.partition), offset)];
    let admin = kafka.admin();
    let answers =
        admin.alter_consumer_group_offsets(group, to, AlterConsumerGroupOffsetsOptions::default()).await;
    for answer in answers.expect("the coordinator answers").into_values() {
        answer.expect("the commit is taken");
    }
}

/// All that was answered to a query about lag.
#[derive(Debug, Default)]
pub struct Seen {
    pub logs: BTreeMap<TopicPartition, Result<LogRange, String>>,
    pub groups: BTreeMap<(GroupId, TopicPartition), Result<GroupProgress, String>>,
}

/// Asks for lag, and checks that nothing comes twice.
pub async fn lag(admin: &KafkaAdmin, query: LagQuery) -> Seen {
    let mut seen = Seen::default();
    let mut batches = admin.lag(query);
    while let Some(batch) = tokio::time::timeout(BOUND, batches.next()).await.expect("batches come in time") {
        match batch.expect("a batch") {
            LagBatch::Logs(logs) => {
                for (place, range) in logs {
                    assert!(seen.logs.insert(place.clone(), range).is_none(), "{place} came twice");
                }
            }
            LagBatch::Group(group, progress) => {
                for (place, progress) in progress {
                    let key = (group.clone(), place.clone());
                    assert!(seen.groups.insert(key, progress).is_none(), "{group} on {place} came twice");
                }
            }
        }
    }
    seen
}

/// A query for one group on one topic.
pub fn query(group: &str, places: &[TopicPartition], read_tails: bool) -> LagQuery {
    let topics = places.iter().map(|place| place.topic.clone()).collect();
    LagQuery {
        groups: [(group.into(), topics)].into(),
        partitions: places.to_vec(),
        read_tails,
        ..LagQuery::default()
    }
}

/// What was answered for one group on one partition.
pub fn progress(seen: &Seen, group: &str, place: &TopicPartition) -> Result<GroupProgress, String> {
    seen.groups.get(&(group.into(), place.clone())).cloned().expect("every pair is answered")
}

/// Start offsets at one place for all partitions.
pub fn at(places: &[TopicPartition], offset: i64) -> BTreeMap<TopicPartition, Offset> {
    places.iter().map(|place| (place.clone(), Offset(offset))).collect()
}
