//! What it takes to make a producer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kutover_core::error::ProviderError;
use kutover_core::messages::HEARTBEAT_MS;
use kutover_core::ports::{EndpointWatch, MemberLinks, ProducerFactory, TokenProvider};
use kutover_core::switch::{HandOver, Order, SwitchPolicy, UnknownPolicy};
use kutover_core::words::{Colour, DeploymentName, DnsName, InstanceName};
use kutover_dns::{ResolverWatch, Resolvers, WatchOptions};
use kutover_kafka::{
    ClientHooks, ClientProperties, KafkaMemberLinks, KafkaProducerFactory, PropertyError, Waiver,
};
use tokio::sync::{mpsc, oneshot};

use crate::driver::{self, Mode, Setup};
use crate::producer::{BlueGreenProducer, Handle};
use crate::shared::Shared;

/// Why there is no producer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Something has to be said.
    #[error("`{0}` is missing: {1}")]
    Missing(&'static str, &'static str),
    /// Something said makes no sense.
    #[error("`{0}`: {1}")]
    Invalid(&'static str, String),
    /// A client property of this colour is not accepted.
    #[error("cluster {0}: {1}")]
    Property(Colour, PropertyError),
    /// A part could not be made.
    #[error(transparent)]
    Provider(ProviderError),
    /// No cluster agreed to be the deployment's in time.
    #[error("deployment {deployment}: {reason}")]
    NotStarted {
        /// Which.
        deployment: DeploymentName,
        /// What was missing.
        reason: String,
    },
}

/// Makes a [`BlueGreenProducer`].
#[derive(Clone)]
pub struct Builder {
    deployment: Option<DeploymentName>,
    endpoint: Option<DnsName>,
    clusters: BTreeMap<Colour, BTreeMap<String, String>>,
    waivers: BTreeSet<Waiver>,
    instance: Option<String>,
    mode: Mode,
    policy: SwitchPolicy,
    unknown: Option<UnknownPolicy>,
    park_bytes: usize,
    heartbeat: Duration,
    close_timeout: Duration,
    connect_timeout: Duration,
    topics: Vec<String>,
    resolvers: Resolvers,
    watch_options: WatchOptions,
    hooks: ClientHooks,
    tokens: Option<Arc<dyn TokenProvider>>,
    factory: Option<Arc<dyn ProducerFactory>>,
    watch: Option<Arc<dyn EndpointWatch>>,
    links: Option<Arc<dyn MemberLinks>>,
    silent: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            deployment: None,
            endpoint: None,
            clusters: BTreeMap::new(),
            waivers: BTreeSet::new(),
            instance: None,
            mode: Mode::Owned,
            policy: SwitchPolicy::default(),
            unknown: None,
            park_bytes: 32 << 20,
            heartbeat: Duration::from_millis(HEARTBEAT_MS),
            close_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            topics: Vec::new(),
            resolvers: Resolvers::System,
            watch_options: WatchOptions::default(),
            hooks: ClientHooks::default(),
            tokens: None,
            factory: None,
            watch: None,
            links: None,
            silent: false,
        }
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the properties, which may hold secrets.
        f.debug_struct("Builder")
            .field("deployment", &self.deployment)
            .field("endpoint", &self.endpoint)
            .field("mode", &self.mode)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// librdkafka's default `message.timeout.ms`.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(300);
/// The longest time that is waited for anything: a century and some, which every clock can be set ahead by.
const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

impl Builder {
    /// The deployment's name. Required; an owner record of another deployment moves nobody.
    #[must_use]
    pub fn deployment(mut self, name: impl Into<String>) -> Self {
        self.deployment = Some(DeploymentName::new(name));
        self
    }

    /// The DNS name that the deployment's clients bootstrap from. Required.
    #[must_use]
    pub fn endpoint(mut self, name: impl Into<String>) -> Self {
        self.endpoint = Some(DnsName::new(name));
        self
    }

    /// librdkafka's properties for the clients of one colour, without `bootstrap.servers`. Required for both colours
    /// of an owned deployment; `acks=all`, idempotence and `metadata.recovery.strategy=none` are the default and given up by
    /// name only ([`Builder::waive`]).
    #[must_use]
    pub fn cluster<K: Into<String>, V: Into<String>>(
        mut self,
        colour: Colour,
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let properties = properties.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self.clusters.insert(colour, properties);
        self
    }

    /// Gives up a safety by name (L15, L16).
    #[must_use]
    pub fn waive(mut self, waiver: Waiver) -> Self {
        self.waivers.insert(waiver);
        self
    }

    /// This producer's name among the deployment's members; a random one if not set.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// The deployment is not owned by a controller: somebody else moves the DNS record, and the producer follows once an
    /// answer has held for a TTL and leads to a cluster with another id. Clients bootstrap from the record's addresses at
    /// this port, with the properties of [`Colour::Blue`]. Promises nothing about order over a way back.
    #[must_use]
    pub fn follow_dns(mut self, port: u16) -> Self {
        self.mode = Mode::FollowDns { port };
        self
    }

    /// How sends are treated while a switch is under way. Default: [`Order::Ordered`].
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.policy.order = order;
        self
    }

    /// What becomes of records that may or may not have been written. Default: returned in `Ordered`, sent again in
    /// `Overlap`.
    #[must_use]
    pub fn unknown(mut self, policy: UnknownPolicy) -> Self {
        self.unknown = Some(policy);
        self
    }

    /// All of the switch's numbers, its order too.
    #[must_use]
    pub fn policy(mut self, policy: SwitchPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// How many bytes of records may be parked while a switch is under way. Default: 32 MiB.
    #[must_use]
    pub fn park_bytes(mut self, bytes: usize) -> Self {
        self.park_bytes = bytes;
        self
    }

    /// How often this producer shows in the members topic that it lives. Default:
    /// [`HEARTBEAT_MS`], give or take a fifth.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval.min(LONGEST);
        self
    }

    /// How long ending may take before what is open is given up and returned. Default: 30 s.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout.min(LONGEST);
        self
    }

    /// How long connecting to a cluster may take. Default: 10 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout.min(LONGEST);
        self
    }

    /// Topics to warm before the first record; later clients are warmed for the topics in use anyway.
    #[must_use]
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// Who is asked for the endpoint. Default: the system's configuration.
    #[must_use]
    pub fn resolvers(mut self, resolvers: Resolvers) -> Self {
        self.resolvers = resolvers;
        self
    }

    /// How often is asked.
    #[must_use]
    pub fn watch_options(mut self, options: WatchOptions) -> Self {
        self.watch_options = options;
        self
    }

    /// Callbacks that you would have put into a `ClientContext`: logs, statistics, errors, tokens.
    #[must_use]
    pub fn hooks(mut self, hooks: ClientHooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// Where tokens come from for `sasl.mechanism=OAUTHBEARER`: asked on the runtime that [`Builder::build`] is called
    /// on, from the clients' own threads, so that runtime must have more than one thread or be idle then.
    #[must_use]
    pub fn tokens(mut self, provider: Arc<dyn TokenProvider>) -> Self {
        self.tokens = Some(provider);
        self
    }

    /// Another maker of clients than librdkafka's.
    #[must_use]
    pub fn factory(mut self, factory: Arc<dyn ProducerFactory>) -> Self {
        self.factory = Some(factory);
        self
    }

    /// Another watch over the endpoint than the resolver's.
    #[must_use]
    pub fn watch(mut self, watch: Arc<dyn EndpointWatch>) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Other links to control and members topic than librdkafka's.
    #[must_use]
    pub fn links(mut self, links: Arc<dyn MemberLinks>) -> Self {
        self.links = Some(links);
        self
    }

    /// Neither reads the control topic nor writes to the members topic: moves by DNS alone, and the controller never
    /// counts this producer as moved. What `follow_dns` implies.
    #[must_use]
    pub fn without_links(mut self) -> Self {
        self.silent = true;
        self
    }

    /// Connects to the cluster that the deployment is on, registers, and is ready to send.
    ///
    /// # Errors
    /// [`BuildError`]: what is missing or wrong, or why no cluster could be agreed on in time.
    pub async fn build(mut self) -> Result<BlueGreenProducer, BuildError> {
        if let Some(provider) = self.tokens.take() {
            self.hooks = self.hooks.with_tokens(provider, tokio::runtime::Handle::current());
        }
        let Some(deployment) = self.deployment.clone() else {
            return Err(BuildError::Missing("deployment", "name the deployment, as its owner record does"));
        };
        let properties = self.properties()?;
        let delivery_timeout = delivery_timeout(&properties)?;
        let unknown = self.unknown.unwrap_or_else(|| UnknownPolicy::default_for(self.policy.order));
        let hand_over = HandOver::new(self.policy.order, unknown, self.park_bytes);
        let watch = self.make_watch()?;
        let (inbox, messages) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(hand_over, delivery_timeout, inbox));
        let (started, ready) = oneshot::channel();
        let incarnation = uuid::Uuid::new_v4().to_string();
        let instance = self.instance.clone().unwrap_or_else(|| format!("producer-{}", &incarnation[..8]));
        let setup = Setup {
            deployment: deployment.clone(),
            instance: InstanceName::new(instance.clone()),
            incarnation: incarnation.clone(),
            mode: self.mode.clone(),
            policy: self.policy.clone(),
            factory: self.make_factory(&properties),
            watch,
            links: self.make_links(&properties),
            heartbeat: self.heartbeat,
            close_timeout: self.close_timeout,
            topics: self.topics,
            started,
        };
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("kutover-switch".into())
            .spawn(move || driver::run(of_thread, setup, messages))
            .map_err(|error| BuildError::Invalid("thread", format!("the switch's thread: {error}")))?;
        // From here on dropping the handle ends the thread, also when the caller gives up on this future.
        let producer = BlueGreenProducer::new(Handle { shared, instance, incarnation });
        let reason = match ready.await {
            Ok(Ok(())) => return Ok(producer),
            Ok(Err(reason)) => reason,
            Err(_) => "the switch's thread ended".to_owned(),
        };
        Err(BuildError::NotStarted { deployment, reason })
    }

    fn properties(&self) -> Result<BTreeMap<Colour, ClientProperties>, BuildError> {
        let mut checked = BTreeMap::new();
        for (colour, map) in &self.clusters {
            let properties = ClientProperties::with_waivers(map.clone(), &self.waivers)
                .map_err(|error| BuildError::Property(*colour, error))?;
            checked.insert(*colour, properties);
        }
        if self.factory.is_none() {
            if !checked.contains_key(&Colour::Blue) {
                return Err(BuildError::Missing("cluster", "give the client properties of blue"));
            }
            if self.mode == Mode::Owned && !checked.contains_key(&Colour::Green) {
                return Err(BuildError::Missing("cluster", "give the client properties of green"));
            }
        }
        Ok(checked)
    }

    fn make_watch(&self) -> Result<Arc<dyn EndpointWatch>, BuildError> {
        if let Some(watch) = &self.watch {
            return Ok(Arc::clone(watch));
        }
        let Some(endpoint) = &self.endpoint else {
            return Err(BuildError::Missing("endpoint", "name the DNS name that clients bootstrap from"));
        };
        let watch = ResolverWatch::new(endpoint, self.resolvers.clone(), self.watch_options.clone())
            .map_err(BuildError::Provider)?;
        Ok(Arc::new(watch))
    }

    fn make_factory(&self, properties: &BTreeMap<Colour, ClientProperties>) -> Arc<dyn ProducerFactory> {
        self.factory.clone().unwrap_or_else(|| {
            let factory = KafkaProducerFactory::new(properties.clone())
                .with_hooks(self.hooks.clone())
                .with_connect_timeout(self.connect_timeout);
            Arc::new(factory)
        })
    }

    fn make_links(&self, properties: &BTreeMap<Colour, ClientProperties>) -> Option<Arc<dyn MemberLinks>> {
        if self.silent || self.mode != Mode::Owned {
            return None;
        }
        if self.links.is_none() && self.factory.is_some() {
            // Clients that are not librdkafka's have no properties to make links from.
            return None;
        }
        self.links.clone().or_else(|| {
            let links = KafkaMemberLinks::new(properties.clone()).with_hooks(self.hooks.clone());
            Some(Arc::new(links))
        })
    }
}

/// The longest delivery timeout of any colour: a parked record keeps its own, counted from acceptance.
fn delivery_timeout(properties: &BTreeMap<Colour, ClientProperties>) -> Result<Duration, BuildError> {
    let mut longest = None;
    for properties in properties.values() {
        let set = ["message.timeout.ms", "delivery.timeout.ms"]
            .into_iter()
            .find_map(|name| Some((name, properties.get(name)?)));
        let timeout = match set {
            None => MESSAGE_TIMEOUT,
            // Zero means for ever (librdkafka's CONFIGURATION.md).
            Some((_, "0")) => Duration::from_millis(u64::MAX / 4),
            Some((name, text)) => Duration::from_millis(text.parse().map_err(|_| {
                BuildError::Invalid(name, format!("`{text}` is not a number of milliseconds"))
            })?),
        };
        longest = longest.max(Some(timeout));
    }
    Ok(longest.unwrap_or(MESSAGE_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither the builder nor why there is no producer shows a property's value.
    #[tokio::test]
    async fn no_secret_is_shown() {
        let secret = [("sasl.password", "hunter2"), ("sasl.mechanism", "hunter2"), ("acks", "1")];
        let builder = Builder::default().deployment("orders").endpoint("kafka.orders.test");
        let builder = builder.cluster(Colour::Blue, secret).cluster(Colour::Green, secret);
        let shown = format!("{builder:?}");
        let error = match builder.build().await {
            Err(error) => format!("{error} {error:?}"),
            Ok(_) => panic!("weak acknowledgements were accepted"),
        };
        assert!(shown.contains("orders") && error.contains("acks"), "{shown} {error}");
        assert!(!shown.contains("hunter2") && !error.contains("hunter2"), "{shown} {error}");
    }
}
