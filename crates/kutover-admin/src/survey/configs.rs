//! Configs in force, and those that a cluster would refuse; sizes on disk.

use std::collections::{BTreeMap, BTreeSet};

use krafka::admin::{
    ConfigEntry, ConfigResource, CreateTopicsOptions, DescribeConfigsOptions, DescribeLogDirsOptions,
};
use krafka::error::KrafkaError;
use kutover_core::error::ProviderResult;
use kutover_core::parity::unknown_config;
use kutover_core::ports::{ConfigMap, ConfigSource, ConfigValue, Item, NewTopic};
use kutover_core::words::{TopicName, TopicPartition};

use crate::admin::KafkaAdmin;
use crate::errors::{is_unsupported, provider, reason};
use crate::groups::{our_place, place_of};
use crate::topics::count;

/// Topics asked about in one request.
const CHUNK: usize = 500;
/// What the topic would be called that is never made.
const NEVER_MADE: &str = "kutover.plan";

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
            let answers = self.configs_of(resources, "describe topic configs").await?;
            let mut answers: BTreeMap<String, _> =
                answers.into_iter().map(|(resource, answer)| (resource.name, answer)).collect();
            for topic in chunk {
                found.insert(topic.clone(), item(answers.remove(topic.as_str()))?);
            }
        }
        Ok(found)
    }

    pub(super) async fn read_broker_configs(&self) -> ProviderResult<BTreeMap<i32, Item<ConfigMap>>> {
        let brokers: BTreeSet<i32> = self.brokers().await?.into_iter().map(|(id, _)| id).collect();
        let answers = self
            .configs_of(brokers.iter().map(|id| ConfigResource::broker(*id)), "describe broker configs")
            .await?;
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
        what: &str,
    ) -> ProviderResult<Vec<(ConfigResource, Result<Vec<ConfigEntry>, KrafkaError>)>> {
        let answers = self.admin.describe_configs(resources, DescribeConfigsOptions::default()).await;
        Ok(answers.map_err(|error| provider(what, &error))?.into_iter().collect())
    }

    /// Lets the cluster check a topic with these configs, without the one that it does not know, and so on.
    pub(super) async fn try_configs(
        &self,
        configs: &BTreeMap<String, String>,
    ) -> ProviderResult<BTreeMap<String, String>> {
        let mut wanted =
            NewTopic { name: NEVER_MADE.into(), partitions: 1, replication: 1, configs: configs.clone() };
        let mut refused = BTreeMap::new();
        loop {
            // Each round leaves one out, so there are no more rounds than configs.
            let Err(error) = self.check_topic(&wanted).await else { return Ok(refused) };
            let Some((name, _)) = unknown_config(&error, &wanted) else { return Err(error) };
            wanted.configs.remove(&name);
            refused.insert(name, error.reason);
        }
    }

    async fn check_topic(&self, wanted: &NewTopic) -> ProviderResult<()> {
        let what = "check which configs are known";
        let mut topic =
            krafka::admin::NewTopic::new(wanted.name.as_str(), wanted.partitions, wanted.replication)
                .map_err(|error| provider(what, &error))?;
        for (name, value) in &wanted.configs {
            topic = topic.with_config(name, value);
        }
        let answers =
            self.admin.create_topics([topic], CreateTopicsOptions::default().validate_only(true)).await;
        for answer in answers.map_err(|error| provider(what, &error))?.into_values() {
            answer.map_err(|error| provider(what, &error))?;
        }
        Ok(())
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

/// One resource's answer; a call that the cluster does not have is an error of the whole.
fn item(answer: Option<Result<Vec<ConfigEntry>, KrafkaError>>) -> ProviderResult<Item<ConfigMap>> {
    match answer {
        Some(Ok(entries)) => Ok(Ok(config_map(entries))),
        Some(Err(error)) if is_unsupported(&error) => Err(provider("describe configs", &error)),
        Some(Err(error)) => Ok(Err(reason(&error))),
        None => Ok(Err("no answer".to_owned())),
    }
}
