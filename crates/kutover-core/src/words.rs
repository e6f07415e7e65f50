//! The words of the design as types: ids, counters, offsets, time.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares a newtype over `String` for an id that must not be mixed up with another.
macro_rules! text_id {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes over the text as it is.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    )+};
}

text_id! {
    /// The name of one logical Kafka service with its two colours.
    DeploymentName;
    /// Kafka's own id of a cluster: the truth about where a client is.
    ClusterId;
    /// One particular set of infrastructure behind a colour (a StackId, a data directory). Removal names this, never a colour.
    IncarnationId;
    /// A topic's name.
    TopicName;
    /// Kafka's id of one incarnation of a topic; a re-created topic has another. Absent on clusters before 2.8.
    TopicId;
    /// A consumer group's id.
    GroupId;
    /// A Kafka Connect connector's name.
    ConnectorName;
    /// A producer's or reader's name, chosen by its operator; several incarnations can follow each other under it.
    InstanceName;
    /// A DNS name, without the trailing dot, in lower case.
    DnsName;
    /// The id of a hosted zone.
    ZoneId;
    /// Tells one attempt at an act from every other, so that "mine" and "somebody wrote the same" differ.
    Nonce;
}

impl DnsName {
    /// The one spelling that names are compared in: lower case (RFC 4343), without the trailing dot.
    #[must_use]
    pub fn normal(&self) -> Self {
        Self(self.0.trim_end_matches('.').to_ascii_lowercase())
    }

    /// Whether this name is truly below another. Both in their normal spelling.
    pub fn is_below(&self, above: &Self) -> bool {
        self.0.strip_suffix(&above.0).is_some_and(|rest| rest.ends_with('.'))
    }

    /// Whether this name is a zone's apex or below it. Both in their normal spelling.
    pub fn is_in_zone(&self, zone: &Self) -> bool {
        self == zone || self.is_below(zone)
    }
}

/// One endpoint: a name, in the hosted zone that is named where several hold that name. Written `name` or `name@zone`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct EndpointKey {
    /// The name that clients ask for.
    pub name: DnsName,
    /// The zone that is meant; `None` where the name alone says it.
    pub zone: Option<ZoneId>,
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            None => self.name.fmt(f),
            Some(zone) => write!(f, "{}@{zone}", self.name),
        }
    }
}

impl From<EndpointKey> for String {
    fn from(key: EndpointKey) -> Self {
        key.to_string()
    }
}

/// No name holds an `@`.
impl From<String> for EndpointKey {
    fn from(text: String) -> Self {
        match text.split_once('@') {
            Some((name, zone)) => Self { name: DnsName::new(name), zone: Some(ZoneId::new(zone)) },
            None => DnsName::new(text).into(),
        }
    }
}

impl From<DnsName> for EndpointKey {
    fn from(name: DnsName) -> Self {
        Self { name, zone: None }
    }
}

/// Declares a newtype over an integer that only ever counts up.
macro_rules! counter {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The next one up.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    )+};
}

counter! {
    /// Counts the deployment's switches, always up. The first a deployment ever has is 1.
    Generation;
    /// Counts controllers: each start or takeover raises it by compare-and-set before it does anything else.
    Term;
}

/// An instant in milliseconds since an origin that the driver chooses. Only differences mean something; waits start
/// over after a resume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// This instant moved later by a number of milliseconds.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; zero if `earlier` is the later one.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A position in a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names one partition.
    pub fn new(topic: impl Into<TopicName>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {}, partition {}", self.topic, self.partition)
    }
}

/// A slot for a cluster, not a role: which one is active, the owner record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// The slot whose infrastructure carries the suffix `A`.
    Blue,
    /// The slot whose infrastructure carries the suffix `B`.
    Green,
}

impl Colour {
    /// Both slots.
    pub const BOTH: [Colour; 2] = [Colour::Blue, Colour::Green];

    /// The other slot.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Colour::Blue => Colour::Green,
            Colour::Green => Colour::Blue,
        }
    }

    /// The suffix that this colour's infrastructure carries, as in `KafkaA`.
    pub fn suffix(self) -> &'static str {
        match self {
            Colour::Blue => "A",
            Colour::Green => "B",
        }
    }

    /// The ZooKeeper chroot of a cluster from before KRaft, as in `/KafkaA`.
    pub fn chroot(self) -> &'static str {
        match self {
            Colour::Blue => "/KafkaA",
            Colour::Green => "/KafkaB",
        }
    }

    /// `blue` or `green`.
    pub fn as_str(self) -> &'static str {
        match self {
            Colour::Blue => "blue",
            Colour::Green => "green",
        }
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Colour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "blue" => Ok(Colour::Blue),
            "green" => Ok(Colour::Green),
            other => Err(format!("`{other}` is no colour; write `blue` or `green`")),
        }
    }
}

/// kutover's own control topic: the controller writes claims, targets, intents and the chain; producers and readers read.
pub const CONTROL_TOPIC: &str = "kutover.control";
/// kutover's own members topic: producers write registration, heartbeats and receipts; the controller reads.
pub const MEMBERS_TOPIC: &str = "kutover.members";

/// What every cluster makes for itself: `Topic.INTERNAL_TOPICS` of Kafka 4.3, KRaft's and tiered storage's.
const INTERNAL_TOPICS: [&str; 5] = [
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
    "__cluster_metadata",
    "__remote_log_metadata",
];
/// Amazon MSK's own, as `__amazon_msk_canary`.
const INTERNAL_TO_MSK: &str = "__amazon_msk_";

/// Whether a topic is Kafka's internal one, or Amazon MSK's. That a name begins with `__` says nothing: `__audit` is a user's.
pub fn is_internal_topic(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name) || name.starts_with(INTERNAL_TO_MSK)
}

/// Whether a topic is kutover's own or an internal one: such topics are never fenced, drained or copied.
pub fn is_reserved_topic(name: &str) -> bool {
    name == CONTROL_TOPIC || name == MEMBERS_TOPIC || is_internal_topic(name)
}

/// The client id of everything the controller does on a cluster. An isolated cluster still answers it.
pub const CONTROLLER_CLIENT_ID: &str = "kutover-controller";
/// The client id of the fence's probe: an ordinary client whose batch has a wrong checksum, so that nobody stores it.
pub const PROBE_CLIENT_ID: &str = "kutover-probe";
/// The client id of a member's link to the control and members topics, which no fence binds.
pub const MEMBER_CLIENT_ID: &str = "kutover-member";

#[cfg(test)]
mod tests {
    use super::*;

    /// A record on a topic that is passed over for its name is lost with its cluster.
    #[test]
    fn only_what_a_cluster_makes_for_itself_is_internal() {
        for own in ["__consumer_offsets", "__transaction_state", "__share_group_state", "__amazon_msk_canary"]
        {
            assert!(is_internal_topic(own) && is_reserved_topic(own), "{own}");
        }
        assert!(is_reserved_topic(CONTROL_TOPIC) && is_reserved_topic(MEMBERS_TOPIC));
        for theirs in
            ["__audit", "__debezium-heartbeat.shop", "__consumer_offsets_2", "kutover.mine", "orders"]
        {
            assert!(!is_reserved_topic(theirs), "{theirs}");
        }
    }
}
