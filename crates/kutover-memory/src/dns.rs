//! The authoritative side of DNS as a map.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{DnsProvider, EndpointAnswer, Published, RecordData};
use kutover_core::words::{ClusterId, DnsName};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::faults::Faults;
use crate::watch::MemoryWatch;

#[derive(Debug, Default)]
struct State {
    stored: BTreeMap<DnsName, Published>,
    spoilt: BTreeSet<DnsName>,
    hidden: usize,
    history: Vec<(DnsName, Published)>,
}

/// The authoritative side: compare-and-set of what stands at each endpoint.
#[derive(Clone, Debug)]
pub struct MemoryDns {
    state: Arc<Mutex<State>>,
    faults: Faults,
    changed: watch::Sender<u64>,
}

impl MemoryDns {
    /// Empty: every endpoint is there with nothing at it.
    pub fn new(faults: &Faults) -> Self {
        Self { state: Arc::default(), faults: faults.clone(), changed: watch::Sender::new(0) }
    }

    /// What stands at an endpoint, past all faults.
    pub fn published(&self, endpoint: &DnsName) -> Published {
        self.state.lock().stored.get(endpoint).cloned().unwrap_or_default()
    }

    /// Puts something there without asking, as a foreign hand would.
    pub fn overwrite(&self, endpoint: &DnsName, published: Published) {
        let mut state = self.state.lock();
        state.spoilt.remove(endpoint);
        state.store(endpoint, published);
        drop(state);
        self.changed.send_modify(|version| *version += 1);
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

    /// A producer's look at an endpoint. Its answers come from the map, at once and at every change.
    pub fn watch(&self, endpoint: &DnsName) -> MemoryWatch {
        MemoryWatch::new(self.clone(), endpoint.clone(), self.changed.subscribe())
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

    async fn act<T>(
        &self,
        call: &str,
        endpoint: &DnsName,
        act: impl FnOnce(&mut State) -> ProviderResult<T> + Send,
    ) -> ProviderResult<T> {
        let state = Arc::clone(&self.state);
        self.faults
            .run(&format!("dns.{call}"), move || {
                let mut state = state.lock();
                if state.spoilt.contains(endpoint) {
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
    fn store(&mut self, endpoint: &DnsName, published: Published) {
        self.history.push((endpoint.clone(), published.clone()));
        self.stored.insert(endpoint.clone(), published);
    }
}

#[async_trait]
impl DnsProvider for MemoryDns {
    async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published> {
        self.act("read", endpoint, |state| Ok(state.stored.get(endpoint).cloned().unwrap_or_default())).await
    }

    async fn compare_and_set(
        &self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        let changed = &self.changed;
        self.act("compare_and_set", endpoint, |state| {
            let found = state.stored.get(endpoint).cloned().unwrap_or_default();
            if found != *expected {
                let generation = found.owner.map(|owner| (owner.target.generation, owner.term));
                let reason = match generation {
                    Some((generation, term)) => {
                        format!("generation {generation} of term {term} stands there")
                    }
                    None => "something else stands there".into(),
                };
                let what = format!("publish record {endpoint}");
                return Err(ProviderError::new(ErrorKind::Conflict, what, reason));
            }
            state.store(endpoint, desired.clone());
            changed.send_modify(|version| *version += 1);
            Ok(())
        })
        .await
    }

    async fn is_visible(&self, endpoint: &DnsName, published: &Published) -> ProviderResult<bool> {
        self.act("is_visible", endpoint, |state| {
            if state.hidden > 0 {
                state.hidden -= 1;
                return Ok(false);
            }
            Ok(state.stored.get(endpoint).cloned().unwrap_or_default() == *published)
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
