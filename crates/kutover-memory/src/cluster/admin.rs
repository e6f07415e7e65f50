//! What the controller does to a cluster.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{
    ClusterAdmin, ClusterIdentity, FenceKind, FenceProof, FenceSwitch, GroupListing, NewTopic, PartitionEnd,
    TopicDescription,
};
use kutover_core::words::{GroupId, Offset, TopicName, TopicPartition, is_reserved_topic};

use super::{MemoryCluster, State};

#[async_trait]
impl ClusterAdmin for MemoryCluster {
    async fn identity(&self) -> ProviderResult<ClusterIdentity> {
        self.act("identity", |state| {
            let version = state.options.version.clone();
            Ok(ClusterIdentity { cluster_id: state.id.clone(), brokers: state.brokers.clone(), version })
        })
        .await
    }

    async fn topics(&self) -> ProviderResult<Vec<TopicDescription>> {
        self.act("topics", |state| {
            let tells = state.options.describes_topics;
            let described = state.topics.iter().filter(|(name, _)| !name.as_str().starts_with("__"));
            Ok(described
                .map(|(name, topic)| TopicDescription {
                    name: name.clone(),
                    id: tells.then(|| topic.id.clone()),
                    partitions: topic.partitions.len() as i32,
                    replication: topic.replication,
                    configs: tells.then(|| topic.configs.clone()),
                })
                .collect())
        })
        .await
    }

    async fn create_topic(&self, topic: &NewTopic) -> ProviderResult<()> {
        self.act("create_topic", |state| state.create(topic)).await
    }

    async fn delete_topics(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.act("delete_topics", |state| {
            for topic in topics {
                state.topics.remove(topic);
                state.commits.retain(|(_, place), _| place.topic != *topic);
            }
            Ok(())
        })
        .await
    }

    async fn groups(&self) -> ProviderResult<GroupListing> {
        self.act("groups", |state| {
            if !state.options.lists_groups {
                return Ok(GroupListing::Unsupported);
            }
            let mut listed: BTreeMap<GroupId, BTreeSet<TopicName>> = BTreeMap::new();
            for group in &state.live_groups {
                listed.entry(group.clone()).or_default();
            }
            for (group, place) in state.commits.keys() {
                listed.entry(group.clone()).or_default().insert(place.topic.clone());
            }
            Ok(GroupListing::Listed(listed))
        })
        .await
    }

    async fn ends(&self, topics: &[TopicName]) -> ProviderResult<Vec<PartitionEnd>> {
        self.act("ends", |state| state.ends(topics)).await
    }

    async fn set_start_offsets(
        &self,
        group: &GroupId,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> ProviderResult<Vec<TopicPartition>> {
        self.act("set_start_offsets", |state| {
            let key = |place: &TopicPartition| (group.clone(), place.clone());
            let (kept, free): (Vec<_>, Vec<_>) =
                offsets.iter().partition(|(place, _)| state.commits.contains_key(&key(place)));
            if !free.is_empty() && state.live_groups.contains(group) {
                let what = format!("set start offsets of group {group}");
                return Err(ProviderError::new(
                    ErrorKind::Refused,
                    what,
                    "it has live members; stop them first",
                ));
            }
            if let Some((place, _)) = free.iter().find(|(place, _)| state.partition(place).is_none()) {
                let what = format!("set start offsets of group {group}");
                return Err(ProviderError::new(ErrorKind::NotFound, what, format!("{place} is not there")));
            }
            for (place, offset) in free {
                state.commits.insert(key(place), *offset);
            }
            Ok(kept.into_iter().map(|(place, _)| place.clone()).collect())
        })
        .await
    }

    async fn raise_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceKind> {
        self.act("raise_fence", |state| state.fence(topics)).await
    }

    async fn prove_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceProof> {
        self.act("prove_fence", |state| state.prove(topics)).await
    }

    async fn lift_fence(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.act("lift_fence", |state| {
            state.fenced.retain(|topic| !topics.contains(topic));
            Ok(())
        })
        .await
    }

    async fn prove_open(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.act("prove_open", |state| state.prove_open(topics)).await
    }
}

#[async_trait]
impl FenceSwitch for MemoryCluster {
    fn kind(&self) -> FenceKind {
        self.state.lock().options.fence.unwrap_or(FenceKind::Hook)
    }

    async fn raise(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.act("raise", |state| state.fence(topics).map(|_| ())).await
    }

    async fn lift(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.lift_fence(topics).await
    }
}

impl State {
    fn create(&mut self, topic: &NewTopic) -> ProviderResult<()> {
        let what = || format!("create topic {}", topic.name);
        if let Some(config) =
            topic.configs.keys().find(|config| self.options.unknown_configs.contains(*config))
        {
            let reason = format!("the cluster does not know the config `{config}`; leave it out");
            return Err(ProviderError::new(ErrorKind::Refused, what(), reason));
        }
        let known = self.topics.get(&topic.name).map_or(0, |known| known.partitions.len() as i32);
        if known < topic.partitions {
            self.add_topic(&topic.name, topic.partitions, topic.replication, topic.configs.clone());
        }
        Ok(())
    }

    fn ends(&self, topics: &[TopicName]) -> ProviderResult<Vec<PartitionEnd>> {
        let mut ends = Vec::new();
        for name in topics {
            if !self.topics.contains_key(name) {
                let what = format!("read the ends of topic {name}");
                return Err(ProviderError::new(ErrorKind::NotFound, what, "it is not there"));
            }
            for place in self.places(name) {
                if self.silent.contains(&place) {
                    let what = format!("read the end of {place}");
                    return Err(ProviderError::new(ErrorKind::Unavailable, what, "it has no leader"));
                }
                let Some(log) = self.partition(&place) else { continue };
                let (start, end) = (Offset(log.start), Offset(log.end()));
                let epoch = Some(0);
                ends.push(PartitionEnd { place, start, high_watermark: end, leader_end: Some(end), epoch });
            }
        }
        Ok(ends)
    }

    fn fence(&mut self, topics: &[TopicName]) -> ProviderResult<FenceKind> {
        let Some(kind) = self.options.fence else {
            let reason = "the cluster has nothing to fence with; waive the fence (plan.fence = \"waived\")";
            return Err(ProviderError::new(ErrorKind::Unsupported, "raise the fence", reason));
        };
        let data = topics.iter().filter(|topic| !is_reserved_topic(topic.as_str()));
        self.fenced.extend(data.cloned());
        Ok(kind)
    }

    fn prove_open(&self, topics: &[TopicName]) -> ProviderResult<()> {
        for end in self.ends(topics)? {
            if self.fenced.contains(&end.place.topic) || !self.isolations.is_empty() {
                let what = format!("prove that {} takes records", end.place);
                return Err(ProviderError::new(ErrorKind::Refused, what, "its leader refuses them"));
            }
        }
        Ok(())
    }

    fn prove(&self, topics: &[TopicName]) -> ProviderResult<FenceProof> {
        let data: Vec<_> =
            topics.iter().filter(|topic| !is_reserved_topic(topic.as_str())).cloned().collect();
        let ends = self.ends(&data)?;
        for end in &ends {
            if !self.fenced.contains(&end.place.topic) || self.leaks.contains(&end.place) {
                let what = format!("prove the fence on {}", end.place);
                return Err(ProviderError::new(ErrorKind::Refused, what, "its leader takes records"));
            }
        }
        let kind = self.options.fence.unwrap_or(FenceKind::Hook);
        let described = data.iter().filter_map(|name| {
            let topic = self.topics.get(name)?;
            let id = self.options.describes_topics.then(|| topic.id.clone());
            Some((name.clone(), (id, topic.partitions.len() as i32)))
        });
        Ok(FenceProof { kind, topics: described.collect(), ends })
    }
}
