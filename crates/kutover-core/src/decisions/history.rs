//! History (L18): groups have read everything, but what people still need dies with the old cluster.
//!
//! A topic's history is harmless only if it has expired by the time of the removal, or was waived by the topic. Compacted
//! topics, topics that are kept for ever, and topics whose retention outlives the soak are none of that by themselves.
//! kutover copies nothing: whoever has copied what is still needed says so by the waiver. Schema Registry's topic is waived
//! by its name alone, never by a rule for all: without it nobody can read the records on the new cluster either.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::controls::{Control, without};
use crate::cutover::Topics;
use crate::words::{TopicName, is_reserved_topic};

/// What is known of one topic of the old cluster. Configs are those in force, the broker's defaults included.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TopicHistory {
    /// The topic.
    pub topic: TopicName,
    /// `cleanup.policy`; `None` if it was not answered.
    pub cleanup_policy: Option<String>,
    /// `retention.ms`, -1 for ever; `None` if it was not answered.
    pub retention_ms: Option<i64>,
    /// Offsets between start and end over all partitions; `None` if one did not answer.
    pub records: Option<u64>,
}

/// What the operator has said, and how old history is at the least when the old cluster goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Milliseconds from the last record to the removal: the soak.
    pub soak_ms: u64,
    /// Topics whose history may die.
    pub waived: Topics,
    /// Schema Registry's topic.
    pub schemas: TopicName,
}

/// Why a topic's history is still needed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "needed")]
pub enum Needed {
    /// It holds the schemas of records on both clusters.
    Schemas,
    /// It is compacted: the last value of each key is state, however old.
    Compacted,
    /// It is kept for ever.
    Forever,
    /// It is kept for longer than the old cluster is.
    Outlives {
        /// `retention.ms`.
        retention_ms: i64,
        /// The soak.
        soak_ms: u64,
    },
    /// How long it is kept was not answered.
    Unknown,
}

/// What becomes of a topic's history.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fate")]
pub enum Fate {
    /// There is none: no record is left, or none will be at the removal.
    Expired,
    /// It dies, and the operator has said that it may.
    Waived {
        /// What it would have been needed for.
        needed: Needed,
    },
    /// It would die unsaid: nothing is removed.
    Dies {
        /// Why it is still needed.
        needed: Needed,
        /// How many offsets, where known.
        records: Option<u64>,
    },
}

/// One topic and what becomes of its history.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TopicFate {
    /// The topic.
    pub topic: TopicName,
    /// What becomes of its history.
    pub fate: Fate,
}

impl fmt::Display for TopicFate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, fate } = self;
        match fate {
            Fate::Expired => write!(f, "topic {topic}: no history is left"),
            Fate::Waived { needed } => write!(f, "topic {topic}: history dies, waived ({needed})"),
            Fate::Dies { needed, records } => {
                write!(f, "topic {topic}: ")?;
                match records {
                    Some(records) => write!(f, "up to {records} records")?,
                    None => f.write_str("its history")?,
                }
                write!(
                    f,
                    " would die with the old cluster ({needed}): copy what is still needed and name it in \
                     plan.waive_history, or set plan.remove_old = false"
                )
            }
        }
    }
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Needed::Schemas => {
                f.write_str("Schema Registry's schemas; only its name waives it, no rule for all")
            }
            Needed::Compacted => f.write_str("compacted: it is state, not history"),
            Needed::Forever => f.write_str("retention.ms=-1, kept for ever"),
            Needed::Outlives { retention_ms, soak_ms } => {
                write!(f, "retention.ms={retention_ms} outlives the soak of {soak_ms} ms")
            }
            Needed::Unknown => f.write_str("how long it is kept was not answered"),
        }
    }
}

/// Judges every topic, in the order given. Kafka's internal topics and kutover's own are passed over.
pub fn judge(topics: &[TopicHistory], settings: &Settings) -> Vec<TopicFate> {
    let ours = topics.iter().filter(|topic| !is_reserved_topic(topic.topic.as_str()));
    ours.map(|topic| TopicFate { topic: topic.topic.clone(), fate: fate(topic, settings) }).collect()
}

/// Those that nothing may be removed over.
pub fn dying(fates: &[TopicFate]) -> impl Iterator<Item = &TopicFate> {
    fates.iter().filter(|one| matches!(one.fate, Fate::Dies { .. }))
}

fn fate(history: &TopicHistory, settings: &Settings) -> Fate {
    if history.records == Some(0) {
        return Fate::Expired;
    }
    let Some(needed) = needed(history, settings) else { return Fate::Expired };
    let waived = match (&settings.waived, &needed) {
        (Topics::All, Needed::Schemas) => false,
        (waived, _) => waived.includes(&history.topic),
    };
    if waived || without(Control::HistoryIgnored) {
        return Fate::Waived { needed };
    }
    Fate::Dies { needed, records: history.records }
}

fn needed(history: &TopicHistory, settings: &Settings) -> Option<Needed> {
    if history.topic == settings.schemas {
        return Some(Needed::Schemas);
    }
    let Some(policy) = &history.cleanup_policy else { return Some(Needed::Unknown) };
    // With both policies records go by their age, the last of a key as well.
    if !policy.split(',').any(|one| one.trim() == "delete") {
        return Some(Needed::Compacted);
    }
    match history.retention_ms {
        None => Some(Needed::Unknown),
        Some(ms) if ms < 0 => Some(Needed::Forever),
        Some(ms) if ms.unsigned_abs() > settings.soak_ms => {
            Some(Needed::Outlives { retention_ms: ms, soak_ms: settings.soak_ms })
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn topic(name: &str, policy: &str, retention_ms: i64) -> TopicHistory {
        TopicHistory {
            topic: name.into(),
            cleanup_policy: Some(policy.into()),
            retention_ms: Some(retention_ms),
            records: Some(5),
        }
    }

    fn settings() -> Settings {
        Settings { soak_ms: 1_000, waived: Topics::none(), schemas: "_schemas".into() }
    }

    fn one(topic: &TopicHistory, settings: &Settings) -> Fate {
        judge(std::slice::from_ref(topic), settings).remove(0).fate
    }

    fn dies(topic: &TopicHistory) -> Needed {
        match one(topic, &settings()) {
            Fate::Dies { needed, .. } => needed,
            other => panic!("{other:?}"),
        }
    }

    /// L18: what people still need is named with the reason.
    #[test]
    fn what_outlives_the_old_cluster_is_named() {
        assert_eq!(dies(&topic("state", "compact", 1)), Needed::Compacted);
        assert_eq!(dies(&topic("ledger", "delete", -1)), Needed::Forever);
        assert_eq!(
            dies(&topic("week", "delete", 1_001)),
            Needed::Outlives { retention_ms: 1_001, soak_ms: 1_000 }
        );
        assert_eq!(dies(&topic("_schemas", "compact", 1)), Needed::Schemas);
        assert_eq!(dies(&TopicHistory { retention_ms: None, ..topic("t", "delete", 1) }), Needed::Unknown);
        assert_eq!(dies(&TopicHistory { cleanup_policy: None, ..topic("t", "delete", 1) }), Needed::Unknown);
        let fates = judge(&[topic("ledger", "delete", -1)], &settings());
        assert_eq!(
            dying(&fates).map(ToString::to_string).collect::<Vec<_>>(),
            [
                "topic ledger: up to 5 records would die with the old cluster (retention.ms=-1, kept for ever): copy what is \
                 still needed and name it in plan.waive_history, or set plan.remove_old = false"
            ]
        );
    }

    #[test]
    fn what_has_expired_is_no_history() {
        assert_eq!(one(&topic("short", "delete", 1_000), &settings()), Fate::Expired);
        assert_eq!(one(&topic("at-once", "delete", 0), &settings()), Fate::Expired, "-1 alone is for ever");
        assert_eq!(one(&topic("both", "compact, delete", 1_000), &settings()), Fate::Expired);
        let empty = TopicHistory { records: Some(0), ..topic("ledger", "delete", -1) };
        assert_eq!(one(&empty, &settings()), Fate::Expired);
        let silent = TopicHistory { records: None, ..topic("ledger", "delete", -1) };
        assert!(matches!(one(&silent, &settings()), Fate::Dies { .. }), "unknown is not empty");
        assert!(judge(&[topic("__consumer_offsets", "compact", -1)], &settings()).is_empty());
    }

    #[test]
    fn schemas_are_waived_by_their_name_alone() {
        let all = Settings { waived: Topics::All, ..settings() };
        assert_eq!(one(&topic("state", "compact", 1), &all), Fate::Waived { needed: Needed::Compacted });
        assert!(matches!(one(&topic("_schemas", "compact", 1), &all), Fate::Dies { .. }));
        let named = Settings { waived: Topics::Named(["_schemas".into()].into()), ..settings() };
        assert_eq!(one(&topic("_schemas", "compact", 1), &named), Fate::Waived { needed: Needed::Schemas });
        let renamed = Settings { schemas: "registry".into(), waived: Topics::All, ..settings() };
        assert!(matches!(one(&topic("registry", "compact", 1), &renamed), Fate::Dies { .. }));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Nothing that can still be there at the removal is passed over unsaid.
        #[test]
        fn no_record_that_is_left_dies_unsaid(
            policy in prop_oneof![Just(None), Just(Some("delete")), Just(Some("compact")), Just(Some("compact,delete"))],
            retention_ms in prop_oneof![Just(None), Just(Some(-1)), (0..4_000_i64).prop_map(Some)],
            records in prop_oneof![Just(None), (0..3_u64).prop_map(Some)],
            soak_ms in 0..4_000_u64,
            waived in any::<bool>(),
        ) {
            let topic = TopicHistory {
                topic: "t".into(), cleanup_policy: policy.map(Into::into), retention_ms, records,
            };
            let named = if waived { BTreeSet::from([TopicName::new("t")]) } else { BTreeSet::new() };
            let settings = Settings { soak_ms, waived: Topics::Named(named), ..settings() };
            let gone_by_age = policy.is_some_and(|policy| policy.contains("delete"))
                && retention_ms.is_some_and(|ms| ms >= 0 && ms.unsigned_abs() <= soak_ms);
            let left = records != Some(0) && !gone_by_age;
            let dies = matches!(one(&topic, &settings), Fate::Dies { .. });
            prop_assert_eq!(dies, left && !waived);
        }
    }
}
