//! A world of kutover-lab with the configuration that describes it: what the demo runs in.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use kutover_audit::{Deployment, TOPIC};
use kutover_controller::config::Config;
use kutover_core::ports::{ClusterAdmin, ClusterIdentity, ClusterProvisioner, Incarnation, NewTopic};
use kutover_core::words::{ClusterId, Colour, DnsName, Nonce, TopicName};
use kutover_dns::{LocalServer, ResolverWatch, WatchOptions};
use kutover_lab::{ClusterSpec, DEFAULT_PORT, KafkaVersion, LabOptions, LabProvisioner, Tools};
use kutover_producer::Order;
use tempfile::TempDir;

use crate::cli::{DemoOptions, HandOverChoice, KafkaChoice, TroubleKind};
use crate::name_server::point;
use crate::wire::{Connector, Hosts};

/// The name that the demo's producers bootstrap from.
pub(crate) const ENDPOINT: &str = "kafka.orders.test";
const ZONE: &str = "orders.test";

const NO_DIRECTORY: &str = "a temporary directory: set TMPDIR to one that exists and can be written to";

/// Brokers of an embedded cluster.
const EMBEDDED_BROKERS: u16 = 3;

/// A world on this machine. Dropped, it takes its processes, servers and files with it.
pub(crate) struct World {
    /// What lives in this process.
    pub hosts: Hosts,
    /// The configuration that describes it, as `up` reads it.
    pub path: PathBuf,
    /// The same, read.
    pub config: Config,
    /// The world's clusters, as a provisioner.
    pub lab: Arc<LabProvisioner>,
    /// The world's name server.
    pub dns: Arc<LocalServer>,
    /// The cluster that the endpoint leads to at first.
    pub blue: Incarnation,
    /// Connects to clusters as a controller does.
    pub connector: Connector,
    // The last field: everything above lets go of its files first.
    _directory: TempDir,
}

impl World {
    /// Makes a world: name server, blue cluster, topic, configuration file.
    ///
    /// # Errors
    /// Whatever cannot be had on this machine, by name and with the fix.
    pub(crate) async fn open(options: &DemoOptions, groups: &[String]) -> Result<Self> {
        if let KafkaChoice::Apache { blue, green } = &options.kafka {
            // Green is made in the middle of the run: what it lacks on this machine is said now.
            let parsed = |version: &String| version.parse::<KafkaVersion>().map_err(anyhow::Error::msg);
            let mut versions = [parsed(blue)?, parsed(green)?];
            // Who installs Java for the one that needs the newest installs it once.
            versions.sort_by_key(|version| Reverse(version.least_java()));
            for version in versions {
                Tools::from_env().jars_of(version, kafka_dir(options, version)).await?;
            }
        }
        let directory = tempfile::Builder::new().prefix("kutover-demo-").tempdir().context(NO_DIRECTORY)?;
        let data = directory.path().join("lab");
        std::fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
        let same_id =
            (options.trouble == Some(TroubleKind::SameCluster)).then(kutover_lab::random_cluster_id);
        let spec = |colour| cluster_spec(options, colour, same_id.as_ref());
        let mut lab_options = LabOptions::new(&data, spec(Colour::Blue)?, spec(Colour::Green)?);
        lab_options.port = DEFAULT_PORT;
        lab_options.is_disposable = true;
        let lab = Arc::new(LabProvisioner::new(lab_options).await?);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let dns = LocalServer::start(any, DnsName::new(ZONE)).await?;
        let path = directory.path().join("orders.toml");
        std::fs::write(&path, configuration(options, &lab, &dns, groups, directory.path())?)
            .with_context(|| format!("writing {}", path.display()))?;
        let config = Config::load(&path)?;
        let connector = Connector::new(&config, Some(Arc::clone(&lab)))?;
        let blue = lab.provision(Colour::Blue, &Nonce::new("demo-blue")).await?;
        point(&*dns, &DnsName::new(ENDPOINT), options.ttl, &blue.endpoint).await?;
        let hosts = Hosts { lab: Some(Arc::clone(&lab)), dns: Some(Arc::clone(&dns)), ..Hosts::default() };
        let world = Self { hosts, path, config, lab, dns, blue, connector, _directory: directory };
        world.make_topic(&world.blue, options.partitions).await?;
        Ok(world)
    }

    /// Makes the traffic's topic on a cluster.
    ///
    /// # Errors
    /// The cluster's.
    pub(crate) async fn make_topic(&self, on: &Incarnation, partitions: u16) -> Result<()> {
        let topic = NewTopic {
            name: TopicName::new(TOPIC),
            partitions: i32::from(partitions),
            replication: 1,
            configs: [].into(),
        };
        Ok(self.connector.admin(on).await?.create_topic(&topic).await?)
    }

    /// Who a cluster says it is.
    ///
    /// # Errors
    /// The cluster's.
    pub(crate) async fn identity(&self, of: &Incarnation) -> Result<ClusterIdentity> {
        Ok(self.connector.admin(of).await?.identity().await?)
    }

    /// Where its producers belong.
    pub(crate) fn deployment(&self, hand_over: HandOverChoice) -> Deployment {
        Deployment {
            name: self.config.deployment.to_string(),
            endpoint: ENDPOINT.into(),
            resolvers: self.dns.resolvers(),
            order: match hand_over {
                HandOverChoice::Ordered => Order::Ordered,
                HandOverChoice::Overlap => Order::Overlap,
            },
        }
    }

    /// A producer's look at the endpoint.
    ///
    /// # Errors
    /// The resolver's.
    pub(crate) fn watch(&self) -> Result<ResolverWatch> {
        let options = WatchOptions::default();
        Ok(ResolverWatch::new(&DnsName::new(ENDPOINT), self.dns.resolvers(), options)?)
    }

    /// Ends everything in good order.
    pub(crate) async fn close(self) {
        let Self { hosts, lab, dns, connector, _directory, .. } = self;
        drop((hosts, connector));
        dns.stop().await;
        // Who else still holds it ends its processes by dropping it.
        if let Some(lab) = Arc::into_inner(lab) {
            lab.stop().await;
        }
    }
}

/// The directory that the user has named for a version.
fn kafka_dir(options: &DemoOptions, version: KafkaVersion) -> Option<&Path> {
    let version = version.to_string();
    options.kafka_dir.iter().find(|(named, _)| *named == version).map(|(_, directory)| directory.as_path())
}

fn cluster_spec(options: &DemoOptions, colour: Colour, id: Option<&ClusterId>) -> Result<ClusterSpec> {
    match &options.kafka {
        KafkaChoice::Embedded => {
            let spec = ClusterSpec::embedded().brokers(EMBEDDED_BROKERS);
            Ok(match id {
                Some(id) => spec.cluster_id(id.clone()),
                None => spec,
            })
        }
        KafkaChoice::Apache { .. } => {
            let version = options.kafka.version(colour).parse().map_err(anyhow::Error::msg::<String>)?;
            let spec = ClusterSpec::apache(version);
            Ok(match kafka_dir(options, version) {
                Some(directory) => spec.kafka_dir(directory),
                None => spec,
            })
        }
    }
}

/// The file that describes this world.
fn configuration(
    options: &DemoOptions,
    lab: &LabProvisioner,
    dns: &LocalServer,
    groups: &[String],
    directory: &Path,
) -> Result<String> {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    // A hold whose cause cannot end is given up soon; any other gets its time.
    let hold_limit = if options.trouble == Some(TroubleKind::SameCluster) { "2s" } else { "60s" };
    let (brokers, soak, waived) = match options.kafka {
        KafkaChoice::Embedded => (
            EMBEDDED_BROKERS,
            "1s",
            "# An embedded cluster tells neither its topics' retention nor transactional ids, nor that it makes no topics.\n\
             waive_retention = \"*\"\nwaive_transactions = \"*\"\nwaive_auto_create = true\n",
        ),
        KafkaChoice::Apache { .. } => {
            (1, "2s", "# Only the brokers' own quorum is a super user.\nwaive_super_users = \"*\"\n")
        }
    };
    let mut text = format!(
        "# Written by `kutover demo`: a world on this machine.\n\
         deployment = \"orders\"\njournal = \"orders.journal\"\n\
         endpoints = [{{ name = \"{ENDPOINT}\", port = {} }}]\n\n\
         [dns]\nkind = \"local\"\nzone = \"{ZONE}\"\nlisten = \"{}\"\nttl_s = {}\n",
        lab.place(Colour::Blue).port(),
        dns.address(),
        options.ttl,
    );
    for colour in Colour::BOTH {
        let kind = match options.kafka {
            KafkaChoice::Embedded => "embedded".to_owned(),
            KafkaChoice::Apache { .. } => format!("apache:{}", options.kafka.version(colour)),
        };
        let data = directory.join("lab");
        let data = quoted(data.to_str().context("the temporary directory's name is not UTF-8")?);
        let _ = write!(
            text,
            "\n[clusters.{colour}.provisioner]\nkind = \"lab\"\nkafka = \"{kind}\"\nbrokers = {brokers}\n\
             directory = {data}\n",
        );
        // Where a machine has one loopback address only, the colours differ by port instead.
        if lab.place(Colour::Blue).ip() != lab.place(Colour::Green).ip() {
            let _ = writeln!(text, "address = \"{}\"", lab.place(colour).ip());
        }
    }
    // A way back is taken while the old cluster is kept, once the new one has had traffic for as long as the old one.
    let soak = if options.rollback { format!("{}s", 60 + options.warm_up) } else { soak.to_owned() };
    let groups = groups.iter().map(|group| quoted(group)).collect::<Vec<_>>().join(", ");
    let _ = write!(
        text,
        "\n[plan]\ngroups = [{groups}]\n# What the groups have read may die with blue: it is a demo's.\n\
         waive_history = \"*\"\nconverge_deadline = \"30s\"\nquiet_window = \"2s\"\nsoak = \"{soak}\"\n\
         hold_limit = \"{hold_limit}\"\ndrain_poll = \"200ms\"\nwatch = \"1s\"\n{waived}\
         # A demo has few clients.\nseparation_head_room = 1000\n"
    );
    Ok(text)
}
