//! The data path: clients whose deliveries a test turns, or that deliver by themselves as the weather lets them.

mod attempt;
mod client;
mod foreign;
mod lines;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::owner::Target;
use kutover_core::ports::{ClientEvents, MemberLink, MemberLinks, ProducerClient, ProducerFactory};
use parking_lot::Mutex;

use crate::provisioner::MemoryProvisioner;

pub use client::{Fate, MemoryClient};
pub use foreign::ForeignProducer;

/// Which acknowledgement a client waits for (L15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// All in-sync replicas'.
    #[default]
    All,
    /// The leader's alone: what no replica has yet is lost with the leader.
    Leader,
    /// None: everything counts as acknowledged when it is sent.
    None,
}

/// What a client waits for, in milliseconds of virtual time, and how much it puts into one batch. The defaults are
/// librdkafka's, but for the shorter delivery time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// From taking a record to giving it up.
    pub delivery_timeout_ms: u64,
    /// From sending a batch to sending it again.
    pub request_timeout_ms: u64,
    /// The wait before the first repetition; it doubles up to ten times as much.
    pub retry_ms: u64,
    /// For how long a refused topic is refused from inside `try_send`, whatever the partition.
    pub topic_error_ms: u64,
    /// Records in a batch, at most. One a batch is what clashes of producer ids need (L16).
    pub batch_records: usize,
    /// Which acknowledgement it waits for.
    pub acks: Acks,
    /// Whether its batches carry sequences: without them, a repetition is another append.
    pub idempotent: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            delivery_timeout_ms: 30_000,
            request_timeout_ms: 5000,
            retry_ms: 100,
            topic_error_ms: 2000,
            batch_records: 64,
            acks: Acks::All,
            idempotent: true,
        }
    }
}

impl ClientOptions {
    /// The same options, with what a user's client properties say of acknowledgements and idempotence.
    #[must_use]
    pub fn with_properties(mut self, properties: &BTreeMap<String, String>) -> Self {
        let acks = properties.get("acks").or_else(|| properties.get("request.required.acks"));
        self.acks = match acks.map(String::as_str) {
            Some("0") => Acks::None,
            Some("1") => Acks::Leader,
            _ => Acks::All,
        };
        self.idempotent = properties.get("enable.idempotence").is_none_or(|value| value == "true");
        self
    }
}

/// A client and, in a world without weather, what keeps it for the test. With weather nothing does: dropping a client
/// means something (L1).
type Made = (Weak<MemoryClient>, Option<Arc<MemoryClient>>);

/// Makes [`MemoryClient`]s for the clusters of a provisioner.
#[derive(Clone, Debug)]
pub struct MemoryFactory {
    clusters: MemoryProvisioner,
    options: ClientOptions,
    clients: Arc<Mutex<Vec<Made>>>,
}

impl MemoryFactory {
    /// Finds clusters by the target's bootstrap servers.
    pub fn new(clusters: &MemoryProvisioner) -> Self {
        Self { clusters: clusters.clone(), options: ClientOptions::default(), clients: Arc::default() }
    }

    /// The same factory, making clients with other options.
    #[must_use]
    pub fn with_options(mut self, options: ClientOptions) -> Self {
        self.options = options;
        self
    }

    /// Every client that was made and lives, oldest first. Without weather all of them live.
    pub fn clients(&self) -> Vec<Arc<MemoryClient>> {
        self.clients.lock().iter().filter_map(|(client, _)| client.upgrade()).collect()
    }

    /// [`ProducerFactory::connect`], giving the client as what it is.
    ///
    /// # Errors
    /// As the port says.
    pub async fn connect_client(
        &self,
        target: &Target,
        topics: &[String],
        events: Arc<dyn ClientEvents>,
    ) -> ProviderResult<Arc<MemoryClient>> {
        let what = format!("connect to {}", target.bootstrap.join(","));
        let nobody = || ProviderError::new(ErrorKind::Unreachable, &what, "nothing answers there");
        let Some(cluster) = self.clusters.cluster_at(&target.bootstrap) else {
            let error = nobody();
            return self.clusters.faults().run("nowhere.connect", move || Err(error)).await;
        };
        let nobody = nobody();
        let (wanted, wanted_topics, there) = (target.clone(), topics.to_vec(), cluster.clone());
        let call = cluster.call("connect");
        let connected = cluster.faults().run(&call, move || {
            if !there.client_reaches() {
                return Err(nobody);
            }
            let found = there.cluster_id();
            if !wanted.cluster_id.as_str().is_empty() && found != wanted.cluster_id {
                let reason = format!("cluster {found} answers there, not {}", wanted.cluster_id);
                return Err(ProviderError::new(ErrorKind::Refused, what, reason));
            }
            if let Some(topic) = wanted_topics.iter().find(|topic| there.partition_count(topic).is_none()) {
                let reason = format!("it has no topic {topic}");
                return Err(ProviderError::new(ErrorKind::NotFound, what, reason));
            }
            Ok(there.init_producer_id())
        });
        let producer_id = connected.await?;
        events.producer_id(producer_id);
        let calm = cluster.faults().weather().is_none();
        let client = Arc::new(MemoryClient::new(cluster, events, producer_id, self.options));
        let kept = calm.then(|| Arc::clone(&client));
        let mut clients = self.clients.lock();
        clients.retain(|(client, _)| client.strong_count() > 0);
        clients.push((Arc::downgrade(&client), kept));
        Ok(client)
    }
}

#[async_trait]
impl ProducerFactory for MemoryFactory {
    async fn connect(
        &self,
        target: &Target,
        topics: &[String],
        events: Arc<dyn ClientEvents>,
    ) -> ProviderResult<Arc<dyn ProducerClient>> {
        Ok(self.connect_client(target, topics, events).await?)
    }
}

/// Opens members' links to the clusters of a provisioner.
#[derive(Clone, Debug)]
pub struct MemoryLinks(MemoryProvisioner);

impl MemoryLinks {
    /// Finds clusters by the target's bootstrap servers.
    pub fn new(clusters: &MemoryProvisioner) -> Self {
        Self(clusters.clone())
    }
}

#[async_trait]
impl MemberLinks for MemoryLinks {
    async fn open(&self, target: &Target) -> ProviderResult<Arc<dyn MemberLink>> {
        let found = self.0.cluster_at(&target.bootstrap);
        let cluster = found.ok_or_else(|| {
            let what = format!("open a link to {}", target.bootstrap.join(","));
            ProviderError::new(ErrorKind::Unreachable, what, "nothing answers there")
        })?;
        Ok(Arc::new(cluster.link()))
    }
}
