//! How a client's records travel with weather: a line per partition, one batch of it on its way at a time.
//!
//! As in librdkafka with idempotence: a partition's records are reported in the order in which they were taken; a batch
//! is sent again under its sequence until its delivery time-out; one that was sent and not answered for is of unknown
//! fate, whatever happens to it later; giving such a one up raises the epoch, so that a late append of it is refused
//! once the partition knows the new epoch, and lands if it comes before.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kutover_core::ports::{ClientEvents, Delivery, DeliveryFate, ErrorCode};
use kutover_core::words::{TopicName, TopicPartition};
use parking_lot::{Mutex, ReentrantMutex};
use tokio::time::Instant;

use super::ClientOptions;
use super::attempt::{Attempt, Batch, attempt};
use super::client::Queued;
use crate::cluster::{BatchId, MemoryCluster, NO_PRODUCER_ID};
use crate::faults::pause;
use crate::signal::Signal;
use crate::weather::Weather;

/// Kafka's numbers for a refusal that a new epoch mends.
const OUT_OF_ORDER: i32 = 45;
const OLD_EPOCH: i32 = 47;
/// Those of a refusal that puts the whole topic in error: unknown, not authorised. Other ones are the batch's own.
const TOPIC_IN_ERROR: [i32; 2] = [3, 29];

#[derive(Debug, Default)]
struct Line {
    queue: VecDeque<(Queued, Instant)>,
    flight: VecDeque<Queued>,
    /// Whether the batch on its way may be written: it was sent, and no answer says that it is not.
    unsure: bool,
    /// Counts the tasks that carried this line; 0 while none does.
    carrier: u64,
    epoch: i16,
    next: i32,
}

#[derive(Debug, Default)]
struct State {
    lines: BTreeMap<TopicPartition, Line>,
    refused: BTreeMap<TopicName, (Instant, (i32, &'static str))>,
    outstanding: usize,
    carriers: u64,
    abandoned: bool,
}

/// The lines of one client.
pub(super) struct Lines {
    cluster: MemoryCluster,
    events: Arc<dyn ClientEvents>,
    weather: Arc<dyn Weather>,
    producer_id: i64,
    options: ClientOptions,
    state: Mutex<State>,
    /// Held from taking a record out of its line until its report is counted, so that a purge by another thread does not
    /// return before. A report's callback may purge itself.
    reporting: ReentrantMutex<()>,
    idle: Signal,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("producer_id", &self.producer_id).finish_non_exhaustive()
    }
}

impl Lines {
    pub(super) fn new(
        cluster: MemoryCluster,
        events: Arc<dyn ClientEvents>,
        weather: Arc<dyn Weather>,
        producer_id: i64,
        options: ClientOptions,
    ) -> Self {
        let (state, reporting, idle) = (Mutex::default(), ReentrantMutex::default(), Signal::default());
        let producer_id = if options.idempotent { producer_id } else { NO_PRODUCER_ID };
        Self { cluster, events, weather, producer_id, options, state, reporting, idle }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.state.lock().outstanding
    }

    pub(super) async fn settled(&self, timeout_ms: u64) -> bool {
        let until = Instant::now() + Duration::from_millis(timeout_ms);
        loop {
            let seen = self.idle.count();
            if self.outstanding() == 0 {
                return true;
            }
            if tokio::time::timeout_at(until, self.idle.differs_from(seen)).await.is_err() {
                return self.outstanding() == 0;
            }
        }
    }

    /// What the client has heard of a partition's topic: one leader's refusal counts for all of it.
    pub(super) fn refusal(&self, place: &TopicPartition) -> Option<(i32, &'static str)> {
        let state = self.state.lock();
        let (until, code) = state.refused.get(&place.topic)?;
        (Instant::now() < *until).then_some(*code)
    }

    pub(super) fn push(self: &Arc<Self>, queued: Queued) {
        let deadline = Instant::now() + Duration::from_millis(self.options.delivery_timeout_ms);
        let place = queued.place.clone();
        let mut state = self.state.lock();
        state.outstanding += 1;
        let next_carrier = state.carriers + 1;
        let line = state.lines.entry(place.clone()).or_default();
        line.queue.push_back((queued, deadline));
        if line.carrier == 0 {
            line.carrier = next_carrier;
            state.carriers = next_carrier;
            drop(state);
            tokio::spawn(Arc::clone(self).carry(place, next_carrier));
        }
    }

    /// Every record fails with its fate. What is on its way still lands, or not.
    pub(super) fn purge(&self) {
        let _order = self.reporting.lock();
        let mut state = self.state.lock();
        let mut failed = Vec::new();
        for line in state.lines.values_mut() {
            let fate = if line.unsure { DeliveryFate::Unknown } else { DeliveryFate::NotWritten };
            let code = if line.unsure { (-151, "PurgeInflight") } else { (-152, "PurgeQueue") };
            failed.extend(line.flight.drain(..).map(|queued| (queued, fate, code)));
            let untried = line.queue.drain(..).map(|(queued, _)| queued);
            failed.extend(untried.map(|queued| (queued, DeliveryFate::NotWritten, (-152, "PurgeQueue"))));
            line.leave_behind();
            line.carrier = 0;
        }
        drop(state);
        for (queued, fate, code) in failed {
            self.fail(queued, fate, code);
        }
    }

    /// The client was dropped: nobody is told anything any more.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.abandoned = true;
        state.outstanding = 0;
        state.lines.clear();
    }

    /// Carries one line until it is empty or another task has it.
    async fn carry(self: Arc<Self>, place: TopicPartition, carrier: u64) {
        while let Some((batch, deadline)) = self.take(&place, carrier) {
            self.carry_batch(&place, carrier, &batch, deadline).await;
        }
    }

    /// Runs on a line that a task still has.
    fn on_line<T>(
        &self,
        place: &TopicPartition,
        carrier: u64,
        act: impl FnOnce(&mut Line) -> T,
    ) -> Option<T> {
        let mut state = self.state.lock();
        let line = state.lines.get_mut(place).filter(|line| line.carrier == carrier)?;
        Some(act(line))
    }

    fn take(&self, place: &TopicPartition, carrier: u64) -> Option<(Batch, Instant)> {
        loop {
            let now = Instant::now();
            let _order = self.reporting.lock();
            let expired = self.on_line(place, carrier, |line| {
                let old = line.queue.front().is_some_and(|(_, deadline)| *deadline <= now);
                if old { line.queue.pop_front() } else { None }
            })?;
            let Some((queued, _)) = expired else { break };
            self.fail(queued, DeliveryFate::NotWritten, (-192, "MessageTimedOut"));
        }
        let most = self.options.batch_records;
        self.on_line(place, carrier, |line| {
            let Some(deadline) = line.queue.front().map(|(_, deadline)| *deadline) else {
                line.carrier = 0;
                return None;
            };
            let count = line.queue.len().min(most);
            line.flight = line.queue.drain(..count).map(|(queued, _)| queued).collect();
            let records = line.flight.iter().map(|queued| Arc::new(queued.stored())).collect();
            Some((Batch { id: line.id(self.producer_id), records }, deadline))
        })?
    }

    async fn carry_batch(&self, place: &TopicPartition, carrier: u64, batch: &Batch, deadline: Instant) {
        let mut batch = batch.clone();
        let mut retry_ms = self.options.retry_ms;
        // Whether an earlier attempt may be written.
        let mut maybe = false;
        loop {
            if Instant::now() >= deadline {
                return self.give_up(place, carrier, maybe, (-192, "MessageTimedOut"));
            }
            let mut given = Attempt::Again;
            if self.cluster.leader_reachable(place) {
                if self.on_line(place, carrier, |line| line.unsure = true).is_none() {
                    return;
                }
                given = attempt(&self.cluster, &*self.weather, place, &batch, &self.options, deadline).await;
            }
            maybe |= given == Attempt::Silence;
            if self.on_line(place, carrier, |line| line.unsure = maybe).is_none() {
                return;
            }
            match given {
                Attempt::Acknowledged(offset) => return self.acknowledge(place, carrier, offset),
                Attempt::GivenUp => return self.give_up(place, carrier, maybe, (-192, "MessageTimedOut")),
                Attempt::Refused(OUT_OF_ORDER | OLD_EPOCH, _) if !maybe => {
                    let anew = self.on_line(place, carrier, |line| {
                        line.leave_behind();
                        line.id(self.producer_id)
                    });
                    let Some(id) = anew else { return };
                    batch.id = id;
                }
                Attempt::Refused(number, name) => {
                    if TOPIC_IN_ERROR.contains(&number) {
                        self.note_refusal(place, (number, name));
                    }
                    return self.give_up(place, carrier, maybe, (number, name));
                }
                Attempt::Silence => {}
                Attempt::Again => {
                    let left = deadline.saturating_duration_since(Instant::now()).as_millis() as u64;
                    pause(retry_ms.min(left)).await;
                    retry_ms = (retry_ms * 2).min(self.options.retry_ms * 10);
                }
            }
        }
    }

    fn note_refusal(&self, place: &TopicPartition, code: (i32, &'static str)) {
        let until = Instant::now() + Duration::from_millis(self.options.topic_error_ms);
        self.state.lock().refused.insert(place.topic.clone(), (until, code));
    }

    /// Reports one by one: a callback may purge.
    fn acknowledge(&self, place: &TopicPartition, carrier: u64, first: i64) {
        self.on_line(place, carrier, |line| line.next += line.flight.len() as i32);
        // Without acknowledgements there are no offsets.
        let offsets = (0..).map(|index| if first < 0 { first } else { first + index });
        for offset in offsets {
            let _order = self.reporting.lock();
            let Some(Some(queued)) = self.on_line(place, carrier, |line| line.flight.pop_front()) else {
                break;
            };
            self.events.acknowledged(queued.token, place.partition, offset, None);
            self.reported();
        }
        self.on_line(place, carrier, |line| line.unsure = false);
    }

    fn give_up(&self, place: &TopicPartition, carrier: u64, maybe: bool, code: (i32, &'static str)) {
        let fate = if maybe { DeliveryFate::Unknown } else { DeliveryFate::NotWritten };
        if maybe {
            self.on_line(place, carrier, Line::leave_behind);
        }
        let order = self.reporting.lock();
        while let Some(Some(queued)) = self.on_line(place, carrier, |line| line.flight.pop_front()) {
            self.fail(queued, fate, code);
        }
        drop(order);
        self.on_line(place, carrier, |line| line.unsure = false);
    }

    fn fail(&self, queued: Queued, fate: DeliveryFate, (number, name): (i32, &'static str)) {
        let Queued { token, place, body, .. } = queued;
        let (partition, code) = (Some(place.partition), ErrorCode { number, name: name.into() });
        self.events.delivered(token, Delivery::Failed { fate, partition, code, record: body });
        self.reported();
    }

    fn reported(&self) {
        let mut state = self.state.lock();
        if state.abandoned {
            return;
        }
        state.outstanding -= 1;
        if state.outstanding == 0 {
            self.idle.raise();
        }
    }
}

impl Line {
    fn id(&self, producer_id: i64) -> BatchId {
        BatchId { producer_id, epoch: self.epoch, first: self.next }
    }

    /// Goes on under a new epoch, so that what was given up cannot be mistaken for what comes.
    fn leave_behind(&mut self) {
        self.epoch += 1;
        self.next = 0;
        self.unsure = false;
    }
}
