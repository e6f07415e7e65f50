//! Where a controller writes what it is about to do.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::ProviderResult;
use crate::words::Term;

/// One entry. Its body is the cutover machine's own business ([`crate::cutover::Record`]), as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Its place, from 0.
    pub index: u64,
    /// The controller that wrote it.
    pub term: Term,
    /// What it says.
    pub body: serde_json::Value,
}

/// An append-only list of entries.
///
/// # Contract
///
/// 1. `append` is a compare-and-set: it succeeds only if the journal has exactly `entry.index` entries and none of a
///    higher term; otherwise `Conflict` or `Superseded`, `NotDone`.
/// 2. `Ok` means durable: it is there after a power cut.
/// 3. `read` gives every entry in order. An entry that was cut off at the very end while being written is dropped
///    (it was never acknowledged); damage anywhere else is `Invalid` and names the entry.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Every entry.
    ///
    /// # Errors
    /// As the contract says.
    async fn read(&self) -> ProviderResult<Vec<JournalEntry>>;

    /// Adds one entry.
    ///
    /// # Errors
    /// As the contract says.
    async fn append(&self, entry: &JournalEntry) -> ProviderResult<()>;
}
