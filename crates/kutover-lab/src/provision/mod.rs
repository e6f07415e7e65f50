//! `LabProvisioner`: the port [`ClusterProvisioner`] for worlds on this machine.

mod apache;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner, FenceSwitch, Incarnation, RecordData};
use kutover_core::words::{ClusterId, Colour, IncarnationId, Nonce};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::apache::{ApacheCluster, SavedCluster, Tools, ZooKeeper};
use crate::embedded::{EmbeddedCluster, EmbeddedOptions};
use crate::forwarder::Forwarder;
use crate::loopback;
use crate::spec::{ClusterKind, ClusterSpec};
use crate::store::Store;

/// The port that both colours' forwarders listen on unless told otherwise: Kafka's own.
pub const DEFAULT_PORT: u16 = 9092;

const WORLD: &str = "world.json";
const GONE: &str = "gone.json";

/// How a world is made.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// Where clusters keep their data and the lab its state.
    pub data_dir: PathBuf,
    /// The cluster behind blue.
    pub blue: ClusterSpec,
    /// The cluster behind green.
    pub green: ClusterSpec,
    /// The port of both colours' forwarders, each on a loopback address of its own.
    pub port: u16,
    /// The programs that Apache Kafka needs, and the cache for its jars.
    pub tools: Tools,
    /// Whether servers that this process leaves behind when it is killed may be ended by any later world (of tests,
    /// of the demo). Otherwise they run on until a world is opened on the same directory, which takes them over.
    pub is_disposable: bool,
}

impl LabOptions {
    /// A world in a directory with these clusters, all else as usual.
    pub fn new(data_dir: impl Into<PathBuf>, blue: ClusterSpec, green: ClusterSpec) -> Self {
        let tools = Tools::from_env();
        Self { data_dir: data_dir.into(), blue, green, port: DEFAULT_PORT, tools, is_disposable: false }
    }

    fn spec(&self, colour: Colour) -> &ClusterSpec {
        match colour {
            Colour::Blue => &self.blue,
            Colour::Green => &self.green,
        }
    }

    fn runs_apache(&self) -> bool {
        Colour::BOTH.into_iter().any(|colour| matches!(self.spec(colour).kind, ClusterKind::Apache(_)))
    }
}

/// Makes, isolates and destroys the clusters of one world. What it runs ends with it: embedded clusters for good, the
/// processes of Apache Kafka until a world is opened on the same directory again.
///
/// Beyond the port's contract: `provision` of a colour behind which an incarnation of another request stands is
/// `Refused`, as is one whose request was provisioned and destroyed before. While another process runs the world,
/// `describe` answers from its state (embedded clusters are not in it) and every act is `Unavailable`.
#[derive(Debug)]
pub struct LabProvisioner {
    options: LabOptions,
    places: BTreeMap<Colour, SocketAddr>,
    slots: Mutex<BTreeMap<Colour, Arc<Slot>>>,
    /// Colours behind which a cluster is being made.
    making: Mutex<BTreeSet<Colour>>,
    /// Ended after the clusters that use it.
    zookeeper: tokio::sync::Mutex<Option<ZooKeeper>>,
    /// Requests whose incarnation was destroyed.
    gone: Mutex<BTreeMap<Nonce, IncarnationId>>,
    /// Held through every act, so that two never work on one colour at once.
    acts: tokio::sync::Mutex<()>,
    store: Store,
    /// The directory's lock, or who holds it.
    owned: ProviderResult<File>,
    _registered: Option<crate::apache::Registration>,
}

/// What stands behind a colour.
#[derive(Debug)]
struct Slot {
    incarnation: Incarnation,
    request: Nonce,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Embedded {
        cluster: Arc<EmbeddedCluster>,
        forwarder: Forwarder,
    },
    /// `None`: its removal was begun and cut short.
    Apache {
        cluster: Option<Arc<ApacheCluster>>,
        saved: Box<Mutex<SavedCluster>>,
    },
}

impl LabProvisioner {
    /// Opens a world: a new one with nothing in it yet, or the one that stands in the data directory, whose clusters of
    /// Apache Kafka are then taken over where they still run and started where they do not.
    ///
    /// # Errors
    /// The directory cannot be used, no loopback address can be had, or a cluster of before does not start.
    pub async fn new(options: LabOptions) -> ProviderResult<Self> {
        let store = Store::open(&options.data_dir)?;
        let owned = store.own();
        let places = match store.read(WORLD)? {
            Some(places) => places,
            None => new_places(&store, options.port)?,
        };
        let registered = if options.is_disposable && owned.is_ok() && options.runs_apache() {
            let registered = crate::apache::register(&options.tools.cache, store.dir()).await;
            Some(registered.map_err(|error| {
                let what = format!("cache {}", options.tools.cache.display());
                ProviderError::new(
                    ErrorKind::Unavailable,
                    what,
                    format!("{error}; set KUTOVER_CACHE to another folder"),
                )
            })?)
        } else {
            None
        };
        let lab = Self {
            options,
            places,
            slots: Mutex::default(),
            making: Mutex::default(),
            zookeeper: tokio::sync::Mutex::default(),
            gone: Mutex::new(store.read(GONE)?.unwrap_or_default()),
            acts: tokio::sync::Mutex::default(),
            store,
            owned,
            _registered: registered,
        };
        if lab.owned.is_ok() {
            lab.resume().await?;
        }
        Ok(lab)
    }

    /// Ends all processes of Apache Kafka in good order and keeps their data, for a world opened there later.
    pub async fn stop(self) {
        let slots = std::mem::take(&mut *self.slots.lock());
        for slot in slots.into_values() {
            if let Running::Apache { cluster: Some(cluster), .. } = &slot.running {
                cluster.stop().await;
            }
        }
        if let Some(zookeeper) = self.zookeeper.lock().await.take() {
            zookeeper.stop().await;
        }
    }

    /// Where a colour's forwarder listens, or will.
    pub fn place(&self, colour: Colour) -> SocketAddr {
        self.places[&colour]
    }

    /// The embedded cluster behind a colour, if that is what stands there.
    pub fn embedded(&self, colour: Colour) -> Option<Arc<EmbeddedCluster>> {
        match &self.slot(colour)?.running {
            Running::Embedded { cluster, .. } => Some(Arc::clone(cluster)),
            Running::Apache { .. } => None,
        }
    }

    /// The cluster of Apache Kafka behind a colour, if that is what stands there.
    pub fn apache(&self, colour: Colour) -> Option<Arc<ApacheCluster>> {
        match &self.slot(colour)?.running {
            Running::Embedded { .. } => None,
            Running::Apache { cluster, .. } => cluster.clone(),
        }
    }

    /// The fence that a colour's cluster brings along: that of an embedded one. Apache Kafka is fenced by ACLs, which
    /// are kutover-admin's.
    pub fn fence(&self, colour: Colour) -> Option<Arc<dyn FenceSwitch>> {
        self.embedded(colour).map(|cluster| Arc::new(cluster.fence()) as Arc<dyn FenceSwitch>)
    }

    /// Lets one act at a time begin, and none while another process runs the world.
    async fn act(&self) -> ProviderResult<tokio::sync::MutexGuard<'_, ()>> {
        self.owned.as_ref().map_err(Clone::clone)?;
        Ok(self.acts.lock().await)
    }

    fn slot(&self, colour: Colour) -> Option<Arc<Slot>> {
        self.slots.lock().get(&colour).cloned()
    }

    fn slot_of(&self, incarnation: &IncarnationId) -> Option<Arc<Slot>> {
        self.slots.lock().values().find(|slot| slot.incarnation.id == *incarnation).cloned()
    }

    fn known(&self, incarnation: &IncarnationId, what: &str) -> ProviderResult<Arc<Slot>> {
        self.slot_of(incarnation).ok_or_else(|| {
            ProviderError::new(
                ErrorKind::NotFound,
                format!("{what} {incarnation}"),
                "no such incarnation in this world",
            )
        })
    }

    async fn start(&self, colour: Colour, request: &Nonce) -> ProviderResult<Slot> {
        let id = IncarnationId::new(format!("lab-{colour}-{}", Uuid::new_v4().simple()));
        match self.options.spec(colour).kind {
            ClusterKind::Embedded => self.start_embedded(colour, request, id).await,
            ClusterKind::Apache(version) => self.start_apache(colour, request, id, version).await,
        }
    }

    async fn start_embedded(
        &self,
        colour: Colour,
        request: &Nonce,
        id: IncarnationId,
    ) -> ProviderResult<Slot> {
        let spec = self.options.spec(colour);
        let cluster = EmbeddedCluster::start(EmbeddedOptions {
            brokers: spec.brokers.into(),
            cluster_id: spec.cluster_id.clone(),
            ..EmbeddedOptions::default()
        })
        .await?;
        let place = self.place(colour);
        let forwarder = Forwarder::open(place, cluster.brokers().to_vec()).await.map_err(|error| {
            ProviderError::new(ErrorKind::Unavailable, format!("provision {colour}"), error)
        })?;
        let incarnation = Incarnation {
            id,
            colour,
            bootstrap: vec![place.to_string()],
            controller_bootstrap: cluster.brokers().iter().map(SocketAddr::to_string).collect(),
            endpoint: RecordData::Addresses(vec![place.ip()]),
        };
        Ok(Slot { incarnation, request: request.clone(), running: Running::Embedded { cluster, forwarder } })
    }
}

#[async_trait]
impl ClusterProvisioner for LabProvisioner {
    async fn provision(&self, colour: Colour, request: &Nonce) -> ProviderResult<Incarnation> {
        let _acting = self.act().await?;
        let refused = |reason: String| {
            Err(ProviderError::new(
                ErrorKind::Refused,
                format!("provision {colour} for request {request}"),
                reason,
            ))
        };
        if let Some(slot) = self.slot(colour) {
            if slot.request == *request {
                return Ok(slot.incarnation.clone());
            }
            let (id, other) = (&slot.incarnation.id, &slot.request);
            return refused(format!("{id}, made for request {other}, stands behind it; remove that first"));
        }
        if let Some(id) = self.gone.lock().get(request) {
            return refused(format!("its incarnation {id} was removed; provision with a new request"));
        }
        // Also of one whose caller gives up: what was begun ends with the call.
        let _making = Making::begin(&self.making, colour);
        let slot = Arc::new(self.start(colour, request).await?);
        let incarnation = slot.incarnation.clone();
        self.slots.lock().insert(colour, slot);
        Ok(incarnation)
    }

    async fn describe(&self, colour: Colour) -> ProviderResult<Option<Incarnation>> {
        if self.owned.is_err() {
            return self.described_by_another(colour);
        }
        // In this order: it is in its slot before it is not being made any more.
        let is_being_made = self.making.lock().contains(&colour);
        match self.slot(colour) {
            None if is_being_made => Err(being_made(colour)),
            slot => Ok(slot.map(|slot| slot.incarnation.clone())),
        }
    }

    async fn isolate(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        let _acting = self.act().await?;
        match &self.known(incarnation, "isolate")?.running {
            Running::Embedded { cluster, forwarder } => {
                forwarder.close().await;
                cluster.isolate(nonce).await
            }
            Running::Apache { cluster, saved } => self.isolate_apache(cluster.as_ref(), saved, nonce).await,
        }
    }

    async fn put_back(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        let _acting = self.act().await?;
        let failed =
            |error| ProviderError::new(ErrorKind::Unavailable, format!("put back {incarnation}"), error);
        match &self.known(incarnation, "put back")?.running {
            Running::Embedded { cluster, forwarder } => {
                if cluster.put_back(nonce).await? {
                    forwarder.reopen().await.map_err(failed)?;
                }
                Ok(())
            }
            Running::Apache { cluster, saved } => self.put_back_apache(cluster.as_ref(), saved, nonce).await,
        }
    }

    async fn destroy(&self, mark: &RemovalMark) -> ProviderResult<()> {
        let _acting = self.act().await?;
        let Some(slot) = self.slot_of(&mark.incarnation) else { return Ok(()) };
        let colour = slot.incarnation.colour;
        match &slot.running {
            Running::Embedded { cluster, forwarder } => {
                proven(mark, &cluster.cluster_id())?;
                forwarder.close().await;
                cluster.cut_connections();
            }
            Running::Apache { cluster, saved } => self.destroy_apache(mark, cluster.as_ref(), saved).await?,
        }
        let gone = {
            let mut gone = self.gone.lock();
            gone.insert(slot.request.clone(), slot.incarnation.id.clone());
            gone.clone()
        };
        self.store.write(GONE, &gone)?;
        self.store.remove(&apache::state_file(colour))?;
        self.slots.lock().remove(&colour);
        self.end_idle_zookeeper().await
    }
}

/// Says for as long as it lives that a cluster is being made behind a colour.
struct Making<'a> {
    all: &'a Mutex<BTreeSet<Colour>>,
    colour: Colour,
}

impl<'a> Making<'a> {
    fn begin(all: &'a Mutex<BTreeSet<Colour>>, colour: Colour) -> Self {
        all.lock().insert(colour);
        Self { all, colour }
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(&self.colour);
    }
}

/// Whoever takes back what it has begun must not take it for nothing: it would come up behind their back.
fn being_made(colour: Colour) -> ProviderError {
    let what = format!("describe {colour}");
    ProviderError::new(
        ErrorKind::Unavailable,
        what,
        "a cluster is being made there; ask again once it serves",
    )
}

/// Refuses a removal whose mark names another cluster than the one found.
fn proven(mark: &RemovalMark, found: &ClusterId) -> ProviderResult<()> {
    if *found == mark.cluster_id {
        return Ok(());
    }
    let what = format!("destroy {}", mark.incarnation);
    let reason =
        format!("the mark of removal names cluster {}, but the cluster there is {found}", mark.cluster_id);
    Err(ProviderError::new(ErrorKind::Refused, what, reason))
}

fn new_places(store: &Store, port: u16) -> ProviderResult<BTreeMap<Colour, SocketAddr>> {
    let places = loopback::fresh(2, port)
        .map_err(|error| ProviderError::new(ErrorKind::Unavailable, "find loopback addresses", error))?;
    let places = Colour::BOTH.into_iter().zip(places).collect();
    store.write(WORLD, &places)?;
    Ok(places)
}
