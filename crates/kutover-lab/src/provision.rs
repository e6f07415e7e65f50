//! `LabProvisioner`: the port [`ClusterProvisioner`] for worlds on this machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner, FenceSwitch, Incarnation, RecordData};
use kutover_core::words::{Colour, IncarnationId, Nonce};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::embedded::{EmbeddedCluster, EmbeddedOptions};
use crate::forwarder::Forwarder;
use crate::loopback;
use crate::spec::{ClusterKind, ClusterSpec};

/// The port that both colours' forwarders listen on unless told otherwise: Kafka's own.
pub const DEFAULT_PORT: u16 = 9092;

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
}

impl LabOptions {
    /// A world in a directory with these clusters, all else as usual.
    pub fn new(data_dir: impl Into<PathBuf>, blue: ClusterSpec, green: ClusterSpec) -> Self {
        Self { data_dir: data_dir.into(), blue, green, port: DEFAULT_PORT }
    }

    fn spec(&self, colour: Colour) -> &ClusterSpec {
        match colour {
            Colour::Blue => &self.blue,
            Colour::Green => &self.green,
        }
    }
}

/// Makes, isolates and destroys the clusters of one world. What it started ends with it.
///
/// Beyond the port's contract: `provision` of a colour behind which an incarnation of another request stands is
/// `Refused`, as is one whose request was provisioned and destroyed before.
#[derive(Debug)]
pub struct LabProvisioner {
    options: LabOptions,
    places: BTreeMap<Colour, SocketAddr>,
    slots: Mutex<BTreeMap<Colour, Arc<Slot>>>,
    /// Requests whose incarnation was destroyed.
    gone: Mutex<BTreeMap<Nonce, IncarnationId>>,
    /// Held through every act, so that two never work on one colour at once.
    acts: tokio::sync::Mutex<()>,
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
    Embedded { cluster: Arc<EmbeddedCluster>, forwarder: Forwarder },
}

impl LabProvisioner {
    /// Makes a world with nothing in it yet.
    ///
    /// # Errors
    /// No loopback address can be had.
    pub async fn new(options: LabOptions) -> ProviderResult<Self> {
        let places = loopback::fresh(2, options.port)
            .map_err(|error| ProviderError::new(ErrorKind::Unavailable, "find loopback addresses", error))?;
        Ok(Self {
            options,
            places: Colour::BOTH.into_iter().zip(places).collect(),
            slots: Mutex::default(),
            gone: Mutex::default(),
            acts: tokio::sync::Mutex::default(),
        })
    }

    /// Where a colour's forwarder listens, or will.
    pub fn place(&self, colour: Colour) -> SocketAddr {
        self.places[&colour]
    }

    /// The embedded cluster behind a colour, if that is what stands there.
    pub fn embedded(&self, colour: Colour) -> Option<Arc<EmbeddedCluster>> {
        match &self.slot(colour)?.running {
            Running::Embedded { cluster, .. } => Some(Arc::clone(cluster)),
        }
    }

    /// The fence that a colour's cluster brings along: that of an embedded one. Apache Kafka is fenced by ACLs, which
    /// are kutover-admin's.
    pub fn fence(&self, colour: Colour) -> Option<Arc<dyn FenceSwitch>> {
        self.embedded(colour).map(|cluster| Arc::new(cluster.fence()) as Arc<dyn FenceSwitch>)
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
            ClusterKind::Apache(version) => Err(ProviderError::new(
                ErrorKind::Unsupported,
                format!("provision {colour}"),
                format!("Apache Kafka {version} is not built in"),
            )),
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
        let _acting = self.acts.lock().await;
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
        let slot = Arc::new(self.start(colour, request).await?);
        let incarnation = slot.incarnation.clone();
        self.slots.lock().insert(colour, slot);
        Ok(incarnation)
    }

    async fn describe(&self, colour: Colour) -> ProviderResult<Option<Incarnation>> {
        Ok(self.slot(colour).map(|slot| slot.incarnation.clone()))
    }

    async fn isolate(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        let _acting = self.acts.lock().await;
        match &self.known(incarnation, "isolate")?.running {
            Running::Embedded { cluster, forwarder } => {
                forwarder.close().await;
                cluster.isolate(nonce).await
            }
        }
    }

    async fn put_back(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        let _acting = self.acts.lock().await;
        match &self.known(incarnation, "put back")?.running {
            Running::Embedded { cluster, forwarder } => {
                if cluster.put_back(nonce).await? {
                    forwarder.reopen().await.map_err(|error| {
                        ProviderError::new(ErrorKind::Unavailable, format!("put back {incarnation}"), error)
                    })?;
                }
                Ok(())
            }
        }
    }

    async fn destroy(&self, mark: &RemovalMark) -> ProviderResult<()> {
        let _acting = self.acts.lock().await;
        let Some(slot) = self.slot_of(&mark.incarnation) else { return Ok(()) };
        match &slot.running {
            Running::Embedded { cluster, forwarder } => {
                proven(mark, &cluster.cluster_id())?;
                forwarder.close().await;
                cluster.cut_connections();
            }
        }
        self.gone.lock().insert(slot.request.clone(), slot.incarnation.id.clone());
        self.slots.lock().remove(&slot.incarnation.colour);
        Ok(())
    }
}

/// Refuses a removal whose mark names another cluster than the one found.
fn proven(mark: &RemovalMark, found: &kutover_core::words::ClusterId) -> ProviderResult<()> {
    if *found == mark.cluster_id {
        return Ok(());
    }
    let what = format!("destroy {}", mark.incarnation);
    let reason =
        format!("the mark of removal names cluster {}, but the cluster there is {found}", mark.cluster_id);
    Err(ProviderError::new(ErrorKind::Refused, what, reason))
}
