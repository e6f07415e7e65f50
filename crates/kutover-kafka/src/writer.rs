//! Writes to kutover's own topics.

use std::time::Duration;

use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::context::LinkContext;
use crate::error::provider_error;
use crate::tail::OffThread;

/// A writer whose every message is acknowledged by all in-sync replicas.
pub(crate) struct TopicWriter {
    producer: OffThread<FutureProducer<LinkContext>>,
    timeout: Duration,
}

impl TopicWriter {
    pub(crate) fn new(
        config: &ClientConfig,
        context: LinkContext,
        timeout: Duration,
    ) -> ProviderResult<Self> {
        let producer =
            config.create_with_context(context).map_err(|error| provider_error("make a writer", &error))?;
        Ok(Self { producer: OffThread::new(producer), timeout })
    }

    /// Writes one message to partition 0; no payload is a tombstone.
    pub(crate) async fn write(&self, topic: &str, key: &str, payload: Option<&[u8]>) -> ProviderResult<()> {
        let what = || format!("write {key} to topic {topic}");
        let mut record = FutureRecord::<str, [u8]>::to(topic).partition(0).key(key);
        record.payload = payload;
        // librdkafka's own time-out can fire seconds late; this one does not.
        match tokio::time::timeout(self.timeout, self.producer.get().send(record, self.timeout)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(write_error(what(), &error)),
            Err(_) => Err(ProviderError::new(
                ErrorKind::Unreachable,
                what(),
                format!("not acknowledged within {:?}", self.timeout),
            )),
        }
    }
}

/// Without the message status only an answer of the broker tells that nothing was written.
fn write_error(what: String, error: &KafkaError) -> ProviderError {
    let mut mapped = provider_error(what, error);
    let refused = matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::QueueFull
        )
    );
    mapped.outcome = if refused { Outcome::NotDone } else { Outcome::Unknown };
    mapped
}
