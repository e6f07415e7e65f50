//! A client, as its owner sees it.

use std::collections::VecDeque;
use std::sync::Arc;

use kutover_core::ports::{
    ClientEvents, Delivery, DeliveryFate, ErrorCode, HeadersRef, ProducerClient, RecordBody, RecordRef,
    Refusal, Token,
};
use kutover_core::words::{ClusterId, TopicPartition};
use parking_lot::Mutex;

use super::ClientOptions;
use super::lines::Lines;
use crate::cluster::{MemoryCluster, StoredRecord};

/// What becomes of a record that a client took, in a world without weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Written and acknowledged, unless the cluster refuses it: then not written.
    Acknowledged,
    /// Not written.
    NotWritten,
    /// Written, and the acknowledgement lost: unknown.
    UnknownWritten,
    /// Not written, and nobody can know: unknown.
    UnknownNotWritten,
}

/// A record that a client took.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) token: Token,
    pub(super) place: TopicPartition,
    pub(super) body: RecordBody,
    pub(super) timestamp_ms: i64,
}

impl Queued {
    pub(super) fn stored(&self) -> StoredRecord {
        let RecordBody { key, payload, headers, .. } = self.body.clone();
        StoredRecord { key, payload, headers, timestamp_ms: self.timestamp_ms, marker: false }
    }
}

#[derive(Debug, Default)]
struct ClientState {
    queue: VecDeque<Queued>,
    fates: VecDeque<Fate>,
    purge_fate: Option<Fate>,
    fatal: Option<String>,
    stalled: bool,
    capacity: usize,
    turn: i32,
    reporting: usize,
}

/// A client. Without weather it reports only when it is told to: by [`MemoryClient::deliver`], a flush or a purge. With
/// it, records travel by themselves, and `flush` only says whether any are outstanding, since nothing can block in
/// virtual time: wait with [`MemoryClient::settled`]. Dropping it then loses what is queued, without a word (L1).
pub struct MemoryClient {
    cluster: MemoryCluster,
    events: Arc<dyn ClientEvents>,
    lines: Option<Arc<Lines>>,
    state: Mutex<ClientState>,
    /// Held while reports go out, so that they keep their order.
    reporting: Mutex<()>,
}

impl std::fmt::Debug for MemoryClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryClient").field("cluster", &self.cluster.cluster_id()).finish_non_exhaustive()
    }
}

impl Drop for MemoryClient {
    fn drop(&mut self) {
        if let Some(lines) = &self.lines {
            lines.abandon();
        }
    }
}

impl MemoryClient {
    pub(super) fn new(
        cluster: MemoryCluster,
        events: Arc<dyn ClientEvents>,
        producer_id: i64,
        options: ClientOptions,
    ) -> Self {
        let lines = cluster.faults().weather().map(|weather| {
            let lines =
                Lines::new(cluster.clone(), Arc::clone(&events), Arc::clone(weather), producer_id, options);
            Arc::new(lines)
        });
        let state = Mutex::new(ClientState { capacity: usize::MAX, ..ClientState::default() });
        Self { cluster, events, lines, state, reporting: Mutex::new(()) }
    }

    /// Waits until nothing is outstanding, so many milliseconds of virtual time at most: [`ProducerClient::flush`]
    /// for a world with weather.
    pub async fn settled(&self, timeout_ms: u64) -> bool {
        match &self.lines {
            Some(lines) => lines.settled(timeout_ms).await,
            None => self.flush(timeout_ms),
        }
    }

    /// What becomes of the next records, in order; what comes after them is acknowledged.
    pub fn set_fates(&self, fates: impl IntoIterator<Item = Fate>) {
        self.state.lock().fates.extend(fates);
    }

    /// What becomes of records that are purged. Default: not written.
    pub fn set_purge_fate(&self, fate: Fate) {
        self.state.lock().purge_fate = Some(fate);
    }

    /// While stalled, a flush runs into its deadline at once, as on a cluster that answers too slowly.
    pub fn set_stalled(&self, stalled: bool) {
        self.state.lock().stalled = stalled;
    }

    /// How many records it takes before it says `QueueFull`.
    pub fn set_capacity(&self, capacity: usize) {
        self.state.lock().capacity = capacity;
    }

    /// Kills the client for good.
    pub fn make_fatal(&self, reason: &str) {
        self.state.lock().fatal = Some(reason.to_owned());
        self.events.fatal(reason.to_owned());
    }

    /// Reports on the oldest so many records. Gives how many there were.
    pub fn deliver(&self, count: usize) -> usize {
        let order = self.reporting.lock();
        for done in 0..count {
            let mut state = self.state.lock();
            let Some(queued) = state.queue.pop_front() else { return done };
            let fate = state.fates.pop_front().unwrap_or(Fate::Acknowledged);
            state.reporting += 1;
            drop(state);
            self.settle(queued, fate);
        }
        drop(order);
        count
    }

    fn settle(&self, queued: Queued, fate: Fate) {
        let record = queued.stored();
        let Queued { token, place, body, .. } = queued;
        let partition = Some(place.partition);
        let write = || self.cluster.produce(&place, record);
        let timed_out = || ErrorCode { number: -192, name: "MessageTimedOut".into() };
        let failed = |fate, code, record| Delivery::Failed { fate, partition, code, record };
        let report = match fate {
            Fate::Acknowledged => match write() {
                Ok(offset) => Ok(offset),
                Err((number, name)) => {
                    let code = ErrorCode { number, name: name.into() };
                    Err(failed(DeliveryFate::NotWritten, code, body))
                }
            },
            Fate::NotWritten => Err(failed(DeliveryFate::NotWritten, timed_out(), body)),
            Fate::UnknownNotWritten => Err(failed(DeliveryFate::Unknown, timed_out(), body)),
            Fate::UnknownWritten => {
                // A write that the cluster refused is as unknown to the client as one that it took.
                let _ = write();
                Err(failed(DeliveryFate::Unknown, timed_out(), body))
            }
        };
        match report {
            Ok(offset) => self.events.acknowledged(token, place.partition, offset.0, None),
            Err(delivery) => self.events.delivered(token, delivery),
        }
        self.state.lock().reporting -= 1;
    }

    fn outstanding_in(&self, state: &ClientState) -> usize {
        let travelling = self.lines.as_ref().map_or(0, |lines| lines.outstanding());
        state.queue.len() + state.reporting + travelling
    }

    fn place(&self, state: &mut ClientState, record: &RecordRef<'_>) -> Result<TopicPartition, Refusal> {
        let unknown = || Refusal::Refused(ErrorCode { number: 3, name: "UnknownTopicOrPartition".into() });
        let count =
            self.cluster.partition_count(record.topic).filter(|count| *count > 0).ok_or_else(unknown)?;
        let partition = match (record.partition, record.key) {
            (Some(partition), _) => partition,
            // FNV-1a: any hash does, as long as a key keeps its partition.
            (None, Some(key)) => {
                let hash = key
                    .iter()
                    .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
                (hash % count.unsigned_abs()) as i32
            }
            (None, None) => {
                state.turn = (state.turn + 1) % count;
                state.turn
            }
        };
        Ok(TopicPartition::new(record.topic, partition))
    }
}

impl ProducerClient for MemoryClient {
    fn try_send(&self, record: RecordRef<'_>, token: Token) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if let Some(reason) = &state.fatal {
            return Err(Refusal::Fatal(reason.clone()));
        }
        if self.outstanding_in(&state) >= state.capacity {
            return Err(Refusal::QueueFull);
        }
        let place = self.place(&mut state, &record)?;
        // What no leader answers is queued, as a client does; what a leader refuses is refused. A client with weather
        // knows of a refusal once it was refused.
        let known = match &self.lines {
            Some(lines) => lines.refusal(&place),
            None => self.cluster.may_write(&place).err().filter(|(number, _)| ![5, -195].contains(number)),
        };
        if let Some((number, name)) = known {
            return Err(Refusal::Refused(ErrorCode { number, name: name.into() }));
        }
        let headers = match record.headers {
            HeadersRef::None => Vec::new(),
            HeadersRef::List(list) => list.to_vec(),
            HeadersRef::Native(_) => {
                return Err(Refusal::Refused(ErrorCode { number: -186, name: "InvalidArgument".into() }));
            }
        };
        let body = RecordBody {
            topic: record.topic.to_owned(),
            key: record.key.map(<[u8]>::to_vec),
            payload: record.payload.map(<[u8]>::to_vec),
            headers,
        };
        let queued = Queued { token, place, body, timestamp_ms: record.timestamp_ms };
        match &self.lines {
            Some(lines) => lines.push(queued),
            None => state.queue.push_back(queued),
        }
        Ok(())
    }

    fn flush(&self, _timeout_ms: u64) -> bool {
        let stalled = self.state.lock().stalled;
        if !stalled && self.lines.is_none() {
            self.deliver(usize::MAX);
        }
        self.outstanding() == 0
    }

    fn purge(&self) {
        if let Some(lines) = &self.lines {
            return lines.purge();
        }
        let order = self.reporting.lock();
        let mut state = self.state.lock();
        let fate = state.purge_fate.unwrap_or(Fate::NotWritten);
        let queue = std::mem::take(&mut state.queue);
        state.reporting += queue.len();
        drop(state);
        for queued in queue {
            self.settle(queued, fate);
        }
        drop(order);
    }

    fn outstanding(&self) -> usize {
        self.outstanding_in(&self.state.lock())
    }

    fn cluster_id(&self) -> ClusterId {
        self.cluster.cluster_id()
    }
}
