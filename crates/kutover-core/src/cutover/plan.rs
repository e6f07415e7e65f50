//! What the operator wants of one cutover.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::connect::ConnectPlan;
use crate::decisions::history::{self, TopicHistory};
use crate::decisions::separation::Room;
use crate::ports::TopicDescription;
use crate::words::{
    Colour, DeploymentName, GroupId, IncarnationId, InstanceName, TopicName, is_reserved_topic,
};

/// Which topics a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topics {
    /// Every topic but kutover's own and Kafka's internal ones.
    All,
    /// These and no others.
    Named(BTreeSet<TopicName>),
}

impl Topics {
    /// No topic at all.
    pub fn none() -> Self {
        Topics::Named(BTreeSet::new())
    }

    /// Whether the rule is about this topic.
    pub fn includes(&self, topic: &TopicName) -> bool {
        match self {
            Topics::All => !is_reserved_topic(topic.as_str()),
            Topics::Named(names) => names.contains(topic),
        }
    }
}

/// How a step that cannot be taken back is approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// The plan is the approval.
    Automatic,
    /// A person says so while it runs.
    Manual,
}

/// What stands between a late producer and the old cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FencePolicy {
    /// The cutover goes no further until a fence is proven.
    Required,
    /// The operator waived it by name: a quiet window takes its place, order between the clusters is not promised, and
    /// removal always needs a person.
    Waived,
}

/// Whether the new cluster's producer ids are raised above all that other clusters gave out (L16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeparationPolicy {
    /// Nobody is pointed at the new cluster before they are.
    Required(Room),
    /// The operator waived it by name: no client outside the library takes its producer id along.
    Waived,
}

/// How long things may take, in milliseconds. A wait starts over after a resume.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Timings {
    /// The TTL to switch under, in seconds; the old one is restored at the end.
    pub ttl_s: u32,
    /// How long producers may take to move before the fence decides.
    pub converge_ms: u64,
    /// How long the old cluster must be silent where the fence was waived.
    pub quiet_window_ms: u64,
    /// How long the drained old cluster is kept before it is isolated.
    pub soak_ms: u64,
    /// How often members and drain are looked at.
    pub poll_ms: u64,
    /// How long one command may take before it is given up on and looked up.
    pub command_timeout_ms: u64,
    /// The first wait after a failure; it doubles up to thirty-two times as long.
    pub retry_ms: u64,
    /// How long a rollback tries to fence a cluster that does not answer, or refuses, before it goes back without a barrier.
    pub barrier_ms: u64,
    /// How long a hold may last before the cutover aborts (before Redirecting) or stops (after). `None`: for ever.
    pub hold_limit_ms: Option<u64>,
}

/// What the operator wants of one cutover.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// The deployment.
    pub deployment: DeploymentName,
    /// The colour that is to be active in the end. Where it is already there is nothing to do, so that a finished
    /// cutover can be run again without harm.
    pub to: Colour,
    /// The topics that move.
    pub topics: Topics,
    /// Groups that must read the old cluster to its end, with their topics (`None`: every topic that moves). Groups
    /// that the cluster lists are added.
    pub groups: BTreeMap<GroupId, Option<BTreeSet<TopicName>>>,
    /// Groups that need not: named by the operator.
    pub waived_groups: BTreeSet<GroupId>,
    /// Producers that are not waited for, since they are gone for good: named by the operator.
    pub waived_members: BTreeSet<InstanceName>,
    /// Topics whose history may die with the old cluster.
    pub waived_history: Topics,
    /// The topic in which Schema Registry keeps its schemas: no rule for all waives it.
    pub schemas_topic: TopicName,
    /// Topics that may have been deleted on the old cluster after the switch: then they are out of the cutover.
    pub waived_deleted: BTreeSet<TopicName>,
    /// Topics that may have fewer replicas on the new cluster than on the old one (L6).
    pub waived_replicas: Topics,
    /// Topics whose retention is without limit on both clusters while the cutover runs (L11).
    pub raised_retention: Topics,
    /// What stands between a late producer and the old cluster.
    pub fence: FencePolicy,
    /// Whether producer ids are separated.
    pub separation: SeparationPolicy,
    /// What is wanted of Kafka Connect; `None`: nothing.
    pub connect: Option<ConnectPlan>,
    /// How the redirect is approved.
    pub approve_redirect: Approval,
    /// How the removal is approved.
    pub approve_removal: Approval,
    /// Whether the old cluster is isolated and removed at the end; otherwise it stays, fenced.
    pub remove_old: bool,
    /// An old cluster that is dead for good: the cutover that leaves it ends without its proof, and it stays as it is.
    pub abandoned: Option<IncarnationId>,
    /// How long things may take.
    pub timings: Timings,
}

impl Plan {
    /// The topics that move, with their partition counts.
    pub fn moving(&self, topics: &[TopicDescription]) -> BTreeMap<TopicName, i32> {
        let moving = topics
            .iter()
            .filter(|topic| self.topics.includes(&topic.name) && !self.is_connects_own(&topic.name));
        moving.map(|topic| (topic.name.clone(), topic.partitions)).collect()
    }

    /// Whether Connect's workers keep their own affairs in a topic.
    fn is_connects_own(&self, topic: &TopicName) -> bool {
        self.connect.as_ref().is_some_and(|connect| connect.topics.contains(topic))
    }

    /// The topics that a group must read to their end, given all that move.
    pub fn topics_of(&self, group: &GroupId, moving: &BTreeMap<TopicName, i32>) -> BTreeSet<TopicName> {
        match self.groups.get(group) {
            Some(Some(topics)) => topics.clone(),
            _ => moving.keys().cloned().collect(),
        }
    }

    /// Adds to the required groups those of a listing that have offsets on topics that move. What is required once
    /// stays required (L9).
    pub fn require(
        &self,
        required: &mut BTreeMap<GroupId, BTreeSet<TopicName>>,
        listed: &BTreeMap<GroupId, BTreeSet<TopicName>>,
        moving: &BTreeMap<TopicName, i32>,
    ) {
        for group in self.groups.keys() {
            // Also topics that were born since: a group that reads every topic reads these too.
            required.entry(group.clone()).or_default().extend(self.topics_of(group, moving));
        }
        for (group, topics) in listed {
            let topics: BTreeSet<_> =
                topics.iter().filter(|topic| moving.contains_key(*topic)).cloned().collect();
            if topics.is_empty() || self.waived_groups.contains(group) || self.groups.contains_key(group) {
                continue;
            }
            required.entry(group.clone()).or_default().extend(topics);
        }
        required.retain(|group, _| !self.waived_groups.contains(group));
    }

    /// The topics that move whose retention is to be raised.
    pub fn raising(&self, moving: &BTreeMap<TopicName, i32>) -> BTreeSet<TopicName> {
        moving.keys().filter(|topic| self.raised_retention.includes(topic)).cloned().collect()
    }

    /// Topics of the old cluster that do not move and would die with it, without the operator having named each: a waiver
    /// of all history is about what moves, and is read to its end before it goes (L9, L18).
    pub fn left_behind(&self, there: &[TopicDescription]) -> Vec<TopicName> {
        if !self.remove_old {
            return Vec::new();
        }
        let named =
            |topic: &TopicName| matches!(&self.waived_history, Topics::Named(names) if names.contains(topic));
        let stays = |topic: &&TopicDescription| {
            !self.topics.includes(&topic.name)
                && !is_reserved_topic(topic.name.as_str())
                && !self.is_connects_own(&topic.name)
                && !named(&topic.name)
        };
        there.iter().filter(stays).map(|topic| topic.name.clone()).collect()
    }

    /// By what the history of topics is judged.
    pub fn history(&self) -> history::Settings {
        history::Settings {
            soak_ms: self.timings.soak_ms,
            waived: self.waived_history.clone(),
            schemas: self.schemas_topic.clone(),
        }
    }

    /// Topics that move and whose history would die with the old cluster without the operator having said so (L18). What has
    /// expired before it is removed is nobody's loss; of what the cluster does not tell, nothing has.
    pub fn unwaived_history(&self, there: &[TopicDescription]) -> Vec<TopicName> {
        if !self.remove_old {
            return Vec::new();
        }
        let moving = self.moving(there);
        let histories =
            there.iter().filter(|topic| moving.contains_key(&topic.name)).map(|topic| TopicHistory {
                topic: topic.name.clone(),
                cleanup_policy: topic.in_force("cleanup.policy").cloned(),
                retention_ms: topic.in_force("retention.ms").and_then(|value| value.parse().ok()),
                // One that is empty may have records by the time of the switch.
                records: None,
            });
        let fates = history::judge(&histories.collect::<Vec<_>>(), &self.history());
        history::dying(&fates).map(|one| one.topic.clone()).collect()
    }
}
