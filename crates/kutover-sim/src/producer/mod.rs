//! A simulated producer: kutover's gate, hand-over and switch, driven over the ports as `BlueGreenProducer` drives them.
//!
//! What is different from the real one is what a simulation must own: the threads (there are none; a send that sleeps inside
//! the gate is a task that does), the clock, and the slab.

mod act;
mod driver;
mod lane;
mod member;
mod replay;
mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kutover_core::ports::{
    DeliveryFate, HeadersRef, MemberLinks, ProducerFactory, RecordBody, RecordRef, Refusal, Token,
};
use kutover_core::switch::{
    Failure, HandOver, Input, LaneId, Order, ReturnReason, Returned, Sequence, TopicKey, UnknownPolicy,
};
use kutover_core::words::{ClusterId, Generation, Millis, TopicName};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use crate::observed::{Ending, Record};
use crate::weather::{Fault, shaped};
use crate::witness::note;
use crate::world::{Flag, World};
use lane::Lane;

pub(crate) use driver::Message;

const PARK_LIMIT_BYTES: usize = 4_000;
/// What each record counts for in the park.
const RECORD_BYTES: usize = 100;

/// What a record is to its producer.
struct Slot {
    record: usize,
    topic: usize,
    key: u8,
    sequence: Sequence,
    maybe_written: bool,
    held: Option<RecordBody>,
    accepted: Millis,
    parked_ms: Option<u64>,
    /// How long it waited for room before it was accepted.
    room_ms: u64,
    ended: bool,
}

/// What senders, reports and the driver share.
struct Core {
    slots: Vec<Slot>,
    sequence: u64,
    hand_over: HandOver,
    shut: bool,
    ended: bool,
    /// The process is gone: its reports reach nobody.
    gone: bool,
    current: Option<LaneId>,
    lanes: BTreeMap<LaneId, Arc<Lane>>,
    open: u64,
    /// Since when its sender waits for room.
    roomless_ms: Option<u64>,
}

/// See the [module](self).
pub(crate) struct Shared {
    world: Arc<World>,
    number: usize,
    life: u64,
    name: String,
    order: Order,
    clock: (u64, i64),
    core: Mutex<Core>,
    /// A record ended, or the gate opened: whoever waits has another look.
    changed: Notify,
    /// It serves: before, nobody has been given the producer.
    started: Flag,
    inbox: mpsc::UnboundedSender<Message>,
}

/// Why a record was not accepted.
enum NotAccepted {
    /// The client's queue is full.
    Busy,
    /// The park is full, or shut for a moment.
    Full,
    Refused,
    Ended,
}

/// What a producer reaches the world through.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) factory: Arc<dyn ProducerFactory>,
    pub(crate) links: Arc<dyn MemberLinks>,
    pub(crate) watch: Arc<dyn kutover_core::ports::EndpointWatch>,
}

impl Shared {
    fn new(world: &Arc<World>, number: usize, life: u64, inbox: mpsc::UnboundedSender<Message>) -> Arc<Self> {
        let scene = &world.scene.producers[number];
        let hand_over = HandOver::new(scene.order, UnknownPolicy::default_for(scene.order), PARK_LIMIT_BYTES);
        let core = Core {
            slots: Vec::new(),
            sequence: 0,
            hand_over,
            shut: false,
            ended: false,
            gone: false,
            current: None,
            lanes: BTreeMap::new(),
            open: 0,
            roomless_ms: None,
        };
        Arc::new(Self {
            world: Arc::clone(world),
            number,
            life,
            name: scene.name.clone(),
            order: scene.order,
            clock: scene.clock,
            core: Mutex::new(core),
            changed: Notify::new(),
            started: Flag::default(),
            inbox,
        })
    }

    /// What this producer's clock says.
    fn now(&self) -> Millis {
        let (offset, thousandths) = self.clock;
        let real = i64::try_from(self.world.now_ms()).unwrap_or(i64::MAX);
        Millis(offset + u64::try_from(real + real * thousandths / 1_000).unwrap_or(0))
    }

    /// How long it really is until this producer's clock says so.
    fn until(&self, then: Millis) -> Duration {
        let (_, thousandths) = self.clock;
        let ms = i64::try_from(then.since(self.now()).min(1 << 40)).unwrap_or(i64::MAX);
        Duration::from_millis(u64::try_from(ms * 1_000 / (1_000 + thousandths)).unwrap_or(0) + 1)
    }

    fn tell(&self, message: Message) {
        // The driver is gone only once the producer has ended, and then nobody waits for it.
        let _ = self.inbox.send(message);
    }

    /// Records whose fate is open.
    pub(crate) fn in_flight(&self) -> u64 {
        self.core.lock().open
    }

    /// Offers a record until it is accepted, refused for good, or the producer ends.
    async fn send(self: &Arc<Self>, topic: usize, key: u8) -> bool {
        loop {
            match self.accept(topic, key).await {
                Ok(()) => return true,
                Err(NotAccepted::Refused) => {
                    self.stopped_waiting();
                    return true;
                }
                Err(NotAccepted::Ended) => {
                    self.stopped_waiting();
                    return false;
                }
                Err(why @ (NotAccepted::Busy | NotAccepted::Full)) => {
                    if matches!(why, NotAccepted::Full) {
                        let now_ms = self.world.now_ms();
                        self.core.lock().roomless_ms.get_or_insert(now_ms);
                    }
                    let _ = tokio::time::timeout(Duration::from_millis(20), self.changed.notified()).await;
                }
            }
        }
    }

    async fn accept(self: &Arc<Self>, topic: usize, key: u8) -> Result<(), NotAccepted> {
        let lane = {
            let core = self.core.lock();
            core.current.and_then(|id| core.lanes.get(&id).cloned())
        };
        if let Some(lane) = &lane
            && let Some(entry) = lane.gate.enter()
        {
            if let Some(shape) = self.world.weather.strikes(Fault::ProducerPaused) {
                note!(self.world.witness, "producer {} sleeps inside a send", self.number);
                let asleep = shaped(shape, 1_000, 3_600_000);
                let ms = u64::try_from(asleep.as_millis()).unwrap_or(u64::MAX);
                self.world.witness.observed().producers[self.number].slept_ms += ms;
                tokio::time::sleep(asleep).await;
            }
            let sent = self.send_to(lane, topic, key);
            drop(entry);
            self.tell(Message::Left);
            return sent;
        }
        self.park(topic, key)
    }

    fn new_slot(&self, core: &mut Core, topic: usize, key: u8) -> Token {
        core.sequence += 1;
        core.open += 1;
        let at_ms = self.world.now_ms();
        let mut observed = self.world.witness.observed();
        let record = observed.records.len();
        observed.records.push(Record {
            producer: self.number,
            life: self.life,
            key,
            topic,
            sequence: core.sequence,
            accepted_ms: at_ms,
            ..Record::default()
        });
        drop(observed);
        let slot = Slot {
            record,
            topic,
            key,
            sequence: Sequence(core.sequence),
            maybe_written: false,
            held: None,
            accepted: self.now(),
            parked_ms: None,
            room_ms: core.roomless_ms.take().map_or(0, |since| at_ms - since),
            ended: false,
        };
        core.slots.push(slot);
        Token(core.slots.len() as u64 - 1)
    }

    /// Takes back what was not accepted after all.
    fn unaccept(&self, token: Token) {
        let mut core = self.core.lock();
        core.open -= 1;
        let slot = &mut core.slots[token.0 as usize];
        slot.ended = true;
        let at_ms = self.world.now_ms();
        let (record, room_ms) = (slot.record, slot.room_ms);
        // Its sender waits on.
        core.roomless_ms = (room_ms > 0).then(|| at_ms - room_ms);
        self.world.witness.observed().records[record].endings.push((at_ms, None));
        drop(core);
        self.changed.notify_waiters();
    }

    fn body(&self, core: &Core, token: Token) -> RecordBody {
        let slot = &core.slots[token.0 as usize];
        RecordBody {
            topic: self.topic_name(slot.topic).as_str().to_owned(),
            key: Some(vec![self.number as u8, (self.number >> 8) as u8, slot.key]),
            payload: Some((slot.record as u64).to_le_bytes().to_vec()),
            headers: Vec::new(),
        }
    }

    fn topic_name(&self, topic: usize) -> TopicName {
        self.world.scene.topics[topic].0.clone()
    }

    fn send_to(self: &Arc<Self>, lane: &Lane, topic: usize, key: u8) -> Result<(), NotAccepted> {
        let (token, body) = {
            let mut core = self.core.lock();
            let token = self.new_slot(&mut core, topic, key);
            let body = self.body(&core, token);
            note!(
                self.world.witness,
                "producer {}: record {} to lane {}",
                self.number,
                core.slots[token.0 as usize].record,
                lane.id.0
            );
            (token, body)
        };
        let input = match lane.client.try_send(offered(&body), token) {
            Ok(()) => {
                let room_ms = std::mem::take(&mut self.core.lock().slots[token.0 as usize].room_ms);
                self.saw_wait(self.world.now_ms() - room_ms, room_ms);
                return Ok(());
            }
            Err(Refusal::QueueFull) => {
                self.unaccept(token);
                return Err(NotAccepted::Busy);
            }
            Err(Refusal::Refused(code)) if !lane.is_fence_like(&code) => {
                self.unaccept(token);
                return Err(NotAccepted::Refused);
            }
            Err(Refusal::Refused(_)) => Input::Refused { lane: lane.id },
            Err(Refusal::Fatal(_)) => Input::Fatal { lane: lane.id },
        };
        let accepted = if self.core.lock().hand_over.has_room(RECORD_BYTES) {
            self.hold(token, body, DeliveryFate::NotWritten, None, |_| true);
            Ok(())
        } else {
            self.unaccept(token);
            Err(NotAccepted::Full)
        };
        self.tell(Message::Input(input));
        accepted
    }

    /// Holds a record that came back for the hand-over to judge, if it still does; else it fails at once.
    fn hold(
        &self,
        token: Token,
        body: RecordBody,
        fate: DeliveryFate,
        partition: Option<i32>,
        still: impl FnOnce(&Core) -> bool,
    ) -> bool {
        let now_ms = self.world.now_ms();
        let mut core = self.core.lock();
        let holds = !core.ended && still(&core);
        if !holds {
            drop(core);
            self.give_back(Returned { token, fate, reason: ReturnReason::Refused });
            return false;
        }
        let timeout = self.world.scene.delivery_timeout_ms;
        let slot = &mut core.slots[token.0 as usize];
        slot.parked_ms.get_or_insert(now_ms);
        slot.held = Some(body);
        let failure = Failure {
            token,
            sequence: slot.sequence,
            topic: TopicKey::of(self.world.scene.topics[slot.topic].0.as_str()),
            partition,
            fate,
            bytes: RECORD_BYTES,
            expires: slot.accepted.plus(timeout),
        };
        if slot.maybe_written {
            core.hand_over.remember_unknown(token);
        }
        core.hand_over.failed(failure);
        true
    }

    fn park(&self, topic: usize, key: u8) -> Result<(), NotAccepted> {
        let mut core = self.core.lock();
        if core.ended {
            return Err(NotAccepted::Ended);
        }
        let open = core.current.and_then(|id| core.lanes.get(&id)).is_some_and(|lane| !lane.gate.is_closed());
        if open || core.shut || !core.hand_over.has_room(RECORD_BYTES) {
            return Err(NotAccepted::Full);
        }
        let token = self.new_slot(&mut core, topic, key);
        let body = self.body(&core, token);
        let timeout = self.world.scene.delivery_timeout_ms;
        let slot = &mut core.slots[token.0 as usize];
        slot.held = Some(body);
        slot.parked_ms = Some(self.world.now_ms());
        let (sequence, expires, record) = (slot.sequence, slot.accepted.plus(timeout), slot.record);
        let parked = core.hand_over.park(sequence, token, RECORD_BYTES, expires);
        debug_assert!(parked.is_ok(), "room was there a line above");
        note!(self.world.witness, "producer {}: record {record} is parked", self.number);
        Ok(())
    }

    /// Gives a record that waits back to its caller.
    fn give_back(&self, returned: Returned) {
        let unknown = {
            let core = self.core.lock();
            core.slots[returned.token.0 as usize].maybe_written
        };
        let unknown = unknown || returned.fate == DeliveryFate::Unknown;
        self.end(returned.token, if unknown { Ending::Unknown } else { Ending::NotWritten });
    }

    fn end(&self, token: Token, ending: Ending) {
        let at_ms = self.world.now_ms();
        let mut core = self.core.lock();
        let slot = &mut core.slots[token.0 as usize];
        let (record, again) = (slot.record, std::mem::replace(&mut slot.ended, true));
        self.waited(slot);
        if !again {
            core.open -= 1;
        }
        drop(core);
        note!(self.world.witness, "producer {}: record {record} is {ending:?}", self.number);
        let mut observed = self.world.witness.observed();
        let seen = &mut observed.records[record];
        seen.unknown |= ending == Ending::Unknown;
        seen.endings.push((at_ms, Some(ending)));
        drop(observed);
        self.changed.notify_waiters();
    }

    /// It may stand in a cluster that was left.
    fn note_unknown(&self, core: &Core, token: Token) {
        let record = core.slots[token.0 as usize].record;
        self.world.witness.observed().records[record].unknown = true;
    }

    pub(crate) fn lives(&self) -> bool {
        !self.core.lock().gone
    }

    /// The cluster that it writes to now.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        let core = self.core.lock();
        core.lanes.get(&core.current?).map(|lane| lane.events.target.cluster_id.clone())
    }

    /// The process is gone, and with it whatever it held.
    fn killed(&self) {
        note!(self.world.witness, "producer {} is killed", self.number);
        self.stopped_waiting();
        let mut core = self.core.lock();
        core.ended = true;
        core.open = 0;
        let lost: Vec<usize> = core.slots.iter().filter(|slot| !slot.ended).map(|slot| slot.record).collect();
        let lanes = std::mem::take(&mut core.lanes);
        drop(core);
        let mut observed = self.world.witness.observed();
        for record in lost {
            observed.records[record].died = true;
        }
        drop(observed);
        drop(lanes);
    }
}

fn offered(body: &RecordBody) -> RecordRef<'_> {
    RecordRef {
        topic: &body.topic,
        partition: None,
        key: body.key.as_deref(),
        payload: body.payload.as_deref(),
        timestamp_ms: 0,
        headers: HeadersRef::None,
    }
}

/// A producer's whole life: it starts, sends until traffic ends, settles what it has, and closes; or is killed and
/// started again under the same name.
pub(crate) async fn live(world: Arc<World>, number: usize, reach: Reach) {
    let scene = world.scene.producers[number].clone();
    tokio::time::sleep(Duration::from_millis(scene.starts_ms)).await;
    let mut life = 0;
    while driver::live_once(&world, number, life, &reach).await {
        life += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A generation's number for people who look at the trace.
fn shown(generation: Generation) -> u64 {
    generation.0
}
