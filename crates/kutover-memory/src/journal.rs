//! A journal as a list.

use std::sync::Arc;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{Journal, JournalEntry};
use parking_lot::Mutex;

use crate::faults::{Fault, Faults};

#[derive(Debug, Default)]
struct State {
    entries: Vec<JournalEntry>,
    damaged: Option<u64>,
}

/// An append-only list that outlives the controller that wrote it.
#[derive(Clone, Debug)]
pub struct MemoryJournal {
    state: Arc<Mutex<State>>,
    faults: Faults,
}

impl MemoryJournal {
    /// Empty.
    pub fn new(faults: &Faults) -> Self {
        Self { state: Arc::default(), faults: faults.clone() }
    }

    /// What it holds, past all faults.
    pub fn entries(&self) -> Vec<JournalEntry> {
        self.state.lock().entries.clone()
    }

    /// The next append is cut off while being written: its writer never learns of it, a reader never sees it.
    pub fn tear_next(&self) {
        self.faults.inject("journal.append", Fault::UnknownNotDone);
    }

    /// Damages one entry: reading says so from now on.
    pub fn damage(&self, index: u64) {
        self.state.lock().damaged = Some(index);
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn read(&self) -> ProviderResult<Vec<JournalEntry>> {
        self.faults
            .run("journal.read", || {
                let state = self.state.lock();
                match state.damaged {
                    Some(index) => Err(ProviderError::new(
                        ErrorKind::Invalid,
                        format!("read journal, entry {index}"),
                        "it is damaged; restore the journal from a copy",
                    )),
                    None => Ok(state.entries.clone()),
                }
            })
            .await
    }

    async fn append(&self, entry: &JournalEntry) -> ProviderResult<()> {
        self.faults
            .run("journal.append", || {
                let mut state = self.state.lock();
                let what = || format!("append entry {} to the journal", entry.index);
                if let Some(newer) =
                    state.entries.iter().map(|known| known.term).max().filter(|t| *t > entry.term)
                {
                    let reason = format!("term {newer} is in force, this is term {}", entry.term);
                    return Err(ProviderError::new(ErrorKind::Superseded, what(), reason));
                }
                let held = state.entries.len();
                if entry.index != held as u64 {
                    let reason = format!("it has {held} entries; read it again");
                    return Err(ProviderError::new(ErrorKind::Conflict, what(), reason));
                }
                state.entries.push(entry.clone());
                Ok(())
            })
            .await
    }
}
