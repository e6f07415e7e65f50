//! Configs in force, and those that a cluster would refuse; sizes on disk.

use std::collections::{BTreeMap, BTreeSet};

use krafka::admin::{
    ConfigEntry, ConfigResource, CreateTopicsOptions, DescribeConfigsOptions, DescribeLogDirsOptions,
};
use krafka::error::{ErrorCode, KrafkaError};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::parity::unknown_config;
use kutover_core::ports::{ConfigMap, ConfigSource, ConfigValue, Item, NewTopic, RefusedTopics};
use kutover_core::words::{TopicName, TopicPartition};

use crate::admin::KafkaAdmin;
use crate::errors::{code, is_unsupported, provider, reason};
use crate::groups::{our_place, place_of};
use crate::topics::{count, to_make};

/// Topics asked about in one request.
const CHUNK: usize = 500;
/// What topics would be called that are never made.
const NEVER_MADE: &str = "kutover.plan";
const CHECK: &str = "check what the cluster would refuse of topics";

/// Where a value comes from, by DescribeConfigs' own numbers (KIP-226): 1 a topic's own, 2 to 4 the brokers', 5 a default.
fn config_map(entries: Vec<ConfigEntry>) -> ConfigMap {
    let value = |entry: ConfigEntry| {
        let source = match entry.config_source {
            1 => ConfigSource::Own,
            2..=4 => ConfigSource::Broker,
            _ => ConfigSource::Default,
        };
        (entry.name, ConfigValue { value: entry.value, source, is_secret: entry.is_sensitive })
    };
    entries.into_iter().map(value).collect()
}

impl KafkaAdmin {
    pub(super) async fn read_topic_configs(
        &self,
        topics: &[TopicName],
    ) -> ProviderResult<BTreeMap<TopicName, Item<ConfigMap>>> {
        let mut found = BTreeMap::new();
        for chunk in topics.chunks(CHUNK) {
            let resources = chunk.iter().map(|topic| ConfigResource::topic(topic.as_str()));
            let answers = self
                .configs_of(resources, DescribeConfigsOptions::default(), "describe topic configs")
                .await?;
            let mut answers: BTreeMap<String, _> =
                answers.into_iter().map(|(resource, answer)| (resource.name, answer)).collect();
            for topic in chunk {
                found.insert(topic.clone(), item(answers.remove(topic.as_str()))?);
            }
        }
        Ok(found)
    }

    pub(crate) async fn read_broker_configs(&self) -> ProviderResult<BTreeMap<i32, Item<ConfigMap>>> {
        let brokers: BTreeSet<i32> = self.brokers().await?.into_iter().map(|(id, _)| id).collect();
        let resources = brokers.iter().map(|id| ConfigResource::broker(*id));
        // One that is gone is asked again until then, and the others are waited for no longer.
        let options = DescribeConfigsOptions::default().timeout(self.config.timeouts.request);
        let answers = self.configs_of(resources, options, "describe broker configs").await?;
        let mut answers: BTreeMap<String, _> =
            answers.into_iter().map(|(resource, answer)| (resource.name, answer)).collect();
        let mut found = BTreeMap::new();
        for id in brokers {
            found.insert(id, item(answers.remove(&id.to_string()))?);
        }
        Ok(found)
    }

    async fn configs_of(
        &self,
        resources: impl Iterator<Item = ConfigResource>,
        options: DescribeConfigsOptions,
        what: &str,
    ) -> ProviderResult<Vec<(ConfigResource, Result<Vec<ConfigEntry>, KrafkaError>)>> {
        let answers = self.admin.describe_configs(resources, options).await;
        Ok(answers.map_err(|error| provider(what, &error))?.into_iter().collect())
    }

    /// Lets the cluster check these topics: one that has a config that it does not know without that one, and so on.
    pub(super) async fn try_topics(&self, topics: &[NewTopic]) -> ProviderResult<RefusedTopics> {
        let mut refused = RefusedTopics::default();
        for chunk in topics.chunks(CHUNK) {
            let mut asking = chunk.to_vec();
            // Each round leaves a config out of each, or asks of one that is there by another name.
            while !asking.is_empty() {
                let answers = self.check_topics(&asking).await?;
                asking = asking
                    .into_iter()
                    .enumerate()
                    .filter_map(|(at, topic)| asked_again(&mut refused, at, topic, &answers).transpose())
                    .collect::<ProviderResult<_>>()?;
            }
        }
        Ok(refused)
    }

    async fn check_topics(
        &self,
        wanted: &[NewTopic],
    ) -> ProviderResult<BTreeMap<String, Result<(), KrafkaError>>> {
        let mut topics = Vec::with_capacity(wanted.len());
        for one in wanted {
            topics.push(to_make(one, one.replication).map_err(|error| provider(CHECK, &error))?);
        }
        let answers =
            self.admin.create_topics(topics, CreateTopicsOptions::default().validate_only(true)).await;
        let answers = answers.map_err(|error| provider(CHECK, &error))?;
        Ok(answers.into_iter().map(|(name, answer)| (name, answer.map(drop))).collect())
    }

    pub(super) async fn read_sizes(
        &self,
        topics: &[TopicName],
    ) -> ProviderResult<BTreeMap<TopicPartition, Item<u64>>> {
        let what = "describe log directories";
        let mut places = BTreeSet::new();
        for (name, topic) in self.describe_known(topics).await? {
            places.extend((0..count(&topic)).map(|partition| TopicPartition::new(name.clone(), partition)));
        }
        let brokers: BTreeSet<i32> = self.brokers().await?.into_iter().map(|(id, _)| id).collect();
        let wanted = DescribeLogDirsOptions::default().partitions(places.iter().map(place_of).collect());
        let answers = self.admin.describe_log_dirs(brokers, wanted).await;
        let mut sizes: BTreeMap<TopicPartition, u64> = BTreeMap::new();
        let mut silent = None;
        for (broker, directories) in answers.map_err(|error| provider(what, &error))? {
            let directories = match directories {
                Ok(directories) => directories,
                Err(error) if is_unsupported(&error) => return Err(provider(what, &error)),
                Err(error) => {
                    silent = Some(format!("broker {broker}: {}", reason(&error)));
                    continue;
                }
            };
            for directory in directories.into_values().flatten() {
                for (place, replica) in
                    directory.replicas.into_iter().filter(|(_, replica)| !replica.is_future)
                {
                    let size = sizes.entry(our_place(&place)).or_default();
                    *size = (*size).max(u64::try_from(replica.size).unwrap_or(0));
                }
            }
        }
        let answer = |place: TopicPartition| {
            let size = sizes.get(&place).copied();
            let size = size.ok_or_else(|| silent.clone().unwrap_or_else(|| "no broker has it".to_owned()));
            (place, size)
        };
        Ok(places.into_iter().map(answer).collect())
    }
}

/// Notes what a cluster says of making a topic, the `at`th that it was asked of; gives the topic as it is to be asked of again.
fn asked_again(
    refused: &mut RefusedTopics,
    at: usize,
    mut topic: NewTopic,
    answers: &BTreeMap<String, Result<(), KrafkaError>>,
) -> ProviderResult<Option<NewTopic>> {
    let what = format!("{CHECK}, of which {}", topic.name);
    let error = match answers.get(topic.name.as_str()) {
        Some(Ok(())) => return Ok(None),
        Some(Err(error)) => error,
        None => return Err(ProviderError::new(ErrorKind::Invalid, what, "the cluster left it out")),
    };
    let is_made_up = topic.name.as_str().starts_with(NEVER_MADE);
    if code(error) == Some(ErrorCode::TopicAlreadyExists) && !is_made_up {
        let (partitions, replication) = (1, 1);
        let name = TopicName::new(format!("{NEVER_MADE}.{at}"));
        return Ok(Some(NewTopic { name, partitions, replication, ..topic }));
    }
    let error = provider(what, error);
    if let Some((config, _)) = unknown_config(&error, &topic) {
        topic.configs.remove(&config);
        refused.configs.insert(config, error.reason);
        return Ok(Some(topic));
    }
    match error.kind {
        // One that is there is not made.
        ErrorKind::Refused if is_made_up => Ok(None),
        ErrorKind::Refused => {
            refused.topics.insert(topic.name, error.reason);
            Ok(None)
        }
        _ => Err(error),
    }
}

/// One resource's answer; a call that the cluster does not have is an error of the whole.
fn item(answer: Option<Result<Vec<ConfigEntry>, KrafkaError>>) -> ProviderResult<Item<ConfigMap>> {
    match answer {
        Some(Ok(entries)) => Ok(Ok(config_map(entries))),
        Some(Err(error)) if is_unsupported(&error) => Err(provider("describe configs", &error)),
        Some(Err(error)) => Ok(Err(reason(&error))),
        None => Ok(Err("no answer".to_owned())),
    }
}
