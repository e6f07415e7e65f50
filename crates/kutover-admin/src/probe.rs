//! Asks each leader whether it takes records, without writing one.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use krafka::error::ErrorCode;
use krafka::producer::{Acks, Producer};
use krafka::{Compression, Kafka, Record};
use kutover_core::error::ProviderResult;
use kutover_core::words::{TopicName, TopicPartition};

use crate::admin::{KafkaAdmin, fenceable};
use crate::errors::{code, provider};
use crate::topics::count;

/// Leaders asked at once: each question is as long as the largest record that the topic takes.
const PROBES_AT_ONCE: usize = 8;
/// By how much the probe's record is larger than the topic's limit.
const EXCESS: usize = 1024;
/// Room for a request's own framing.
const FRAMING: usize = 64 * 1024;
const LINGER: Duration = Duration::ZERO;

/// What one leader said to a record that is too large for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// Not authorised: the fence stands here.
    Fenced,
    /// Too large: it would have taken a smaller one.
    Open,
    /// Something else, or nothing: the reason.
    Unclear(String),
}

impl KafkaAdmin {
    /// Asks the leader of every partition of some topics, as a new ordinary client, with a record larger than the
    /// topic's `max.message.bytes`. Nothing is ever stored. Fenced and open alike can be proven so.
    ///
    /// # Errors
    /// The topics or their limits cannot be read, or the ordinary clients' listener does not answer.
    pub async fn probe(&self, topics: &[TopicName]) -> ProviderResult<BTreeMap<TopicPartition, ProbeAnswer>> {
        let topics = fenceable(topics);
        let described = self.describe_known(&topics).await?;
        let limits = self.record_limits(&topics).await?;
        let client = self.open_probe().await?;
        let mut answers = BTreeMap::new();
        for (name, topic) in &described {
            let size = limits.get(name).copied().unwrap_or(0) + EXCESS;
            let producer = producer(&client, size, self.config.timeouts.request)
                .await
                .map_err(|error| provider(format!("probe topic {name}"), &error))?;
            let value = Bytes::from(vec![0; size]);
            let asked = stream::iter(0..count(topic))
                .map(|partition| {
                    let place = TopicPartition::new(name.clone(), partition);
                    let (producer, value) = (&producer, value.clone());
                    async move {
                        let answer = ask(producer, &place, value).await;
                        (place, answer)
                    }
                })
                .buffer_unordered(PROBES_AT_ONCE)
                .collect::<Vec<_>>()
                .await;
            answers.extend(asked);
            producer.close().await.map_err(|error| provider("close the probe", &error))?;
        }
        Ok(answers)
    }
}

async fn producer(client: &Kafka, size: usize, request: Duration) -> krafka::Result<Producer> {
    let limit = size + FRAMING;
    client
        .producer()
        .acks(Acks::All)
        .idempotent(false)
        .compression(Compression::None)
        .linger(LINGER)
        .max_request_size(limit)
        .buffer_memory(limit * PROBES_AT_ONCE)
        // The least that krafka allows: a leader that says nothing is asked once.
        .delivery_timeout(request + LINGER)
        .max_block(request)
        .metrics_push(false)
        .build()
        .await
}

async fn ask(producer: &Producer, place: &TopicPartition, value: Bytes) -> ProbeAnswer {
    // A key, because a compacted topic takes nothing without one.
    let record = Record::new(place.topic.as_str(), value).key("kutover-probe").partition(place.partition);
    // A refusal before it is sent (the topic may not even be described) is no leader's word on writing.
    let handle = match producer.enqueue(record).await {
        Ok(handle) => handle,
        Err(error) => return ProbeAnswer::Unclear(format!("the leader could not be asked: {error}")),
    };
    match handle.await {
        Ok(stored) => {
            let reason = format!("it took the probe's record, at offset {:?}", stored.offset);
            ProbeAnswer::Unclear(reason)
        }
        Err(error) => match code(&error) {
            Some(ErrorCode::TopicAuthorizationFailed) => ProbeAnswer::Fenced,
            Some(ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge) => ProbeAnswer::Open,
            _ => ProbeAnswer::Unclear(error.to_string()),
        },
    }
}
