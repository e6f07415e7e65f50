//! One world: what all its actors share.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::words::{ClusterId, DnsName, IncarnationId};
use kutover_memory::{MemoryCluster, MemoryWorld};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::observed::{Act, Append};
use crate::producer::Shared;
use crate::scene::Scene;
use crate::weather::{Fault, OUTLIVES_CALLER, Weather, mostly_short, shaped};
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

/// One controller that is awake.
pub(crate) struct Awake(Arc<World>);

impl Drop for Awake {
    fn drop(&mut self) {
        let mut awake = self.0.awake.lock();
        awake.0 -= 1;
        if awake.0 == 0 {
            let until_ms = self.0.now_ms();
            self.0.witness.observed().controlled.push((awake.1, until_ms));
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
    /// Processes of producers that were started, by the key of what they say as members.
    pub(crate) producers: Mutex<BTreeMap<String, Weak<Shared>>>,
    /// How many controllers are awake, and since when there was one.
    awake: Mutex<(u32, u64)>,
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
            producers: Mutex::default(),
            awake: Mutex::default(),
            last_stop: Mutex::default(),
            ending: Flag::default(),
        })
    }

    /// A controller is awake, until what is given is dropped.
    pub(crate) fn awake(self: &Arc<Self>) -> Awake {
        let mut awake = self.awake.lock();
        if awake.0 == 0 {
            awake.1 = self.now_ms();
        }
        awake.0 += 1;
        Awake(Arc::clone(self))
    }

    /// Whether a producer's process lives and is elsewhere than where the owner record leads.
    pub(crate) fn producer_stays(&self, key: &str) -> bool {
        let Some(shared) = self.producers.lock().get(key).and_then(Weak::upgrade) else { return false };
        let owner = self.memory.dns.published(&self.endpoint()).owner;
        shared.lives() && shared.cluster() != owner.map(|owner| owner.target.cluster_id)
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

    /// The cluster of an incarnation, whether it stands or not.
    pub(crate) fn cluster_of(&self, incarnation: &IncarnationId) -> Option<ClusterId> {
        let clusters = self.clusters.lock();
        let known = clusters.values().find(|known| known.incarnation == *incarnation)?;
        Some(known.cluster.cluster_id())
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

    /// One call of a port that only looks: its delays, and what goes wrong with it.
    pub(crate) async fn call<T>(
        &self,
        who: &str,
        name: &'static str,
        act: impl Future<Output = ProviderResult<T>>,
    ) -> ProviderResult<T> {
        tokio::time::sleep(self.weather.delay(4)).await;
        match self.arrive(who, name, act).await {
            Some(given) => given,
            None => std::future::pending().await,
        }
    }

    /// One call of a port that changes something: once it has left it lands, whatever has become of its caller by then.
    pub(crate) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        who: &Arc<str>,
        name: &'static str,
        act: impl Future<Output = ProviderResult<T>> + Send + 'static,
    ) -> ProviderResult<T> {
        let late = self.weather.strikes(Fault::CallLate);
        let on_its_way =
            late.map_or_else(|| self.weather.delay(4), |shape| mostly_short(shape, 1_000, 600_000));
        let (answer, heard) = oneshot::channel();
        let (world, caller) = (Arc::clone(self), Arc::clone(who));
        tokio::spawn(async move {
            tokio::time::sleep(on_its_way).await;
            if answer.is_closed() {
                world.memory.faults.fire(OUTLIVES_CALLER);
                note!(world.witness, "{caller}: {name} lands although nobody waits for it");
            }
            if let Some(given) = world.arrive(&caller, name, act).await {
                // Who has given it up does not hear of it.
                let _ = answer.send(given);
            }
        });
        if late.is_some_and(|shape| shape >> 40 & 1 == 0) {
            // The connection broke; what was sent over it is on its way.
            return Err(no_answer(name));
        }
        match heard.await {
            Ok(given) => given,
            Err(_) => std::future::pending().await,
        }
    }

    /// What becomes of a call that arrives; `None`: nobody ever hears of it.
    async fn arrive<T>(
        &self,
        who: &str,
        name: &'static str,
        act: impl Future<Output = ProviderResult<T>>,
    ) -> Option<ProviderResult<T>> {
        note!(self.witness, "{who}: {name}");
        if self.weather.strikes(Fault::CallRefused).is_some() {
            return Some(Err(ProviderError::new(ErrorKind::Unavailable, name, "busy")));
        }
        if self.weather.strikes(Fault::CallLost).is_some() {
            return Some(Err(no_answer(name)));
        }
        if let Some(shape) = self.weather.strikes(Fault::CallHangs) {
            if shape % 2 == 0 {
                let _ = act.await;
            }
            return None;
        }
        let done = act.await;
        if self.weather.strikes(Fault::CallAnswerLost).is_some() {
            return Some(Err(no_answer(name)));
        }
        let slow = self.weather.strikes(Fault::CallSlow);
        let slow = slow.map_or(Duration::ZERO, |shape| shaped(shape, 200, 4_000));
        tokio::time::sleep(self.weather.delay(4) + slow).await;
        Some(done)
    }
}

/// A client's call: bounded in time, as its contract says.
pub(crate) async fn bounded<T>(
    name: &'static str,
    call: impl Future<Output = ProviderResult<T>>,
) -> ProviderResult<T> {
    let limited = tokio::time::timeout(Duration::from_secs(5), call).await;
    limited.unwrap_or_else(|_| Err(no_answer(name)))
}

fn no_answer(name: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Unreachable, name, "no answer in time").with_outcome(Outcome::Unknown)
}

/// The record that a payload names.
pub(crate) fn record_of(payload: Option<&[u8]>) -> Option<usize> {
    let number = u64::from_le_bytes(payload?.try_into().ok()?);
    usize::try_from(number).ok()
}
