//! A deployment on two embedded clusters that exist, with its records and its journal on AWS in emulation, and traffic: for
//! what is not about Kafka.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use kutover_audit::{Deployment, TOPIC};
use kutover_core::owner::OwnerRecord;
use kutover_core::ports::{DnsProvider as _, Published};
use kutover_core::words::{Colour, DnsName};
use kutover_lab::embedded::{EmbeddedCluster, EmbeddedOptions};
use kutover_producer::{Order, Resolvers};
use kutover_tests::{Live, LivePlan, Program, existing};
use serde_json::Value;
use tempfile::TempDir;

use crate::account::{Account, BUCKET};
use crate::bridge::Bridge;
use crate::name_servers::{NameServer, ZONE};

pub(crate) const ENDPOINT: &str = "kafka.orders.test";
const PARTITIONS: u16 = 3;
const GROUPS: [&str; 1] = ["billing"];
/// So many more acknowledgements, wherever traffic is to be seen.
pub(crate) const SOME: u64 = 200;

/// Two clusters that exist, an endpoint or two in Route 53, and traffic.
pub(crate) struct Scene {
    pub(crate) account: Account,
    pub(crate) bind: NameServer,
    pub(crate) bridge: Bridge,
    pub(crate) zones: Vec<String>,
    pub(crate) clusters: [Arc<EmbeddedCluster>; 2],
    directory: TempDir,
}

impl Scene {
    /// With an endpoint in each of these zones.
    pub(crate) async fn open(test: &str, apexes: &[&str]) -> Option<Self> {
        let account = Account::open(test).await?;
        let bind = NameServer::start_with(test, &[]).await?;
        let mut zones = Vec::new();
        for (at, apex) in apexes.iter().enumerate() {
            zones.push(account.hosted_zone(apex, &format!("{test} {apex} {at}")).await);
        }
        // A client sees one of several zones of one name: here the first.
        let seen: Vec<usize> = (0..apexes.len()).filter(|&at| !apexes[..at].contains(&apexes[at])).collect();
        let names: Vec<String> = seen.iter().map(|&at| format!("kafka.{}", apexes[at])).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let served: Vec<String> = seen.iter().map(|&at| zones[at].clone()).collect();
        let bridge = Bridge::start(&account, &served, &names, &bind).await;
        let blue = EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("blue");
        let green = EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("green");
        blue.fake().create_topic(TOPIC, PARTITIONS.into());
        let directory = tempfile::tempdir().expect("a directory");
        Some(Self { account, bind, bridge, zones, clusters: [blue, green], directory })
    }

    /// `key` is the journal's in the bucket.
    pub(crate) fn configuration(&self, key: &str, apexes: &[&str]) -> PathBuf {
        let [blue, green] = &self.clusters;
        let plan = format!(
            "approve = \"manual\"\nwaive_history = \"*\"\nquiet_window = \"500ms\"\nconverge_deadline = \"20s\"\ngroups = {GROUPS:?}\n"
        );
        // Released at the end, which a person approves.
        let text = existing([blue, green], &plan).replace("remove_old = false", "remove_old = true");
        let is_split = apexes.iter().enumerate().any(|(at, apex)| apexes[..at].contains(apex));
        let endpoint = |(apex, zone): (&&str, &String)| {
            let pin = if is_split { format!(", zone_id = \"{zone}\"") } else { String::new() };
            format!("{{ name = \"kafka.{apex}\", port = 9092{pin} }}")
        };
        let endpoints: Vec<String> = apexes.iter().zip(&self.zones).map(endpoint).collect();
        let zone_ids = if is_split { String::new() } else { format!("\nzone_ids = {:?}", self.zones) };
        let route53 = format!("kind = \"route53\"\nzone = \"{ZONE}\"{zone_ids}");
        let text = text
            .replace(&format!("{{ name = \"{ENDPOINT}\", port = 9092 }}"), &endpoints.join(", "))
            .replace("journal = \"orders.journal\"", &format!("journal = \"s3://{BUCKET}/{key}\""))
            .replace("[dns]", "[aws]\nregion = \"us-east-1\"\n\n[dns]")
            .replace("kind = \"local\"\nzone = \"orders.test\"\nlisten = \"127.0.0.1:0\"", &route53);
        let path = self.directory.path().join("orders.toml");
        std::fs::write(&path, text).expect("written");
        path
    }

    /// The cutover, not yet begun.
    pub(crate) fn up(&self, path: &Path) -> Command {
        let file = path.to_str().expect("UTF-8");
        self.account.program(self.bridge.route53(), &["up", "--json", file])
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

    /// A cutover that has begun, and live traffic.
    pub(crate) async fn begun(&self, up: &mut Command) -> (Program, Live) {
        let mut up = Program::start(up);
        up.wait_for("term 1 taken");
        let live = self.traffic().await;
        live.goes_on(SOME).await;
        (up, live)
    }

    /// Goes on to where a person is asked whether to switch.
    pub(crate) async fn comes_to_the_switch(&self, up: &mut Program, live: &mut Live) {
        up.wait_for("approve redirect");
        live.goes_on(SOME).await;
        live.follow(Colour::Green, &self.clusters[1].bootstrap_servers());
    }

    /// Waits for the end of a cutover that is to be complete, and counts.
    pub(crate) async fn completes(&self, up: &mut Program, live: Live) {
        let (counted, status) = Self::counted(up, live).await;
        assert_eq!((counted["outcome"].as_str(), status), (Some("complete"), Some(0)), "{counted}");
        assert!(
            counted["blue"]["records"].as_u64() > Some(0) && counted["green"]["records"].as_u64() > Some(0),
            "{counted}"
        );
    }

    /// Waits for the end of a cutover that is to be given up before anything was switched, and counts; gives its reason.
    pub(crate) async fn is_given_up(&self, up: &mut Program, live: Live) -> String {
        let (counted, status) = Self::counted(up, live).await;
        assert_eq!(counted["outcome"], "aborted", "{counted}");
        assert_ne!(status, Some(0), "{counted}");
        assert_eq!(counted["blue"]["records"], counted["accepted"], "{counted}");
        let owner = self.owner().await;
        assert_eq!((owner.target.generation.0, owner.target.colour), (1, Colour::Blue));
        counted["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits for the end of the program and, once traffic has been seen to go on, of the traffic: nothing is lost, whatever
    /// came of the cutover. Gives the report with the count, and the status.
    async fn counted(up: &mut Program, live: Live) -> (Value, Option<i32>) {
        let (status, report) = up.end();
        let told: Value = serde_json::from_str(report.trim())
            .unwrap_or_else(|error| panic!("no report ({error}):\n{}", up.shown()));
        live.goes_on(SOME).await;
        let counted = live.audit(&told).await;
        for zero in ["lost", "duplicated", "out_of_order", "returned", "foreign"] {
            assert_eq!(counted[zero], 0, "{zero}: {counted}");
        }
        assert_eq!(counted["accepted"], counted["acknowledged"], "{counted}");
        assert!(counted["accepted"].as_u64() > Some(0), "{counted}");
        assert_eq!(counted["groups"][0]["missed"], 0, "{counted}");
        (counted, status)
    }

    /// The first endpoint's owner record, as it stands in Route 53.
    pub(crate) async fn owner(&self) -> OwnerRecord {
        let found = self.account.records(&self.zones[..1]).read(&DnsName::new(ENDPOINT)).await;
        found.expect("Route 53 answers").owner.expect("an owner record")
    }

    /// What BIND serves at a name.
    pub(crate) async fn served(&self, name: &str) -> Published {
        self.bind.provider().read(&DnsName::new(name)).await.expect("BIND answers")
    }
}
