//! Configs that are set on topics themselves, told, set, taken away; and what holds without them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use krafka::admin::{
    AdminClient, ConfigEntry, ConfigOp, ConfigResource, DescribeConfigsOptions,
    IncrementalAlterConfigsOptions,
};
use krafka::error::ErrorCode;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::parity::COMPARED_IN_FORCE;
use kutover_core::ports::{ConfigMap, Item, TopicConfigs};
use kutover_core::survey::default_of_each;
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

/// What holds on a cluster for topics that set nothing themselves, of the configs that parity compares, by what each of its
/// brokers says of itself. One that does not leaves it unknown. Where none does, any topic that does not set a config tells what
/// the broker has that was asked.
pub(crate) fn defaults<'a>(
    brokers: &BTreeMap<i32, Item<ConfigMap>>,
    told: impl Iterator<Item = &'a Vec<ConfigEntry>>,
) -> BTreeMap<String, BTreeSet<String>> {
    if brokers.values().any(Result::is_ok) {
        let of_each = |config: &&str| Some(((*config).to_owned(), default_of_each(brokers, config)?));
        return COMPARED_IN_FORCE.iter().filter_map(of_each).collect();
    }
    let entries = told.flatten().filter(|entry| entry.config_source != SOURCE_TOPIC);
    let compared = entries.filter(|entry| COMPARED_IN_FORCE.contains(&entry.name.as_str()));
    compared.filter_map(|entry| Some((entry.name.clone(), [entry.value.clone()?].into()))).collect()
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
        match alter(&self.admin, WHAT, &changes).await {
            Err(denied) if denied.kind == ErrorKind::NotAuthorised => {
                self.fence.let_through(&topics, denied, alter(&self.admin, WHAT, &changes)).await?;
            }
            altered => altered?,
        }
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
