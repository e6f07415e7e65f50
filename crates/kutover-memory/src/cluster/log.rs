//! Partition logs, and the truth about them that no client can see.

use std::collections::BTreeSet;
use std::sync::Arc;

use kutover_core::words::{CONTROL_TOPIC, Offset, TopicId, TopicPartition, is_reserved_topic};
use tokio::time::Instant;

use super::idempotence::{BatchId, Sequences, Verdict};
use super::{MemoryCluster, State};
use crate::signal::Signal;

/// A record in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its key; null and empty are kept apart.
    pub key: Option<Vec<u8>>,
    /// Its payload; null and empty are kept apart.
    pub payload: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Whether it is a transaction marker, which takes an offset that nobody is ever given (L10).
    pub marker: bool,
}

/// One record that went into a data topic, whatever became of it later.
#[derive(Clone, Debug)]
pub struct Append {
    /// Its place in the order of all appends of the world, over all clusters.
    pub sequence: u64,
    /// When, in milliseconds since the world was made.
    pub at_ms: u64,
    /// Where.
    pub place: TopicPartition,
    /// The incarnation of the topic.
    pub topic_id: TopicId,
    /// At which offset.
    pub offset: Offset,
    /// What.
    pub record: Arc<StoredRecord>,
    /// Whose batch it was part of, where it came from a client with an id.
    pub batch: Option<BatchId>,
    /// The transaction that it is part of.
    pub transaction: Option<u64>,
}

/// A record that was acknowledged and thrown away, because it was taken for another one (L16).
#[derive(Clone, Debug)]
pub struct Discarded {
    /// When, in milliseconds since the world was made.
    pub at_ms: u64,
    /// Where it should have gone.
    pub place: TopicPartition,
    /// The offset that its producer was told.
    pub offset: Offset,
    /// What.
    pub record: Arc<StoredRecord>,
    /// Whose batch it was part of.
    pub batch: BatchId,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// 0 in kutover's own topics, of which the truth is not kept.
    pub(super) sequence: u64,
    pub(super) record: Arc<StoredRecord>,
    pub(super) at_ms: u64,
    pub(super) transaction: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    pub(super) start: i64,
    pub(super) entries: Vec<Entry>,
    /// The high watermark where it is held back by a replica that is behind.
    pub(super) held: Option<i64>,
    pub(super) producers: Sequences,
    pub(super) leader: i32,
    pub(super) epoch: i32,
    pub(super) leaderless_until: Option<Instant>,
    pub(super) grew: Signal,
}

impl PartitionLog {
    pub(super) fn end(&self) -> i64 {
        self.start + self.entries.len() as i64
    }

    pub(super) fn high_watermark(&self) -> i64 {
        self.held.unwrap_or_else(|| self.end())
    }

    pub(super) fn from(&self, offset: i64) -> impl Iterator<Item = (i64, &Entry)> {
        let skip = usize::try_from(offset - self.start).unwrap_or(0);
        (self.start..).zip(&self.entries).skip(skip)
    }

    pub(super) fn cut_head(&mut self, before: i64) -> usize {
        let gone = usize::try_from(before - self.start).unwrap_or(0).min(self.entries.len());
        self.entries.drain(..gone);
        self.start += gone as i64;
        gone
    }
}

/// What became of a batch at its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The first offset that the client is told.
    pub(crate) offset: i64,
    /// Whether the leader has it but cannot acknowledge it: a replica is behind.
    pub(crate) held: bool,
    /// Whether the leader took it for one that it has.
    pub(crate) duplicate: bool,
}

impl MemoryCluster {
    /// Appends as an ordinary client would.
    ///
    /// # Errors
    /// The name of Kafka's error, with its number: fenced, shut out, no such partition.
    pub fn produce(
        &self,
        place: &TopicPartition,
        record: StoredRecord,
    ) -> Result<Offset, (i32, &'static str)> {
        let mut state = self.state.lock();
        state.client_may_write(place)?;
        Ok(state.append(place, Arc::new(record), None, None))
    }

    /// Appends a client's batch, unless the partition has it.
    pub(crate) fn append_batch(
        &self,
        place: &TopicPartition,
        batch: &BatchId,
        records: &[Arc<StoredRecord>],
    ) -> Result<Taken, (i32, &'static str)> {
        let mut state = self.state.lock();
        state.client_may_write(place)?;
        let log = state.partition(place).ok_or((3, "UnknownTopicOrPartition"))?;
        let held = log.held.is_some();
        match log.producers.judge(batch, records.len()) {
            Verdict::OutOfOrder => Err((45, "OutOfOrderSequenceNumber")),
            Verdict::OldEpoch => Err((47, "InvalidProducerEpoch")),
            Verdict::Duplicate(offset) => {
                state.discard(place, batch, records, offset);
                Ok(Taken { offset, held, duplicate: true })
            }
            Verdict::Take => {
                let offset = log.end();
                for record in records {
                    state.append(place, Arc::clone(record), Some(*batch), None);
                }
                if let Some(log) = state.partition_mut(place) {
                    log.producers.took(batch, records.len(), offset);
                }
                Ok(Taken { offset, held, duplicate: false })
            }
        }
    }

    /// Whatever stands in a partition, from an offset on, with offsets. Past isolation: an audit's look.
    pub fn log(&self, place: &TopicPartition, from: Offset) -> Vec<(Offset, StoredRecord)> {
        let state = self.state.lock();
        let log = state.partition(place).map(|log| log.from(from.0));
        log.into_iter()
            .flatten()
            .map(|(offset, entry)| (Offset(offset), StoredRecord::clone(&entry.record)))
            .collect()
    }

    /// The first offset that is still there and the one that comes next. Past isolation: an audit's look.
    pub fn extent(&self, place: &TopicPartition) -> Option<(Offset, Offset)> {
        self.state.lock().partition(place).map(|log| (Offset(log.start), Offset(log.end())))
    }

    /// Everything that was ever appended to data topics, from the so-manieth of this cluster on: the truth, also of
    /// what is deleted, re-created or aborted by now.
    pub fn appends(&self, from: usize) -> Vec<Append> {
        self.state.lock().appends.get(from..).unwrap_or_default().to_vec()
    }

    /// Every record that was acknowledged and thrown away as somebody else's duplicate (L16), from the so-manieth on.
    pub fn discarded(&self, from: usize) -> Vec<Discarded> {
        self.state.lock().discarded.get(from..).unwrap_or_default().to_vec()
    }

    /// Which appends (by their sequence) were cut off again, because a new leader did not have them. Only what was not
    /// acknowledged by all in-sync replicas can be (L15).
    pub fn truncated(&self) -> BTreeSet<u64> {
        self.state.lock().truncated.clone()
    }

    /// Deletes the head of a partition, as retention by size does.
    pub fn retain(&self, place: &TopicPartition, from: Offset) {
        let mut state = self.state.lock();
        let gone = state.partition_mut(place).map_or(0, |log| log.cut_head(from.0));
        if gone > 0 {
            self.faults.fire("retention");
        }
    }

    /// Deletes what is older than so many milliseconds, as retention by time does.
    pub fn retain_ms(&self, place: &TopicPartition, retention_ms: u64) {
        let oldest = self.faults.now_ms().saturating_sub(retention_ms);
        let mut state = self.state.lock();
        let Some(log) = state.partition_mut(place) else { return };
        let gone = log.entries.iter().take_while(|entry| entry.at_ms < oldest).count();
        if log.cut_head(log.start + gone as i64) > 0 {
            self.faults.fire("retention");
        }
    }

    /// A replica falls behind: the high watermark stands still, and nothing that comes is acknowledged or readable.
    pub fn hold_watermark(&self, place: &TopicPartition) {
        self.faults.fire("watermark-held");
        if let Some(log) = self.state.lock().partition_mut(place) {
            log.held = Some(log.high_watermark());
        }
    }

    /// The replica has caught up.
    pub fn release_watermark(&self, place: &TopicPartition) {
        if let Some(log) = self.state.lock().partition_mut(place) {
            log.held = None;
            log.grew.raise();
        }
    }
}

impl State {
    /// A new leader has what all in-sync replicas have, and what the old one had beyond that is gone.
    pub(super) fn truncate(&mut self, place: &TopicPartition) {
        let Some(log) = self.partition_mut(place) else { return };
        let Some(held) = log.held.take() else { return };
        let kept = usize::try_from(held - log.start).unwrap_or(0).min(log.entries.len());
        let gone: Vec<u64> = log.entries.drain(kept..).map(|entry| entry.sequence).collect();
        log.producers.truncate(held);
        if !gone.is_empty() {
            self.faults.fire("log-truncated");
        }
        self.truncated.extend(gone);
    }

    pub(super) fn append(
        &mut self,
        place: &TopicPartition,
        record: Arc<StoredRecord>,
        batch: Option<BatchId>,
        transaction: Option<u64>,
    ) -> Offset {
        let at_ms = self.faults.now_ms();
        let kept = !is_reserved_topic(place.topic.as_str());
        let sequence = if kept { self.faults.next_sequence() } else { 0 };
        let Some(log) = self.partition_mut(place) else { return Offset(-1) };
        let offset = Offset(log.end());
        log.entries.push(Entry { sequence, record: Arc::clone(&record), at_ms, transaction });
        log.grew.raise();
        if !kept {
            // Every member hears of it; of the other one's heartbeats nobody needs to.
            if place.topic.as_str() == CONTROL_TOPIC {
                self.control.raise();
            }
        } else if let Some(topic) = self.topics.get(&place.topic) {
            let topic_id = topic.id.clone();
            let place = place.clone();
            let append = Append { sequence, at_ms, place, topic_id, offset, record, batch, transaction };
            self.appends.push(append);
        }
        offset
    }

    /// A repetition of the same records is what idempotence is for; other records are lost.
    fn discard(
        &mut self,
        place: &TopicPartition,
        batch: &BatchId,
        records: &[Arc<StoredRecord>],
        first: i64,
    ) {
        let at_ms = self.faults.now_ms();
        let Some(log) = self.partition(place) else { return };
        if first < log.start {
            // Retention has taken what it could be compared with.
            return;
        }
        let held: Vec<_> =
            log.from(first).take(records.len()).map(|(_, entry)| Arc::clone(&entry.record)).collect();
        let mut lost = false;
        for (at, record) in records.iter().enumerate() {
            if held.get(at).is_some_and(|held| Arc::ptr_eq(held, record)) {
                continue;
            }
            lost = true;
            let offset = Offset(first + at as i64);
            let (place, record) = (place.clone(), Arc::clone(record));
            self.discarded.push(Discarded { at_ms, place, offset, record, batch: *batch });
        }
        self.faults.fire(if lost { "clash-discarded" } else { "retry-deduplicated" });
    }
}
