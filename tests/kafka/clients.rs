//! What ordinary clients of a cluster do: make topics, write, commit, read.

use std::time::Duration;

use krafka::admin::{
    AclBinding, AclFilter, AclPatternType, AlterConsumerGroupOffsetsOptions, CreateAclsOptions,
    CreateTopicsOptions, DeleteAclsOptions, DeleteRecordsOptions, NewTopic, TopicPartition,
};
use krafka::consumer::{AutoOffsetReset, GroupProtocol};
use krafka::error::KrafkaError;
use krafka::{Kafka, Record};

/// The bound on everything that is waited for.
pub const BOUND: Duration = Duration::from_secs(60);

/// Name, partitions, configs.
pub type Topic<'a> = (&'a str, i32, &'a [(&'a str, &'a str)]);

/// Adds a rule, for the one resource that it names.
///
/// # Panics
/// If it is not taken.
pub async fn add_rule(kafka: &Kafka, rule: AclBinding) {
    // krafka's own number for LITERAL is MATCH to a broker; 3 is LITERAL.
    let rule = rule.with_pattern_type(AclPatternType::from_i8(3));
    let made = kafka.admin().create_acls(vec![rule], CreateAclsOptions::default()).await.expect("an answer");
    assert!(made.iter().all(|(_, result)| result.is_ok()), "{made:?}");
}

/// Takes away every rule for resources of this name, whoever made it.
///
/// # Panics
/// If that is refused.
pub async fn remove_rules(kafka: &Kafka, name: &str) {
    let filter = AclFilter::all().resource_name(name);
    let taken = kafka.admin().delete_acls(vec![filter], DeleteAclsOptions::default()).await;
    let taken = taken.expect("an answer");
    assert!(taken.iter().all(|(_, result)| result.is_ok()), "{taken:?}");
}

/// Makes topics of one replica.
///
/// # Panics
/// If one of them is not made.
pub async fn make_topics(kafka: &Kafka, topics: &[Topic<'_>]) {
    let topics = topics.iter().map(|(name, partitions, configs)| {
        let topic = NewTopic::new(*name, *partitions, 1).expect("a topic");
        configs.iter().fold(topic, |topic, (config, value)| topic.with_config(*config, *value))
    });
    let made = kafka.admin().create_topics(topics, CreateTopicsOptions::default()).await.expect("an answer");
    for (topic, answer) in made {
        answer.unwrap_or_else(|error| panic!("{topic}: {error}"));
    }
}

/// Sets a group's commit on the first partitions of a topic.
///
/// # Panics
/// If it is not taken.
pub async fn commit(kafka: &Kafka, group: &str, topic: &str, partitions: i32, offset: i64) {
    let offsets = (0..partitions).map(|partition| (TopicPartition::new(topic, partition), offset));
    let options = AlterConsumerGroupOffsetsOptions::default();
    let answers =
        kafka.admin().alter_consumer_group_offsets(group, offsets, options).await.expect("an answer");
    for answer in answers.into_values() {
        answer.expect("the commit is taken");
    }
}

/// Writes so many records to each of the first partitions of a topic.
///
/// # Panics
/// If one of them is not stored.
pub async fn write(kafka: &Kafka, topic: &str, partitions: i32, count: usize) {
    try_write(kafka, topic, partitions, count).await.expect("stored");
}

/// The same, where the cluster may refuse it. A refusal is not tried again for long.
///
/// # Errors
/// The cluster's.
///
/// # Panics
/// If no producer can be had.
pub async fn try_write(kafka: &Kafka, topic: &str, partitions: i32, count: usize) -> Result<(), KrafkaError> {
    let producer = kafka.producer().metrics_push(false).delivery_timeout(Duration::from_secs(31));
    let producer = producer.build().await.expect("a producer");
    for partition in 0..partitions {
        for n in 0..count {
            let record = Record::new(topic, format!("{n}")).key(format!("{n}")).partition(partition);
            let _stored = producer.send(record).await?;
        }
    }
    producer.close().await
}

/// Deletes what stands before an offset of partition 0, as retention does.
///
/// # Panics
/// If it is not done.
pub async fn delete_before(kafka: &Kafka, topic: &str, offset: i64) {
    let before = [(TopicPartition::new(topic, 0), offset)];
    let cut = kafka.admin().delete_records(before, DeleteRecordsOptions::default()).await;
    cut.expect("an answer").into_values().for_each(|answer| {
        answer.expect("deleted");
    });
}

/// Reads a topic as a member of a group that begins at the end where it has no commit, until it has so many records;
/// commits, and leaves. Gives the offsets of what it read.
///
/// # Panics
/// If they do not come in time.
pub async fn read_as(
    kafka: &Kafka,
    (group, protocol): (&str, GroupProtocol),
    topic: &str,
    count: usize,
) -> Vec<i64> {
    let consumer = kafka.consumer(group).group_protocol(protocol).metrics_push(false);
    let consumer = consumer.auto_offset_reset(AutoOffsetReset::Latest).enable_auto_commit(false);
    let consumer = consumer.build().await.expect("a consumer");
    consumer.subscribe([topic]).await.expect("subscribed");
    let reading = async {
        let mut seen = Vec::new();
        while seen.len() < count {
            let records = consumer.poll(Duration::from_millis(100)).await.expect("polled");
            seen.extend(records.iter().map(|record| record.offset));
        }
        consumer.commit().await.expect("committed");
        seen
    };
    let seen = tokio::time::timeout(BOUND, reading).await;
    consumer.close().await.expect("left");
    seen.unwrap_or_else(|_| panic!("{group} waited in vain for {count} records of {topic}"))
}
