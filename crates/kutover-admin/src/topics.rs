//! Topics: described, made, deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use krafka::admin::{
    AclOperation, AclResourceType, CreatePartitionsOptions, CreateTopicsOptions, DeleteTopicsOptions,
    DescribeConfigsOptions, DescribeTopicsOptions, ListTopicsOptions,
};
use krafka::error::{ErrorCode, KrafkaError};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{ConfigMap, Item, NewTopic, TopicDescription};
use kutover_core::words::{TopicId, TopicName, is_internal_topic};
use tokio::time::Instant;

use crate::admin::KafkaAdmin;
use crate::configs::{configs, defaults, inherited, own};
use crate::errors::{code, provider};
use crate::listing;

/// How often a new topic is looked at until every partition has a leader.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long brokers may take to agree on which topics there are.
const SETTLE: Duration = Duration::from_secs(2);
/// Topics described in one request.
const CHUNK: usize = 500;
/// How long brokers may take to tell their configs.
const PATIENCE: Duration = Duration::from_secs(2);

/// Kafka's own writing of a topic id; all zeros mean that the cluster knows none.
pub(crate) fn topic_id(bytes: [u8; 16]) -> Option<TopicId> {
    (bytes != [0; 16]).then(|| TopicId::new(URL_SAFE_NO_PAD.encode(bytes)))
}

impl KafkaAdmin {
    /// Describes topics as krafka does; a topic that is missing or did not answer is an error that names it.
    pub(crate) async fn describe(
        &self,
        topics: &[TopicName],
    ) -> ProviderResult<BTreeMap<TopicName, krafka::admin::TopicDescription>> {
        let mut described = BTreeMap::new();
        for chunk in topics.chunks(CHUNK) {
            let names = chunk.iter().map(TopicName::as_str);
            let mut answers = self
                .admin
                .describe_topics(names, DescribeTopicsOptions::default())
                .await
                .map_err(|error| provider("describe topics", &error))?;
            for topic in chunk {
                let what = format!("describe topic {topic}");
                let answer = answers.remove(topic.as_str()).ok_or_else(|| {
                    ProviderError::new(ErrorKind::Invalid, &what, "the cluster left it out")
                })?;
                described.insert(topic.clone(), answer.map_err(|error| provider(what, &error))?);
            }
        }
        Ok(described)
    }

    /// Describes topics that should be there. Brokers learn of topics one by one, so that a topic is missing only if
    /// it is still missing a while later.
    pub(crate) async fn describe_known(
        &self,
        topics: &[TopicName],
    ) -> ProviderResult<BTreeMap<TopicName, krafka::admin::TopicDescription>> {
        let deadline = Instant::now() + SETTLE;
        loop {
            match self.describe(topics).await {
                Err(error) if error.kind == ErrorKind::NotFound && Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                other => return other,
            }
        }
    }

    pub(crate) async fn read_topics(&self) -> ProviderResult<Vec<TopicDescription>> {
        let deadline = Instant::now() + SETTLE;
        let samples = match listing::samples(&self.admin, AclResourceType::Topic).await {
            // Whoever may not read ACLs cannot match them either, and is told so there.
            Err(error) if error.kind == ErrorKind::NotAuthorised => BTreeSet::new(),
            samples => samples?,
        };
        loop {
            match self.list_and_describe(&samples).await {
                // Listed by one broker, not known to another: made or deleted just now.
                Err(error) if error.kind == ErrorKind::NotFound && Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                other => return other,
            }
        }
    }

    async fn list_and_describe(&self, samples: &BTreeSet<String>) -> ProviderResult<Vec<TopicDescription>> {
        let names: Vec<TopicName> = self
            .admin
            .list_topics(ListTopicsOptions::default())
            .await
            .map_err(|error| provider("list topics", &error))?
            .into_iter()
            .map(TopicName::new)
            .collect();
        let described = self.describe(&names).await?;
        self.all_are_listed(&names, samples).await?;
        let told = configs(&self.admin, &names, DescribeConfigsOptions::default()).await?;
        let defaults = match &told {
            Some(told) => {
                let inherited = told.values().flat_map(|entries| inherited(entries));
                defaults(&self.brokers_that_tell().await, inherited)
            }
            None => BTreeMap::new(),
        };
        let mut topics = Vec::with_capacity(names.len());
        for (name, topic) in described {
            if topic.is_internal {
                continue;
            }
            let replication =
                topic.partitions.iter().map(|partition| partition.replicas.len()).min().unwrap_or(0);
            // A topic without an answer sets nothing, as far as is known.
            let entries = told.as_ref().map(|told| told.get(&name).map_or(&[][..], Vec::as_slice));
            topics.push(TopicDescription {
                id: topic_id(topic.topic_id),
                partitions: count(&topic),
                replication: i16::try_from(replication).unwrap_or(i16::MAX),
                configs: entries.map(own),
                defaults: defaults.clone(),
                name,
            });
        }
        Ok(topics)
    }

    /// What brokers say of themselves. One that is silent is not waited for: a rollback reads topics too, and producers stand still
    /// for it.
    async fn brokers_that_tell(&self) -> BTreeMap<i32, Item<ConfigMap>> {
        let told = tokio::time::timeout(PATIENCE, self.read_broker_configs()).await;
        told.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Whether a listing leaves nothing out. A topic that kutover's principal may not describe would be neither made, nor fenced,
    /// nor drained, and would go with its cluster. `samples`: what ACLs speak of, once for all looks.
    ///
    /// # Errors
    /// `NotAuthorised` with a name that it may not be told of; or it was not answered.
    async fn all_are_listed(&self, listed: &[TopicName], samples: &BTreeSet<String>) -> ProviderResult<()> {
        const WHAT: &str = "list topics";
        let listed: BTreeSet<&str> = listed.iter().map(TopicName::as_str).collect();
        let is_known = |name: &String| is_internal_topic(name) || listed.contains(name.as_str());
        let unlisted: Vec<&str> = samples.iter().filter(|name| !is_known(name)).map(String::as_str).collect();
        for chunk in unlisted.chunks(CHUNK) {
            let answers = self.admin.describe_topics(chunk, DescribeTopicsOptions::default()).await;
            for (name, answer) in answers.map_err(|error| provider(WHAT, &error))? {
                answer.map_or_else(|error| may_be_told(&name, &error), |_| Ok(()))?;
            }
        }
        Ok(())
    }

    pub(crate) async fn ensure_topic(&self, topic: &NewTopic) -> ProviderResult<()> {
        let what = format!("create topic {}", topic.name);
        match self.describe(std::slice::from_ref(&topic.name)).await {
            Ok(_) => return self.ensure_partitions(topic).await,
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let brokers = self.read_identity().await?.brokers.len();
        let replication = topic.replication.min(i16::try_from(brokers).unwrap_or(i16::MAX)).max(1);
        let wanted = to_make(topic, replication).map_err(|error| provider(&what, &error))?;
        let answers = self
            .admin
            .create_topics([wanted], CreateTopicsOptions::default())
            .await
            .map_err(|error| provider(&what, &error))?;
        match answers.into_iter().next() {
            Some((_, Ok(()))) => self.wait_for_leaders(topic).await,
            Some((_, Err(error))) if code(&error) == Some(ErrorCode::TopicAlreadyExists) => {
                self.ensure_partitions(topic).await
            }
            Some((_, Err(error))) => Err(provider(what, &error)),
            None => Err(ProviderError::new(ErrorKind::Invalid, what, "the cluster did not answer for it")),
        }
    }

    async fn ensure_partitions(&self, topic: &NewTopic) -> ProviderResult<()> {
        let there = self.describe(std::slice::from_ref(&topic.name)).await?;
        if there.get(&topic.name).is_some_and(|found| count(found) >= topic.partitions) {
            return Ok(());
        }
        // A cluster that was left before stays fenced until it is led to.
        let topics = std::slice::from_ref(&topic.name);
        self.fence.let_through(AclOperation::Alter, topics, || self.add_partitions(topic)).await?;
        self.wait_for_leaders(topic).await
    }

    async fn add_partitions(&self, topic: &NewTopic) -> ProviderResult<()> {
        let what = format!("raise topic {} to {} partitions", topic.name, topic.partitions);
        let totals = [(topic.name.as_str(), topic.partitions)];
        let answers = self
            .admin
            .create_partitions(totals, CreatePartitionsOptions::default())
            .await
            .map_err(|error| provider(&what, &error))?;
        answers.into_values().try_for_each(|answer| answer.map_err(|error| provider(&what, &error)))
    }

    /// A topic is there once every partition has a leader: until then clients that ask for it are sent away.
    async fn wait_for_leaders(&self, topic: &NewTopic) -> ProviderResult<()> {
        let deadline = Instant::now() + self.config.timeouts.call;
        loop {
            let seen = match self.describe(std::slice::from_ref(&topic.name)).await {
                Ok(mut described) => described.remove(&topic.name),
                Err(error) if error.kind == ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            let led = seen.is_some_and(|topic_seen| {
                count(&topic_seen) >= topic.partitions
                    && topic_seen.partitions.iter().all(|partition| partition.leader.is_some())
            });
            if led {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let what = format!("create topic {}", topic.name);
                let reason = "it was made, but not every partition has a leader yet";
                return Err(ProviderError::new(ErrorKind::Unavailable, what, reason));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    pub(crate) async fn remove_topics(&self, topics: &[TopicName]) -> ProviderResult<()> {
        if let Some(internal) = topics.iter().find(|topic| is_internal_topic(topic.as_str())) {
            let what = format!("delete topic {internal}");
            return Err(ProviderError::new(ErrorKind::Refused, what, "it is Kafka's own"));
        }
        let names: BTreeSet<&str> = topics.iter().map(TopicName::as_str).collect();
        if names.is_empty() {
            return Ok(());
        }
        let answers = self
            .admin
            .delete_topics(names, DeleteTopicsOptions::default())
            .await
            .map_err(|error| provider("delete topics", &error))?;
        for (name, answer) in answers {
            match answer {
                Ok(()) => {}
                Err(error) if code(&error) == Some(ErrorCode::UnknownTopicOrPartition) => {}
                Err(error) => return Err(provider(format!("delete topic {name}"), &error)),
            }
        }
        Ok(())
    }
}

/// A topic that is asked for, in krafka's words.
pub(crate) fn to_make(topic: &NewTopic, replication: i16) -> Result<krafka::admin::NewTopic, KrafkaError> {
    let bare = krafka::admin::NewTopic::new(topic.name.as_str(), topic.partitions, replication)?;
    Ok(topic.configs.iter().fold(bare, |made, (name, value)| made.with_config(name, value)))
}

/// How many partitions a described topic has.
pub(crate) fn count(topic: &krafka::admin::TopicDescription) -> i32 {
    i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)
}

/// What it means that a topic was not described. That there is none of that name is told to whoever may know.
fn may_be_told(name: &str, error: &KrafkaError) -> ProviderResult<()> {
    match code(error) {
        Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::InvalidTopic) => Ok(()),
        Some(ErrorCode::TopicAuthorizationFailed) => {
            let reason = format!(
                "kutover's principal may not describe a topic of the name `{name}`, and Kafka leaves out without a word what it \
                 may not: grant it Describe on topics `*` (docs/security.md), or delete the ACLs of that name where there is no \
                 such topic"
            );
            Err(ProviderError::new(ErrorKind::NotAuthorised, "list topics", reason))
        }
        _ => Err(provider(format!("list topics, of which `{name}`"), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_is_written_as_kafka_writes_it() {
        assert_eq!(topic_id([0; 16]), None);
        // Kafka's Uuid.toString is URL-safe base64 without padding, 22 characters.
        assert_eq!(topic_id([0xff; 16]).unwrap().as_str(), "_____________________w");
    }
}
