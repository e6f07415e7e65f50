//! What a producer tells of itself: events as they happen, and a report at any time.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_core::Stream;
use hdrhistogram::Histogram;
use kutover_core::error::ProviderError;
use kutover_core::switch::{Counts, SwitchEvent, SwitchReceipt};
use kutover_core::words::{ClusterId, Colour, Generation};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::record::SendError;

/// Something happened.
#[derive(Debug)]
pub enum ProducerEvent {
    /// The switch says what it does.
    Switch(SwitchEvent),
    /// A record whose future was dropped could be written nowhere: here it is. Counted in
    /// [`Report::returned_unclaimed`], also where nobody listens.
    Returned(SendError),
    /// A DNS answer that moves nobody (L4): empty, failed, or of another deployment.
    DnsTrouble(String),
    /// Control or members topic: what this producer says of itself could not be written and is tried again, or the
    /// control topic belongs to another deployment and is not heeded.
    MemberTrouble(ProviderError),
}

/// A stream of [`ProducerEvent`]s. One that is not read loses what comes after the first thousand.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<std::sync::Arc<ProducerEvent>>);

impl Events {
    /// Waits for the next event; `None` once the producer has ended.
    pub async fn next(&mut self) -> Option<std::sync::Arc<ProducerEvent>> {
        self.0.recv().await
    }
}

impl Stream for Events {
    type Item = std::sync::Arc<ProducerEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

const EVENTS: usize = 1000;

/// Everyone who listens; nobody once the producer has ended.
pub(crate) struct Listeners(Mutex<Option<Vec<mpsc::Sender<std::sync::Arc<ProducerEvent>>>>>);

impl Default for Listeners {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

impl Listeners {
    pub(crate) fn listen(&self) -> Events {
        let (sender, receiver) = mpsc::channel(EVENTS);
        if let Some(listeners) = &mut *self.0.lock() {
            listeners.push(sender);
        }
        Events(receiver)
    }

    pub(crate) fn tell(&self, event: ProducerEvent) {
        match &event {
            ProducerEvent::Switch(switch) => tracing::info!(?switch, "switch"),
            ProducerEvent::Returned(error) => {
                tracing::warn!("a record nobody waits for is returned: {error}")
            }
            ProducerEvent::DnsTrouble(reason) => tracing::debug!("DNS moves nobody: {reason}"),
            ProducerEvent::MemberTrouble(error) => tracing::debug!("control or members topic: {error}"),
        }
        let event = std::sync::Arc::new(event);
        // Sending wakes whoever listens, and what that does may tell of something in turn: not under the lock.
        let listeners = self.0.lock().clone();
        let mut ended = false;
        for listener in listeners.into_iter().flatten() {
            ended |= matches!(listener.try_send(event.clone()), Err(mpsc::error::TrySendError::Closed(_)));
        }
        if ended && let Some(listeners) = &mut *self.0.lock() {
            listeners.retain(|listener| !listener.is_closed());
        }
    }

    pub(crate) fn close(&self) {
        let ended = self.0.lock().take();
        drop(ended);
    }
}

/// One move that this producer made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchReport {
    /// The move: generation, clusters, for how long the gate was closed.
    pub receipt: SwitchReceipt,
    /// What became of the records that waited.
    pub possibly_duplicated: u64,
    /// Records that went back to their callers.
    pub returned: u64,
    /// Records that waited while the gate was closed.
    pub parked: u64,
    /// Records known not to be written on the old cluster and offered to the new one.
    pub offered_again: u64,
    /// Milliseconds from the first word of the newer target to the end of the switch.
    pub since_announced_ms: u64,
}

impl SwitchReport {
    pub(crate) fn new(receipt: SwitchReceipt, counts: Counts, since_announced_ms: u64) -> Self {
        Self {
            receipt,
            possibly_duplicated: counts.possibly_duplicated,
            returned: counts.returned,
            parked: counts.parked,
            offered_again: counts.offered_again,
            since_announced_ms,
        }
    }
}

/// How long single sends were held up by switches, in microseconds: from acceptance until a client took the record.
/// Sends that no switch held up are not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stalls {
    /// Sends that were held up.
    pub count: u64,
    /// Half of them no longer than this.
    pub p50_us: u64,
    /// 99 of 100 no longer than this.
    pub p99_us: u64,
    /// 999 of 1000 no longer than this.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Stalls {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

/// What a producer has done so far. `accepted = acknowledged + returned + in_flight`, up to what changes while it is
/// being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The instance name.
    pub instance: String,
    /// This run of it.
    pub incarnation: String,
    /// The generation that it serves.
    pub generation: Generation,
    /// The colour that it is on.
    pub colour: Colour,
    /// The cluster that it is on.
    pub cluster_id: ClusterId,
    /// Records accepted.
    pub accepted: u64,
    /// Records that a cluster acknowledged.
    pub acknowledged: u64,
    /// Records returned as not written.
    pub returned_not_written: u64,
    /// Records returned with an unknown fate.
    pub returned_unknown: u64,
    /// Of the returned ones: whose future had been dropped.
    pub returned_unclaimed: u64,
    /// Records of unknown fate that were sent again: the bound on duplicates.
    pub possibly_duplicated: u64,
    /// Records whose fate is open.
    pub in_flight: u64,
    /// Every move, oldest first.
    pub switches: Vec<SwitchReport>,
    /// Sends held up by switches.
    pub stalls: Stalls,
    /// Whether the last receipt was written to the members topic.
    pub receipt_told: bool,
}

/// Counts that are touched off the common path only.
#[derive(Default)]
pub(crate) struct Tally {
    /// Took a send sequence and were not accepted after all.
    pub(crate) unaccepted: AtomicU64,
    pub(crate) not_written: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) unclaimed: AtomicU64,
    pub(crate) possibly_duplicated: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::SeqCst);
}

pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::SeqCst)
}
