//! Retention that is raised for the time of a cutover, and what stood before (L11).
//!
//! How long a drain takes can be told from rates that were seen once, and a hold outlasts them all. So what is raised is
//! without limit, and costs disk for as long as the cutover runs. `delete.retention.ms`, which keeps tombstones in a compacted
//! topic, has no word for that and stays.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ports::{Incarnation, TopicConfigs, TopicDescription};
use crate::words::{ClusterId, TopicName};

/// What is raised.
const CONFIGS: [&str; 2] = ["retention.bytes", "retention.ms"];
/// Kafka's way of writing "without limit".
const WITHOUT_LIMIT: &str = "-1";
/// Its way of writing that a topic keeps the newest record of each key, and loses none by age or size.
const COMPACTED: &str = "compact";

/// One cluster on which retention is raised.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Raised {
    /// The infrastructure.
    pub on: Incarnation,
    /// Who lived there when it was looked at: no other cluster is touched.
    pub cluster_id: ClusterId,
    /// What stood before, by topic and config; `None` where the topic had nothing set itself, and the brokers' default held.
    pub before: TopicConfigs,
}

/// What is to be changed to restore retention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restoring {
    /// What to set, or to take away.
    pub changes: TopicConfigs,
    /// What is left as it is, and why, for people.
    pub left: Vec<String>,
}

/// What has to be known of topics before their retention is raised. `known` is what an earlier look found: where something is
/// raised already, that is what stood before. Topics that lose nothing by age or size, and what is without limit anyhow, are
/// left out.
///
/// # Errors
/// The first topic whose configs the cluster does not tell: they could not be restored.
pub fn before(
    topics: &[TopicDescription],
    wanted: &BTreeSet<TopicName>,
    known: &TopicConfigs,
) -> Result<TopicConfigs, TopicName> {
    let mut before = known.clone();
    for topic in topics.iter().filter(|topic| wanted.contains(&topic.name)) {
        let own = topic.configs.as_ref().ok_or_else(|| topic.name.clone())?;
        if own.get("cleanup.policy").is_some_and(|policy| policy == COMPACTED) {
            continue;
        }
        for config in CONFIGS {
            let value = own.get(config).cloned();
            if value.as_deref() != Some(WITHOUT_LIMIT) {
                before.entry(topic.name.clone()).or_default().insert(config.to_owned(), value);
            }
        }
    }
    Ok(before)
}

impl Raised {
    /// What is to be set.
    pub fn changes(&self) -> TopicConfigs {
        let raised = |configs: &BTreeMap<String, Option<String>>| {
            configs.keys().map(|config| (config.clone(), Some(WITHOUT_LIMIT.to_owned()))).collect()
        };
        self.before.iter().map(|(topic, configs)| (topic.clone(), raised(configs))).collect()
    }

    /// A description as it was before: what is raised for the time being is neither a difference between two clusters nor
    /// anything that another one is to be given.
    pub fn as_before(&self, mut topic: TopicDescription) -> TopicDescription {
        let (Some(own), Some(before)) = (&mut topic.configs, self.before.get(&topic.name)) else {
            return topic;
        };
        for (config, value) in before {
            if own.get(config).is_some_and(|now| now == WITHOUT_LIMIT) {
                match value {
                    Some(value) => own.insert(config.clone(), value.clone()),
                    None => own.remove(config),
                };
            }
        }
        topic
    }

    /// What has to be done so that everything is as it was. What neither stood before nor was raised is somebody's own
    /// doing and stays. What is as it was is set all the same: the broker that told it may not know yet what was raised.
    pub fn restoring(&self, now: &[TopicDescription]) -> Restoring {
        let mut restoring = Restoring::default();
        let here = now.iter().filter_map(|topic| Some((topic, self.before.get(&topic.name)?)));
        for (topic, before) in here {
            for (config, value) in before {
                let found = topic.configs.as_ref().and_then(|own| own.get(config));
                if found == value.as_ref() || found.is_some_and(|found| found == WITHOUT_LIMIT) {
                    let changes = restoring.changes.entry(topic.name.clone()).or_default();
                    changes.insert(config.clone(), value.clone());
                    continue;
                }
                restoring.left.push(format!(
                    "topic {}: {config} on {} is {} and not {WITHOUT_LIMIT}, to which it was raised: somebody has changed it, \
                     and it stays; before, it was {}",
                    topic.name,
                    self.on.colour,
                    word(found),
                    word(value.as_ref()),
                ));
            }
        }
        restoring
    }

    /// What stays raised, for a person who has to restore it by hand.
    pub fn by_hand(&self) -> String {
        let each = |(topic, configs): (&TopicName, &BTreeMap<String, Option<String>>)| {
            let configs: Vec<String> =
                configs.iter().map(|(config, value)| format!("{config} {}", word(value.as_ref()))).collect();
            format!("{topic}: {}", configs.join(", "))
        };
        self.before.iter().map(each).collect::<Vec<_>>().join("; ")
    }
}

fn word(value: Option<&String>) -> String {
    value.map_or_else(|| "not set on the topic".to_owned(), |value| format!("`{value}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::RecordData;
    use crate::words::Colour;

    fn topic(name: &str, configs: Option<&[(&str, &str)]>) -> TopicDescription {
        let configs =
            configs.map(|set| set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
        TopicDescription {
            name: name.into(),
            id: None,
            partitions: 1,
            replication: 1,
            configs,
            defaults: BTreeMap::new(),
        }
    }

    fn raised(before: TopicConfigs) -> Raised {
        let on = Incarnation {
            id: "i".into(),
            colour: Colour::Green,
            bootstrap: vec![],
            controller_bootstrap: vec![],
            endpoint: RecordData::Addresses(vec![]),
        };
        Raised { on, cluster_id: "c".into(), before }
    }

    /// A topic's name, and its configs with their values.
    type Own<'a> = (&'a str, &'a [(&'a str, Option<&'a str>)]);

    fn configs(of: &[Own<'_>]) -> TopicConfigs {
        let own = |set: &[(&str, Option<&str>)]| {
            set.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
        };
        of.iter().map(|(topic, set)| ((*topic).into(), own(set))).collect()
    }

    fn wanted() -> BTreeSet<TopicName> {
        ["orders".into(), "state".into(), "kept".into()].into()
    }

    #[test]
    fn what_stood_before_is_known_before_it_is_raised() {
        let there = [
            topic("orders", Some(&[("retention.ms", "1000"), ("segment.ms", "9")])),
            topic("state", Some(&[("cleanup.policy", "compact")])),
            topic("kept", Some(&[("retention.ms", "-1"), ("retention.bytes", "-1")])),
            topic("others", Some(&[("retention.ms", "7")])),
        ];
        let found = before(&there, &wanted(), &TopicConfigs::new()).unwrap();
        assert_eq!(
            found,
            configs(&[("orders", &[("retention.ms", Some("1000")), ("retention.bytes", None)])])
        );
        let raised = raised(found.clone());
        assert_eq!(
            raised.changes(),
            configs(&[("orders", &[("retention.ms", Some("-1")), ("retention.bytes", Some("-1"))])])
        );
        // Raised, and looked at again: what was found first stands, what somebody has changed since is newer.
        let again = [topic("orders", Some(&[("retention.ms", "5"), ("retention.bytes", "-1")]))];
        assert_eq!(
            before(&again, &wanted(), &found).unwrap(),
            configs(&[("orders", &[("retention.ms", Some("5")), ("retention.bytes", None)])])
        );
        assert_eq!(before(&[topic("orders", None)], &wanted(), &found), Err("orders".into()));
    }

    #[test]
    fn what_is_raised_is_compared_as_it_was_before() {
        let raised =
            raised(configs(&[("orders", &[("retention.ms", Some("1000")), ("retention.bytes", None)])]));
        let now = topic("orders", Some(&[("retention.ms", "-1"), ("retention.bytes", "-1")]));
        assert_eq!(raised.as_before(now), topic("orders", Some(&[("retention.ms", "1000")])));
        let theirs = topic("orders", Some(&[("retention.ms", "5")]));
        assert_eq!(raised.as_before(theirs.clone()), theirs);
        let others = topic("others", Some(&[("retention.ms", "-1")]));
        assert_eq!(raised.as_before(others.clone()), others);
    }

    #[test]
    fn what_stood_before_is_set_and_what_somebody_changed_stays() {
        let before = configs(&[("orders", &[("retention.ms", Some("1000")), ("retention.bytes", None)])]);
        let raised = raised(before.clone());
        let whole = topic("orders", Some(&[("retention.ms", "-1"), ("retention.bytes", "-1")]));
        assert_eq!(raised.restoring(&[whole]), Restoring { changes: before.clone(), left: vec![] });
        // Another broker may not know yet that it was raised.
        let stale = topic("orders", Some(&[("retention.ms", "1000")]));
        assert_eq!(raised.restoring(&[stale]).changes, before);
        let theirs = topic("orders", Some(&[("retention.bytes", "7")]));
        assert_eq!(
            raised.restoring(&[theirs]).left,
            [
                "topic orders: retention.bytes on green is `7` and not -1, to which it was raised: somebody has changed it, \
                 and it stays; before, it was not set on the topic",
                "topic orders: retention.ms on green is not set on the topic and not -1, to which it was raised: somebody \
                 has changed it, and it stays; before, it was `1000`",
            ]
        );
        assert_eq!(raised.restoring(&[]), Restoring::default(), "it was deleted");
        assert_eq!(raised.by_hand(), "orders: retention.bytes not set on the topic, retention.ms `1000`");
    }
}
