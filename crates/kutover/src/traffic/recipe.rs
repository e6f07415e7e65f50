//! Strategy `recipe`: the producer of the published blue/green recipe, with its own logic.
//!
//! A scheduled thread calls `switchBlueGreen` at a fixed rate, in the middle of a cutover or not: it makes a new client
//! with the same properties (the endpoint's name as bootstrap), forgets the old one without a flush, and flips the
//! colour that it believes to be on. It never asks DNS which colour that is: the label follows the tick.
//!
//! A record that the forgotten client still held is gone. Its delivery report says "purged" if it comes at all; the
//! recipe's `send` returns nothing, so that nobody sends the record again. In the ledger such a record is
//! [`Fate::Failed`](kutover_audit::Fate::Failed) or stays pending, and the audit looks whether it stands in a log all the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kutover_audit::{Completion, Refused, Sender, SenderAccount, TrafficRecord};
use kutover_core::words::Colour;
use parking_lot::Mutex;
use rdkafka::producer::{FutureProducer, Producer};
use tokio::task::JoinHandle;

use super::stock::{self, Endpoint};

/// How the recipe's timer is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecipePlan {
    /// The time until the first tick.
    pub initial_delay: Duration,
    /// The time between ticks.
    pub period: Duration,
}

struct InUse {
    producer: FutureProducer,
    bootstrap: String,
    /// What the recipe believes; nothing depends on it, and that is the point.
    label: Colour,
    /// When its bootstrap servers became others than the first client's.
    moved_at: Option<Instant>,
}

/// One producer of the recipe.
pub(crate) struct RecipeSender {
    in_use: Arc<Mutex<InUse>>,
    timer: JoinHandle<()>,
}

impl RecipeSender {
    /// Makes the first client and starts the timer.
    ///
    /// # Errors
    /// The name leads nowhere, or the client cannot be made.
    pub(crate) async fn start(endpoint: Endpoint, plan: RecipePlan) -> Result<Self, String> {
        let (producer, bootstrap) = endpoint.connect().await?;
        let first = bootstrap.clone();
        let in_use = Arc::new(Mutex::new(InUse { producer, bootstrap, label: Colour::Blue, moved_at: None }));
        let shared = Arc::clone(&in_use);
        let timer = tokio::spawn(async move {
            let mut ticks =
                tokio::time::interval_at(tokio::time::Instant::now() + plan.initial_delay, plan.period);
            loop {
                ticks.tick().await;
                match endpoint.connect().await {
                    Ok(client) => switch_blue_green(&shared, client, &first).await,
                    Err(reason) => tracing::warn!(reason, "the recipe could not make a new client"),
                }
            }
        });
        Ok(Self { in_use, timer })
    }
}

/// The recipe's `switchBlueGreen`: the new client takes the old one's place, and the old one is dropped as it is.
async fn switch_blue_green(
    in_use: &Mutex<InUse>,
    (producer, bootstrap): (FutureProducer, String),
    first: &str,
) {
    let old = {
        let mut in_use = in_use.lock();
        if bootstrap != first && in_use.moved_at.is_none() {
            in_use.moved_at = Some(Instant::now());
        }
        in_use.label = in_use.label.other();
        in_use.bootstrap = bootstrap;
        std::mem::replace(&mut in_use.producer, producer)
    };
    // librdkafka's end of a client blocks; the recipe's garbage collector has a thread for that, too.
    let _ = tokio::task::spawn_blocking(move || drop(old)).await;
}

impl Drop for RecipeSender {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

#[async_trait]
impl Sender for RecipeSender {
    async fn send(&self, record: &TrafficRecord) -> Result<Completion, Refused> {
        let producer = self.in_use.lock().producer.clone();
        stock::offer(&producer, record)
    }

    async fn finish(&self) {
        self.timer.abort();
        let producer = self.in_use.lock().producer.clone();
        let flushed = tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(10))).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "a recipe producer could not be flushed at the end");
        }
    }

    fn account(&self) -> SenderAccount {
        let in_use = self.in_use.lock();
        tracing::debug!(label = %in_use.label, bootstrap = in_use.bootstrap, "where the recipe ended");
        SenderAccount {
            switched_at: in_use.moved_at,
            on: Some(in_use.bootstrap.clone()),
            ..SenderAccount::default()
        }
    }
}
