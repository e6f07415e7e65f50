//! A stock librdkafka producer, with the settings that every idempotent one has.

use anyhow::{Result, anyhow};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;

pub(crate) struct Stock {
    producer: FutureProducer,
    topic: String,
}

impl Stock {
    /// Re-bootstraps as it does by default (`metadata.recovery.strategy=rebootstrap`, since librdkafka 2.10).
    pub(crate) fn new(bootstrap: &str, topic: &str) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            // Ten seconds by default: how long it knocks at a dead broker before it asks the name again.
            .set("reconnect.backoff.max.ms", "1000")
            .create()?;
        Ok(Self { producer, topic: topic.to_owned() })
    }

    /// Sends one record and waits for its acknowledgement: so each is a batch of its own.
    pub(crate) async fn send(&self, record: &str) -> Result<()> {
        let wanted = FutureRecord::<(), str>::to(&self.topic).partition(0).payload(record);
        let sent = self.producer.send(wanted, Timeout::Never).await;
        sent.map(|_| ()).map_err(|(error, _)| anyhow!("{record} was not acknowledged: {error}"))
    }
}
