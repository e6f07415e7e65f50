//! A deployment on AWS as the recipe has it: two stacks of one template, an endpoint in Route 53, the journal in S3.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::error::ProviderResult;
use kutover_core::ports::{ClusterAdmin as _, Incarnation, NewTopic};
use kutover_core::words::Colour;
use kutover_lab::{ClusterSpec, KafkaVersion, LabOptions, LabProvisioner, MachineTurn};
use kutover_tests::{run, tools};
use tempfile::TempDir;

use crate::account::{Account, BUCKET, planted};
use crate::bridge::Bridge;
use crate::emulated::emulated;
use crate::instances::{BALANCERS, Instances};
use crate::name_servers::{NameServer, ZONE};

/// The deployment, and what its stacks' names begin with.
pub(crate) const DEPLOYMENT: &str = "Kafka";
pub(crate) const ENDPOINT: &str = "kafka.orders.test";
pub(crate) const GROUPS: [&str; 2] = ["billing", "shipping"];
pub(crate) const PARTITIONS: u16 = 3;
/// The journal's key in the bucket.
pub(crate) const JOURNAL: &str = "orders.journal";
const BLUE: KafkaVersion = KafkaVersion::new(3, 9, 2);
const GREEN: KafkaVersion = KafkaVersion::new(4, 3, 1);

/// All of it. Dropped, it takes its processes and files with it.
pub(crate) struct World {
    pub(crate) account: Account,
    pub(crate) bridge: Bridge,
    pub(crate) instances: Instances,
    pub(crate) lab: Arc<LabProvisioner>,
    pub(crate) bind: NameServer,
    zone: String,
    directory: TempDir,
    _turn: MachineTurn,
}

impl World {
    /// An account with a zone and a bucket and nothing else; `None`, with a word, where a part of this world is missing.
    pub(crate) async fn open(test: &str) -> Option<Self> {
        let tools = tools(test, &[BLUE, GREEN]).await?;
        let account = Account::open(test).await?;
        let bind = NameServer::start_with(test, &[BALANCERS]).await?;
        let turn = tools.machine_turn().await.expect("a turn");
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path().join("lab");
        std::fs::create_dir_all(&data).expect("a directory");
        let mut options = LabOptions::new(data, ClusterSpec::apache(BLUE), ClusterSpec::apache(GREEN));
        options.tools = tools;
        options.is_disposable = true;
        let lab = Arc::new(LabProvisioner::new(options).await.expect("a world"));
        let zone = account.hosted_zone(ZONE, test).await;
        let bridge = Bridge::start(&account, std::slice::from_ref(&zone), &[ENDPOINT], &bind).await;
        let instances = Instances::start(&account, DEPLOYMENT, &lab, bind.provider_of(BALANCERS));
        Some(Self { account, bridge, instances, lab, bind, zone, directory, _turn: turn })
    }

    /// Blue as the program makes a deployment's first cluster, with the topic.
    pub(crate) async fn make_blue(&self, file: &str) -> Incarnation {
        let done = run(&mut self.program(&["provision", file, "--json"]));
        assert_eq!(done.status, Some(0), "{}", done.stderr);
        planted().assert_not_in("what provision says", &format!("{}{}", done.stdout, done.stderr));
        let report: serde_json::Value = serde_json::from_str(done.stdout.trim()).expect("a report");
        let blue: Incarnation =
            serde_json::from_value(report["incarnation"].clone()).expect("an incarnation");
        assert_eq!(blue.colour, Colour::Blue);
        let topic = NewTopic {
            name: kutover_audit::TOPIC.into(),
            partitions: PARTITIONS.into(),
            replication: 1,
            configs: [].into(),
        };
        let admin = admin(&blue).await.expect("blue answers");
        admin.create_topic(&topic).await.expect("its topic");
        blue
    }

    fn parameters(&self, colour: Colour) -> std::collections::BTreeMap<String, String> {
        let (version, zookeeper) = match colour {
            Colour::Blue => (BLUE, "zookeeper.orders.test:2181"),
            Colour::Green => (GREEN, ""),
        };
        let archive = format!("kafka_2.13-{version}.tgz");
        [
            ("Deployment", DEPLOYMENT),
            ("ArchiveBucket", "archives"),
            ("ArchiveKey", &archive),
            ("ArchiveSha512", &"0".repeat(128)),
            ("KafkaVersion", &version.to_string()),
            ("ZooKeeperConnect", zookeeper),
            ("BrokerIds", "0"),
            ("BrokerAddresses", &self.lab.place(colour).ip().to_string()),
            ("BrokerSubnets", "subnet-00000001"),
            ("BrokerZones", "us-east-1a"),
            ("BalancerSubnets", "subnet-00000001"),
            ("VpcId", "vpc-00000001"),
            ("ClientCidr", "127.0.0.0/8"),
            ("ControllerCidr", "127.0.0.0/8"),
            ("ImageId", "ami-00000001"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Writes the configuration and what it names, and gives its path.
    pub(crate) fn configuration(&self) -> PathBuf {
        let mut text = format!(
            "deployment = \"{DEPLOYMENT}\"\njournal = \"s3://{BUCKET}/{JOURNAL}\"\n\
             endpoints = [{{ name = \"{ENDPOINT}\", port = {} }}]\n\n[aws]\nregion = \"us-east-1\"\n\n\
             [dns]\nkind = \"route53\"\nzone = \"{ZONE}\"\nzone_ids = [\"{}\"]\nttl_s = 2\n",
            self.lab.place(Colour::Blue).port(),
            self.zone,
        );
        for colour in Colour::BOTH {
            text += &format!(
                "\n[clusters.{colour}.provisioner]\nkind = \"cloudformation\"\nstack = \"{DEPLOYMENT}\"\n\
                 template = \"cluster.json\"\n\n[clusters.{colour}.provisioner.parameters]\n"
            );
            for (name, value) in self.parameters(colour) {
                text += &format!("{name} = {value:?}\n");
            }
        }
        text += &format!(
            "\n[plan]\nttl = \"1s\"\napprove = \"manual\"\ngroups = {GROUPS:?}\nwaive_history = \"*\"\nsoak = \"1s\"\n\
             quiet_window = \"2s\"\nconverge_deadline = \"30s\"\ndrain_poll = \"200ms\"\nwatch = \"1s\"\nhold_limit = \"60s\"\ncommand_timeout = \"60s\"\n\
             separation_head_room = 1000\nwaive_super_users = \"*\"\n"
        );
        let path = self.directory.path().join("orders.toml");
        std::fs::write(self.directory.path().join("cluster.json"), template()).expect("written");
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Where the configuration stands.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The program on this account.
    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        self.account.program(self.bridge.route53(), arguments)
    }
}

/// For one broker, which clients bootstrap from by its address.
fn template() -> String {
    emulated("0", &["broker"])
}

async fn admin(of: &Incarnation) -> ProviderResult<KafkaAdmin> {
    let bootstrap = of.controller_bootstrap.clone();
    KafkaAdmin::connect(AdminConfig { bootstrap, ..AdminConfig::default() }).await
}
