//! What a stock consumer does to a cluster: fetch, commit, ask what is committed.

use std::sync::Arc;
use std::time::Duration;

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::words::{GroupId, Offset, TopicPartition};
use tokio::time::Instant;

use super::log::StoredRecord;
use super::{Commit, FenceStyle, MemoryCluster, State};

/// What a reader is given of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Everything up to the high watermark, aborted records too: Kafka's default.
    #[default]
    ReadUncommitted,
    /// Committed records, up to the last stable offset.
    ReadCommitted,
}

/// What a fetch gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Records with their offsets; no markers.
    pub records: Vec<(Offset, Arc<StoredRecord>)>,
    /// Where to fetch next: past markers and aborted records too.
    pub next: Offset,
    /// The first offset still there.
    pub start: Offset,
    /// The high watermark.
    pub high_watermark: Offset,
    /// The last stable offset.
    pub last_stable: Offset,
    /// Whether the offset asked for lies outside the log: what `auto.offset.reset` is for.
    pub out_of_range: bool,
}

/// A member of a group, reading one cluster. It assigns itself what it likes; whether the group has members is
/// [`MemoryCluster::set_live`].
#[derive(Clone, Debug)]
pub struct MemoryReader {
    cluster: MemoryCluster,
    group: GroupId,
    isolation: Isolation,
}

impl MemoryCluster {
    /// A reader for a group. Its calls are `fetch`, `commit` and `committed` in the cluster's scope.
    pub fn reader(&self, group: &GroupId, isolation: Isolation) -> MemoryReader {
        MemoryReader { cluster: self.clone(), group: group.clone(), isolation }
    }
}

impl MemoryReader {
    /// The cluster that it reads.
    pub fn cluster(&self) -> &MemoryCluster {
        &self.cluster
    }

    /// Reads from an offset on, at most so many records. Where nothing stands there it waits so many milliseconds of
    /// virtual time for something to come; without a clock, wait 0.
    ///
    /// # Errors
    /// Unreachable, no leader, shut out, no such partition.
    pub async fn fetch(
        &self,
        place: &TopicPartition,
        from: Offset,
        most: usize,
        wait_ms: u64,
    ) -> ProviderResult<Fetched> {
        let until = (wait_ms > 0).then(|| Instant::now() + Duration::from_millis(wait_ms));
        loop {
            let (at, isolation, grew) = (place.clone(), self.isolation, self.grew(place));
            let fetched = self
                .cluster
                .client_act("fetch", move |state| state.fetch(&at, from, most, isolation))
                .await?;
            let Some((until, (signal, seen))) = until.zip(grew) else { return Ok(fetched) };
            if fetched.next > from || fetched.out_of_range || Instant::now() >= until {
                return Ok(fetched);
            }
            // A wait that ends without news still asks once more: the answer may have become an error.
            let _ = tokio::time::timeout_at(until, signal.differs_from(seen)).await;
        }
    }

    /// Commits an offset: the next one that the group would read.
    ///
    /// # Errors
    /// Unreachable, or the coordinator does not answer.
    pub async fn commit(&self, place: &TopicPartition, offset: Offset) -> ProviderResult<()> {
        let (group, place) = (self.group.clone(), place.clone());
        self.cluster
            .client_act("commit", move |state| {
                state.coordinated(&group)?;
                let at_ms = state.faults.now_ms();
                state.commits.insert((group, place), Commit { offset, at_ms });
                Ok(())
            })
            .await
    }

    /// What the group has committed.
    ///
    /// # Errors
    /// Unreachable, or the coordinator does not answer.
    pub async fn committed(&self, place: &TopicPartition) -> ProviderResult<Option<Offset>> {
        let (group, place) = (self.group.clone(), place.clone());
        self.cluster
            .client_act("committed", move |state| {
                state.coordinated(&group)?;
                Ok(state.committed(&group, &place))
            })
            .await
    }

    fn grew(&self, place: &TopicPartition) -> Option<(crate::signal::Signal, u64)> {
        let state = self.cluster.state.lock();
        let signal = state.partition(place)?.grew.clone();
        let seen = signal.count();
        Some((signal, seen))
    }
}

impl State {
    pub(super) fn coordinated(&self, group: &GroupId) -> ProviderResult<()> {
        if !self.lost_groups.contains(group) {
            return Ok(());
        }
        let what = format!("ask for the coordinator of group {group}");
        Err(ProviderError::new(ErrorKind::Unavailable, what, "it does not answer"))
    }

    fn fetch(
        &self,
        place: &TopicPartition,
        from: Offset,
        most: usize,
        isolation: Isolation,
    ) -> ProviderResult<Fetched> {
        let what = || format!("fetch from {place}");
        let log = self.partition(place);
        let log = log.ok_or_else(|| ProviderError::new(ErrorKind::NotFound, what(), "it is not there"))?;
        if let Some(reason) = self.unanswered(place) {
            return Err(ProviderError::new(ErrorKind::Unavailable, what(), reason));
        }
        if self.options.fence_style == FenceStyle::ReadersShutOut && self.refuses(place) {
            self.faults.fire("readers-shut-out");
            return Err(ProviderError::new(
                ErrorKind::NotAuthorised,
                what(),
                "the topic's ACLs do not allow it",
            ));
        }
        let (start, high_watermark) = (Offset(log.start), Offset(log.high_watermark()));
        let last_stable = self.last_stable(place);
        let committed = isolation == Isolation::ReadCommitted;
        let end = if committed { last_stable } else { high_watermark };
        let out_of_range = from < start || from > Offset(log.end());
        let mut fetched =
            Fetched { records: Vec::new(), next: from, start, high_watermark, last_stable, out_of_range };
        if out_of_range {
            return Ok(fetched);
        }
        for (offset, entry) in log.from(from.0).take_while(|(offset, _)| *offset < end.0) {
            if fetched.records.len() == most {
                break;
            }
            fetched.next = Offset(offset + 1);
            if !entry.record.marker && (!committed || self.is_data(entry)) {
                fetched.records.push((Offset(offset), Arc::clone(&entry.record)));
            }
        }
        Ok(fetched)
    }
}
