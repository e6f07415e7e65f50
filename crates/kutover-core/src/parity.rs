//! Topic parity: what the standby cluster must be given, and what differs all the same (L6). A pure function of two
//! descriptions, and the one loop over [`ClusterAdmin`] that makes a topic without what its cluster does not know.

mod access;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, ProviderError, ProviderResult};
use crate::ports::{ClusterAdmin, NewTopic, TopicDescription};
use crate::words::{TopicName, is_reserved_topic};

pub use access::{AccessDifference, AccessPlan, access_plan, whom};

/// Topic configs that Kafka 4 no longer knows (KIP-724, KIP-937; seen on 4.3.1: InvalidConfig).
pub const GONE_IN_KAFKA_4: [&str; 3] =
    ["message.downconversion.enable", "message.format.version", "message.timestamp.difference.max.ms"];

/// Configs that are compared as they are in force wherever either cluster sets them on a topic: a smaller value on the new
/// cluster loses records or refuses what the old cluster takes, and another `cleanup.policy` keeps other records.
pub const COMPARED_IN_FORCE: [&str; 7] = [
    CLEANUP_POLICY,
    MAX_MESSAGE_BYTES,
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "min.insync.replicas",
    "retention.bytes",
    "retention.ms",
];
/// The one of them that is a list.
const CLEANUP_POLICY: &str = "cleanup.policy";
/// The one of them that a fence by size is made of.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
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
    /// The new cluster has the topic already, and keeps or takes less than the old cluster, or keeps other records. Refused.
    Weaker {
        /// The topic.
        topic: TopicName,
        /// The config's name.
        config: String,
        /// Its value in force on the old cluster: set on the topic, or the brokers' default.
        old: String,
        /// Its value in force on the new cluster.
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
            Difference::Weaker { topic, config, old, new } if config == CLEANUP_POLICY => write!(
                f,
                "topic {topic}: {config} is `{old}` on the old cluster and `{new}` on the new cluster, which would keep other \
                 records. Make it the same on both"
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
        let (ours, theirs) = (set(ours, config), set(theirs, config));
        if ours == theirs {
            continue;
        }
        let (topic, config) = (topic.clone(), config.clone());
        let (held, against) = (in_force(ours, old, &config), in_force(theirs, new, &config));
        let mut pairs = held.iter().flat_map(|old| against.iter().map(move |new| (*old, *new)));
        differences.push(match pairs.find(|(old, new)| is_weaker(&config, new, old)) {
            Some((old, new)) => Difference::Weaker { topic, config, old: old.clone(), new: new.clone() },
            None => Difference::Config { topic, config, old: ours.cloned(), new: theirs.cloned() },
        });
    }
}

/// What a topic has: what it sets itself, or what each broker has by default.
fn in_force<'a>(own: Option<&'a String>, topic: &'a TopicDescription, config: &str) -> Vec<&'a String> {
    match own {
        Some(own) => vec![own],
        None => topic.defaults.get(config).into_iter().flatten().collect(),
    }
}

/// What a topic sets itself. A limit that no record fits is a fence's, left over from a cutover that went back: it is lifted
/// before anybody is pointed there.
fn set<'a>(own: &'a BTreeMap<String, String>, config: &str) -> Option<&'a String> {
    own.get(config).filter(|value| config != MAX_MESSAGE_BYTES || *value != "0")
}

/// Whether a topic with `value` keeps or takes less than one with `than`, or keeps other records.
pub(crate) fn is_weaker(config: &str, value: &str, than: &str) -> bool {
    let policies = |text: &str| text.split(',').map(|one| one.trim().to_owned()).collect::<BTreeSet<_>>();
    let read = |text: &str| match text.parse::<i64>() {
        Ok(-1) if UNLIMITED_BELOW_ZERO.contains(&config) => Some(i64::MAX),
        number => number.ok(),
    };
    match config {
        CLEANUP_POLICY => policies(value) != policies(than),
        _ if COMPARED_IN_FORCE.contains(&config) => {
            matches!((read(value), read(than)), (Some(value), Some(than)) if value < than)
        }
        _ => false,
    }
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
