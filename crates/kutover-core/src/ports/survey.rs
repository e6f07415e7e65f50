//! What a plan asks of a cluster besides what the other ports tell: settings, groups, transactional ids, sizes, ages.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::NewTopic;
use crate::decisions::early_members::Member;
use crate::error::ProviderResult;
use crate::words::{GroupId, Offset, TopicName, TopicPartition};

/// One answer of many: what was said, or why it is not known.
pub type Item<T> = Result<T, String>;

/// Where a config's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigSource {
    /// It was set on the thing itself.
    Own,
    /// It was set on the brokers.
    Broker,
    /// It is the version's default.
    Default,
}

/// A config in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConfigValue {
    /// Its value; `None` if it has none, or if the broker keeps it to itself.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
    /// Whether the broker keeps the value to itself.
    pub is_secret: bool,
}

/// What a cluster would refuse of topics, each with its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedTopics {
    /// Configs that it does not know, by name: a topic is made without them.
    pub configs: BTreeMap<String, String>,
    /// Topics that it would not make, even without those.
    pub topics: BTreeMap<TopicName, String>,
}

/// Configs in force, defaults included, by name.
pub type ConfigMap = BTreeMap<String, ConfigValue>;

/// How a group shares out partitions or records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupProtocol {
    /// The members share out partitions among themselves.
    Classic,
    /// The broker shares out partitions (KIP-848).
    Consumer,
    /// The broker shares out records (KIP-932): there are no offsets to drain up to.
    Share,
    /// The broker shares out Streams tasks (KIP-1071).
    Streams,
    /// Something that is not known here.
    Other(String),
}

/// A group as its coordinator describes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupDescription {
    /// How it shares out its work.
    pub protocol: GroupProtocol,
    /// What its members are to each other ("consumer", "connect"); empty for a classic group that only ever committed.
    pub protocol_type: String,
    /// The assignor that its members agreed on; `None` without members.
    pub assignor: Option<String>,
    /// Its state, as the coordinator writes it ("Stable", "Empty").
    pub state: String,
    /// Its live members; `None` where that is not told.
    pub members: Option<BTreeSet<Member>>,
    /// Topics that the members subscribe to or were assigned, as far as that is told.
    pub topics: BTreeSet<TopicName>,
}

/// Looks at a cluster without touching it. Who writes is [`ProducerSurvey`](super::ProducerSurvey)'s to tell, who may do what
/// [`ClusterAdmin`](super::ClusterAdmin)'s.
///
/// # Contract
///
/// 1. No call changes anything on the cluster or leaves anything behind.
/// 2. A thing that was asked for and did not answer is an `Err` in its place, never left out, empty or zero.
/// 3. A call that the cluster does not have is an error of kind `Unsupported`, never an empty answer.
/// 4. Answers are read after the call, not remembered.
/// 5. `reach` tries every address by itself; one that takes no connection is an `Err` with the reason.
#[async_trait]
pub trait ClusterSurvey: Send + Sync {
    /// The configs in force of some topics.
    ///
    /// # Errors
    /// Unreachable, unsupported.
    async fn topic_configs(
        &self,
        topics: &[TopicName],
    ) -> ProviderResult<BTreeMap<TopicName, Item<ConfigMap>>>;

    /// The configs in force of every broker, by broker id.
    ///
    /// # Errors
    /// Unreachable, unsupported.
    async fn broker_configs(&self) -> ProviderResult<BTreeMap<i32, Item<ConfigMap>>>;

    /// What the cluster would refuse if it were to make these topics. Nothing is made; of a topic that is there already, only
    /// configs that are not known are told.
    ///
    /// # Errors
    /// Unreachable, unsupported, not authorised.
    async fn refused_topics(&self, topics: &[NewTopic]) -> ProviderResult<RefusedTopics>;

    /// Every group of the cluster, whatever its protocol.
    ///
    /// # Errors
    /// Unreachable, unsupported; a broker that does not list its groups.
    async fn describe_groups(&self) -> ProviderResult<BTreeMap<GroupId, Item<GroupDescription>>>;

    /// Every transactional id that a coordinator knows, with its state in Kafka's own word ("Ongoing", "CompleteCommit").
    ///
    /// # Errors
    /// Unreachable; unsupported (before Kafka 3.0); a coordinator that does not list its ids.
    async fn transactional_ids(&self) -> ProviderResult<BTreeMap<String, String>>;

    /// How many bytes some topics' partitions take up, each at its largest replica.
    ///
    /// # Errors
    /// Unreachable, unsupported, not authorised.
    async fn sizes(&self, topics: &[TopicName]) -> ProviderResult<BTreeMap<TopicPartition, Item<u64>>>;

    /// How old the first record at or behind an offset is, in milliseconds before `now_ms`, by its own timestamp.
    ///
    /// # Errors
    /// Unreachable.
    async fn ages(
        &self,
        at: &BTreeMap<TopicPartition, Offset>,
        now_ms: i64,
    ) -> ProviderResult<BTreeMap<TopicPartition, Item<u64>>>;

    /// The `host:port` addresses that ordinary clients are sent to, where they come by another path than the controller;
    /// where nothing answers them at all, those that they begin at. `None`: the cluster's identity has them.
    async fn client_addresses(&self) -> Option<BTreeSet<String>> {
        None
    }

    /// Whether `host:port` addresses take a connection, by the ordinary clients' path.
    async fn reach(&self, addresses: &BTreeSet<String>) -> BTreeMap<String, Item<()>>;
}
