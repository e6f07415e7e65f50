//! What a broker knows of producers, as real Kafka has it: ids in blocks, and five batches per partition and id.
//!
//! A producer id says nothing of the cluster that gave it out. Two fresh clusters both begin at 0, and a batch whose id,
//! epoch and sequence a partition has among its last five is taken for a repetition, acknowledged and thrown away
//! (L16).

use std::collections::{BTreeMap, VecDeque};

/// Ids that one broker takes from its cluster at once.
pub const PRODUCER_ID_BLOCK: i64 = 1000;
/// The producer id of batches without sequences.
pub(crate) const NO_PRODUCER_ID: i64 = -1;
/// Batches that a partition remembers of a producer.
const REMEMBERED: usize = 5;

/// Who a batch says it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchId {
    /// The producer id, wherever it is from.
    pub producer_id: i64,
    /// The epoch of that id.
    pub epoch: i16,
    /// The sequence of its first record in this partition.
    pub first: i32,
}

/// The producer ids of a cluster.
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    next_block: i64,
    blocks: BTreeMap<i32, (i64, i64)>,
}

impl ProducerIds {
    /// The next id that a broker gives out.
    pub(super) fn take(&mut self, broker: i32) -> i64 {
        let block = self.blocks.entry(broker).or_insert((0, 0));
        if block.0 == block.1 {
            *block = (self.next_block, self.next_block + PRODUCER_ID_BLOCK);
            self.next_block = block.1;
        }
        block.0 += 1;
        block.0 - 1
    }
}

/// What a partition makes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    /// It has it already, at this offset.
    Duplicate(i64),
    /// Sequences are missing in between.
    OutOfOrder,
    /// The id has gone on to a later epoch.
    OldEpoch,
}

#[derive(Debug)]
struct Known {
    epoch: i16,
    /// First and last sequence, and the first offset.
    last: VecDeque<(i32, i32, i64)>,
}

/// What one partition knows of the producers that wrote to it.
#[derive(Debug, Default)]
pub(super) struct Sequences(BTreeMap<i64, Known>);

impl Sequences {
    pub(super) fn judge(&self, batch: &BatchId, count: usize) -> Verdict {
        // An id that it has never seen may begin with any sequence.
        let Some(known) = self.0.get(&batch.producer_id) else { return Verdict::Take };
        if batch.epoch < known.epoch {
            return Verdict::OldEpoch;
        }
        if batch.epoch > known.epoch {
            return if batch.first == 0 { Verdict::Take } else { Verdict::OutOfOrder };
        }
        let last = batch.first + count as i32 - 1;
        if let Some(same) = known.last.iter().find(|held| (held.0, held.1) == (batch.first, last)) {
            return Verdict::Duplicate(same.2);
        }
        match known.last.back() {
            Some(newest) if newest.1 + 1 != batch.first => Verdict::OutOfOrder,
            _ => Verdict::Take,
        }
    }

    pub(super) fn took(&mut self, batch: &BatchId, count: usize, offset: i64) {
        if batch.producer_id == NO_PRODUCER_ID {
            return;
        }
        let fresh = Known { epoch: batch.epoch, last: VecDeque::new() };
        let known = self.0.entry(batch.producer_id).or_insert(fresh);
        if known.epoch != batch.epoch {
            known.epoch = batch.epoch;
            known.last.clear();
        }
        known.last.push_back((batch.first, batch.first + count as i32 - 1, offset));
        if known.last.len() > REMEMBERED {
            known.last.pop_front();
        }
    }

    /// Forgets what stood at an offset or behind it.
    pub(super) fn truncate(&mut self, end: i64) {
        for known in self.0.values_mut() {
            known.last.retain(|(_, _, offset)| *offset < end);
        }
        self.0.retain(|_, known| !known.last.is_empty());
    }

    /// Each id with its epoch, its last sequence and that one's offset.
    pub(super) fn newest(&self) -> impl Iterator<Item = (i64, i16, i32, i64)> {
        self.0.iter().filter_map(|(id, known)| {
            let (first, last, offset) = known.last.back()?;
            Some((*id, known.epoch, *last, offset + i64::from(last - first)))
        })
    }

    /// Whose batch a record is part of, as far as it is remembered.
    pub(super) fn of(&self, offset: i64) -> Option<i64> {
        let holds = |known: &Known| {
            known.last.iter().any(|(first, last, at)| (*at..=at + i64::from(last - first)).contains(&offset))
        };
        self.0.iter().find(|(_, known)| holds(known)).map(|(id, _)| *id)
    }

    /// The producer ids that it knows.
    pub(super) fn ids(&self) -> impl Iterator<Item = i64> {
        self.0.keys().copied()
    }
}
