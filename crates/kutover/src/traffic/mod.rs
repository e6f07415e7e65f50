//! The load: producers that send numbered records, paced, and note what became of each.

mod dns_only;
mod ledger;
mod moved;
mod pace;
mod recipe;
mod record;
mod stall;
mod stock;

pub(crate) use dns_only::DnsOnlySender;
pub(crate) use ledger::{Fate, Ledger};
pub(crate) use moved::KutoverSender;
pub(crate) use pace::{Traffic, TrafficPlan};
pub(crate) use recipe::{RecipePlan, RecipeSender};
pub(crate) use record::{RecordId, TrafficRecord};
pub(crate) use stall::{HeldUp, StallMicros, over_all};
pub(crate) use stock::Endpoint;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

/// The topic that the demo's traffic goes to.
pub(crate) const TOPIC: &str = "orders";

/// Resolves to what became of an accepted record; `None` if the producer will never say.
pub(crate) type Completion = BoxFuture<'static, Option<Fate>>;

/// A record that a producer did not take, and why. Nothing was queued: the same one is offered again.
#[derive(Debug)]
pub(crate) struct Refused(pub String);

/// One producer instance under a strategy: the only thing in which the strategies differ.
#[async_trait]
pub(crate) trait Sender: Send + Sync {
    /// Offers a record; returns once it is accepted (not: acknowledged).
    ///
    /// # Errors
    /// The producer refuses it now.
    async fn send(&self, record: &TrafficRecord) -> Result<Completion, Refused>;

    /// Ends the producer as its strategy ends one when the service stops, waiting for what is outstanding.
    async fn finish(&self);

    /// What it did, for the report.
    fn account(&self) -> SenderAccount;
}

/// What a producer says of itself at the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct SenderAccount {
    /// When it reached the new cluster; `None` if it never did (or, for the recipe, has no notion of it).
    pub switched_at: Option<std::time::Instant>,
    /// Records that it sent again without knowing their fate: the bound on duplicates it admits to.
    pub possibly_duplicated: u64,
    /// Its own word that it moved, where the strategy knows such a thing.
    pub receipt: Option<serde_json::Value>,
    /// Where its records go at the end, as far as it knows.
    pub on: Option<String>,
    /// Sends that it held back after it had accepted them.
    pub held_up: HeldUp,
}
