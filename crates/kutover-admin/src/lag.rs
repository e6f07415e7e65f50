//! How far groups have read, streamed: all log ranges first, then a batch for each group as it answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures_core::Stream;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use krafka::admin::{GroupOffset, ListedOffset, OffsetSpec};
use kutover_core::drain::{GroupProgress, LogRange, Tail};
use kutover_core::error::ProviderResult;
use kutover_core::ports::{LagBatch, LagQuery};
use kutover_core::words::{GroupId, Offset, TopicName, TopicPartition};

use crate::admin::KafkaAdmin;
use crate::ends::Answers;
use crate::errors::reason;
use crate::groups::{GROUPS_AT_ONCE, place_of};
use crate::tail::TailReader;
use crate::topics::count;

type Ranges = BTreeMap<TopicPartition, Result<LogRange, String>>;

impl KafkaAdmin {
    /// The partitions of a group's topics are those that the query names; a topic of which it names none is looked up.
    pub(crate) fn stream_lag(
        &self,
        query: LagQuery,
    ) -> impl Stream<Item = ProviderResult<LagBatch>> + Send + '_ {
        stream::once(self.open_lag(query)).try_flatten()
    }

    async fn open_lag(
        &self,
        query: LagQuery,
    ) -> ProviderResult<impl Stream<Item = ProviderResult<LagBatch>> + Send + '_> {
        let queried: BTreeSet<TopicPartition> = query.partitions.iter().cloned().collect();
        let places = self.with_topics_of_groups(&queried, &query.groups).await?;
        let all: Vec<TopicPartition> = places.values().flatten().cloned().collect();
        let ranges = Arc::new(self.ranges(&all).await?);
        let tails = match query.read_tails {
            true => Some(Arc::new(TailReader::new(self, self.stable_ends(&all).await?))),
            false => None,
        };
        let logs = ranges.iter().filter(|(place, _)| queried.contains(*place));
        let logs = LagBatch::Logs(logs.map(|(place, range)| (place.clone(), range.clone())).collect());
        let uncommitted = Arc::new(query.read_uncommitted);
        let groups = stream::iter(query.groups)
            .map(move |(group, topics)| {
                let wanted: Vec<TopicPartition> =
                    topics.iter().filter_map(|topic| places.get(topic)).flatten().cloned().collect();
                let (ranges, tails) = (Arc::clone(&ranges), tails.clone());
                let uncommitted = uncommitted.contains(&group);
                async move {
                    let tails = tails.as_deref().map(|tails| (tails, uncommitted));
                    let progress = self.progress(&group, &wanted, &ranges, tails).await;
                    Ok(LagBatch::Group(group, progress))
                }
            })
            .buffer_unordered(GROUPS_AT_ONCE);
        Ok(stream::once(std::future::ready(Ok(logs))).chain(groups))
    }

    async fn with_topics_of_groups(
        &self,
        queried: &BTreeSet<TopicPartition>,
        groups: &BTreeMap<GroupId, BTreeSet<TopicName>>,
    ) -> ProviderResult<BTreeMap<TopicName, Vec<TopicPartition>>> {
        let mut places: BTreeMap<TopicName, Vec<TopicPartition>> = BTreeMap::new();
        for place in queried {
            places.entry(place.topic.clone()).or_default().push(place.clone());
        }
        let of_groups: BTreeSet<&TopicName> = groups.values().flatten().collect();
        let missing: Vec<TopicName> =
            of_groups.into_iter().filter(|topic| !places.contains_key(*topic)).cloned().collect();
        for (name, topic) in self.describe_known(&missing).await? {
            let all =
                (0..count(&topic)).map(|partition| TopicPartition::new(name.clone(), partition)).collect();
            places.insert(name, all);
        }
        Ok(places)
    }

    async fn ranges(&self, places: &[TopicPartition]) -> ProviderResult<Ranges> {
        let (starts, ends) = tokio::try_join!(
            self.list(places, OffsetSpec::Earliest, false),
            self.list(places, OffsetSpec::Latest, false),
        )?;
        let range = |place: &TopicPartition| {
            let (start, end) = (offset(&starts, place)?, offset(&ends, place)?);
            Ok(LogRange { start, end })
        };
        Ok(places.iter().map(|place| (place.clone(), range(place))).collect())
    }

    /// Below which nothing is open, by partition; left out where it is not known.
    async fn stable_ends(
        &self,
        places: &[TopicPartition],
    ) -> ProviderResult<HashMap<TopicPartition, Offset>> {
        let answers = self.list(places, OffsetSpec::Latest, true).await?;
        Ok(places.iter().filter_map(|place| Some((place.clone(), offset(&answers, place).ok()?))).collect())
    }

    /// Where commits lie beyond the end that was found, which is looked up once more: the group may have read on since.
    async fn beyond(
        &self,
        commits: Option<&Answers<GroupOffset>>,
        places: &[TopicPartition],
        ranges: &Ranges,
    ) -> ProviderResult<BTreeMap<TopicPartition, Result<Tail, String>>> {
        let committed = |place: &TopicPartition| match commits?.get(&place_of(place)) {
            Some(Ok(commit)) => commit.offset.map(Offset),
            _ => None,
        };
        let is_beyond = |place: &&TopicPartition| match ranges.get(*place) {
            Some(Ok(range)) => committed(place) > Some(range.end),
            _ => false,
        };
        let suspected: Vec<TopicPartition> = places.iter().filter(is_beyond).cloned().collect();
        if suspected.is_empty() {
            return Ok(BTreeMap::new());
        }
        let ends = self.list(&suspected, OffsetSpec::Latest, false).await?;
        let judged = suspected.into_iter().filter_map(|place| match offset(&ends, &place) {
            Ok(end) => (committed(&place) > Some(end)).then_some((place, Ok(Tail::Beyond))),
            Err(why) => Some((place, Err(format!("the end of its log was not answered: {why}")))),
        });
        Ok(judged.collect())
    }

    async fn progress(
        &self,
        group: &GroupId,
        places: &[TopicPartition],
        ranges: &Ranges,
        tails: Option<(&TailReader<'_>, bool)>,
    ) -> Vec<(TopicPartition, Result<GroupProgress, String>)> {
        let commits = match self.offsets(group, Some(places), false).await {
            Ok(commits) => commits,
            Err(error) => {
                let why = reason(&error);
                return places.iter().map(|place| (place.clone(), Err(why.clone()))).collect();
            }
        };
        let beyond = match self.beyond(commits.as_ref(), places, ranges).await {
            Ok(beyond) => beyond,
            Err(error) => {
                return places.iter().map(|place| (place.clone(), Err(error.to_string()))).collect();
            }
        };
        let mut progress = Vec::with_capacity(places.len());
        for place in places {
            let committed = match commits.as_ref().map(|commits| commits.get(&place_of(place))) {
                None => Ok(None),
                Some(Some(Ok(commit))) => Ok(commit.offset.map(Offset)),
                Some(Some(Err(error))) => Err(reason(error)),
                Some(None) => Err("the coordinator left the partition out of its answer".to_owned()),
            };
            let answer = match (committed, tails, ranges.get(place)) {
                (Ok(committed), ..) if beyond.contains_key(place) => {
                    beyond[place].clone().map(|tail| GroupProgress { committed, tail })
                }
                (Ok(committed), Some((tails, uncommitted)), Some(Ok(range))) => tails
                    .read(place, committed, *range, uncommitted)
                    .await
                    .map(|tail| GroupProgress { committed, tail })
                    .map_err(|why| format!("its tail could not be read: {why}")),
                (committed, _, _) => {
                    committed.map(|committed| GroupProgress { committed, tail: Tail::NotRead })
                }
            };
            progress.push((place.clone(), answer));
        }
        progress
    }
}

pub(crate) fn offset(answers: &Answers<ListedOffset>, place: &TopicPartition) -> Result<Offset, String> {
    match answers.get(&place_of(place)) {
        Some(Ok(listed)) => Ok(Offset(listed.offset)),
        Some(Err(error)) => Err(reason(error)),
        None => Err("no answer".to_owned()),
    }
}
