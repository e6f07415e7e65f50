//! What the controller does to a cluster besides asking for lag.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Access, NewAccess, ScramUsers};
use crate::error::{ErrorKind, ProviderError, ProviderResult};
use crate::words::{ClusterId, GroupId, Offset, TopicId, TopicName, TopicPartition};

/// Who a cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// Kafka's own id of it.
    pub cluster_id: ClusterId,
    /// `host:port` of every broker as it advertises itself to clients, in ascending order.
    pub brokers: BTreeSet<String>,
    /// Its version as far as it can be told ("4.x", "3.9"), for people.
    pub version: Option<String>,
}

/// A topic as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TopicDescription {
    /// Its name.
    pub name: TopicName,
    /// Its id, where the cluster knows topic ids.
    pub id: Option<TopicId>,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas each of them has.
    pub replication: i16,
    /// Configs set on the topic itself. `None` where the cluster cannot tell (embedded).
    pub configs: Option<BTreeMap<String, String>>,
    /// What holds where the topic sets nothing itself, of the configs that parity compares
    /// ([`COMPARED_IN_FORCE`](crate::parity::COMPARED_IN_FORCE)): one value, unless the brokers differ. What is missing cannot
    /// be told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub defaults: BTreeMap<String, BTreeSet<String>>,
}

impl TopicDescription {
    /// A config's value in force: set on the topic, or the default. `None` if it cannot be told, or brokers differ.
    pub fn in_force(&self, config: &str) -> Option<&String> {
        let default = || self.defaults.get(config).filter(|all| all.len() == 1)?.first();
        self.configs.as_ref()?.get(config).or_else(default)
    }
}

/// A topic to be made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NewTopic {
    /// Its name.
    pub name: TopicName,
    /// How many partitions.
    pub partitions: i32,
    /// How many replicas each; the cluster may have fewer brokers, then as many as it has. Whoever cannot do with fewer
    /// looks at what was made.
    pub replication: i16,
    /// Configs to set.
    pub configs: BTreeMap<String, String>,
}

/// Values for topics' configs, by topic and config; `None` takes away what a topic has set itself.
pub type TopicConfigs = BTreeMap<TopicName, BTreeMap<String, Option<String>>>;

/// The groups of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "groups")]
pub enum GroupListing {
    /// All of them, with the topics on which each has committed offsets.
    Listed(BTreeMap<GroupId, BTreeSet<TopicName>>),
    /// The cluster cannot list groups (embedded): only groups that the plan names are known.
    Unsupported,
}

impl GroupListing {
    /// What was listed; nothing where the cluster cannot.
    pub fn listed(&self) -> &BTreeMap<GroupId, BTreeSet<TopicName>> {
        static NONE: BTreeMap<GroupId, BTreeSet<TopicName>> = BTreeMap::new();
        match self {
            Self::Listed(groups) => groups,
            Self::Unsupported => &NONE,
        }
    }
}

/// How a cluster is made to refuse records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FenceKind {
    /// Deny Write for everyone on each topic, with Allow Read where a topic had no ACL at all.
    Acl,
    /// `max.message.bytes=0` on each topic.
    Size,
    /// A command of the operator's.
    Exec,
    /// The embedded cluster's own hook.
    Hook,
}

/// The proof that a fence stands: every leader refused, no transaction was open, and the ends stood still.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FenceProof {
    /// The kind of fence.
    pub kind: FenceKind,
    /// The topics' ids and partition counts at the time.
    pub topics: BTreeMap<TopicName, (Option<TopicId>, i32)>,
    /// Each partition's end and the leader epoch it was read in.
    pub ends: Vec<PartitionEnd>,
}

/// The end of one partition's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PartitionEnd {
    /// The partition.
    pub place: TopicPartition,
    /// The first offset still there.
    pub start: Offset,
    /// The last stable offset: the first one that a `read_committed` reader cannot get to. Below the high watermark a
    /// transaction is open, whose marker is still to come. Read no later than the high watermark: where the two are equal,
    /// nothing was open then, and no marker came in between. A journal of before knows none, and whoever takes it up reads
    /// ends anew.
    #[serde(default = "unknown")]
    pub stable_end: Offset,
    /// The high watermark: what readers can get to.
    pub high_watermark: Offset,
    /// The leader's own log end, where the cluster can tell; where it differs, replicas are behind.
    pub leader_end: Option<Offset>,
    /// The leader epoch, where known.
    pub epoch: Option<i32>,
}

fn unknown() -> Offset {
    Offset(0)
}

/// What the controller does to one cluster.
///
/// # Contract
///
/// 1. `identity` asks the cluster itself each time.
/// 2. `create_topic` of a topic that exists with at least that many partitions is `Ok`; with fewer, partitions are
///    added. A config that the cluster does not know is `Refused`, names the config, and creates nothing.
/// 3. `set_start_offsets` never moves a group's commit; it gives back the partitions that it left alone over one. What
///    stands at the wanted offset already may be committed again, so that it does not expire before the group comes.
/// 4. `raise_fence` and `lift_fence` are repeatable. `lift_fence` takes away all that `raise_fence` ever added and
///    nothing else, also after a crash between its parts. Readers keep reading under the fence: one that shuts out an ordinary
///    client which could read before is taken away again, and `raise_fence` is `Refused` and names the topic.
/// 5. `prove_fence` writes nothing, is done as an ordinary client, per partition leader, and is `Ok` only if every
///    one refused, no transaction was open (its marker passes a fence, and would come behind the end) and the ends were
///    the same in two reads; a leader that accepts or is silent, or an open transaction, is an error that names the
///    partition.
/// 6. `prove_open` writes nothing, is done as an ordinary client, per partition leader, and is `Ok` only if every one
///    would take a record.
/// 7. kutover's own topics and Kafka's internal ones are never fenced, whatever is asked.
/// 8. `access` tells each part whole, or that the cluster has no such thing; the fence's own rules are no part of it.
/// 9. `grant` adds what it is given, is repeatable, and takes nothing away that was there before.
/// 10. `alter_configs` sets and takes away exactly what it is given and is repeatable, also where there is nothing to take
///     away; once it is `Ok`, `topics` tells so.
/// 11. `fence_traces` names the topics on which anything stands that a `raise_fence` adds, whole or half lifted, whoever
///     raised it and whatever kind of fence is in use by now; what only looks like it is not named. `lift_fence` takes all
///     that is named away.
#[async_trait]
pub trait ClusterAdmin: Send + Sync {
    /// Who the cluster is.
    ///
    /// # Errors
    /// Unreachable.
    async fn identity(&self) -> ProviderResult<ClusterIdentity>;

    /// Every topic that is not internal to Kafka.
    ///
    /// # Errors
    /// Unreachable; a topic that was not described is an error, not left out.
    async fn topics(&self) -> ProviderResult<Vec<TopicDescription>>;

    /// Makes sure that a topic is there.
    ///
    /// # Errors
    /// As the contract says.
    async fn create_topic(&self, topic: &NewTopic) -> ProviderResult<()>;

    /// Deletes topics that this cutover created; a topic that is not there is `Ok`.
    ///
    /// # Errors
    /// Unreachable, not authorised.
    async fn delete_topics(&self, topics: &[TopicName]) -> ProviderResult<()>;

    /// Who may do what on the cluster, and how much.
    ///
    /// # Errors
    /// Unreachable, not authorised; a part that was not told is an error, not left out.
    async fn access(&self) -> ProviderResult<Access>;

    /// Gives the cluster rules, quotas and SCRAM users that it lacks. Gives back the users that it did not make because
    /// nobody has told it a password for them.
    ///
    /// # Errors
    /// Not authorised; `Unsupported` where the cluster has no such thing.
    async fn grant(&self, access: &NewAccess) -> ProviderResult<ScramUsers>;

    /// The cluster's consumer groups.
    ///
    /// # Errors
    /// Unreachable; a group that did not answer is an error, not left out.
    async fn groups(&self) -> ProviderResult<GroupListing>;

    /// The ends of all partitions of some topics.
    ///
    /// # Errors
    /// A partition without an answer is an error that names it.
    async fn ends(&self, topics: &[TopicName]) -> ProviderResult<Vec<PartitionEnd>>;

    /// Sets a group's start offsets where it has none. Gives the partitions it left alone because of a commit.
    ///
    /// # Errors
    /// Unreachable, or the group has live members and the cluster refuses.
    async fn set_start_offsets(
        &self,
        group: &GroupId,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> ProviderResult<Vec<TopicPartition>>;

    /// Makes the cluster refuse records for these topics.
    ///
    /// # Errors
    /// `Unsupported` where the cluster has nothing to fence with; the text says what the user can do. `Refused` as the contract
    /// says.
    async fn raise_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceKind>;

    /// Proves that the fence stands, and reads the ends behind it.
    ///
    /// # Errors
    /// As the contract says.
    async fn prove_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceProof>;

    /// Takes the fence away, whole.
    ///
    /// # Errors
    /// Unreachable, not authorised.
    async fn lift_fence(&self, topics: &[TopicName]) -> ProviderResult<()>;

    /// Sets configs on topics, or takes them away.
    ///
    /// # Errors
    /// `Unsupported` where the cluster has none; not authorised; `NotFound` for a topic that is not there.
    async fn alter_configs(&self, configs: &TopicConfigs) -> ProviderResult<()>;

    /// The topics on which anything of a fence stands.
    ///
    /// # Errors
    /// Unreachable, not authorised; `Unsupported` where the fence in use cannot tell, and leaders have to be asked.
    async fn fence_traces(&self) -> ProviderResult<BTreeSet<TopicName>>;

    /// Proves that ordinary clients can write.
    ///
    /// # Errors
    /// As the contract says; the partition is named.
    async fn prove_open(&self, topics: &[TopicName]) -> ProviderResult<()>;
}

/// What makes a cluster refuse records: the part of [`ClusterAdmin`] that differs from fence to fence.
///
/// # Contract
///
/// 1. `raise` and `lift` are repeatable and touch the named topics only, never kutover's own or Kafka's internal ones.
/// 2. `lift` takes away all that `raise` ever added, also by an earlier process that died half way.
/// 3. Readers keep reading while it is up.
/// 4. `traces` names the topics on which anything stands that a `raise` added, also one of an earlier process.
#[async_trait]
pub trait FenceSwitch: Send + Sync {
    /// Which fence this is.
    fn kind(&self) -> FenceKind;

    /// Puts it up.
    ///
    /// # Errors
    /// `Unsupported` where the cluster has nothing to fence with.
    async fn raise(&self, topics: &[TopicName]) -> ProviderResult<()>;

    /// Takes it away.
    ///
    /// # Errors
    /// Unreachable, not authorised.
    async fn lift(&self, topics: &[TopicName]) -> ProviderResult<()>;

    /// The topics on which anything of it stands.
    ///
    /// # Errors
    /// `Unsupported` where it cannot be asked, which is so if this is not implemented; unreachable, not authorised.
    async fn traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
        let reason = "this fence cannot be asked where it stands";
        Err(ProviderError::new(ErrorKind::Unsupported, "look for traces of a fence", reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends stand in journals, whose records are read for as long as a deployment lives.
    #[test]
    fn an_end_of_an_older_journal_is_read_and_claims_nothing() {
        let older = r#"{"place":{"topic":"orders","partition":3},"start":4,"high_watermark":9,"leader_end":9,"epoch":1}"#;
        let end: PartitionEnd = serde_json::from_str(older).unwrap();
        assert_eq!((end.high_watermark, end.stable_end), (Offset(9), Offset(0)));
    }
}
