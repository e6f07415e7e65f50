//! Configs that are set on topics themselves, told, set, taken away; and what holds without them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use krafka::admin::{
    AclOperation, AdminClient, ConfigEntry, ConfigOp, ConfigResource, DescribeConfigsOptions,
    IncrementalAlterConfigsOptions,
};
use krafka::error::ErrorCode;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::parity::COMPARED_IN_FORCE;
use kutover_core::ports::{ConfigMap, Item, TopicConfigs};
use kutover_core::survey::defaults_told;
use kutover_core::words::TopicName;
use tokio::time::Instant;

use crate::admin::KafkaAdmin;
use crate::errors::{code, is_unsupported, provider};

/// Where DescribeConfigs says that a value was set on the topic itself (KIP-226).
const SOURCE_TOPIC: i8 = 1;
/// Topics in one request.
const CHUNK: usize = 400;
/// How long a broker may take to know of a change, and how often it is asked.
const SETTLE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The configs of topics, as far as the options ask for them. `None` where the cluster has no such call.
pub(crate) async fn configs(
    admin: &AdminClient,
    topics: &[TopicName],
    options: DescribeConfigsOptions,
) -> ProviderResult<Option<BTreeMap<TopicName, Vec<ConfigEntry>>>> {
    let mut configs = BTreeMap::new();
    for chunk in topics.chunks(CHUNK) {
        let resources = chunk.iter().map(|topic| ConfigResource::topic(topic.as_str()));
        let answers = admin
            .describe_configs(resources, options.clone())
            .await
            .map_err(|error| provider("describe topic configs", &error))?;
        for (resource, answer) in answers {
            match answer {
                Ok(entries) => {
                    configs.insert(TopicName::new(resource.name), entries);
                }
                Err(error) if is_unsupported(&error) => return Ok(None),
                Err(error) => {
                    return Err(provider(format!("describe the configs of topic {}", resource.name), &error));
                }
            }
        }
    }
    Ok(Some(configs))
}

/// The configs set on topics themselves, as [`configs`].
pub(crate) async fn own_configs(
    admin: &AdminClient,
    topics: &[TopicName],
    options: DescribeConfigsOptions,
) -> ProviderResult<Option<BTreeMap<TopicName, BTreeMap<String, String>>>> {
    let told = configs(admin, topics, options).await?;
    Ok(told.map(|told| told.iter().map(|(topic, entries)| (topic.clone(), own(entries))).collect()))
}

/// What a topic sets itself.
pub(crate) fn own(entries: &[ConfigEntry]) -> BTreeMap<String, String> {
    let set = entries.iter().filter(|entry| entry.config_source == SOURCE_TOPIC);
    set.filter_map(|entry| Some((entry.name.clone(), entry.value.clone()?))).collect()
}

/// What holds for a topic in what it does not set itself, as the broker has it that told.
pub(crate) fn inherited(entries: &[ConfigEntry]) -> impl Iterator<Item = (&str, &str)> {
    let not_set = entries.iter().filter(|entry| entry.config_source != SOURCE_TOPIC);
    not_set.filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)))
}

/// What holds on a cluster for topics that set nothing themselves, of the configs that parity compares: what its brokers say of
/// themselves, or, where none does, what topics that do not set it have `inherited`.
pub(crate) fn defaults<'a>(
    brokers: &BTreeMap<i32, Item<ConfigMap>>,
    inherited: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<String, BTreeSet<String>> {
    let compared = inherited.filter(|(name, _)| COMPARED_IN_FORCE.contains(name));
    let mut defaults: BTreeMap<String, BTreeSet<String>> =
        compared.map(|(name, value)| (name.to_owned(), [value.to_owned()].into())).collect();
    let of_brokers = COMPARED_IN_FORCE.iter().map(|name| ((*name).to_owned(), defaults_told(brokers, name)));
    defaults.extend(of_brokers.filter(|(_, told)| !told.is_empty()));
    defaults
}

/// Changes topics' configs (KIP-339): whatever is not named stays.
pub(crate) async fn alter(
    admin: &AdminClient,
    what: &str,
    changes: &[(TopicName, Vec<ConfigOp>)],
) -> ProviderResult<()> {
    for chunk in changes.chunks(CHUNK) {
        let resources = chunk.iter().map(|(topic, ops)| (ConfigResource::topic(topic.as_str()), ops.clone()));
        let answers = admin
            .incremental_alter_configs(resources, IncrementalAlterConfigsOptions::default())
            .await
            .map_err(|error| provider(what, &error))?;
        for (resource, answer) in answers {
            answer.map_err(|error| match code(&error) {
                Some(ErrorCode::TopicAuthorizationFailed | ErrorCode::ClusterAuthorizationFailed) => {
                    let reason = "the controller's principal needs AlterConfigs on the topic";
                    ProviderError::new(ErrorKind::NotAuthorised, what, reason)
                }
                _ => provider(format!("{what} on topic {}", resource.name), &error),
            })?;
        }
    }
    Ok(())
}

fn op((name, value): (&String, &Option<String>)) -> ConfigOp {
    match value {
        Some(value) => ConfigOp::Set { name: name.clone(), value: value.clone() },
        None => ConfigOp::Delete { name: name.clone() },
    }
}

impl KafkaAdmin {
    /// Changes configs, and waits until the broker that is asked tells so: who looks next must not act on what was.
    pub(crate) async fn change_configs(&self, configs: &TopicConfigs) -> ProviderResult<()> {
        const WHAT: &str = "alter configs";
        let changes: Vec<(TopicName, Vec<ConfigOp>)> =
            configs.iter().map(|(topic, set)| (topic.clone(), set.iter().map(op).collect())).collect();
        let topics: Vec<TopicName> = configs.keys().cloned().collect();
        let altering = || alter(&self.admin, WHAT, &changes);
        self.fence.let_through(AclOperation::AlterConfigs, &topics, altering).await?;
        let names: BTreeSet<&String> = configs.values().flat_map(BTreeMap::keys).collect();
        let names: Vec<String> = names.into_iter().cloned().collect();
        let deadline = Instant::now() + SETTLE;
        loop {
            let asked = DescribeConfigsOptions::default().config_names(names.clone());
            let Some(own) = own_configs(&self.admin, &topics, asked).await? else { return Ok(()) };
            let told = |topic: &TopicName, name: &String| own.get(topic)?.get(name);
            let is_so = |(topic, set): (&TopicName, &BTreeMap<String, Option<String>>)| {
                set.iter().all(|(name, value)| told(topic, name) == value.as_ref())
            };
            if configs.iter().all(is_so) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let reason = "it was accepted, but the brokers do not know of it yet";
                return Err(
                    ProviderError::new(ErrorKind::Unavailable, WHAT, reason).with_outcome(Outcome::Unknown)
                );
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use kutover_core::ports::{ConfigSource, ConfigValue};

    use super::*;

    /// L6: one broker that is silent, or keeps a config to itself, takes nothing from what the others and topics tell.
    #[test]
    fn a_silent_broker_leaves_what_the_others_tell() {
        let value = ConfigValue { value: Some("3".into()), source: ConfigSource::Broker, is_secret: false };
        let answers: ConfigMap = [("log.retention.ms".to_owned(), value)].into();
        let brokers = [(0, Ok(answers)), (1, Err("timed out".to_owned()))].into();
        let inherited = [("retention.ms", "7"), ("max.message.bytes", "1"), ("flush.ms", "9")];
        let expected = [("max.message.bytes", "1"), ("retention.ms", "3")]
            .map(|(name, value)| (name.to_owned(), [value.to_owned()].into()));
        assert_eq!(defaults(&brokers, inherited.into_iter()), expected.into());
    }
}
