//! Producer-id separation (L16).
//!
//! A client that takes its producer id to another cluster has its acknowledged records thrown away there, where that
//! id's sequence numbers were somebody else's. If the new cluster's ids start above all that any other cluster of the
//! deployment gave out, it knows nothing of such a client and takes its records. Ids are handed out in blocks of 1000 to
//! each broker, which uses up an old block before it takes a new one: so *every* broker must have passed the mark.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::controls::{Control, without};
use crate::words::ClusterId;

/// Ids in one block (`ProducerIdsBlock`, the same in every version).
pub const BLOCK: u64 = 1_000;

/// Ids a second that were used up by building and closing producers (facts: 5,500; raw requests 9,000).
const BURNT_PER_S: u64 = 5_500;

/// What one cluster's brokers gave out, as the newest id of each. An id that was asked for a moment ago is the newest
/// of that broker's block.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Given {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The mark that it was first made to pass; 0 for a deployment's first cluster, and before the first separation. What
    /// it gave out since lies above.
    pub from: u64,
    /// The newest id of each broker.
    #[serde(with = "crate::decisions::pairs")]
    pub newest: BTreeMap<i32, Result<u64, String>>,
}

impl Given {
    /// The first id that this cluster cannot have given out, whatever blocks its brokers hold in advance. `Err` names
    /// the brokers that did not answer.
    fn ceiling(&self) -> Result<u64, Unanswered> {
        let newest = self.answers()?;
        let Some(highest) = newest.values().max() else { return Ok(0) };
        // Each broker may hold a block that it has not begun, and all of those lie above.
        let ahead = u64::try_from(newest.len()).unwrap_or(u64::MAX).saturating_mul(BLOCK);
        Ok(block_end(*highest).saturating_add(ahead))
    }

    fn answers(&self) -> Result<BTreeMap<i32, u64>, Unanswered> {
        let mut newest = BTreeMap::new();
        let mut silent = BTreeMap::new();
        for (broker, answer) in &self.newest {
            match answer {
                Ok(id) => {
                    newest.insert(*broker, *id);
                }
                Err(reason) => {
                    silent.insert(*broker, reason.clone());
                }
            }
        }
        if silent.is_empty() && !newest.is_empty() {
            Ok(newest)
        } else {
            Err(Unanswered { cluster_id: self.cluster_id.clone(), silent })
        }
    }
}

/// How long it takes at least to use up so many ids.
fn seconds(ids: u64) -> u64 {
    ids.div_ceil(BURNT_PER_S)
}

/// The first id behind the block of an id.
fn block_end(id: u64) -> u64 {
    (id / BLOCK).saturating_add(1).saturating_mul(BLOCK)
}

/// What the operator accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Room {
    /// Ids that the old clusters may still give out until they are removed: a restart of every stock client takes one
    /// for each.
    pub head_room: u64,
    /// The most ids that are used up for it.
    pub most: u64,
}

impl Default for Room {
    /// 100,000 ids of head-room; at most 20 million to use up, which take an hour.
    fn default() -> Self {
        Self { head_room: 100_000, most: 20_000_000 }
    }
}

/// Brokers of a cluster that did not say where their ids stand. No broker at all is as little an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Unanswered {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its silent brokers, and why.
    pub silent: BTreeMap<i32, String>,
}

/// Where the ids of a cluster stand against those of all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "separation")]
pub enum Separation {
    /// Every id that it gives out from now on is above all that others gave out.
    Separated {
        /// The mark that all its brokers have passed.
        mark: u64,
    },
    /// Ids have to be used up.
    Burn {
        /// The mark that every broker must pass.
        mark: u64,
        /// Brokers that have not.
        behind: BTreeSet<i32>,
        /// How many ids that takes at most.
        ids: u64,
    },
    /// It takes more ids than the operator accepts.
    TooFar {
        /// The mark.
        mark: u64,
        /// How many ids it would take.
        ids: u64,
        /// How many are accepted.
        most: u64,
    },
    /// Partitions of it hold state under ids that another cluster may have given out: whoever brings one of them along
    /// loses records. Using up ids does not mend that.
    Clash {
        /// The ids.
        ids: BTreeSet<u64>,
    },
    /// The target may have given out ids that others gave out too: which ids have state in its partitions has to be
    /// asked.
    AskWriters,
    /// A broker did not answer.
    Unknown(Unanswered),
}

impl Separation {
    /// Whether nobody who comes along can lose records.
    pub fn is_separated(&self) -> bool {
        matches!(self, Separation::Separated { .. })
    }
}

impl fmt::Display for Separation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Separation::Separated { mark } => write!(f, "producer ids are separated: all start above {mark}"),
            Separation::Burn { mark, behind, ids } => write!(
                f,
                "{} brokers hand out producer ids below {mark}: up to {ids} ids to use up, about {} s",
                behind.len(),
                seconds(*ids)
            ),
            Separation::TooFar { mark, ids, most } => write!(
                f,
                "passing producer id {mark} takes up to {ids} ids, about {} s, more than the {most} that are allowed: allow \
                 more, take a cluster whose ids are higher, or make sure that no stock client re-bootstraps and waive it",
                seconds(*ids)
            ),
            Separation::Clash { ids } => {
                let shown: Vec<String> = ids.iter().take(5).map(ToString::to_string).collect();
                write!(
                    f,
                    "{} producer ids with state there may belong to another cluster's clients as well ({}{}): somebody \
                     wrote before the ids were separated; empty those topics or wait for producer.id.expiration.ms",
                    ids.len(),
                    shown.join(", "),
                    if ids.len() > 5 { ", ..." } else { "" }
                )
            }
            Separation::AskWriters => f.write_str("which producer ids have state there was not asked"),
            Separation::Unknown(Unanswered { cluster_id, silent }) if silent.is_empty() => {
                write!(f, "cluster {cluster_id} has no broker that says where its producer ids stand")
            }
            Separation::Unknown(Unanswered { cluster_id, silent }) => {
                let named: Vec<String> =
                    silent.iter().map(|(broker, reason)| format!("broker {broker}: {reason}")).collect();
                write!(
                    f,
                    "where producer ids of cluster {cluster_id} stand is not known: {}",
                    named.join(", ")
                )
            }
        }
    }
}

/// The mark that a cluster's ids must pass: above all that any *other* cluster of the deployment gave out, with
/// head-room. Its own earlier ids clash with nobody.
///
/// # Errors
/// A broker of one of the others did not answer.
pub fn mark(target: &ClusterId, others: &[Given], head_room: u64) -> Result<u64, Unanswered> {
    let mut highest = 0;
    for given in others.iter().filter(|given| given.cluster_id != *target) {
        highest = highest.max(given.ceiling()?);
    }
    // Rounded up, so that a mark is the first id of a block.
    Ok(highest.saturating_add(head_room).div_ceil(BLOCK).saturating_mul(BLOCK))
}

/// Judges where a cluster's ids stand before producers are pointed at it. `live` are the ids with state in its
/// partitions, as DescribeProducers tells; `None`, where they were not asked, will do for a cluster whose ids have been
/// apart from the first that it gave to anybody.
pub fn judge(target: &Given, others: &[Given], live: Option<&BTreeSet<u64>>, room: Room) -> Separation {
    let mark = match mark(&target.cluster_id, others, room.head_room) {
        Ok(mark) => mark,
        Err(unanswered) => return Separation::Unknown(unanswered),
    };
    judge_against(target, others, live, mark, room.most)
}

/// Judges once more, against the mark that was passed before: right before the switch and after the fence. Head-room that
/// the others have used up means a new mark, and that ids in between may have been given out twice.
pub fn judge_again(
    target: &Given,
    others: &[Given],
    live: Option<&BTreeSet<u64>>,
    passed: u64,
    room: Room,
) -> Separation {
    match mark(&target.cluster_id, others, 0) {
        Ok(needed) if needed <= passed => judge_against(target, others, live, passed, room.most),
        Ok(_) => judge(target, others, live, room),
        Err(unanswered) => Separation::Unknown(unanswered),
    }
}

fn judge_against(
    target: &Given,
    others: &[Given],
    live: Option<&BTreeSet<u64>>,
    mark: u64,
    most: u64,
) -> Separation {
    if without(Control::NoSeparation) {
        return Separation::Separated { mark };
    }
    let newest = match target.answers() {
        Ok(newest) => newest,
        Err(unanswered) => return Separation::Unknown(unanswered),
    };
    let ranges = ranges(target, others);
    match live {
        None if ranges.iter().any(|(_, end)| *end > target.from) => return Separation::AskWriters,
        None => {}
        Some(live) => {
            let clash = clashing(target, &ranges, live);
            if !clash.is_empty() {
                return Separation::Clash { ids: clash };
            }
        }
    }
    let behind: BTreeSet<i32> =
        newest.iter().filter(|(_, id)| **id < mark).map(|(broker, _)| *broker).collect();
    if behind.is_empty() {
        return Separation::Separated { mark };
    }
    let ids = to_burn(&newest, mark);
    if ids > most { Separation::TooFar { mark, ids, most } } else { Separation::Burn { mark, behind, ids } }
}

/// What the others may have given out.
fn ranges(target: &Given, others: &[Given]) -> Vec<(u64, u64)> {
    let others = others.iter().filter(|given| given.cluster_id != target.cluster_id);
    others.map(|given| (given.from, given.ceiling().unwrap_or(u64::MAX))).collect()
}

/// Live ids that the target and another cluster may both have given out. Those below the target's own mark were brought
/// along by clients of the others, which is what the separation is for: nobody else has them there.
fn clashing(target: &Given, ranges: &[(u64, u64)], live: &BTreeSet<u64>) -> BTreeSet<u64> {
    let foreign = |id: &u64| ranges.iter().any(|(from, end)| (from..end).contains(&id));
    live.range(target.from..).copied().filter(foreign).collect()
}

/// An upper bound: the blocks from the highest one up to the mark, and what every broker still has to use up of its own,
/// of one that it holds in advance, and of the one above the mark that it then takes.
fn to_burn(newest: &BTreeMap<i32, u64>, mark: u64) -> u64 {
    let highest = newest.values().copied().max().unwrap_or(0);
    let shared = mark.saturating_sub(block_end(highest));
    let own = newest.values().filter(|id| **id < mark).map(|id| (block_end(*id) - id).saturating_add(BLOCK));
    own.fold(shared, u64::saturating_add)
}

#[cfg(test)]
mod tests;
