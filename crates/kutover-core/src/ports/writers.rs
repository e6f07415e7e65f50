//! Who writes to a cluster.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::decisions::stragglers::{LastRecord, PartitionWriters};
use crate::drain::OpenTransaction;
use crate::error::ProviderResult;
use crate::words::TopicPartition;

/// Who writes to a cluster, as its leaders and its last records tell.
///
/// Two looks are compared by [`stragglers`](crate::decisions::stragglers::stragglers).
///
/// # Contract
///
/// 1. `writers` answers each partition that it was asked for, and no other. One that did not answer is an `Err` in its
///    place, never left out and never without writers.
/// 2. What was acknowledged before the call is in the answer: in the ends, and in its producer's state where it has an id.
/// 3. Of each partition the end is read before its producers and again after them.
/// 4. `last_records` gives the newest records of a partition, the newest last and no more than asked for. Markers are not
///    among them, and an empty partition has none.
/// 5. `open_transactions` names every transaction that is open in a partition, with the offset where it begins there, and
///    none that has ended. A partition that did not answer is an `Err` in its place.
#[async_trait]
pub trait ProducerSurvey: Send + Sync {
    /// The producers that the leaders of these partitions know, with the partitions' ends.
    ///
    /// # Errors
    /// `Unsupported` where the cluster cannot tell (before Kafka 2.8, embedded); unreachable.
    async fn writers(
        &self,
        places: &[TopicPartition],
    ) -> ProviderResult<BTreeMap<TopicPartition, Result<PartitionWriters, String>>>;

    /// The last records of a partition, as far as they say who wrote them.
    ///
    /// # Errors
    /// Unreachable, no such partition.
    async fn last_records(&self, place: &TopicPartition, at_most: usize) -> ProviderResult<Vec<LastRecord>>;

    /// The transactions that are open in these partitions, with their coordinators' word on them.
    ///
    /// # Errors
    /// As `writers`. A coordinator that cannot be asked is [`Coordinated::Unknown`](crate::drain::Coordinated::Unknown).
    async fn open_transactions(
        &self,
        places: &[TopicPartition],
    ) -> ProviderResult<BTreeMap<TopicPartition, Result<Vec<OpenTransaction>, String>>>;
}
