//! Apache Kafka on this machine: real brokers as processes, on ZooKeeper or KRaft.
//!
//! Each broker has two listeners. The clients' one is advertised through a forwarder of the broker's own, and one
//! more forwarder for all of them stands on the colour's address; isolation closes them all. The internal one is the
//! brokers' own and the controller's path; isolation leaves it open. A secured broker has more of the clients' kind, for those
//! whom TLS alone lets in.

mod connect;
mod jars;
mod jvm;
mod process;
mod properties;
mod registry;
mod secured;
mod serving;
mod tools;
mod zookeeper;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use krafka::auth::AuthConfig;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::Incarnation;
use kutover_core::words::{ClusterId, Nonce};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub use connect::ConnectWorker;
pub(crate) use process::end_leftovers;
pub(crate) use properties::{BrokerPlace, TlsPlace};
pub(crate) use registry::{Registration, register};
pub(crate) use secured::SavedSecurity;
pub use secured::{Identity, Secured, TlsAlone};
pub use tools::{MachineTurn, Tools};
pub(crate) use zookeeper::SavedZooKeeper;
pub use zookeeper::ZooKeeper;

use crate::forwarder::Forwarder;
use crate::spec::KafkaVersion;
use jvm::Jvm;
use process::ServerProcess;

/// How long a cluster may take to serve after its start; JVMs on a busy machine with few cores are slow.
const SERVING: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);
/// How often a broker that ends during its start is started again: one that was killed finds its own registration in
/// ZooKeeper until that session has expired.
const START_AGAIN: u32 = 5;

/// A cluster as another process must know it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SavedCluster {
    pub(crate) incarnation: Incarnation,
    pub(crate) request: Nonce,
    pub(crate) version: KafkaVersion,
    pub(crate) jars: PathBuf,
    /// The id that it was made with (KRaft) or that it told (ZooKeeper). `None` until it has served.
    pub(crate) cluster_id: Option<ClusterId>,
    pub(crate) has_served: bool,
    pub(crate) bootstrap: SocketAddr,
    pub(crate) places: Vec<BrokerPlace>,
    pub(crate) isolations: BTreeSet<Nonce>,
    /// Set before anything is removed, so that a removal that was cut short is not started up again.
    pub(crate) is_removing: bool,
    pub(crate) quorum_secret: String,
    pub(crate) secured: Option<SavedSecurity>,
}

/// A running cluster of Apache Kafka; its processes and forwarders end with its handle.
#[derive(Debug)]
pub struct ApacheCluster {
    dir: PathBuf,
    java: PathBuf,
    saved: SavedCluster,
    zookeeper: Option<SocketAddr>,
    /// The colour's own first, then one for each of the brokers' listeners for clients.
    forwarders: Vec<Forwarder>,
    processes: Mutex<BTreeMap<i32, ServerProcess>>,
    cluster_id: ClusterId,
}

impl ApacheCluster {
    /// Starts what does not run yet, and returns once all brokers serve.
    pub(crate) async fn start(
        tools: &Tools,
        dir: PathBuf,
        saved: SavedCluster,
        zookeeper: Option<SocketAddr>,
    ) -> ProviderResult<Self> {
        let forwarders = open_forwarders(&saved).await.map_err(|error| saved.failed(error))?;
        fs::create_dir_all(&dir).map_err(|error| saved.failed(error))?;
        let mut cluster = Self {
            dir,
            java: tools.java.clone(),
            saved,
            zookeeper,
            forwarders,
            processes: Mutex::default(),
            cluster_id: ClusterId::new(""),
        };
        if !cluster.saved.isolations.is_empty() {
            cluster.close_forwarders().await;
        }
        for place in cluster.saved.places.clone() {
            cluster.configure(tools, &place).await?;
            cluster.launch(&place).map_err(|error| cluster.saved.failed(error))?;
        }
        cluster.cluster_id = cluster.serving().await?;
        Ok(cluster)
    }

    /// The id that it gave itself when it last started.
    pub fn cluster_id(&self) -> &ClusterId {
        &self.cluster_id
    }

    /// The version.
    pub fn version(&self) -> KafkaVersion {
        self.saved.version
    }

    /// The controller's path: the brokers' internal listeners.
    pub fn internal(&self) -> Vec<SocketAddr> {
        self.saved.places.iter().map(|place| place.internal).collect()
    }

    /// Where a secured cluster takes clients by TLS alone: what its brokers advertise there.
    pub fn by_tls(&self, alone: TlsAlone) -> Vec<SocketAddr> {
        let all = self.saved.places.iter().flat_map(|place| &place.by_tls);
        all.filter(|place| place.alone == alone).map(|place| place.advertised).collect()
    }

    /// The pids of the brokers that run, by broker id.
    pub fn pids(&self) -> BTreeMap<i32, i32> {
        let processes = self.processes.lock();
        processes
            .iter()
            .filter(|(_, process)| process.is_running())
            .map(|(id, process)| (*id, process.pid()))
            .collect()
    }

    /// The file that a broker's output goes to.
    pub fn log_file(&self, broker: i32) -> PathBuf {
        self.dir.join(format!("broker-{broker}.log"))
    }

    /// Ends a broker as a crash does (SIGKILL). Returns when its process is gone.
    pub async fn kill_broker(&self, broker: i32) {
        let process = self.processes.lock().remove(&broker);
        if let Some(process) = process {
            process.kill().await;
        }
    }

    /// Starts a broker that was killed, and waits until the whole cluster serves again.
    ///
    /// # Errors
    /// It does not come up; the end of its log is told.
    pub async fn restart_broker(&self, broker: i32) -> ProviderResult<()> {
        let place = self.saved.places.iter().find(|place| place.id == broker);
        let place = place.ok_or_else(|| self.saved.failed(format!("there is no broker {broker}")))?;
        self.launch(place).map_err(|error| self.saved.failed(error))?;
        self.serving().await.map(|_| ())
    }

    /// The id that the cluster gives itself now, or the one on its disks where nothing answers.
    pub(crate) async fn found_id(&self) -> ClusterId {
        match serving::identity(&self.internal(), self.auth()).await {
            Some(id) => id,
            None => self.id_on_disk().unwrap_or_else(|| self.cluster_id.clone()),
        }
    }

    /// Shuts clients out.
    pub(crate) async fn close_forwarders(&self) {
        for forwarder in &self.forwarders {
            forwarder.close().await;
        }
    }

    /// Lets clients in again.
    pub(crate) async fn reopen_forwarders(&self) -> io::Result<()> {
        for forwarder in &self.forwarders {
            forwarder.reopen().await?;
        }
        Ok(())
    }

    /// Ends all brokers at once; nothing they hold is wanted any more.
    pub(crate) async fn kill(&self) {
        self.close_forwarders().await;
        let processes = std::mem::take(&mut *self.processes.lock());
        for process in processes.values() {
            process.end().await;
        }
    }

    /// Asks all brokers to end in good order, all at once: the last of a KRaft quorum waits for the others in vain.
    pub(crate) async fn stop(&self) {
        self.close_forwarders().await;
        let processes = std::mem::take(&mut *self.processes.lock());
        let mut ending = tokio::task::JoinSet::new();
        for (_, process) in processes {
            ending.spawn(async move { process.stop().await });
        }
        ending.join_all().await;
    }

    /// Writes a broker's files and, for KRaft, formats its disk once.
    async fn configure(&self, tools: &Tools, place: &BrokerPlace) -> ProviderResult<()> {
        let log_dir = self.log_dir(place.id);
        let text = properties::broker(&properties::BrokerConfig {
            colour: self.saved.incarnation.colour,
            place,
            all: &self.saved.places,
            log_dir: &log_dir,
            quorum_secret: &self.saved.quorum_secret,
            zookeeper: self.zookeeper,
            secured: self.saved.secured.as_ref().map(|security| (security, self.dir.as_path())),
        });
        if let Some(security) = &self.saved.secured {
            security.write(&self.dir).map_err(|error| self.saved.failed(error))?;
        }
        fs::write(self.config(place.id), text).map_err(|error| self.saved.failed(error))?;
        if self.zookeeper.is_some() || log_dir.join("meta.properties").exists() {
            return Ok(());
        }
        let id = self.saved.cluster_id.as_ref().map(ClusterId::as_str).unwrap_or_default();
        let jvm = Jvm::new(&tools.java, &self.saved.jars, 128, "kafka.tools.StorageTool", &self.dir);
        let config = self.config(place.id).display().to_string();
        let args = ["format", "-t", id, "-c", &config].map(str::to_owned);
        Tools::run_jvm(&format!("format the disk of broker {}", place.id), &tools.java, jvm, args).await
    }

    /// Takes over the process that an earlier run left, or starts one.
    fn launch(&self, place: &BrokerPlace) -> io::Result<()> {
        let (config, log) = (self.config(place.id), self.log_file(place.id));
        let process = match ServerProcess::adopt(&config, &log) {
            Some(process) => process,
            None => {
                let mut jvm = Jvm::new(&self.java, &self.saved.jars, 512, "kafka.Kafka", &self.dir);
                if self.saved.places.len() > 1 {
                    // Several that end in good order wait for each other.
                    jvm.leave_nothing();
                }
                let args = properties::write_logging(&self.dir)?.into_iter().chain(jvm.args);
                let args = args.chain([config.display().to_string()]);
                ServerProcess::start(&self.java, args, &config, &log)?.leaving(jvm.recording)
            }
        };
        self.processes.lock().insert(place.id, process);
        Ok(())
    }

    /// Waits until all brokers serve; gives the cluster's id.
    async fn serving(&self) -> ProviderResult<ClusterId> {
        let deadline = Instant::now() + SERVING;
        let mut started_again = 0;
        loop {
            let trouble = match serving::look(&self.internal(), self.saved.places.len(), self.auth()).await {
                Ok(id) => return Ok(id),
                Err(trouble) => trouble,
            };
            if let Some(ended) = self.first_ended() {
                if started_again == START_AGAIN || !ended.1.contains("NodeExists") {
                    return Err(self.saved.failed(format!("broker {} ended: {}", ended.0.id, ended.1)));
                }
                started_again += 1;
                self.launch(&ended.0).map_err(|error| self.saved.failed(error))?;
            }
            if Instant::now() > deadline {
                let reason = format!(
                    "does not serve after {} s ({trouble}); see {}",
                    SERVING.as_secs(),
                    self.dir.display()
                );
                return Err(self.saved.failed(reason));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// A broker that was started and has ended by itself, with its last words.
    fn first_ended(&self) -> Option<(BrokerPlace, String)> {
        let processes = self.processes.lock();
        let (id, process) = processes.iter().find(|(_, process)| !process.is_running())?;
        let place = self.saved.places.iter().find(|place| place.id == *id)?;
        Some((place.clone(), process.last_words()))
    }

    /// How the lab's own client gets in, where not everybody does.
    fn auth(&self) -> Option<AuthConfig> {
        self.saved.secured.as_ref().map(SavedSecurity::auth)
    }

    fn id_on_disk(&self) -> Option<ClusterId> {
        let meta =
            fs::read_to_string(self.log_dir(self.saved.places.first()?.id).join("meta.properties")).ok()?;
        meta.lines().find_map(|line| line.strip_prefix("cluster.id=")).map(ClusterId::new)
    }

    fn config(&self, broker: i32) -> PathBuf {
        self.dir.join(format!("broker-{broker}.properties"))
    }

    fn log_dir(&self, broker: i32) -> PathBuf {
        self.dir.join(format!("broker-{broker}"))
    }
}

impl std::fmt::Debug for SavedCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the secret.
        f.debug_struct("SavedCluster").field("incarnation", &self.incarnation).finish_non_exhaustive()
    }
}

impl SavedCluster {
    fn failed(&self, reason: impl std::fmt::Display) -> ProviderError {
        let what = format!("Apache Kafka {} of {}", self.version, self.incarnation.id);
        ProviderError::new(ErrorKind::Unavailable, what, reason)
    }
}

async fn open_forwarders(saved: &SavedCluster) -> io::Result<Vec<Forwarder>> {
    let all = saved.places.iter().map(|place| place.clients).collect();
    let mut forwarders = vec![Forwarder::open(saved.bootstrap, all).await?];
    for place in &saved.places {
        forwarders.push(Forwarder::open(place.advertised, vec![place.clients]).await?);
        for tls in &place.by_tls {
            forwarders.push(Forwarder::open(tls.advertised, vec![tls.listener]).await?);
        }
    }
    Ok(forwarders)
}
