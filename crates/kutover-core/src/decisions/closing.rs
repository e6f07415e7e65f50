//! When a segment is closed (L10, L12).
//!
//! Closed is never receipts and never stillness alone. Every leader refuses; the high watermark is the leader's own log
//! end, so that no record is on its way to the replicas; no transaction is open, so that no marker is still to come
//! behind the end (markers pass a fence); and all of it was the same in two looks. What comes behind a closed end all the
//! same is the drain's to notice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::words::{Offset, TopicId, TopicName, TopicPartition, is_reserved_topic};

/// The end of the leader's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderEnd {
    /// As the leader says for its current epoch (OffsetForLeaderEpoch).
    At(Offset),
    /// The partition has one replica, or its cluster knows no other end: its high watermark is its end.
    Alone,
    /// It was not answered.
    Unknown,
}

/// What one partition's leader answered, in the order in which it is to be asked. Each answer rests on the one before it:
/// who refuses opens no transaction any more, and who has none open puts no marker behind the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderAnswer {
    /// Whether it refused the probe.
    pub refuses: bool,
    /// The first offset that a `read_committed` reader cannot get to: below the high watermark while a transaction is open.
    pub stable_end: Offset,
    /// The first offset that readers cannot get to.
    pub high_watermark: Offset,
    /// The leader epoch, where known.
    pub epoch: Option<i32>,
    /// The end of its own log.
    pub leader_end: LeaderEnd,
}

/// One look at all topics that are to be closed. What is absent was not answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The topics, with their ids (where the cluster knows any) and how many partitions they have.
    pub topics: BTreeMap<TopicName, (Option<TopicId>, i32)>,
    /// Their partitions' leaders. `Err` is the reason why one is not known to refuse.
    pub leaders: BTreeMap<TopicPartition, Result<LeaderAnswer, String>>,
}

impl Look {
    fn leader(&self, place: &TopicPartition) -> Result<&LeaderAnswer, Why> {
        match self.leaders.get(place) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(reason)) => Err(Why::Unclear { reason: reason.clone() }),
            None => Err(Why::Unclear { reason: "no answer".into() }),
        }
    }
}

/// What stands against a closed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// A leader did not answer, or neither refused nor would have taken a record.
    Unclear {
        /// What it said instead.
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
}

/// What follows from a reason, the weightiest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// The topics are not those that were looked at: a proof of those that are there begins anew.
    Anew,
    /// The fence is not up there, or not yet.
    Fence,
    /// Look again: it passes by itself.
    Wait,
}

impl Why {
    /// What follows from it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Why::TopicGone | Why::TopicMadeAgain { .. } | Why::PartitionsChanged { .. } => Remedy::Anew,
            Why::TakesRecords => Remedy::Fence,
            Why::Unclear { .. }
            | Why::LeaderChanged { .. }
            | Why::ReplicasBehind { .. }
            | Why::LeaderEndUnknown
            | Why::OpenTransaction { .. }
            | Why::StillMoving { .. } => Remedy::Wait,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = |id: &Option<TopicId>| id.as_ref().map_or("unknown".to_owned(), ToString::to_string);
        let epoch = |epoch: &Option<i32>| epoch.map_or("unknown".to_owned(), |epoch| epoch.to_string());
        match self {
            Why::TopicGone => f.write_str("it is not there any more; find out who deleted it"),
            Why::TopicMadeAgain { was, is } => write!(
                f,
                "it was deleted and made again (id {}, now {}); find out who writes to this cluster",
                id(was),
                id(is)
            ),
            Why::PartitionsChanged { was, is } => {
                write!(f, "it had {was} partitions and has {is}; prove it again")
            }
            Why::Unclear { reason } => {
                write!(f, "its leader did not refuse as a fenced one does: {reason}")
            }
            Why::TakesRecords => f.write_str("its leader takes records, the fence is not up there"),
            Why::LeaderChanged { was, is } => {
                write!(f, "its leader changed (epoch {}, now {})", epoch(was), epoch(is))
            }
            Why::ReplicasBehind { high_watermark, leader_end } => {
                write!(
                    f,
                    "replicas are behind, {high_watermark} of {leader_end}; waiting for the in-sync set"
                )
            }
            Why::LeaderEndUnknown => f.write_str("its leader's own end was not answered"),
            Why::OpenTransaction { from, end } => write!(
                f,
                "a transaction is open from {from} (end {end}), and its marker would come behind that end; it ends by itself \
                 after its time-out, or abort it with `kafka-transactions.sh abort`, --start-offset {from}"
            ),
            Why::StillMoving { was, is } => write!(f, "its end moved from {was} to {is} between two looks"),
        }
    }
}

/// A reason, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// The topic or the partition, as errors name it.
    pub fn place(&self) -> String {
        match self.partition {
            Some(partition) => TopicPartition::new(self.topic.clone(), partition).to_string(),
            None => format!("topic {}", self.topic),
        }
    }
}

/// Judges two looks, the second taken after the first was complete.
///
/// # Errors
/// Why the segments are not closed: what weighs most, the first in order of topic and partition.
pub fn prove(topics: &BTreeSet<TopicName>, first: &Look, second: &Look) -> Result<(), NotClosed> {
    let mut against = Vec::new();
    for topic in topics.iter().filter(|topic| !is_reserved_topic(topic.as_str())) {
        let (Some(was), Some(is)) = (first.topics.get(topic), second.topics.get(topic)) else {
            against.push(NotClosed::topic(topic, Why::TopicGone));
            continue;
        };
        if let Some(why) = topic_changed(was, is) {
            against.push(NotClosed::topic(topic, why));
            continue;
        }
        let places = (0..is.1).map(|partition| TopicPartition::new(topic.clone(), partition));
        against.extend(places.filter_map(|place| {
            let why = prove_partition(first.leader(&place), second.leader(&place)).err()?;
            Some(NotClosed::at(&place, why))
        }));
    }
    against.into_iter().min_by_key(|one| one.why.remedy()).map_or(Ok(()), Err)
}

fn topic_changed(was: &(Option<TopicId>, i32), is: &(Option<TopicId>, i32)) -> Option<Why> {
    if was.0 != is.0 {
        return Some(Why::TopicMadeAgain { was: was.0.clone(), is: is.0.clone() });
    }
    (was.1 != is.1).then_some(Why::PartitionsChanged { was: was.1, is: is.1 })
}

fn prove_partition(first: Result<&LeaderAnswer, Why>, second: Result<&LeaderAnswer, Why>) -> Result<(), Why> {
    let (first, second) = (first?, second?);
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
    match open_transaction(second.stable_end, end) {
        Some(open) => Err(open),
        None => Ok(()),
    }
}

/// Whether a transaction is open, by what readers of committed records and all others get to. The former is asked for first:
/// if it then is as much as all others get to, nothing was open, and no marker has come in between.
pub fn open_transaction(stable_end: Offset, high_watermark: Offset) -> Option<Why> {
    (stable_end < high_watermark).then_some(Why::OpenTransaction { from: stable_end, end: high_watermark })
}

#[cfg(test)]
mod tests;
