//! What a group has processed.

use std::collections::{BTreeMap, HashMap};

use kutover_core::words::Colour;

use crate::traffic::{RecordId, TrafficRecord};

/// How far a group has read: the next offset by cluster and partition.
pub type Positions = BTreeMap<(Colour, i32), i64>;

/// What one group has processed, by its own count.
#[derive(Clone, Debug, Default)]
pub struct GroupBook {
    /// How often each record was processed: by instance, then by sequence number.
    times: Vec<Vec<u8>>,
    /// The highest sequence number that was processed of each key.
    newest: HashMap<(u16, u16), u64>,
    /// Distinct records.
    pub processed: u64,
    /// Processed once more than needed.
    pub again: u64,
    /// First copies that came after a later record of their key.
    pub out_of_order: u64,
    /// How far it has read.
    pub positions: Positions,
}

impl GroupBook {
    /// Notes one record as processed.
    pub fn process(&mut self, record: &TrafficRecord) {
        let (instance, seq) = (usize::from(record.id.instance), record.id.seq as usize);
        if self.times.len() <= instance {
            self.times.resize(instance + 1, Vec::new());
        }
        let times = &mut self.times[instance];
        if times.len() <= seq {
            times.resize(seq + 1, 0);
        }
        times[seq] = times[seq].saturating_add(1);
        if times[seq] > 1 {
            self.again += 1;
            return;
        }
        self.processed += 1;
        let newest = self.newest.entry((record.id.instance, record.key)).or_insert(record.id.seq);
        if record.id.seq < *newest {
            self.out_of_order += 1;
        } else {
            *newest = record.id.seq;
        }
    }

    /// Whether a record was processed.
    pub fn has(&self, id: RecordId) -> bool {
        self.times
            .get(usize::from(id.instance))
            .and_then(|times| times.get(id.seq as usize))
            .is_some_and(|times| *times > 0)
    }

    /// Notes how far a partition was read.
    pub fn reached(&mut self, colour: Colour, partition: i32, next: i64) {
        let position = self.positions.entry((colour, partition)).or_insert(next);
        *position = next.max(*position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, key: u16) -> TrafficRecord {
        TrafficRecord { id: RecordId { instance: 3, seq }, key, run: 1 }
    }

    #[test]
    fn repeats_and_disorder_are_told_apart() {
        let mut book = GroupBook::default();
        for (seq, key) in [(0, 1), (1, 2), (3, 1), (3, 1), (2, 1), (0, 1), (4, 2)] {
            book.process(&record(seq, key));
        }
        assert_eq!((book.processed, book.again, book.out_of_order), (5, 2, 1));
        assert!(book.has(RecordId { instance: 3, seq: 4 }) && !book.has(RecordId { instance: 3, seq: 5 }));
        assert!(!book.has(RecordId { instance: 9, seq: 0 }));
    }

    #[test]
    fn positions_never_go_back() {
        let mut book = GroupBook::default();
        book.reached(Colour::Blue, 0, 7);
        book.reached(Colour::Blue, 0, 5);
        assert_eq!(book.positions, [((Colour::Blue, 0), 7)].into());
    }
}
