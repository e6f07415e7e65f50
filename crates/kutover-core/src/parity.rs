//! Topic parity: what the standby cluster must be given, and what differs all the same (L6). A pure function of two
//! descriptions, and the one loop over [`ClusterAdmin`] that makes a topic without what its cluster does not know.

mod access;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, ProviderError, ProviderResult};
use crate::ports::{ClusterAdmin, NewTopic, TopicDescription};
use crate::words::{TopicName, is_reserved_topic};

pub use access::{AccessDifference, AccessPlan, access_plan, whom};

/// Topic configs that Kafka 4 no longer knows (KIP-724, KIP-937; seen on 4.3.1: InvalidConfig).
pub const GONE_IN_KAFKA_4: [&str; 3] =
    ["message.downconversion.enable", "message.format.version", "message.timestamp.difference.max.ms"];

/// Configs of which a smaller value on the new cluster loses records or refuses what the old cluster takes.
const NOT_LESS: [&str; 4] = ["max.message.bytes", "min.insync.replicas", "retention.bytes", "retention.ms"];
/// The two of them that write "unlimited" as -1.
const UNLIMITED_BELOW_ZERO: [&str; 2] = ["retention.bytes", "retention.ms"];

/// Something on which the new cluster is not like the old cluster, after everything in [`ParityPlan::create`] is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "difference")]
pub enum Difference {
    /// The new cluster has more partitions, so keys map to other partitions there and order per key is lost. Refused.
    MorePartitions {
        /// The topic.
        topic: TopicName,
        /// Partitions on the old cluster.
        old: i32,
        /// Partitions on the new cluster.
        new: i32,
    },
    /// The new cluster has the topic already, and keeps or takes less than the old cluster. Refused.
    Weaker {
        /// The topic.
        topic: TopicName,
        /// The config's name.
        config: String,
        /// Its value on the old cluster.
        old: String,
        /// Its value on the new cluster.
        new: String,
    },
    /// The new cluster has the topic already, with another value, or without one (so that the new cluster's own default holds). Reported.
    Config {
        /// The topic.
        topic: TopicName,
        /// The config's name.
        config: String,
        /// Its value on the old cluster; `None` where only the new cluster sets it.
        old: Option<String>,
        /// Its value on the new cluster; `None` where only the old cluster sets it.
        new: Option<String>,
    },
    /// The old cluster sets a config that Kafka 4 does not know: a new cluster of that version goes without. Reported.
    GoneInKafka4 {
        /// The topic.
        topic: TopicName,
        /// The config's name.
        config: String,
        /// Its value on the old cluster.
        value: String,
    },
    /// The new cluster has the topic with fewer replicas of each partition, or too few brokers to make it with as many: it
    /// would lose records with a broker that the old one can lose. Refused, unless the plan waives it.
    FewerReplicas {
        /// The topic.
        topic: TopicName,
        /// Replicas on the old cluster.
        old: i16,
        /// Replicas on the new cluster.
        new: i16,
    },
    /// One of the clusters cannot tell the topic's configs (embedded), so that they were not compared. Reported.
    ConfigsUnknown {
        /// The topic.
        topic: TopicName,
    },
}

impl Difference {
    /// The topic that it is about.
    pub fn topic(&self) -> &TopicName {
        match self {
            Difference::MorePartitions { topic, .. }
            | Difference::Weaker { topic, .. }
            | Difference::Config { topic, .. }
            | Difference::GoneInKafka4 { topic, .. }
            | Difference::FewerReplicas { topic, .. }
            | Difference::ConfigsUnknown { topic } => topic,
        }
    }

    /// Whether the cutover must not go on with it.
    pub fn is_refusal(&self) -> bool {
        match self {
            Difference::MorePartitions { .. }
            | Difference::Weaker { .. }
            | Difference::FewerReplicas { .. } => true,
            Difference::Config { .. }
            | Difference::GoneInKafka4 { .. }
            | Difference::ConfigsUnknown { .. } => false,
        }
    }

    /// The field of the plan that waives it, by topic; `None` where none does.
    pub fn waiver(&self) -> Option<&'static str> {
        matches!(self, Difference::FewerReplicas { .. }).then_some("plan.waive_replicas")
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_default = |value: &Option<String>| match value {
            Some(value) => format!("`{value}`"),
            None => "its default".to_owned(),
        };
        match self {
            Difference::MorePartitions { topic, old, new } => write!(
                f,
                "topic {topic}: {old} partitions on the old cluster, {new} on the new cluster; keys would change partition. Delete it on the new cluster or add partitions on the old cluster"
            ),
            Difference::Weaker { topic, config, old, new } => write!(
                f,
                "topic {topic}: {config} is `{old}` on the old cluster and only `{new}` on the new cluster. Raise it on the new cluster"
            ),
            Difference::Config { topic, config, old, new } => {
                let (old, new) = (or_default(old), or_default(new));
                write!(f, "topic {topic}: {config} is {old} on the old cluster and {new} on the new cluster")
            }
            Difference::GoneInKafka4 { topic, config, value } => {
                write!(f, "topic {topic}: {config}=`{value}` on the old cluster; Kafka 4 does not know it")
            }
            Difference::FewerReplicas { topic, old, new } => {
                write!(
                    f,
                    "topic {topic}: {old} replicas of each partition on the old cluster, {new} on the new cluster. Start the \
                     brokers that are missing there; where the topic is there already, give it more replicas"
                )
            }
            Difference::ConfigsUnknown { topic } => {
                write!(f, "topic {topic}: a cluster does not tell its configs, so they were not compared")
            }
        }
    }
}

/// What the new cluster must be given, and what differs all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParityPlan {
    /// Topics to make on the new cluster, and topics to be given more partitions there, in order of name.
    pub create: Vec<NewTopic>,
    /// What differs, in order of topic.
    pub differences: Vec<Difference>,
}

impl ParityPlan {
    /// The differences with which the cutover must not go on.
    pub fn refusals(&self) -> impl Iterator<Item = &Difference> {
        self.differences.iter().filter(|difference| difference.is_refusal())
    }
}

/// Compares two clusters, the new one with so many brokers. Reserved topics are passed over, and topics that only the new
/// cluster has are nobody's business.
pub fn parity_plan(old: &[TopicDescription], new: &[TopicDescription], brokers: usize) -> ParityPlan {
    let brokers = i16::try_from(brokers).unwrap_or(i16::MAX);
    let new: BTreeMap<&TopicName, &TopicDescription> = new.iter().map(|topic| (&topic.name, topic)).collect();
    let old: BTreeMap<&TopicName, &TopicDescription> = old.iter().map(|topic| (&topic.name, topic)).collect();
    let mut plan = ParityPlan::default();
    for topic in old.values().filter(|topic| !is_reserved_topic(topic.name.as_str())) {
        match new.get(&topic.name) {
            None => {
                let made = NewTopic { replication: topic.replication.min(brokers), ..like(topic) };
                plan.differences.extend(fewer(topic, made.replication));
                plan.create.push(made);
                plan.differences.extend(gone(topic));
            }
            Some(there) => {
                if there.partitions < topic.partitions {
                    plan.create.push(like(topic));
                }
                compare(topic, there, &mut plan.differences);
            }
        }
    }
    plan
}

fn like(topic: &TopicDescription) -> NewTopic {
    NewTopic {
        name: topic.name.clone(),
        partitions: topic.partitions,
        replication: topic.replication,
        configs: topic.configs.clone().unwrap_or_default(),
    }
}

fn fewer(old: &TopicDescription, new: i16) -> Option<Difference> {
    let fewer = Difference::FewerReplicas { topic: old.name.clone(), old: old.replication, new };
    (new < old.replication).then_some(fewer)
}

fn gone(topic: &TopicDescription) -> impl Iterator<Item = Difference> + '_ {
    let set = topic.configs.iter().flatten().filter(|(name, _)| GONE_IN_KAFKA_4.contains(&name.as_str()));
    set.map(|(config, value)| Difference::GoneInKafka4 {
        topic: topic.name.clone(),
        config: config.clone(),
        value: value.clone(),
    })
}

fn compare(old: &TopicDescription, new: &TopicDescription, differences: &mut Vec<Difference>) {
    let topic = &old.name;
    if new.partitions > old.partitions {
        let (old, new) = (old.partitions, new.partitions);
        differences.push(Difference::MorePartitions { topic: topic.clone(), old, new });
    }
    differences.extend(fewer(old, new.replication));
    let (Some(ours), Some(theirs)) = (&old.configs, &new.configs) else {
        differences.push(Difference::ConfigsUnknown { topic: topic.clone() });
        return;
    };
    differences.extend(gone(old));
    let mut names: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
    names.sort();
    names.dedup();
    for config in names.into_iter().filter(|name| !GONE_IN_KAFKA_4.contains(&name.as_str())) {
        let (old, new) = (ours.get(config).cloned(), theirs.get(config).cloned());
        if old == new {
            continue;
        }
        let (topic, config) = (topic.clone(), config.clone());
        differences.push(match (old, new) {
            (Some(old), Some(new)) if is_less(&config, &new, &old) => {
                Difference::Weaker { topic, config, old, new }
            }
            (old, new) => Difference::Config { topic, config, old, new },
        });
    }
}

/// Whether `value` keeps or takes less than `than`.
pub(crate) fn is_less(config: &str, value: &str, than: &str) -> bool {
    let read = |text: &str| match text.parse::<i64>() {
        Ok(-1) if UNLIMITED_BELOW_ZERO.contains(&config) => Some(i64::MAX),
        number => number.ok(),
    };
    NOT_LESS.contains(&config)
        && matches!((read(value), read(than)), (Some(value), Some(than)) if value < than)
}

/// Makes a topic, leaving out configs that the cluster says it does not know. Gives what was left out.
///
/// # Errors
/// As [`ClusterAdmin::create_topic`]; a known config with a value that is refused is an error, never left out.
pub async fn create_with_known_configs(
    admin: &dyn ClusterAdmin,
    topic: &NewTopic,
) -> ProviderResult<BTreeMap<String, String>> {
    let mut wanted = topic.clone();
    let mut left_out = BTreeMap::new();
    loop {
        // Each round leaves one out, so there are no more rounds than configs.
        match admin.create_topic(&wanted).await {
            Ok(()) => return Ok(left_out),
            Err(error) => match unknown_config(&error, &wanted) {
                Some((name, value)) => {
                    wanted.configs.remove(&name);
                    left_out.insert(name, value);
                }
                None => return Err(error),
            },
        }
    }
}

/// The config that a refusal says is unknown ("Unknown topic config name: NAME").
pub fn unknown_config(error: &ProviderError, topic: &NewTopic) -> Option<(String, String)> {
    let reason = error.reason.to_ascii_lowercase();
    if error.kind != ErrorKind::Refused || !reason.contains("unknown") {
        return None;
    }
    // Names are parts of other names: the longest one that is named is meant.
    let named = topic.configs.iter().filter(|(name, _)| reason.contains(&name.to_ascii_lowercase()));
    named.max_by_key(|(name, _)| name.len()).map(|(name, value)| (name.clone(), value.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKERS: usize = 3;

    fn topic(name: &str, partitions: i32, configs: Option<&[(&str, &str)]>) -> TopicDescription {
        let configs = configs
            .map(|set| set.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect());
        TopicDescription { name: name.into(), id: None, partitions, replication: 3, configs }
    }

    fn words(plan: &ParityPlan) -> Vec<String> {
        plan.differences.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn green_gets_what_blue_has() {
        let orders = topic("orders", 12, Some(&[("cleanup.policy", "compact")]));
        let reserved = ["__consumer_offsets", "kutover.control", "kutover.members"];
        let mut old: Vec<_> = reserved.iter().map(|name| topic(name, 50, None)).collect();
        old.push(orders.clone());
        let plan = parity_plan(&old, &[topic("only-new", 1, None)], BROKERS);
        assert_eq!(plan, ParityPlan { create: vec![like(&orders)], differences: vec![] });
        assert_eq!(
            parity_plan(std::slice::from_ref(&orders), std::slice::from_ref(&orders), BROKERS),
            ParityPlan::default()
        );
    }

    #[test]
    fn fewer_partitions_are_added_and_more_are_refused() {
        let (few, many) = (topic("orders", 3, Some(&[])), topic("orders", 12, Some(&[])));
        let plan = parity_plan(std::slice::from_ref(&many), std::slice::from_ref(&few), BROKERS);
        assert_eq!(plan, ParityPlan { create: vec![like(&many)], differences: vec![] });
        let plan = parity_plan(&[few], &[many], BROKERS);
        assert!(plan.create.is_empty());
        assert_eq!(plan.refusals().count(), 1);
        assert!(
            words(&plan)[0]
                .starts_with("topic orders: 3 partitions on the old cluster, 12 on the new cluster"),
            "{plan:?}"
        );
    }

    /// L6: weaker min.insync.replicas, shorter retention, refusing what the old cluster takes.
    #[test]
    fn what_keeps_or_takes_less_is_refused() {
        let old = topic(
            "orders",
            1,
            Some(&[("min.insync.replicas", "2"), ("retention.ms", "-1"), ("segment.ms", "9")]),
        );
        let new = topic("orders", 1, Some(&[("min.insync.replicas", "1"), ("retention.ms", "1000")]));
        let plan = parity_plan(std::slice::from_ref(&old), std::slice::from_ref(&new), BROKERS);
        assert_eq!(
            words(&plan),
            [
                "topic orders: min.insync.replicas is `2` on the old cluster and only `1` on the new cluster. Raise it on the new cluster",
                "topic orders: retention.ms is `-1` on the old cluster and only `1000` on the new cluster. Raise it on the new cluster",
                "topic orders: segment.ms is `9` on the old cluster and its default on the new cluster",
            ]
        );
        assert_eq!(plan.refusals().count(), 2);
        assert_eq!(parity_plan(&[new], &[old], BROKERS).refusals().count(), 0, "stronger is no refusal");
    }

    /// Also where the topic is only to be made, and whoever makes it would make do with the brokers that are there.
    #[test]
    fn fewer_replicas_are_refused_before_and_after_the_topic_is_made() {
        let old = topic("orders", 1, Some(&[]));
        let made = TopicDescription { replication: 2, ..old.clone() };
        for (there, brokers) in [(vec![], 2), (vec![made.clone()], 2), (vec![made.clone()], 3)] {
            let plan = parity_plan(std::slice::from_ref(&old), &there, brokers);
            let fewer = Difference::FewerReplicas { topic: "orders".into(), old: 3, new: 2 };
            assert_eq!(plan.differences, [fewer]);
            assert!(plan.create.iter().all(|topic| topic.replication == 2), "as it would be: {plan:?}");
            let refused: Vec<_> = plan.refusals().map(Difference::waiver).collect();
            assert_eq!(refused, [Some("plan.waive_replicas")]);
        }
        assert_eq!(parity_plan(&[made], &[old], 2).differences, [], "more is no harm");
    }

    #[test]
    fn what_kafka_4_forgot_and_what_cannot_be_told_is_reported() {
        let old = topic("orders", 1, Some(&[("message.format.version", "2.8")]));
        for new in [vec![], vec![topic("orders", 1, Some(&[]))]] {
            let plan = parity_plan(std::slice::from_ref(&old), &new, BROKERS);
            assert_eq!(
                words(&plan),
                ["topic orders: message.format.version=`2.8` on the old cluster; Kafka 4 does not know it"]
            );
            assert_eq!(plan.refusals().count(), 0);
        }
        let plan = parity_plan(&[old], &[topic("orders", 1, None)], BROKERS);
        assert_eq!(plan.differences, [Difference::ConfigsUnknown { topic: "orders".into() }]);
    }

    #[test]
    fn only_an_unknown_config_is_left_out() {
        let mut wanted =
            like(&topic("orders", 1, Some(&[("retention.ms", "-7"), ("message.format.version", "2.8")])));
        wanted.configs.insert("message.format".into(), "x".into());
        let refused = |reason: &str| ProviderError::new(ErrorKind::Refused, "create topic orders", reason);
        let unknown =
            refused("broker error: InvalidConfig - Unknown topic config name: message.format.version");
        assert_eq!(unknown_config(&unknown, &wanted).unwrap().0, "message.format.version");
        let invalid = refused("Invalid value -7 for configuration retention.ms: Value must be at least -1");
        assert_eq!(unknown_config(&invalid, &wanted), None);
        let elsewhere = ProviderError { kind: ErrorKind::Unreachable, ..unknown };
        assert_eq!(unknown_config(&elsewhere, &wanted), None);
    }
}
