//! The port.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::ports::{
    ConnectAdmin, ConnectorConfig, ConnectorDescription, ConnectorState, SourceOffsets,
};
use kutover_core::words::{ClusterId, ConnectorName};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;
use ureq::http::{Method, StatusCode};

use crate::http::{Answered, ConnectOptions, Http, path};
use crate::wire::{Connectors, Described, Root, Status, makes_stopped, properties_in};

/// How long a change may take to be seen: distributed workers rebalance for it.
const SEEN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// The Connect workers of one cluster, asked over HTTP.
pub struct HttpConnect {
    http: Http,
}

impl std::fmt::Debug for HttpConnect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpConnect").finish_non_exhaustive()
    }
}

impl HttpConnect {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// The certificates cannot be read.
    pub fn new(options: &ConnectOptions) -> ProviderResult<Self> {
        Ok(Self { http: Http::new(options)? })
    }

    async fn root(&self) -> ProviderResult<Root> {
        const WHAT: &str = "ask the Connect workers whose they are";
        parsed(WHAT, self.http.call(WHAT, Method::GET, "/", None).await?.ok(WHAT)?)
    }

    async fn names(&self) -> ProviderResult<Vec<String>> {
        const WHAT: &str = "list connectors";
        parsed(WHAT, self.http.call(WHAT, Method::GET, "/connectors", None).await?.ok(WHAT)?)
    }

    async fn status(&self, name: &ConnectorName) -> ProviderResult<Option<Status>> {
        let what = format!("look at connector {name}");
        let answered = self.http.call(&what, Method::GET, &path(name.as_str(), "/status"), None).await?;
        if answered.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        parsed(&what, answered.ok(&what)?).map(Some)
    }

    async fn exists(&self, name: &ConnectorName) -> ProviderResult<bool> {
        Ok(self.tasks(name).await?.is_some())
    }

    /// How many tasks a connector has been divided into; `None` if there is no such one.
    async fn tasks(&self, name: &ConnectorName) -> ProviderResult<Option<usize>> {
        let what = format!("look for connector {name}");
        let answered = self.http.call(&what, Method::GET, &path(name.as_str(), ""), None).await?;
        if answered.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let described: Described = parsed(&what, answered.ok(&what)?)?;
        Ok(Some(described.tasks.len()))
    }

    /// What one answer says of a source's offsets.
    async fn named_offsets(&self, what: &str, name: &ConnectorName) -> ProviderResult<SourceOffsets> {
        let answered = self.http.call(what, Method::GET, &path(name.as_str(), "/offsets"), None).await?;
        if answered.status == StatusCode::NOT_FOUND && self.exists(name).await? {
            let reason = "these workers cannot tell; Kafka Connect 3.6 and newer can (KIP-875)";
            return Err(ProviderError::new(ErrorKind::Unsupported, what, reason));
        }
        let body = answered.ok(what)?;
        let mut offsets = SourceOffsets::default();
        let all = body["offsets"].as_array().into_iter().flatten();
        for one in all.filter(|one| !one["offset"].is_null()) {
            offsets.insert(one["partition"].clone(), one["offset"].clone());
        }
        Ok(offsets)
    }

    /// Looks until something is seen, or not for too long. Workers that are moving connectors tell nothing of them: what was
    /// asked for is no less under way.
    async fn seen<F>(&self, what: &str, look: impl Fn() -> F) -> ProviderResult<()>
    where
        F: Future<Output = ProviderResult<bool>>,
    {
        let deadline = Instant::now() + SEEN;
        loop {
            match look().await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.kind == ErrorKind::Unavailable => {}
                Err(error) => return Err(error),
            }
            if Instant::now() > deadline {
                return Err(not_seen(what));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn is(&self, name: &ConnectorName, state: ConnectorState) -> ProviderResult<bool> {
        let does = |status: Status| status.state() == state && !status.is_settling();
        Ok(self.status(name).await?.is_some_and(does))
    }

    /// A connector says that it runs before it is divided into tasks, and each of these begins, or fails, for itself.
    async fn runs(&self, what: &str, name: &ConnectorName) -> ProviderResult<bool> {
        let tasks = self.tasks(name).await?.ok_or_else(|| missing(what))?;
        let Some(status) = self.status(name).await? else { return Ok(false) };
        if status.failed() {
            let reason = "it, or a task of it, has failed: see the worker's log";
            return Err(ProviderError::new(ErrorKind::Refused, what, reason));
        }
        Ok(status.runs(tasks))
    }

    /// A stopped connector gets a config; any other keeps its own.
    async fn configure(
        &self,
        what: &str,
        name: &ConnectorName,
        config: &ConnectorConfig,
    ) -> ProviderResult<()> {
        let stopped = |status: &Status| status.state() == ConnectorState::Stopped;
        match self.status(name).await? {
            Some(status) if stopped(&status) => {}
            Some(_) => {
                let reason = "it is there and not stopped; stop or delete it first";
                return Err(ProviderError::new(ErrorKind::Refused, what, reason));
            }
            None => {
                let reason = "the workers are busy with another change";
                return Err(ProviderError::new(ErrorKind::Unavailable, what, reason));
            }
        }
        let body = json!(config.expose());
        let answered = self.http.call(what, Method::PUT, &path(name.as_str(), "/config"), Some(body)).await?;
        if answered.status.is_success() { Ok(()) } else { Err(refused_config(what, &answered)) }
    }
}

fn parsed<T: DeserializeOwned>(what: &str, body: Value) -> ProviderResult<T> {
    // The error's text could quote what was answered.
    serde_json::from_value(body)
        .map_err(|_| ProviderError::new(ErrorKind::Invalid, what, "the answer is not a Connect worker's"))
}

/// It may still come.
fn not_seen(what: &str) -> ProviderError {
    let reason = format!("it was asked for and is not seen after {} s", SEEN.as_secs());
    ProviderError::new(ErrorKind::Unavailable, what, reason).with_outcome(Outcome::Unknown)
}

fn missing(what: &str) -> ProviderError {
    ProviderError::new(ErrorKind::NotFound, what, "there is no such connector")
}

/// What the workers say of a config quotes it: only the properties' names are passed on.
fn refused_config(what: &str, answered: &Answered) -> ProviderError {
    let names = properties_in(answered.body["message"].as_str().unwrap_or_default());
    let reason = if names.is_empty() {
        format!("{}: see the worker's log (is the connector's plugin installed there?)", answered.status)
    } else {
        format!("{}: the workers do not take its properties {}", answered.status, names.join(", "))
    };
    ProviderError::new(answered.kind(), what, reason)
}

#[async_trait]
impl ConnectAdmin for HttpConnect {
    async fn kafka_cluster_id(&self) -> ProviderResult<ClusterId> {
        Ok(ClusterId::new(self.root().await?.kafka_cluster_id))
    }

    async fn connectors(&self) -> ProviderResult<BTreeMap<ConnectorName, ConnectorDescription>> {
        const WHAT: &str = "look at connectors";
        let answered = self.http.call(WHAT, Method::GET, "/connectors?expand=status", None).await?;
        let expanded: Connectors = parsed(WHAT, answered.ok(WHAT)?)?;
        // A connector without a status is left out of the expansion without a word.
        let mut all = BTreeMap::new();
        for name in self.names().await? {
            let unknown =
                |kind, reason| Err(ProviderError::new(kind, format!("look at connector {name}"), reason));
            let Some(status) = expanded.get(&name).map(|one| &one.status).filter(|one| !one.is_settling())
            else {
                return unknown(ErrorKind::Unavailable, "it is being moved or stopped; ask again");
            };
            let Some(kind) = status.kind() else {
                return unknown(
                    ErrorKind::Invalid,
                    "its plugin is not installed: nobody can tell if it reads or writes",
                );
            };
            let (state, failed, tasks) = (status.state(), status.failed(), status.tasks());
            all.insert(ConnectorName::new(name), ConnectorDescription { kind, state, failed, tasks });
        }
        Ok(all)
    }

    async fn config(&self, name: &ConnectorName) -> ProviderResult<ConnectorConfig> {
        let what = format!("read the config of connector {name}");
        let answered = self.http.call(&what, Method::GET, &path(name.as_str(), "/config"), None).await?;
        let mut properties: BTreeMap<String, String> = parsed(&what, answered.ok(&what)?)?;
        // The workers put it in, and it stands in the path already.
        properties.remove("name");
        Ok(ConnectorConfig::new(properties))
    }

    async fn create_stopped(&self, name: &ConnectorName, config: &ConnectorConfig) -> ProviderResult<()> {
        let what = format!("create connector {name}");
        let version = self.root().await?.version;
        if !makes_stopped(&version) {
            let reason =
                format!("Connect {version} would run it at once; 3.7 or newer makes it stopped (KIP-980)");
            return Err(ProviderError::new(ErrorKind::Unsupported, what, reason));
        }
        let body = json!({ "name": name, "config": config.expose(), "initial_state": "STOPPED" });
        let answered = self.http.call(&what, Method::POST, "/connectors", Some(body)).await?;
        match answered.status {
            StatusCode::CONFLICT => self.configure(&what, name, config).await,
            status if status.is_success() => {
                let stopped = |status: Status| status.state() == ConnectorState::Stopped;
                self.seen(&what, || async { Ok(self.status(name).await?.is_some_and(stopped)) }).await
            }
            _ => Err(refused_config(&what, &answered)),
        }
    }

    async fn set_state(&self, name: &ConnectorName, state: ConnectorState) -> ProviderResult<()> {
        let verb = match state {
            ConnectorState::Running => "resume",
            ConnectorState::Paused => "pause",
            ConnectorState::Stopped => "stop",
        };
        let what = format!("{verb} connector {name}");
        // A standalone worker answers for one that is not there as for a fault of its own.
        if !self.exists(name).await? {
            return Err(missing(&what));
        }
        let verb = path(name.as_str(), &format!("/{verb}"));
        self.http.call(&what, Method::PUT, &verb, None).await?.ok(&what)?;
        if state == ConnectorState::Running {
            return self.seen(&what, || self.runs(&what, name)).await;
        }
        self.seen(&what, || self.is(name, state)).await
    }

    /// A worker names the partitions of which it has heard so far, and only then reads its topic to the end for their
    /// offsets (`Worker.sourceConnectorOffsets`): one that is new may be missing, and one that was taken away is still named,
    /// without an offset. What was written before one answer is in the next.
    async fn offsets(&self, name: &ConnectorName) -> ProviderResult<SourceOffsets> {
        let what = format!("read the offsets of connector {name}");
        let deadline = Instant::now() + SEEN;
        let mut last = self.named_offsets(&what, name).await?;
        loop {
            let again = self.named_offsets(&what, name).await?;
            if again == last {
                return Ok(again);
            }
            if Instant::now() > deadline {
                let reason = "each answer is another one: does somebody else alter them?";
                return Err(ProviderError::new(ErrorKind::Unavailable, what, reason));
            }
            last = again;
        }
    }

    async fn alter_offsets(&self, name: &ConnectorName, offsets: &SourceOffsets) -> ProviderResult<()> {
        let what = format!("alter the offsets of connector {name}");
        let Some(status) = self.status(name).await? else { return Err(missing(&what)) };
        if status.state() != ConnectorState::Stopped {
            return Err(ProviderError::new(ErrorKind::Refused, what, "it is not stopped; stop it first"));
        }
        let one = |partition: &Value, offset: &Value| json!({ "partition": partition, "offset": offset });
        let before = self.offsets(name).await?;
        // What is not named keeps its offset, unless it is taken away.
        let gone = before.iter().filter(|(partition, _)| !offsets.contains(partition));
        let mut all: Vec<Value> = gone.map(|(partition, _)| one(partition, &Value::Null)).collect();
        all.extend(offsets.iter().map(|(partition, offset)| one(partition, offset)));
        if all.is_empty() {
            return Ok(());
        }
        let body = json!({ "offsets": all });
        let at = path(name.as_str(), "/offsets");
        self.http.call(&what, Method::PATCH, &at, Some(body)).await?.ok(&what)?;
        self.seen(&what, || async { Ok(self.offsets(name).await? == *offsets) }).await
    }

    async fn delete(&self, name: &ConnectorName) -> ProviderResult<()> {
        let what = format!("delete connector {name}");
        let answered = self.http.call(&what, Method::DELETE, &path(name.as_str(), ""), None).await?;
        if answered.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        answered.ok(&what)?;
        self.seen(&what, || async { Ok(self.status(name).await?.is_none()) }).await
    }
}
