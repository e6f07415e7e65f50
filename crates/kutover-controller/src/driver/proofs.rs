//! Commands that observe: how far groups have read, and all that a removal rests on.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use kutover_core::cutover::Answer;
use kutover_core::drain::Observation;
use kutover_core::error::ProviderResult;
use kutover_core::ports::{Incarnation, LagBatch, LagQuery};
use kutover_core::words::{GroupId, TopicName, TopicPartition};

use super::world::{World, list};

impl World {
    /// Collects one observation. Tails are read, because a commit short of the end says nothing by itself (L10).
    pub(super) async fn observe(
        &self,
        on: &Incarnation,
        groups: &BTreeMap<GroupId, BTreeSet<TopicName>>,
        partitions: &[TopicPartition],
    ) -> ProviderResult<Observation> {
        let links = self.links(on).await?;
        let query = LagQuery { groups: groups.clone(), partitions: partitions.to_vec(), read_tails: true };
        let mut batches = links.lag.lag(query);
        let mut seen = Observation::default();
        while let Some(batch) = batches.next().await {
            match batch? {
                LagBatch::Logs(logs) => seen.logs.extend(logs),
                LagBatch::Group(group, progress) => {
                    seen.progress
                        .extend(progress.into_iter().map(|(place, one)| ((group.clone(), place), one)));
                }
            }
        }
        Ok(seen)
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
        if fence_too {
            admin.prove_fence(&list(topics)).await?;
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
}
