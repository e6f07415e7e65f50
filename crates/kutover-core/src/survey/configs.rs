//! Configs in force that differ: set, unknown to the new cluster, or with another default there; and brokers' settings.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::ClusterSeen;
use crate::parity::is_weaker;
use crate::ports::{ConfigMap, ConfigSource, Item};
use crate::words::{Colour, TopicName};

/// Why a topic's config would not be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigWhy {
    /// It is set on the old cluster, and the new one refuses it: it is left out there.
    NotKnown,
    /// It is set nowhere on the topic, and the two clusters have other defaults.
    Default,
}

/// A config that some topics would not have as they have it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigDifference {
    /// Its name.
    pub config: String,
    /// Why.
    pub why: ConfigWhy,
    /// The value on the old cluster.
    pub old: Option<String>,
    /// The value that the new one would have; `None` if it knows no such config.
    pub new: Option<String>,
    /// Whether the new cluster keeps or takes less so, or keeps other records.
    pub weaker: bool,
    /// The topics that it is about.
    pub topics: BTreeSet<TopicName>,
}

/// Name, why, and both values: what is the same for many topics is told once.
type Key = (String, ConfigWhy, Option<String>, Option<String>);

impl ConfigDifference {
    /// Whether the new brokers' default keeps less or other records, or takes less in a way that is not of the version.
    pub(super) fn is_weaker_default(&self) -> bool {
        self.why == ConfigWhy::Default && self.weaker && !OF_THE_VERSION.contains(&self.config.as_str())
    }
}

/// A setting of brokers that matters to a cutover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BrokerSetting {
    /// Its name.
    pub config: &'static str,
    /// Its values on the old cluster: one, unless the brokers differ. Empty if it did not say.
    pub old: BTreeSet<String>,
    /// Its values on the new one.
    pub new: BTreeSet<String>,
}

/// Settings that a plan shows whatever they are.
pub(super) const SHOWN: [&str; 11] = [
    "auto.create.topics.enable",
    "default.replication.factor",
    "group.max.session.timeout.ms",
    "log.retention.bytes",
    "message.max.bytes",
    "min.insync.replicas",
    "offsets.retention.minutes",
    "producer.id.expiration.ms",
    "transaction.max.timeout.ms",
    "transactional.id.expiration.ms",
    "unclean.leader.election.enable",
];

/// Under which names brokers hold the topics' defaults, where that is not the topic config's own name with or without
/// `log.` before it (`ServerTopicConfigSynonyms` in Kafka's sources).
const SYNONYMS: [(&str, &str); 9] = [
    ("delete.retention.ms", "log.cleaner.delete.retention.ms"),
    ("file.delete.delay.ms", "log.segment.delete.delay.ms"),
    ("flush.messages", "log.flush.interval.messages"),
    ("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"),
    ("max.message.bytes", "message.max.bytes"),
    ("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio"),
    ("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms"),
    ("segment.index.bytes", "log.index.size.max.bytes"),
    ("segment.ms", "log.roll.ms"),
];

/// Times that brokers know in several units: the first that is set counts.
const IN_UNITS: [(&str, [(&str, i64); 3]); 3] = [
    (
        "retention.ms",
        [("log.retention.ms", 1), ("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)],
    ),
    ("segment.ms", [("log.roll.ms", 1), ("log.roll.hours", 3_600_000), ("", 0)]),
    ("segment.jitter.ms", [("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", 3_600_000), ("", 0)]),
];

/// Configs whose default is another one from 3.x to 4.x: every upgrade would be refused over them.
const OF_THE_VERSION: [&str; 2] = ["message.timestamp.after.max.ms", "message.timestamp.before.max.ms"];

/// What a topic would have on a cluster if nothing were set on it. `None` if that cannot be told.
pub(super) fn topic_default(brokers: &ConfigMap, config: &str) -> Option<String> {
    let value = |name: &str| brokers.get(name).and_then(|found| found.value.clone());
    if let Some((_, units)) = IN_UNITS.iter().find(|(name, _)| *name == config) {
        return units.iter().find_map(|(name, factor)| {
            let number: i64 = value(name)?.parse().ok()?;
            Some(if number < 0 { number } else { number.saturating_mul(*factor) }.to_string())
        });
    }
    match SYNONYMS.iter().find(|(name, _)| *name == config) {
        Some((_, synonym)) => value(synonym),
        None => value(&format!("log.{config}")).or_else(|| value(config)),
    }
}

/// The configs of the first broker that answered. Topics' defaults are meant to be the same on all.
pub(super) fn one_broker(brokers: &Item<BTreeMap<i32, Item<ConfigMap>>>) -> Option<&ConfigMap> {
    brokers.as_ref().ok()?.values().find_map(|broker| broker.as_ref().ok())
}

/// A topic's config in force on a cluster, or what it would be if the topic were made there.
pub(super) fn in_force(cluster: &ClusterSeen, topic: &TopicName, config: &str) -> Option<String> {
    let there = cluster.topic_configs.as_ref().ok().and_then(|configs| configs.get(topic));
    match there {
        Some(Ok(configs)) => configs.get(config)?.value.clone(),
        Some(Err(_)) => None,
        // It is there and did not say: what is set on it is not known.
        None if cluster.topics.iter().any(|known| known.name == *topic) => None,
        None => topic_default(one_broker(&cluster.brokers)?, config),
    }
}

/// A topic's config as it will be in force on the new cluster: where the topic is yet to be made, with what is set on it on
/// the old one, unless the new one refuses that; otherwise by the brokers' default.
pub(super) fn will_be(
    old: &ClusterSeen,
    new: &ClusterSeen,
    refused: &Item<BTreeMap<String, String>>,
    topic: &TopicName,
    config: &str,
) -> Option<String> {
    if new.topics.iter().any(|known| known.name == *topic) {
        return in_force(new, topic, config);
    }
    // Without an answer nobody knows whether anything is set on it.
    let ours = old.topic_configs.as_ref().ok()?.get(topic)?.as_ref().ok()?;
    match ours.get(config).filter(|set| set.source == ConfigSource::Own) {
        Some(set) if !refused.as_ref().ok()?.contains_key(config) => set.value.clone(),
        _ => in_force(new, topic, config),
    }
}

/// What topics that move would not have as they have it, apart from what is set on them on either cluster: where they are on
/// both, parity compares that.
pub(super) fn differences(
    old: &ClusterSeen,
    new: &ClusterSeen,
    moving: &BTreeMap<TopicName, i32>,
    refused: &Item<BTreeMap<String, String>>,
) -> Vec<ConfigDifference> {
    let mut found: BTreeMap<Key, BTreeSet<TopicName>> = BTreeMap::new();
    let Ok(configs) = &old.topic_configs else { return Vec::new() };
    for topic in moving.keys() {
        let Some(Ok(ours)) = configs.get(topic) else { continue };
        let known_there = |config: &str| {
            let there = new.topic_configs.as_ref().ok().and_then(|all| all.get(topic)?.as_ref().ok());
            there.map(|configs| configs.get(config).cloned())
        };
        for (config, value) in ours {
            let is_refused = refused.as_ref().is_ok_and(|refused| refused.contains_key(config));
            let (why, there) = match (value.source, known_there(config)) {
                (ConfigSource::Own, _) if is_refused => (ConfigWhy::NotKnown, None),
                // Set on one of them: parity's, or made like it.
                (ConfigSource::Own, _)
                | (_, Some(Some(crate::ports::ConfigValue { source: ConfigSource::Own, .. }))) => continue,
                (_, Some(None)) => continue,
                (_, Some(Some(there))) => (ConfigWhy::Default, there.value),
                (_, None) => match one_broker(&new.brokers).and_then(|all| topic_default(all, config)) {
                    Some(there) => (ConfigWhy::Default, Some(there)),
                    None => continue,
                },
            };
            if why == ConfigWhy::Default && same(value.value.as_deref(), there.as_deref()) {
                continue;
            }
            let key = (config.clone(), why, value.value.clone(), there);
            found.entry(key).or_default().insert(topic.clone());
        }
    }
    let difference = |((config, why, old, new), topics): (Key, BTreeSet<TopicName>)| {
        let weaker = match (&old, &new) {
            (Some(old), Some(new)) => is_weaker(&config, new, old),
            _ => false,
        };
        ConfigDifference { config, why, old, new, weaker, topics }
    };
    found.into_iter().map(difference).collect()
}

/// Lists are written with and without a space, and an empty one like none.
fn same(one: Option<&str>, other: Option<&str>) -> bool {
    let plain = |text: Option<&str>| text.unwrap_or_default().replace(' ', "");
    plain(one) == plain(other)
}

/// What the brokers of a cluster say of one setting.
pub(super) fn values(brokers: &Item<BTreeMap<i32, Item<ConfigMap>>>, config: &str) -> BTreeSet<String> {
    let answered = brokers.iter().flat_map(BTreeMap::values).filter_map(|broker| broker.as_ref().ok());
    answered.filter_map(|configs| configs.get(config)?.value.clone()).collect()
}

/// The settings that matter, on both clusters.
pub(super) fn broker_settings(old: &ClusterSeen, new: Option<&ClusterSeen>) -> Vec<BrokerSetting> {
    let setting = |config| BrokerSetting {
        config,
        old: values(&old.brokers, config),
        new: new.map(|new| values(&new.brokers, config)).unwrap_or_default(),
    };
    SHOWN.into_iter().map(setting).collect()
}

/// Brokers that did not answer, as text.
pub(super) fn unanswered(colour: Colour, cluster: &ClusterSeen) -> Vec<(String, String)> {
    let Ok(brokers) = &cluster.brokers else { return Vec::new() };
    let silent = brokers.iter().filter_map(|(id, broker)| Some((id, broker.as_ref().err()?)));
    silent.map(|(id, reason)| (format!("configs of broker {id} on {colour}"), reason.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::ConfigValue;

    fn brokers(all: &[(&str, &str)]) -> ConfigMap {
        let value = |value: &str| ConfigValue {
            value: Some(value.to_owned()),
            source: ConfigSource::Broker,
            is_secret: false,
        };
        all.iter().map(|(config, text)| ((*config).to_owned(), value(text))).collect()
    }

    /// Brokers hold topics' defaults under other names and in other units.
    #[test]
    fn a_topics_default_is_found_among_the_brokers_configs() {
        let all = brokers(&[
            ("log.retention.hours", "168"),
            ("message.max.bytes", "1048588"),
            ("log.cleanup.policy", "delete"),
            ("min.insync.replicas", "2"),
        ]);
        for (config, expected) in [
            ("retention.ms", Some("604800000")),
            ("max.message.bytes", Some("1048588")),
            ("cleanup.policy", Some("delete")),
            ("min.insync.replicas", Some("2")),
            ("segment.ms", None),
        ] {
            assert_eq!(topic_default(&all, config).as_deref(), expected, "{config}");
        }
        let finer = brokers(&[("log.retention.hours", "168"), ("log.retention.ms", "-1")]);
        assert_eq!(topic_default(&finer, "retention.ms").as_deref(), Some("-1"), "the finest unit counts");
    }
}
