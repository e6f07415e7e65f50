//! Who writes to the cluster.

use std::collections::BTreeMap;

use async_trait::async_trait;
use kutover_core::decisions::stragglers::{LastRecord, PartitionWriters, ProducerState, Sign};
use kutover_core::drain::{Coordinated, OpenTransaction};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::ProducerSurvey;
use kutover_core::words::{Offset, TopicPartition};

use super::idempotence::NO_PRODUCER_ID;
use super::transactions::TransactionState;
use super::{MemoryCluster, State};

/// Where the ids of transactions begin, which have none of their own here: far above all that are given out.
const TRANSACTION_IDS: i64 = 1 << 40;

#[async_trait]
impl ProducerSurvey for MemoryCluster {
    async fn writers(
        &self,
        places: &[TopicPartition],
    ) -> ProviderResult<BTreeMap<TopicPartition, Result<PartitionWriters, String>>> {
        let places = places.to_vec();
        self.act("writers", move |state| {
            if !state.options.tells_producers {
                let reason = "this cluster cannot tell who writes to it";
                return Err(ProviderError::new(ErrorKind::Unsupported, "look for producers", reason));
            }
            Ok(places.into_iter().map(|place| (place.clone(), state.writers(&place))).collect())
        })
        .await
    }

    async fn last_records(&self, place: &TopicPartition, at_most: usize) -> ProviderResult<Vec<LastRecord>> {
        let place = place.clone();
        self.act("last_records", move |state| state.last_records(&place, at_most)).await
    }

    async fn open_transactions(
        &self,
        places: &[TopicPartition],
    ) -> ProviderResult<BTreeMap<TopicPartition, Result<Vec<OpenTransaction>, String>>> {
        let places = places.to_vec();
        self.act("open_transactions", move |state| {
            Ok(places.into_iter().map(|place| (place.clone(), state.open_transactions(&place))).collect())
        })
        .await
    }
}

impl State {
    fn writers(&self, place: &TopicPartition) -> Result<PartitionWriters, String> {
        let log = self.partition(place).ok_or("it is not there")?;
        if let Some(reason) = self.unanswered(place) {
            return Err(reason.into());
        }
        let stamp = |offset: i64| log.from(offset).next().map_or(-1, |(_, entry)| entry.record.timestamp_ms);
        let mut producers: BTreeMap<i64, ProducerState> = BTreeMap::new();
        for (id, epoch, last_sequence, offset) in log.producers.newest() {
            let state = ProducerState {
                epoch: epoch.into(),
                last_sequence,
                last_timestamp_ms: stamp(offset),
                transactional: false,
                coordinator_epoch: -1,
                open_since: None,
            };
            producers.insert(id, state);
        }
        let transactional = (!self.transactions.is_empty()).then(|| log.from(log.start));
        for (offset, entry) in transactional.into_iter().flatten() {
            let Some(id) = entry.transaction else { continue };
            let decided = self.transactions.get(&id).map(|transaction| transaction.state);
            let fresh = ProducerState {
                epoch: 0,
                last_sequence: -1,
                last_timestamp_ms: -1,
                transactional: true,
                coordinator_epoch: 0,
                open_since: None,
            };
            let state = producers.entry(TRANSACTION_IDS + id as i64).or_insert(fresh);
            state.last_timestamp_ms = entry.record.timestamp_ms;
            if !entry.record.marker {
                state.last_sequence += 1;
            }
            if matches!(decided, Some(TransactionState::Open | TransactionState::Wedged { .. })) {
                state.open_since.get_or_insert(Offset(offset));
            }
        }
        let end = Offset(log.high_watermark());
        Ok(PartitionWriters { end_before: end, end, producers })
    }

    fn open_transactions(&self, place: &TopicPartition) -> Result<Vec<OpenTransaction>, String> {
        let writers = self.writers(place)?;
        let open = writers.producers.into_iter().filter_map(|(producer_id, state)| {
            Some(OpenTransaction {
                producer_id,
                epoch: state.epoch,
                coordinator_epoch: state.coordinator_epoch,
                since: state.open_since?,
                last_write_ms: state.last_timestamp_ms,
                coordinator: Coordinated::Forgotten,
            })
        });
        Ok(open.collect())
    }

    fn last_records(&self, place: &TopicPartition, at_most: usize) -> ProviderResult<Vec<LastRecord>> {
        let what = || format!("read the last records of {place}");
        let refuse = |reason: &str| ProviderError::new(ErrorKind::NotFound, what(), reason);
        let log = self.partition(place).ok_or_else(|| refuse("it is not there"))?;
        if let Some(reason) = self.unanswered(place) {
            return Err(ProviderError::new(ErrorKind::Unavailable, what(), reason));
        }
        let data: Vec<_> = log.from(log.start).filter(|(_, entry)| !entry.record.marker).collect();
        let newest = data.into_iter().rev().take(at_most).map(|(offset, entry)| {
            let batch = log.producers.of(offset).filter(|id| *id != NO_PRODUCER_ID);
            let headers = entry.record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
            LastRecord {
                offset: Offset(offset),
                timestamp_ms: entry.record.timestamp_ms,
                producer_id: batch.or(entry.transaction.map(|id| TRANSACTION_IDS + id as i64)),
                sign: Sign::of(entry.record.key.as_deref(), headers),
            }
        });
        let mut newest: Vec<_> = newest.collect();
        newest.reverse();
        Ok(newest)
    }
}
