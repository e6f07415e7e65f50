//! One client with its gate, and what its reports do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use kutover_core::owner::Target;
use kutover_core::ports::{ClientEvents, Delivery, DeliveryFate, ErrorCode, ProducerClient, Token};
use kutover_core::switch::{AckMarks, Gate, Input, LaneId, TopicKey};
use parking_lot::Mutex;

use super::{Message, Shared};
use crate::observed::Ending;

/// A client in use.
pub(super) struct Lane {
    pub(super) id: LaneId,
    pub(super) gate: Gate,
    pub(super) client: Arc<dyn ProducerClient>,
    pub(super) events: Arc<LaneEvents>,
}

impl Lane {
    pub(super) fn is_fence_like(&self, code: &ErrorCode) -> bool {
        self.events.is_fence_like(code)
    }
}

/// What one client's reports touch.
pub(super) struct LaneEvents {
    pub(super) id: LaneId,
    pub(super) target: Target,
    /// Weak: a producer that was killed is gone, however long its client's reports still travel.
    shared: Weak<Shared>,
    pub(super) marks: AckMarks,
    pub(super) acknowledged: AtomicU64,
    /// What fails from here on is held for the hand-over.
    pub(super) sealing: AtomicBool,
    /// Everything that failed here has been judged.
    pub(super) judged: AtomicBool,
    /// A fence is announced for this cluster.
    pub(super) announced: AtomicBool,
    pub(super) producer_ids: Mutex<Vec<i64>>,
}

impl LaneEvents {
    pub(super) fn new(id: LaneId, target: Target, shared: &Arc<Shared>) -> Self {
        Self {
            id,
            target,
            shared: Arc::downgrade(shared),
            marks: AckMarks::with_room_for(64),
            acknowledged: AtomicU64::new(0),
            sealing: AtomicBool::new(false),
            judged: AtomicBool::new(false),
            announced: AtomicBool::new(false),
            producer_ids: Mutex::default(),
        }
    }

    /// Whether a refusal looks like a fence's: not authorised, or under an announcement too large or against a policy.
    fn is_fence_like(&self, code: &ErrorCode) -> bool {
        const AUTHORISATION: [i32; 2] = [29, 31];
        const UNDER_ANNOUNCEMENT: [i32; 2] = [10, 44];
        AUTHORISATION.contains(&code.number)
            || self.announced.load(Ordering::Relaxed) && UNDER_ANNOUNCEMENT.contains(&code.number)
    }

    fn alive(&self) -> Option<Arc<Shared>> {
        self.shared.upgrade().filter(|shared| !shared.core.lock().gone)
    }
}

impl ClientEvents for LaneEvents {
    fn delivered(&self, token: Token, delivery: Delivery) {
        let Some(shared) = self.alive() else { return };
        let (fate, partition, code, record) = match delivery {
            Delivery::Acknowledged { partition, offset, append_time_ms } => {
                return self.acknowledged(token, partition, offset, append_time_ms);
            }
            Delivery::Failed { fate, partition, code, record } => (fate, partition, code, record),
        };
        let fenced = fate == DeliveryFate::NotWritten && self.is_fence_like(&code);
        if fate == DeliveryFate::Unknown {
            shared.note_unknown(&shared.core.lock(), token);
        }
        let is_held =
            !self.judged.load(Ordering::Relaxed) && (fenced || self.sealing.load(Ordering::Relaxed));
        let held = shared.hold(token, record, fate, partition, |_| is_held);
        if held && fenced {
            shared.tell(Message::Input(Input::Refused { lane: self.id }));
        }
        shared.changed.notify_waiters();
    }

    fn acknowledged(&self, token: Token, partition: i32, _offset: i64, _append_time_ms: Option<i64>) {
        let Some(shared) = self.alive() else { return };
        let (topic, sequence) = {
            let core = shared.core.lock();
            let slot = &core.slots[token.0 as usize];
            (TopicKey::of(shared.world.scene.topics[slot.topic].0.as_str()), slot.sequence)
        };
        self.marks.note(topic, partition, sequence);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        shared.end(token, Ending::Acknowledged(self.target.cluster_id.clone()));
    }

    fn fatal(&self, _reason: String) {
        if let Some(shared) = self.alive() {
            shared.tell(Message::Input(Input::Fatal { lane: self.id }));
        }
    }

    fn producer_id(&self, id: i64) {
        self.producer_ids.lock().push(id);
    }
}
