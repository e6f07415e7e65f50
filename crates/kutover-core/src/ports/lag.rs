//! How far groups have read.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;

use futures_core::Stream;

use crate::drain::{GroupProgress, LogRange};
use crate::error::ProviderResult;
use crate::words::{GroupId, TopicName, TopicPartition};

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LagQuery {
    /// Each group with the topics it must have read.
    pub groups: BTreeMap<GroupId, BTreeSet<TopicName>>,
    /// Every partition whose log range is wanted.
    pub partitions: Vec<TopicPartition>,
    /// Whether tails are to be read where a commit stands short of the end ([`crate::drain::Tail`]). Dearer.
    pub read_tails: bool,
    /// Groups that read uncommitted records: what was aborted is data to them. All others are taken to read committed
    /// ones, where nothing is open.
    pub read_uncommitted: BTreeSet<GroupId>,
}

/// A part of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LagBatch {
    /// Log ranges. `Err` says why a partition has none.
    Logs(Vec<(TopicPartition, Result<LogRange, String>)>),
    /// One group's progress, by partition. `Err` says why it is not known.
    Group(GroupId, Vec<(TopicPartition, Result<GroupProgress, String>)>),
}

/// Streams the progress of groups on one cluster.
///
/// # Contract
///
/// 1. Each partition of the query comes exactly once in a `Logs` batch, and each (group, partition of its topics)
///    exactly once in a `Group` batch, unless the stream ends with an error.
/// 2. A partition or group that did not answer is an `Err` in its place, never a zero and never left out.
/// 3. Log ranges are read after the call, not remembered.
/// 4. Whether tails are asked for or not: a commit that lies beyond the log's end, which is read after it, is
///    [`crate::drain::Tail::Beyond`], and no other is.
pub trait LagSource: Send + Sync {
    /// Asks. The stream yields batches as they arrive; an `Err` item ends it.
    fn lag(&self, query: LagQuery) -> Pin<Box<dyn Stream<Item = ProviderResult<LagBatch>> + Send + '_>>;
}
