//! Records that others change, or that cannot be changed, in the middle of a cutover: it holds and says why, goes on when
//! the cause ends, and nothing is lost. On embedded clusters: nothing of this is about Kafka.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_route53::types::RrType;
use kutover_audit::{Deployment, TOPIC};
use kutover_core::owner::OwnerRecord;
use kutover_core::ports::{DnsProvider as _, Published, RecordData};
use kutover_core::words::{Colour, DnsName};
use kutover_lab::embedded::{EmbeddedCluster, EmbeddedOptions};
use kutover_producer::{Order, Resolvers};
use kutover_tests::{Live, LivePlan, Program, existing};
use serde_json::Value;
use tempfile::TempDir;

use crate::account::{Account, BUCKET};
use crate::bridge::{Bridge, is_change};
use crate::name_servers::{NameServer, ZONE};
use crate::proxy::reply;

const ENDPOINT: &str = "kafka.orders.test";
const PARTITIONS: u16 = 3;
const GROUPS: [&str; 1] = ["billing"];
const SOME: u64 = 200;

/// Two clusters that exist, an endpoint or two in Route 53, and traffic.
struct Scene {
    account: Account,
    bind: NameServer,
    bridge: Bridge,
    zones: Vec<String>,
    clusters: [Arc<EmbeddedCluster>; 2],
    directory: TempDir,
}

impl Scene {
    /// With an endpoint in each of these zones.
    async fn open(test: &str, apexes: &[&str]) -> Option<Self> {
        let account = Account::open(test).await?;
        let bind = NameServer::start_with(test, &[]).await?;
        let mut zones = Vec::new();
        for apex in apexes {
            zones.push(account.hosted_zone(apex, &format!("{test} {apex}")).await);
        }
        let names: Vec<String> = apexes.iter().map(|apex| format!("kafka.{apex}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let bridge = Bridge::start(&account, &zones, &names, &bind).await;
        let blue = EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("blue");
        let green = EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("green");
        blue.fake().create_topic(TOPIC, PARTITIONS.into());
        let directory = tempfile::tempdir().expect("a directory");
        Some(Self { account, bind, bridge, zones, clusters: [blue, green], directory })
    }

    /// `key` is the journal's in the bucket.
    fn configuration(&self, key: &str, apexes: &[&str]) -> PathBuf {
        let [blue, green] = &self.clusters;
        let plan = format!(
            "approve = \"manual\"\nwaive_history = \"*\"\nquiet_window = \"500ms\"\nconverge_deadline = \"20s\"\ngroups = {GROUPS:?}\n"
        );
        // Released at the end, which a person approves.
        let text = existing([blue, green], &plan).replace("remove_old = false", "remove_old = true");
        let endpoints: Vec<String> =
            apexes.iter().map(|apex| format!("{{ name = \"kafka.{apex}\", port = 9092 }}")).collect();
        let route53 = format!("kind = \"route53\"\nzone = \"{ZONE}\"\nzone_ids = {:?}", self.zones);
        let text = text
            .replace(&format!("{{ name = \"{ENDPOINT}\", port = 9092 }}"), &endpoints.join(", "))
            .replace("journal = \"orders.journal\"", &format!("journal = \"s3://{BUCKET}/{key}\""))
            .replace("[dns]", "[aws]\nregion = \"us-east-1\"\n\n[dns]")
            .replace("kind = \"local\"\nzone = \"orders.test\"\nlisten = \"127.0.0.1:0\"", &route53);
        let path = self.directory.path().join("orders.toml");
        std::fs::write(&path, text).expect("written");
        path
    }

    fn up(&self, file: &str) -> Program {
        Program::start(&mut self.account.program(self.bridge.route53(), &["up", "--json", file]))
    }

    async fn traffic(&self) -> Live {
        let places = self.clusters.each_ref().map(|cluster| cluster.bootstrap_servers());
        let deployment = Deployment {
            name: "orders".into(),
            endpoint: ENDPOINT.into(),
            resolvers: Resolvers::Servers(vec![self.bind.address]),
            order: Order::Ordered,
        };
        let (producers, rate, blue) = (2, 400, places[0].clone());
        let plan = LivePlan { deployment, producers, rate, groups: &GROUPS, places, partitions: PARTITIONS };
        Live::start(plan, &blue).await
    }

    /// A cutover under live traffic, up to where a person is asked whether to switch.
    async fn before_the_switch(&self, path: &Path) -> (Program, Live) {
        let mut up = self.up(path.to_str().expect("UTF-8"));
        up.wait_for("term 1 taken");
        let mut live = self.traffic().await;
        up.wait_for("approve redirect");
        live.goes_on(SOME).await;
        live.follow(Colour::Green, &self.clusters[1].bootstrap_servers());
        (up, live)
    }

    /// Waits for the end of a cutover that is to be complete, and counts.
    async fn completes(&self, up: &mut Program, live: Live) {
        let (status, report) = up.end();
        let told: Value = serde_json::from_str(report.trim())
            .unwrap_or_else(|error| panic!("no report ({error}):\n{}", up.shown()));
        assert_eq!((told["outcome"].as_str(), status), (Some("complete"), Some(0)), "{told}");
        live.goes_on(SOME).await;
        let counted = live.audit(&told).await;
        for zero in ["lost", "duplicated", "out_of_order", "returned", "foreign"] {
            assert_eq!(counted[zero], 0, "{zero}: {counted}");
        }
        assert_eq!(counted["accepted"], counted["acknowledged"], "{counted}");
        assert!(
            counted["blue"]["records"].as_u64() > Some(0) && counted["green"]["records"].as_u64() > Some(0)
        );
        assert_eq!(counted["groups"][0]["missed"], 0, "{counted}");
    }

    /// What BIND serves at a name.
    async fn served(&self, name: &str) -> Published {
        self.bind.provider().read(&DnsName::new(name)).await.expect("BIND answers")
    }
}

/// Twice by hand: before the switch to somewhere else, and after it back to blue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_changed_by_hand_holds_the_cutover_and_loses_nothing() {
    let test = "a_record_changed_by_hand_holds_the_cutover_and_loses_nothing";
    let Some(scene) = Scene::open(test, &[ZONE]).await else { return };
    let path = scene.configuration("by-hand.journal", &[ZONE]);
    let zone = scene.zones[0].as_str();
    let to = async |address: &str| scene.account.by_hand(zone, ENDPOINT, RrType::A, 1, address).await;
    let (mut up, live) = scene.before_the_switch(&path).await;

    to("10.9.9.9").await;
    up.say("approve redirect");
    let why = up.wait_for("hold: publish kafka.orders.test");
    assert!(why.contains("10.9.9.9") && why.contains("neither blue nor green"), "{why}");
    let owner = scene.served(ENDPOINT).await.owner.expect("an owner record");
    assert_eq!(owner.target.generation.0, 1, "it was published over somebody else's change");
    live.goes_on(SOME).await;
    to("127.8.8.1").await;

    up.wait_for("approve removal");
    to("127.8.8.1").await;
    up.say("approve removal");
    let why = up.wait_for("hold: check where kafka.orders.test points");
    assert!(why.contains("127.8.8.1") && why.contains("put it right"), "{why}");
    live.goes_on(SOME).await;
    to("127.8.8.2").await;
    scene.completes(&mut up, live).await;
    let served = scene.served(ENDPOINT).await;
    let (set, owner) = (served.endpoint.expect("a record set"), served.owner.expect("an owner record"));
    assert_eq!(set.data, RecordData::Addresses(vec![[127, 8, 8, 2].into()]));
    assert_eq!((owner.target.generation.0, owner.target.colour), (2, Colour::Green));
}

/// One of two endpoints cannot be switched: a partial switch is a hold that names what is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_endpoints_that_refuses_holds_the_switch_and_loses_nothing() {
    const APEXES: [&str; 2] = [ZONE, "internal.orders.test"];
    const SECOND: &str = "kafka.internal.orders.test";
    let test = "one_of_two_endpoints_that_refuses_holds_the_switch_and_loses_nothing";
    let Some(scene) = Scene::open(test, &APEXES).await else { return };
    let path = scene.configuration("two-endpoints.journal", &APEXES);
    scene.account.by_hand(&scene.zones[1], SECOND, RrType::A, 1, "127.8.8.1").await;
    let refuses = Arc::new(AtomicBool::new(false));
    scene.bridge.refuses({
        let (zone, refuses) = (scene.zones[1].clone(), Arc::clone(&refuses));
        move |request| {
            let refused = refuses.load(Ordering::SeqCst) && is_change(request) && request.contains(&zone);
            refused.then(|| reply("403 Forbidden", DENIED))
        }
    });
    let (mut up, live) = scene.before_the_switch(&path).await;

    refuses.store(true, Ordering::SeqCst);
    up.say("approve redirect");
    let why = up.wait_for("hold: publish kafka.internal.orders.test");
    assert!(why.contains("not authorized to change this hosted zone"), "{why}");
    let [first, second] = [scene.served(ENDPOINT).await, scene.served(SECOND).await];
    assert_eq!(first.owner.map(|owner| owner.target.generation.0), Some(2), "the first one was switched");
    assert_eq!(second.endpoint.map(|set| set.data), Some(RecordData::Addresses(vec![[127, 8, 8, 1].into()])));
    live.goes_on(SOME).await;
    refuses.store(false, Ordering::SeqCst);
    up.wait_for("approve removal");
    up.say("approve removal");
    scene.completes(&mut up, live).await;
    for name in [ENDPOINT, SECOND] {
        let served = scene.served(name).await;
        let owner: OwnerRecord = served.owner.unwrap_or_else(|| panic!("no owner record at {name}"));
        assert_eq!((owner.target.generation.0, owner.target.colour), (2, Colour::Green), "{name}");
        assert_eq!(
            served.endpoint.map(|set| set.data),
            Some(RecordData::Addresses(vec![[127, 8, 8, 2].into()])),
            "{name}"
        );
    }
}

/// As Route 53 refuses who may not.
const DENIED: &str = "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
    <Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User is not authorized to change this hosted zone\
    </Message></Error><RequestId>r-1</RequestId></ErrorResponse>";
