//! One world: what all its actors share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::words::{ClusterId, DnsName, IncarnationId};
use kutover_memory::{MemoryCluster, MemoryWorld};
use parking_lot::Mutex;

use crate::observed::{Act, Append};
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

/// Something that is so from some time on; waiters are woken in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Flag {
    raised: std::sync::atomic::AtomicBool,
    told: tokio::sync::Notify,
}

impl Flag {
    pub(crate) fn raise(&self) {
        self.raised.store(true, std::sync::atomic::Ordering::Relaxed);
        self.told.notify_waiters();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(std::sync::atomic::Ordering::Relaxed)
    }

    pub(crate) async fn raised(&self) {
        // There is one thread, and no pause between the look and the wait.
        while !self.is_raised() {
            self.told.notified().await;
        }
    }
}

/// See the [module](self).
pub(crate) struct World {
    pub(crate) scene: Scene,
    pub(crate) memory: MemoryWorld,
    pub(crate) weather: Arc<Weather>,
    pub(crate) witness: Witness,
    clusters: Mutex<BTreeMap<ClusterId, Known>>,
    /// Clusters that are out for a while.
    out: Mutex<std::collections::BTreeSet<ClusterId>>,
    first: Mutex<Option<ClusterId>>,
    /// What the last controller stopped at.
    pub(crate) last_stop: Mutex<Option<String>>,
    /// Set once traffic is to end. No watch channel: it wakes its receivers in a random order.
    ending: Flag,
}

impl World {
    pub(crate) fn new(scene: Scene, weather: Arc<Weather>, witness: Witness) -> Arc<Self> {
        Arc::new(Self {
            scene,
            memory: MemoryWorld::with_weather(Arc::clone(&weather) as _),
            weather,
            witness,
            clusters: Mutex::default(),
            out: Mutex::default(),
            first: Mutex::default(),
            last_stop: Mutex::default(),
            ending: Flag::default(),
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
        self.ending.raise();
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_raised()
    }

    pub(crate) async fn until_ending(&self) {
        self.ending.raised().await;
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
            self.witness.act(None, Act::OutOfReach(id.clone()));
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

    /// Everything that was ever appended, in the order in which it was.
    pub(crate) fn appends(&self) -> Vec<Append> {
        let mut all = Vec::new();
        for (_, cluster) in self.memory.provisioner.ever() {
            let id = cluster.cluster_id();
            for append in cluster.appends(0) {
                let Some(record) = record_of(append.record.payload.as_deref()) else { continue };
                let kutover_memory::Append { sequence, at_ms, place, offset, .. } = append;
                all.push((sequence, Append { at_ms, cluster: id.clone(), place, offset, record }));
            }
        }
        all.sort_by_key(|(sequence, _)| *sequence);
        for (_, append) in &all {
            note!(self.witness, "{append:?}");
        }
        all.into_iter().map(|(_, append)| append).collect()
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
