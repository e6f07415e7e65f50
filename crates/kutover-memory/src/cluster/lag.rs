//! How far groups have read.

use std::pin::Pin;

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use kutover_core::drain::{GroupProgress, LogRange, Tail};
use kutover_core::error::ProviderResult;
use kutover_core::ports::{LagBatch, LagQuery, LagSource};
use kutover_core::words::{GroupId, Offset, TopicPartition};

use super::{MemoryCluster, State};

impl LagSource for MemoryCluster {
    fn lag(&self, query: LagQuery) -> Pin<Box<dyn Stream<Item = ProviderResult<LagBatch>> + Send + '_>> {
        let answered = async move {
            let batches = self.act("lag", |state| Ok(state.batches(&query))).await;
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
                let progress = self.progress(group, &place, query.read_tails);
                (place, progress)
            });
            LagBatch::Group(group.clone(), answers.collect())
        });
        std::iter::once(LagBatch::Logs(logs)).chain(groups).collect()
    }

    fn range(&self, place: &TopicPartition) -> Result<LogRange, String> {
        if self.silent.contains(place) {
            return Err("it has no leader".into());
        }
        let log = self.partition(place).ok_or("it is not there")?;
        Ok(LogRange { start: Offset(log.start), end: Offset(log.end()) })
    }

    fn progress(
        &self,
        group: &GroupId,
        place: &TopicPartition,
        tails: bool,
    ) -> Result<GroupProgress, String> {
        let range = self.range(place)?;
        let committed = self.commits.get(&(group.clone(), place.clone())).copied();
        let from = committed.unwrap_or(range.start);
        let tail = if !tails || from >= range.end {
            Tail::NotRead
        } else if self.partition(place).is_some_and(|log| log.from(from.0).any(|(_, record)| !record.marker))
        {
            Tail::Data
        } else {
            Tail::NoData
        };
        Ok(GroupProgress { committed, tail })
    }
}
