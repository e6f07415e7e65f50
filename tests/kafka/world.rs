//! Two clusters of real Kafka with the configuration that describes them.

use std::path::{Path, PathBuf};

use krafka::Kafka;
use kutover_core::ports::{ClusterProvisioner as _, Incarnation};
use kutover_core::words::Colour;
use kutover_lab::{ClusterSpec, KafkaVersion, LabOptions, LabProvisioner, MachineTurn};
use kutover_tests::tools;
use serde_json::json;
use tempfile::TempDir;

/// Two clusters. Dropped, it takes its processes and files with it.
pub struct TwoClusters {
    /// The one that serves.
    pub blue: Incarnation,
    /// The one that is to.
    pub green: Incarnation,
    lab: LabProvisioner,
    directory: TempDir,
    _turn: MachineTurn,
}

impl TwoClusters {
    /// Starts one broker of each version; `None`, with a word, if these cannot be run here.
    ///
    /// # Panics
    /// If what is there does not work.
    pub async fn start(test: &str, blue: &str, green: &str) -> Option<Self> {
        Self::start_with(test, (blue, 1), green).await
    }

    /// The same with so many brokers of blue.
    ///
    /// # Panics
    /// If what is there does not work.
    pub async fn start_with(test: &str, (blue, brokers): (&str, u16), green: &str) -> Option<Self> {
        let version = |text: &str| text.parse::<KafkaVersion>().expect("a version");
        let tools = tools(test, &[version(blue), version(green)]).await?;
        let turn = tools.machine_turn().await.expect("a turn");
        let directory = tempfile::tempdir().expect("a directory");
        let (blue, green) =
            (ClusterSpec::apache(version(blue)).brokers(brokers), ClusterSpec::apache(version(green)));
        let mut options = LabOptions::new(directory.path().join("lab"), blue, green);
        std::fs::create_dir_all(directory.path().join("lab")).expect("a directory");
        options.tools = tools;
        options.is_disposable = true;
        let lab = LabProvisioner::new(options).await.expect("a world");
        let (blue_request, green_request) = ("blue".into(), "green".into());
        let (blue, green) = tokio::join!(
            lab.provision(Colour::Blue, &blue_request),
            lab.provision(Colour::Green, &green_request)
        );
        let (blue, green) = (blue.expect("blue"), green.expect("green"));
        Some(Self { blue, green, lab, directory, _turn: turn })
    }

    /// Where the world's files are; the clusters' own are in `lab`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a cluster of one broker anew, with its properties changed.
    ///
    /// # Panics
    /// If it does not come up again.
    pub async fn restart(&self, colour: Colour, changes: &[(&str, String)]) {
        let cluster = self.lab.apache(colour).expect("it runs");
        let broker = *cluster.pids().keys().next().expect("a broker");
        let file = cluster.log_file(broker).with_extension("properties");
        let text = std::fs::read_to_string(&file).expect("its properties");
        let is_kept = |line: &&str| !changes.iter().any(|(name, _)| line.starts_with(&format!("{name}=")));
        let kept = text.lines().filter(is_kept).map(str::to_owned);
        let changed = changes.iter().map(|(name, value)| format!("{name}={value}"));
        let lines: Vec<String> = kept.chain(changed).collect();
        cluster.kill_broker(broker).await;
        std::fs::write(&file, lines.join("\n")).expect("written");
        cluster.restart_broker(broker).await.expect("it serves");
    }

    /// Writes a configuration for clusters that exist, with this as its `[plan]`, and gives its path.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn configuration(&self, plan: &str) -> PathBuf {
        self.configuration_with("", plan)
    }

    /// The same with further tables before the plan.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn configuration_with(&self, tables: &str, plan: &str) -> PathBuf {
        let mut text = "deployment = \"orders\"\njournal = \"orders.journal\"\n\
             endpoints = [{ name = \"kafka.orders.test\", port = 9092 }]\n\n\
             [dns]\nkind = \"local\"\nzone = \"orders.test\"\nlisten = \"127.0.0.1:0\"\nttl_s = 1\n"
            .to_owned();
        for (colour, last, cluster) in [("blue", 1, &self.blue), ("green", 2, &self.green)] {
            let servers: Vec<String> =
                cluster.bootstrap.iter().map(|server| format!("\"{server}\"")).collect();
            text += &format!(
                "\n[clusters.{colour}.provisioner]\nkind = \"static\"\nbootstrap = [{}]\n\
                 endpoint = {{ addresses = [\"127.8.8.{last}\"] }}\n",
                servers.join(", ")
            );
        }
        let path = self.directory.path().join("orders.toml");
        std::fs::write(&path, format!("{text}\n{tables}[plan]\n{plan}\n")).expect("written");
        path
    }

    /// Has a configuration say that the controller comes to a cluster by another address than its brokers send clients to.
    ///
    /// # Panics
    /// If it cannot be read or written.
    pub fn by_two_ways(&self, configuration: &Path, colour: Colour) {
        let (cluster, last) = match colour {
            Colour::Blue => (&self.blue, 1),
            Colour::Green => (&self.green, 2),
        };
        let endpoint = format!("127.8.8.{last}");
        let told = json!({ "incarnation": {
            "id": cluster.id, "bootstrap": cluster.bootstrap,
            "controller_bootstrap": cluster.controller_bootstrap, "endpoint": { "addresses": [endpoint] },
        } });
        let file = self.directory.path().join(format!("{colour}.json"));
        std::fs::write(&file, told.to_string()).expect("written");
        let text = std::fs::read_to_string(configuration).expect("read");
        let section = format!("[clusters.{colour}.provisioner]\n");
        let (before, rest) = text.split_once(&section).expect("its section");
        let (_, after) = rest.split_once("] }\n").expect("its endpoint");
        let command = format!("kind = \"exec\"\ncommand = [\"cat\", {:?}]\n", file.display().to_string());
        std::fs::write(configuration, format!("{before}{section}{command}{after}")).expect("written");
    }
}

/// An ordinary client of a cluster.
///
/// # Panics
/// If it does not answer.
pub async fn client(of: &Incarnation) -> Kafka {
    let connecting = Kafka::builder(of.bootstrap.join(",")).client_id("ordinary").connect();
    connecting.await.expect("the cluster answers")
}
