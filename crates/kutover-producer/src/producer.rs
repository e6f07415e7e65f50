//! The producer that a service embeds.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use kutover_core::ports::Token;
use kutover_core::words::{ClusterId, Colour, Generation};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Timestamp, ToBytes};
use rdkafka::producer::FutureRecord;
use rdkafka::producer::future_producer::Delivery;
use rdkafka::util::Timeout;
use tokio::sync::oneshot;

use crate::builder::Builder;
use crate::driver::Message;
use crate::events::{Events, Report, Stalls, read};
use crate::record::{Borrowed, Fate, SendError, native_code, owned_message};
use crate::shared::{NotAccepted, Shared};
use crate::slab::Outcome;

/// A producer that moves between the clusters of a blue/green deployment without losing a record; in use like rdkafka's
/// `FutureProducer`. Cloning it is cheap, and all clones are one producer.
///
/// Every record handed to it ends in exactly one of: acknowledged, or returned whole with a [`SendError`] that says
/// whether it was written. When the last clone is dropped, what was accepted is still settled, in the background;
/// [`close`](Self::close) waits for that.
#[derive(Clone)]
pub struct BlueGreenProducer {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
}

/// Ends the producer with its last clone. Futures do not keep it going; they are settled by its end.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) instance: String,
    pub(crate) incarnation: String,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.tell(Message::Close(None));
    }
}

impl std::fmt::Debug for BlueGreenProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlueGreenProducer").field("instance", &self.handle.instance).finish_non_exhaustive()
    }
}

/// The time between two tries to send into a full queue, at most.
const FULL_RETRY: Duration = Duration::from_millis(20);

impl BlueGreenProducer {
    /// What it takes to make one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(handle: Handle) -> Self {
        Self { shared: Arc::clone(&handle.shared), handle: Arc::new(handle) }
    }

    /// Sends a record and waits for its fate. While the queue is full, or a switch has parked all that may be
    /// parked, it waits for room, `queue_timeout` at most.
    ///
    /// # Errors
    /// [`SendError`]: the record comes back, with what is known of it.
    pub async fn send<K, P, T>(
        &self,
        record: FutureRecord<'_, K, P>,
        queue_timeout: T,
    ) -> Result<Delivery, SendError>
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
        T: Into<Timeout>,
    {
        let began = Instant::now();
        let timeout = queue_timeout.into();
        let mut record = record;
        let future = loop {
            let (error, back) = match self.send_result(record) {
                Ok(future) => break future,
                Err(refused) => refused,
            };
            record = back;
            let wait = match timeout {
                Timeout::Never => FULL_RETRY,
                Timeout::After(limit) => limit.saturating_sub(began.elapsed()).min(FULL_RETRY),
            };
            let full = error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            if !full || wait.is_zero() {
                return Err(SendError::new(error, Fate::NotWritten, owned_message(record)));
            }
            self.shared.wait_for_room(wait).await;
        };
        future.await
    }

    /// Sends a record without waiting: the future says what became of it.
    ///
    /// # Errors
    /// The record comes back where it was not accepted: `QueueFull` while there is no room, the cluster's or the
    /// client's own error otherwise. Nothing of it was written.
    #[allow(clippy::result_large_err, reason = "the same type as rdkafka's FutureProducer")]
    pub fn send_result<'a, K, P>(
        &self,
        mut record: FutureRecord<'a, K, P>,
    ) -> Result<DeliveryFuture, (KafkaError, FutureRecord<'a, K, P>)>
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
    {
        let headers = record.headers.take();
        let borrowed = Borrowed {
            topic: record.topic,
            partition: record.partition,
            key: record.key.map(ToBytes::to_bytes),
            payload: record.payload.map(ToBytes::to_bytes),
            timestamp_ms: record.timestamp,
            has_headers: headers.is_some(),
            headers: Cell::new(headers),
        };
        match self.shared.accept(&borrowed) {
            Ok(token) => Ok(DeliveryFuture { shared: Arc::clone(&self.shared), token, done: false }),
            Err(reason) => {
                record.headers = borrowed.headers.take();
                let code = match reason {
                    NotAccepted::Full => RDKafkaErrorCode::QueueFull,
                    NotAccepted::Refused(code) => native_code(&code),
                    NotAccepted::Ended => RDKafkaErrorCode::BrokerDestroy,
                };
                Err((KafkaError::MessageProduction(code), record))
            }
        }
    }

    /// Blocks until no accepted record is open, the parked ones too. What is sent meanwhile is waited for as well, as in
    /// rdkafka's `flush`: while other clones keep sending, that moment may not come. It may be called on a runtime's only thread: the
    /// switch has a thread of its own.
    ///
    /// # Errors
    /// `OperationTimedOut` if records are still open after `timeout`; they stay in the queue.
    pub fn flush<T: Into<Timeout>>(&self, timeout: T) -> Result<(), KafkaError> {
        let deadline = match timeout.into() {
            Timeout::After(limit) => Instant::now().checked_add(limit),
            Timeout::Never => None,
        };
        if self.shared.wait_flushed(deadline) {
            Ok(())
        } else {
            Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut))
        }
    }

    /// Records whose fate is open, the parked ones too.
    pub fn in_flight_count(&self) -> i32 {
        i32::try_from(self.shared.in_flight()).unwrap_or(i32::MAX)
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        self.shared.listeners.listen()
    }

    /// What happened so far.
    pub fn report(&self) -> Report {
        let shared = &self.shared;
        let target = shared.target();
        let tally = &shared.tally;
        let in_flight = shared.in_flight();
        let switches = shared.switches.lock().clone();
        // A newer generation on the same cluster is adopted without a new client.
        let generation = target.as_ref().map_or(Generation(0), |target| target.generation);
        Report {
            instance: self.handle.instance.clone(),
            incarnation: self.handle.incarnation.clone(),
            generation: generation.max(Generation(shared.generation.load(Ordering::SeqCst))),
            colour: target.as_ref().map_or(Colour::Blue, |target| target.colour),
            cluster_id: target.map_or_else(|| ClusterId::new(""), |target| target.cluster_id),
            accepted: shared.entrance.sequences().saturating_sub(read(&tally.unaccepted)),
            acknowledged: shared.acknowledged(),
            returned_not_written: read(&tally.not_written),
            returned_unknown: read(&tally.unknown),
            returned_unclaimed: read(&tally.unclaimed),
            possibly_duplicated: read(&tally.possibly_duplicated),
            in_flight,
            switches,
            stalls: Stalls::of(&shared.stalls.lock()),
            receipt_told: shared.receipt_told.load(Ordering::SeqCst),
        }
    }

    /// Ends the producer: takes nothing more, settles what was accepted, says goodbye in the members topic of every cluster
    /// that it was on. All clones end with it. Bounded by the builder's `close_timeout`; what is open then is given up and
    /// returned.
    pub async fn close(self) {
        let (reply, closed) = oneshot::channel();
        self.shared.tell(Message::Close(Some(reply)));
        // An error means that it had ended already.
        let _ = closed.await;
    }
}

/// Says what became of one record. Dropping it changes nothing for the record: it is still delivered and handed over,
/// and if it must be returned, it goes to [`ProducerEvent::Returned`](crate::ProducerEvent::Returned).
#[must_use = "the record's fate is known only here"]
pub struct DeliveryFuture {
    shared: Arc<Shared>,
    token: Token,
    done: bool,
}

impl std::fmt::Debug for DeliveryFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliveryFuture").field("token", &self.token).finish_non_exhaustive()
    }
}

impl Future for DeliveryFuture {
    type Output = Result<Delivery, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.done, "a DeliveryFuture was polled after it was ready");
        let outcome = std::task::ready!(self.shared.slab.poll(self.token, context));
        self.done = true;
        Poll::Ready(delivery(outcome))
    }
}

fn delivery(outcome: Outcome) -> Result<Delivery, SendError> {
    match outcome {
        Ok(acked) => Ok(Delivery {
            partition: acked.partition,
            offset: acked.offset,
            timestamp: acked
                .append_time_ms
                .map_or(Timestamp::CreateTime(acked.timestamp_ms), Timestamp::LogAppendTime),
        }),
        Err(failed) => Err(SendError::from(*failed)),
    }
}

impl Drop for DeliveryFuture {
    fn drop(&mut self) {
        if !self.done
            && let Some(failed) = self.shared.slab.detach(self.token)
        {
            self.shared.unclaimed(*failed);
        }
    }
}
