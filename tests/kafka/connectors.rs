//! Workers of Kafka Connect, one beside each of two clusters, and its two connectors for files.

use std::path::Path;

use kutover_connect::{ConnectOptions, HttpConnect};
use kutover_core::error::{ErrorKind, ProviderResult};
use kutover_core::ports::{ConnectAdmin as _, ConnectorConfig, ConnectorState, Incarnation};
use kutover_lab::{ConnectWorker, KafkaVersion, Tools};
use kutover_testkit::until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::clients::BOUND;
use crate::world::TwoClusters;

/// A worker of each cluster. Dropped, they take their processes with them.
pub struct Workers {
    /// Blue's, as the controller sees it.
    pub blue: HttpConnect,
    /// Green's.
    pub green: HttpConnect,
    workers: [ConnectWorker; 2],
}

impl Workers {
    /// Starts both, each of its cluster's version.
    ///
    /// # Panics
    /// If they do not answer.
    pub async fn start(world: &TwoClusters, blue: &str, green: &str) -> Self {
        let ((of_blue, blue), (of_green, green)) = tokio::join!(
            worker(blue, world, "connect-blue", &world.blue),
            worker(green, world, "connect-green", &world.green)
        );
        Self { blue, green, workers: [of_blue, of_green] }
    }

    /// Where their REST interfaces are: blue's, and green's.
    pub fn urls(&self) -> [String; 2] {
        self.workers.each_ref().map(ConnectWorker::url)
    }

    /// What a configuration says of them, with `more` lines of each.
    pub fn tables(&self, more: &str) -> String {
        let topics = ConnectWorker::TOPICS.map(|topic| format!("\"{topic}\"")).join(", ");
        let [blue, green] = &self.workers;
        let tables = [("blue", blue), ("green", green)].map(|(colour, worker)| {
            format!("[clusters.{colour}.connect]\nurl = \"{}\"\n{more}topics = [{topics}]\n\n", worker.url())
        });
        tables.concat()
    }
}

/// Makes a connector and has it run. Workers that are moving others are asked again.
///
/// # Panics
/// If they refuse it, or do not settle.
pub async fn running(workers: &HttpConnect, name: &str, config: &ConnectorConfig) {
    let name = &name.into();
    let settled = |asked: ProviderResult<()>| match asked {
        Ok(()) => Some(()),
        Err(error) if error.kind == ErrorKind::Unavailable => None,
        Err(error) => panic!("{name}: {error}"),
    };
    let made = async || settled(workers.create_stopped(name, config).await);
    until("a connector to be made", BOUND, made).await;
    let runs = async || settled(workers.set_state(name, ConnectorState::Running).await);
    until("a connector to run", BOUND, runs).await;
}

/// Has green's worker start again what has failed of a connector.
///
/// # Panics
/// If it does not take that.
pub async fn restart_failed(workers: &Workers, name: &str) {
    let [_, green] = &workers.workers;
    let url = green.url();
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!(
        "POST /connectors/{name}/restart?includeTasks=true&onlyFailed=true HTTP/1.0\r\nHost: {address}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.contains(" 202 "), "{answer}");
}

async fn worker(
    version: &str,
    world: &TwoClusters,
    name: &str,
    of: &Incarnation,
) -> (ConnectWorker, HttpConnect) {
    let version: KafkaVersion = version.parse().expect("a version");
    let dir = world.directory().join("lab").join(name);
    let worker =
        ConnectWorker::start(&Tools::from_env(), version, &dir, &of.bootstrap).await.expect("a worker");
    let options = ConnectOptions { url: worker.url(), ..ConnectOptions::default() };
    let admin = HttpConnect::new(&options).expect("a client");
    (worker, admin)
}

fn config(properties: &[(&str, &str)]) -> ConnectorConfig {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    ConnectorConfig::new(properties.iter().map(owned).collect())
}

/// Reads a file's lines into a topic. Each is a batch of its own, so that they go to all its partitions.
///
/// # Panics
/// If the path is not UTF-8.
pub fn source(file: &Path, topic: &str) -> ConnectorConfig {
    let file = file.to_str().expect("UTF-8");
    config(&[
        ("connector.class", "FileStreamSource"),
        ("tasks.max", "1"),
        ("file", file),
        ("topic", topic),
        ("producer.override.batch.size", "1"),
    ])
}

/// Writes a topic's records to a file, as lines.
///
/// # Panics
/// If the path is not UTF-8.
pub fn sink(file: &Path, topic: &str) -> ConnectorConfig {
    let file = file.to_str().expect("UTF-8");
    config(&[("connector.class", "FileStreamSink"), ("tasks.max", "1"), ("file", file), ("topics", topic)])
}
