//! Several endpoints, each in a zone of its own that may refuse what would switch it, or lag behind.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kutover_controller::config::Config;
use kutover_controller::driver::{Backends, Controller};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{ClusterProvisioner as _, DnsProvider, Published, RecordData, RecordSet};
use kutover_core::words::{Colour, DnsName, Generation};
use kutover_memory::{MemoryDns, MemoryWorld};

use super::{CONFIG, backends};

pub const FIRST: &str = "kafka.orders.test";
pub const SECOND: &str = "kafka.internal.orders.test";
pub const THIRD: &str = "kafka.partners.orders.test";

pub struct Zones {
    pub dns: MemoryDns,
    refuse: Mutex<BTreeSet<&'static str>>,
    behind: Mutex<BTreeSet<&'static str>>,
}

impl Zones {
    pub fn new(world: &MemoryWorld) -> Arc<Self> {
        Arc::new(Self { dns: world.dns.clone(), refuse: Mutex::default(), behind: Mutex::default() })
    }

    /// Those that refuse generation 2 from now on.
    pub fn refuse(&self, endpoints: &[&'static str]) {
        *self.refuse.lock().unwrap() = endpoints.iter().copied().collect();
    }

    /// Those of which some server does not serve generation 2 from now on.
    pub fn behind(&self, endpoints: &[&'static str]) {
        *self.behind.lock().unwrap() = endpoints.iter().copied().collect();
    }
}

pub fn generation(published: &Published) -> Option<Generation> {
    published.owner.as_ref().map(|owner| owner.target.generation)
}

fn is_in(set: &Mutex<BTreeSet<&'static str>>, endpoint: &DnsName, published: &Published) -> bool {
    generation(published) == Some(Generation(2)) && set.lock().unwrap().contains(endpoint.as_str())
}

#[async_trait]
impl DnsProvider for Zones {
    async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published> {
        self.dns.read(endpoint).await
    }

    async fn compare_and_set(
        &self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        if is_in(&self.refuse, endpoint, desired) {
            let what = format!("publish {endpoint}");
            return Err(ProviderError::new(ErrorKind::NotAuthorised, what, "this zone is not yours"));
        }
        self.dns.compare_and_set(endpoint, expected, desired).await
    }

    async fn is_visible(&self, endpoint: &DnsName, published: &Published) -> ProviderResult<bool> {
        let behind = is_in(&self.behind, endpoint, published);
        Ok(!behind && self.dns.is_visible(endpoint, published).await?)
    }
}

/// A controller of several endpoints; `plan` is more of the plan.
pub fn controller_of(world: &MemoryWorld, endpoints: &[&str], dns: Arc<Zones>, plan: &str) -> Controller {
    let all: Vec<_> = endpoints.iter().map(|name| format!("{{ name = \"{name}\", port = 9092 }}")).collect();
    let text = CONFIG.replace(&format!("{{ name = \"{FIRST}\", port = 9092 }}"), &all.join(", "));
    let config = Config::parse(&text.replace("[plan]", &format!("[plan]\n{plan}"))).unwrap();
    Controller::new(config.cutover_plan(), config.deployment(), Backends { dns, ..backends(world) })
}

/// An endpoint's record set as a person has made it: it leads to blue, or elsewhere.
pub async fn made_by_hand(world: &MemoryWorld, endpoint: &str, ttl_s: u32, data: Option<RecordData>) {
    let blue = world.provisioner.describe(Colour::Blue).await.unwrap().unwrap().endpoint;
    let set = RecordSet { ttl_s, data: data.unwrap_or(blue) };
    world.dns.overwrite(&endpoint.into(), Published { endpoint: Some(set), owner: None });
}
