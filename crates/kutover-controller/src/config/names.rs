//! Names as they stand in the file, checked against the rules of what they name.

use std::collections::BTreeSet;

use kutover_core::words::{DeploymentName, DnsName, TopicName, is_reserved_topic};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The owner record stands at `_kutover.<endpoint>`, and a name has at most 253 characters (RFC 1035, 2.3.4).
const LONGEST_ENDPOINT: usize = 253 - "_kutover.".len();

pub(super) fn deployment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DeploymentName, D::Error> {
    let text = String::deserialize(deserializer)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.is_empty() || text.len() > 63 || !text.chars().all(legal) {
        return Err(D::Error::custom(format!(
            "`{text}` is no deployment name; use 1 to 63 letters, digits, `.`, `_` or `-`"
        )));
    }
    Ok(DeploymentName::new(text))
}

pub(super) fn dns_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DnsName, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_dns_name(&text).map_err(D::Error::custom)
}

pub(super) fn some_dns_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DnsName>, D::Error> {
    dns_name(deserializer).map(Some)
}

/// Lower case, without the trailing dot. Labels as RFC 1035, 2.3.4, bounds them.
pub(super) fn parse_dns_name(text: &str) -> Result<DnsName, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > LONGEST_ENDPOINT || !name.split('.').all(label_ok) {
        return Err(format!(
            "`{text}` is no DNS name; use labels of 1 to 63 letters, digits and `-`, {LONGEST_ENDPOINT} characters in all"
        ));
    }
    Ok(DnsName::new(name))
}

/// Which things are meant: in the file `"*"` or a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection<T: Ord> {
    /// All of them; of topics, every one that is not reserved.
    All,
    /// These.
    Named(BTreeSet<T>),
}

/// Which topics are meant.
pub type TopicSelection = Selection<TopicName>;

/// Which things are meant that have no form of their own.
pub type NameSelection = Selection<String>;

impl<T: Ord> Selection<T> {
    /// Nothing at all.
    pub fn none() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl<T: Ord + Serialize> Serialize for Selection<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("*"),
            Self::Named(names) => names.serialize(serializer),
        }
    }
}

impl TopicSelection {
    /// Whether a topic is among them. Reserved topics never are.
    pub fn contains(&self, topic: &TopicName) -> bool {
        !is_reserved_topic(topic.as_str())
            && match self {
                Self::All => true,
                Self::Named(topics) => topics.contains(topic),
            }
    }
}

impl<'de> Deserialize<'de> for TopicSelection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(names) = Form::deserialize(deserializer)?.names().map_err(D::Error::custom)? else {
            return Ok(Self::All);
        };
        names
            .iter()
            .map(|name| topic(name))
            .collect::<Result<_, _>>()
            .map(Self::Named)
            .map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for NameSelection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Form::deserialize(deserializer)?.names().map_err(D::Error::custom)? {
            None => Self::All,
            Some(names) => match names.iter().find(|name| name.trim().is_empty()) {
                Some(name) => return Err(D::Error::custom(format!("`{name}` is no name; delete it"))),
                None => Self::Named(names.into_iter().collect()),
            },
        })
    }
}

/// What stands in the file.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected `\"*\"` or a list of names; write it in that form")]
enum Form {
    One(String),
    Many(Vec<String>),
}

impl Form {
    /// The names; `None` for all.
    fn names(self) -> Result<Option<Vec<String>>, String> {
        match self {
            Form::One(text) if text == "*" => Ok(None),
            Form::One(text) => {
                Err(format!("`{text}` is neither `\"*\"` nor a list; write `\"*\"` or `[\"{text}\"]`"))
            }
            Form::Many(names) if names == ["*"] => Ok(None),
            Form::Many(names) => Ok(Some(names)),
        }
    }
}

/// Kafka's own rule (`Topic.validate`): 1 to 249 of `[a-zA-Z0-9._-]`, and neither `.` nor `..`.
fn topic(name: &str) -> Result<TopicName, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(legal) {
        return Err(format!(
            "`{name}` is no topic name; use 1 to 249 letters, digits, `.`, `_` or `-`, or `\"*\"` alone for all"
        ));
    }
    if is_reserved_topic(name) {
        return Err(format!("topic `{name}` is kutover's or Kafka's own; take it out of the list"));
    }
    Ok(TopicName::new(name))
}
