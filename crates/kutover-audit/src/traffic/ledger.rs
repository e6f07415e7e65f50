//! What became of each record, as its producer saw it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::record::RecordId;

/// What a producer said of one accepted record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Nothing yet.
    Pending,
    /// A cluster acknowledged it.
    Acknowledged,
    /// Handed back to the caller: not written, and will not be.
    NotWritten,
    /// Handed back to the caller: may have been written.
    Unknown,
    /// A stock client's delivery report failed. The record was not handed back with a fate: nobody sends it again.
    Failed,
}

impl Fate {
    /// Whether the caller got the record back with its fate.
    pub fn is_returned(self) -> bool {
        matches!(self, Fate::NotWritten | Fate::Unknown)
    }
}

/// The ledger of all producers of a run.
#[derive(Debug)]
pub struct Ledger {
    /// By instance, then by sequence number.
    fates: RwLock<Vec<Arc<Mutex<Vec<Fate>>>>>,
    accepted: AtomicU64,
    acknowledged: AtomicU64,
    returned: AtomicU64,
    failed: AtomicU64,
}

/// The totals of a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records that a producer took.
    pub accepted: u64,
    /// Of these, acknowledged ones.
    pub acknowledged: u64,
    /// Of these, ones handed back with their fate.
    pub returned: u64,
    /// Of these, ones whose delivery report failed in a stock client.
    pub failed: u64,
}

impl Ledger {
    /// An empty ledger for a number of producers.
    pub fn new(instances: u16) -> Self {
        Self {
            fates: RwLock::new((0..instances).map(|_| Arc::default()).collect()),
            accepted: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Makes room for one more producer, and gives its number.
    pub fn add_instance(&self) -> u16 {
        let mut fates = self.fates.write();
        fates.push(Arc::default());
        u16::try_from(fates.len() - 1).unwrap_or(u16::MAX)
    }

    fn of(&self, id: RecordId) -> Arc<Mutex<Vec<Fate>>> {
        Arc::clone(&self.fates.read()[usize::from(id.instance)])
    }

    /// Notes that a producer has taken a record. Each instance's come in order of their sequence numbers.
    pub fn accept(&self, id: RecordId) {
        let of = self.of(id);
        let mut fates = of.lock();
        assert_eq!(fates.len() as u64, id.seq, "producer {}: sequence numbers have no gaps", id.instance);
        fates.push(Fate::Pending);
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes what became of an accepted record.
    pub fn settle(&self, id: RecordId, fate: Fate) {
        let of = self.of(id);
        let mut fates = of.lock();
        let Some(entry) = usize::try_from(id.seq).ok().and_then(|seq| fates.get_mut(seq)) else { return };
        *entry = fate;
        drop(fates);
        match fate {
            Fate::Pending => return,
            Fate::Acknowledged => &self.acknowledged,
            Fate::NotWritten | Fate::Unknown => &self.returned,
            Fate::Failed => &self.failed,
        }
        .fetch_add(1, Ordering::Relaxed);
    }

    /// The totals now.
    pub fn totals(&self) -> Totals {
        Totals {
            accepted: self.accepted.load(Ordering::Relaxed),
            acknowledged: self.acknowledged.load(Ordering::Relaxed),
            returned: self.returned.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// All entries, by instance and sequence number.
    pub fn entries(&self) -> Vec<Vec<Fate>> {
        self.fates.read().iter().map(|fates| fates.lock().clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_follow_the_entries() {
        let ledger = Ledger::new(2);
        for seq in 0..4 {
            ledger.accept(RecordId { instance: 1, seq });
        }
        for (seq, fate) in [(0, Fate::Acknowledged), (1, Fate::Unknown), (2, Fate::Failed)] {
            ledger.settle(RecordId { instance: 1, seq }, fate);
        }
        assert_eq!(ledger.totals(), Totals { accepted: 4, acknowledged: 1, returned: 1, failed: 1 });
        let entries = ledger.entries();
        assert_eq!(entries[1], [Fate::Acknowledged, Fate::Unknown, Fate::Failed, Fate::Pending]);
        assert!(entries[0].is_empty());
    }
}
