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

/// The configs of a cluster's brokers.
type Brokers = Item<BTreeMap<i32, Item<ConfigMap>>>;

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

/// What the brokers of a cluster that tell have for topics on which nothing is set: one value, unless they differ.
pub fn defaults_told(brokers: &BTreeMap<i32, Item<ConfigMap>>, config: &str) -> BTreeSet<String> {
    let answered = brokers.values().filter_map(|broker| broker.as_ref().ok());
    answered.filter_map(|broker| topic_default(broker, config)).collect()
}

fn defaults(brokers: &Brokers, config: &str) -> BTreeSet<String> {
    brokers.as_ref().map(|brokers| defaults_told(brokers, config)).unwrap_or_default()
}

/// What holds on a cluster for topics on which nothing is set. `None` if its brokers do not all tell the same.
fn default_of(brokers: &Brokers, config: &str) -> Option<String> {
    let of_each = |broker: &Item<ConfigMap>| topic_default(broker.as_ref().ok()?, config);
    let mut told: BTreeSet<String> = brokers.as_ref().ok()?.values().map(of_each).collect::<Option<_>>()?;
    told.pop_first().filter(|_| told.is_empty())
}

/// A topic's config in force on a cluster, or what it would be if the topic were made there. What is not set on it is what
/// each broker has, whichever of them has told it.
pub(super) fn in_force(cluster: &ClusterSeen, topic: &TopicName, config: &str) -> Option<String> {
    let there = cluster.topic_configs.as_ref().ok().and_then(|configs| configs.get(topic));
    match there {
        Some(Ok(configs)) => {
            let told = configs.get(config)?;
            let is_everywhere = || {
                defaults(&cluster.brokers, config).is_empty()
                    || default_of(&cluster.brokers, config).is_some()
            };
            told.value.clone().filter(|_| told.source == ConfigSource::Own || is_everywhere())
        }
        Some(Err(_)) => None,
        // It is there and did not say: what is set on it is not known.
        None if cluster.topics.iter().any(|known| known.name == *topic) => None,
        None => default_of(&cluster.brokers, config),
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
    let mut by_brokers: BTreeMap<&str, [BTreeSet<String>; 2]> = BTreeMap::new();
    for topic in moving.keys() {
        let Some(Ok(ours)) = configs.get(topic) else { continue };
        let known_there = |config: &str| {
            let there = new.topic_configs.as_ref().ok().and_then(|all| all.get(topic)?.as_ref().ok());
            there.map(|configs| configs.get(config).cloned())
        };
        for (config, value) in ours {
            let is_refused = refused.as_ref().is_ok_and(|refused| refused.contains_key(config));
            let there = match (value.source, known_there(config)) {
                (ConfigSource::Own, _) if is_refused => {
                    let key = (config.clone(), ConfigWhy::NotKnown, value.value.clone(), None);
                    found.entry(key).or_default().insert(topic.clone());
                    continue;
                }
                // Set on one of them: parity's, or made like it.
                (ConfigSource::Own, _)
                | (_, Some(Some(crate::ports::ConfigValue { source: ConfigSource::Own, .. }))) => continue,
                (_, Some(None)) => continue,
                (_, Some(Some(there))) => Some(there.value),
                (_, None) => None,
            };
            let [ours, theirs] = by_brokers
                .entry(config)
                .or_insert_with(|| [old, new].map(|cluster| defaults(&cluster.brokers, config)));
            let ours = each_or(ours, Some(value.value.clone()));
            let theirs = each_or(theirs, there);
            let Some((ours, theirs)) = worst(config, &ours, &theirs) else { continue };
            let key = (config.clone(), ConfigWhy::Default, ours, theirs);
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

/// What holds for a topic on which nothing is set: what it has told, unless brokers differ.
fn each_or(defaults: &BTreeSet<String>, told: Option<Option<String>>) -> Vec<Option<String>> {
    match told {
        Some(told) if defaults.len() < 2 => vec![told],
        _ => defaults.iter().cloned().map(Some).collect(),
    }
}

/// Of the values of two clusters' brokers two that are not the same: the new one's weaker, if there are such.
fn worst(
    config: &str,
    ours: &[Option<String>],
    theirs: &[Option<String>],
) -> Option<(Option<String>, Option<String>)> {
    let pairs = || ours.iter().flat_map(|ours| theirs.iter().map(move |theirs| (ours, theirs)));
    let is_worse = |(ours, theirs): &(&Option<String>, &Option<String>)| match (ours, theirs) {
        (Some(ours), Some(theirs)) => is_weaker(config, theirs, ours),
        _ => false,
    };
    let differ =
        |(ours, theirs): &(&Option<String>, &Option<String>)| !same(ours.as_deref(), theirs.as_deref());
    let found = pairs().find(is_worse).or_else(|| pairs().find(differ))?;
    Some((found.0.clone(), found.1.clone()))
}

/// Lists are written with and without a space, and an empty one like none.
fn same(one: Option<&str>, other: Option<&str>) -> bool {
    let plain = |text: Option<&str>| text.unwrap_or_default().replace(' ', "");
    plain(one) == plain(other)
}

fn answered(brokers: &Brokers) -> impl Iterator<Item = &ConfigMap> {
    brokers.iter().flat_map(BTreeMap::values).filter_map(|broker| broker.as_ref().ok())
}

/// What the brokers of a cluster say of one setting.
pub(super) fn values(brokers: &Brokers, config: &str) -> BTreeSet<String> {
    answered(brokers).filter_map(|configs| configs.get(config)?.value.clone()).collect()
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
    use super::super::Code;
    use super::super::world::{World, set};
    use super::*;
    use crate::cutover::Topics;
    use crate::decisions::history::{Fate, Needed};
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

    /// L6, L11, L18: what holds where nothing is set on a topic is each broker's own. One that keeps less is refused over, whichever
    /// is asked first, and what brokers do not tell alike is not known.
    #[test]
    fn defaults_are_those_of_every_broker() {
        let other = |cluster: &mut ClusterSeen, more: Option<&str>| {
            let brokers = cluster.brokers.as_mut().unwrap();
            let mut other = brokers[&0].clone();
            if let Some(hours) = more {
                let all = other.as_mut().unwrap();
                all.insert("log.retention.hours".into(), set(hours, ConfigSource::Broker));
            }
            brokers.insert(1, if more.is_some() { other } else { Err("timed out".into()) });
        };
        let weaker = |world: &World| {
            let assessment = world.assess();
            let weaker = assessment.configs.iter().filter(|one| one.config == "retention.ms" && one.weaker);
            (
                weaker.count(),
                assessment
                    .refusals
                    .iter()
                    .any(|one| (one.code, &*one.subject) == (Code::Parity, "retention.ms")),
            )
        };
        let mut world = World::sound();
        other(world.green(), Some("1"));
        assert_eq!(weaker(&world), (1, true));
        // There as well where the topic is there already, as some broker has told it.
        world.green().topics = world.blue().topics.clone();
        world.green().topic_configs = world.blue().topic_configs.clone();
        assert_eq!(weaker(&world), (1, true));
        let mut world = World::sound();
        other(world.blue(), Some("1000"));
        assert_eq!(weaker(&world), (1, true));
        let history = |world: &World| world.assess().history[0].fate.fate.clone();
        let needed = Fate::Dies { needed: Needed::Unknown, records: None };
        for more in [Some("1000"), None] {
            let mut world = World::sound();
            world.plan.waived_history = Topics::none();
            assert_ne!(history(&world), needed);
            other(world.blue(), more);
            assert_eq!(history(&world), needed, "{more:?}");
        }
    }
}
