//! What the controller does to a cluster.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use kutover_core::decisions::closing;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{
    Access, ClusterAdmin, ClusterIdentity, FenceKind, FenceProof, FenceSwitch, GroupListing, NewAccess,
    NewTopic, PartitionEnd, ScramUsers, TopicConfigs, TopicDescription,
};
use kutover_core::words::{GroupId, Offset, TopicName, TopicPartition, is_internal_topic, is_reserved_topic};

use super::{Commit, FenceStyle, MemoryCluster, State};

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
            let defaults = state.options.topic_defaults.iter().filter(|_| tells);
            let defaults: BTreeMap<_, _> =
                defaults.map(|(name, value)| (name.clone(), [value.clone()].into())).collect();
            let described = state.topics.iter().filter(|(name, _)| !is_internal_topic(name.as_str()));
            Ok(described
                .map(|(name, topic)| TopicDescription {
                    name: name.clone(),
                    id: tells.then(|| topic.id.clone()),
                    partitions: topic.partitions.len() as i32,
                    replication: topic.replication,
                    configs: tells.then(|| topic.configs.clone()),
                    defaults: defaults.clone(),
                })
                .collect())
        })
        .await
    }

    async fn create_topic(&self, topic: &NewTopic) -> ProviderResult<()> {
        let topic = topic.clone();
        self.act("create_topic", move |state| state.create(&topic)).await
    }

    async fn delete_topics(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let topics = topics.to_vec();
        self.act("delete_topics", move |state| {
            for topic in topics {
                state.topics.remove(&topic);
                state.commits.retain(|(_, place), _| place.topic != topic);
            }
            Ok(())
        })
        .await
    }

    async fn access(&self) -> ProviderResult<Access> {
        self.act("access", |state| Ok(state.told_access())).await
    }

    async fn grant(&self, access: &NewAccess) -> ProviderResult<ScramUsers> {
        let wanted = access.clone();
        self.act("grant", move |state| {
            state.add_access(&wanted);
            Ok(wanted.scram_users)
        })
        .await
    }

    async fn groups(&self) -> ProviderResult<GroupListing> {
        self.act("groups", |state| {
            if state.groups_hidden {
                let reason = "a coordinator is loading";
                return Err(ProviderError::new(ErrorKind::Unavailable, "list groups", reason));
            }
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
        let topics = topics.to_vec();
        self.act("ends", move |state| state.ends(&topics)).await
    }

    async fn set_start_offsets(
        &self,
        group: &GroupId,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> ProviderResult<Vec<TopicPartition>> {
        let (group, offsets) = (group.clone(), offsets.clone());
        self.act("set_start_offsets", move |state| {
            state.coordinated(&group)?;
            let key = |place: &TopicPartition| (group.clone(), place.clone());
            let (kept, free): (Vec<_>, Vec<_>) =
                offsets.iter().partition(|(place, _)| state.commits.contains_key(&key(place)));
            if !free.is_empty() && state.live_groups.contains(&group) {
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
            let at_ms = state.faults.now_ms();
            for (place, offset) in free {
                state.commits.insert(key(place), Commit { offset: *offset, at_ms });
            }
            if !state.live_groups.contains(&group) {
                for (place, offset) in &kept {
                    let same = state.commits.get_mut(&key(place)).filter(|commit| commit.offset == **offset);
                    if let Some(commit) = same {
                        commit.at_ms = at_ms;
                    }
                }
            }
            Ok(kept.into_iter().map(|(place, _)| place.clone()).collect())
        })
        .await
    }

    async fn raise_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceKind> {
        let topics = topics.to_vec();
        self.act("raise_fence", move |state| state.fence(&topics)).await
    }

    async fn prove_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceProof> {
        let topics = topics.to_vec();
        self.act("prove_fence", move |state| state.prove(&topics)).await
    }

    async fn lift_fence(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let topics = topics.to_vec();
        self.act("lift_fence", move |state| {
            state.unfence(&topics);
            Ok(())
        })
        .await
    }

    async fn alter_configs(&self, configs: &TopicConfigs) -> ProviderResult<()> {
        let configs = configs.clone();
        self.act("alter_configs", move |state| state.alter(&configs)).await
    }

    async fn fence_traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
        self.act("fence_traces", |state| match state.options.fence_style {
            FenceStyle::Unasked => {
                let reason = "this fence cannot be asked where it stands";
                Err(ProviderError::new(ErrorKind::Unsupported, "look for traces of a fence", reason))
            }
            _ => Ok(state.fenced.clone()),
        })
        .await
    }

    async fn prove_open(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let topics = topics.to_vec();
        self.act("prove_open", move |state| state.prove_open(&topics)).await
    }
}

#[async_trait]
impl FenceSwitch for MemoryCluster {
    fn kind(&self) -> FenceKind {
        self.state.lock().options.fence.unwrap_or(FenceKind::Hook)
    }

    async fn raise(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let topics = topics.to_vec();
        self.act("raise", move |state| state.fence(&topics).map(|_| ())).await
    }

    async fn lift(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.lift_fence(topics).await
    }

    async fn traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
        self.fence_traces().await
    }
}

impl MemoryCluster {
    /// Sets a config on a topic, as its users would.
    pub fn set_config(&self, topic: &str, config: &str, value: &str) {
        if let Some(topic) = self.state.lock().topics.get_mut(&topic.into()) {
            topic.configs.insert(config.to_owned(), value.to_owned());
        }
    }

    /// What is set on a topic itself.
    pub fn configs_of(&self, topic: &str) -> BTreeMap<String, String> {
        self.state.lock().topics.get(&topic.into()).map(|topic| topic.configs.clone()).unwrap_or_default()
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

    fn alter(&mut self, configs: &TopicConfigs) -> ProviderResult<()> {
        if let Some(missing) = configs.keys().find(|topic| !self.topics.contains_key(*topic)) {
            let what = format!("alter the configs of topic {missing}");
            return Err(ProviderError::new(ErrorKind::NotFound, what, "it is not there"));
        }
        for (name, changes) in configs {
            let Some(topic) = self.topics.get_mut(name) else { continue };
            for (config, value) in changes {
                match value {
                    Some(value) => topic.configs.insert(config.clone(), value.clone()),
                    None => topic.configs.remove(config),
                };
            }
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
                if let Some(reason) = self.unanswered(&place) {
                    let what = format!("read the end of {place}");
                    return Err(ProviderError::new(ErrorKind::Unavailable, what, reason));
                }
                let Some(log) = self.partition(&place) else { continue };
                let (start, high_watermark) = (Offset(log.start), Offset(log.high_watermark()));
                let (leader_end, epoch) = (Some(Offset(log.end())), Some(log.epoch));
                let stable_end = self.last_stable(&place);
                ends.push(PartitionEnd { place, start, stable_end, high_watermark, leader_end, epoch });
            }
        }
        Ok(ends)
    }

    fn prove_open(&self, topics: &[TopicName]) -> ProviderResult<()> {
        for end in self.ends(topics)? {
            let refused = self.fenced.contains(&end.place.topic) || self.refuses(&end.place);
            if refused || !self.isolations.is_empty() {
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
            let what = || format!("prove the fence on {}", end.place);
            if !self.refuses(&end.place) {
                return Err(ProviderError::new(ErrorKind::Refused, what(), "its leader takes records"));
            }
            if let Some(open) = closing::open_transaction(end.stable_end, end.high_watermark) {
                return Err(ProviderError::new(ErrorKind::Unavailable, what(), open));
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
