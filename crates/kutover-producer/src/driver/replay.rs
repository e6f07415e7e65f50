//! Offers what waits: what came back from the client that was left, then what was parked, in send order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kutover_core::ports::{ErrorCode, HeadersRef, RecordRef, Refusal};
use kutover_core::switch::{AnyLater, Input, LaneId, Offer, Output, Parked, Parking, Returned, Violation};
use rdkafka::error::RDKafkaErrorCode;

use super::Driver;
use crate::events::add;
use crate::record::port_code;
use crate::shared::LaneHandle;

/// How many records are offered before messages are looked at again.
const AT_ONCE: usize = 256;
/// After this long replaying takes no new records; senders wait until the gate is open.
const PATIENCE: Duration = Duration::from_millis(50);
/// The pause after a full queue. librdkafka tells nobody when there is room again.
const FULL: Duration = Duration::from_millis(2);

/// A replay under way.
pub(super) struct Replay {
    lane: LaneId,
    began: Instant,
    stage: Stage,
}

enum Stage {
    Offering,
    /// The queue is full until then.
    Full(Instant),
    /// A fence refused; the machine decides.
    Refused(ErrorCode),
}

impl Replay {
    pub(super) fn is_on(&self, lane: LaneId) -> bool {
        self.lane == lane
    }

    pub(super) fn next_try(&self) -> Option<Instant> {
        match self.stage {
            Stage::Offering => Some(Instant::now()),
            Stage::Full(until) => Some(until),
            Stage::Refused(_) => None,
        }
    }
}

enum Taken {
    Yes,
    /// The new cluster refuses this record for a reason that no switch mends: it goes back to its caller, once the
    /// lock is free.
    Back(Option<Returned>),
    Nothing,
    Full,
    /// The client or its cluster refuses, as a fence would.
    Fenced(ErrorCode),
    Fatal,
}

impl Driver {
    pub(super) fn begin_replay(&mut self, lane: LaneId, left: LaneId, settled: bool) {
        let marks = self.lanes.get(&left).map(|handle| Arc::clone(&handle.events));
        let returned = {
            let mut parking = self.shared.entrance.lock();
            let before = parking.hand_over.counts().possibly_duplicated;
            let returned = match marks.filter(|_| settled) {
                Some(events) => parking.hand_over.settle(&events.marks),
                None => parking.hand_over.settle(&AnyLater),
            };
            let again = parking.hand_over.counts().possibly_duplicated - before;
            add(&self.shared.tally.possibly_duplicated, again);
            // Under the same lock: whatever is held was held before, and judged. On the way back to a client with reports
            // outstanding, what fails later is not held. A client that is left has none outstanding.
            if let Some(handle) = self.lanes.get(&lane) {
                handle.events.sealing.store(false, Ordering::SeqCst);
            }
            returned
        };
        for record in returned {
            self.shared.give_back(record);
        }
        self.replay = Some(Replay { lane, began: Instant::now(), stage: Stage::Offering });
    }

    /// Offers some of what waits, if a replay is under way.
    pub(super) fn replay_some(&mut self) {
        for _ in 0..AT_ONCE {
            let Some(replay) = &mut self.replay else { return };
            match replay.stage {
                Stage::Refused(_) => return,
                Stage::Full(until) if Instant::now() < until => return,
                Stage::Full(_) | Stage::Offering => replay.stage = Stage::Offering,
            }
            let (lane, late) = (replay.lane, replay.began.elapsed() > PATIENCE);
            let Some(handle) = self.lanes.get(&lane).cloned() else { return };
            let shared = Arc::clone(&self.shared);
            let mut parking = shared.entrance.lock();
            parking.shut |= late;
            let taken = self.offer_next(&handle, &mut parking);
            if matches!(taken, Taken::Nothing) {
                let (outputs, result) = self.replayed(lane, &mut parking);
                drop(parking);
                self.shared.room.notify_waiters();
                return self.follow(outputs, result);
            }
            drop(parking);
            let Some(replay) = &mut self.replay else { return };
            match taken {
                Taken::Yes | Taken::Nothing => {}
                Taken::Back(returned) => {
                    if let Some(returned) = returned {
                        self.shared.give_back(returned);
                    }
                }
                Taken::Full => replay.stage = Stage::Full(Instant::now() + FULL),
                Taken::Fenced(code) => {
                    replay.stage = Stage::Refused(code);
                    self.input(Input::Refused { lane });
                }
                Taken::Fatal => {
                    replay.stage = Stage::Refused(port_code(RDKafkaErrorCode::Fatal));
                    self.input(Input::Fatal { lane });
                }
            }
        }
    }

    /// Nothing waits any more: the gate opens under the same lock, so that nothing can be parked in between.
    fn replayed(
        &mut self,
        lane: LaneId,
        parking: &mut Parked<'_, LaneHandle>,
    ) -> (Vec<Output>, Result<(), Violation>) {
        self.replay = None;
        let result = self.switch.handle(self.shared.now(), &Input::Offered { lane });
        let mut outputs = self.drain();
        outputs.retain(|output| match output {
            Output::OpenGate { lane } => {
                self.open_gate(*lane, parking);
                false
            }
            _ => true,
        });
        parking.shut = false;
        (outputs, result)
    }

    /// Offers the record with the lowest send sequence.
    fn offer_next(&self, handle: &LaneHandle, parking: &mut Parking) -> Taken {
        let Some(offer) = parking.hand_over.next_offer() else { return Taken::Nothing };
        let Some(slot) = self.shared.slab.get(offer.token) else {
            parking.hand_over.took(offer);
            return Taken::Yes;
        };
        // Taken out whole: the report, which may come at once, finds an empty place.
        let mut held = slot.cold.lock().held.take().unwrap_or_default();
        let body = held.body.take().unwrap_or_default();
        // Before the client has it: its report may come at once.
        slot.maybe_written.fetch_or(offer.maybe_written, Ordering::SeqCst);
        let record = RecordRef {
            topic: &body.topic,
            partition: slot.partition(),
            key: body.key.as_deref(),
            payload: body.payload.as_deref(),
            timestamp_ms: slot.timestamp_ms.load(Ordering::Relaxed),
            headers: HeadersRef::List(&body.headers),
        };
        let refusal = match handle.client.try_send(record, offer.token) {
            Ok(()) => {
                parking.hand_over.took(offer);
                if let Some(parked_at) = held.parked_at {
                    let stall = u64::try_from(parked_at.elapsed().as_micros()).unwrap_or(u64::MAX);
                    let _ = self.shared.stalls.lock().record(stall);
                }
                return Taken::Yes;
            }
            Err(refusal) => refusal,
        };
        held.body = Some(body);
        slot.cold.lock().held = Some(held);
        match refusal {
            Refusal::QueueFull => Taken::Full,
            Refusal::Fatal(_) => Taken::Fatal,
            Refusal::Refused(code) if handle.events.is_fence_like(&code) => Taken::Fenced(code),
            Refusal::Refused(code) => Taken::Back(self.refuse(parking, offer, code)),
        }
    }

    /// Takes out a record with the error that it goes back with.
    fn refuse(&self, parking: &mut Parking, offer: Offer, code: ErrorCode) -> Option<Returned> {
        if let Some(slot) = self.shared.slab.get(offer.token) {
            slot.cold.lock().held().code = Some(code);
        }
        parking.hand_over.refused(offer)
    }

    /// Nothing is under way that would mend a refusal.
    pub(super) fn return_held(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut parking = shared.entrance.lock();
        let mut back = None;
        if let Some(replay) = &mut self.replay {
            let stage = std::mem::replace(&mut replay.stage, Stage::Offering);
            if let (Stage::Refused(code), Some(offer)) = (stage, parking.hand_over.next_offer()) {
                back = self.refuse(&mut parking, offer, code);
            }
        }
        let released = parking.hand_over.release();
        // A waker may run its task at once, and that may send: not under the lock.
        drop(parking);
        for record in back.into_iter().chain(released) {
            self.shared.give_back(record);
        }
    }
}
