//! What the world answers to a command.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::connect::ConnectAnswer;
use crate::decisions::early_members::GroupThere;
use crate::decisions::stragglers::{LastRecord, PartitionWriters};
use crate::drain::Observation;
use crate::messages::MemberState;
use crate::owner::{OwnerRecord, Target};
use crate::ports::{
    ClusterIdentity, FenceKind, FenceProof, Incarnation, NewestIds, PartitionEnd, TopicDescription,
};
use crate::words::{EndpointKey, GroupId, Offset, Term, TopicName, TopicPartition};

/// Where groups start on a cluster if they have no commit there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StartOffsets {
    /// The cluster.
    pub on: Incarnation,
    /// Each group with its topics.
    pub groups: BTreeMap<GroupId, BTreeSet<TopicName>>,
    /// The start of the segments there.
    pub at: Vec<(TopicPartition, Offset)>,
}

/// What the world answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To any mutation that gives nothing back.
    Done,
    /// To [`Command::TakeTerm`](super::Command::TakeTerm).
    TermTaken {
        /// The term that is now in force.
        term: Term,
        /// The owner record as it now stands.
        owner: OwnerRecord,
        /// The incarnation that the endpoints point at.
        active: Incarnation,
    },
    /// To [`Command::Provision`](super::Command::Provision).
    Provisioned {
        /// The old one.
        old: Incarnation,
        /// The new one.
        new: Incarnation,
        /// Whether this cutover's request made it; otherwise it was there before.
        made: bool,
    },
    /// To [`Command::Verify`](super::Command::Verify).
    Verified {
        /// Who the old one is.
        old: ClusterIdentity,
        /// Who the new one is.
        new: ClusterIdentity,
        /// The old one's topics.
        topics: Vec<TopicDescription>,
        /// The TTL of each endpoint, in seconds.
        ttls: BTreeMap<EndpointKey, u32>,
    },
    /// To [`Command::MatchTopics`](super::Command::MatchTopics): topics are missing that it does not name. Nothing was made.
    TopicsMissing {
        /// All that are missing on the new one.
        topics: BTreeSet<TopicName>,
    },
    /// To [`Command::MatchTopics`](super::Command::MatchTopics).
    TopicsMatched {
        /// What differs, for people.
        notes: Vec<String>,
        /// The topics of the old one.
        there: Vec<TopicDescription>,
    },
    /// To [`Command::ListGroups`](super::Command::ListGroups): the groups, and whether the cluster could list them at all.
    Groups {
        /// Each group with the topics it has offsets on.
        listed: BTreeMap<GroupId, BTreeSet<TopicName>>,
        /// Whether the cluster can list groups.
        complete: bool,
    },
    /// To [`Command::SetStartOffsets`](super::Command::SetStartOffsets): partitions that were left alone because of a commit, by group.
    StartOffsetsSet {
        /// The partitions left alone.
        kept: BTreeMap<GroupId, Vec<TopicPartition>>,
    },
    /// To [`Command::Connect`](super::Command::Connect).
    Connect(ConnectAnswer),
    /// To [`Command::ProducerIds`](super::Command::ProducerIds).
    ProducerIds {
        /// The old cluster's newest ids.
        old: NewestIds,
        /// The new cluster's newest ids.
        new: NewestIds,
        /// The ids by which the new cluster's partitions know their writers, if they were asked for.
        live: Option<BTreeSet<u64>>,
    },
    /// To [`Command::ReadConfigs`](super::Command::ReadConfigs): the topics of each.
    Configs {
        /// The old one's.
        old: Vec<TopicDescription>,
        /// The new one's.
        new: Vec<TopicDescription>,
    },
    /// To [`Command::RestoreRetention`](super::Command::RestoreRetention).
    RetentionRestored {
        /// What was left as it is, and why, for people.
        left: Vec<String>,
    },
    /// To [`Command::SetTtl`](super::Command::SetTtl).
    TtlSet {
        /// Seconds that stood before.
        old_ttl_s: u32,
    },
    /// To [`Command::Recheck`](super::Command::Recheck).
    Rechecked {
        /// Who the old one is.
        old: ClusterIdentity,
        /// Who the new one is.
        new: ClusterIdentity,
        /// The old one's ends.
        old_ends: Vec<PartitionEnd>,
        /// The new one's ends: where its segments start.
        new_ends: Vec<PartitionEnd>,
        /// Topics that move (one may have been born since).
        topics: Vec<TopicDescription>,
    },
    /// To [`Command::ReadMembers`](super::Command::ReadMembers): the members that each cluster's topic names, in the command's order.
    Members {
        /// One list per cluster.
        by_cluster: Vec<Vec<MemberState>>,
    },
    /// To [`Command::Survey`](super::Command::Survey).
    Surveyed {
        /// Who writes, by partition; why the cluster cannot tell, where it cannot.
        partitions: Result<BTreeMap<TopicPartition, Result<PartitionWriters, String>>, String>,
        /// The last records, as far as they could be read.
        records: BTreeMap<TopicPartition, Vec<LastRecord>>,
    },
    /// To [`Command::RaiseFence`](super::Command::RaiseFence).
    FenceRaised {
        /// Which fence.
        kind: FenceKind,
    },
    /// To [`Command::ProveFence`](super::Command::ProveFence).
    FenceProven {
        /// The proof.
        proof: FenceProof,
    },
    /// To [`Command::ReadEnds`](super::Command::ReadEnds).
    Ends {
        /// The ends.
        ends: Vec<PartitionEnd>,
    },
    /// To [`Command::ListTopics`](super::Command::ListTopics).
    Topics {
        /// All that are there.
        there: Vec<TopicDescription>,
    },
    /// To [`Command::ObserveDrain`](super::Command::ObserveDrain).
    Drain {
        /// What was observed.
        seen: Observation,
        /// Groups that the cluster lists now.
        listed: BTreeMap<GroupId, BTreeSet<TopicName>>,
    },
    /// To [`Command::LookForEarly`](super::Command::LookForEarly): what the new cluster says about each of the groups; why it
    /// says nothing, if it does not.
    EarlyLooked {
        /// By group; one that is not there is left out.
        there: Result<BTreeMap<GroupId, Result<GroupThere, String>>, String>,
    },
    /// To [`Command::LookBehind`](super::Command::LookBehind).
    Behind {
        /// All topics that the old cluster has, and the ends of those that were closed and are there; or why it does not answer.
        found: Result<(Vec<TopicDescription>, Vec<PartitionEnd>), String>,
    },
    /// To [`Command::LookForFence`](super::Command::LookForFence).
    FenceTraces {
        /// The topics on which anything of a fence stands.
        topics: BTreeSet<TopicName>,
        /// Why not everything could be looked at, if it could not.
        blind: Option<String>,
        /// Where the fence cannot be asked, what a leader that refuses records said, as the error of who asked it.
        refusal: Option<String>,
    },
    /// To [`Command::FreshenStarts`](super::Command::FreshenStarts).
    StartsFresh {
        /// Why the new cluster does not answer, if it does not.
        silent: Option<String>,
    },
    /// To [`Command::Isolate`](super::Command::Isolate).
    Isolated {
        /// Whether clients are really shut out; a provisioner that cannot do it says no.
        shut_out: bool,
    },
    /// To [`Command::Reprove`](super::Command::Reprove) too: no fence stands any more where one was proven.
    Unfenced {
        /// What the proof was refused over.
        why: String,
    },
    /// To [`Command::Reprove`](super::Command::Reprove).
    Reproved {
        /// The target that owner record and every endpoint agree on.
        published: Target,
        /// Who the new one is; every leader there would take a record.
        new: ClusterIdentity,
        /// What was observed.
        seen: Observation,
        /// Groups that the cluster lists now.
        listed: BTreeMap<GroupId, BTreeSet<TopicName>>,
        /// The topics that the cluster has now.
        topics: Vec<TopicDescription>,
    },
}
