//! A cluster: brokers, topics with their logs, groups, transactions, a fence, isolation.

mod access;
mod admin;
mod brokers;
mod fences;
mod groups;
mod idempotence;
mod lag;
mod log;
mod producer_ids;
mod reader;
mod registry;
mod transactions;
mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{Access, FenceKind};
use kutover_core::words::{
    CONTROL_TOPIC, ClusterId, GroupId, MEMBERS_TOPIC, Nonce, Offset, TopicId, TopicName, TopicPartition,
    is_reserved_topic,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::faults::Faults;
use crate::signal::Signal;

use idempotence::ProducerIds;
use log::PartitionLog;
use registry::{ControlRead, MembersRead};
use transactions::Transaction;

pub use fences::FenceStyle;
pub(crate) use idempotence::NO_PRODUCER_ID;
pub use idempotence::{BatchId, PRODUCER_ID_BLOCK};
pub use log::{Append, Discarded, StoredRecord};
pub use reader::{Fetched, Isolation, MemoryReader};
pub use registry::MemoryLink;
pub use transactions::{MemoryTransaction, TransactionState};

/// What a cluster can do and is. The default can do everything.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Its id; `None` makes one up. The other colour's id here is the fault of L5.
    pub cluster_id: Option<ClusterId>,
    /// Its advertised brokers; `None`: its bootstrap servers.
    pub brokers: Option<Vec<String>>,
    /// The fence it has; `None`: none.
    pub fence: Option<FenceKind>,
    /// What that fence does besides.
    pub fence_style: FenceStyle,
    /// How many brokers it has; partitions are led by them in turn.
    pub broker_count: i32,
    /// Whether a topic that is missing is made, with one partition, when a client wants it.
    pub auto_create_topics: bool,
    /// Whether it can list groups.
    pub lists_groups: bool,
    /// Whether it tells who writes to it.
    pub tells_producers: bool,
    /// Whether it tells topics' configs and ids.
    pub describes_topics: bool,
    /// Configs that it does not know.
    pub unknown_configs: BTreeSet<String>,
    /// What holds where a topic sets nothing itself.
    pub topic_defaults: BTreeMap<String, String>,
    /// Its version, for people.
    pub version: Option<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            cluster_id: None,
            brokers: None,
            fence: Some(FenceKind::Hook),
            fence_style: FenceStyle::Whole,
            broker_count: 3,
            auto_create_topics: false,
            lists_groups: true,
            tells_producers: true,
            describes_topics: true,
            unknown_configs: BTreeSet::new(),
            topic_defaults: BTreeMap::new(),
            version: Some("memory".into()),
        }
    }
}

#[derive(Debug)]
struct Topic {
    id: TopicId,
    replication: i16,
    configs: BTreeMap<String, String>,
    partitions: Vec<PartitionLog>,
}

#[derive(Clone, Copy, Debug)]
struct Commit {
    offset: Offset,
    at_ms: u64,
}

#[derive(Debug)]
struct State {
    id: ClusterId,
    faults: Faults,
    brokers: BTreeSet<String>,
    options: ClusterOptions,
    producer_ids: ProducerIds,
    connects: u64,
    topics: BTreeMap<TopicName, Topic>,
    topics_made: u64,
    appends: Vec<Append>,
    discarded: Vec<Discarded>,
    truncated: BTreeSet<u64>,
    transactions: BTreeMap<u64, Transaction>,
    transactions_made: u64,
    /// Those of the transactions that hold the last stable offset back.
    undecided: BTreeSet<u64>,
    commits: BTreeMap<(GroupId, TopicPartition), Commit>,
    live_groups: BTreeSet<GroupId>,
    lost_groups: BTreeSet<GroupId>,
    groups_hidden: bool,
    fenced: BTreeSet<TopicName>,
    spreading: BTreeMap<(TopicName, i32), Vec<(Instant, bool)>>,
    leaks: BTreeSet<TopicPartition>,
    silent: BTreeSet<TopicPartition>,
    down: BTreeSet<i32>,
    isolations: BTreeSet<Nonce>,
    access: Access,
    dead: bool,
    /// Raised whenever the control topic may read otherwise than before.
    control: Signal,
    control_read: ControlRead,
    members_read: MembersRead,
}

/// One cluster. Cloning gives another handle to it.
#[derive(Clone, Debug)]
pub struct MemoryCluster {
    state: Arc<Mutex<State>>,
    faults: Faults,
    scope: Arc<str>,
}

impl MemoryCluster {
    /// An empty cluster whose calls are counted under a scope.
    pub fn new(
        scope: &str,
        id: ClusterId,
        brokers: impl IntoIterator<Item = String>,
        options: ClusterOptions,
        faults: &Faults,
    ) -> Self {
        let state = State {
            id,
            faults: faults.clone(),
            brokers: brokers.into_iter().collect(),
            options,
            producer_ids: ProducerIds::default(),
            connects: 0,
            topics: BTreeMap::new(),
            topics_made: 0,
            appends: Vec::new(),
            discarded: Vec::new(),
            truncated: BTreeSet::new(),
            transactions: BTreeMap::new(),
            transactions_made: 0,
            undecided: BTreeSet::new(),
            commits: BTreeMap::new(),
            live_groups: BTreeSet::new(),
            lost_groups: BTreeSet::new(),
            groups_hidden: false,
            fenced: BTreeSet::new(),
            spreading: BTreeMap::new(),
            leaks: BTreeSet::new(),
            silent: BTreeSet::new(),
            down: BTreeSet::new(),
            isolations: BTreeSet::new(),
            access: access::everything(),
            dead: false,
            control: Signal::default(),
            control_read: ControlRead::default(),
            members_read: MembersRead::default(),
        };
        Self { state: Arc::new(Mutex::new(state)), faults: faults.clone(), scope: scope.into() }
    }

    /// Its id.
    pub fn cluster_id(&self) -> ClusterId {
        self.state.lock().id.clone()
    }

    /// Changes its options while it lives.
    pub fn configure(&self, change: impl FnOnce(&mut ClusterOptions)) {
        change(&mut self.state.lock().options);
    }

    /// Makes a topic, as its users would.
    pub fn add_topic(&self, name: &str, partitions: i32) {
        self.state.lock().add_topic(&name.into(), partitions, 1, BTreeMap::new());
    }

    /// Deletes a topic and makes it again: the same name, another id, nothing in it (L12).
    pub fn recreate_topic(&self, name: &str) {
        self.faults.fire("topic-recreated");
        let name = TopicName::new(name);
        let mut state = self.state.lock();
        let Some(old) = state.topics.remove(&name) else { return };
        state.commits.retain(|(_, place), _| place.topic != name);
        state.add_topic(&name, old.partitions.len() as i32, old.replication, old.configs);
    }

    /// From now on nothing answers.
    pub fn kill(&self) {
        self.faults.fire("cluster-dies");
        self.end();
    }

    /// The same on purpose: it is destroyed.
    pub(crate) fn end(&self) {
        self.change(|state| state.dead = true);
    }

    /// It answers again, with all it had.
    pub fn revive(&self) {
        self.change(|state| state.dead = false);
    }

    /// Shuts clients out; the controller's path stays.
    pub fn isolate(&self, nonce: &Nonce) {
        self.change(|state| {
            state.isolations.insert(nonce.clone());
        });
    }

    /// Undoes the isolation of this nonce alone.
    pub fn put_back(&self, nonce: &Nonce) {
        self.change(|state| {
            state.isolations.remove(nonce);
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        state.control.raise();
    }

    /// Whether clients are shut out.
    pub fn is_isolated(&self) -> bool {
        !self.state.lock().isolations.is_empty()
    }

    /// The nonces of the isolations in force.
    pub fn isolations(&self) -> BTreeSet<Nonce> {
        self.state.lock().isolations.clone()
    }

    /// The topics under the fence.
    pub fn fenced(&self) -> BTreeSet<TopicName> {
        self.state.lock().fenced.clone()
    }

    /// This partition's leader takes records although the fence is up.
    pub fn leak(&self, place: TopicPartition) {
        let mut state = self.state.lock();
        if !state.fenced.contains(&place.topic) {
            state.leaks.insert(place);
        }
    }

    /// All leaders refuse under the fence again.
    pub fn stop_leaking(&self) {
        self.state.lock().leaks.clear();
    }

    /// This partition has a leader again.
    pub fn speak_for(&self, place: &TopicPartition) {
        self.change(|state| {
            state.silent.remove(place);
        });
    }

    /// This partition has no leader: nothing about it is answered, until [`MemoryCluster::speak`].
    pub fn silence(&self, place: TopicPartition) {
        self.faults.fire("partition-silent");
        self.state.lock().silent.insert(place);
    }

    /// All partitions have leaders again.
    pub fn speak(&self) {
        self.change(|state| state.silent.clear());
    }

    /// Gives a producer an id, as the broker does that it happens to ask.
    pub fn init_producer_id(&self) -> i64 {
        let mut state = self.state.lock();
        state.connects += 1;
        let broker = (state.connects - 1) as i32 % state.options.broker_count.max(1);
        state.producer_ids.take(broker)
    }

    /// The producer ids that the leaders of a topic know: who wrote to it.
    pub fn producers_of(&self, topic: &TopicName) -> BTreeSet<i64> {
        let state = self.state.lock();
        let logs = state.topics.get(topic).into_iter().flat_map(|topic| &topic.partitions);
        logs.flat_map(|log| log.producers.ids()).collect()
    }

    /// Whether a client, not the controller, gets an answer at all.
    pub(crate) fn client_reaches(&self) -> bool {
        let state = self.state.lock();
        !state.dead && state.isolations.is_empty()
    }

    /// Whether a request to a partition's leader gets there at all.
    pub(crate) fn leader_reachable(&self, place: &TopicPartition) -> bool {
        let state = self.state.lock();
        let down = state.partition(place).is_some_and(|log| state.down.contains(&log.leader));
        !state.dead && state.isolations.is_empty() && !down
    }

    /// How many partitions a client's metadata gives a topic; where topics are made by being asked for, it is made.
    pub(crate) fn partition_count(&self, topic: &str) -> Option<i32> {
        let mut state = self.state.lock();
        let name = TopicName::new(topic);
        if state.options.auto_create_topics && !state.topics.contains_key(&name) {
            self.faults.fire("topic-auto-created");
            state.add_topic(&name, 1, 1, BTreeMap::new());
        }
        state.topics.get(&name).map(|topic| topic.partitions.len() as i32)
    }

    pub(crate) fn may_write(&self, place: &TopicPartition) -> Result<(), (i32, &'static str)> {
        self.state.lock().client_may_write(place)
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(crate) fn call(&self, name: &str) -> String {
        format!("{}.{name}", self.scope)
    }

    async fn act<T: Send + 'static>(
        &self,
        name: &str,
        act: impl FnOnce(&mut State) -> ProviderResult<T> + Send + 'static,
    ) -> ProviderResult<T> {
        let call = self.call(name);
        let (cluster, what) = (Arc::clone(&self.state), call.clone());
        let acting = move || {
            let mut state = cluster.lock();
            if state.dead {
                return Err(ProviderError::new(ErrorKind::Unreachable, what, "nothing answers"));
            }
            act(&mut state)
        };
        self.faults.run(&call, acting).await
    }

    /// What a client asks, which an isolation shuts out.
    async fn client_act<T: Send + 'static>(
        &self,
        name: &str,
        act: impl FnOnce(&mut State) -> ProviderResult<T> + Send + 'static,
    ) -> ProviderResult<T> {
        let call = self.call(name);
        self.act(name, move |state| {
            if !state.isolations.is_empty() {
                return Err(ProviderError::new(ErrorKind::Unreachable, call, "the cluster is isolated"));
            }
            act(state)
        })
        .await
    }
}

impl State {
    fn add_topic(
        &mut self,
        name: &TopicName,
        partitions: i32,
        replication: i16,
        configs: BTreeMap<String, String>,
    ) {
        self.topics_made += 1;
        let id = TopicId::new(format!("{}-{}", self.id, self.topics_made));
        let known = self.topics.get(name).map_or(0, |topic| topic.partitions.len());
        let leaders = (known..usize::try_from(partitions).unwrap_or(0))
            .map(|partition| self.first_leader(self.topics_made, partition));
        let logs: Vec<_> = leaders.map(|leader| PartitionLog { leader, ..PartitionLog::default() }).collect();
        let topic = Topic { id, replication, configs, partitions: Vec::new() };
        self.topics.entry(name.clone()).or_insert(topic).partitions.extend(logs);
        self.control.raise();
    }

    fn partition(&self, place: &TopicPartition) -> Option<&PartitionLog> {
        self.topics.get(&place.topic)?.partitions.get(usize::try_from(place.partition).ok()?)
    }

    fn partition_mut(&mut self, place: &TopicPartition) -> Option<&mut PartitionLog> {
        self.topics.get_mut(&place.topic)?.partitions.get_mut(usize::try_from(place.partition).ok()?)
    }

    fn places(&self, name: &TopicName) -> Vec<TopicPartition> {
        let count = self.topics.get(name).map_or(0, |topic| topic.partitions.len());
        (0..count as i32).map(|partition| TopicPartition { topic: name.clone(), partition }).collect()
    }

    fn data_partitions(&self) -> impl Iterator<Item = (TopicPartition, &PartitionLog)> {
        self.topics.iter().filter(|(name, _)| !is_reserved_topic(name.as_str())).flat_map(|(name, topic)| {
            (0..)
                .zip(&topic.partitions)
                .map(|(partition, log)| (TopicPartition { topic: name.clone(), partition }, log))
        })
    }

    /// Errors by Kafka's number and librdkafka's name for it.
    fn client_may_write(&self, place: &TopicPartition) -> Result<(), (i32, &'static str)> {
        if self.dead || !self.isolations.is_empty() {
            return Err((-195, "BrokerTransportFailure"));
        }
        if self.partition(place).is_none() {
            return Err((3, "UnknownTopicOrPartition"));
        }
        if self.unanswered(place).is_some() {
            return Err((5, "LeaderNotAvailable"));
        }
        if self.refuses(place) {
            return Err(self.refusal());
        }
        Ok(())
    }

    fn control_place() -> TopicPartition {
        TopicPartition::new(CONTROL_TOPIC, 0)
    }

    fn members_place() -> TopicPartition {
        TopicPartition::new(MEMBERS_TOPIC, 0)
    }
}
