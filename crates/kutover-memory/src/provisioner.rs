//! Where the clusters of a world come from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner, Incarnation, RecordData};
use kutover_core::words::{Colour, IncarnationId, Nonce};
use parking_lot::Mutex;

use crate::cluster::{ClusterOptions, MemoryCluster};
use crate::faults::Faults;

#[derive(Debug, Default)]
struct State {
    standing: BTreeMap<Colour, (Nonce, Incarnation, MemoryCluster)>,
    gone: Vec<IncarnationId>,
    ever: Vec<(Incarnation, MemoryCluster)>,
    made: u16,
    making: BTreeSet<Colour>,
    unready: BTreeSet<Colour>,
    options: BTreeMap<Colour, ClusterOptions>,
}

impl State {
    /// What was made, once it serves.
    fn served(&self, colour: Colour, what: String, made: Incarnation) -> ProviderResult<Incarnation> {
        if self.making.contains(&colour) {
            return Err(ProviderError::new(ErrorKind::Unavailable, what, "it is being made"));
        }
        Ok(made)
    }
}

/// Makes [`MemoryCluster`]s. Can isolate, unless told otherwise.
#[derive(Clone, Debug)]
pub struct MemoryProvisioner {
    state: Arc<Mutex<State>>,
    isolates: Arc<Mutex<bool>>,
    faults: Faults,
}

impl MemoryProvisioner {
    /// Nothing stands yet.
    pub fn new(faults: &Faults) -> Self {
        Self { state: Arc::default(), isolates: Arc::new(Mutex::new(true)), faults: faults.clone() }
    }

    /// The next cluster of a colour is made with these options.
    pub fn set_options(&self, colour: Colour, options: ClusterOptions) {
        self.state.lock().options.insert(colour, options);
    }

    /// Whether what stands behind a colour, and what is provisioned there, is only being made: it does not serve yet.
    pub fn set_making(&self, colour: Colour, making: bool) {
        let mut state = self.state.lock();
        if making {
            state.making.insert(colour);
        } else {
            state.making.remove(&colour);
        }
    }

    /// Whether traffic that is sent to what stands behind a colour would be served, as its platform sees it. It is, unless
    /// told otherwise.
    pub fn set_ready(&self, colour: Colour, ready: bool) {
        let mut state = self.state.lock();
        if ready {
            state.unready.remove(&colour);
        } else {
            state.unready.insert(colour);
        }
    }

    /// Whether `isolate` works or is `Unsupported`.
    pub fn set_isolates(&self, isolates: bool) {
        *self.isolates.lock() = isolates;
    }

    /// The cluster behind a colour.
    pub fn cluster(&self, colour: Colour) -> Option<MemoryCluster> {
        self.state.lock().standing.get(&colour).map(|(_, _, cluster)| cluster.clone())
    }

    /// The cluster that one of these servers belongs to: by clients' bootstrap servers or the controller's.
    pub fn cluster_at(&self, bootstrap: &[String]) -> Option<MemoryCluster> {
        let state = self.state.lock();
        let belongs = |incarnation: &Incarnation| {
            bootstrap.iter().any(|server| {
                incarnation.bootstrap.contains(server) || incarnation.controller_bootstrap.contains(server)
            })
        };
        let found = state.standing.values().find(|(_, incarnation, _)| belongs(incarnation));
        found.map(|(_, _, cluster)| cluster.clone())
    }

    /// Incarnations that were destroyed, in order.
    pub fn destroyed(&self) -> Vec<IncarnationId> {
        self.state.lock().gone.clone()
    }

    /// Every cluster that there ever was, oldest first: a judge looks at those that are gone too.
    pub fn ever(&self) -> Vec<(Incarnation, MemoryCluster)> {
        self.state.lock().ever.clone()
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    fn by_id(&self, id: &IncarnationId) -> Option<MemoryCluster> {
        let state = self.state.lock();
        let found = state.standing.values().find(|(_, incarnation, _)| incarnation.id == *id);
        found.map(|(_, _, cluster)| cluster.clone())
    }

    fn make(&self, state: &mut State, colour: Colour, request: &Nonce) -> Incarnation {
        state.made += 1;
        let number = state.made;
        let side = if colour == Colour::Blue { 1 } else { 2 };
        let [high, low] = number.to_be_bytes();
        let address = Ipv4Addr::new(10, high, side, low);
        let incarnation = Incarnation {
            id: IncarnationId::new(format!("Kafka{}-{number}", colour.suffix())),
            colour,
            bootstrap: vec![format!("{address}:9092")],
            controller_bootstrap: vec![format!("{address}:9093")],
            endpoint: RecordData::Addresses(vec![IpAddr::V4(address)]),
        };
        let options = state.options.remove(&colour).unwrap_or_default();
        let id =
            options.cluster_id.clone().unwrap_or_else(|| format!("memory-{colour}-{number}").as_str().into());
        let brokers = options.brokers.clone().unwrap_or_else(|| incarnation.bootstrap.clone());
        let cluster = MemoryCluster::new(colour.as_str(), id, brokers, options, &self.faults);
        state.ever.push((incarnation.clone(), cluster.clone()));
        state.standing.insert(colour, (request.clone(), incarnation.clone(), cluster));
        incarnation
    }
}

#[async_trait]
impl ClusterProvisioner for MemoryProvisioner {
    async fn provision(&self, colour: Colour, request: &Nonce) -> ProviderResult<Incarnation> {
        let (this, request) = (self.clone(), request.clone());
        self.faults
            .run("provisioner.provision", move || {
                let mut state = this.state.lock();
                let made = match state.standing.get(&colour) {
                    Some((made_for, incarnation, _)) if *made_for == request => incarnation.clone(),
                    Some((_, incarnation, _)) => {
                        return Err(ProviderError::new(
                            ErrorKind::Refused,
                            format!("provision {colour}"),
                            format!("{} stands there from another request; remove it first", incarnation.id),
                        ));
                    }
                    None => this.make(&mut state, colour, &request),
                };
                let made = state.served(colour, format!("provision {colour}"), made);
                made.map_err(|error| error.with_outcome(Outcome::Unknown))
            })
            .await
    }

    async fn describe(&self, colour: Colour) -> ProviderResult<Option<Incarnation>> {
        let this = self.clone();
        self.faults
            .run("provisioner.describe", move || {
                let state = this.state.lock();
                let standing = state.standing.get(&colour).map(|(_, incarnation, _)| incarnation.clone());
                standing.map(|made| state.served(colour, format!("describe {colour}"), made)).transpose()
            })
            .await
    }

    async fn isolate(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        let (this, incarnation, nonce) = (self.clone(), incarnation.clone(), nonce.clone());
        self.faults
            .run("provisioner.isolate", move || {
                let what = format!("isolate {incarnation}");
                if !*this.isolates.lock() {
                    return Err(ProviderError::new(
                        ErrorKind::Unsupported,
                        what,
                        "this world cannot isolate",
                    ));
                }
                match this.by_id(&incarnation) {
                    Some(cluster) => {
                        cluster.isolate(&nonce);
                        Ok(())
                    }
                    None => Err(ProviderError::new(ErrorKind::NotFound, what, "it is not there")),
                }
            })
            .await
    }

    async fn put_back(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        let (this, incarnation, nonce) = (self.clone(), incarnation.clone(), nonce.clone());
        self.faults
            .run("provisioner.put_back", move || {
                if let Some(cluster) = this.by_id(&incarnation) {
                    cluster.put_back(&nonce);
                }
                Ok(())
            })
            .await
    }

    async fn destroy(&self, mark: &RemovalMark) -> ProviderResult<()> {
        let (this, mark) = (self.clone(), mark.clone());
        self.faults
            .run("provisioner.destroy", move || {
                let mut state = this.state.lock();
                let found =
                    state.standing.iter().find(|(_, (_, incarnation, _))| incarnation.id == mark.incarnation);
                let Some((colour, (_, _, cluster))) = found else { return Ok(()) };
                let (colour, cluster) = (*colour, cluster.clone());
                if cluster.cluster_id() != mark.cluster_id {
                    return Err(ProviderError::new(
                        ErrorKind::Refused,
                        format!("destroy {}", mark.incarnation),
                        format!(
                            "cluster {} lives there, the mark names {}",
                            cluster.cluster_id(),
                            mark.cluster_id
                        ),
                    ));
                }
                cluster.end();
                state.standing.remove(&colour);
                state.gone.push(mark.incarnation.clone());
                Ok(())
            })
            .await
    }

    async fn is_ready(&self, incarnation: &IncarnationId) -> ProviderResult<()> {
        let (this, incarnation) = (self.clone(), incarnation.clone());
        self.faults
            .run("provisioner.is_ready", move || {
                let what = format!("look whether {incarnation} is ready");
                let state = this.state.lock();
                let found = state.standing.iter().find(|(_, (_, standing, _))| standing.id == incarnation);
                match found {
                    Some((colour, _)) if state.unready.contains(colour) => Err(ProviderError::new(
                        ErrorKind::Unavailable,
                        what,
                        "none of its targets is healthy",
                    )),
                    Some(_) => Ok(()),
                    None => Err(ProviderError::new(ErrorKind::NotFound, what, "it is not there")),
                }
            })
            .await
    }
}
