//! What senders, clients' callbacks and the switch's thread share.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use kutover_core::owner::Target;
use kutover_core::ports::{
    DeliveryFate, ErrorCode, HeadersRef, ProducerClient, RecordBody, RecordRef, Refusal, Token,
};
use kutover_core::switch::{
    Entrance, Failure, Gate, Gated, HandOver, Input, ReturnReason, Returned, Sequence, TopicKey, TurnedAway,
};
use kutover_core::words::Millis;
use parking_lot::{Condvar, Mutex};
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::{Notify, mpsc};

use crate::driver::Message;
use crate::events::{Listeners, ProducerEvent, SwitchReport, Tally, add, read};
use crate::lane::LaneEvents;
use crate::record::{Borrowed, SendError, port_code, size_of};
use crate::slab::{Failed, Slab, Slot};

/// Topics that a send finds noted without a lock: cells of as many as can share a place, times the places.
const TOPIC_WAYS: usize = 4;
const TOPIC_PLACES: usize = 256;

/// Why a record was not accepted; the caller still has it.
#[derive(Debug)]
pub(crate) enum NotAccepted {
    /// The client's queue or the park is full: later there may be room.
    Full,
    /// The client or its cluster refuses this record.
    Refused(ErrorCode),
    /// The producer has ended.
    Ended,
}

/// A record that came back from a client, and all that is known of it.
pub(crate) struct CameBack {
    pub(crate) body: RecordBody,
    pub(crate) code: ErrorCode,
    pub(crate) fate: DeliveryFate,
    pub(crate) partition: Option<i32>,
}

/// One client with its gate.
pub(crate) struct LaneHandle {
    pub(crate) gate: Gate,
    pub(crate) client: Arc<dyn ProducerClient>,
    pub(crate) events: Arc<LaneEvents>,
}

impl Gated for LaneHandle {
    fn gate(&self) -> &Gate {
        &self.gate
    }
}

/// See the [module](self).
pub(crate) struct Shared {
    pub(crate) slab: Slab,
    pub(crate) entrance: Entrance<LaneHandle>,
    pub(crate) room: Notify,
    room_waiters: AtomicUsize,
    pub(crate) tally: Tally,
    /// Acknowledged on clients that are gone.
    pub(crate) acknowledged_before: AtomicU64,
    pub(crate) lanes: Mutex<Vec<Arc<LaneEvents>>>,
    pub(crate) listeners: Listeners,
    pub(crate) stalls: Mutex<Histogram<u64>>,
    pub(crate) switches: Mutex<Vec<SwitchReport>>,
    /// Where the client led that was in use last.
    left: Mutex<Option<Target>>,
    pub(crate) receipt_told: AtomicBool,
    /// The generation that is served: a newer one on the same cluster is adopted without a new client.
    pub(crate) generation: AtomicU64,
    pub(crate) inbox: mpsc::UnboundedSender<Message>,
    pub(crate) origin: Instant,
    delivery_timeout: Duration,
    flush_waiters: AtomicUsize,
    flush_lock: Mutex<()>,
    flushed: Condvar,
    topic_filter: [[AtomicU32; TOPIC_WAYS]; TOPIC_PLACES],
    pub(crate) topics: Mutex<BTreeSet<String>>,
    pub(crate) dead: OnceLock<String>,
}

impl Shared {
    pub(crate) fn new(
        hand_over: HandOver,
        delivery_timeout: Duration,
        inbox: mpsc::UnboundedSender<Message>,
    ) -> Self {
        // Three digits, any value: bounds of the type itself, so that this cannot fail.
        let stalls =
            Histogram::new(3).unwrap_or_else(|_| unreachable!("three significant digits are allowed"));
        Self {
            slab: Slab::new(),
            entrance: Entrance::new(hand_over),
            room: Notify::new(),
            room_waiters: AtomicUsize::new(0),
            tally: Tally::default(),
            acknowledged_before: AtomicU64::new(0),
            lanes: Mutex::default(),
            listeners: Listeners::default(),
            stalls: Mutex::new(stalls),
            switches: Mutex::default(),
            left: Mutex::default(),
            receipt_told: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            inbox,
            origin: Instant::now(),
            delivery_timeout,
            flush_waiters: AtomicUsize::new(0),
            flush_lock: Mutex::new(()),
            flushed: Condvar::new(),
            topic_filter: [const { [const { AtomicU32::new(0) }; TOPIC_WAYS] }; TOPIC_PLACES],
            topics: Mutex::default(),
            dead: OnceLock::new(),
        }
    }

    /// The target of the client in use, or of the one that was.
    pub(crate) fn target(&self) -> Option<Target> {
        let current = self.entrance.current().map(|lane| lane.events.target.clone());
        current.or_else(|| self.left.lock().clone())
    }

    /// Lets go of the client in use; where it led is still told.
    pub(crate) fn forget_current(&self) {
        *self.left.lock() = self.target();
        self.entrance.forget_current();
    }

    pub(crate) fn now(&self) -> Millis {
        Millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Accepts a record, or says why not.
    #[inline]
    pub(crate) fn accept(&self, record: &Borrowed<'_>) -> Result<Token, NotAccepted> {
        let token = self.slab.take(record.partition).ok_or(NotAccepted::Full)?;
        let Some(slot) = self.slab.get(token) else { return Err(NotAccepted::Full) };
        let now = wall_clock_ms();
        let topic = TopicKey::of(record.topic);
        slot.topic.store(topic.0, Ordering::Relaxed);
        slot.accepted_ms.store(now, Ordering::Relaxed);
        slot.timestamp_ms.store(record.timestamp_ms.unwrap_or(now), Ordering::Relaxed);
        self.note_topic(topic, record.topic);
        let accepted = self.enter(record, slot, token);
        if accepted.is_err() {
            self.slab.cancel(token);
        }
        accepted.map(|()| token)
    }

    #[inline]
    fn enter(&self, record: &Borrowed<'_>, slot: &Slot, token: Token) -> Result<(), NotAccepted> {
        let copy = || {
            let body = record.copy();
            let bytes = size_of(&body);
            (body, bytes)
        };
        let put_away = |sequence: Sequence, body| {
            slot.sequence.store(sequence.0, Ordering::Release);
            let mut cold = slot.cold.lock();
            cold.held().body = Some(body);
            cold.held().parked_at = Some(Instant::now());
            (token, self.expires(slot))
        };
        let send = |lane: &LaneHandle, sequence| self.send_to(lane, record, slot, token, sequence);
        match self.entrance.pass(send, copy, put_away) {
            Ok(Some(sent)) => sent,
            Ok(None) => Ok(()),
            Err(TurnedAway::Full) => Err(NotAccepted::Full),
            Err(TurnedAway::Ended) => Err(NotAccepted::Ended),
        }
    }

    #[inline]
    fn send_to(
        &self,
        lane: &LaneHandle,
        record: &Borrowed<'_>,
        slot: &Slot,
        token: Token,
        sequence: Sequence,
    ) -> Result<(), NotAccepted> {
        slot.sequence.store(sequence.0, Ordering::Release);
        let offered = RecordRef {
            topic: record.topic,
            partition: record.partition,
            key: record.key,
            payload: record.payload,
            timestamp_ms: slot.timestamp_ms.load(Ordering::Relaxed),
            headers: if record.has_headers { HeadersRef::Native(&record.headers) } else { HeadersRef::None },
        };
        let refusal = match lane.client.try_send(offered, token) {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        let (code, fatal) = match refusal {
            Refusal::QueueFull => {
                self.unaccept();
                return Err(NotAccepted::Full);
            }
            Refusal::Refused(code) if !lane.events.is_fence_like(&code) => {
                self.unaccept();
                return Err(NotAccepted::Refused(code));
            }
            Refusal::Refused(code) => (code, false),
            Refusal::Fatal(_) => (port_code(RDKafkaErrorCode::Fatal), true),
        };
        let accepted = self.hold_refused(record, slot, token, code);
        if fatal {
            self.tell(Message::Input(Input::Fatal { lane: lane.events.id }));
        } else {
            lane.events.refused();
        }
        accepted
    }

    /// What a fence may have refused is accepted all the same, as long as there is room: it waits for the switch to find out what
    /// the refusal means. This happens inside the gate, so that a seal that has begun cannot miss it.
    fn hold_refused(
        &self,
        record: &Borrowed<'_>,
        slot: &Slot,
        token: Token,
        code: ErrorCode,
    ) -> Result<(), NotAccepted> {
        let (body, fate, partition) = (record.copy(), DeliveryFate::NotWritten, record.partition);
        // The gate stays open for as long as nobody says that this is a fence, which may be long. Each thread that is here at
        // this moment may hold one record too many.
        if !self.entrance.lock().hand_over.has_room(size_of(&body)) {
            self.unaccept();
            return Err(NotAccepted::Full);
        }
        self.hold(token, slot, CameBack { body, code, fate, partition }, || true);
        Ok(())
    }

    /// Holds a record that came back, for the hand-over to judge, if it still does: that is asked under the lock under
    /// which it judges. What nobody would judge any more fails at once.
    pub(crate) fn hold(
        &self,
        token: Token,
        slot: &Slot,
        came_back: CameBack,
        still: impl FnOnce() -> bool,
    ) -> bool {
        let CameBack { body, code, fate, partition } = came_back;
        let failure = Failure {
            token,
            sequence: Sequence(slot.sequence.load(Ordering::Acquire)),
            topic: TopicKey(slot.topic.load(Ordering::Relaxed)),
            partition,
            fate,
            bytes: size_of(&body),
            expires: self.expires(slot),
        };
        {
            let mut cold = slot.cold.lock();
            cold.held().body = Some(body);
            cold.held().code = Some(code);
            cold.held().parked_at.get_or_insert_with(Instant::now);
        }
        let maybe_written = slot.maybe_written.load(Ordering::Acquire);
        let holds = self.entrance.hold(failure, maybe_written, still);
        if !holds {
            self.give_back(Returned { token, fate, reason: ReturnReason::Refused });
        }
        holds
    }

    fn unaccept(&self) {
        add(&self.tally.unaccepted, 1);
        self.settled();
    }

    /// When a record's delivery timeout ends, on the switch's clock. Acceptance is known by the wall clock; a step of
    /// that clock moves the end by as much and loses nothing.
    fn expires(&self, slot: &Slot) -> Millis {
        let age = wall_clock_ms() - slot.accepted_ms.load(Ordering::Relaxed);
        let timeout = u64::try_from(self.delivery_timeout.as_millis()).unwrap_or(u64::MAX);
        self.now().plus(timeout.saturating_sub(u64::try_from(age).unwrap_or(0)))
    }

    /// Remembers the topics in use, for warming the next client.
    #[inline]
    fn note_topic(&self, key: TopicKey, topic: &str) {
        let place = &self.topic_filter[key.0 as usize % TOPIC_PLACES];
        if !place.iter().any(|cell| cell.load(Ordering::Relaxed) == key.0) {
            self.note_new_topic(place, key, topic);
        }
    }

    #[cold]
    fn note_new_topic(&self, place: &[AtomicU32; TOPIC_WAYS], key: TopicKey, topic: &str) {
        let mut topics = self.topics.lock();
        if !topics.contains(topic) {
            topics.insert(topic.to_owned());
        }
        // Under the lock, so that two topics do not take the same cell. Where a fifth shares the place, one is forgotten here.
        let ours = |cell: &&AtomicU32| [0, key.0].contains(&cell.load(Ordering::Relaxed));
        place.iter().find(ours).unwrap_or(&place[0]).store(key.0, Ordering::Relaxed);
    }

    pub(crate) fn tell(&self, message: Message) {
        // The switch's thread is gone only once the producer has ended, and then nobody waits for it.
        let _ = self.inbox.send(message);
    }

    /// Gives a record that waits back to its caller.
    pub(crate) fn give_back(&self, returned: Returned) {
        let Some(slot) = self.slab.get(returned.token) else { return };
        let (body, known) = {
            let mut cold = slot.cold.lock();
            (cold.held().body.take().unwrap_or_default(), cold.held().code.take())
        };
        let code = match returned.reason {
            ReturnReason::Expired => port_code(RDKafkaErrorCode::MessageTimedOut),
            _ => known.unwrap_or_else(|| port_code(RDKafkaErrorCode::PurgeQueue)),
        };
        self.fail(returned.token, slot, body, code, returned.fate);
    }

    pub(crate) fn fail(
        &self,
        token: Token,
        slot: &Slot,
        body: RecordBody,
        code: ErrorCode,
        fate: DeliveryFate,
    ) {
        let unknown = fate == DeliveryFate::Unknown || slot.maybe_written.load(Ordering::Acquire);
        let fate = if unknown { DeliveryFate::Unknown } else { DeliveryFate::NotWritten };
        let failed = Failed {
            code,
            fate,
            body,
            partition: slot.partition(),
            timestamp_ms: slot.timestamp_ms.load(Ordering::Relaxed),
        };
        let unclaimed = self.slab.fail(token, Box::new(failed));
        add(if unknown { &self.tally.unknown } else { &self.tally.not_written }, 1);
        if let Some(failed) = unclaimed {
            self.unclaimed(*failed);
        }
        self.settled();
    }

    /// A failed record whose future was dropped goes to whoever listens.
    pub(crate) fn unclaimed(&self, failed: Failed) {
        add(&self.tally.unclaimed, 1);
        self.listeners.tell(ProducerEvent::Returned(SendError::from(failed)));
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        let lanes = self.lanes.lock();
        let now: u64 = lanes.iter().map(|lane| lane.acknowledged.load(Ordering::SeqCst)).sum();
        now + read(&self.acknowledged_before)
    }

    /// Records whose fate is open.
    pub(crate) fn in_flight(&self) -> u64 {
        // What is settled is read first: what is accepted in between can only make the difference larger.
        let settled = self.acknowledged()
            + read(&self.tally.not_written)
            + read(&self.tally.unknown)
            + read(&self.tally.unaccepted);
        self.entrance.sequences().saturating_sub(settled)
    }

    /// A record was settled: whoever waits for room or for all to be settled has another look.
    #[inline]
    pub(crate) fn settled(&self) {
        if self.room_waiters.load(Ordering::SeqCst) > 0 {
            self.room.notify_waiters();
        }
        if self.flush_waiters.load(Ordering::SeqCst) > 0 && self.in_flight() == 0 {
            drop(self.flush_lock.lock());
            self.flushed.notify_all();
        }
    }

    /// Waits until something may have made room; bounded, because librdkafka counts a record until a moment after
    /// its report.
    pub(crate) async fn wait_for_room(&self, bound: Duration) {
        self.room_waiters.fetch_add(1, Ordering::SeqCst);
        let guard = RoomWaiter(&self.room_waiters);
        let _ = tokio::time::timeout(bound, self.room.notified()).await;
        drop(guard);
    }

    /// Blocks until every accepted record is settled; `false` if the time ran out first.
    pub(crate) fn wait_flushed(&self, deadline: Option<Instant>) -> bool {
        self.flush_waiters.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.flush_lock.lock();
        while self.in_flight() > 0 {
            match deadline {
                Some(deadline) if self.flushed.wait_until(&mut guard, deadline).timed_out() => break,
                Some(_) => {}
                None => self.flushed.wait(&mut guard),
            }
        }
        drop(guard);
        self.flush_waiters.fetch_sub(1, Ordering::SeqCst);
        self.in_flight() == 0
    }
}

struct RoomWaiter<'a>(&'a AtomicUsize);

impl Drop for RoomWaiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use kutover_core::switch::{Order, UnknownPolicy};

    use super::*;

    fn shared() -> Shared {
        let hand_over = HandOver::new(Order::Ordered, UnknownPolicy::Return, 1_000);
        Shared::new(hand_over, Duration::from_secs(60), mpsc::unbounded_channel().0)
    }

    /// Topics that share a place are noted once each, however much they take turns: no send after that takes the lock.
    #[test]
    fn topics_that_share_a_place_are_noted_once() {
        let shared = shared();
        let keys = (0..TOPIC_WAYS).map(|nth| TopicKey(u32::try_from(7 + nth * TOPIC_PLACES).unwrap()));
        let topics: Vec<_> = keys.map(|key| (key, format!("topic-{}", key.0))).collect();
        let note_all = || topics.iter().for_each(|(key, topic)| shared.note_topic(*key, topic));
        note_all();
        assert_eq!(std::mem::take(&mut *shared.topics.lock()).len(), TOPIC_WAYS);
        note_all();
        assert!(shared.topics.lock().is_empty(), "none was noted again");
        shared.note_topic(TopicKey(u32::try_from(7 + TOPIC_WAYS * TOPIC_PLACES).unwrap()), "one too many");
        note_all();
        assert!(shared.topics.lock().contains("one too many"));
    }
}
