//! Offers what waits: what came back from the client that was left, then what was parked, in send order.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kutover_core::ports::Refusal;
use kutover_core::switch::{AnyLater, Input, LaneId, Output};
use tokio::time::Instant;

use super::driver::Driver;
use super::offered;
use crate::witness::note;

/// How many records are offered before messages are looked at again.
const AT_ONCE: usize = 256;
/// After this long replaying takes no new records; senders wait until the gate is open.
const PATIENCE: Duration = Duration::from_millis(50);
/// The pause after a full queue.
const FULL: Duration = Duration::from_millis(2);

/// A replay under way.
pub(super) struct Replay {
    lane: LaneId,
    began: Instant,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Offering,
    /// The queue is full until then.
    Full(Instant),
    /// A fence refused; the machine decides.
    Refused,
}

impl Replay {
    pub(super) fn is_on(&self, lane: LaneId) -> bool {
        self.lane == lane
    }

    pub(super) fn next_try(&self) -> Option<Instant> {
        match self.stage {
            Stage::Offering => Some(Instant::now()),
            Stage::Full(until) => Some(until),
            Stage::Refused => None,
        }
    }
}

impl Driver {
    pub(super) fn begin_replay(&mut self, lane: LaneId, left: LaneId, settled: bool) {
        let (left_lane, to) = (self.lane(left), self.lane(lane));
        let (returned, again) = {
            let mut core = self.shared.core.lock();
            let before = core.hand_over.counts().possibly_duplicated;
            let returned = match left_lane.as_ref().filter(|_| settled) {
                Some(left) => core.hand_over.settle(&left.events.marks),
                None => core.hand_over.settle(&AnyLater),
            };
            (returned, core.hand_over.counts().possibly_duplicated - before)
        };
        self.shared.world.witness.observed().producers[self.shared.number].possibly_duplicated += again;
        if let Some(left) = left_lane.filter(|_| settled && left != lane) {
            left.events.judged.store(true, Ordering::Relaxed);
        }
        if let Some(to) = to {
            to.events.sealing.store(false, Ordering::Relaxed);
        }
        for record in returned {
            self.shared.give_back(record);
        }
        self.replay = Some(Replay { lane, began: Instant::now(), stage: Stage::Offering });
    }

    /// Offers some of what waits, if a replay is under way.
    pub(super) async fn replay_some(&mut self) {
        for _ in 0..AT_ONCE {
            let Some(replay) = &mut self.replay else { return };
            match replay.stage {
                Stage::Refused => return,
                Stage::Full(until) if Instant::now() < until => return,
                Stage::Full(_) | Stage::Offering => replay.stage = Stage::Offering,
            }
            let (lane, late) = (replay.lane, replay.began.elapsed() > PATIENCE);
            self.shared.core.lock().shut |= late;
            let refusal = match self.offer_next(lane) {
                None => return self.replayed(lane).await,
                Some(Ok(())) => continue,
                Some(Err(refusal)) => refusal,
            };
            let handle = self.lane(lane);
            let Some(replay) = &mut self.replay else { return };
            match refusal {
                Refusal::QueueFull => replay.stage = Stage::Full(Instant::now() + FULL),
                Refusal::Fatal(_) => {
                    replay.stage = Stage::Refused;
                    self.input(Input::Fatal { lane }).await;
                }
                Refusal::Refused(code) if handle.is_some_and(|lane| lane.is_fence_like(&code)) => {
                    replay.stage = Stage::Refused;
                    self.input(Input::Refused { lane }).await;
                }
                Refusal::Refused(_) => self.give_back_next(),
            }
        }
    }

    /// Nothing waits any more: the gate opens in the same breath, so that nothing can be parked in between.
    async fn replayed(&mut self, lane: LaneId) {
        self.replay = None;
        let result = self.switch.handle(self.shared.now(), &Input::Offered { lane });
        let mut outputs = self.drain();
        let gates: Vec<LaneId> = outputs
            .iter()
            .filter_map(|output| match output {
                Output::OpenGate { lane } => Some(*lane),
                _ => None,
            })
            .collect();
        for lane in gates {
            self.open_gate(lane);
        }
        outputs.retain(|output| !matches!(output, Output::OpenGate { .. }));
        self.shared.core.lock().shut = false;
        self.shared.changed.notify_waiters();
        self.follow(outputs, result).await;
    }

    /// Offers the record with the lowest send sequence, if one waits.
    fn offer_next(&mut self, lane: LaneId) -> Option<Result<(), Refusal>> {
        let handle = self.lane(lane)?;
        let shared = &self.shared;
        let (offer, body) = {
            let mut core = shared.core.lock();
            let offer = core.hand_over.next_offer()?;
            let slot = &mut core.slots[offer.token.0 as usize];
            slot.maybe_written |= offer.maybe_written;
            (offer, slot.held.take().unwrap_or_default())
        };
        let taken = handle.client.try_send(offered(&body), offer.token);
        let mut core = shared.core.lock();
        let slot = &mut core.slots[offer.token.0 as usize];
        let record = slot.record;
        if taken.is_ok() {
            shared.waited(slot);
            core.hand_over.took(offer);
            drop(core);
            note!(shared.world.witness, "producer {}: record {record} to lane {}", shared.number, lane.0);
        } else {
            slot.held = Some(body);
        }
        Some(taken)
    }

    /// What the new cluster refuses for a reason of its own goes back.
    fn give_back_next(&mut self) {
        let returned = {
            let mut core = self.shared.core.lock();
            let offer = core.hand_over.next_offer();
            offer.and_then(|offer| core.hand_over.refused(offer))
        };
        if let Some(returned) = returned {
            self.shared.give_back(returned);
        }
    }

    /// Nothing is under way that would mend a refusal.
    pub(super) fn return_held(&mut self) {
        if let Some(replay) = &mut self.replay {
            let refused = matches!(replay.stage, Stage::Refused);
            replay.stage = Stage::Offering;
            if refused {
                self.give_back_next();
            }
        }
        let released = self.shared.core.lock().hand_over.release();
        for record in released {
            self.shared.give_back(record);
        }
    }
}
