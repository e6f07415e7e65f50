//! The user data that makes an instance a broker, run for real: each line of `template/broker.sh`, made out of the template
//! as CloudFormation does it, with Apache Kafka. Only what an instance has and this machine has not is replaced, program by
//! program (`machine.sh`).

mod client;
#[path = "../aws/fitted.rs"]
mod fitted;
mod machine;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::ports::{ClusterAdmin as _, FenceKind};
use kutover_lab::{KafkaVersion, Tools, ZooKeeper, loopback};
use rdkafka::error::RDKafkaErrorCode;
use serde_json::{Value, json};

use machine::{Machine, archive, user_data};

const ON_ZOOKEEPER: KafkaVersion = KafkaVersion::new(3, 9, 2);
const KRAFT: KafkaVersion = KafkaVersion::new(4, 3, 1);
/// An id that begins with a dash once it is written in Kafka's way.
const STACK: &str = "arn:aws:cloudformation:eu-west-1:1:stack/KafkaB/fb6c0d2e-0000-11ee-be56-0242ac120002";
/// A later one of the same colour.
const LATER_STACK: &str =
    "arn:aws:cloudformation:eu-west-1:1:stack/KafkaA/0a1c7e90-0000-11ee-be56-0242ac120002";
const ITS_CLUSTER_ID: &str = "-2wNLgAAEe6-VgJCrBIAAg";
const BUCKET: &str = "archives";

/// What the test runs on: Kafka's jars, a turn on this machine, a folder, Python.
struct World {
    tools: Tools,
    python: PathBuf,
    folder: tempfile::TempDir,
    version: KafkaVersion,
    sha512: String,
    _turn: kutover_lab::MachineTurn,
}

impl World {
    /// `None` after having said what is missing.
    async fn new(test: &str, version: KafkaVersion) -> Option<Self> {
        if !cfg!(target_os = "linux") {
            kutover_testkit::skip(test, "Linux, whose programs the user data is written for");
            return None;
        }
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
        let python = target.join("aws-tools/bin/python");
        if !python.exists() {
            kutover_testkit::skip(
                test,
                "cfn-lint, which reads the template (`cargo xtask test --only aws` installs it)",
            );
            return None;
        }
        let tools = Tools::from_env();
        if let Err(missing) = tools.ready(version).await {
            kutover_testkit::skip(test, &missing.to_string());
            return None;
        }
        let turn = tools.machine_turn().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut world = Self { tools, python, folder, version, sha512: String::new(), _turn: turn };
        world.sha512 = world.archive().await;
        Some(world)
    }

    fn buckets(&self) -> PathBuf {
        self.folder.path().join("buckets")
    }

    fn key(&self) -> String {
        format!("kafka_2.13-{}.tgz", self.version)
    }

    async fn archive(&self) -> String {
        let versions = if self.version.on_zookeeper() { "kafka.admin" } else { "org.apache.kafka.tools" };
        let commands = [
            ("kafka-server-start.sh", "kafka.Kafka"),
            ("kafka-storage.sh", "kafka.tools.StorageTool"),
            ("kafka-broker-api-versions.sh", &format!("{versions}.BrokerApiVersionsCommand")),
        ];
        let jars = self.tools.jars(self.version).await.unwrap();
        archive(&self.buckets().join(BUCKET), &self.key(), &jars, &self.tools.java, &commands)
    }

    /// The stack's instances at these addresses, with more parameters.
    fn machines(&self, addresses: &[IpAddr], more: &Value) -> Vec<Machine> {
        let listed: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let machine = |(id, address): (usize, &IpAddr)| {
            let mut parameters = json!({
                "Id": id.to_string(),
                "Deployment": "Kafka",
                "Suffix": "A",
                "AWS::Region": "eu-west-1",
                "AWS::StackId": STACK,
                "ArchiveBucket": BUCKET,
                "ArchiveKey": self.key(),
                "ArchiveSha512": self.sha512,
                "KafkaVersion": self.version.to_string(),
                "BootstrapTargets": "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/KafkaA-bootstrap/1",
                "BrokerAddresses": listed.join(","),
                // Fewer partitions than by default: each costs files and start-up time.
                "ServerProperties": "offsets.topic.num.partitions=4;log.cleaner.dedupe.buffer.size=8388608",
            });
            parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let root = self.folder.path().join(format!("instance-{address}"));
            Machine::new(root, *address, &user_data(&self.python, &parameters), &self.buckets())
        };
        addresses.iter().enumerate().map(machine).collect()
    }
}

/// Loopback addresses whose port for clients is free.
fn addresses(count: usize) -> Vec<IpAddr> {
    loopback::fresh(count, 9092).unwrap().iter().map(std::net::SocketAddr::ip).collect()
}

/// What a second run must leave as it is, and who serves.
fn standing(machine: &Machine) -> Vec<String> {
    let files =
        ["etc/kafka/server.properties", "etc/systemd/system/kafka.service", "etc/fstab", "volume/formatted"];
    let mut standing: Vec<_> = files.map(|file| machine.text(file)).to_vec();
    standing.push(machine.text("volume/files/log/meta.properties"));
    standing.push(machine.text("run/kafka"));
    assert!(standing.iter().all(|text| !text.is_empty()), "{standing:?}");
    standing
}

/// The last thing that an instance said to its stack.
fn signalled(machine: &Machine) -> String {
    machine.calls("cfn-signal").pop().unwrap_or_default()
}

/// That an instance said that it serves after the load balancer had found it healthy.
fn assert_healthy_before_it_said_so(machine: &Machine) {
    let calls = machine.text("calls");
    let wait = "aws elbv2 wait target-in-service ";
    let healthy = calls.lines().position(|call| call.starts_with(wait)).expect("it is asked for");
    let said = calls.lines().position(|call| call.ends_with("--success true")).expect("it is said");
    assert!(healthy < said, "{calls}");
}

/// What a cluster in ZooKeeper says of itself there.
async fn in_zookeeper(tools: &Tools, zookeeper: &ZooKeeper, path: &str) -> String {
    let class_path = tools.class_path(ON_ZOOKEEPER).await.unwrap();
    let address = zookeeper.address().to_string();
    let output = Command::new(&tools.java)
        .args(["-XX:TieredStopAtLevel=1", "-cp", &class_path])
        .args(["org.apache.zookeeper.ZooKeeperMain", "-server", &address, "get", path])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where the controller of kutover comes in, it raises a fence that is proven and holds at the clients' listener, while
/// everybody still reads; and lifts it.
async fn can_be_fenced(controller: &str, clients: &str) {
    let config = AdminConfig { bootstrap: vec![controller.to_owned()], ..AdminConfig::default() };
    let admin = KafkaAdmin::connect(config).await.unwrap();
    let topics = [client::TOPIC.into()];
    assert_eq!(admin.raise_fence(&topics).await.unwrap(), FenceKind::Acl);
    admin.prove_fence(&topics).await.unwrap();
    assert_eq!(client::refused(clients).await, RDKafkaErrorCode::TopicAuthorizationFailed);
    assert_eq!(client::read(clients, 3).await, ["one", "two", "three"]);
    admin.lift_fence(&topics).await.unwrap();
    client::send(clients, &["four"]).await;
    assert_eq!(client::read(clients, 4).await, ["one", "two", "three", "four"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_on_zookeeper_serves_and_keeps_its_data() {
    let test = "a_broker_on_zookeeper_serves_and_keeps_its_data";
    let Some(world) = World::new(test, ON_ZOOKEEPER).await else { return };
    let zookeeper =
        ZooKeeper::alone(&world.tools, ON_ZOOKEEPER, &world.folder.path().join("zookeeper")).await.unwrap();
    let at = addresses(2);
    let on = zookeeper.address().to_string();
    let machines = world.machines(&at[..1], &json!({ "ZooKeeperConnect": on }));
    let [broker] = &machines[..] else { unreachable!() };
    broker.serves().await;
    let said = format!("cfn-signal --region eu-west-1 --stack {STACK} --resource Serving0 --success true");
    assert_eq!(broker.calls("cfn-signal").join("\n"), said);
    assert_healthy_before_it_said_so(broker);

    // Clients and the controller of kutover are each sent on to the listener that they came in by.
    let clients = client::ask(broker.address, 9092).await;
    assert_eq!(clients.brokers, [(0, format!("{}:9092", broker.address))].into());
    let controller = client::ask(broker.address, 9094).await;
    assert_eq!(controller.brokers, [(0, format!("{}:9094", broker.address))].into());
    // Kafka's own id, below the colour's chroot, in the stack's own.
    let own = STACK.rsplit('/').next().unwrap();
    let there = in_zookeeper(&world.tools, &zookeeper, &format!("/KafkaA/{own}/cluster/id")).await;
    assert!(there.contains(&format!("\"id\":\"{}\"", clients.cluster_id)), "{there}");

    let bootstrap = format!("{}:9092", broker.address);
    client::create_topic(&bootstrap, 0).await;
    client::send(&bootstrap, &["one", "two"]).await;
    // Once more while it serves: nothing changes.
    let before = standing(broker);
    broker.serves().await;
    assert_eq!(standing(broker), before);
    assert_eq!(client::read(&bootstrap, 2).await, ["one", "two"]);
    // And after a reboot: the same broker of the same cluster.
    broker.shut_down();
    assert_eq!(broker.text("run/kafka"), "", "it still runs");
    broker.serves().await;
    assert_eq!(standing(broker)[..5], before[..5]);
    assert_eq!(client::ask(broker.address, 9092).await, clients);
    client::send(&bootstrap, &["three"]).await;
    assert_eq!(client::read(&bootstrap, 3).await, ["one", "two", "three"]);
    can_be_fenced(&format!("{}:9094", broker.address), &bootstrap).await;
    assert_eq!(broker.calls("mkfs.xfs").len(), 1, "the volume was formatted again");
    assert_eq!(broker.calls("cfn-signal"), vec![said; 3]);

    // L5: a later stack of the colour, on a new volume, is a cluster of its own, and not what this one has left in ZooKeeper.
    broker.shut_down();
    let later = json!({ "ZooKeeperConnect": on, "AWS::StackId": LATER_STACK });
    let machines = world.machines(&at[1..], &later);
    machines[0].serves().await;
    let it = client::ask(machines[0].address, 9092).await;
    assert_eq!(it.brokers, [(0, format!("{}:9092", machines[0].address))].into());
    assert_ne!(it.cluster_id, clients.cluster_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_brokers_of_kraft_serve_and_one_comes_back_after_a_power_cut() {
    let test = "three_brokers_of_kraft_serve_and_one_comes_back_after_a_power_cut";
    let Some(world) = World::new(test, KRAFT).await else { return };
    let at = addresses(3);
    let machines = world.machines(&at, &json!({}));
    let [first, second, third] = &machines[..] else { unreachable!() };
    tokio::join!(first.serves(), second.serves(), third.serves());
    for (id, machine) in machines.iter().enumerate() {
        assert_healthy_before_it_said_so(machine);
        let said = signalled(machine);
        assert!(said.ends_with(&format!("--resource Serving{id} --success true")), "{said}");
        let said = client::ask(machine.address, 9092).await;
        let everybody = at.iter().zip(0..).map(|(address, id)| (id, format!("{address}:9092"))).collect();
        assert_eq!(said, client::Said { cluster_id: ITS_CLUSTER_ID.into(), brokers: everybody });
    }
    let bootstrap = at.iter().map(|address| format!("{address}:9092")).collect::<Vec<_>>().join(",");
    // On the first broker's volume, and nowhere else.
    client::create_topic(&bootstrap, 0).await;
    client::send(&bootstrap, &["one", "two"]).await;
    let before = standing(first);
    first.serves().await;
    assert_eq!(standing(first), before);
    first.cut_power();
    assert_eq!(first.text("run/kafka"), "", "it still runs");
    first.serves().await;
    assert_eq!(standing(first)[..5], before[..5]);
    client::send(&bootstrap, &["three"]).await;
    assert_eq!(client::read(&bootstrap, 3).await, ["one", "two", "three"]);
    can_be_fenced(&format!("{}:9094", first.address), &bootstrap).await;
    assert_eq!(first.calls("mkfs.xfs").len(), 1, "the volume was formatted again");
}

/// The stack is told which step failed, once, and nothing of an archive that is not the right one is started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_told_to_the_stack() {
    let test = "what_fails_is_told_to_the_stack";
    let Some(world) = World::new(test, KRAFT).await else { return };
    let at = addresses(1);
    let machines = world.machines(&at, &json!({ "ArchiveSha512": "0".repeat(128) }));
    let [broker] = &machines[..] else { unreachable!() };
    assert!(!broker.boot().await, "an archive with another checksum is taken");
    let said = broker.calls("cfn-signal");
    let told = "--success false --reason broker 0: step install failed; see /var/log/cloud-init-output.log";
    assert!(said.len() == 1 && said[0].ends_with(told), "{said:?}");
    assert!(broker.calls("systemctl").is_empty() && !broker.root.join("opt/kafka").join("libs").exists());
    assert!(fs::read_dir(broker.root.join("volume")).unwrap().next().is_none());
}
