//! How far groups have read.

use std::pin::Pin;

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use kutover_core::drain::{GroupProgress, LogRange, Tail};
use kutover_core::error::ProviderResult;
use kutover_core::ports::{LagBatch, LagQuery, LagSource};
use kutover_core::words::{GroupId, Offset, TopicPartition};

use super::log::PartitionLog;
use super::{MemoryCluster, State};

impl LagSource for MemoryCluster {
    fn lag(&self, query: LagQuery) -> Pin<Box<dyn Stream<Item = ProviderResult<LagBatch>> + Send + '_>> {
        let answered = async move {
            let batches = self.act("lag", move |state| Ok(state.batches(&query))).await;
            match batches {
                Ok(batches) => stream::iter(batches.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => stream::iter(vec![Err(error)]),
            }
        };
        Box::pin(stream::once(answered).flatten())
    }
}

impl State {
    fn batches(&self, query: &LagQuery) -> Vec<LagBatch> {
        let logs = query.partitions.iter().map(|place| (place.clone(), self.range(place))).collect();
        let groups = query.groups.iter().map(|(group, topics)| {
            let places = topics.iter().flat_map(|topic| self.places(topic));
            let answers = places.map(|place| {
                let tails = query.read_tails.then(|| query.read_uncommitted.contains(group));
                let progress = self.progress(group, &place, tails);
                (place, progress)
            });
            LagBatch::Group(group.clone(), answers.collect())
        });
        std::iter::once(LagBatch::Logs(logs)).chain(groups).collect()
    }

    fn range(&self, place: &TopicPartition) -> Result<LogRange, String> {
        let log = self.partition(place).ok_or("it is not there")?;
        if let Some(reason) = self.unanswered(place) {
            return Err(reason.into());
        }
        Ok(LogRange { start: Offset(log.start), end: Offset(log.high_watermark()) })
    }

    /// `tails` is whether the group reads uncommitted records, if its tails are to be read.
    fn progress(
        &self,
        group: &GroupId,
        place: &TopicPartition,
        tails: Option<bool>,
    ) -> Result<GroupProgress, String> {
        let range = self.range(place)?;
        if self.lost_groups.contains(group) {
            return Err("its coordinator does not answer".into());
        }
        let committed = self.committed(group, place);
        let from = committed.unwrap_or(range.start);
        let open = self.last_stable(place) < range.end && tails != Some(true);
        let data = |log: &PartitionLog| {
            let readable = log.from(from.0).take_while(|(offset, _)| *offset < range.end.0);
            { readable }.any(|(_, entry)| match tails {
                Some(true) => !entry.record.marker,
                _ => self.is_data(entry) && !self.is_undecided(entry),
            })
        };
        let tail = if committed > Some(range.end) {
            Tail::Beyond
        } else if tails.is_none() || from >= range.end {
            Tail::NotRead
        } else if self.partition(place).is_some_and(data) {
            Tail::Data
        } else if open {
            Tail::Open
        } else {
            Tail::NoData
        };
        Ok(GroupProgress { committed, tail })
    }
}
