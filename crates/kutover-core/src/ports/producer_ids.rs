//! Where a cluster's producer ids stand, and how they are used up.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use crate::error::ProviderResult;
use crate::words::TopicName;

/// The newest producer id of each broker, by broker id. `Err` says why a broker's is not known.
pub type NewestIds = BTreeMap<i32, Result<u64, String>>;

/// The producer ids that a cluster gives out (L16).
///
/// Each broker gives ids out of a block of its own, and begins the next one only when that is used up. So brokers stand at
/// different places, and however far the others are, a slow one still hands out the ids of an old block. What is to be
/// known of ids is known only by asking for them: every call here uses some up, which does no harm.
///
/// # Contract
///
/// 1. `newest` asks every broker of the cluster for a new id, and gives what each said. A broker without an answer is an
///    `Err` in its place, never left out and never a number.
/// 2. No id is given out twice: each `newest` of a broker is above all that came from that broker before.
/// 3. `pass` uses up the ids of every broker that is below the mark, each until it has given the mark or one above it, and
///    gives the newest ids then. It is bounded in time: one that is not there yet is no error, and asking again goes on
///    where it stopped.
/// 4. `live` gives every id that a partition of the topics knows a writer by. A partition that does not say is an error
///    that names it; where a cluster cannot tell, only partitions that never held a record count as known to no writer.
#[async_trait]
pub trait ProducerIds: Send + Sync {
    /// Where each broker stands: an id that it gave out for this call.
    ///
    /// # Errors
    /// Unreachable as a whole; not authorised.
    async fn newest(&self) -> ProviderResult<NewestIds>;

    /// Goes towards a mark that every broker must pass.
    ///
    /// # Errors
    /// As `newest`.
    async fn pass(&self, mark: u64) -> ProviderResult<NewestIds>;

    /// The ids with state in some topics.
    ///
    /// # Errors
    /// As the contract says: `Unsupported` where the cluster cannot tell, with the partition.
    async fn live(&self, topics: &[TopicName]) -> ProviderResult<BTreeSet<u64>>;
}
