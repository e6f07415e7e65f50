//! Kafka Connect: the workers that belong to one cluster, and the connectors that they run.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ProviderResult;
use crate::words::{ClusterId, ConnectorName};

/// Which way a connector carries records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectorKind {
    /// Into the cluster. How far it has come is in offsets of its own.
    Source,
    /// Out of the cluster. How far it has come is in the commits of the group `connect-NAME`.
    Sink,
}

/// What a connector is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectorState {
    /// Its tasks carry records.
    Running,
    /// Its tasks stand by.
    Paused,
    /// It has no tasks (KIP-875).
    Stopped,
}

/// A connector as its workers describe it, without its config.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConnectorDescription {
    /// Which way it carries records.
    pub kind: ConnectorKind,
    /// What it does. One whose tasks have not all ended yet is not stopped.
    pub state: ConnectorState,
    /// Whether it, or one of its tasks, has failed.
    pub failed: bool,
    /// How many tasks of it there are.
    pub tasks: usize,
}

/// A connector's config. Any of the values can be a password, so none is ever shown, and it cannot be journalled.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnectorConfig(BTreeMap<String, String>);

impl ConnectorConfig {
    /// Takes over properties as they are.
    pub fn new(properties: BTreeMap<String, String>) -> Self {
        Self(properties)
    }

    /// The properties with their values in the open, for the workers that need them.
    pub fn expose(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// The first property whose value names one of these addresses.
    pub fn naming<'a>(&self, addresses: impl IntoIterator<Item = &'a String> + Clone) -> Option<&str> {
        let names = |value: &str| {
            let mut parts = value.split([',', ' ', '/', ';', '\n']);
            parts.any(|part| addresses.clone().into_iter().any(|address| part == address))
        };
        self.0.iter().find(|(_, value)| names(value)).map(|(name, _)| name.as_str())
    }
}

impl fmt::Debug for ConnectorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// How far a source has come: an offset for each of its partitions, both in the connector's own words. They can hold what
/// is in the system that it reads, so they are not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SourceOffsets(BTreeMap<String, (Value, Value)>);

impl SourceOffsets {
    /// Adds a partition with its offset.
    pub fn insert(&mut self, partition: Value, offset: Value) {
        self.0.insert(partition.to_string(), (partition, offset));
    }

    /// Partitions with their offsets.
    pub fn iter(&self) -> impl Iterator<Item = &(Value, Value)> {
        self.0.values()
    }

    /// Whether a partition has an offset.
    pub fn contains(&self, partition: &Value) -> bool {
        self.0.contains_key(&partition.to_string())
    }
}

impl fmt::Debug for SourceOffsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceOffsets of {} partitions", self.0.len())
    }
}

/// The Connect workers of one cluster (KIP-26). Needs Kafka Connect 3.7 or newer: stopped connectors and their offsets are
/// KIP-875's, connectors that are made stopped KIP-980's.
///
/// # Contract
///
/// 1. `kafka_cluster_id` is that of the Kafka cluster that the workers belong to, asked anew each time.
/// 2. `connectors` names every connector. One that does not say what it does is an error, never left out.
/// 3. `create_stopped` makes a connector of which no task runs before somebody asks for it. Where a stopped one of that
///    name is there, it gets the config; one that is not stopped is refused and left as it is.
/// 4. `set_state` has said `Ok` only when the connector is seen to do what was asked for: `Running`, that every task of it
///    runs, of which there is one at least. It is refused while the connector, or a task of it, has failed, and starts none
///    of these again. A source that is stopped has written down how far it came: what `offsets` gives then does not change any
///    more.
/// 5. After `alter_offsets`, `offsets` gives these and no others. It is refused, and changes nothing, while the connector
///    is not stopped.
/// 6. `delete` has said `Ok` only when the connector is gone; one that is not there is gone already. Of any other call it is
///    `NotFound`.
/// 7. No error shows a value of a config.
#[async_trait]
pub trait ConnectAdmin: Send + Sync {
    /// The cluster that the workers belong to.
    ///
    /// # Errors
    /// Unreachable, not authorised.
    async fn kafka_cluster_id(&self) -> ProviderResult<ClusterId>;

    /// All connectors.
    ///
    /// # Errors
    /// Unreachable, not authorised; a connector whose state is not known (yet).
    async fn connectors(&self) -> ProviderResult<BTreeMap<ConnectorName, ConnectorDescription>>;

    /// The config of a connector.
    ///
    /// # Errors
    /// Unreachable, not authorised, not found.
    async fn config(&self, name: &ConnectorName) -> ProviderResult<ConnectorConfig>;

    /// Makes a connector, or sees to the config of a stopped one.
    ///
    /// # Errors
    /// Unreachable, not authorised; refused: it is there and not stopped, or the workers do not take its config.
    async fn create_stopped(&self, name: &ConnectorName, config: &ConnectorConfig) -> ProviderResult<()>;

    /// Has a connector do something else.
    ///
    /// # Errors
    /// Unreachable, not authorised, not found; refused: it has failed, and is to run; unavailable: it was asked for and is not
    /// seen yet.
    async fn set_state(&self, name: &ConnectorName, state: ConnectorState) -> ProviderResult<()>;

    /// How far a source has come.
    ///
    /// # Errors
    /// Unreachable, not authorised, not found; unsupported by the workers' version.
    async fn offsets(&self, name: &ConnectorName) -> ProviderResult<SourceOffsets>;

    /// Says how far a stopped source has come.
    ///
    /// # Errors
    /// As `offsets`; refused while it is not stopped, or where the connector does not let its offsets be altered.
    async fn alter_offsets(&self, name: &ConnectorName, offsets: &SourceOffsets) -> ProviderResult<()>;

    /// Removes a connector. The offsets of a source, and the commits of a sink's group, stay.
    ///
    /// # Errors
    /// Unreachable, not authorised.
    async fn delete(&self, name: &ConnectorName) -> ProviderResult<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_configs_nor_offsets_are_shown() {
        let config = ConnectorConfig::new([("password".to_owned(), "hunter2".to_owned())].into());
        assert_eq!(format!("{config:?}"), "{\"password\"}");
        let mut offsets = SourceOffsets::default();
        offsets.insert("hunter2".into(), 7.into());
        assert!(!format!("{offsets:?}").contains("hunter2"));
        assert!(offsets.contains(&"hunter2".into()) && !offsets.contains(&"other".into()));
    }

    #[test]
    fn a_config_that_leads_to_the_old_cluster_is_named() {
        let blue = ["blue:9092".to_owned(), "blue2:9092".to_owned()];
        let config = |value: &str| ConnectorConfig::new([("history.servers".into(), value.into())].into());
        for value in ["blue:9092", "other:1,blue2:9092", "PLAINTEXT://blue:9092"] {
            assert_eq!(config(value).naming(&blue), Some("history.servers"), "{value}");
        }
        assert_eq!(config("darkblue:9092, blue:90921").naming(&blue), None);
    }
}
