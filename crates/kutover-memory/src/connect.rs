//! Kafka Connect in memory: workers whose connectors carry lines between files and a cluster, when a test has them work.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{
    ConnectAdmin, ConnectorConfig, ConnectorDescription, ConnectorKind, ConnectorState, SourceOffsets,
};
use kutover_core::words::{ClusterId, Colour, ConnectorName, GroupId, Offset, TopicPartition};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cluster::{MemoryCluster, StoredRecord};
use crate::faults::Faults;
use crate::provisioner::MemoryProvisioner;

/// What lies outside of Kafka: files by name, line by line. Both colours' connectors see the same ones.
pub type MemoryFiles = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

#[derive(Debug)]
struct Connector {
    config: ConnectorConfig,
    state: ConnectorState,
    failed: bool,
}

impl Connector {
    fn property(&self, name: &str) -> &str {
        self.config.expose().get(name).map_or("", String::as_str)
    }

    /// `connector.class` is `source` or `sink`, as the port's kinds are.
    fn kind(&self) -> ConnectorKind {
        if self.property("connector.class") == "source" { ConnectorKind::Source } else { ConnectorKind::Sink }
    }
}

#[derive(Debug, Default)]
struct State {
    connectors: BTreeMap<ConnectorName, Connector>,
    /// How far sources came, by connector and file. As in Kafka Connect they outlive their connector.
    positions: BTreeMap<ConnectorName, BTreeMap<String, usize>>,
    dead: bool,
}

/// The workers of one colour's cluster, scope `COLOUR.connect`. A connector's config names its `file`, and the `topic` that it
/// writes to or reads. Cloning gives another handle to the same workers.
#[derive(Clone, Debug)]
pub struct MemoryConnect {
    colour: Colour,
    provisioner: MemoryProvisioner,
    files: MemoryFiles,
    state: Arc<Mutex<State>>,
}

impl MemoryConnect {
    /// Workers without a connector.
    pub fn new(colour: Colour, provisioner: &MemoryProvisioner, files: &MemoryFiles) -> Self {
        let (provisioner, files) = (provisioner.clone(), Arc::clone(files));
        Self { colour, provisioner, files, state: Arc::default() }
    }

    /// What a connector does; `None` if there is no such one.
    pub fn state(&self, name: &ConnectorName) -> Option<ConnectorState> {
        self.state.lock().connectors.get(name).map(|connector| connector.state)
    }

    /// A task of a connector fails, or will once it is started.
    pub fn fail(&self, name: &ConnectorName) {
        self.set_failed(name, true);
    }

    /// Somebody has put right what made it fail, and started its task again.
    pub fn restart(&self, name: &ConnectorName) {
        self.set_failed(name, false);
    }

    fn set_failed(&self, name: &ConnectorName, failed: bool) {
        if let Some(connector) = self.state.lock().connectors.get_mut(name) {
            connector.failed = failed;
        }
    }

    /// Nothing answers any more, and no connector works.
    pub fn kill(&self) {
        self.state.lock().dead = true;
    }

    /// Every connector that runs carries what there is to carry, `most` records at the most. A task whose record is refused
    /// fails.
    pub fn work(&self, most: usize) {
        let Some(cluster) = self.provisioner.cluster(self.colour) else { return };
        let mut guard = self.state.lock();
        let State { connectors, positions, dead } = &mut *guard;
        let runs = |(_, one): &(&ConnectorName, &mut Connector)| {
            one.state == ConnectorState::Running && !one.failed && !*dead
        };
        for (name, connector) in connectors.iter_mut().filter(runs) {
            match connector.kind() {
                ConnectorKind::Source => {
                    let positions = positions.entry(name.clone()).or_default();
                    let position = positions.entry(connector.property("file").to_owned()).or_default();
                    connector.failed = !self.read_file(&cluster, connector, position, most);
                }
                ConnectorKind::Sink => self.write_file(&cluster, name, connector, most),
            }
        }
    }

    /// Writes what a file has from a position on to partition 0. Whether the cluster took it all.
    fn read_file(
        &self,
        cluster: &MemoryCluster,
        connector: &Connector,
        position: &mut usize,
        most: usize,
    ) -> bool {
        let files = self.files.lock();
        let place = TopicPartition::new(connector.property("topic"), 0);
        for line in files.get(connector.property("file")).into_iter().flatten().skip(*position).take(most) {
            let record = StoredRecord { payload: Some(line.clone().into_bytes()), ..StoredRecord::default() };
            if cluster.produce(&place, record).is_err() {
                return false;
            }
            *position += 1;
        }
        true
    }

    fn write_file(&self, cluster: &MemoryCluster, name: &ConnectorName, connector: &Connector, most: usize) {
        let group = GroupId::new(format!("connect-{name}"));
        let place = TopicPartition::new(connector.property("topic"), 0);
        // What a sink's group has no commit on it reads from the start (its worker's `auto.offset.reset`).
        let from = cluster.committed(&group, &place).unwrap_or(Offset(0));
        let mut next = from;
        for (offset, record) in cluster.log(&place, from).into_iter().take(most) {
            let line = String::from_utf8(record.payload.unwrap_or_default()).unwrap_or_default();
            self.files.lock().entry(connector.property("file").to_owned()).or_default().push(line);
            next = Offset(offset.0 + 1);
        }
        cluster.commit(&group, &place, next);
        cluster.set_live(&group, true);
    }

    async fn act<T: Send + 'static>(
        &self,
        name: &str,
        act: impl FnOnce(&mut State) -> ProviderResult<T> + Send + 'static,
    ) -> ProviderResult<T> {
        let call = format!("{}.connect.{name}", self.colour);
        let (state, what) = (Arc::clone(&self.state), call.clone());
        let faults: &Faults = self.provisioner.faults();
        let acting = move || {
            let mut state = state.lock();
            if state.dead {
                return Err(ProviderError::new(ErrorKind::Unreachable, what, "nothing answers"));
            }
            act(&mut state)
        };
        faults.run(&call, acting).await
    }

    async fn of<T: Send + 'static>(
        &self,
        call: &str,
        name: &ConnectorName,
        act: impl FnOnce(&mut Connector, &mut BTreeMap<String, usize>) -> ProviderResult<T> + Send + 'static,
    ) -> ProviderResult<T> {
        let (name, what) = (name.clone(), format!("{call} {name}"));
        self.act(call, move |state| match state.connectors.get_mut(&name) {
            Some(connector) => act(connector, state.positions.entry(name).or_default()),
            None => Err(ProviderError::new(ErrorKind::NotFound, what, "there is no such connector")),
        })
        .await
    }
}

fn refused(name: &ConnectorName) -> ProviderError {
    ProviderError::new(ErrorKind::Refused, format!("connector {name}"), "it is not stopped; stop it first")
}

fn offsets(positions: &BTreeMap<String, usize>) -> SourceOffsets {
    let mut offsets = SourceOffsets::default();
    for (file, position) in positions {
        offsets.insert(json!({ "file": file }), json!({ "position": position }));
    }
    offsets
}

fn position((partition, offset): &(Value, Value)) -> Option<(String, usize)> {
    let position = usize::try_from(offset["position"].as_u64()?).ok()?;
    Some((partition["file"].as_str()?.to_owned(), position))
}

#[async_trait]
impl ConnectAdmin for MemoryConnect {
    async fn kafka_cluster_id(&self) -> ProviderResult<ClusterId> {
        let cluster = self.provisioner.cluster(self.colour);
        self.act("kafka_cluster_id", move |_| match cluster {
            Some(cluster) => Ok(cluster.cluster_id()),
            None => {
                Err(ProviderError::new(ErrorKind::Unreachable, "ask the workers", "their cluster is gone"))
            }
        })
        .await
    }

    async fn connectors(&self) -> ProviderResult<BTreeMap<ConnectorName, ConnectorDescription>> {
        self.act("connectors", |state| {
            let describe = |(name, one): (&ConnectorName, &Connector)| {
                let (kind, state, failed) = (one.kind(), one.state, one.failed);
                let tasks = usize::from(state != ConnectorState::Stopped);
                (name.clone(), ConnectorDescription { kind, state, failed, tasks })
            };
            Ok(state.connectors.iter().map(describe).collect())
        })
        .await
    }

    async fn config(&self, name: &ConnectorName) -> ProviderResult<ConnectorConfig> {
        self.of("config", name, |connector, _| Ok(connector.config.clone())).await
    }

    async fn create_stopped(&self, name: &ConnectorName, config: &ConnectorConfig) -> ProviderResult<()> {
        let (name, config) = (name.clone(), config.clone());
        self.act("create_stopped", move |state| {
            match state.connectors.get_mut(&name) {
                Some(there) if there.state != ConnectorState::Stopped => return Err(refused(&name)),
                Some(there) => there.config = config,
                None => {
                    let made = Connector { config, state: ConnectorState::Stopped, failed: false };
                    state.connectors.insert(name, made);
                }
            }
            Ok(())
        })
        .await
    }

    async fn set_state(&self, name: &ConnectorName, state: ConnectorState) -> ProviderResult<()> {
        let (group, cluster) = (format!("connect-{name}"), self.provisioner.cluster(self.colour));
        let what = format!("connector {name}");
        self.of("set_state", name, move |connector, _| {
            connector.state = state;
            // A task that failed goes with its connector's stop alone, and is not started again by anything else.
            connector.failed &= state != ConnectorState::Stopped;
            if connector.failed && state == ConnectorState::Running {
                let reason = "it, or a task of it, has failed";
                return Err(ProviderError::new(ErrorKind::Refused, what, reason));
            }
            // Who leaves its group has committed what it read.
            if let Some(cluster) = cluster.filter(|_| state == ConnectorState::Stopped) {
                cluster.set_live(&GroupId::new(group), false);
            }
            Ok(())
        })
        .await
    }

    async fn offsets(&self, name: &ConnectorName) -> ProviderResult<SourceOffsets> {
        self.of("offsets", name, |_, positions| Ok(offsets(positions))).await
    }

    async fn alter_offsets(&self, name: &ConnectorName, wanted: &SourceOffsets) -> ProviderResult<()> {
        let wanted: BTreeMap<String, usize> = wanted.iter().filter_map(position).collect();
        let known = name.clone();
        self.of("alter_offsets", name, move |connector, positions| {
            if connector.state != ConnectorState::Stopped {
                return Err(refused(&known));
            }
            *positions = wanted;
            Ok(())
        })
        .await
    }

    async fn delete(&self, name: &ConnectorName) -> ProviderResult<()> {
        let name = name.clone();
        self.act("delete", move |state| {
            state.connectors.remove(&name);
            Ok(())
        })
        .await
    }
}
