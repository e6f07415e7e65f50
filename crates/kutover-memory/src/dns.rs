//! The authoritative side of DNS as a map.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{DnsProvider, EndpointAnswer, Published, RecordData};
use kutover_core::words::{ClusterId, DnsName};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::faults::{Faults, SLOW_MS};
use crate::signal::Signal;
use crate::watch::MemoryWatch;

#[derive(Debug, Default)]
struct State {
    stored: BTreeMap<DnsName, Published>,
    spoilt: BTreeSet<DnsName>,
    hidden: usize,
    history: Vec<(DnsName, Published)>,
    /// With weather: what the authoritative servers answer with from when on.
    served: BTreeMap<DnsName, Vec<(Instant, Published)>>,
}

/// The authoritative side: compare-and-set of what stands at each endpoint.
#[derive(Clone, Debug)]
pub struct MemoryDns {
    state: Arc<Mutex<State>>,
    faults: Faults,
    changed: Signal,
}

impl MemoryDns {
    /// Empty: every endpoint is there with nothing at it.
    pub fn new(faults: &Faults) -> Self {
        Self { state: Arc::default(), faults: faults.clone(), changed: Signal::default() }
    }

    /// What stands at an endpoint, past all faults.
    pub fn published(&self, endpoint: &DnsName) -> Published {
        self.state.lock().stored.get(endpoint).cloned().unwrap_or_default()
    }

    /// Puts something there without asking, as a foreign hand would.
    pub fn overwrite(&self, endpoint: &DnsName, published: Published) {
        let mut state = self.state.lock();
        state.spoilt.remove(endpoint);
        state.store(endpoint, published, &self.faults);
        drop(state);
        self.changed.raise();
    }

    /// Makes the owner record at an endpoint unreadable, until it is overwritten.
    pub fn spoil_owner(&self, endpoint: &DnsName) {
        self.state.lock().spoilt.insert(endpoint.clone());
    }

    /// The next so many calls of `is_visible` say no.
    pub fn hide_for(&self, calls: usize) {
        self.state.lock().hidden = calls;
    }

    /// Everything that was ever stored, in order: shows whether something stood there in between.
    pub fn history(&self) -> Vec<(DnsName, Published)> {
        self.state.lock().history.clone()
    }

    /// Whether anything was ever stored that looks so: [`MemoryDns::history`] without a copy of it.
    pub fn ever(&self, looks: impl FnMut(&(DnsName, Published)) -> bool) -> bool {
        self.state.lock().history.iter().any(looks)
    }

    /// A producer's look at an endpoint. Its answers come from the map, at once and at every change.
    pub fn watch(&self, endpoint: &DnsName) -> MemoryWatch {
        MemoryWatch::new(self.clone(), endpoint.clone(), self.changed.clone())
    }

    pub(crate) fn answer(&self, endpoint: &DnsName) -> EndpointAnswer {
        let state = self.state.lock();
        if state.spoilt.contains(endpoint) {
            return EndpointAnswer::Failed("the owner record makes no sense".into());
        }
        let Some(published) = state.stored.get(endpoint) else { return EndpointAnswer::Empty };
        match &published.endpoint {
            Some(set) => match &set.data {
                RecordData::Addresses(addresses) if !addresses.is_empty() => EndpointAnswer::Found {
                    addresses: addresses.clone(),
                    owner: published.owner.clone(),
                    ttl_ms: u64::from(set.ttl_s) * 1000,
                },
                RecordData::Addresses(_) => EndpointAnswer::Empty,
                RecordData::Cname(name) => EndpointAnswer::Failed(format!("no addresses at {name}")),
            },
            None => EndpointAnswer::Empty,
        }
    }

    /// What the authoritative servers answer with now, and how many changes that has seen; `Err` where it makes no
    /// sense.
    pub(crate) fn served(&self, endpoint: &DnsName) -> (usize, Result<Published, &'static str>) {
        let state = self.state.lock();
        let (changes, published) = state.served(endpoint);
        let spoilt = state.spoilt.contains(endpoint);
        (changes, if spoilt { Err("the owner record makes no sense") } else { Ok(published) })
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    async fn act<T: Send + 'static>(
        &self,
        call: &str,
        endpoint: &DnsName,
        act: impl FnOnce(&mut State) -> ProviderResult<T> + Send + 'static,
    ) -> ProviderResult<T> {
        let (state, endpoint) = (Arc::clone(&self.state), endpoint.clone());
        self.faults
            .run(&format!("dns.{call}"), move || {
                let mut state = state.lock();
                if state.spoilt.contains(&endpoint) {
                    let what = format!("read _kutover.{endpoint}");
                    let reason = "the owner record makes no sense; restore it or delete it";
                    return Err(ProviderError::new(ErrorKind::Invalid, what, reason));
                }
                act(&mut state)
            })
            .await
    }
}

impl State {
    fn store(&mut self, endpoint: &DnsName, published: Published, faults: &Faults) {
        if let Some(weather) = faults.weather() {
            let delay_ms = weather.visible_ms(endpoint);
            let delay = Duration::from_millis(delay_ms);
            if delay_ms >= SLOW_MS {
                faults.fire("dns-visible-late");
            }
            let served = self.served.entry(endpoint.clone()).or_default();
            let after = served.last().map(|(at, _)| *at);
            let at = (Instant::now() + delay).max(after.unwrap_or_else(Instant::now));
            served.push((at, published.clone()));
        }
        self.history.push((endpoint.clone(), published.clone()));
        self.stored.insert(endpoint.clone(), published);
    }

    fn stored(&self, endpoint: &DnsName) -> Published {
        self.stored.get(endpoint).cloned().unwrap_or_default()
    }

    fn served(&self, endpoint: &DnsName) -> (usize, Published) {
        let Some(served) = self.served.get(endpoint) else { return (0, self.stored(endpoint)) };
        let now = Instant::now();
        let changes = served.iter().take_while(|(at, _)| *at <= now).count();
        (changes, changes.checked_sub(1).map(|newest| served[newest].1.clone()).unwrap_or_default())
    }
}

#[async_trait]
impl DnsProvider for MemoryDns {
    async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published> {
        let at = endpoint.clone();
        self.act("read", endpoint, move |state| Ok(state.stored(&at))).await
    }

    async fn compare_and_set(
        &self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        let (this, at) = (self.clone(), endpoint.clone());
        let (expected, desired) = (expected.clone(), desired.clone());
        self.act("compare_and_set", endpoint, move |state| {
            let found = state.stored(&at);
            if found != expected {
                let generation = found.owner.map(|owner| (owner.target.generation, owner.term));
                let reason = match generation {
                    Some((generation, term)) => {
                        format!("generation {generation} of term {term} stands there")
                    }
                    None => "something else stands there".into(),
                };
                return Err(ProviderError::new(ErrorKind::Conflict, format!("publish record {at}"), reason));
            }
            state.store(&at, desired, &this.faults);
            this.changed.raise();
            Ok(())
        })
        .await
    }

    async fn is_visible(&self, endpoint: &DnsName, published: &Published) -> ProviderResult<bool> {
        let (at, published) = (endpoint.clone(), published.clone());
        self.act("is_visible", endpoint, move |state| {
            if state.hidden > 0 {
                state.hidden -= 1;
                return Ok(false);
            }
            Ok(state.stored(&at) == published && state.served(&at).1 == published)
        })
        .await
    }
}

/// The cluster that the owner record at an endpoint names, if any: what tests ask most.
impl MemoryDns {
    /// The active cluster's id by the owner record.
    pub fn active_cluster(&self, endpoint: &DnsName) -> Option<ClusterId> {
        self.published(endpoint).owner.map(|owner| owner.target.cluster_id)
    }
}
