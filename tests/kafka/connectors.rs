//! Workers of Kafka Connect, one beside each of two clusters, and its two connectors for files.

use std::path::Path;

use kutover_connect::{ConnectOptions, HttpConnect};
use kutover_core::ports::{ConnectorConfig, Incarnation};
use kutover_lab::{ConnectWorker, KafkaVersion, Tools};

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

/// Reads a file's lines into a topic.
///
/// # Panics
/// If the path is not UTF-8.
pub fn source(file: &Path, topic: &str) -> ConnectorConfig {
    let file = file.to_str().expect("UTF-8");
    config(&[("connector.class", "FileStreamSource"), ("tasks.max", "1"), ("file", file), ("topic", topic)])
}

/// Writes a topic's records to a file, as lines.
///
/// # Panics
/// If the path is not UTF-8.
pub fn sink(file: &Path, topic: &str) -> ConnectorConfig {
    let file = file.to_str().expect("UTF-8");
    config(&[("connector.class", "FileStreamSink"), ("tasks.max", "1"), ("file", file), ("topics", topic)])
}
