//! Where a cutover stands. Each state carries exactly its own data, and what a later state needs can only be had from
//! an earlier one: there is no way to make a [`Closed`] without a [`Redirected`], or that without a [`Prepared`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::state_name::StateName;
use super::way_back::{Rollback, WayBack};
use super::{Connectors, Moved};
use crate::chain::{Chain, ClosedBy};
use crate::decisions::raise::Raised;
use crate::decisions::separation::Given;
use crate::drain::ReadOut;
use crate::owner::{RemovalMark, Target};
use crate::ports::{ClusterIdentity, Incarnation};
use crate::words::{ClusterId, EndpointKey, Generation, GroupId, Offset, TopicId, TopicName, TopicPartition};

/// A cluster that has said who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Side {
    /// The infrastructure.
    pub incarnation: Incarnation,
    /// Who lives there.
    pub identity: ClusterIdentity,
}

/// Two distinct clusters, and the topics that move (with their partition counts).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verified {
    /// The one that producers leave.
    pub old: Side,
    /// The one that they move to.
    pub new: Side,
    /// The topics that move, with their partition counts.
    pub topics: BTreeMap<TopicName, i32>,
}

impl Verified {
    /// Both incarnations, old first.
    pub fn both(&self) -> Vec<Incarnation> {
        vec![self.old.incarnation.clone(), self.new.incarnation.clone()]
    }

    /// The names of the topics that move.
    pub fn topic_names(&self) -> BTreeSet<TopicName> {
        self.topics.keys().cloned().collect()
    }

    /// Every partition of the topics that move.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.topics
            .iter()
            .flat_map(|(topic, count)| {
                (0..*count).map(|partition| TopicPartition { topic: topic.clone(), partition })
            })
            .collect()
    }
}

/// What preparing has come to so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Draft {
    /// Topics that this cutover made on the new cluster, or was about to make: it had none of that name.
    pub created: BTreeSet<TopicName>,
    /// Groups that must read the old cluster to its end, with their topics.
    pub groups: BTreeMap<GroupId, BTreeSet<TopicName>>,
    /// The TTL that stood before: the longest of all endpoints.
    pub old_ttl_s: u32,
    /// That of each endpoint. A journal of before does not tell.
    #[serde(default)]
    pub old_ttls: BTreeMap<EndpointKey, u32>,
    /// The mark that the new cluster's producer ids have passed; `None` where they were not separated.
    #[serde(default)]
    pub id_mark: Option<u64>,
    /// Whether the new cluster may have been opened again, if it has served before. A journal of before does not tell.
    #[serde(default = "unknown")]
    pub reopened: bool,
    /// Where retention is raised, or may be, with what stood before.
    #[serde(default)]
    pub raised: Vec<Raised>,
    /// Connectors that move along.
    #[serde(default)]
    pub connectors: Connectors,
    /// Where the old cluster's logs began right before the switch, as far as the journal tells: what was gone is nobody's.
    #[serde(default)]
    pub log_starts: Vec<(TopicPartition, Offset)>,
}

const fn unknown() -> bool {
    true
}
/// A new cluster that is ready to take over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prepared {
    /// The clusters.
    pub verified: Verified,
    /// What was prepared.
    pub draft: Draft,
}

impl Prepared {
    /// Groups with what they must read on the old cluster. A topic that is gone there they may still read on the new one.
    pub(super) fn must_read(&self) -> BTreeMap<GroupId, BTreeSet<TopicName>> {
        let there = |topic: &&TopicName| self.verified.topics.contains_key(*topic);
        let of = |(group, topics): (&GroupId, &BTreeSet<TopicName>)| {
            (group.clone(), topics.iter().filter(there).cloned().collect())
        };
        self.draft.groups.iter().map(of).collect()
    }
}

/// A deployment whose endpoints point at the new cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Redirected {
    /// What was prepared.
    pub prepared: Prepared,
    /// The generation whose segments are on the old cluster.
    pub left: Generation,
    /// Where producers belong.
    pub target: Target,
}

impl Redirected {
    /// What was published; the generation that was left is the one before it.
    pub(super) fn of(prepared: Prepared, target: Target) -> Self {
        let left = Generation(target.generation.0 - 1);
        Self { prepared, left, target }
    }

    /// The mark under which the old cluster would be removed: the incarnation that was proven, under its proven cluster id.
    pub(super) fn mark(&self) -> RemovalMark {
        let old = &self.prepared.verified.old;
        RemovalMark { incarnation: old.incarnation.id.clone(), cluster_id: old.identity.cluster_id.clone() }
    }
}

/// An old cluster whose ends are final. The ends themselves are in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Closed {
    /// Where producers belong, and what came before.
    pub redirected: Redirected,
    /// Why the ends are final.
    pub by: ClosedBy,
    /// The topics' ids when they were closed, where the cluster knows ids: a re-created topic has another.
    pub topic_ids: BTreeMap<TopicName, TopicId>,
    /// Whether groups have read it to its end, so that sinks can go on to the new cluster.
    #[serde(default)]
    pub sinks_move: bool,
    /// Groups that were seen to have nothing left to read before an end, whose markers may go before the last proof.
    #[serde(default)]
    pub read_out: ReadOut,
}

impl Closed {
    pub(super) fn new(redirected: Redirected, by: ClosedBy, topic_ids: BTreeMap<TopicName, TopicId>) -> Self {
        Self { redirected, by, topic_ids, sinks_move: false, read_out: ReadOut::default() }
    }

    /// The mark that names what is to be removed.
    pub fn mark(&self) -> RemovalMark {
        self.redirected.mark()
    }
}

/// What an abort has to undo.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Undo {
    /// Whether a new cluster was asked for.
    pub provisioned: bool,
    /// The new cluster, as far as it is known.
    pub new: Option<Incarnation>,
    /// Who it is, as far as that was verified.
    pub cluster_id: Option<ClusterId>,
    /// The old cluster, if the new generation's segments may have been written to its control topic: by this run or by
    /// one before it.
    pub chain_on: Option<Incarnation>,
    /// Topics that this cutover made there.
    pub created: BTreeSet<TopicName>,
    /// Topics that are fenced there again, if it has served before: none where it was not opened.
    pub fence: BTreeSet<TopicName>,
    /// Where retention was raised, or may have been.
    #[serde(default)]
    pub raised: Vec<Raised>,
    /// Connectors that may have been made there, and sources that may stand still.
    #[serde(default)]
    pub connect: Option<Box<Moved>>,
    /// Whether the TTL may have been changed.
    pub ttl: bool,
    /// The TTL that stood before, the longest of all endpoints; 0 if that was not learnt.
    pub old_ttl_s: u32,
    /// That of each endpoint, as far as it was learnt.
    #[serde(default)]
    pub old_ttls: BTreeMap<EndpointKey, u32>,
    /// Why.
    pub reason: String,
}

/// Steps of [`State::Preparing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preparation {
    /// Connectors are found.
    Connectors,
    /// The new cluster gets the old one's topics.
    Topics,
    /// kutover's own topics stand on both clusters, under this term.
    Claim,
    /// Connectors are made on the new cluster, stopped.
    CreateConnectors,
    /// Groups are recorded.
    Groups,
    /// Groups get start offsets on the new cluster.
    StartOffsets,
    /// The new cluster's producer ids pass all that others gave out.
    Ids,
    /// What retention is set to is looked at.
    Retention,
    /// Retention is raised.
    Raise,
    /// The TTL is lowered.
    Ttl,
    /// The old TTL is waited out.
    OldTtl,
}

/// Steps of [`State::Redirecting`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Redirection {
    /// Producer ids are still apart.
    Ids,
    /// Everything is looked at once more.
    Recheck,
    /// The new generation's segments are written before they take their first record.
    Chain(Target),
    /// A cluster that was left in an earlier cutover takes records again.
    Reopen(Target),
    /// Sources are stopped on the old cluster, and how far they came is carried to the new one.
    HandOver(Target),
    /// Owner record and DNS.
    Publish(Target),
    /// The control topics.
    Announce(Target),
    /// Sources go on on the new cluster.
    Start(Target),
}

/// Steps of [`State::Fencing`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fencing {
    /// The fence goes up.
    Raise,
    /// Every leader refuses.
    Prove,
    /// Without a fence: the ends must stand still for the quiet window.
    Quiet(Vec<(TopicPartition, Offset)>),
    /// The closed chain is written.
    Chain(ClosedBy, BTreeMap<TopicName, TopicId>),
    /// Producer ids are still apart: from here on whoever comes along has its id from before.
    Ids(ClosedBy, BTreeMap<TopicName, TopicId>),
}

/// Steps of [`State::Isolating`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// No producer may be alive on the old cluster. Holds heartbeats of the first of two looks.
    Members(Vec<(String, u64)>),
    /// Clients are shut out.
    Isolate,
}

/// Steps of [`State::Retiring`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retirement {
    /// The old cluster stays. What nobody would find there any more is looked for all the same.
    Keep,
    /// Everything that the removal rests on is proven once more.
    Prove,
    /// Somebody has taken the fence away: it is raised again. The flag says whether the old cluster stays.
    FenceAgain(bool),
    /// The old cluster is dead, and the operator has given it up: the chain says so on the new one.
    Abandoned,
    /// A person has to say so.
    Approval,
    /// The mark goes into the owner record. From here on there is no way back.
    Mark,
    /// The old cluster's connectors go. The flag says whether its removal is marked; otherwise it stays.
    Connectors(bool),
    /// The marked incarnation is destroyed.
    Destroy,
    /// The mark goes, the TTL is restored.
    Tidy,
}

/// Steps of [`State::Aborting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undoing {
    /// The chain says again what it said before.
    Chain,
    /// Sources go on on the old cluster.
    Connectors,
    /// Connectors that were made on the new cluster go.
    ConnectorsGone,
    /// A new cluster that has served before is fenced again.
    Fence,
    /// Retention and TTL are restored.
    Ttl,
    /// The new cluster goes.
    Discard,
}

/// Where a cutover stands. Each state carries exactly its own data.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing has been done.
    Planned,
    /// A cluster is being made behind the standby colour.
    Provisioning,
    /// Both clusters are asked who they are.
    Verifying(Incarnation, Incarnation),
    /// The new cluster is being prepared.
    Preparing(Verified, Draft, Preparation),
    /// Waiting for approval.
    Ready(Prepared),
    /// Producers are being pointed at the new cluster.
    Redirecting(Prepared, Redirection),
    /// Receipts come in.
    Converging(Redirected),
    /// What remains is refused; segments close.
    Fencing(Redirected, Fencing),
    /// Groups read the old cluster to its end.
    Draining(Closed),
    /// The drained old cluster is kept for a while.
    Soaking(Closed),
    /// Clients are shut out of the old cluster.
    Isolating(Closed, Isolation),
    /// The old cluster is proven once more and removed. The flag says whether clients are really shut out.
    Retiring(Closed, bool, Retirement),
    /// The old cluster is gone (or stays by plan, fenced).
    Complete,
    /// What was prepared is being undone.
    Aborting(Undo, Undoing),
    /// Producers are being led back to the old cluster.
    RollingBack(WayBack, Rollback),
    /// The old cluster serves again; the other is read to its end (or given up) and stays fenced. Holds why.
    RolledBack(String),
    /// The old cluster serves as before, and nothing was left behind. Holds why it was aborted.
    Aborted(String),
}

impl State {
    /// Its name.
    pub fn name(&self) -> StateName {
        match self {
            State::Planned => StateName::Planned,
            State::Provisioning => StateName::Provisioning,
            State::Verifying(..) => StateName::Verifying,
            State::Preparing(..) => StateName::Preparing,
            State::Ready(..) => StateName::Ready,
            State::Redirecting(..) => StateName::Redirecting,
            State::Converging(..) => StateName::Converging,
            State::Fencing(..) => StateName::Fencing,
            State::Draining(..) => StateName::Draining,
            State::Soaking(..) => StateName::Soaking,
            State::Isolating(..) => StateName::Isolating,
            State::Retiring(..) => StateName::Retiring,
            State::Complete => StateName::Complete,
            State::Aborting(..) => StateName::Aborting,
            State::Aborted(_) => StateName::Aborted,
            State::RollingBack(..) => StateName::RollingBack,
            State::RolledBack(_) => StateName::RolledBack,
        }
    }

    /// What an abort would have to undo; `None` where there is no aborting any more (from the publication on) or
    /// nothing under way.
    pub fn undo(&self, reason: &str) -> Option<Undo> {
        let nothing = Undo {
            provisioned: !matches!(self, State::Planned),
            new: None,
            cluster_id: None,
            chain_on: None,
            created: BTreeSet::new(),
            fence: BTreeSet::new(),
            raised: Vec::new(),
            connect: None,
            ttl: false,
            old_ttl_s: 0,
            old_ttls: BTreeMap::new(),
            reason: reason.to_owned(),
        };
        let known = |verified: &Verified, draft: &Draft| Undo {
            chain_on: Some(verified.old.incarnation.clone()),
            fence: if draft.reopened { verified.topic_names() } else { BTreeSet::new() },
            new: Some(verified.new.incarnation.clone()),
            cluster_id: Some(verified.new.identity.cluster_id.clone()),
            created: draft.created.clone(),
            raised: draft.raised.clone(),
            connect: Moved::of(verified, draft),
            ttl: draft.old_ttl_s > 0,
            old_ttl_s: draft.old_ttl_s,
            old_ttls: draft.old_ttls.clone(),
            ..nothing.clone()
        };
        match self {
            State::Planned | State::Provisioning => Some(nothing),
            State::Verifying(_, new) => Some(Undo { new: Some(new.clone()), ..nothing }),
            State::Preparing(verified, draft, Preparation::Ttl | Preparation::OldTtl) => {
                Some(Undo { ttl: true, ..known(verified, draft) })
            }
            // A preparation that was begun again from Redirecting has changed the TTL before.
            State::Preparing(verified, draft, _) => Some(known(verified, draft)),
            State::Ready(prepared)
            | State::Redirecting(
                prepared,
                Redirection::Ids
                | Redirection::Recheck
                | Redirection::Chain(_)
                | Redirection::Reopen(_)
                | Redirection::HandOver(_),
            ) => Some(known(&prepared.verified, &prepared.draft)),
            _ => None,
        }
    }

    /// The clusters on which kutover's topics stand, and the term must be claimed, in this state.
    pub fn claimable(&self) -> Vec<Incarnation> {
        match self {
            State::Planned
            | State::Provisioning
            | State::Verifying(..)
            | State::Complete
            | State::Aborted(_)
            | State::RolledBack(_) => vec![],
            State::Preparing(verified, _, Preparation::Connectors | Preparation::Topics) => {
                vec![verified.old.incarnation.clone()]
            }
            State::Preparing(verified, ..) => verified.both(),
            State::Ready(prepared) | State::Redirecting(prepared, _) => prepared.verified.both(),
            State::Converging(redirected) | State::Fencing(redirected, _) => {
                redirected.prepared.verified.both()
            }
            State::Draining(closed)
            | State::Soaking(closed)
            | State::Isolating(closed, _)
            | State::Retiring(
                closed,
                _,
                Retirement::Keep | Retirement::Prove | Retirement::FenceAgain(_) | Retirement::Approval,
            ) => closed.redirected.prepared.verified.both(),
            State::Retiring(closed, ..) => vec![closed.redirected.prepared.verified.new.incarnation.clone()],
            State::Aborting(..) => vec![],
            // The other may be dead; it is claimed along with the intent, if it answers.
            State::RollingBack(way, _) => vec![way.home().clone()],
        }
    }
}

/// All that has to survive a controller: what a checkpoint in the journal holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Progress {
    /// Counts the deployment's cutovers, from 1.
    pub cutover: u64,
    /// Where producers belong, as last published; `None` before the term was first taken.
    pub published: Option<Target>,
    /// The incarnation that the endpoints pointed at when the cutover began.
    pub active: Option<Incarnation>,
    /// Whether the new cluster was there before this cutover asked for one: it is not this cutover's to destroy. `None`
    /// until the provisioner has said.
    #[serde(default)]
    pub kept: Option<bool>,
    /// The chain.
    pub chain: Chain,
    /// Where every cluster's producer ids stood when they were last looked at; clusters that are gone stay in it, since
    /// their clients may live on.
    #[serde(default)]
    pub given: BTreeMap<ClusterId, Given>,
    /// The state.
    pub state: State,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            cutover: 1,
            published: None,
            active: None,
            kept: None,
            chain: Chain::default(),
            given: BTreeMap::new(),
            state: State::Planned,
        }
    }
}
