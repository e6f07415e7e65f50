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
    NewestIds, PartitionEnd, ProducerIds, ProducerSurvey, Published, Registry, ScramUsers, TopicConfigs,
    TopicDescription,
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
            zones: BTreeMap::new(),
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

    /// A call that changes something, with the act that it leaves behind if it works.
    async fn change<T: Send + 'static>(
        &self,
        name: &'static str,
        change: impl Future<Output = ProviderResult<(T, Option<Act>)>> + Send + 'static,
    ) -> ProviderResult<T> {
        let (world, by) = (Arc::clone(&self.world), self.by);
        let witnessed = async move {
            let (done, act) = change.await?;
            if let Some(act) = act {
                world.witness.act(Some(by), act);
            }
            Ok(done)
        };
        self.world.change(&self.who, name, witnessed).await
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
        let dns = self.world.memory.dns.clone();
        let (endpoint, expected, desired) = (endpoint.clone(), expected.clone(), desired.clone());
        let set = async move {
            dns.compare_and_set(&endpoint, &expected, &desired).await?;
            Ok(((), Some(Act::Published(Box::new(desired)))))
        };
        self.change("dns.compare_and_set", set).await
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
        // Of an entry whose writer dies in the middle, the journal's own weather says what stays.
        self.call("journal.append", self.world.memory.journal.append(entry)).await
    }
}

#[async_trait]
impl ClusterProvisioner for Ports {
    async fn provision(&self, colour: Colour, request: &Nonce) -> ProviderResult<Incarnation> {
        let (world, request) = (Arc::clone(&self.world), request.clone());
        world.witness.act(Some(self.by), Act::Requested(colour, request.clone()));
        let provision = async move {
            let before = world.memory.cluster(colour).map(|cluster| cluster.cluster_id());
            let incarnation = world.memory.provisioner.provision(colour, &request).await?;
            let made = world.memory.cluster(colour).and_then(|cluster| {
                let id = cluster.cluster_id();
                world.learn(&incarnation.id, cluster);
                (before.as_ref() != Some(&id)).then(|| Act::Made(colour, incarnation.id.clone(), id, request))
            });
            Ok((incarnation, made))
        };
        self.change("provision", provision).await
    }

    async fn describe(&self, colour: Colour) -> ProviderResult<Option<Incarnation>> {
        self.call("describe", self.world.memory.provisioner.describe(colour)).await
    }

    async fn isolate(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        let (world, incarnation, nonce) = (Arc::clone(&self.world), incarnation.clone(), nonce.clone());
        let isolate = async move {
            world.memory.provisioner.isolate(&incarnation, &nonce).await?;
            Ok(((), world.cluster_of(&incarnation).map(|id| Act::Isolated(id, nonce))))
        };
        self.change("isolate", isolate).await
    }

    async fn put_back(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        let (world, incarnation, nonce) = (Arc::clone(&self.world), incarnation.clone(), nonce.clone());
        let put_back = async move {
            world.memory.provisioner.put_back(&incarnation, &nonce).await?;
            Ok(((), world.cluster_of(&incarnation).map(|id| Act::PutBack(id, nonce))))
        };
        self.change("put_back", put_back).await
    }

    async fn destroy(&self, mark: &RemovalMark) -> ProviderResult<()> {
        let (world, mark) = (Arc::clone(&self.world), mark.clone());
        let destroy = async move {
            let gone = world.memory.provisioner.destroyed().len();
            world.memory.provisioner.destroy(&mark).await?;
            let now = world.memory.provisioner.destroyed();
            let destroyed = now.get(gone).and_then(|incarnation| {
                let id = world.cluster_of(incarnation)?;
                world.forget(&id);
                Some(Act::Destroyed(incarnation.clone(), id))
            });
            Ok(((), destroyed))
        };
        self.change("destroy", destroy).await
    }

    async fn is_ready(&self, incarnation: &IncarnationId) -> ProviderResult<()> {
        self.call("is_ready", self.world.memory.provisioner.is_ready(incarnation)).await
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
        let (cluster, topic) = (self.cluster.clone(), topic.clone());
        let create = async move { Ok((cluster.create_topic(&topic).await?, None)) };
        self.ports.change("create_topic", create).await
    }

    async fn delete_topics(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let (cluster, topics) = (self.cluster.clone(), topics.to_vec());
        let delete = async move { Ok((cluster.delete_topics(&topics).await?, None)) };
        self.ports.change("delete_topics", delete).await
    }

    async fn access(&self) -> ProviderResult<Access> {
        self.ports.call("access", self.cluster.access()).await
    }

    async fn grant(&self, access: &NewAccess) -> ProviderResult<ScramUsers> {
        let (cluster, access) = (self.cluster.clone(), access.clone());
        self.ports.change("grant", async move { Ok((cluster.grant(&access).await?, None)) }).await
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
        let (cluster, group, offsets) = (self.cluster.clone(), group.clone(), offsets.clone());
        let set = async move { Ok((cluster.set_start_offsets(&group, &offsets).await?, None)) };
        self.ports.change("set_start_offsets", set).await
    }

    async fn raise_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceKind> {
        if let Some(shape) = self.ports.world.weather.strikes(Fault::FenceLeaks) {
            leak(&self.ports.world, &self.cluster, shape);
        }
        let (cluster, topics) = (self.cluster.clone(), topics.to_vec());
        let raise = async move {
            let kind = cluster.raise_fence(&topics).await?;
            Ok((kind, Some(Act::Fenced(cluster.cluster_id(), topics))))
        };
        self.ports.change("raise_fence", raise).await
    }

    async fn prove_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceProof> {
        self.ports.call("prove_fence", self.cluster.prove_fence(topics)).await
    }

    async fn prove_open(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.ports.call("prove_open", self.cluster.prove_open(topics)).await
    }

    async fn alter_configs(&self, configs: &TopicConfigs) -> ProviderResult<()> {
        let (cluster, configs) = (self.cluster.clone(), configs.clone());
        self.ports
            .change("alter_configs", async move { Ok((cluster.alter_configs(&configs).await?, None)) })
            .await
    }

    async fn fence_traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
        self.ports.call("fence_traces", self.cluster.fence_traces()).await
    }

    async fn lift_fence(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let (cluster, topics) = (self.cluster.clone(), topics.to_vec());
        let asked_ms = self.ports.world.now_ms();
        let lift = async move {
            cluster.lift_fence(&topics).await?;
            Ok(((), Some(Act::Lifted(cluster.cluster_id(), topics, asked_ms))))
        };
        self.ports.change("lift_fence", lift).await
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
        let cluster = self.cluster.clone();
        self.ports.change("pass_ids", async move { Ok((cluster.pass(mark).await?, None)) }).await
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
        let cluster = self.cluster.clone();
        self.ports.change("prepare", async move { Ok((cluster.prepare().await?, None)) }).await
    }

    async fn say(&self, message: &ControlMessage) -> ProviderResult<()> {
        let (cluster, message) = (self.cluster.clone(), message.clone());
        let say = async move {
            cluster.say(&message).await?;
            let chain = match message.body {
                ControlBody::Chain { topic, partitions } => {
                    Some(Act::Chain(cluster.cluster_id(), topic, partitions))
                }
                _ => None,
            };
            Ok(((), chain))
        };
        self.ports.change("say", say).await
    }

    async fn control(&self) -> ProviderResult<ControlView> {
        self.ports.call("control", self.cluster.control()).await
    }

    async fn members(&self) -> ProviderResult<Vec<MemberState>> {
        self.ports.call("members", self.cluster.members()).await
    }
}
