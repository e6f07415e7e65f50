//! An in-process cluster that speaks the Kafka protocol over TCP: krafka's `FakeBroker`, with what kutover needs of
//! a cluster added by hooks.
//!
//! What it is not: it has no ListGroups, DescribeCluster, configs, ACLs or OffsetForLeaderEpoch; it forgets all when
//! it is dropped; a fetch has no byte limit (one answer holds all that a partition has from the offset on); its
//! hooks see a request's API, broker and client id but not its topics, so that a fence tells clients apart, not topics.

mod fence;
mod merge;
mod rules;
mod tidy;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use krafka::testing::{BrokerNode, FakeBroker};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::words::{ClusterId, Nonce, TopicName};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

pub use fence::EmbeddedFence;
pub use krafka::error::ErrorCode;
pub use krafka::testing::ApiKey;
pub use rules::{Fault, Harm, Who};

use crate::cluster_id::random_cluster_id;
use rules::Rules;

/// Every API that `FakeBroker` serves; each gets our one hook.
const SERVED: [ApiKey; 26] = [
    ApiKey::ApiVersions,
    ApiKey::Metadata,
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::SyncGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::EndTxn,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::ShareGroupHeartbeat,
    ApiKey::ShareFetch,
    ApiKey::ShareAcknowledge,
    ApiKey::UpdateFeatures,
    ApiKey::StreamsGroupDescribe,
    ApiKey::DescribeGroups,
];

/// How an embedded cluster is made.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// How many brokers; at least 1.
    pub brokers: usize,
    /// The cluster's id; a random one if `None`.
    pub cluster_id: Option<ClusterId>,
    /// How long a fetch by a client that is not kutover's own waits before it is looked at. `FakeBroker` looks at
    /// every held fetch again after every produce request; this keeps busy readers from taking its whole thread.
    pub fetch_pace: Duration,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { brokers: 3, cluster_id: None, fetch_pace: Duration::from_millis(5) }
    }
}

/// A running embedded cluster; it ends with its handle.
///
/// All brokers run on one thread of their own, which matters twice: they serve on while a test blocks its own
/// runtime in a synchronous client call; and a request is decided about and applied without anything in between, so
/// that a fence, once raised, is passed by nothing.
pub struct EmbeddedCluster {
    // Dropped first: it tells its tasks to end while their runtime still runs.
    fake: FakeBroker,
    rules: Arc<Mutex<Rules>>,
    /// Killed brokers, as they stood in the metadata: a real cluster does not list its dead, and clients that are told
    /// of them try them.
    killed: Mutex<BTreeMap<i32, Option<BrokerNode>>>,
    brokers: Vec<SocketAddr>,
    runtime: Handle,
    _stop: oneshot::Sender<()>,
}

impl std::fmt::Debug for EmbeddedCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedCluster").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

impl EmbeddedCluster {
    /// Starts one.
    ///
    /// # Errors
    /// No thread or no loopback port can be had.
    pub async fn start(options: EmbeddedOptions) -> ProviderResult<Arc<Self>> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (fake, runtime) = start_brokers(options.brokers, stopped).await?;
        let id = options.cluster_id.unwrap_or_else(random_cluster_id);
        fake.with_state(|state| {
            state.cluster_id = id.as_str().to_owned();
            state.auto_create_topics = false;
        });
        let rules = Arc::new(Mutex::new(Rules::new(options.fetch_pace)));
        for api in SERVED {
            let rules = Arc::clone(&rules);
            fake.on(api, move |request| {
                let client = request.client_id.as_deref().unwrap_or_default();
                rules.lock().decide(api, request.node_id, client, Instant::now())
            });
        }
        let brokers = (0..).map_while(|node| fake.broker_addr(node)).collect();
        let cluster = Arc::new(Self { fake, rules, killed: Mutex::default(), brokers, runtime, _stop: stop });
        cluster.runtime.spawn(tidy::keep_tidy(Arc::downgrade(&cluster)));
        Ok(cluster)
    }

    /// Where the brokers listen, by node id. This is what they advertise, and the path that survives isolation.
    pub fn brokers(&self) -> &[SocketAddr] {
        &self.brokers
    }

    /// The brokers as a client's `bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> String {
        self.fake.bootstrap_servers()
    }

    /// The id that it gives itself.
    pub fn cluster_id(&self) -> ClusterId {
        self.fake.with_state(|state| ClusterId::new(state.cluster_id.clone()))
    }

    /// Gives it another id (that of the other colour, to see a cutover refuse it).
    pub fn set_cluster_id(&self, id: &ClusterId) {
        self.fake.with_state(|state| id.as_str().clone_into(&mut state.cluster_id));
    }

    /// krafka's own handle, for what is not wrapped here. Hooks registered on it never run: ours come first.
    pub fn fake(&self) -> &FakeBroker {
        &self.fake
    }

    /// The fence as a port.
    pub fn fence(self: &Arc<Self>) -> EmbeddedFence {
        EmbeddedFence::new(Arc::clone(self))
    }

    /// Injects a fault. Faults are looked through in the order in which they were injected.
    pub fn inject(&self, fault: Fault) {
        self.rules.lock().inject(fault);
    }

    /// Takes all faults away. Killed brokers stay killed.
    pub fn clear_faults(&self) {
        self.rules.lock().clear_faults();
    }

    /// How many requests faults have struck so far: what a test waits for.
    pub fn faults_struck(&self) -> u64 {
        self.rules.lock().faults_struck()
    }

    /// Ends a broker as a crash does: its connections are cut, new ones refused, and the other brokers take over its
    /// partitions (which real Kafka's in-sync replicas do), coordinators and the controller. Its log is kept.
    /// With no other broker left, its partitions have no leader that answers.
    pub fn kill_broker(&self, node: i32) {
        let mut killed = self.killed.lock();
        self.fake.crash(node);
        self.fake.with_state(|state| {
            let listed = state.brokers.iter().position(|broker| broker.node_id == node);
            let dead = listed.map(|index| state.brokers.remove(index));
            killed.entry(node).or_insert(dead);
            let live: Vec<i32> = state.brokers.iter().map(|broker| broker.node_id).collect();
            let Some(first) = live.first().copied() else { return };
            if state.controller_id == node {
                state.controller_id = first;
            }
            state.group_coordinators.retain(|_, coordinator| *coordinator != node);
            state.txn_coordinators.retain(|_, coordinator| *coordinator != node);
            for topic in state.topics.values_mut() {
                for (index, partition) in topic.partitions.iter_mut().enumerate() {
                    if partition.leader == node {
                        partition.leader = live[index % live.len()];
                        partition.leader_epoch += 1;
                        partition.replicas = vec![partition.leader, node];
                        partition.isr = vec![partition.leader];
                    }
                }
            }
        });
    }

    /// Starts a killed broker again. Leadership stays where it went.
    pub fn restart_broker(&self, node: i32) {
        if let Some(Some(broker)) = self.killed.lock().remove(&node) {
            self.fake.with_state(|state| {
                state.brokers.push(broker);
                state.brokers.sort_by_key(|broker| broker.node_id);
            });
        }
        self.fake.restart(node);
    }

    /// Shuts out every client whose id does not start with `kutover-controller`: requests are answered by a cut
    /// connection, and connections that are open are cut (the controller's too, which may come back at once).
    pub async fn isolate(&self, nonce: &Nonce) -> ProviderResult<()> {
        let nonce = nonce.clone();
        if self.change_rules(move |rules| rules.isolate(&nonce)).await? {
            self.cut_connections();
        }
        Ok(())
    }

    /// Undoes the isolation of this nonce. Gives whether clients may come in again.
    pub async fn put_back(&self, nonce: &Nonce) -> ProviderResult<bool> {
        let nonce = nonce.clone();
        self.change_rules(move |rules| rules.put_back(&nonce)).await
    }

    /// Whether clients are shut out.
    pub fn is_isolated(&self) -> bool {
        self.rules.lock().is_isolated()
    }

    /// The topics for which the fence is up.
    pub fn fenced_topics(&self) -> BTreeSet<TopicName> {
        self.rules.lock().fenced().clone()
    }

    /// Cuts every connection; brokers that live take new ones.
    pub fn cut_connections(&self) {
        let killed = self.killed.lock();
        for node in (0..).take(self.brokers.len()).filter(|node| !killed.contains_key(node)) {
            self.fake.crash(node);
            self.fake.restart(node);
        }
    }

    /// Changes the rules between two requests: on the brokers' own thread, where a request is decided about and
    /// applied in one go, so that no request is half way when the change is made.
    async fn change_rules<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Rules) -> T + Send + 'static,
    ) -> ProviderResult<T> {
        let rules = Arc::clone(&self.rules);
        self.runtime
            .spawn(async move { change(&mut rules.lock()) })
            .await
            .map_err(|error| ProviderError::new(ErrorKind::Unreachable, "embedded cluster", error))
    }
}

/// Starts the brokers on a thread of their own, which ends when `stopped` does.
async fn start_brokers(count: usize, stopped: oneshot::Receiver<()>) -> ProviderResult<(FakeBroker, Handle)> {
    let failed =
        |reason: String| ProviderError::new(ErrorKind::Unavailable, "start embedded cluster", reason);
    let (started, start) = oneshot::channel();
    thread::Builder::new()
        .name("kutover-embedded".into())
        .spawn(move || {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error.to_string()))),
            };
            runtime.block_on(async {
                let fake = FakeBroker::start_cluster(count).await.map_err(|error| error.to_string());
                if started.send(fake.map(|fake| (fake, Handle::current()))).is_ok() {
                    let _ = stopped.await;
                }
            });
        })
        .map_err(|error| failed(error.to_string()))?;
    start.await.map_err(|_| failed("its thread ended".into()))?.map_err(failed)
}
