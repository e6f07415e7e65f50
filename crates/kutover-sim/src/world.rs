//! One world: what all its actors share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::words::{ClusterId, DnsName, IncarnationId, Offset, TopicPartition};
use kutover_memory::{MemoryCluster, MemoryWorld};
use parking_lot::Mutex;

use crate::observed::Append;
use crate::scene::Scene;
use crate::weather::{Fault, Weather, shaped};
use crate::witness::{Witness, note};

/// A cluster that was made at some time, also when it is gone.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) incarnation: IncarnationId,
    pub(crate) cluster: MemoryCluster,
    pub(crate) gone: bool,
}

/// See the [module](self).
pub(crate) struct World {
    pub(crate) scene: Scene,
    pub(crate) memory: MemoryWorld,
    pub(crate) weather: Weather,
    pub(crate) witness: Witness,
    clusters: Mutex<BTreeMap<ClusterId, Known>>,
    /// How far each log was looked at.
    looked: Mutex<BTreeMap<(ClusterId, TopicPartition), Offset>>,
    /// Clusters that are out for a while.
    out: Mutex<std::collections::BTreeSet<ClusterId>>,
    first: Mutex<Option<ClusterId>>,
    /// What the last controller stopped at.
    pub(crate) last_stop: Mutex<Option<String>>,
    /// Set once traffic is to end.
    ending: tokio::sync::watch::Sender<bool>,
}

impl World {
    pub(crate) fn new(scene: Scene, weather: Weather, witness: Witness) -> Arc<Self> {
        Arc::new(Self {
            scene,
            memory: MemoryWorld::new(),
            weather,
            witness,
            clusters: Mutex::default(),
            looked: Mutex::default(),
            out: Mutex::default(),
            first: Mutex::default(),
            last_stop: Mutex::default(),
            ending: tokio::sync::watch::Sender::new(false),
        })
    }

    pub(crate) fn endpoint(&self) -> DnsName {
        DnsName::new("kafka.sim.test")
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.witness.now_ms()
    }

    /// From now on producers send nothing new.
    pub(crate) fn end_traffic(&self) {
        self.ending.send_replace(true);
    }

    pub(crate) fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    pub(crate) async fn until_ending(&self) {
        let mut ending = self.ending.subscribe();
        // The sender lives as long as this world.
        let _ = ending.wait_for(|ending| *ending).await;
    }

    pub(crate) fn learn(&self, incarnation: &IncarnationId, cluster: MemoryCluster) {
        let known = Known { incarnation: incarnation.clone(), cluster: cluster.clone(), gone: false };
        self.first.lock().get_or_insert_with(|| cluster.cluster_id());
        self.clusters.lock().entry(cluster.cluster_id()).or_insert(known);
    }

    /// The cluster that stood there when the world began.
    pub(crate) fn first_cluster(&self) -> Option<ClusterId> {
        self.first.lock().clone()
    }

    /// Takes a cluster out, or puts it back in. One that is gone stays gone.
    pub(crate) fn set_out(&self, id: &ClusterId, out: bool) {
        let Some(known) = self.cluster(id).filter(|known| !known.gone) else { return };
        if out {
            known.cluster.kill();
            self.out.lock().insert(id.clone());
        } else {
            known.cluster.revive();
            self.out.lock().remove(id);
        }
    }

    pub(crate) fn is_out(&self, id: &ClusterId) -> bool {
        self.out.lock().contains(id)
    }

    pub(crate) fn forget(&self, cluster: &ClusterId) {
        if let Some(known) = self.clusters.lock().get_mut(cluster) {
            known.gone = true;
        }
    }

    pub(crate) fn known(&self) -> Vec<Known> {
        self.clusters.lock().values().cloned().collect()
    }

    pub(crate) fn standing(&self) -> Vec<MemoryCluster> {
        let clusters = self.clusters.lock();
        clusters.values().filter(|known| !known.gone).map(|known| known.cluster.clone()).collect()
    }

    pub(crate) fn cluster(&self, id: &ClusterId) -> Option<Known> {
        self.clusters.lock().get(id).cloned()
    }

    /// Looks at what is new in a cluster's logs.
    pub(crate) fn look_at_logs(&self, cluster: &MemoryCluster) {
        let id = cluster.cluster_id();
        let mut new = Vec::new();
        {
            let mut looked = self.looked.lock();
            for place in self.scene.places() {
                let from = looked.entry((id.clone(), place.clone())).or_insert(Offset(0));
                for (offset, record) in cluster.log(&place, *from) {
                    *from = Offset(offset.0 + 1);
                    let Some(record) = record_of(record.payload.as_deref()) else { continue };
                    new.push((place.clone(), offset, record));
                }
            }
        }
        for (place, offset, record) in new {
            note!(self.witness, "{id} {place} @{offset}: record {record}");
            let at_ms = self.now_ms();
            let append = Append { at_ms, cluster: id.clone(), place, offset, record };
            self.witness.observed().appends.push(append);
        }
    }

    /// A client's call: bounded in time, as its contract says.
    pub(crate) async fn client_call<T>(
        &self,
        who: &str,
        name: &'static str,
        act: impl Future<Output = ProviderResult<T>>,
    ) -> ProviderResult<T> {
        let limited = tokio::time::timeout(Duration::from_secs(5), self.call(who, name, act)).await;
        limited.unwrap_or_else(|_| {
            let error = ProviderError::new(ErrorKind::Unreachable, name, "no answer in time");
            Err(error.with_outcome(Outcome::Unknown))
        })
    }

    /// One call of a port: its delays, and what goes wrong with it.
    pub(crate) async fn call<T>(
        &self,
        who: &str,
        name: &'static str,
        act: impl Future<Output = ProviderResult<T>>,
    ) -> ProviderResult<T> {
        let unknown = || {
            let error = ProviderError::new(ErrorKind::Unreachable, name, "no answer in time");
            error.with_outcome(Outcome::Unknown)
        };
        tokio::time::sleep(self.weather.delay(4)).await;
        note!(self.witness, "{who}: {name}");
        if self.weather.strikes(Fault::CallRefused).is_some() {
            return Err(ProviderError::new(ErrorKind::Unavailable, name, "busy"));
        }
        if self.weather.strikes(Fault::CallLost).is_some() {
            return Err(unknown());
        }
        if let Some(shape) = self.weather.strikes(Fault::CallHangs) {
            if shape % 2 == 0 {
                let _ = act.await;
            }
            return std::future::pending().await;
        }
        let done = act.await;
        if self.weather.strikes(Fault::CallAnswerLost).is_some() {
            return Err(unknown());
        }
        let slow = self.weather.strikes(Fault::CallSlow);
        let slow = slow.map_or(Duration::ZERO, |shape| shaped(shape, 200, 4_000));
        tokio::time::sleep(self.weather.delay(4) + slow).await;
        done
    }
}

/// The record that a payload names.
pub(crate) fn record_of(payload: Option<&[u8]>) -> Option<usize> {
    let number = u64::from_le_bytes(payload?.try_into().ok()?);
    usize::try_from(number).ok()
}
