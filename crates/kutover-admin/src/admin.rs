//! The client itself, and the port's calls handed on to where they are done.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_core::Stream;
use krafka::admin::AdminClient;
use krafka::{Kafka, MetadataRecoveryStrategy};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{
    Access, ClusterAdmin, ClusterIdentity, FenceKind, FenceProof, GroupListing, LagBatch, LagQuery,
    LagSource, NewAccess, NewTopic, PartitionEnd, ScramUsers, TokenProvider, TopicConfigs, TopicDescription,
};
use kutover_core::words::{
    CONTROLLER_CLIENT_ID, GroupId, Offset, PROBE_CLIENT_ID, TopicName, TopicPartition, is_reserved_topic,
};

use crate::config::AdminConfig;
use crate::errors::provider;
use crate::fence::Fence;
use crate::security;

/// One cluster's admin client.
///
/// It never follows DNS to another cluster: metadata recovery is off, as everywhere in kutover (L16).
pub struct KafkaAdmin {
    pub(crate) config: AdminConfig,
    pub(crate) kafka: Kafka,
    pub(crate) admin: Arc<AdminClient>,
    pub(crate) fence: Fence,
    /// Topics that could be read before a fence of this client's, until it is proven that they can be under it.
    pub(crate) unproven: Mutex<BTreeSet<TopicName>>,
}

impl std::fmt::Debug for KafkaAdmin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaAdmin").field("config", &self.config).finish_non_exhaustive()
    }
}

impl KafkaAdmin {
    /// Connects to a cluster.
    ///
    /// # Errors
    /// `Invalid` names a bootstrap list or security property that makes no sense; `Unreachable` if nothing answers;
    /// `NotAuthorised` if the credentials are refused.
    pub async fn connect(config: AdminConfig) -> ProviderResult<Self> {
        let (properties, tokens) = (&config.properties, config.tokens.as_ref());
        let kafka = open(&config, &config.bootstrap, properties, tokens, CONTROLLER_CLIENT_ID).await?;
        let admin = Arc::new(kafka.admin().default_api_timeout(config.timeouts.call));
        let fence = Fence::new(&config.fence, &admin);
        Ok(Self { config, kafka, admin, fence, unproven: Mutex::default() })
    }

    /// Whether a cluster lets in the client that proves its fences, by the ordinary clients' path. It asks for nothing there.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), of that client.
    pub async fn reach_as_probe(config: &AdminConfig) -> ProviderResult<()> {
        open_probe(config).await.map(drop)
    }

    /// A new client under the probe's name, by the ordinary clients' path.
    pub(crate) async fn open_probe(&self) -> ProviderResult<Kafka> {
        open_probe(&self.config).await
    }

    /// Whom the cluster takes the probe for, as far as its properties tell.
    pub(crate) fn probes_principal(&self) -> String {
        let name = security::principal(self.config.of_the_probe());
        name.unwrap_or_else(|| format!("the client {PROBE_CLIENT_ID}"))
    }
}

async fn open_probe(config: &AdminConfig) -> ProviderResult<Kafka> {
    let bootstrap =
        if config.client_bootstrap.is_empty() { &config.bootstrap } else { &config.client_bootstrap };
    open(config, bootstrap, config.of_the_probe(), config.tokens_of_the_probe(), PROBE_CLIENT_ID).await
}

async fn open(
    config: &AdminConfig,
    bootstrap: &[String],
    properties: &BTreeMap<String, String>,
    tokens: Option<&Arc<dyn TokenProvider>>,
    client_id: &str,
) -> ProviderResult<Kafka> {
    let servers = bootstrap.join(",");
    let what = format!("connect to {servers}");
    if servers.is_empty() {
        return Err(ProviderError::new(ErrorKind::Invalid, "connect", "no bootstrap servers are given"));
    }
    let mut builder = Kafka::builder(servers)
        .client_id(client_id)
        .connect_timeout(config.timeouts.connect)
        .request_timeout(config.timeouts.request)
        .metadata_recovery_strategy(MetadataRecoveryStrategy::None);
    if let Some(auth) = security::auth(properties, tokens)? {
        builder = builder.security(auth);
    }
    builder.connect().await.map_err(|error| provider(what, &error))
}

/// The topics that a fence may touch at all.
pub(crate) fn fenceable(topics: &[TopicName]) -> Vec<TopicName> {
    let mut topics: Vec<_> =
        topics.iter().filter(|topic| !is_reserved_topic(topic.as_str())).cloned().collect();
    topics.sort();
    topics.dedup();
    topics
}

#[async_trait]
impl ClusterAdmin for KafkaAdmin {
    async fn identity(&self) -> ProviderResult<ClusterIdentity> {
        self.read_identity().await
    }

    async fn topics(&self) -> ProviderResult<Vec<TopicDescription>> {
        self.read_topics().await
    }

    async fn create_topic(&self, topic: &NewTopic) -> ProviderResult<()> {
        self.ensure_topic(topic).await
    }

    async fn delete_topics(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.remove_topics(topics).await
    }

    async fn access(&self) -> ProviderResult<Access> {
        self.read_access().await
    }

    async fn grant(&self, access: &NewAccess) -> ProviderResult<ScramUsers> {
        self.add_access(access).await
    }

    async fn groups(&self) -> ProviderResult<GroupListing> {
        self.read_groups().await
    }

    async fn ends(&self, topics: &[TopicName]) -> ProviderResult<Vec<PartitionEnd>> {
        Ok(self.read_ends(topics).await?.ends)
    }

    async fn set_start_offsets(
        &self,
        group: &GroupId,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> ProviderResult<Vec<TopicPartition>> {
        self.write_start_offsets(group, offsets).await
    }

    async fn raise_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceKind> {
        self.raise(&fenceable(topics)).await
    }

    async fn prove_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceProof> {
        self.prove(&fenceable(topics)).await
    }

    async fn lift_fence(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.fence.lift(&fenceable(topics)).await
    }

    async fn alter_configs(&self, configs: &TopicConfigs) -> ProviderResult<()> {
        self.change_configs(configs).await
    }

    async fn fence_traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
        self.fence.traces().await
    }

    async fn prove_open(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.prove_takes(&fenceable(topics)).await
    }
}

impl LagSource for KafkaAdmin {
    fn lag(&self, query: LagQuery) -> Pin<Box<dyn Stream<Item = ProviderResult<LagBatch>> + Send + '_>> {
        Box::pin(self.stream_lag(query))
    }
}
