//! Makes data-path clients: a new one for every cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::owner::Target;
use kutover_core::ports::{ClientEvents, ProducerClient, ProducerFactory};
use kutover_core::words::{CONTROL_TOPIC, ClusterId, Colour};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer;

use crate::client::KafkaProducerClient;
use crate::context::DataContext;
use crate::error::{kind_of, provider_error, task_failed};
use crate::hooks::ClientHooks;
use crate::properties::ClientProperties;

/// How long warming one leader's connection may take. A leader that is slower is left to the first record.
const WARM_LEADER: Duration = Duration::from_secs(2);

/// Makes clients over librdkafka, with properties per colour.
#[derive(Clone, Debug)]
pub struct KafkaProducerFactory {
    properties: BTreeMap<Colour, ClientProperties>,
    hooks: ClientHooks,
    connect_timeout: Duration,
}

impl KafkaProducerFactory {
    /// A factory with the properties of each colour's clients, no hooks, and 10 s to connect.
    pub fn new(properties: BTreeMap<Colour, ClientProperties>) -> Self {
        Self { properties, hooks: ClientHooks::default(), connect_timeout: Duration::from_secs(10) }
    }

    /// The same factory with the user's callbacks.
    #[must_use]
    pub fn with_hooks(mut self, hooks: ClientHooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// The same factory with another bound for a whole `connect`.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }
}

#[async_trait]
impl ProducerFactory for KafkaProducerFactory {
    async fn connect(
        &self,
        target: &Target,
        topics: &[String],
        events: Arc<dyn ClientEvents>,
    ) -> ProviderResult<Arc<dyn ProducerClient>> {
        let Some(properties) = self.properties.get(&target.colour) else {
            let reason = format!("no client properties for colour {}; add that colour's", target.colour);
            return Err(ProviderError::new(ErrorKind::Invalid, what(target), reason));
        };
        let attempt = Attempt {
            target: target.clone(),
            topics: topics.to_vec(),
            deadline: Instant::now() + self.connect_timeout,
        };
        let (properties, hooks) = (properties.clone(), self.hooks.clone());
        let client = tokio::task::spawn_blocking(move || attempt.connect(&properties, hooks, events))
            .await
            .map_err(|error| task_failed(what(target), &error))??;
        Ok(Arc::new(client))
    }
}

/// Whether a cluster could have a topic of this name (Kafka's `Topic.validate`: 249 bytes at most). Every name that a service
/// ever sent to is warmed, and rdkafka cannot ask for one with a NUL and panics over one of more than 512 bytes: none of
/// them may keep a producer from connecting.
fn can_name_a_topic(name: &str) -> bool {
    (1..=249).contains(&name.len()) && !name.contains('\0')
}

fn what(target: &Target) -> String {
    format!("connect to {} at {}", target.colour, target.bootstrap.join(","))
}

/// One attempt to connect, on a thread that may block.
struct Attempt {
    target: Target,
    topics: Vec<String>,
    deadline: Instant,
}

impl Attempt {
    fn connect(
        &self,
        properties: &ClientProperties,
        hooks: ClientHooks,
        events: Arc<dyn ClientEvents>,
    ) -> ProviderResult<KafkaProducerClient> {
        if self.target.bootstrap.is_empty() {
            let reason = "the target names no bootstrap servers";
            return Err(ProviderError::new(ErrorKind::Invalid, what(&self.target), reason));
        }
        let context = DataContext::new(
            events,
            hooks,
            properties.get("debug").is_some(),
            properties.get("statistics.interval.ms") != Some("0"),
        );
        let producer = properties
            .producer_config(&self.target.bootstrap)
            .create_with_context(context)
            .map_err(|error| provider_error(what(&self.target), &error).with_outcome(Outcome::NotDone))?;
        let client = KafkaProducerClient::start(producer)
            .map_err(|error| ProviderError::new(ErrorKind::Unavailable, what(&self.target), error))?;
        let cluster_id = self.identify(&client)?;
        self.warm_topics(&client)?;
        if properties.is_idempotent() && client.context().wait_producer_id(self.deadline).is_none() {
            return Err(self.no_answer(&client, "the cluster gave no producer id"));
        }
        Ok(client.identified(cluster_id))
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Asks the cluster who it is, before anything else is done there.
    fn identify(&self, client: &KafkaProducerClient) -> ProviderResult<ClusterId> {
        // Any metadata answer carries the cluster's id. Asking for one topic that may be missing is the smallest
        // question that opens a connection; without it a client that is not idempotent would wait for ever.
        if client.producer().client().fetch_metadata(Some(CONTROL_TOPIC), self.left()).is_err() {
            return Err(self.no_answer(client, "no metadata"));
        }
        // Leaks its string at every call (rdkafka 0.39), hence once per client.
        let Some(id) = client.producer().client().fetch_cluster_id(self.left()) else {
            return Err(self.no_answer(client, "the cluster did not tell its id"));
        };
        let (found, wanted) = (ClusterId::new(id), &self.target.cluster_id);
        if !wanted.as_str().is_empty() && found != *wanted {
            let reason = format!(
                "cluster {found} answers there, not cluster {wanted}; check what the address points at"
            );
            return Err(ProviderError::new(ErrorKind::Refused, what(&self.target), reason));
        }
        Ok(found)
    }

    /// Loads the topics' metadata and opens a connection to every leader. A topic that the cluster does not have, or
    /// does not show to this client, is left to its records: they are refused one by one.
    fn warm_topics(&self, client: &KafkaProducerClient) -> ProviderResult<()> {
        let native = client.producer().client();
        let mut leaders = BTreeMap::new();
        for topic in &self.topics {
            if !can_name_a_topic(topic) {
                tracing::warn!(?topic, cluster = %self.target.colour, "no cluster can have a topic of this name");
                continue;
            }
            let metadata = native
                .fetch_metadata(Some(topic), self.left())
                .map_err(|_| self.no_answer(client, &format!("no metadata of topic {topic}")))?;
            for entry in metadata.topics() {
                if let Some(error) = entry.error() {
                    let code = RDKafkaErrorCode::from(error);
                    tracing::warn!(topic, ?code, cluster = %self.target.colour, "topic cannot be warmed");
                }
                for partition in entry.partitions().iter().filter(|partition| partition.leader() >= 0) {
                    leaders.entry(partition.leader()).or_insert((topic.as_str(), partition.id()));
                }
            }
        }
        // An offsets request goes to the partition's leader, so it opens just the connection that records will take.
        let bound = self.left().min(WARM_LEADER);
        std::thread::scope(|scope| {
            for (leader, (topic, partition)) in leaders {
                scope.spawn(move || {
                    if let Err(error) = native.fetch_watermarks(topic, partition, bound) {
                        tracing::debug!(leader, topic, "connection not warmed: {error}");
                    }
                });
            }
        });
        Ok(())
    }

    /// The error of a step that got no answer in time, or whose client died.
    fn no_answer(&self, client: &KafkaProducerClient, step: &str) -> ProviderError {
        let last = match client.producer().client().fatal_error() {
            Some(fatal) => Some(fatal),
            None => client.context().last_error(),
        };
        // Nothing was written: whatever the reason, the outcome is known.
        let error = match last {
            Some((code, text)) => {
                ProviderError::new(kind_of(code), what(&self.target), format!("{step}: {text}"))
            }
            None => ProviderError::new(ErrorKind::Unreachable, what(&self.target), format!("{step} in time")),
        };
        error.with_outcome(Outcome::NotDone)
    }
}
