//! Reads what stands between a commit and the end of the log, to see whether any of it is data (L10).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use krafka::consumer::{AutoOffsetReset, IsolationLevel};
use krafka::error::KrafkaError;
use kutover_core::drain::{LogRange, Tail};
use kutover_core::words::{Offset, TopicPartition};
use tokio::sync::{Mutex, OnceCell, Semaphore};
use tokio::time::Instant;

use crate::admin::KafkaAdmin;
use crate::errors::reason;

/// Tails read at once.
const TAILS_AT_ONCE: usize = 16;
/// How much one fetch may bring: one batch is enough to know that there is data.
const FETCH_BYTES: i32 = 64 * 1024;
/// How long the broker may hold a fetch. The tail is below the end, so there is always something to answer.
const FETCH_WAIT: Duration = Duration::from_millis(10);
/// How long one look may take before the position is checked.
const LOOK: Duration = Duration::from_millis(100);

type Answer = Arc<OnceCell<Result<Tail, String>>>;

/// Reads tails at read_committed; groups that stand at the same place share one reading.
pub(crate) struct TailReader<'a> {
    admin: &'a KafkaAdmin,
    stable_ends: HashMap<TopicPartition, Offset>,
    at_once: Semaphore,
    read: Mutex<HashMap<(TopicPartition, Offset), Answer>>,
}

impl<'a> TailReader<'a> {
    pub(crate) fn new(admin: &'a KafkaAdmin, stable_ends: HashMap<TopicPartition, Offset>) -> Self {
        let at_once = Semaphore::new(TAILS_AT_ONCE);
        Self { admin, stable_ends, at_once, read: Mutex::default() }
    }

    /// What stands between a commit (or the start, without one) and the end. `NotRead` where there is nothing to
    /// read, where a transaction is open below the end, or where the end was not reached in time.
    pub(crate) async fn read(
        &self,
        place: &TopicPartition,
        committed: Option<Offset>,
        range: LogRange,
    ) -> Result<Tail, String> {
        let from = committed.unwrap_or(range.start);
        if from < range.start || from >= range.end {
            return Ok(Tail::NotRead);
        }
        // How a group reads is not known, and a group at read_uncommitted sees more than this reader: only where
        // nothing is open does what is seen here say what is there.
        if self.stable_ends.get(place).is_none_or(|stable| *stable < range.end) {
            return Ok(Tail::NotRead);
        }
        let cell = Arc::clone(self.read.lock().await.entry((place.clone(), from)).or_default());
        cell.get_or_init(|| self.fetch(place, from, range.end)).await.clone()
    }

    async fn fetch(&self, place: &TopicPartition, from: Offset, end: Offset) -> Result<Tail, String> {
        let Ok(_permit) = self.at_once.acquire().await else { return Ok(Tail::NotRead) };
        let budget = self.admin.config.timeouts.tail;
        match tokio::time::timeout(budget, self.consume(place, from, end, Instant::now() + budget)).await {
            Ok(answer) => answer.map_err(|error| reason(&error)),
            Err(_) => Ok(Tail::NotRead),
        }
    }

    async fn consume(
        &self,
        place: &TopicPartition,
        from: Offset,
        end: Offset,
        deadline: Instant,
    ) -> Result<Tail, KrafkaError> {
        let (topic, partition) = (place.topic.as_str(), place.partition);
        let consumer = self
            .admin
            .kafka
            .consumer_without_group()
            .isolation_level(IsolationLevel::ReadCommitted)
            .auto_offset_reset(AutoOffsetReset::None)
            .enable_auto_commit(false)
            .metrics_push(false)
            .fetch_min_bytes(1)
            .fetch_max_bytes(FETCH_BYTES)
            .max_partition_fetch_bytes(FETCH_BYTES)
            .fetch_max_wait(FETCH_WAIT)
            .build()
            .await?;
        consumer.assign(topic, vec![partition]).await?;
        consumer.seek(topic, partition, from.0).await?;
        let tail = loop {
            let records = consumer.poll(LOOK).await?;
            if records.iter().any(|record| record.offset < end.0) {
                break Tail::Data;
            }
            let position = consumer.fetch_position(topic, partition).await;
            if !records.is_empty() || position.is_some_and(|position| position >= end.0) {
                break Tail::NoData;
            }
            if Instant::now() >= deadline {
                break Tail::NotRead;
            }
        };
        consumer.close().await?;
        Ok(tail)
    }
}
