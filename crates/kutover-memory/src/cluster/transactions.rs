//! Transactions: markers, aborted data, and transactions that hang.

use std::collections::BTreeMap;
use std::sync::Arc;

use kutover_core::words::{Offset, TopicPartition};

use super::log::{Entry, StoredRecord};
use super::{FenceStyle, MemoryCluster, State};

/// What is decided of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionState {
    /// Nothing yet. It stays so for as long as nobody ends it.
    Open,
    /// Its end is decided, and a marker cannot be written: it hangs, also when what was in the way is gone.
    Wedged {
        /// Whether it was to be committed.
        commit: bool,
    },
    /// Committed.
    Committed,
    /// Aborted: its records stand in the log, and a `read_committed` reader is never given them.
    Aborted,
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) state: TransactionState,
    /// Where it has records, with the first one's offset.
    pub(super) places: BTreeMap<TopicPartition, i64>,
}

/// A transaction of some producer. Dropped, it stays open: a hanging transaction.
#[derive(Debug)]
pub struct MemoryTransaction {
    cluster: MemoryCluster,
    id: u64,
}

impl MemoryCluster {
    /// Begins a transaction.
    pub fn begin(&self) -> MemoryTransaction {
        let mut state = self.state.lock();
        state.transactions_made += 1;
        let id = state.transactions_made;
        state.transactions.insert(id, Transaction { state: TransactionState::Open, places: BTreeMap::new() });
        MemoryTransaction { cluster: self.clone(), id }
    }

    /// What became of a transaction that an [`Append`](super::Append) names.
    pub fn transaction(&self, id: u64) -> Option<TransactionState> {
        self.state.lock().transactions.get(&id).map(|transaction| transaction.state)
    }

    /// Transactions that hold a last stable offset back, oldest first.
    pub fn undecided_transactions(&self) -> Vec<u64> {
        self.state.lock().undecided.iter().copied().collect()
    }

    /// Ends a transaction that its owner left open, as the coordinator's time-out does.
    pub fn abort_transaction(&self, id: u64) {
        self.end_transaction(id, false);
    }

    /// The transaction coordinator starts again and writes the markers that it owes.
    pub fn restart_coordinator(&self) {
        let mut state = self.state.lock();
        let wedged = state.transactions.iter().filter_map(|(id, transaction)| match transaction.state {
            TransactionState::Wedged { commit } => Some((*id, commit)),
            _ => None,
        });
        for (id, commit) in wedged.collect::<Vec<_>>() {
            state.end(id, commit);
        }
    }

    fn end_transaction(&self, id: u64, commit: bool) {
        let mut state = self.state.lock();
        let open = state.transactions.get(&id).is_some_and(|known| known.state == TransactionState::Open);
        if open && state.end(id, commit) {
            self.faults.fire("transaction-wedged");
        }
    }
}

impl MemoryTransaction {
    /// Names it in the truth of the log.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Appends as part of it.
    ///
    /// # Errors
    /// As [`MemoryCluster::produce`]; 48 when it is ended already.
    pub fn produce(
        &self,
        place: &TopicPartition,
        record: StoredRecord,
    ) -> Result<Offset, (i32, &'static str)> {
        let mut state = self.cluster.state.lock();
        state.client_may_write(place)?;
        let known = state.transactions.get(&self.id);
        if known.is_none_or(|known| known.state != TransactionState::Open) {
            return Err((48, "InvalidTransactionState"));
        }
        let offset = state.append(place, Arc::new(record), None, Some(self.id));
        state.undecided.insert(self.id);
        if let Some(known) = state.transactions.get_mut(&self.id) {
            known.places.entry(place.clone()).or_insert(offset.0);
        }
        Ok(offset)
    }

    /// Commits it. The coordinator says yes even where it then cannot write the marker.
    pub fn commit(self) {
        self.cluster.end_transaction(self.id, true);
    }

    /// Aborts it.
    pub fn abort(self) {
        self.cluster.end_transaction(self.id, false);
    }
}

impl State {
    /// Writes the markers. Gives whether that did not work.
    fn end(&mut self, id: u64, commit: bool) -> bool {
        let Some(known) = self.transactions.get(&id) else { return false };
        let places: Vec<_> = known.places.keys().cloned().collect();
        // Markers pass an ACL, and count as records for the size.
        let sized = self.options.fence_style == FenceStyle::MessageSize;
        let wedged = sized && places.iter().any(|place| self.refuses(place));
        let state = match (wedged, commit) {
            (true, commit) => TransactionState::Wedged { commit },
            (false, true) => TransactionState::Committed,
            (false, false) => TransactionState::Aborted,
        };
        if !wedged {
            self.undecided.remove(&id);
            for place in &places {
                let marker = StoredRecord { marker: true, ..StoredRecord::default() };
                self.append(place, Arc::new(marker), None, Some(id));
            }
        }
        if let Some(known) = self.transactions.get_mut(&id) {
            known.state = state;
        }
        wedged
    }

    /// The last stable offset: what `read_committed` readers get to.
    pub(super) fn last_stable(&self, place: &TopicPartition) -> Offset {
        let Some(log) = self.partition(place) else { return Offset(0) };
        let firsts = self.undecided.iter().filter_map(|id| self.transactions.get(id)?.places.get(place));
        Offset(firsts.copied().fold(log.high_watermark(), i64::min))
    }

    /// Whether an entry is part of a transaction that has not ended.
    pub(super) fn is_undecided(&self, entry: &Entry) -> bool {
        entry.transaction.is_some_and(|id| self.undecided.contains(&id))
    }

    /// Whether an entry is data that some reader is given or may yet be given.
    pub(super) fn is_data(&self, entry: &Entry) -> bool {
        let of = entry.transaction.and_then(|id| self.transactions.get(&id));
        !entry.record.marker && of.is_none_or(|of| of.state != TransactionState::Aborted)
    }
}
