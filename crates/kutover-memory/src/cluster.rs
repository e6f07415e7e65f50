//! A cluster: topics with their logs, commits, a fence, isolation.

mod admin;
mod lag;
mod registry;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::FenceKind;
use kutover_core::words::{
    CONTROL_TOPIC, ClusterId, GroupId, MEMBERS_TOPIC, Nonce, Offset, TopicId, TopicName, TopicPartition,
    is_reserved_topic,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::faults::Faults;

pub use registry::MemoryLink;

/// A record in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its key; null and empty are kept apart.
    pub key: Option<Vec<u8>>,
    /// Its payload; null and empty are kept apart.
    pub payload: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Whether it is a transaction marker, which takes an offset that nobody is ever given (L10).
    pub marker: bool,
}

/// What a cluster can do and is. The default can do everything.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Its id; `None` makes one up. The other colour's id here is the fault of L5.
    pub cluster_id: Option<ClusterId>,
    /// Its advertised brokers; `None`: its bootstrap servers.
    pub brokers: Option<Vec<String>>,
    /// The fence it has; `None`: none.
    pub fence: Option<FenceKind>,
    /// Whether it can list groups.
    pub lists_groups: bool,
    /// Whether it tells topics' configs and ids.
    pub describes_topics: bool,
    /// Configs that it does not know.
    pub unknown_configs: BTreeSet<String>,
    /// Its version, for people.
    pub version: Option<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            cluster_id: None,
            brokers: None,
            fence: Some(FenceKind::Hook),
            lists_groups: true,
            describes_topics: true,
            unknown_configs: BTreeSet::new(),
            version: Some("memory".into()),
        }
    }
}

#[derive(Debug, Default)]
struct PartitionLog {
    start: i64,
    records: Vec<StoredRecord>,
}

impl PartitionLog {
    fn end(&self) -> i64 {
        self.start + self.records.len() as i64
    }

    fn from(&self, offset: i64) -> impl Iterator<Item = (i64, &StoredRecord)> {
        let skip = usize::try_from(offset - self.start).unwrap_or(0);
        (self.start..).zip(&self.records).skip(skip)
    }
}

#[derive(Debug)]
struct Topic {
    id: TopicId,
    replication: i16,
    configs: BTreeMap<String, String>,
    partitions: Vec<PartitionLog>,
}

#[derive(Debug)]
struct State {
    id: ClusterId,
    brokers: BTreeSet<String>,
    options: ClusterOptions,
    topics: BTreeMap<TopicName, Topic>,
    topics_made: u64,
    commits: BTreeMap<(GroupId, TopicPartition), Offset>,
    live_groups: BTreeSet<GroupId>,
    fenced: BTreeSet<TopicName>,
    leaks: BTreeSet<TopicPartition>,
    silent: BTreeSet<TopicPartition>,
    isolations: BTreeSet<Nonce>,
    dead: bool,
}

/// One cluster. Cloning gives another handle to it.
#[derive(Clone, Debug)]
pub struct MemoryCluster {
    state: Arc<Mutex<State>>,
    faults: Faults,
    scope: Arc<str>,
    changed: watch::Sender<u64>,
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
            brokers: brokers.into_iter().collect(),
            options,
            topics: BTreeMap::new(),
            topics_made: 0,
            commits: BTreeMap::new(),
            live_groups: BTreeSet::new(),
            fenced: BTreeSet::new(),
            leaks: BTreeSet::new(),
            silent: BTreeSet::new(),
            isolations: BTreeSet::new(),
            dead: false,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            faults: faults.clone(),
            scope: scope.into(),
            changed: watch::Sender::new(0),
        }
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

    /// From now on nothing answers.
    pub fn kill(&self) {
        self.state.lock().dead = true;
        self.changed.send_modify(|version| *version += 1);
    }

    /// It answers again, with all it had.
    pub fn revive(&self) {
        self.state.lock().dead = false;
        self.changed.send_modify(|version| *version += 1);
    }

    /// Shuts clients out; the controller's path stays.
    pub fn isolate(&self, nonce: &Nonce) {
        self.state.lock().isolations.insert(nonce.clone());
    }

    /// Undoes the isolation of this nonce alone.
    pub fn put_back(&self, nonce: &Nonce) {
        self.state.lock().isolations.remove(nonce);
    }

    /// Whether clients are shut out.
    pub fn is_isolated(&self) -> bool {
        !self.state.lock().isolations.is_empty()
    }

    /// The topics under the fence.
    pub fn fenced(&self) -> BTreeSet<TopicName> {
        self.state.lock().fenced.clone()
    }

    /// This partition's leader takes records although the fence is up.
    pub fn leak(&self, place: TopicPartition) {
        self.state.lock().leaks.insert(place);
    }

    /// All leaders refuse under the fence again.
    pub fn stop_leaking(&self) {
        self.state.lock().leaks.clear();
    }

    /// This partition has no leader: nothing about it is answered, until [`MemoryCluster::speak`].
    pub fn silence(&self, place: TopicPartition) {
        self.state.lock().silent.insert(place);
    }

    /// All partitions have leaders again.
    pub fn speak(&self) {
        self.state.lock().silent.clear();
    }

    /// Appends as an ordinary client would.
    ///
    /// # Errors
    /// The name of Kafka's error, with its number: fenced, shut out, no such partition.
    pub fn produce(
        &self,
        place: &TopicPartition,
        record: StoredRecord,
    ) -> Result<Offset, (i32, &'static str)> {
        let mut state = self.state.lock();
        state.client_may_write(place)?;
        let offset = state.append(place, record);
        drop(state);
        self.changed.send_modify(|version| *version += 1);
        Ok(offset)
    }

    /// Whatever stands in a partition, from an offset on, with offsets. Past isolation: an audit's look.
    pub fn log(&self, place: &TopicPartition, from: Offset) -> Vec<(Offset, StoredRecord)> {
        let state = self.state.lock();
        let log = state.partition(place).map(|log| log.from(from.0));
        log.into_iter().flatten().map(|(offset, record)| (Offset(offset), record.clone())).collect()
    }

    /// Deletes the head of a partition, as retention does.
    pub fn expire(&self, place: &TopicPartition, before: Offset) {
        let mut state = self.state.lock();
        let Some(log) = state.partition_mut(place) else { return };
        let gone = usize::try_from(before.0 - log.start).unwrap_or(0).min(log.records.len());
        log.records.drain(..gone);
        log.start += gone as i64;
    }

    /// Commits for a group, as its member would.
    pub fn commit(&self, group: &GroupId, place: &TopicPartition, offset: Offset) {
        self.state.lock().commits.insert((group.clone(), place.clone()), offset);
    }

    /// What a group has committed on a partition.
    pub fn committed(&self, group: &GroupId, place: &TopicPartition) -> Option<Offset> {
        self.state.lock().commits.get(&(group.clone(), place.clone())).copied()
    }

    /// Lets a group read everything that stands in the data topics, and commit it.
    pub fn read_all(&self, group: &GroupId) {
        let mut state = self.state.lock();
        let ends: Vec<_> = state.data_partitions().map(|(place, log)| (place, Offset(log.end()))).collect();
        state.commits.extend(ends.into_iter().map(|(place, end)| ((group.clone(), place), end)));
    }

    /// Whether a group has members: such a group's offsets cannot be set from outside.
    pub fn set_live(&self, group: &GroupId, live: bool) {
        let mut state = self.state.lock();
        if live {
            state.live_groups.insert(group.clone());
        } else {
            state.live_groups.remove(group);
        }
    }

    /// Whether a client, not the controller, gets an answer at all.
    pub(crate) fn client_reaches(&self) -> bool {
        let state = self.state.lock();
        !state.dead && state.isolations.is_empty()
    }

    pub(crate) fn partition_count(&self, topic: &str) -> Option<i32> {
        self.state.lock().topics.get(&TopicName::new(topic)).map(|topic| topic.partitions.len() as i32)
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

    async fn act<T>(
        &self,
        name: &str,
        act: impl FnOnce(&mut State) -> ProviderResult<T> + Send,
    ) -> ProviderResult<T> {
        let call = self.call(name);
        let given = self.faults.run(&call, || {
            let mut state = self.state.lock();
            if state.dead {
                return Err(ProviderError::new(ErrorKind::Unreachable, &call, "nothing answers"));
            }
            act(&mut state)
        });
        let given = given.await;
        self.changed.send_modify(|version| *version += 1);
        given
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
        let topic = Topic { id, replication, configs, partitions: Vec::new() };
        let topic = self.topics.entry(name.clone()).or_insert(topic);
        let count = usize::try_from(partitions).unwrap_or(0).max(topic.partitions.len());
        topic.partitions.resize_with(count, PartitionLog::default);
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

    fn append(&mut self, place: &TopicPartition, record: StoredRecord) -> Offset {
        let Some(log) = self.partition_mut(place) else { return Offset(-1) };
        log.records.push(record);
        Offset(log.end() - 1)
    }

    /// Errors by Kafka's number and librdkafka's name for it.
    fn client_may_write(&self, place: &TopicPartition) -> Result<(), (i32, &'static str)> {
        if self.dead || !self.isolations.is_empty() {
            return Err((-195, "BrokerTransportFailure"));
        }
        if self.partition(place).is_none() {
            return Err((3, "UnknownTopicOrPartition"));
        }
        if self.silent.contains(place) {
            return Err((5, "LeaderNotAvailable"));
        }
        if self.fenced.contains(&place.topic) && !self.leaks.contains(place) {
            return Err((29, "TopicAuthorizationFailed"));
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
