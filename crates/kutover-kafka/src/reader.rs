//! Looking at a cluster from outside: who it is, and what stands in a topic.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::words::{CONTROL_TOPIC, CONTROLLER_CLIENT_ID, ClusterId, Offset as LogOffset};
use rdkafka::Offset;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::context::headers_of;
use crate::error::{provider_error, task_failed};
use crate::properties::ClientProperties;

/// How long an idle fetch waits.
const FETCH_WAIT_MS: u32 = 50;

/// The id of the cluster that answers at these bootstrap servers, asked by a client made for the question.
///
/// # Errors
/// Nothing answered in time, or not as a Kafka cluster.
pub async fn witness_cluster_id(
    bootstrap: &[String],
    properties: &ClientProperties,
    timeout: Duration,
) -> ProviderResult<ClusterId> {
    let what = format!("ask the cluster at {} for its id", bootstrap.join(","));
    let config = properties.reader_config(bootstrap, CONTROLLER_CLIENT_ID, FETCH_WAIT_MS);
    let failed = what.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let deadline = Instant::now() + timeout;
        let consumer: BaseConsumer = config.create().map_err(|error| provider_error(&what, &error))?;
        consumer
            .fetch_metadata(Some(CONTROL_TOPIC), timeout)
            .map_err(|error| provider_error(&what, &error))?;
        let left = deadline.saturating_duration_since(Instant::now());
        // Leaks its string (rdkafka 0.39): a few bytes for each client made to ask.
        match consumer.client().fetch_cluster_id(left) {
            Some(id) => Ok(ClusterId::new(id)),
            None => Err(ProviderError::new(ErrorKind::Unavailable, &what, "it answers, but names no id")),
        }
    });
    asked.await.map_err(|error| task_failed(failed, &error))?
}

/// A record as it stands in a cluster's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key; null and empty are kept apart.
    pub key: Option<Vec<u8>>,
    /// Its payload; null and empty are kept apart.
    pub payload: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the Unix epoch, where the log says.
    pub timestamp_ms: Option<i64>,
}

/// Where a partition's log started and ended when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicRange {
    /// The first offset that could be read.
    pub start: LogOffset,
    /// The offset after the last.
    pub end: LogOffset,
}

/// Reads a topic from its start to its end as it stands at the call, with a stock rdkafka consumer (its isolation level
/// is librdkafka's default, `read_committed`), and hands each record to `visit`, in order within each partition.
/// Gives each partition's range. `timeout` bounds the whole read.
///
/// # Errors
/// The topic is missing, or a partition could not be read to its end in time: never a shorter answer.
pub async fn read_topic(
    bootstrap: &[String],
    properties: &ClientProperties,
    client_id: &str,
    topic: &str,
    timeout: Duration,
    visit: impl FnMut(StoredRecord) + Send + 'static,
) -> ProviderResult<BTreeMap<i32, TopicRange>> {
    let what = format!("read topic {topic} at {}", bootstrap.join(","));
    let mut config = properties.reader_config(bootstrap, client_id, FETCH_WAIT_MS);
    config.set("check.crcs", "true");
    let read = TopicRead { what: what.clone(), topic: topic.to_owned(), deadline: Instant::now() + timeout };
    let done = tokio::task::spawn_blocking(move || read.run(&config, visit));
    done.await.map_err(|error| task_failed(what, &error))?
}

struct TopicRead {
    what: String,
    topic: String,
    deadline: Instant,
}

impl TopicRead {
    fn run(
        &self,
        config: &ClientConfig,
        mut visit: impl FnMut(StoredRecord),
    ) -> ProviderResult<BTreeMap<i32, TopicRange>> {
        let consumer: BaseConsumer = config.create().map_err(|error| provider_error(&self.what, &error))?;
        let ranges = self.ranges(&consumer)?;
        let mut assignment = TopicPartitionList::new();
        let mut unread = BTreeSet::new();
        for (partition, _) in ranges.iter().filter(|(_, range)| range.start < range.end) {
            assignment
                .add_partition_offset(&self.topic, *partition, Offset::Beginning)
                .map_err(|error| provider_error(&self.what, &error))?;
            unread.insert(*partition);
        }
        consumer.assign(&assignment).map_err(|error| provider_error(&self.what, &error))?;
        let mut last_error: Option<KafkaError> = None;
        while !unread.is_empty() {
            if Instant::now() >= self.deadline {
                let reason = match last_error {
                    Some(error) => format!("partitions {unread:?} not read to their end in time: {error}"),
                    None => format!("partitions {unread:?} not read to their end in time"),
                };
                return Err(ProviderError::new(ErrorKind::Unreachable, &self.what, reason));
            }
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                // The assignment is newer than the ranges, so this end is not before the range's.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    unread.remove(&partition);
                }
                Some(Err(error)) => last_error = Some(error),
                Some(Ok(message)) => {
                    let partition = message.partition();
                    let Some(range) = ranges.get(&partition) else { continue };
                    if unread.contains(&partition) && message.offset() < range.end.0 {
                        visit(StoredRecord {
                            partition,
                            offset: message.offset(),
                            key: message.key().map(<[u8]>::to_vec),
                            payload: message.payload().map(<[u8]>::to_vec),
                            headers: headers_of(&message),
                            timestamp_ms: message.timestamp().to_millis(),
                        });
                    }
                    if message.offset() + 1 >= range.end.0 {
                        unread.remove(&partition);
                    }
                }
            }
        }
        Ok(ranges)
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn ranges(&self, consumer: &BaseConsumer) -> ProviderResult<BTreeMap<i32, TopicRange>> {
        let metadata = consumer
            .fetch_metadata(Some(&self.topic), self.left())
            .map_err(|error| provider_error(&self.what, &error))?;
        let partitions: Vec<i32> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .flat_map(|topic| topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id))
            .collect();
        if partitions.is_empty() {
            return Err(ProviderError::new(ErrorKind::NotFound, &self.what, "no such topic there"));
        }
        let mut ranges = BTreeMap::new();
        for partition in partitions {
            let (start, end) = consumer
                .fetch_watermarks(&self.topic, partition, self.left())
                .map_err(|error| provider_error(&self.what, &error))?;
            ranges.insert(partition, TopicRange { start: LogOffset(start), end: LogOffset(end) });
        }
        Ok(ranges)
    }
}
