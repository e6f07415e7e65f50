//! Commands that observe: how far groups have read, and all that a removal rests on.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use kutover_core::cutover::Answer;
use kutover_core::drain::{Observation, Tail};
use kutover_core::error::{ErrorKind, ProviderResult};
use kutover_core::ports::{
    Incarnation, LagBatch, LagQuery, LagSource, PartitionEnd, ProducerSurvey, TopicDescription,
};
use kutover_core::words::{GroupId, TopicName, TopicPartition};

use super::world::{World, list};

/// Last records that are read of one partition, to recognise its writers by.
const RECORDS_READ: usize = 50;
/// Partitions whose open transactions are named in one observation.
const OPEN_NAMED: usize = 100;

/// Collects one observation. Tails are to be read, because a commit short of the end says nothing by itself (L10).
///
/// # Errors
/// The lag source's own: then nothing is known.
pub async fn observe(
    lag: &dyn LagSource,
    survey: &dyn ProducerSurvey,
    query: LagQuery,
) -> ProviderResult<Observation> {
    let mut batches = lag.lag(query);
    let mut seen = Observation::default();
    while let Some(batch) = batches.next().await {
        match batch? {
            LagBatch::Logs(logs) => seen.logs.extend(logs),
            LagBatch::Group(group, progress) => {
                seen.progress.extend(progress.into_iter().map(|(place, one)| ((group.clone(), place), one)));
            }
        }
    }
    // What holds a tail open is named as far as the cluster can tell; without a name it is just as undrained.
    let open = seen.progress.iter().filter(|(_, one)| one.as_ref().is_ok_and(|one| one.tail == Tail::Open));
    let open: BTreeSet<TopicPartition> = open.map(|((_, place), _)| place.clone()).collect();
    if !open.is_empty() {
        let open: Vec<TopicPartition> = open.into_iter().take(OPEN_NAMED).collect();
        let named = survey.open_transactions(&open).await.unwrap_or_default();
        seen.open = named.into_iter().filter_map(|(place, open)| Some((place, open.ok()?))).collect();
    }
    Ok(seen)
}

impl World {
    /// One observation of groups on a cluster.
    pub(super) async fn observe(
        &self,
        on: &Incarnation,
        groups: &BTreeMap<GroupId, BTreeSet<TopicName>>,
        partitions: &[TopicPartition],
    ) -> ProviderResult<Observation> {
        let links = self.links(on).await?;
        let query = LagQuery {
            groups: groups.clone(),
            partitions: partitions.to_vec(),
            read_tails: true,
            read_uncommitted: self.deployment.read_uncommitted.clone(),
        };
        observe(&*links.lag, &*links.survey, query).await
    }

    /// Everything that a removal rests on, once more and fresh.
    pub(super) async fn reprove(
        &self,
        old: &Incarnation,
        new: &Incarnation,
        groups: &BTreeMap<GroupId, BTreeSet<TopicName>>,
        topics: &BTreeSet<TopicName>,
        fence_too: bool,
    ) -> ProviderResult<Answer> {
        let published = self.published().await?;
        let serving = self.links(new).await?.admin;
        let identity = serving.identity().await?;
        serving.prove_open(&list(topics)).await?;
        let admin = self.links(old).await?.admin;
        if fence_too && let Err(error) = admin.prove_fence(&list(topics)).await {
            return match error.kind {
                ErrorKind::Refused => Ok(Answer::Unfenced { why: error.to_string() }),
                _ => Err(error),
            };
        }
        let there = admin.topics().await?;
        let partitions: Vec<TopicPartition> = there
            .iter()
            .filter(|topic| topics.contains(&topic.name))
            .flat_map(|topic| {
                (0..topic.partitions).map(|partition| TopicPartition { topic: topic.name.clone(), partition })
            })
            .collect();
        let (listed, _) = self.groups(old).await?;
        let seen = self.observe(old, groups, &partitions).await?;
        Ok(Answer::Reproved { published, new: identity, seen, listed, topics: there })
    }

    /// The topics of a cluster, and the ends of those among these that are there.
    pub(super) async fn look_behind(
        &self,
        on: &Incarnation,
        topics: &BTreeSet<TopicName>,
    ) -> ProviderResult<(Vec<TopicDescription>, Vec<PartitionEnd>)> {
        let admin = self.links(on).await?.admin;
        let there = admin.topics().await?;
        let known = there.iter().map(|topic| &topic.name).filter(|name| topics.contains(*name));
        let ends = admin.ends(&known.cloned().collect::<Vec<_>>()).await?;
        Ok((there, ends))
    }

    /// Who writes to a cluster. That it cannot tell, or does not let us ask, is an answer.
    pub(super) async fn look_who_writes(
        &self,
        on: &Incarnation,
        partitions: &[TopicPartition],
        records_of: &BTreeSet<TopicPartition>,
    ) -> ProviderResult<Answer> {
        let survey = self.links(on).await?.survey;
        let mut records = BTreeMap::new();
        for place in records_of {
            // They help to recognise somebody; without them the ids stay.
            if let Ok(last) = survey.last_records(place, RECORDS_READ).await {
                records.insert(place.clone(), last);
            }
        }
        if partitions.is_empty() {
            return Ok(Answer::Surveyed { partitions: Ok(BTreeMap::new()), records });
        }
        let partitions = match survey.writers(partitions).await {
            Ok(writers) => Ok(writers),
            Err(error) if matches!(error.kind, ErrorKind::Unsupported | ErrorKind::NotAuthorised) => {
                Err(error.to_string())
            }
            Err(error) => return Err(error),
        };
        Ok(Answer::Surveyed { partitions, records })
    }
}
