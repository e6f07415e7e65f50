//! The plan of a cutover, before anything is done: what was seen of both clusters, what would happen, and what it is
//! refused over.
//!
//! [`Survey`] is all that was observed, as data; [`assess`] is a pure function of it and of what the operator wants. It
//! rests on the same decisions as the cutover itself (parity, history, retention, the fence, the drain proof), so that what
//! a plan finds in order is what a cutover finds in order. What was not answered is unknown and is said: a refusal that
//! depends on it stands until it is waived by name.

mod access;
mod assess;
mod configs;
mod connect;
mod estimate;
mod fence;
mod groups;
mod own_topics;
mod readers;
mod refusal;
mod refusals;
mod traffic;
mod waivers;

#[cfg(test)]
mod fence_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod troubles;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use crate::cutover::Plan;
use crate::decisions::stragglers::Look;
use crate::drain::{Observation, OpenTransaction};
use crate::owner::OwnerRecord;
use crate::ports::{
    Access, ClusterIdentity, ConfigMap, GroupDescription, GroupListing, Item, RecordData, TopicDescription,
};
use crate::words::{Colour, EndpointKey, GroupId, TopicName, TopicPartition};

pub use access::{AccessReport, QuotaToSet};
pub use assess::{Assessment, ClusterReport, EndpointReport, Outcome, TopicHistoryReport, Unknown, assess};
pub use configs::{BrokerSetting, ConfigDifference, ConfigWhy, defaults_told};
pub use connect::{ConnectReport, ConnectSeen};
pub use estimate::Estimates;
pub use groups::{GroupReport, GroupStanding};
pub use own_topics::{AclsAsked, OwnTopic, Stands};
pub use refusal::{Code, Refusal, Waiver};
pub use traffic::{ActiveProducer, OpenReport, TopicWriters};
pub use waivers::{Names, Waivers};

/// What was seen at one endpoint in DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSeen {
    /// Its record and TTL in seconds; `None` if there is none.
    pub record: Option<(RecordData, u32)>,
    /// Its owner record; `None` for a deployment that kutover has not seen.
    pub owner: Option<OwnerRecord>,
}

/// What was seen of one cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSeen {
    /// Who it is.
    pub identity: ClusterIdentity,
    /// Its topics.
    pub topics: Vec<TopicDescription>,
    /// Its groups with the topics that they committed on.
    pub groups: Item<GroupListing>,
    /// Its groups as their coordinators describe them.
    pub described: Item<BTreeMap<GroupId, Item<GroupDescription>>>,
    /// Topics' configs in force.
    pub topic_configs: Item<BTreeMap<TopicName, Item<ConfigMap>>>,
    /// Brokers' configs in force.
    pub brokers: Item<BTreeMap<i32, Item<ConfigMap>>>,
    /// Who may do what on it.
    pub access: Item<Access>,
    /// Topics on which anything of a fence stands.
    pub fence: Item<BTreeSet<TopicName>>,
    /// Whether each address that it sends clients to takes connections.
    pub reach: BTreeMap<String, Item<()>>,
    /// Its Connect workers; `None` if none were asked.
    pub connect: Option<Item<ConnectSeen>>,
}

impl ClusterSeen {
    /// Every group that was listed or described.
    fn known_groups(&self) -> impl Iterator<Item = &GroupId> {
        let listed = self.groups.iter().flat_map(|groups| groups.listed().keys());
        listed.chain(self.described.iter().flat_map(BTreeMap::keys))
    }

    /// Whether a group that somebody names is certainly not there.
    fn lacks(&self, group: &GroupId) -> bool {
        let is_described = self.described.as_ref().is_ok_and(|described| described.contains_key(group));
        let unlisted = |listed: &BTreeMap<GroupId, _>| !listed.contains_key(group) && !is_described;
        matches!(&self.groups, Ok(GroupListing::Listed(listed)) if unlisted(listed))
    }

    /// What a group is, if that was answered.
    fn description(&self, group: &GroupId) -> Option<&GroupDescription> {
        self.described.as_ref().ok()?.get(group)?.as_ref().ok()
    }
}

/// What moves on the old cluster, seen in two looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Who writes: the first look.
    pub first: Look,
    /// Who writes: the second look.
    pub second: Look,
    /// Every transactional id that coordinators know, with its state.
    pub transactional_ids: Option<Item<BTreeMap<String, String>>>,
    /// The transactions that were open when their coordinators were asked, between the looks. A partition without an answer
    /// is an `Err`.
    pub open: BTreeMap<TopicPartition, Item<Vec<OpenTransaction>>>,
    /// How far groups had read at the first look.
    pub before: Observation,
    /// How far they have read at the second; tails read.
    pub now: Observation,
    /// Milliseconds between the looks.
    pub over_ms: u64,
    /// Bytes of each partition.
    pub sizes: Option<Item<BTreeMap<TopicPartition, Item<u64>>>>,
    /// How old the oldest unread record of each partition is at the most, in milliseconds.
    pub ages: BTreeMap<TopicPartition, Item<u64>>,
    /// Producers of the library that are registered there.
    pub members: Option<Item<usize>>,
}

/// All that was observed. `Err` is the reason why something could not be.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// The colour that serves.
    pub from: Colour,
    /// DNS, by endpoint.
    pub endpoints: BTreeMap<EndpointKey, Item<EndpointSeen>>,
    /// The old cluster.
    pub old: Item<ClusterSeen>,
    /// The new one; `None` if there is nothing behind its colour yet.
    pub new: Option<Item<ClusterSeen>>,
    /// What moves on the old cluster.
    pub traffic: Traffic,
    /// Whether the old cluster's leaders would take records from the client that is to prove the fence; `None` if they were not
    /// asked.
    pub takes_records: Option<Item<()>>,
    /// Configs of old topics that the new cluster does not know, each with its words.
    pub refused_configs: Item<BTreeMap<String, String>>,
    /// Old topics that the new cluster would not make, each with its words. Empty where it was not asked or did not answer, which
    /// the configs say.
    pub refused_topics: BTreeMap<TopicName, String>,
    /// The wall clock, in milliseconds since the epoch.
    pub now_ms: i64,
}

/// The groups that must read the old cluster to its end, with their topics, as the cutover will record them.
pub fn required(
    plan: &Plan,
    listing: &Item<GroupListing>,
    moving: &BTreeMap<TopicName, i32>,
) -> BTreeMap<GroupId, BTreeSet<TopicName>> {
    let mut required = BTreeMap::new();
    // Whom the plan names is required all the same.
    let listing = listing.as_ref().unwrap_or(&GroupListing::Unsupported);
    plan.require(&mut required, listing.listed(), moving);
    required
}

/// Every partition of the topics that move.
pub fn partitions(moving: &BTreeMap<TopicName, i32>) -> Vec<TopicPartition> {
    let places = |(topic, count): (&TopicName, &i32)| {
        (0..*count).map(|partition| TopicPartition::new(topic.clone(), partition)).collect::<Vec<_>>()
    };
    moving.iter().flat_map(places).collect()
}
