//! A `BlueGreenProducer`, used as a service uses it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use kutover_producer::{BlueGreenProducer, Colour, Fate as ReturnedFate, FutureRecord, Order};
use kutover_producer::{ProducerEvent, Report, Resolvers, Stalls, SwitchEvent};
use parking_lot::Mutex;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{
    Completion, Fate, HeldUp, Refused, Sender, SenderAccount, TOPIC, TrafficRecord, producer_properties,
};

/// How long a producer has to settle what is open when the traffic ends.
const CLOSE_LIMIT: Duration = Duration::from_secs(15);

/// Where the producers belong, and how they move.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// The name that clients bootstrap from.
    pub endpoint: String,
    /// Who is asked for it.
    pub resolvers: Resolvers,
    /// How sends are treated while a producer moves.
    pub order: Order,
}

/// One `BlueGreenProducer`.
pub struct KutoverSender {
    producer: Mutex<Option<BlueGreenProducer>>,
    /// What it said of itself when it ended.
    last: Mutex<Option<Report>>,
    moved_at: Arc<Mutex<Option<Instant>>>,
    listener: JoinHandle<()>,
}

impl KutoverSender {
    /// Builds the producer. `sealed` is told when it shuts its client for the first time.
    ///
    /// # Errors
    /// The producer's own.
    pub async fn start(name: String, of: &Deployment, sealed: Arc<Notify>) -> anyhow::Result<Self> {
        let producer = BlueGreenProducer::builder()
            .deployment(of.name.as_str())
            .endpoint(of.endpoint.as_str())
            .resolvers(of.resolvers.clone())
            .cluster(Colour::Blue, producer_properties())
            .cluster(Colour::Green, producer_properties())
            .order(of.order)
            .topics([TOPIC])
            .close_timeout(CLOSE_LIMIT)
            .instance(name.clone())
            .build()
            .await
            .with_context(|| format!("starting {name}"))?;
        let moved_at = Arc::new(Mutex::new(None));
        let listener = tokio::spawn(listen(producer.clone().events(), Arc::clone(&moved_at), sealed));
        Ok(Self { producer: Mutex::new(Some(producer)), last: Mutex::default(), moved_at, listener })
    }

    fn report(&self) -> Option<Report> {
        let now = self.producer.lock().as_ref().map(BlueGreenProducer::report);
        now.or_else(|| self.last.lock().clone())
    }
}

/// Notes when the producer last reached another cluster.
async fn listen(
    mut events: kutover_producer::Events,
    moved_at: Arc<Mutex<Option<Instant>>>,
    sealed: Arc<Notify>,
) {
    while let Some(event) = events.next().await {
        match &*event {
            ProducerEvent::Switch(SwitchEvent::Switched { receipt }) if receipt.from != receipt.to => {
                *moved_at.lock() = Some(Instant::now());
            }
            ProducerEvent::Switch(SwitchEvent::Sealed { .. }) => sealed.notify_one(),
            _ => {}
        }
    }
}

impl Drop for KutoverSender {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

#[async_trait]
impl Sender for KutoverSender {
    async fn send(&self, record: &TrafficRecord) -> Result<Completion, Refused> {
        let Some(producer) = self.producer.lock().clone() else {
            return Err(Refused("the producer has ended".into()));
        };
        let (key, payload) = (record.key_text(), record.payload());
        match producer.send_result(FutureRecord::to(TOPIC).key(&key).payload(&payload[..])) {
            Ok(delivery) => Ok(Box::pin(async move {
                Some(match delivery.await {
                    Ok(_) => Fate::Acknowledged,
                    Err(returned) => match returned.fate() {
                        ReturnedFate::NotWritten => Fate::NotWritten,
                        ReturnedFate::Unknown => Fate::Unknown,
                    },
                })
            })),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                Err(Refused("the queue is full".into()))
            }
            Err((error, _)) => Err(Refused(error.to_string())),
        }
    }

    async fn finish(&self) {
        let producer = self.producer.lock().take();
        if let Some(producer) = producer {
            let rest = producer.clone();
            let before = rest.report();
            producer.close().await;
            // The counts are final now; where it was is only known while it had a client.
            *self.last.lock() = Some(Report { cluster_id: before.cluster_id, ..rest.report() });
        }
    }

    fn account(&self) -> SenderAccount {
        let Some(report) = self.report() else { return SenderAccount::default() };
        let receipt = report.switches.last().map(|switch| {
            json!({
                "generation": switch.receipt.generation,
                "from": switch.receipt.from,
                "to": switch.receipt.to,
                "sealed_ms": switch.receipt.sealed_ms,
                "since_announced_ms": switch.since_announced_ms,
                "parked": switch.parked,
                "offered_again": switch.offered_again,
                "possibly_duplicated": switch.possibly_duplicated,
                "returned": switch.returned,
            })
        });
        SenderAccount {
            switched_at: *self.moved_at.lock(),
            possibly_duplicated: report.possibly_duplicated,
            // A receipt that stands in no members topic is nobody's receipt.
            receipt: receipt.filter(|_| report.receipt_told),
            on: Some(report.cluster_id.to_string()),
            held_up: held_up(report.stalls),
        }
    }
}

fn held_up(stalls: Stalls) -> HeldUp {
    HeldUp {
        count: stalls.count,
        at_most: super::StallMicros {
            p50: stalls.p50_us,
            p99: stalls.p99_us,
            p999: stalls.p999_us,
            max: stalls.max_us,
        },
    }
}
