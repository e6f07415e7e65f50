//! Stragglers (L8): who still writes to the old cluster.
//!
//! A partition's leader knows every producer id that wrote to it (DescribeProducers); receipts claim those of producers
//! that say they have left. What remains is somebody. A producer without idempotence has no id: it shows as records that
//! no id accounts for. And a receipt is a word, not a proof: an id that was claimed and still writes is a straggler.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::controls::{Control, without};
use crate::messages::MemberState;
use crate::words::{ClusterId, Offset, TopicPartition};

mod sign;

pub use sign::{LastRecord, Sign};

/// What a leader knows of one producer id in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProducerState {
    /// Its epoch.
    pub epoch: i32,
    /// The sequence number of its last record; -1 if only a marker was written.
    pub last_sequence: i32,
    /// The timestamp of its last batch, in milliseconds, by whatever clock stamped it.
    pub last_timestamp_ms: i64,
    /// Whether it uses transactions (it has a coordinator epoch): then markers take up offsets too.
    pub transactional: bool,
    /// The epoch of its transactions' coordinator; -1 without one.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins, if it has one here.
    pub open_since: Option<Offset>,
}

/// What a leader answered about one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PartitionWriters {
    /// The end of the log, read before its producers.
    pub end_before: Offset,
    /// The end of the log, read after its producers.
    pub end: Offset,
    /// Its producers, by id.
    pub producers: BTreeMap<i64, ProducerState>,
}

/// One look at all partitions of the old cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Look {
    /// When it was taken, in milliseconds of the controller's clock.
    pub at_ms: u64,
    /// The partitions. `Err` is the reason why one did not answer.
    pub partitions: BTreeMap<TopicPartition, Result<PartitionWriters, String>>,
}

/// A producer that is on the old cluster and should not be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Straggler {
    /// Its producer id; `None` for those that have none.
    pub producer_id: Option<i64>,
    /// Whether a receipt says that it has left.
    pub claimed: bool,
    /// Where it wrote.
    pub places: BTreeSet<TopicPartition>,
    /// Records between the two looks.
    pub records: u64,
    /// Milliseconds between the two looks.
    pub over_ms: u64,
    /// The timestamp of its last batch, in milliseconds, where one is known.
    pub last_write_ms: Option<i64>,
    /// What its last record says of it, where that was read.
    pub sign: Option<Sign>,
}

impl Straggler {
    /// Who it is and where it writes, without numbers.
    pub fn name(&self) -> String {
        let who = match self.producer_id {
            Some(id) => format!("producer id {id}"),
            None => "a producer without an id (no idempotence)".to_owned(),
        };
        let first = self.places.first().map_or("no partition".to_owned(), ToString::to_string);
        match self.places.len() {
            0 | 1 => format!("{who} on {first}"),
            several => format!("{who} on {first} and {} more", several - 1),
        }
    }

    /// Records per second between the two looks.
    pub fn per_s(&self) -> u64 {
        (self.records * 1_000).checked_div(self.over_ms).unwrap_or(0)
    }
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if self.records > 0 {
            write!(f, ": {} records in {} ms ({}/s)", self.records, self.over_ms, self.per_s())?;
        } else {
            f.write_str(": silent")?;
        }
        if let Some(last) = self.last_write_ms {
            write!(f, ", last write at {last}")?;
        }
        if self.claimed {
            f.write_str("; a receipt says that it has left")?;
        }
        if let Some(sign) = &self.sign {
            write!(f, "; {sign}")?;
        }
        Ok(())
    }
}

/// Who is still on the old cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Report {
    /// Those that wrote between the two looks, the busiest first.
    pub writing: Vec<Straggler>,
    /// Ids that no receipt claims and that wrote nothing between the looks: dead, asleep, or about to wake. The newest
    /// write first.
    pub silent: Vec<Straggler>,
    /// Partitions that did not answer in both looks, and why.
    pub unanswered: Vec<(TopicPartition, String)>,
}

impl Report {
    /// Whether nobody is known to write, with every partition heard. The fence decides about the silent ones.
    pub fn nobody_writes(&self) -> bool {
        self.writing.is_empty() && self.unanswered.is_empty()
    }

    /// Where those that write do so, each place once, at most so many.
    pub fn places(&self, at_most: usize) -> BTreeSet<TopicPartition> {
        self.writing.iter().filter_map(|straggler| straggler.places.first()).take(at_most).cloned().collect()
    }

    /// Adds to those that write what their last records say of them.
    pub fn recognise(&mut self, last: &BTreeMap<TopicPartition, Vec<LastRecord>>) {
        for straggler in &mut self.writing {
            let records = straggler.places.iter().filter_map(|place| last.get(place)).flatten();
            let theirs = records.filter(|record| record.producer_id == straggler.producer_id);
            if let Some(newest) = theirs.max_by_key(|record| record.timestamp_ms) {
                straggler.sign = Some(newest.sign.clone());
            }
        }
    }
}

/// Producer ids that receipts claim: those that members say they had on this cluster, and have left.
pub fn claimed_ids(members: &[MemberState], left: &ClusterId) -> BTreeSet<i64> {
    let receipts = members.iter().flat_map(|member| &member.receipts).filter(|receipt| receipt.from == *left);
    receipts.flat_map(|receipt| receipt.producer_ids.iter().copied()).collect()
}

/// Compares two looks, the second taken after the first was complete. What is absent in either is unanswered.
///
/// Of the first look the ends count that were read after its producers, of the second those before them, so that a record
/// between the two ends is always one that some id accounts for, if its writer has one.
pub fn stragglers(first: &Look, second: &Look, claimed: &BTreeSet<i64>) -> Report {
    if without(Control::StragglersIgnored) {
        return Report::default();
    }
    let over_ms = second.at_ms.saturating_sub(first.at_ms);
    let mut report = Report::default();
    let mut found: BTreeMap<Option<i64>, Straggler> = BTreeMap::new();
    let places: BTreeSet<&TopicPartition> = first.partitions.keys().chain(second.partitions.keys()).collect();
    for place in places {
        let (before, now) = match (answer(first, place), answer(second, place)) {
            (Ok(before), Ok(now)) => (before, now),
            (Err(reason), _) | (_, Err(reason)) => {
                report.unanswered.push((place.clone(), reason));
                continue;
            }
        };
        let mut explained = 0;
        let mut add = |producer_id: Option<i64>, records: u64, last_write_ms: Option<i64>| {
            let straggler = found.entry(producer_id).or_insert_with(|| Straggler {
                producer_id,
                claimed: producer_id.is_some_and(|id| claimed.contains(&id)),
                places: BTreeSet::new(),
                records: 0,
                over_ms,
                last_write_ms: None,
                sign: None,
            });
            straggler.places.insert(place.clone());
            straggler.records += records;
            straggler.last_write_ms = straggler.last_write_ms.max(last_write_ms);
        };
        for (id, state) in &now.producers {
            let records = written(before.producers.get(id), state);
            explained += records;
            if records > 0 || !claimed.contains(id) {
                add(Some(*id), records, Some(state.last_timestamp_ms));
            }
        }
        let markers = now.producers.iter().any(|(id, state)| {
            state.transactional && before.producers.get(id).is_none_or(|earlier| earlier != state)
        });
        let grown = u64::try_from(now.end_before.0.saturating_sub(before.end.0)).unwrap_or(0);
        if grown > explained && !markers {
            add(None, grown - explained, None);
        }
    }
    let (mut writing, mut silent): (Vec<_>, Vec<_>) =
        found.into_values().partition(|straggler| straggler.records > 0);
    writing.sort_by_key(|straggler| std::cmp::Reverse(straggler.records));
    silent.sort_by_key(|straggler| std::cmp::Reverse(straggler.last_write_ms));
    Report { writing, silent, ..report }
}

fn answer<'a>(look: &'a Look, place: &TopicPartition) -> Result<&'a PartitionWriters, String> {
    match look.partitions.get(place) {
        Some(Ok(writers)) => Ok(writers),
        Some(Err(reason)) => Err(reason.clone()),
        None => Err("no answer".into()),
    }
}

/// Records that one id wrote between two looks. Sequences count records, begin at 0 in every epoch, and wrap around
/// behind `i32::MAX`.
fn written(before: Option<&ProducerState>, now: &ProducerState) -> u64 {
    let from = match before {
        Some(before) if before.epoch == now.epoch => i64::from(before.last_sequence),
        Some(_) | None => -1,
    };
    let grown = i64::from(now.last_sequence) - from;
    u64::try_from(if grown < 0 { grown + (1 << 31) } else { grown }).unwrap_or(0)
}

#[cfg(test)]
mod tests;
