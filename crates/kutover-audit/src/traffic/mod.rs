//! The load: producers that send numbered records, paced, and note what became of each.

mod ledger;
mod moved;
mod pace;
mod record;
mod stall;

pub use ledger::{Fate, Ledger, Totals};
pub use moved::{Deployment, KutoverSender};
pub use pace::{Traffic, TrafficPlan};
pub use record::{RecordId, TrafficRecord};
pub use stall::{HeldUp, StallMicros, over_all};

use async_trait::async_trait;
use futures_util::future::BoxFuture;

/// The topic that the traffic goes to.
pub const TOPIC: &str = "orders";

/// A service's producer settings, the same for every way to move: strong acks, idempotence, and batches that wait up to
/// 50 ms to fill, as services have it that send small records at a high rate. So at any moment a client holds some
/// records, and what is done with them shows.
pub fn producer_properties() -> Vec<(&'static str, &'static str)> {
    vec![("acks", "all"), ("enable.idempotence", "true"), ("linger.ms", "50")]
}

/// A producer's name, from its number.
pub fn producer_name(number: usize) -> String {
    format!("producer-{number}")
}

/// Resolves to what became of an accepted record; `None` if the producer will never say.
pub type Completion = BoxFuture<'static, Option<Fate>>;

/// A record that a producer did not take, and why. Nothing was queued: the same one is offered again.
#[derive(Debug)]
pub struct Refused(pub String);

/// One producer instance: the only thing in which ways to move differ.
#[async_trait]
pub trait Sender: Send + Sync {
    /// Offers a record; returns once it is accepted (not: acknowledged).
    ///
    /// # Errors
    /// The producer refuses it now.
    async fn send(&self, record: &TrafficRecord) -> Result<Completion, Refused>;

    /// Ends the producer as a service that stops ends one, waiting for what is outstanding.
    async fn finish(&self);

    /// What it did, for the report.
    fn account(&self) -> SenderAccount;
}

/// What a producer says of itself at the end.
#[derive(Clone, Debug, Default)]
pub struct SenderAccount {
    /// When it reached the new cluster; `None` if it never did (or has no notion of it).
    pub switched_at: Option<std::time::Instant>,
    /// Records that it sent again without knowing their fate: the bound on duplicates it admits to.
    pub possibly_duplicated: u64,
    /// Its own word that it moved, where it knows such a thing.
    pub receipt: Option<serde_json::Value>,
    /// Where its records go at the end, as far as it knows.
    pub on: Option<String>,
    /// Sends that it held back after it had accepted them.
    pub held_up: HeldUp,
}
