//! The ends of logs: what readers can get to, and what the leader itself holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use krafka::admin::{
    EpochEndOffset, ListOffsetsOptions, ListedOffset, OffsetForLeaderEpochOptions, OffsetSpec,
    TopicPartition as Place,
};
use krafka::error::KrafkaError;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::PartitionEnd;
use kutover_core::words::{Offset, TopicId, TopicName, TopicPartition};

use crate::admin::KafkaAdmin;
use crate::errors::{is_unsupported, provider};
use crate::groups::place_of;
use crate::topics::{count, topic_id};

/// Ends, and the topics as they stood when the ends were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Each topic's id and partition count.
    pub(crate) topics: BTreeMap<TopicName, (Option<TopicId>, i32)>,
    /// Every partition's end, in order.
    pub(crate) ends: Vec<PartitionEnd>,
    /// The partitions with one replica, which waits for nobody, and those of a cluster that has no call for a leader's own
    /// end (the embedded one).
    pub(crate) alone: BTreeSet<TopicPartition>,
}

/// krafka's answers by partition.
pub(crate) type Answers<T> = HashMap<Place, Result<T, KrafkaError>>;

impl KafkaAdmin {
    /// One kind of offset of every partition.
    pub(crate) async fn list(
        &self,
        places: &[TopicPartition],
        spec: OffsetSpec,
        read_committed: bool,
    ) -> ProviderResult<Answers<ListedOffset>> {
        let specs = places.iter().map(|place| (place_of(place), spec));
        self.admin
            .list_offsets(specs, ListOffsetsOptions::default().read_committed(read_committed))
            .await
            .map_err(|error| provider("list offsets", &error))
    }

    /// Reads the ends of all partitions as described just before, each at its leader.
    pub(crate) async fn read_ends(&self, topics: &[TopicName]) -> ProviderResult<Ends> {
        let described = self.describe_known(topics).await?;
        let mut places = Vec::new();
        let mut epochs = HashMap::new();
        let mut seen = BTreeMap::new();
        let mut alone = BTreeSet::new();
        for (name, topic) in &described {
            seen.insert(name.clone(), (topic_id(topic.topic_id), count(topic)));
            for partition in &topic.partitions {
                let place = TopicPartition::new(name.clone(), partition.partition);
                epochs.insert(place.clone(), partition.leader_epoch);
                if partition.replicas.len() == 1 {
                    alone.insert(place.clone());
                }
                places.push(place);
            }
        }
        // First: a marker that comes in between then shows as an end behind it.
        let stable = self.list(&places, OffsetSpec::Latest, true).await?;
        let (starts, highs) = tokio::try_join!(
            self.list(&places, OffsetSpec::Earliest, false),
            self.list(&places, OffsetSpec::Latest, false),
        )?;
        let mut ends = Vec::with_capacity(places.len());
        for place in &places {
            let start = answer(&starts, place, "read the start of")?;
            let stable = answer(&stable, place, "read the last stable offset of")?;
            let high = answer(&highs, place, "read the end of")?;
            // The leader's own word on its epoch is newer than the metadata's.
            let epoch = high.leader_epoch.or_else(|| epochs.get(place).copied().flatten());
            ends.push(PartitionEnd {
                place: place.clone(),
                start: Offset(start.offset),
                stable_end: Offset(stable.offset),
                high_watermark: Offset(high.offset),
                leader_end: None,
                epoch,
            });
        }
        self.add_leader_ends(&mut ends, &mut alone).await?;
        Ok(Ends { topics: seen, ends, alone })
    }

    /// Asks each leader where its current epoch ends, which is its own log's end: above the high watermark where
    /// replicas are behind. `None` stays where the cluster has no such call.
    async fn add_leader_ends(
        &self,
        ends: &mut [PartitionEnd],
        alone: &mut BTreeSet<TopicPartition>,
    ) -> ProviderResult<()> {
        let epochs: Vec<_> = ends.iter().filter_map(|end| Some((place_of(&end.place), end.epoch?))).collect();
        if epochs.is_empty() {
            return Ok(());
        }
        let answers = self
            .admin
            .offset_for_leader_epoch(epochs, OffsetForLeaderEpochOptions::default())
            .await
            .map_err(|error| provider("read the leaders' ends", &error))?;
        for end in ends.iter_mut().filter(|end| end.epoch.is_some()) {
            end.leader_end = leader_end(answers.get(&place_of(&end.place)), end)?;
            if end.leader_end.is_none() {
                alone.insert(end.place.clone());
            }
        }
        Ok(())
    }
}

fn leader_end(
    answer: Option<&Result<EpochEndOffset, KrafkaError>>,
    end: &PartitionEnd,
) -> ProviderResult<Option<Offset>> {
    let what = format!("read the leader's end of {}", end.place);
    match answer {
        Some(Ok(found)) if Some(found.leader_epoch) == end.epoch && found.end_offset >= 0 => {
            Ok(Some(Offset(found.end_offset)))
        }
        Some(Ok(found)) => {
            let reason =
                format!("it was asked for epoch {:?} and answered for {}", end.epoch, found.leader_epoch);
            Err(ProviderError::new(ErrorKind::Unavailable, what, reason))
        }
        Some(Err(error)) if is_unsupported(error) => Ok(None),
        Some(Err(error)) => Err(provider(what, error)),
        None => Err(ProviderError::new(ErrorKind::Unavailable, what, "no answer")),
    }
}

fn answer<'a>(
    answers: &'a Answers<ListedOffset>,
    place: &TopicPartition,
    doing: &str,
) -> ProviderResult<&'a ListedOffset> {
    let what = format!("{doing} {place}");
    match answers.get(&place_of(place)) {
        Some(Ok(listed)) => Ok(listed),
        Some(Err(error)) => Err(provider(what, error)),
        None => Err(ProviderError::new(ErrorKind::Unavailable, what, "no answer")),
    }
}
