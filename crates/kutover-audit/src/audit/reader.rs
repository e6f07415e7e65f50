//! Reads a cluster's log from its start, with a stock client that belongs to no group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::Offset;

use crate::traffic::{RecordId, TOPIC, TrafficRecord};

/// How long one question to a cluster may take.
const ASK: Duration = Duration::from_secs(10);
/// How long reading up to a known end may take.
const FINISH: Duration = Duration::from_secs(60);

/// One record as it stands in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Where.
    pub partition: i32,
    /// Where in it.
    pub offset: i64,
    /// Who sent it.
    pub id: RecordId,
    /// The instance's key.
    pub key: u16,
}

/// What stands on one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterLog {
    /// The traffic's records, in the order they were read.
    pub records: Vec<LogRecord>,
    /// Messages that are not this run's.
    pub foreign: u64,
}

#[derive(Default)]
struct Shared {
    log: Mutex<ClusterLog>,
    positions: Mutex<BTreeMap<i32, i64>>,
    read: Arc<AtomicU64>,
    stop: AtomicBool,
}

/// Follows a cluster's log from its start.
pub struct Follower {
    bootstrap: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

fn client(bootstrap: &str) -> Result<BaseConsumer> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "audit-without-a-group")
        .set("client.id", "audit")
        .set("enable.auto.commit", "false")
        .set("metadata.recovery.strategy", "none")
        .set("fetch.wait.max.ms", "100")
        .create()
        .with_context(|| format!("the audit's reader on {bootstrap}"))
}

/// The partitions of the traffic's topic.
fn partitions(consumer: &BaseConsumer) -> Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(TOPIC), ASK).context("the audit asks for the topic")?;
    let topic = metadata.topics().first().ok_or_else(|| anyhow!("topic {TOPIC} is not there"))?;
    if let Some(error) = topic.error() {
        bail!("topic {TOPIC}: {error:?}");
    }
    Ok(topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect())
}

/// The ends of a cluster's partitions as they stand now. Blocks.
pub fn ends_of(bootstrap: &str) -> Result<BTreeMap<i32, i64>> {
    let consumer = client(bootstrap)?;
    partitions(&consumer)?
        .into_iter()
        .map(|partition| {
            let (_, end) = consumer
                .fetch_watermarks(TOPIC, partition, ASK)
                .with_context(|| format!("the end of topic {TOPIC}, partition {partition} on {bootstrap}"))?;
            Ok((partition, end))
        })
        .collect()
}

/// A partition that ends before the offset that comes next for who has read it.
fn taken_away(read: &BTreeMap<i32, i64>, ends: &BTreeMap<i32, i64>) -> Option<(i32, i64)> {
    let is_short = |(partition, next): &(&i32, &i64)| ends.get(*partition).is_none_or(|end| end < *next);
    read.iter().find(is_short).map(|(partition, next)| (*partition, *next))
}

impl Follower {
    /// Starts to read a cluster whose topic is there already; `read` counts what it has read.
    pub fn start(bootstrap: &str, run: u64, read: Arc<AtomicU64>) -> Self {
        let shared = Arc::new(Shared { read, ..Shared::default() });
        let (theirs, address) = (Arc::clone(&shared), bootstrap.to_owned());
        let thread = std::thread::spawn(move || follow(&address, run, &theirs));
        Self { bootstrap: bootstrap.to_owned(), shared, thread: Some(thread) }
    }

    /// Asks the cluster for its ends, reads up to them, and gives all that was read. Blocks.
    ///
    /// # Errors
    /// The cluster does not answer, its log cannot be read to its end in time, or ends before what was read from it.
    pub fn finish(mut self) -> Result<ClusterLog> {
        // In this order: somebody may be writing.
        let read = self.shared.positions.lock().clone();
        let ends = ends_of(&self.bootstrap)?;
        if let Some((partition, next)) = taken_away(&read, &ends) {
            bail!(
                "topic {TOPIC}, partition {partition} on {} was read up to offset {next} and ends before it now: \
                 somebody has deleted records, or made the topic anew",
                self.bootstrap
            );
        }
        let give_up = Instant::now() + FINISH;
        loop {
            let behind = self.behind(&ends);
            if behind.is_empty() {
                break;
            }
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                break;
            }
            if Instant::now() > give_up {
                bail!(
                    "the audit could not read {} to its end in time: partitions {behind:?}",
                    self.bootstrap
                );
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        self.end()?;
        let behind = self.behind(&ends);
        if !behind.is_empty() {
            bail!("the audit's reader on {} ended before it had read partitions {behind:?}", self.bootstrap);
        }
        Ok(std::mem::take(&mut *self.shared.log.lock()))
    }

    fn behind(&self, ends: &BTreeMap<i32, i64>) -> Vec<i32> {
        let positions = self.shared.positions.lock();
        let short = |(partition, end): (&i32, &i64)| {
            (*end > 0 && positions.get(partition).is_none_or(|next| next < end)).then_some(*partition)
        };
        ends.iter().filter_map(short).collect()
    }

    fn end(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => bail!("the audit's reader on {} panicked", self.bootstrap),
            None => Ok(()),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn follow(bootstrap: &str, run: u64, shared: &Shared) -> Result<()> {
    let consumer = client(bootstrap)?;
    let mut assignment = TopicPartitionList::new();
    for partition in partitions(&consumer)? {
        assignment.add_partition_offset(TOPIC, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    while !shared.stop.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(error)) => tracing::debug!(bootstrap, %error, "the audit's reader"),
            Some(Ok(message)) => note(shared, run, &message),
        }
    }
    Ok(())
}

fn note(shared: &Shared, run: u64, message: &rdkafka::message::BorrowedMessage<'_>) {
    let mut log = shared.log.lock();
    match message.payload().and_then(TrafficRecord::parse).filter(|record| record.run == run) {
        Some(record) => log.records.push(LogRecord {
            partition: message.partition(),
            offset: message.offset(),
            id: record.id,
            key: record.key,
        }),
        None => log.foreign += 1,
    }
    drop(log);
    shared.positions.lock().insert(message.partition(), message.offset() + 1);
    shared.read.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_ends_before_what_was_read_is_another_one() {
        let of = |places: &[(i32, i64)]| places.iter().copied().collect::<BTreeMap<_, _>>();
        let read = of(&[(0, 50), (1, 3)]);
        assert_eq!(taken_away(&read, &of(&[(0, 50), (1, 4), (2, 0)])), None);
        assert_eq!(taken_away(&read, &of(&[(0, 0), (1, 4)])), Some((0, 50)), "made anew");
        assert_eq!(taken_away(&read, &of(&[(0, 50)])), Some((1, 3)), "with fewer partitions");
    }
}
