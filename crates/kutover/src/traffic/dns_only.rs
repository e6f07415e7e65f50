//! Strategy `dns-only`: a stock client, a long-lived singleton as clients are, and nothing but a changed record.

use std::time::Duration;

use async_trait::async_trait;
use kutover_audit::{Completion, Refused, Sender, SenderAccount, TrafficRecord};
use rdkafka::producer::{FutureProducer, Producer};

use super::stock::{self, Endpoint};

/// One stock producer.
pub(crate) struct DnsOnlySender {
    producer: FutureProducer,
    bootstrap: String,
}

impl DnsOnlySender {
    /// Makes the client, the only one of its life.
    ///
    /// # Errors
    /// The name leads nowhere, or the client cannot be made.
    pub(crate) async fn start(endpoint: &Endpoint) -> Result<Self, String> {
        let (producer, bootstrap) = endpoint.connect().await?;
        Ok(Self { producer, bootstrap })
    }
}

#[async_trait]
impl Sender for DnsOnlySender {
    async fn send(&self, record: &TrafficRecord) -> Result<Completion, Refused> {
        stock::offer(&self.producer, record)
    }

    async fn finish(&self) {
        let producer = self.producer.clone();
        let flushed = tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(10))).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "a stock producer could not be flushed at the end");
        }
    }

    fn account(&self) -> SenderAccount {
        SenderAccount { on: Some(self.bootstrap.clone()), ..SenderAccount::default() }
    }
}
