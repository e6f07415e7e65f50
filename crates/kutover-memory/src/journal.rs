//! A journal as a list.

use std::sync::Arc;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{Journal, JournalEntry};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::faults::{Fault, Faults, pause};
use crate::weather::UnfinishedAppend;

#[derive(Debug, Default)]
struct State {
    entries: Vec<JournalEntry>,
    damaged: Option<u64>,
    /// Whether a part of an entry stands behind the last whole one. A reader drops it, the next append takes its place.
    torn: bool,
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

    /// Whether a torn entry stands at the end.
    pub fn is_torn(&self) -> bool {
        self.state.lock().torn
    }

    /// Damages one entry: reading says so from now on.
    pub fn damage(&self, index: u64) {
        self.state.lock().damaged = Some(index);
    }
}

/// An append that is under way. Dropped before it returned, the weather says what stays of it.
struct Unfinished<'a> {
    journal: &'a MemoryJournal,
    entry: &'a JournalEntry,
    returned: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let Some(weather) = self.journal.faults.weather().filter(|_| !self.returned) else { return };
        let (state, entry) = (Arc::clone(&self.journal.state), self.entry.clone());
        // An append that finds something else there writes nothing, as it would have if its writer had lived.
        match weather.unfinished_append() {
            UnfinishedAppend::Lost => self.journal.faults.fire("journal-lost"),
            UnfinishedAppend::Torn => {
                self.journal.faults.fire("journal-torn");
                state.lock().torn = true;
            }
            UnfinishedAppend::Whole => {
                self.journal.faults.fire("journal-unheard");
                let _ = state.lock().append(entry);
            }
            UnfinishedAppend::Late { after_ms } => {
                self.journal.faults.fire("journal-late");
                // At the end of a run there is no later any more.
                let Ok(runtime) = Handle::try_current() else { return };
                runtime.spawn(async move {
                    pause(after_ms).await;
                    let _ = state.lock().append(entry);
                });
            }
        }
    }
}

impl State {
    fn append(&mut self, entry: JournalEntry) -> ProviderResult<()> {
        let what = || format!("append entry {} to the journal", entry.index);
        if let Some(newer) = self.entries.iter().map(|known| known.term).max().filter(|t| *t > entry.term) {
            let reason = format!("term {newer} is in force, this is term {}", entry.term);
            return Err(ProviderError::new(ErrorKind::Superseded, what(), reason));
        }
        let held = self.entries.len();
        if entry.index != held as u64 {
            let reason = format!("it has {held} entries; read it again");
            return Err(ProviderError::new(ErrorKind::Conflict, what(), reason));
        }
        self.torn = false;
        self.entries.push(entry);
        Ok(())
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn read(&self) -> ProviderResult<Vec<JournalEntry>> {
        let state = Arc::clone(&self.state);
        self.faults
            .run("journal.read", move || {
                let state = state.lock();
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

    /// With weather, an entry stands there once all of the call's time is over, and not before.
    async fn append(&self, entry: &JournalEntry) -> ProviderResult<()> {
        let mut unfinished = Unfinished { journal: self, entry, returned: false };
        let (state, appended) = (Arc::clone(&self.state), entry.clone());
        let given = self.faults.run_here("journal.append", move || state.lock().append(appended)).await;
        unfinished.returned = true;
        given
    }
}
