//! How old a record is: the batch that it stands in says when it was written.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};
use krafka::error::KrafkaError;
use kutover_core::ports::Item;
use kutover_core::words::{Offset, TopicPartition};

use crate::admin::KafkaAdmin;
use crate::errors::reason;

/// However little is asked for, a broker gives the first batch whole (KIP-74).
const ONE_BATCH: i32 = 1;
/// Partitions that are asked at once.
const AT_ONCE: usize = 32;

impl KafkaAdmin {
    /// The age of the first record at or behind each offset.
    pub(super) async fn read_ages(
        &self,
        at: &BTreeMap<TopicPartition, Offset>,
        now_ms: i64,
    ) -> BTreeMap<TopicPartition, Item<u64>> {
        let age = async |(place, from): (&TopicPartition, &Offset)| {
            let answer = tokio::time::timeout(self.config.timeouts.tail, self.written_at(place, *from)).await;
            let age = match answer {
                Ok(Ok(Some(at_ms))) => Ok(u64::try_from(now_ms.saturating_sub(at_ms)).unwrap_or(0)),
                Ok(Ok(None)) => Err("no record was found there".to_owned()),
                Ok(Err(error)) => Err(reason(&error)),
                Err(_) => Err("no answer in time".to_owned()),
            };
            (place.clone(), age)
        };
        stream::iter(at).map(age).buffer_unordered(AT_ONCE).collect().await
    }

    async fn written_at(&self, place: &TopicPartition, from: Offset) -> Result<Option<i64>, KrafkaError> {
        let stretch = self.fetch(place, from, ONE_BATCH, false).await?.decode()?;
        Ok(stretch.batches.first().map(|batch| {
            let mut records = batch.records.iter();
            let record = records.find(|record| batch.base_offset + i64::from(record.offset_delta) >= from.0);
            batch.base_timestamp + record.map_or(0, |record| record.timestamp_delta)
        }))
    }
}
