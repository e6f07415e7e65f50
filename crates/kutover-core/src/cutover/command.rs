//! What the machine asks of the world: data, comparable and printable.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::StartOffsets;
use super::connect::{ConnectAct, ConnectCommand};
use crate::chain::Chain;
use crate::decisions::raise::Raised;
use crate::owner::{Intent, RemovalMark, Target};
use crate::ports::Incarnation;
use crate::words::{
    ClusterId, Colour, EndpointKey, GroupId, IncarnationId, Nonce, Offset, TopicName, TopicPartition,
};

/// Names one command; answers carry it. A result with an id that nobody waits for is counted and ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub u64);

/// Something to be done. Every command says a state to be reached, so doing it again is harmless while the term holds,
/// and one whose outcome is unknown is looked up by doing it again: each looks before it acts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum Command {
    /// Raise the term in the owner record by compare-and-set. Where there is no owner record and `adopt` is set, make
    /// the first one for what the endpoints point at.
    TakeTerm {
        /// This controller's run.
        nonce: Nonce,
        /// The deployment may be new.
        adopt: bool,
        /// Earlier tries to adopt it whose outcome was not learnt: a record that carries one of these is ours.
        earlier: Vec<Nonce>,
    },
    /// Make sure that kutover's topics stand on these clusters, claim the term there, and say the published target.
    Claim {
        /// The term's nonce.
        nonce: Nonce,
        /// Where producers belong, as published.
        target: Target,
        /// The clusters.
        on: Vec<Incarnation>,
        /// Who lives there, as far as that was verified: another cluster must not be written to.
        known: BTreeMap<IncarnationId, ClusterId>,
    },
    /// Make sure that there is a cluster behind the colour. Answered with both colours' incarnations.
    Provision {
        /// The new colour.
        colour: Colour,
        /// Keys the request.
        request: Nonce,
    },
    /// Ask both clusters who they are and what topics the old one has; read the TTLs before anything changes them.
    Verify {
        /// The old one.
        old: Incarnation,
        /// The new one.
        new: Incarnation,
    },
    /// Give the new cluster the topics of the old one.
    MatchTopics {
        /// The old one.
        old: Incarnation,
        /// The new one.
        new: Incarnation,
        /// The topics that move.
        topics: BTreeSet<TopicName>,
        /// Whether what cannot be made alike is refused; on the way back, which is not to wait for it, it is noted.
        strict: bool,
        /// Where retention is raised for the time being: topics are compared, and made, as they were before.
        #[serde(default)]
        raised: Vec<Raised>,
        /// Topics that the journal names as made by this cutover: if others are missing, that is answered and nothing is
        /// made. `None`: what is missing is made unasked.
        #[serde(default)]
        named: Option<BTreeSet<TopicName>>,
    },
    /// Look which groups the old cluster has.
    ListGroups {
        /// The old one.
        old: Incarnation,
    },
    /// Set start offsets for groups on the new cluster where they have none.
    SetStartOffsets {
        /// The new one.
        new: Incarnation,
        /// Each group with its topics.
        groups: BTreeMap<GroupId, BTreeSet<TopicName>>,
        /// Where the next segments start if the cluster holds earlier ones; elsewhere they start at its ends.
        starts: Vec<(TopicPartition, Offset)>,
    },
    /// Do something about Kafka Connect's connectors.
    Connect(Box<ConnectCommand>),
    /// Look where producer ids stand on both clusters and, with a mark, use up the new one's towards it for as long as one
    /// call may take.
    ProducerIds {
        /// The old one.
        old: Incarnation,
        /// The new one.
        new: Incarnation,
        /// Topics whose writers on the new one are asked for, if they matter.
        writers_of: Option<BTreeSet<TopicName>>,
        /// The mark that every broker of the new one is to pass; `None`: they are only looked at.
        mark: Option<u64>,
    },
    /// Look what both clusters' topics have set themselves, before their retention is raised.
    ReadConfigs {
        /// The old one.
        old: Incarnation,
        /// The new one.
        new: Incarnation,
    },
    /// Raise retention (L11). What stood before is in here, and so in the journal before it is changed.
    RaiseRetention {
        /// What is to be raised, by cluster.
        raised: Vec<Raised>,
    },
    /// Set on one cluster what stood before retention was raised there; what somebody has changed meanwhile stays.
    RestoreRetention {
        /// Where, and what stood before.
        raised: Raised,
    },
    /// Set the endpoints' TTL. Answered with the one that stood before.
    SetTtl {
        /// Seconds; `None` is the one of ordinary times.
        ttl_s: Option<u32>,
        /// Seconds of single endpoints, which have another one.
        #[serde(default)]
        each: BTreeMap<EndpointKey, u32>,
    },
    /// Right before the switch: whether the new one's platform would pass traffic on to it; identities, topics and start
    /// offsets again, and both clusters' ends. Where a fence is required, the old cluster must be open to whoever is to prove
    /// it. A way back has no such look: nothing of the platform's is to bar it.
    Recheck {
        /// The old one.
        old: Incarnation,
        /// The new one.
        new: Incarnation,
        /// The topics that move.
        topics: BTreeSet<TopicName>,
        /// Each group with its topics.
        groups: BTreeMap<GroupId, BTreeSet<TopicName>>,
        /// As in [`Command::SetStartOffsets`].
        starts: Vec<(TopicPartition, Offset)>,
        /// As in [`Command::MatchTopics`].
        #[serde(default)]
        raised: Vec<Raised>,
    },
    /// Write the chain to the control topics of these clusters.
    WriteChain {
        /// The clusters.
        on: Vec<Incarnation>,
        /// The chain.
        chain: Chain,
    },
    /// Swap owner record and endpoint records.
    Publish {
        /// Where producers belong from now on.
        target: Target,
        /// The cluster that the endpoints are to point at.
        to: Incarnation,
        /// Marks the attempt.
        nonce: Nonce,
    },
    /// Say the target in both control topics.
    Announce {
        /// The target.
        target: Target,
        /// The clusters.
        on: Vec<Incarnation>,
    },
    /// Read the members topics of both clusters.
    ReadMembers {
        /// The clusters.
        on: Vec<Incarnation>,
    },
    /// Look who writes to the old cluster.
    Survey {
        /// The old one.
        old: Incarnation,
        /// The partitions.
        partitions: Vec<TopicPartition>,
        /// Partitions of which the last records are wanted, to recognise their writers by.
        records_of: BTreeSet<TopicPartition>,
    },
    /// Announce a fence on the old cluster and put it up.
    RaiseFence {
        /// The old one.
        old: Incarnation,
        /// Where it is announced.
        on: Vec<Incarnation>,
        /// The topics.
        topics: BTreeSet<TopicName>,
    },
    /// Prove that every leader refuses, and read the ends behind the fence.
    ProveFence {
        /// The old one.
        old: Incarnation,
        /// The topics.
        topics: BTreeSet<TopicName>,
    },
    /// Read the old cluster's ends (where the fence was waived).
    ReadEnds {
        /// The old one.
        old: Incarnation,
        /// The topics.
        topics: BTreeSet<TopicName>,
    },
    /// Look which topics the old cluster has.
    ListTopics {
        /// The old one.
        old: Incarnation,
    },
    /// Observe how far groups have read the old cluster.
    ObserveDrain {
        /// The old one.
        old: Incarnation,
        /// Each group with its topics.
        groups: BTreeMap<GroupId, BTreeSet<TopicName>>,
        /// The partitions.
        partitions: Vec<TopicPartition>,
    },
    /// Look whether groups that must still read the old cluster are on the new one already (L19).
    LookForEarly {
        /// The new one.
        new: Incarnation,
        /// Each group with its topics.
        groups: BTreeMap<GroupId, BTreeSet<TopicName>>,
        /// Where groups start there.
        starts: Vec<(TopicPartition, Offset)>,
    },
    /// Look whether anything has come to the old cluster behind its closed ends, or its topics have changed (L12).
    LookBehind {
        /// The old one.
        old: Incarnation,
        /// The topics that were closed.
        topics: BTreeSet<TopicName>,
    },
    /// Set start offsets again where a group has none on the cluster that it is led to: those that were set before expire if
    /// the switch or the drain takes long (L7). A group that lives there already refuses, which is no harm.
    FreshenStarts {
        /// Groups, and where they start.
        starts: Vec<StartOffsets>,
    },
    /// Shut clients out of the old cluster.
    Isolate {
        /// The old one.
        old: Incarnation,
        /// Names the isolation.
        nonce: Nonce,
    },
    /// After isolation: endpoints, ends and drain once more; the fence too where isolation could not be had. And that the
    /// new cluster serves: what is removed then is the last way home.
    Reprove {
        /// The old one.
        old: Incarnation,
        /// The new one.
        new: Incarnation,
        /// Each group with its topics.
        groups: BTreeMap<GroupId, BTreeSet<TopicName>>,
        /// The topics.
        topics: BTreeSet<TopicName>,
        /// Whether the fence must be proven again, because clients can still reach the cluster.
        fence_too: bool,
    },
    /// Write the mark of removal into the owner record.
    MarkRemoval {
        /// The mark.
        mark: RemovalMark,
        /// Marks the attempt.
        nonce: Nonce,
    },
    /// Remove the marked incarnation.
    Destroy {
        /// The colour it stood behind.
        colour: Colour,
        /// The mark.
        mark: RemovalMark,
    },
    /// Take the mark out of the owner record and restore the TTL.
    Tidy {
        /// Seconds.
        ttl_s: u32,
        /// Seconds of single endpoints, which have another one.
        #[serde(default)]
        each: BTreeMap<EndpointKey, u32>,
        /// Marks the attempt.
        nonce: Nonce,
    },
    /// Say in owner record and control topics that a rollback has been decided on. Refused once a removal is marked.
    WriteIntent {
        /// The rollback.
        intent: Intent,
        /// A mark that this cutover may have written without learning it. Nothing was destroyed on it, so it is taken out
        /// along with the intent; any other stands.
        unmark: Option<RemovalMark>,
        /// Marks the attempt.
        nonce: Nonce,
        /// The term's nonce: the second cluster's control topic is claimed along with it.
        claim: Nonce,
        /// The cluster that is gone back to.
        on: Incarnation,
        /// The cluster that is left, told if it answers.
        also: Incarnation,
    },
    /// Look whether anything of a fence of kutover's own make stands on a cluster, whoever raised it; where it cannot be asked,
    /// whether leaders take records.
    LookForFence {
        /// The cluster.
        on: Incarnation,
    },
    /// Make sure that a cluster takes clients and records: nothing of kutover's shuts them out.
    Reopen {
        /// The cluster.
        on: Incarnation,
        /// The topics; `None`: all.
        topics: Option<BTreeSet<TopicName>>,
        /// Isolations of these names are undone.
        isolations: Vec<Nonce>,
        /// Whether every leader has to be asked if it would take a record.
        prove: bool,
    },
    /// Undo a preparation: topics made on the new cluster, or the new cluster itself where this cutover made it.
    Discard {
        /// The new colour; never one that was published.
        colour: Colour,
        /// Its incarnation, if it is known; otherwise whatever stands behind the colour, since a provisioning whose
        /// outcome is unknown may have left something.
        new: Option<Incarnation>,
        /// Where producers belong: the record must still say so.
        keep: Target,
        /// Who the new one is, as far as it was verified: a dead one can then be removed all the same.
        cluster_id: Option<ClusterId>,
        /// Clusters that hold or have held segments of the chain: they were published once and are never discarded.
        published: BTreeSet<ClusterId>,
        /// Topics that this cutover made.
        created: BTreeSet<TopicName>,
        /// The request that would have made it.
        request: Nonce,
        /// Whether it was there before this cutover: then it stays. `None` if that was not learnt, and the provisioner is
        /// to say.
        kept: Option<bool>,
    },
}

impl Command {
    /// Whether it changes the world: its intent is journalled before it runs.
    pub fn is_mutation(&self) -> bool {
        if let Command::Connect(connect) = self {
            return !matches!(connect.act, ConnectAct::Find | ConnectAct::See);
        }
        !matches!(
            self,
            Command::Verify { .. }
                | Command::ListGroups { .. }
                | Command::ReadConfigs { .. }
                | Command::LookForEarly { .. }
                | Command::LookBehind { .. }
                | Command::LookForFence { .. }
                | Command::ProducerIds { mark: None, .. }
                | Command::ReadMembers { .. }
                | Command::Survey { .. }
                | Command::ProveFence { .. }
                | Command::ReadEnds { .. }
                | Command::ListTopics { .. }
                | Command::ObserveDrain { .. }
                // Where it was done already it changes nothing, so that nobody needs to know of it.
                | Command::FreshenStarts { .. }
                | Command::Reprove { .. }
        )
    }

    /// Its name, for people and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Command::TakeTerm { .. } => "take the term",
            Command::Claim { .. } => "claim the control topics",
            Command::Provision { .. } => "provision",
            Command::Verify { .. } => "verify both clusters",
            Command::MatchTopics { .. } => "match topics",
            Command::ListGroups { .. } => "list groups",
            Command::SetStartOffsets { .. } => "set start offsets",
            Command::Connect(connect) => connect.act.name(),
            Command::ProducerIds { mark: None, .. } => "read producer ids",
            Command::ProducerIds { mark: Some(_), .. } => "use up producer ids",
            Command::ReadConfigs { .. } => "read configs",
            Command::RaiseRetention { .. } => "raise retention",
            Command::RestoreRetention { .. } => "restore retention",
            Command::SetTtl { .. } => "set the TTL",
            Command::Recheck { .. } => "check again",
            Command::WriteChain { .. } => "write the chain",
            Command::Publish { .. } => "publish the target",
            Command::Announce { .. } => "announce the target",
            Command::ReadMembers { .. } => "read members",
            Command::Survey { .. } => "look who writes",
            Command::RaiseFence { .. } => "raise the fence",
            Command::ProveFence { .. } => "prove the fence",
            Command::ReadEnds { .. } => "read ends",
            Command::ListTopics { .. } => "list topics",
            Command::ObserveDrain { .. } => "observe the drain",
            Command::LookForEarly { .. } => "look for early members",
            Command::LookBehind { .. } => "look behind the closed ends",
            Command::FreshenStarts { .. } => "freshen start offsets",
            Command::Isolate { .. } => "isolate",
            Command::Reprove { .. } => "prove once more",
            Command::MarkRemoval { .. } => "mark the removal",
            Command::Destroy { .. } => "destroy",
            Command::Tidy { .. } => "tidy up",
            Command::WriteIntent { .. } => "write the intent",
            Command::LookForFence { .. } => "look for a left-over fence",
            Command::Reopen { .. } => "reopen",
            Command::Discard { .. } => "discard",
        }
    }
}
