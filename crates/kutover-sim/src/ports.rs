//! A controller's ports: the world in memory, with this world's weather in between and a witness beside.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use kutover_controller::driver::{Backends, ClusterConnector, ClusterLinks};
use kutover_core::decisions::stragglers::{LastRecord, PartitionWriters};
use kutover_core::drain::OpenTransaction;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::messages::{ControlBody, ControlMessage, ControlView, MemberState};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{
    Access, ClusterAdmin, ClusterIdentity, ClusterProvisioner, DnsProvider, FenceKind, FenceProof,
    GroupListing, Incarnation, Journal, JournalEntry, LagBatch, LagQuery, LagSource, NewAccess, NewTopic,
    NewestIds, PartitionEnd, ProducerIds, ProducerSurvey, Published, Registry, ScramUsers, TopicDescription,
};
use kutover_core::words::{
    Colour, DnsName, GroupId, IncarnationId, Nonce, Offset, TopicName, TopicPartition,
};
use kutover_memory::MemoryCluster;

use crate::observed::Act;
use crate::weather::{Fault, shaped};
use crate::world::World;

/// What one controller holds of the world.
#[derive(Clone)]
pub(crate) struct Ports {
    world: Arc<World>,
    by: usize,
    who: Arc<str>,
}

impl Ports {
    pub(crate) fn new(world: &Arc<World>, by: usize) -> Self {
        Self { world: Arc::clone(world), by, who: format!("controller {by}").into() }
    }

    pub(crate) fn backends(&self) -> Backends {
        let ports = Arc::new(self.clone());
        Backends {
            dns: ports.clone(),
            blue: ports.clone(),
            green: ports.clone(),
            clusters: ports.clone(),
            journal: ports,
        }
    }

    async fn call<T>(
        &self,
        name: &'static str,
        act: impl Future<Output = ProviderResult<T>>,
    ) -> ProviderResult<T> {
        self.world.call(&self.who, name, act).await
    }

    /// A call that leaves an act behind if it works.
    async fn act<T>(
        &self,
        name: &'static str,
        act: impl Future<Output = ProviderResult<T>>,
        seen: impl FnOnce(&T) -> Option<Act>,
    ) -> ProviderResult<T> {
        let witnessed = async {
            let done = act.await?;
            if let Some(act) = seen(&done) {
                self.world.witness.act(Some(self.by), act);
            }
            Ok(done)
        };
        self.call(name, witnessed).await
    }
}

#[async_trait]
impl DnsProvider for Ports {
    async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published> {
        self.call("dns.read", self.world.memory.dns.read(endpoint)).await
    }

    async fn compare_and_set(
        &self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        let set = self.world.memory.dns.compare_and_set(endpoint, expected, desired);
        let published = Act::Published(Box::new(desired.clone()));
        self.act("dns.compare_and_set", set, |()| Some(published)).await
    }

    async fn is_visible(&self, endpoint: &DnsName, published: &Published) -> ProviderResult<bool> {
        self.call("dns.is_visible", self.world.memory.dns.is_visible(endpoint, published)).await
    }
}

#[async_trait]
impl Journal for Ports {
    async fn read(&self) -> ProviderResult<Vec<JournalEntry>> {
        self.call("journal.read", self.world.memory.journal.read()).await
    }

    async fn append(&self, entry: &JournalEntry) -> ProviderResult<()> {
        if self.world.weather.strikes(Fault::JournalTorn).is_some() {
            let torn = ProviderError::new(ErrorKind::Unavailable, "append", "the disk failed");
            let cut_off = async {
                // What stays of an entry whose writing is cut off is the weather's to say.
                tokio::select! {
                    biased;
                    _ = self.world.memory.journal.append(entry) => {}
                    () = std::future::ready(()) => {}
                }
                Err(torn.with_outcome(Outcome::Unknown))
            };
            return self.call("journal.append", cut_off).await;
        }
        let append = self.world.memory.journal.append(entry);
        self.act("journal.append", append, |()| Some(Act::Journalled(entry.term))).await
    }
}

#[async_trait]
impl ClusterProvisioner for Ports {
    async fn provision(&self, colour: Colour, request: &Nonce) -> ProviderResult<Incarnation> {
        let world = &self.world;
        let before = world.memory.cluster(colour).map(|cluster| cluster.cluster_id());
        let made = |incarnation: &Incarnation| {
            let cluster = world.memory.cluster(colour)?;
            let id = cluster.cluster_id();
            world.learn(&incarnation.id, cluster);
            (before.as_ref() != Some(&id)).then(|| Act::Made(colour, incarnation.id.clone(), id))
        };
        self.act("provision", world.memory.provisioner.provision(colour, request), made).await
    }

    async fn describe(&self, colour: Colour) -> ProviderResult<Option<Incarnation>> {
        self.call("describe", self.world.memory.provisioner.describe(colour)).await
    }

    async fn isolate(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        let isolated = |(): &()| {
            let known = self.world.known().into_iter().find(|known| known.incarnation == *incarnation)?;
            Some(Act::Isolated(known.cluster.cluster_id(), nonce.clone()))
        };
        self.act("isolate", self.world.memory.provisioner.isolate(incarnation, nonce), isolated).await
    }

    async fn put_back(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        let put_back = |(): &()| {
            let known = self.world.known().into_iter().find(|known| known.incarnation == *incarnation)?;
            Some(Act::PutBack(known.cluster.cluster_id(), nonce.clone()))
        };
        self.act("put_back", self.world.memory.provisioner.put_back(incarnation, nonce), put_back).await
    }

    async fn destroy(&self, mark: &RemovalMark) -> ProviderResult<()> {
        let world = &self.world;
        let gone = world.memory.provisioner.destroyed().len();
        let destroyed = |(): &()| {
            let now = world.memory.provisioner.destroyed();
            let incarnation = now.get(gone)?;
            let known = world.known().into_iter().find(|known| known.incarnation == *incarnation)?;
            let id = known.cluster.cluster_id();
            world.forget(&id);
            Some(Act::Destroyed(incarnation.clone(), id))
        };
        self.act("destroy", world.memory.provisioner.destroy(mark), destroyed).await
    }
}

#[async_trait]
impl ClusterConnector for Ports {
    async fn connect(&self, incarnation: &Incarnation) -> ProviderResult<ClusterLinks> {
        let found = self.world.known().into_iter().find(|known| known.incarnation == incarnation.id);
        let what = || format!("connect to {}", incarnation.id);
        let known = found
            .filter(|known| !known.gone)
            .ok_or_else(|| ProviderError::new(ErrorKind::Unreachable, what(), "it is gone"))?;
        let admin = Arc::new(ClusterPorts { ports: self.clone(), cluster: known.cluster });
        Ok(ClusterLinks {
            admin: admin.clone(),
            lag: admin.clone(),
            survey: admin.clone(),
            registry: admin.clone(),
            ids: admin,
        })
    }
}

/// A controller's links to one cluster.
struct ClusterPorts {
    ports: Ports,
    cluster: MemoryCluster,
}

#[async_trait]
impl ClusterAdmin for ClusterPorts {
    async fn identity(&self) -> ProviderResult<ClusterIdentity> {
        self.ports.call("identity", self.cluster.identity()).await
    }

    async fn topics(&self) -> ProviderResult<Vec<TopicDescription>> {
        self.ports.call("topics", self.cluster.topics()).await
    }

    async fn create_topic(&self, topic: &NewTopic) -> ProviderResult<()> {
        self.ports.call("create_topic", self.cluster.create_topic(topic)).await
    }

    async fn delete_topics(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.ports.call("delete_topics", self.cluster.delete_topics(topics)).await
    }

    async fn access(&self) -> ProviderResult<Access> {
        self.ports.call("access", self.cluster.access()).await
    }

    async fn grant(&self, access: &NewAccess) -> ProviderResult<ScramUsers> {
        self.ports.call("grant", self.cluster.grant(access)).await
    }

    async fn groups(&self) -> ProviderResult<GroupListing> {
        self.ports.call("groups", self.cluster.groups()).await
    }

    async fn ends(&self, topics: &[TopicName]) -> ProviderResult<Vec<PartitionEnd>> {
        self.ports.call("ends", self.cluster.ends(topics)).await
    }

    async fn set_start_offsets(
        &self,
        group: &GroupId,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> ProviderResult<Vec<TopicPartition>> {
        self.ports.call("set_start_offsets", self.cluster.set_start_offsets(group, offsets)).await
    }

    async fn raise_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceKind> {
        if let Some(shape) = self.ports.world.weather.strikes(Fault::FenceLeaks) {
            leak(&self.ports.world, &self.cluster, shape);
        }
        let fenced = Act::Fenced(self.cluster.cluster_id(), topics.to_vec());
        self.ports.act("raise_fence", self.cluster.raise_fence(topics), |_| Some(fenced)).await
    }

    async fn prove_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceProof> {
        self.ports.call("prove_fence", self.cluster.prove_fence(topics)).await
    }

    async fn prove_open(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.ports.call("prove_open", self.cluster.prove_open(topics)).await
    }

    async fn lift_fence(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let lifted = Act::Lifted(self.cluster.cluster_id(), topics.to_vec());
        self.ports.act("lift_fence", self.cluster.lift_fence(topics), |()| Some(lifted)).await
    }
}

/// One leader learns late that there is a fence.
fn leak(world: &Arc<World>, cluster: &MemoryCluster, shape: u64) {
    let places = world.scene.places();
    let place = places[shape as usize % places.len()].clone();
    cluster.leak(place);
    let cluster = cluster.clone();
    tokio::spawn(async move {
        tokio::time::sleep(shaped(shape >> 8, 500, 20_000)).await;
        cluster.stop_leaking();
    });
}

#[async_trait]
impl ProducerIds for ClusterPorts {
    async fn newest(&self) -> ProviderResult<NewestIds> {
        self.ports.call("newest_ids", self.cluster.newest()).await
    }
    async fn pass(&self, mark: u64) -> ProviderResult<NewestIds> {
        self.ports.call("pass_ids", self.cluster.pass(mark)).await
    }
    async fn live(&self, topics: &[TopicName]) -> ProviderResult<BTreeSet<u64>> {
        self.ports.call("live_ids", self.cluster.live(topics)).await
    }
}

impl LagSource for ClusterPorts {
    fn lag(&self, query: LagQuery) -> Pin<Box<dyn Stream<Item = ProviderResult<LagBatch>> + Send + '_>> {
        let answered = async move {
            let collect = async {
                let batches: Vec<_> = self.cluster.lag(query).collect().await;
                batches.into_iter().collect::<ProviderResult<Vec<_>>>()
            };
            match self.ports.call("lag", collect).await {
                Ok(batches) => stream::iter(batches.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => stream::iter(vec![Err(error)]),
            }
        };
        Box::pin(stream::once(answered).flatten())
    }
}

#[async_trait]
impl ProducerSurvey for ClusterPorts {
    async fn writers(
        &self,
        places: &[TopicPartition],
    ) -> ProviderResult<BTreeMap<TopicPartition, Result<PartitionWriters, String>>> {
        self.ports.call("writers", self.cluster.writers(places)).await
    }

    async fn last_records(&self, place: &TopicPartition, at_most: usize) -> ProviderResult<Vec<LastRecord>> {
        self.ports.call("last_records", self.cluster.last_records(place, at_most)).await
    }

    async fn open_transactions(
        &self,
        places: &[TopicPartition],
    ) -> ProviderResult<BTreeMap<TopicPartition, Result<Vec<OpenTransaction>, String>>> {
        self.ports.call("open_transactions", self.cluster.open_transactions(places)).await
    }
}

#[async_trait]
impl Registry for ClusterPorts {
    async fn prepare(&self) -> ProviderResult<()> {
        self.ports.call("prepare", self.cluster.prepare()).await
    }

    async fn say(&self, message: &ControlMessage) -> ProviderResult<()> {
        let chain = match &message.body {
            ControlBody::Chain { topic, partitions } => {
                Some(Act::Chain(self.cluster.cluster_id(), topic.clone(), partitions.clone()))
            }
            _ => None,
        };
        self.ports.act("say", self.cluster.say(message), |()| chain).await
    }

    async fn control(&self) -> ProviderResult<ControlView> {
        self.ports.call("control", self.cluster.control()).await
    }

    async fn members(&self) -> ProviderResult<Vec<MemberState>> {
        self.ports.call("members", self.cluster.members()).await
    }
}
