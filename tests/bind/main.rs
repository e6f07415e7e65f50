//! A whole cutover of a deployment whose records are in BIND and whose clusters a command makes and removes: 3.9.2 to 4.3.1,
//! under live producers that resolve through BIND.

#[path = "../../crates/kutover-dns/tests/common/name_servers.rs"]
#[allow(dead_code, reason = "kutover-dns uses the rest")]
mod name_servers;
mod workshop;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_audit::{Deployment, TOPIC};
use kutover_core::ports::{
    ClusterAdmin as _, ClusterProvisioner as _, DnsProvider as _, Incarnation, NewTopic, RecordData,
};
use kutover_core::words::{Colour, DnsName};
use kutover_lab::{ClusterSpec, KafkaVersion, LabOptions, LabProvisioner, MachineTurn};
use kutover_producer::{Order, Resolvers};
use kutover_tests::{Counted, CutOver, LivePlan, Planted, command, run, tools};
use name_servers::{KEY, Kind, NameServer, SECRET};
use serde_json::Value;
use tempfile::TempDir;

const ENDPOINT: &str = "kafka.orders.test";
const GROUPS: [&str; 2] = ["billing", "shipping"];
const PARTITIONS: u16 = 3;
const PRODUCERS: usize = 4;
const RATE: u32 = 1_000;
const BLUE: KafkaVersion = KafkaVersion::new(3, 9, 2);
const GREEN: KafkaVersion = KafkaVersion::new(4, 3, 1);
/// Planted where a command's secret goes: it must not come out again.
const PLANTED: &str = "planted-secret-of-the-command";
/// A key of the same name that BIND does not take.
const WRONG: &str = "cGxhbnRlZC1hbm90aGVyLXNlY3JldC1vZi10c2lnLTA=";
/// The files in which secrets stand because they were put there.
const OF_SECRETS: [&str; 2] = ["orders.toml", "tsig.secret"];

/// Blue, and what it takes to make green.
struct World {
    server: NameServer,
    lab: Arc<LabProvisioner>,
    blue: Incarnation,
    /// What the program is given, and what it leaves.
    directory: TempDir,
    _data: TempDir,
    _turn: MachineTurn,
}

impl World {
    async fn open(test: &str) -> Option<Self> {
        let tools = tools(test, &[BLUE, GREEN]).await?;
        let server = NameServer::start(test, Kind::Bind).await?;
        let turn = tools.machine_turn().await.expect("a turn");
        let (data, directory) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir());
        let mut options = LabOptions::new(data.path(), ClusterSpec::apache(BLUE), ClusterSpec::apache(GREEN));
        options.tools = tools;
        options.is_disposable = true;
        let lab = Arc::new(LabProvisioner::new(options).await.expect("a world"));
        let blue = lab.provision(Colour::Blue, &"before".into()).await.expect("blue");
        let partitions = PARTITIONS.into();
        let topic = NewTopic { name: TOPIC.into(), partitions, replication: 1, configs: [].into() };
        let config = AdminConfig { bootstrap: blue.bootstrap.clone(), ..AdminConfig::default() };
        let admin = KafkaAdmin::connect(config).await.expect("blue answers");
        admin.create_topic(&topic).await.expect("its topic");
        let directory = directory.expect("a directory");
        Some(Self { server, lab, blue, directory, _data: data, _turn: turn })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("orders.toml")
    }

    /// The configuration, and beside it the command that makes clusters.
    fn configure(&self) {
        let script = workshop::open(self.directory.path(), &self.lab);
        let mut text = format!(
            "deployment = \"orders\"\njournal = \"orders.journal\"\n\
             endpoints = [{{ name = \"{ENDPOINT}\", port = {} }}]\n\n\
             [dns]\nkind = \"rfc2136\"\nzone = \"orders.test\"\nserver = \"{}\"\nkey_name = \"{KEY}\"\n\
             secret = {{ file = \"tsig.secret\" }}\nttl_s = 2\n",
            self.lab.place(Colour::Blue).port(),
            self.server.address
        );
        for colour in Colour::BOTH {
            text += &format!(
                "\n[clusters.{colour}.provisioner]\nkind = \"exec\"\ncommand = [\"sh\", {:?}]\n\
                 environment = {{ TOKEN = \"{PLANTED}\" }}\n",
                script.to_str().expect("UTF-8")
            );
        }
        text += &format!(
            "\n[plan]\nttl = \"1s\"\napprove = \"manual\"\ngroups = {GROUPS:?}\nwaive_history = \"*\"\nsoak = \"1s\"\n\
             quiet_window = \"2s\"\nconverge_deadline = \"30s\"\ndrain_poll = \"200ms\"\nwatch = \"1s\"\nhold_limit = \"60s\"\ncommand_timeout = \"60s\"\n\
             separation_head_room = 1000\nwaive_super_users = \"*\"\n"
        );
        std::fs::write(self.path(), text).expect("written");
    }

    /// The secret of the key, as the configuration names it.
    fn give_key(&self, secret: &str) {
        std::fs::write(self.directory.path().join("tsig.secret"), format!("{secret}\n")).expect("written");
    }

    fn program(&self, words: &[&str]) -> Command {
        let mut program = command();
        program.arg(words[0]).arg(self.path()).args(&words[1..]).env("KUTOVER_LOG", "trace");
        program
    }

    /// What `check --online` finds, and its status.
    fn check(&self) -> (Value, Option<i32>) {
        let run = run(&mut self.program(&["check", "--online", "--json"]));
        keeps_quiet("check", &format!("{}{}", run.stdout, run.stderr));
        let report = run.stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
        (report.unwrap_or_else(|| panic!("no report: {}", run.shown())), run.status)
    }

    fn traffic(&self) -> LivePlan<'static> {
        LivePlan {
            deployment: Deployment {
                name: "orders".into(),
                endpoint: ENDPOINT.into(),
                resolvers: Resolvers::Servers(vec![self.server.address]),
                order: Order::Ordered,
            },
            producers: PRODUCERS,
            rate: RATE,
            groups: &GROUPS,
            places: Colour::BOTH.map(|colour| self.lab.place(colour).to_string()),
            partitions: PARTITIONS,
        }
    }

    fn cluster_id(&self, colour: Colour) -> String {
        self.lab.apache(colour).expect("it runs").cluster_id().to_string()
    }
}

fn keeps_quiet(what: &str, text: &str) {
    Planted::new([SECRET, WRONG, PLANTED]).assert_not_in(what, text);
}

fn says(report: &Value, part: &str) -> String {
    let parts = report["parts"].as_array().expect("parts");
    let found = parts.iter().find(|it| it["part"] == part).unwrap_or_else(|| panic!("no {part}: {report}"));
    found["says"].as_str().expect("a text").to_owned()
}

/// With a key that BIND does not take nothing is done, and neither that key nor any other secret is said.
fn a_wrong_key_is_refused(world: &World) {
    world.give_key(WRONG);
    let (found, status) = world.check();
    assert_eq!(status, Some(4), "{found}");
    assert!(says(&found, "dns").contains("not authorised"), "{found}");
    let mut up = world.program(&["up", "--json"]);
    // Each try is refused, and a hold over it is given up soon. The journal of it stays: the next run goes on from there.
    let text = std::fs::read_to_string(world.path()).expect("read");
    std::fs::write(world.path(), text.replace("hold_limit = \"60s\"", "hold_limit = \"1s\""))
        .expect("written");
    let ran = run(&mut up);
    std::fs::write(world.path(), text).expect("written");
    keeps_quiet("up", &format!("{}{}", ran.stdout, ran.stderr));
    assert_ne!(ran.status, Some(0), "{}", ran.stdout);
    assert!(ran.shown().contains("not authorised"), "{}", ran.shown());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cutover_on_bind_with_a_commands_clusters_loses_nothing() {
    let test = "a_cutover_on_bind_with_a_commands_clusters_loses_nothing";
    let Some(world) = World::open(test).await else { return };
    world.configure();
    a_wrong_key_is_refused(&world);
    world.give_key(SECRET);
    let (before, status) = world.check();
    assert_eq!((status, before["ok"].as_bool()), (Some(0), Some(true)), "{before}");
    assert!(says(&before, "dns").contains("takes updates"), "{before}");
    assert!(says(&before, &format!("dns {ENDPOINT}")).contains("nothing is there yet"), "{before}");
    assert!(says(&before, "cluster blue").contains(&world.cluster_id(Colour::Blue)), "{before}");
    assert!(says(&before, "cluster green").contains("nothing stands there"), "{before}");

    let mut program = world.program(&["up", "--json"]);
    let done = CutOver::carry_out(&mut program, world.traffic(), &world.lab).await;
    let Counted { report, said } = done.assert_complete().await;
    keeps_quiet("its report", &report);
    keeps_quiet("its log", &said);
    ends_as_it_should(&world).await;

    // The server is gone: the file is sound, what it names is not all there, and which part is said.
    let green = world.cluster_id(Colour::Green);
    let World { server, lab, directory, blue, _data, _turn } = world;
    let address = server.address;
    drop(server);
    let file = directory.path().join("orders.toml");
    let gone = run(command().args(["check", "--online", "--json"]).arg(&file));
    let found: Value = serde_json::from_str(gone.stdout.trim()).expect("a report");
    assert_eq!((gone.status, found["ok"].as_bool()), (Some(4), Some(false)), "{found}");
    let dns = says(&found, "dns");
    assert!(dns.contains("cannot be reached") && dns.contains(&address.to_string()), "{found}");
    assert!(says(&found, "cluster green").contains(&green), "{found}");
    drop((lab, blue));
}

/// Green is what is published, blue is gone, every act went through the command, and no secret came out.
async fn ends_as_it_should(world: &World) {
    let published = world.server.provider().read(&DnsName::new(ENDPOINT)).await.expect("read");
    let owner = published.owner.expect("an owner record");
    assert_eq!(owner.target.colour, Colour::Green);
    assert_eq!(owner.target.cluster_id.as_str(), world.cluster_id(Colour::Green));
    let set = published.endpoint.expect("a record set");
    assert_eq!(set.data, RecordData::Addresses(vec![world.lab.place(Colour::Green).ip()]));
    let (after, status) = world.check();
    assert_eq!(status, Some(0), "{after}");
    assert!(says(&after, "cluster blue").contains("nothing stands there"), "{after}");
    let requests =
        std::fs::read_to_string(world.directory.path().join(workshop::REQUESTS)).expect("requests");
    let asked = |act: &str, what: &str| {
        requests.lines().any(|line| line.contains(&format!("\"act\":\"{act}\"")) && line.contains(what))
    };
    assert!(asked("provision", "green") && asked("isolate", world.blue.id.as_str()), "{requests}");
    assert!(asked("destroy", world.blue.id.as_str()), "{requests}");
    no_secret_is_kept(world.directory.path());
}

/// Neither the key's secret nor the command's is in anything that was written, but where they were put.
fn no_secret_is_kept(directory: &Path) {
    Planted::new([SECRET, WRONG, PLANTED]).assert_not_in_files(directory, &OF_SECRETS);
}
