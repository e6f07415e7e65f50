//! The data path: clients whose deliveries a test turns.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::owner::Target;
use kutover_core::ports::{
    ClientEvents, Delivery, DeliveryFate, ErrorCode, HeadersRef, MemberLink, MemberLinks, ProducerClient,
    ProducerFactory, RecordBody, RecordRef, Refusal, Token,
};
use kutover_core::words::{ClusterId, TopicPartition};
use parking_lot::Mutex;

use crate::cluster::{MemoryCluster, StoredRecord};
use crate::provisioner::MemoryProvisioner;

/// What becomes of a record that a client took.
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

/// Makes [`MemoryClient`]s for the clusters of a provisioner.
#[derive(Clone, Debug)]
pub struct MemoryFactory {
    clusters: MemoryProvisioner,
    clients: Arc<Mutex<Vec<Arc<MemoryClient>>>>,
}

impl MemoryFactory {
    /// Finds clusters by the target's bootstrap servers.
    pub fn new(clusters: &MemoryProvisioner) -> Self {
        Self { clusters: clusters.clone(), clients: Arc::default() }
    }

    /// Every client that was made, oldest first.
    pub fn clients(&self) -> Vec<Arc<MemoryClient>> {
        self.clients.lock().clone()
    }
}

/// The cluster at the target's servers, if a client reaches it.
fn find(clusters: &MemoryProvisioner, target: &Target, what: &str) -> ProviderResult<MemoryCluster> {
    let found = clusters.cluster_at(&target.bootstrap).filter(MemoryCluster::client_reaches);
    found.ok_or_else(|| {
        let what = format!("{what} {}", target.bootstrap.join(","));
        ProviderError::new(ErrorKind::Unreachable, what, "nothing answers there")
    })
}

#[async_trait]
impl ProducerFactory for MemoryFactory {
    async fn connect(
        &self,
        target: &Target,
        topics: &[String],
        events: Arc<dyn ClientEvents>,
    ) -> ProviderResult<Arc<dyn ProducerClient>> {
        let cluster = find(&self.clusters, target, "connect to")?;
        let call = cluster.call("connect");
        let connected = cluster.faults().run(&call, || {
            let what = format!("connect to {}", target.bootstrap.join(","));
            let found = cluster.cluster_id();
            if !target.cluster_id.as_str().is_empty() && found != target.cluster_id {
                let reason = format!("cluster {found} answers there, not {}", target.cluster_id);
                return Err(ProviderError::new(ErrorKind::Refused, what, reason));
            }
            if let Some(topic) = topics.iter().find(|topic| cluster.partition_count(topic).is_none()) {
                return Err(ProviderError::new(
                    ErrorKind::NotFound,
                    what,
                    format!("it has no topic {topic}"),
                ));
            }
            Ok(())
        });
        connected.await?;
        let mut clients = self.clients.lock();
        events.producer_id(clients.len() as i64);
        let client = Arc::new(MemoryClient {
            cluster,
            events,
            state: Mutex::new(ClientState { capacity: usize::MAX, ..ClientState::default() }),
            reporting: Mutex::new(()),
        });
        clients.push(Arc::clone(&client));
        Ok(client)
    }
}

#[derive(Debug)]
struct Queued {
    token: Token,
    place: TopicPartition,
    body: RecordBody,
    timestamp_ms: i64,
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

/// A client that reports only when it is told to: by [`MemoryClient::deliver`], a flush or a purge.
pub struct MemoryClient {
    cluster: MemoryCluster,
    events: Arc<dyn ClientEvents>,
    state: Mutex<ClientState>,
    /// Held while reports go out, so that they keep their order.
    reporting: Mutex<()>,
}

impl std::fmt::Debug for MemoryClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryClient").field("cluster", &self.cluster.cluster_id()).finish_non_exhaustive()
    }
}

impl MemoryClient {
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
        let Queued { token, place, body, timestamp_ms } = queued;
        let partition = Some(place.partition);
        let write = || {
            let record = body.clone();
            self.cluster.produce(
                &place,
                StoredRecord {
                    key: record.key,
                    payload: record.payload,
                    headers: record.headers,
                    timestamp_ms,
                    marker: false,
                },
            )
        };
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
        if state.queue.len() >= state.capacity {
            return Err(Refusal::QueueFull);
        }
        let place = self.place(&mut state, &record)?;
        // What no leader answers is queued, as a client does; what a leader refuses is refused.
        match self.cluster.may_write(&place) {
            Ok(()) | Err((5 | -195, _)) => {}
            Err((number, name)) => return Err(Refusal::Refused(ErrorCode { number, name: name.into() })),
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
        state.queue.push_back(Queued { token, place, body, timestamp_ms: record.timestamp_ms });
        Ok(())
    }

    fn flush(&self, _timeout_ms: u64) -> bool {
        let stalled = self.state.lock().stalled;
        if !stalled {
            self.deliver(usize::MAX);
        }
        self.outstanding() == 0
    }

    fn purge(&self) {
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
        let state = self.state.lock();
        state.queue.len() + state.reporting
    }

    fn cluster_id(&self) -> ClusterId {
        self.cluster.cluster_id()
    }
}

/// Opens members' links to the clusters of a provisioner.
#[derive(Clone, Debug)]
pub struct MemoryLinks(MemoryProvisioner);

impl MemoryLinks {
    /// Finds clusters by the target's bootstrap servers.
    pub fn new(clusters: &MemoryProvisioner) -> Self {
        Self(clusters.clone())
    }
}

#[async_trait]
impl MemberLinks for MemoryLinks {
    async fn open(&self, target: &Target) -> ProviderResult<Arc<dyn MemberLink>> {
        let found = self.0.cluster_at(&target.bootstrap);
        let cluster = found.ok_or_else(|| {
            let what = format!("open a link to {}", target.bootstrap.join(","));
            ProviderError::new(ErrorKind::Unreachable, what, "nothing answers there")
        })?;
        Ok(Arc::new(cluster.link()))
    }
}
