//! One ZooKeeper server, the ensemble of a world's clusters from before KRaft.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::jvm::Jvm;
use super::process::ServerProcess;
use super::properties;
use super::registry::{Registration, register};
use super::tools::Tools;
use crate::loopback::free_ports;
use crate::spec::KafkaVersion;

/// How long it may take to answer after its start.
const SERVING: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const SERVER: &str = "org.apache.zookeeper.server.quorum.QuorumPeerMain";

/// What another process must know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedZooKeeper {
    pub(crate) address: SocketAddr,
    /// The folder with the jars that it runs from.
    pub(crate) jars: PathBuf,
}

/// A running ZooKeeper; it ends with its handle.
#[derive(Debug)]
pub struct ZooKeeper {
    address: SocketAddr,
    jars: PathBuf,
    process: ServerProcess,
    _registered: Option<Registration>,
}

impl ZooKeeper {
    /// Starts the one that came with a version of Kafka, with its files in `dir`, for brokers that somebody else starts, and
    /// returns once it serves. One that is left behind by a process that was killed is ended by the next world.
    ///
    /// # Errors
    /// Java or the jars are missing; it does not come up: the end of its log is told.
    pub async fn alone(tools: &Tools, version: KafkaVersion, dir: &Path) -> ProviderResult<Self> {
        let failed = |error: io::Error| ProviderError::new(ErrorKind::Unavailable, "start ZooKeeper", error);
        let jars = tools.jars_of(version, None).await?;
        fs::create_dir_all(dir).map_err(failed)?;
        let registered = register(&tools.cache, dir).await.map_err(failed)?;
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port = free_ports(host, 1).map_err(failed)?.remove(0);
        let saved = SavedZooKeeper { address: SocketAddr::new(host, port), jars };
        let started = Self::start(tools, dir, &saved).await?;
        Ok(Self { _registered: Some(registered), ..started })
    }

    /// Takes over the one that an earlier process left running, or starts it.
    pub(crate) async fn start(tools: &Tools, dir: &Path, saved: &SavedZooKeeper) -> ProviderResult<Self> {
        let what = format!("start ZooKeeper on {}", saved.address);
        let failed = |error: io::Error| ProviderError::new(ErrorKind::Unavailable, &what, error);
        let config = dir.join("zookeeper.properties");
        let log = dir.join("zookeeper.log");
        if let Some(process) = ServerProcess::adopt(&config, &log) {
            return Ok(Self::new(saved, process));
        }
        fs::create_dir_all(dir).map_err(failed)?;
        fs::write(&config, properties::zookeeper(saved.address, &dir.join("data"))).map_err(failed)?;
        let jvm = Jvm::new(&tools.java, &saved.jars, 256, SERVER, dir);
        let args = properties::write_logging(dir).map_err(failed)?.into_iter().chain(jvm.args);
        let args = args.chain([config.display().to_string()]);
        let process = ServerProcess::start(&tools.java, args, &config, &log).map_err(failed)?;
        let process = process.leaving(jvm.recording);
        let zookeeper = Self::new(saved, process);
        zookeeper.serving(&what).await?;
        Ok(zookeeper)
    }

    fn new(saved: &SavedZooKeeper, process: ServerProcess) -> Self {
        Self { address: saved.address, jars: saved.jars.clone(), process, _registered: None }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn stop(&self) {
        self.process.stop().await;
    }

    /// Removes a chroot with all that is in it. One that is not there is fine.
    pub(crate) async fn remove(&self, tools: &Tools, chroot: &str) -> ProviderResult<()> {
        let what = format!("remove {chroot} from ZooKeeper on {}", self.address);
        let scratch = std::env::temp_dir();
        let jvm = Jvm::new(&tools.java, &self.jars, 128, "org.apache.zookeeper.ZooKeeperMain", &scratch);
        let args = ["-server", &self.address.to_string(), "deleteall", chroot].map(str::to_owned);
        match Tools::run_jvm(&what, &tools.java, jvm, args).await {
            Err(error) if error.reason.contains("Node does not exist") => Ok(()),
            done => done,
        }
    }

    async fn serving(&self, what: &str) -> ProviderResult<()> {
        let deadline = Instant::now() + SERVING;
        while !self.answers().await {
            let reason = if !self.process.is_running() {
                format!("it ended: {}", self.process.last_words())
            } else if Instant::now() > deadline {
                format!("no answer in {} s: {}", SERVING.as_secs(), self.process.last_words())
            } else {
                tokio::time::sleep(POLL).await;
                continue;
            };
            return Err(ProviderError::new(ErrorKind::Unavailable, what, reason));
        }
        Ok(())
    }

    /// Whether it answers `srvr`, the one four-letter word that is allowed unless configured otherwise, as a server
    /// that serves: before, it says that it is not currently serving requests.
    async fn answers(&self) -> bool {
        let ask = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(b"srvr").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        matches!(timeout(Duration::from_secs(2), ask).await, Ok(Ok(answer)) if answer.contains("Mode:"))
    }
}
