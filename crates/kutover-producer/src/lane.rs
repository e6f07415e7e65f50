//! What one client reports, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kutover_core::owner::Target;
use kutover_core::ports::{ClientEvents, Delivery, DeliveryFate, ErrorCode, Token};
use kutover_core::switch::{AckMarks, Input, LaneId, Sequence, TopicKey};
use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode;

use crate::driver::Message;
use crate::shared::{CameBack, Shared};

/// Partitions per client for which acknowledgement marks are kept apart.
const MARKED_PARTITIONS: usize = 4096;

/// What one client's callbacks touch.
pub(crate) struct LaneEvents {
    pub(crate) id: LaneId,
    pub(crate) target: Target,
    shared: Arc<Shared>,
    pub(crate) marks: AckMarks,
    pub(crate) acknowledged: AtomicU64,
    /// What fails from here on is held for the hand-over.
    pub(crate) sealing: AtomicBool,
    /// A fence is announced for this cluster, or an intent to close the generation that it serves: more kinds of refusal
    /// are hints then.
    pub(crate) announced: AtomicBool,
    /// The switch has been told of a refusal and has not looked at it yet. However many there are, one word is enough.
    pub(crate) refusal_told: AtomicBool,
    pub(crate) producer_ids: Mutex<Vec<i64>>,
}

impl LaneEvents {
    pub(crate) fn new(id: LaneId, target: Target, shared: Arc<Shared>) -> Self {
        Self {
            id,
            target,
            shared,
            marks: AckMarks::with_room_for(MARKED_PARTITIONS),
            acknowledged: AtomicU64::new(0),
            sealing: AtomicBool::new(false),
            announced: AtomicBool::new(false),
            refusal_told: AtomicBool::new(false),
            producer_ids: Mutex::default(),
        }
    }

    /// Whether a refusal looks like a fence's.
    pub(crate) fn is_fence_like(&self, code: &ErrorCode) -> bool {
        const AUTHORISATION: [i32; 2] = [
            RDKafkaErrorCode::TopicAuthorizationFailed as i32,
            RDKafkaErrorCode::ClusterAuthorizationFailed as i32,
        ];
        // A size fence refuses what it lets through at other times; a record that is really too large says the same.
        const UNDER_ANNOUNCEMENT: [i32; 2] =
            [RDKafkaErrorCode::MessageSizeTooLarge as i32, RDKafkaErrorCode::PolicyViolation as i32];
        AUTHORISATION.contains(&code.number)
            || self.announced.load(Ordering::Acquire) && UNDER_ANNOUNCEMENT.contains(&code.number)
    }

    /// Tells the switch of a refusal that looks like a fence's.
    pub(crate) fn refused(&self) {
        if !self.refusal_told.swap(true, Ordering::SeqCst) {
            self.shared.tell(Message::Input(Input::Refused { lane: self.id }));
        }
    }
}

impl ClientEvents for LaneEvents {
    fn delivered(&self, token: Token, delivery: Delivery) {
        let (fate, partition, code, record) = match delivery {
            Delivery::Acknowledged { partition, offset, append_time_ms } => {
                return self.acknowledged(token, partition, offset, append_time_ms);
            }
            Delivery::Failed { fate, partition, code, record } => (fate, partition, code, record),
        };
        let Some(slot) = self.shared.slab.get(token) else { return };
        let fenced = fate == DeliveryFate::NotWritten && self.is_fence_like(&code);
        let is_held = || fenced || self.sealing.load(Ordering::Acquire);
        if !is_held() {
            return self.shared.fail(token, slot, record, code, fate);
        }
        let held = self.shared.hold(token, slot, CameBack { body: record, code, fate, partition }, is_held);
        if held && fenced {
            self.refused();
        }
    }

    #[inline]
    fn acknowledged(&self, token: Token, partition: i32, offset: i64, append_time_ms: Option<i64>) {
        let Some(slot) = self.shared.slab.get(token) else { return };
        let sequence = Sequence(slot.sequence.load(Ordering::Acquire));
        self.marks.note(TopicKey(slot.topic.load(Ordering::Relaxed)), partition, sequence);
        self.shared.slab.acknowledge(token, partition, offset, append_time_ms);
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        self.shared.settled();
    }

    fn fatal(&self, reason: String) {
        tracing::warn!(lane = ?self.id, cluster = %self.target.cluster_id, "client became fatal: {reason}");
        self.shared.tell(Message::Input(Input::Fatal { lane: self.id }));
    }

    fn producer_id(&self, id: i64) {
        let mut ids = self.producer_ids.lock();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kutover_core::ports::RecordBody;
    use kutover_core::switch::{HandOver, Order, UnknownPolicy};
    use kutover_core::words::{Colour, Generation};
    use tokio::sync::mpsc;

    use super::*;
    use crate::events::read;

    fn lane() -> (LaneEvents, mpsc::UnboundedReceiver<Message>) {
        let (inbox, messages) = mpsc::unbounded_channel();
        let hand_over = HandOver::new(Order::Ordered, UnknownPolicy::Return, 1_000);
        let shared = Arc::new(Shared::new(hand_over, Duration::from_secs(60), inbox));
        let (generation, colour) = (Generation(1), Colour::Blue);
        let target = Target { generation, colour, cluster_id: "b".into(), bootstrap: vec![] };
        (LaneEvents::new(LaneId(1), target, shared), messages)
    }

    fn error(code: RDKafkaErrorCode) -> ErrorCode {
        crate::record::port_code(code)
    }

    fn fails(lane: &LaneEvents, code: RDKafkaErrorCode) {
        let token = lane.shared.slab.take(None).expect("there is room");
        let slot = lane.shared.slab.get(token).expect("it was taken");
        slot.sequence.store(u64::from(token.slot()) + 1, Ordering::SeqCst);
        let (fate, record) = (DeliveryFate::NotWritten, RecordBody::default());
        lane.delivered(token, Delivery::Failed { fate, partition: Some(0), code: error(code), record });
    }

    fn held(lane: &LaneEvents) -> usize {
        lane.shared.entrance.lock().hand_over.len()
    }

    /// Everything that fails in a seal is held, a fence's refusal at any time, and of that the switch is told.
    #[test]
    fn what_fails_in_a_seal_is_held_and_what_a_fence_refuses_always() {
        let (lane, mut messages) = lane();
        fails(&lane, RDKafkaErrorCode::MessageTimedOut);
        assert_eq!((held(&lane), read(&lane.shared.tally.not_written)), (0, 1));
        lane.sealing.store(true, Ordering::SeqCst);
        fails(&lane, RDKafkaErrorCode::MessageTimedOut);
        assert_eq!(held(&lane), 1);
        assert!(messages.try_recv().is_err());
        lane.sealing.store(false, Ordering::SeqCst);
        fails(&lane, RDKafkaErrorCode::TopicAuthorizationFailed);
        assert_eq!((held(&lane), read(&lane.shared.tally.not_written)), (2, 1));
        assert!(matches!(messages.try_recv(), Ok(Message::Input(Input::Refused { lane: LaneId(1) }))));
    }

    /// A report that saw the seal but comes to hold its record after the judgement gives it back.
    #[test]
    fn a_report_that_comes_after_the_judgement_gives_its_record_back() {
        let (lane, _messages) = lane();
        let shared = &lane.shared;
        let token = shared.slab.take(None).expect("there is room");
        let slot = shared.slab.get(token).expect("it was taken");
        let (body, code) = (RecordBody::default(), error(RDKafkaErrorCode::MessageTimedOut));
        let came_back = CameBack { body, code, fate: DeliveryFate::Unknown, partition: Some(0) };
        assert!(!shared.hold(token, slot, came_back, || false));
        assert_eq!((held(&lane), read(&shared.tally.unknown)), (0, 1));
    }

    /// Sizes and policies refuse at other times as well: they are hints where a fence is announced for this client.
    #[test]
    fn a_size_refusal_is_a_hint_under_an_announcement_alone() {
        let (lane, _messages) = lane();
        let size = error(RDKafkaErrorCode::MessageSizeTooLarge);
        assert!(!lane.is_fence_like(&size));
        assert!(lane.is_fence_like(&error(RDKafkaErrorCode::TopicAuthorizationFailed)));
        lane.announced.store(true, Ordering::SeqCst);
        assert!(lane.is_fence_like(&size));
    }
}
