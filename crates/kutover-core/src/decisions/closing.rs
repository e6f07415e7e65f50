//! When a segment is closed, and when it no longer is (L10, L12).
//!
//! Closed is never receipts and never stillness alone. Every leader refuses; the high watermark is the leader's own log
//! end, so that no record is on its way to the replicas; no transaction is open, so that no marker is still to come
//! behind the end (markers pass every fence); and all of it was the same in two looks. The proof names topic ids,
//! partition counts and leader epochs: when one of them changes it is void, and a topic that was made again, or a log
//! that goes on, opens the segment again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::controls::{Control, without};
use crate::words::{Offset, TopicId, TopicName, TopicPartition, is_reserved_topic};

/// What a topic is at the time of a look.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TopicThere {
    /// Its id, where the cluster knows topic ids.
    pub id: Option<TopicId>,
    /// How many partitions it has.
    pub partitions: i32,
}

/// The end of the leader's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaderEnd {
    /// As the leader says for its current epoch (OffsetForLeaderEpoch).
    At(Offset),
    /// The partition has one replica: its high watermark is its end.
    Alone,
    /// It was not answered.
    Unknown,
}

/// What one partition's leader answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaderAnswer {
    /// The leader epoch, where known.
    pub epoch: Option<i32>,
    /// Whether it refused the probe.
    pub refuses: bool,
    /// The first offset that readers cannot get to.
    pub high_watermark: Offset,
    /// The first offset that a `read_committed` reader cannot get to: below the high watermark while a transaction is open.
    pub stable_end: Offset,
    /// The end of its own log.
    pub leader_end: LeaderEnd,
}

/// One look at all topics that are to be closed. What is absent was not answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Look {
    /// The topics.
    pub topics: BTreeMap<TopicName, TopicThere>,
    /// Their partitions' leaders. `Err` is the reason why one did not answer.
    #[serde(with = "crate::decisions::pairs")]
    pub leaders: BTreeMap<TopicPartition, Result<LeaderAnswer, String>>,
}

impl Look {
    fn leader(&self, place: &TopicPartition) -> Result<&LeaderAnswer, String> {
        match self.leaders.get(place) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(reason)) => Err(reason.clone()),
            None => Err("no answer".into()),
        }
    }
}

/// The end of one partition, and the epoch of the leader that it was proven at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClosedEnd {
    /// The first offset that is not part of the segment.
    pub end: Offset,
    /// The leader epoch, where known.
    pub epoch: Option<i32>,
}

/// The proof that segments are closed, with all that it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClosedProof {
    /// The topics as they were.
    pub topics: BTreeMap<TopicName, TopicThere>,
    /// Each partition's end.
    #[serde(with = "crate::decisions::pairs")]
    pub ends: BTreeMap<TopicPartition, ClosedEnd>,
}

/// What stands against a closed segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum Why {
    /// The topic is not there.
    TopicGone,
    /// The topic was deleted and made again.
    TopicMadeAgain {
        /// The id it had.
        was: Option<TopicId>,
        /// The id it has.
        is: Option<TopicId>,
    },
    /// The topic has another number of partitions.
    PartitionsChanged {
        /// How many it had.
        was: i32,
        /// How many it has.
        is: i32,
    },
    /// A leader did not answer.
    Silent {
        /// Why.
        reason: String,
    },
    /// A leader takes records.
    TakesRecords,
    /// Another leader, or the same one elected again, which may not know the fence yet.
    LeaderChanged {
        /// The epoch before.
        was: Option<i32>,
        /// The epoch now.
        is: Option<i32>,
    },
    /// Replicas are behind their leader: what it holds may become readable, or be lost with it.
    ReplicasBehind {
        /// What readers can get to.
        high_watermark: Offset,
        /// What the leader holds.
        leader_end: Offset,
    },
    /// The leader's own end was not answered, and there is more than one replica.
    LeaderEndUnknown,
    /// A transaction is open: its marker will stand behind this end.
    OpenTransaction {
        /// Where the transaction begins.
        from: Offset,
        /// The end now.
        end: Offset,
    },
    /// The end moved between two looks.
    StillMoving {
        /// The end in the first look.
        was: Offset,
        /// The end in the second.
        is: Offset,
    },
    /// Records stand behind the end that was closed.
    PastClosedEnd {
        /// The closed end.
        closed: Offset,
        /// The end that is there.
        found: Offset,
    },
    /// The log ends before the end that was closed: records are gone.
    ShortOfClosedEnd {
        /// The closed end.
        closed: Offset,
        /// The end that is there.
        found: Offset,
    },
}

/// What follows from a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// Look again: it passes by itself.
    Wait,
    /// The proof is void and is taken again.
    ProveAgain,
    /// The fence is not up there: raise it again, then prove.
    Fence,
    /// Somebody has to look: the cutover holds.
    Hold,
}

/// One reason, with its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NotClosed {
    /// The topic.
    pub topic: TopicName,
    /// The partition; `None` where the whole topic is meant.
    pub partition: Option<i32>,
    /// Why.
    pub why: Why,
}

impl NotClosed {
    fn topic(topic: &TopicName, why: Why) -> Self {
        Self { topic: topic.clone(), partition: None, why }
    }

    fn at(place: &TopicPartition, why: Why) -> Self {
        Self { topic: place.topic.clone(), partition: Some(place.partition), why }
    }

    /// What follows from it.
    pub fn remedy(&self) -> Remedy {
        match self.why {
            Why::Silent { .. }
            | Why::ReplicasBehind { .. }
            | Why::LeaderEndUnknown
            | Why::OpenTransaction { .. }
            | Why::StillMoving { .. } => Remedy::Wait,
            Why::LeaderChanged { .. } => Remedy::ProveAgain,
            Why::TakesRecords => Remedy::Fence,
            Why::TopicGone
            | Why::TopicMadeAgain { .. }
            | Why::PartitionsChanged { .. }
            | Why::PastClosedEnd { .. }
            | Why::ShortOfClosedEnd { .. } => Remedy::Hold,
        }
    }
}

impl fmt::Display for NotClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {}", self.topic)?;
        if let Some(partition) = self.partition {
            write!(f, ", partition {partition}")?;
        }
        let id = |id: &Option<TopicId>| id.as_ref().map_or("unknown".to_owned(), ToString::to_string);
        let epoch = |epoch: &Option<i32>| epoch.map_or("unknown".to_owned(), |epoch| epoch.to_string());
        match &self.why {
            Why::TopicGone => f.write_str(": it is not there any more; find out who deleted it"),
            Why::TopicMadeAgain { was, is } => write!(
                f,
                ": it was deleted and made again (id {}, now {}); find out who writes to the old cluster",
                id(was),
                id(is)
            ),
            Why::PartitionsChanged { was, is } => write!(f, ": it had {was} partitions and has {is}"),
            Why::Silent { reason } => write!(f, ": its leader did not answer ({reason})"),
            Why::TakesRecords => f.write_str(": its leader takes records, the fence is not up there"),
            Why::LeaderChanged { was, is } => {
                write!(f, ": its leader changed (epoch {}, now {})", epoch(was), epoch(is))
            }
            Why::ReplicasBehind { high_watermark, leader_end } => write!(
                f,
                ": replicas are behind, {high_watermark} of {leader_end}; waiting for the in-sync set"
            ),
            Why::LeaderEndUnknown => f.write_str(": its leader's own end was not answered"),
            Why::OpenTransaction { from, end } => write!(
                f,
                ": a transaction is open from {from} (end {end}); it ends by itself after its time-out, or abort it with \
                 kafka-transactions.sh"
            ),
            Why::StillMoving { was, is } => write!(f, ": its end moved from {was} to {is} between two looks"),
            Why::PastClosedEnd { closed, found } => {
                write!(
                    f,
                    ": closed at {closed}, but the log goes on to {found}; somebody wrote behind the fence"
                )
            }
            Why::ShortOfClosedEnd { closed, found } => {
                write!(f, ": closed at {closed}, but the log ends at {found}; records are gone")
            }
        }
    }
}

/// Judges two looks, the second taken after the first was complete.
///
/// # Errors
/// Every reason why the segments are not closed, in order of topic and partition.
pub fn prove(
    topics: &BTreeSet<TopicName>,
    first: &Look,
    second: &Look,
) -> Result<ClosedProof, Vec<NotClosed>> {
    let mut proof = ClosedProof { topics: BTreeMap::new(), ends: BTreeMap::new() };
    let mut against = Vec::new();
    for topic in topics.iter().filter(|topic| !is_reserved_topic(topic.as_str())) {
        let (Some(before), Some(now)) = (first.topics.get(topic), second.topics.get(topic)) else {
            against.push(NotClosed::topic(topic, Why::TopicGone));
            continue;
        };
        if let Some(why) = topic_changed(before, now) {
            against.push(NotClosed::topic(topic, why));
            continue;
        }
        proof.topics.insert(topic.clone(), now.clone());
        for partition in 0..now.partitions {
            let place = TopicPartition { topic: topic.clone(), partition };
            match prove_partition(first.leader(&place), second.leader(&place)) {
                Ok(end) => {
                    proof.ends.insert(place, end);
                }
                Err(why) => against.push(NotClosed::at(&place, why)),
            }
        }
    }
    if against.is_empty() { Ok(proof) } else { Err(against) }
}

fn topic_changed(was: &TopicThere, is: &TopicThere) -> Option<Why> {
    if was.id != is.id {
        return Some(Why::TopicMadeAgain { was: was.id.clone(), is: is.id.clone() });
    }
    (was.partitions != is.partitions)
        .then_some(Why::PartitionsChanged { was: was.partitions, is: is.partitions })
}

fn prove_partition(
    first: Result<&LeaderAnswer, String>,
    second: Result<&LeaderAnswer, String>,
) -> Result<ClosedEnd, Why> {
    let silent = |reason| Why::Silent { reason };
    let (first, second) = (first.map_err(silent)?, second.map_err(silent)?);
    let end = second.high_watermark;
    if !first.refuses || !second.refuses {
        return Err(Why::TakesRecords);
    }
    if first.epoch != second.epoch {
        return Err(Why::LeaderChanged { was: first.epoch, is: second.epoch });
    }
    for answer in [first, second] {
        match answer.leader_end {
            LeaderEnd::At(leader_end) if leader_end != answer.high_watermark => {
                return Err(Why::ReplicasBehind { high_watermark: answer.high_watermark, leader_end });
            }
            LeaderEnd::Unknown => return Err(Why::LeaderEndUnknown),
            LeaderEnd::At(_) | LeaderEnd::Alone => {}
        }
    }
    if first.high_watermark != end {
        return Err(Why::StillMoving { was: first.high_watermark, is: end });
    }
    if second.stable_end < end {
        return Err(Why::OpenTransaction { from: second.stable_end, end });
    }
    Ok(ClosedEnd { end, epoch: second.epoch })
}

/// What a later look says against a proof: empty if it still stands.
pub fn changes(proof: &ClosedProof, now: &Look) -> Vec<NotClosed> {
    let mut against = Vec::new();
    for (topic, was) in &proof.topics {
        match now.topics.get(topic) {
            None => against.push(NotClosed::topic(topic, Why::TopicGone)),
            Some(is) => against.extend(topic_changed(was, is).map(|why| NotClosed::topic(topic, why))),
        }
    }
    for (place, closed) in &proof.ends {
        let whys = match now.leader(place) {
            Ok(answer) => partition_changes(*closed, answer),
            Err(reason) => vec![Why::Silent { reason }],
        };
        against.extend(whys.into_iter().map(|why| NotClosed::at(place, why)));
    }
    against
}

fn partition_changes(closed: ClosedEnd, answer: &LeaderAnswer) -> Vec<Why> {
    // A leader may hold more than readers can get to: that is written behind the fence as well.
    let found = match answer.leader_end {
        LeaderEnd::At(end) => end.max(answer.high_watermark),
        LeaderEnd::Alone | LeaderEnd::Unknown => answer.high_watermark,
    };
    let mut whys = Vec::new();
    if found > closed.end && !without(Control::PastEndIgnored) {
        whys.push(Why::PastClosedEnd { closed: closed.end, found });
    }
    if found < closed.end {
        whys.push(Why::ShortOfClosedEnd { closed: closed.end, found });
    }
    if !answer.refuses {
        whys.push(Why::TakesRecords);
    }
    if answer.epoch != closed.epoch {
        whys.push(Why::LeaderChanged { was: closed.epoch, is: answer.epoch });
    }
    whys
}

#[cfg(test)]
mod tests;
