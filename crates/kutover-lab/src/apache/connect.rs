//! A Kafka Connect worker beside a cluster: one process, distributed, with the file connectors that come with Kafka.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::jvm::Jvm;
use super::process::ServerProcess;
use super::properties;
use super::tools::Tools;
use crate::loopback::free_ports;
use crate::spec::KafkaVersion;

/// How long it may take to answer after its start: it makes three topics first.
const SERVING: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);
const WORKER: &str = "org.apache.kafka.connect.cli.ConnectDistributed";

/// A running worker; it ends with its handle.
#[derive(Debug)]
pub struct ConnectWorker {
    address: String,
    process: ServerProcess,
}

impl ConnectWorker {
    /// The topics in which it keeps configs, offsets and status.
    pub const TOPICS: [&str; 3] = ["connect-configs", "connect-offsets", "connect-status"];

    /// Starts a worker of a version for the cluster with these bootstrap servers, with its files in `dir`, and returns once
    /// it answers.
    ///
    /// # Errors
    /// Java or the jars are missing; it does not come up: the end of its log is told.
    pub async fn start(
        tools: &Tools,
        version: KafkaVersion,
        dir: &Path,
        bootstrap: &[String],
    ) -> ProviderResult<Self> {
        let what = format!("start Connect {version} for {}", bootstrap.join(","));
        let failed = |error: io::Error| ProviderError::new(ErrorKind::Unavailable, &what, error);
        let jars = tools.jars_of(version, None).await?;
        fs::create_dir_all(dir).map_err(failed)?;
        let port = free_ports(IpAddr::V4(Ipv4Addr::LOCALHOST), 1).map_err(failed)?.remove(0);
        let address = format!("127.0.0.1:{port}");
        let (config, log) = (dir.join("connect.properties"), dir.join("connect.log"));
        fs::write(&config, properties::connect(&address, bootstrap, Self::TOPICS)).map_err(failed)?;
        let jvm = Jvm::new(&tools.java, &jars, 256, WORKER, dir);
        let args = properties::write_logging(dir).map_err(failed)?.into_iter().chain(jvm.args);
        let args = args.chain([config.display().to_string()]);
        let process = ServerProcess::start(&tools.java, args, &config, &log).map_err(failed)?;
        let process = process.leaving(jvm.recording);
        let worker = Self { address, process };
        worker.serving(&what).await?;
        Ok(worker)
    }

    /// Where its REST interface is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it as a crash does. Returns when its process is gone.
    pub async fn kill(&self) {
        self.process.kill().await;
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

    /// Whether it lists its connectors, which it does once it has joined its group.
    async fn answers(&self) -> bool {
        let ask = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            let request = format!("GET /connectors HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        matches!(timeout(Duration::from_secs(5), ask).await, Ok(Ok(answer)) if answer.contains(" 200 "))
    }
}
