//! The highest acknowledged send sequence of each partition of one client.
//!
//! L3 asks of a record that was not written whether a *later* one of its partition was acknowledged, and the
//! acknowledgement may have come long before the seal. So every acknowledgement leaves a mark; one compare and one
//! store in a table of fixed size, without a lock and without an allocation.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::hand_over::Sequence;

/// A topic, hashed. Where two topics share a key, a record may be returned that could have been sent on; order is
/// never harmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicKey(pub u32);

impl TopicKey {
    /// The key of a topic: a multiplicative hash of eight bytes at a time, because every send computes it.
    #[inline]
    pub fn of(topic: &str) -> Self {
        const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut hash = topic.len() as u64;
        let (chunks, rest) = topic.as_bytes().as_chunks::<8>();
        for chunk in chunks {
            hash = (hash ^ u64::from_le_bytes(*chunk)).wrapping_mul(MULTIPLIER).rotate_left(29);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(MULTIPLIER);
        Self((hash >> 32) as u32)
    }
}

/// The highest acknowledged sequence, as the hand-over asks for it.
pub trait Highest {
    /// Of one partition, if any.
    fn in_partition(&self, topic: TopicKey, partition: i32) -> Option<Sequence>;
    /// Of any partition of a topic, if any.
    fn in_topic(&self, topic: TopicKey) -> Option<Sequence>;
}

/// Stands for a client that is not settled: any record there may yet be acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct AnyLater;

impl Highest for AnyLater {
    fn in_partition(&self, _: TopicKey, _: i32) -> Option<Sequence> {
        Some(Sequence(u64::MAX))
    }

    fn in_topic(&self, _: TopicKey) -> Option<Sequence> {
        Some(Sequence(u64::MAX))
    }
}

/// The highest acknowledged send sequence of each partition. Sequences count from 1; zero stands for "none".
#[derive(Debug)]
pub struct AckMarks {
    cells: Box<[Cell]>,
    /// Takes the marks of partitions that found no cell, and stands for every partition: conservative, never wrong.
    spilled: AtomicU64,
}

#[derive(Debug, Default)]
struct Cell {
    /// Topic key above, partition + 1 below; zero is free.
    tag: AtomicU64,
    highest: AtomicU64,
}

/// How far a look for a cell goes before it gives up.
const PROBES: usize = 64;

impl AckMarks {
    /// A table with room for at least as many partitions.
    pub fn with_room_for(partitions: usize) -> Self {
        let cells = (partitions * 2).next_power_of_two();
        Self { cells: (0..cells).map(|_| Cell::default()).collect(), spilled: AtomicU64::new(0) }
    }

    /// Notes an acknowledgement.
    #[inline]
    pub fn note(&self, topic: TopicKey, partition: i32, sequence: Sequence) {
        let tag = tag(topic, partition);
        for probe in 0..PROBES.min(self.cells.len()) {
            let cell = &self.cells[self.index(tag, probe)];
            let found = match cell.tag.load(Ordering::Acquire) {
                0 => match cell.tag.compare_exchange(0, tag, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => tag,
                    Err(other) => other,
                },
                found => found,
            };
            if found == tag {
                raise(&cell.highest, sequence.0);
                return;
            }
        }
        raise(&self.spilled, sequence.0);
    }

    fn index(&self, tag: u64, probe: usize) -> usize {
        let spread = (tag.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize;
        spread.wrapping_add(probe) & (self.cells.len() - 1)
    }

    fn spilled(&self) -> u64 {
        self.spilled.load(Ordering::Acquire)
    }
}

impl Highest for AckMarks {
    fn in_partition(&self, topic: TopicKey, partition: i32) -> Option<Sequence> {
        let tag = tag(topic, partition);
        let found = (0..PROBES.min(self.cells.len()))
            .map(|probe| &self.cells[self.index(tag, probe)])
            .take_while(|cell| cell.tag.load(Ordering::Acquire) != 0)
            .find(|cell| cell.tag.load(Ordering::Acquire) == tag)
            .map_or(0, |cell| cell.highest.load(Ordering::Acquire));
        some(found.max(self.spilled()))
    }

    fn in_topic(&self, topic: TopicKey) -> Option<Sequence> {
        let found = self
            .cells
            .iter()
            .filter(|cell| {
                let tag = cell.tag.load(Ordering::Acquire);
                tag != 0 && (tag >> 32) as u32 == topic.0
            })
            .map(|cell| cell.highest.load(Ordering::Acquire))
            .max()
            .unwrap_or(0);
        some(found.max(self.spilled()))
    }
}

fn tag(topic: TopicKey, partition: i32) -> u64 {
    (u64::from(topic.0) << 32) + u64::from(partition.cast_unsigned().wrapping_add(1))
}

/// Reports come mostly in order and from one thread, so a look before the write saves most of the atomic maxima.
#[inline]
fn raise(highest: &AtomicU64, sequence: u64) {
    if highest.load(Ordering::Relaxed) < sequence {
        highest.fetch_max(sequence, Ordering::AcqRel);
    }
}

fn some(sequence: u64) -> Option<Sequence> {
    (sequence != 0).then_some(Sequence(sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_keep_partitions_and_topics_apart() {
        let (orders, refunds) = (TopicKey::of("orders"), TopicKey::of("refunds"));
        let marks = AckMarks::with_room_for(8);
        marks.note(orders, 0, Sequence(7));
        marks.note(orders, 0, Sequence(3));
        marks.note(orders, 2, Sequence(9));
        marks.note(refunds, 0, Sequence(11));
        assert_eq!(marks.in_partition(orders, 0), Some(Sequence(7)));
        assert_eq!(marks.in_partition(orders, 1), None);
        assert_eq!(marks.in_topic(orders), Some(Sequence(9)));
        assert_eq!(marks.in_topic(TopicKey::of("other")), None);
    }

    /// A table that is too small says "later" too often, never too seldom.
    #[test]
    fn a_full_table_is_conservative() {
        let marks = AckMarks::with_room_for(1);
        let orders = TopicKey::of("orders");
        for partition in 0..100 {
            marks.note(orders, partition, Sequence(u64::try_from(partition).unwrap() + 1));
        }
        for partition in 0..100 {
            let highest = marks.in_partition(orders, partition).unwrap();
            assert!(highest.0 > u64::try_from(partition).unwrap());
        }
        assert_eq!(marks.in_topic(TopicKey::of("other")), Some(Sequence(100)));
    }

    /// A table has the room that was asked for: no mark spills over to other partitions.
    #[test]
    fn a_table_has_room_for_what_was_asked_for() {
        for partitions in [1_u32, 3, 8, 64, 100] {
            let marks = AckMarks::with_room_for(partitions as usize);
            assert!(
                marks.cells.len() >= 2 * partitions as usize,
                "half of it stays free, so that looks are short"
            );
            let orders = TopicKey::of("orders");
            for partition in 0..partitions {
                marks.note(orders, partition.cast_signed(), Sequence(u64::from(partition) + 1));
            }
            for partition in 0..partitions {
                let highest = marks.in_partition(orders, partition.cast_signed());
                assert_eq!(highest, Some(Sequence(u64::from(partition) + 1)), "{partition} of {partitions}");
            }
        }
    }

    /// L3: of a client that is not settled any record may yet be acknowledged.
    #[test]
    fn anything_may_come_later_from_a_client_that_is_not_settled() {
        let latest = Some(Sequence(u64::MAX));
        assert_eq!((AnyLater.in_partition(TopicKey(1), 0), AnyLater.in_topic(TopicKey(1))), (latest, latest));
    }

    /// No bit of a name is lost on the way to its key.
    #[test]
    fn names_that_differ_in_one_bit_have_other_keys() {
        let name = *b"a-rather-long-topic-name.1";
        let key = |name: &[u8]| TopicKey::of(std::str::from_utf8(name).unwrap());
        for (at, bit) in (0..name.len()).flat_map(|at| (0..7).map(move |bit| (at, bit))) {
            let mut other = name;
            other[at] ^= 1 << bit;
            assert_ne!(key(&other), key(&name), "bit {bit} of byte {at}");
        }
    }

    #[test]
    fn names_that_differ_anywhere_have_other_keys() {
        let names =
            ["", "a", "b", "orders", "orders.eu", "orders.us", "orders.eu.v2", "a-rather-long-topic-name.1"];
        let keys: std::collections::BTreeSet<_> = names.iter().map(|name| TopicKey::of(name)).collect();
        assert_eq!(keys.len(), names.len());
    }
}
