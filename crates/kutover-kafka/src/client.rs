//! A data-path client: a `BaseProducer` with a poll thread of its own.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kutover_core::ports::{HeadersRef, ProducerClient, RecordRef, Refusal, Token};
use kutover_core::words::ClusterId;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};

use crate::context::DataContext;
use crate::error::port_code;

// A token travels through librdkafka as a pointer-sized value.
const _: () = assert!(usize::BITS >= u64::BITS, "kutover-kafka needs a 64-bit target");

/// The longest that [`ProducerClient::purge`] waits. librdkafka fails purged records at once; a longer wait means that
/// the owner's callback blocks.
const PURGE_BOUND: Duration = Duration::from_secs(30);

/// The longest that one poll waits for events: it bounds how late the poll thread sees that it is to end.
const POLL: Duration = Duration::from_millis(100);

/// A client of one cluster over librdkafka. Made by [`KafkaProducerFactory`](crate::KafkaProducerFactory).
///
/// Reports come from one thread of its own, in librdkafka's order. Dropping it never blocks: the poll thread fails
/// what is left, hands those reports over too, and destroys the librdkafka client.
///
/// A flush waits out `linger.ms` (5 ms unless set), which librdkafka's own flush, needing a blocking call that rdkafka
/// does not offer, would cut short.
pub struct KafkaProducerClient {
    producer: Arc<BaseProducer<DataContext>>,
    stop: Arc<AtomicBool>,
    cluster_id: ClusterId,
}

impl KafkaProducerClient {
    /// Starts the poll thread of a new librdkafka client.
    pub(crate) fn start(producer: BaseProducer<DataContext>) -> std::io::Result<Self> {
        let producer = Arc::new(producer);
        let stop = Arc::new(AtomicBool::new(false));
        let (polled, stopped) = (Arc::clone(&producer), Arc::clone(&stop));
        std::thread::Builder::new()
            .name("kutover-poll".into())
            .spawn(move || poll_until_stopped(polled, &stopped))?;
        Ok(Self { producer, stop, cluster_id: ClusterId::new("") })
    }

    pub(crate) fn producer(&self) -> &BaseProducer<DataContext> {
        &self.producer
    }

    pub(crate) fn context(&self) -> &DataContext {
        self.producer.context()
    }

    #[must_use]
    pub(crate) fn identified(mut self, cluster_id: ClusterId) -> Self {
        self.cluster_id = cluster_id;
        self
    }

    fn refusal(&self, error: &KafkaError) -> Refusal {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Refusal::QueueFull,
            Some(RDKafkaErrorCode::Fatal) => {
                let reason =
                    self.producer.client().fatal_error().map(|(code, text)| format!("{code:?}: {text}"));
                Refusal::Fatal(reason.unwrap_or_else(|| error.to_string()))
            }
            Some(code) => Refusal::Refused(port_code(code)),
            // The topic's name holds a NUL: no cluster has such a topic.
            None => Refusal::Refused(port_code(RDKafkaErrorCode::InvalidTopic)),
        }
    }
}

fn poll_until_stopped(producer: Arc<BaseProducer<DataContext>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        producer.poll(POLL);
    }
    // The owner's reference goes right after it said stop; this thread's must be the last, so that the destruction,
    // which blocks, happens here.
    while Arc::strong_count(&producer) > 1 {
        producer.poll(Duration::from_millis(1));
    }
    let left = producer.context().counts.outstanding();
    if left > 0 {
        tracing::warn!(records = left, "a client was dropped with records outstanding; they are failed");
        producer.purge(PurgeConfig::default().queue().inflight());
        let deadline = Instant::now() + PURGE_BOUND;
        while producer.context().counts.outstanding() > 0 && Instant::now() < deadline {
            producer.poll(Duration::from_millis(1));
        }
    }
}

impl Drop for KafkaProducerClient {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for KafkaProducerClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaProducerClient")
            .field("cluster_id", &self.cluster_id)
            .field("outstanding", &self.outstanding())
            .finish_non_exhaustive()
    }
}

fn owned_headers(headers: &[(String, Option<Vec<u8>>)]) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |all, (key, value)| {
        all.insert(Header { key, value: value.as_ref() })
    })
}

impl ProducerClient for KafkaProducerClient {
    fn try_send(&self, record: RecordRef<'_>, token: Token) -> Result<(), Refusal> {
        let (headers, lender) = match record.headers {
            HeadersRef::None => (None, None),
            HeadersRef::List([]) => (None, None),
            HeadersRef::List(list) => (Some(owned_headers(list)), None),
            HeadersRef::Native(any) => match any.downcast_ref::<Cell<Option<OwnedHeaders>>>() {
                Some(lender) => (lender.take(), Some(lender)),
                None => return Err(Refusal::Refused(port_code(RDKafkaErrorCode::InvalidArgument))),
            },
        };
        let base = BaseRecord::<'_, [u8], [u8], usize> {
            topic: record.topic,
            partition: record.partition,
            payload: record.payload,
            key: record.key,
            timestamp: Some(record.timestamp_ms),
            headers,
            delivery_opaque: token.0 as usize,
        };
        let counts = &self.context().counts;
        counts.take();
        self.producer.send(base).map_err(|(error, base)| {
            counts.untake();
            if let Some(lender) = lender {
                lender.set(base.headers);
            }
            self.refusal(&error)
        })
    }

    fn flush(&self, timeout_ms: u64) -> bool {
        self.context().counts.wait_settled(Instant::now() + Duration::from_millis(timeout_ms))
    }

    fn purge(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        if !self.context().counts.wait_settled(Instant::now() + PURGE_BOUND) {
            tracing::error!(
                records = self.outstanding(),
                "reports of purged records are still missing after {PURGE_BOUND:?}: does a delivery callback block?"
            );
        }
    }

    fn outstanding(&self) -> usize {
        self.context().counts.outstanding()
    }

    fn cluster_id(&self) -> ClusterId {
        self.cluster_id.clone()
    }
}
