//! `kutover plan`: what a plan is refused over, each alone in a world that is ready without it. What only real Kafka tells of
//! (ACLs, transactions, groups of every kind) is refused in `kafka/plan`; which clusters these are, who is let in and whether
//! brokers are reached, in `kafka/refusals.rs` once more.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use kutover_lab::embedded::{EmbeddedCluster, EmbeddedOptions};
use kutover_tests::{existing, kutover};
use serde_json::Value;
use tempfile::TempDir;

/// Two clusters, of which blue has a topic, and a folder for their configuration.
struct World {
    blue: Arc<EmbeddedCluster>,
    green: Arc<EmbeddedCluster>,
    directory: TempDir,
}

impl World {
    async fn start() -> Self {
        let (blue, green) = tokio::join!(cluster(), cluster());
        blue.fake().create_topic("orders", 2);
        Self { blue, green, directory: tempfile::tempdir().expect("a directory") }
    }

    /// The configuration under which the plan is ready.
    fn text(&self) -> String {
        existing([&self.blue, &self.green], "")
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.directory.path().join("orders.toml");
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Code and subject of every refusal of a plan by this text, and the exit status.
    fn plan(&self, text: &str) -> (BTreeSet<(String, String)>, Option<i32>) {
        let file = self.file(text);
        let run = kutover(&["plan", "--watch", "1", "--json", file.to_str().expect("UTF-8")]);
        let last = run.stdout.lines().last().unwrap_or_default();
        let plan: Value =
            serde_json::from_str(last).unwrap_or_else(|error| panic!("no plan ({error}): {}", run.stderr));
        let word = |value: &Value| value.as_str().expect("text").to_owned();
        let refusals = plan["refusals"].as_array().expect("refusals").iter();
        (refusals.map(|one| (word(&one["code"]), word(&one["subject"]))).collect(), run.status)
    }

    /// Asserts that the plan by this text is refused over this, and over nothing else.
    fn refused(&self, text: &str, code: &str, subject: &str) {
        let expected = BTreeSet::from([(code.to_owned(), subject.to_owned())]);
        assert_eq!(self.plan(text), (expected, Some(3)));
    }
}

async fn cluster() -> Arc<EmbeddedCluster> {
    EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("a cluster")
}

/// What a field waives or configures: with it the plan is ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_field() {
    let world = World::start().await;
    let ready = world.text();
    assert_eq!(world.plan(&ready), (BTreeSet::new(), Some(0)));
    for (field, instead, code, subject) in [
        ("fence = \"waived\"", "", "fence", "fence"),
        (
            "remove_old = false",
            "approve = \"manual\"\nwaive_unread = \"*\"\nwaive_history = \"*\"",
            "unknown-groups",
            "groups",
        ),
        ("waive_retention = \"*\"", "", "retention", "orders"),
        ("waive_auto_create = true", "", "access", "auto.create.topics.enable"),
        ("[plan]", "[plan]\ntopics = [\"missing\"]", "nothing-moves", "plan"),
    ] {
        assert!(ready.contains(field), "{field}");
        world.refused(&ready.replacen(field, instead, 1), code, subject);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_cluster_behind_both_colours() {
    let world = World::start().await;
    world.green.set_cluster_id(&world.blue.cluster_id());
    world.refused(&world.text(), "same-cluster", world.blue.cluster_id().as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_more_partitions_on_the_new_cluster() {
    let world = World::start().await;
    world.green.fake().create_topic("orders", 3);
    world.refused(&world.text(), "parity", "orders");
}

/// Clients would be sent to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_takes_no_connection() {
    let world = World::start().await;
    world.green.fake().with_state(|state| {
        let mut deaf = state.brokers[0].clone();
        (deaf.node_id, deaf.port) = (deaf.node_id + 7, 1);
        state.brokers.push(deaf);
    });
    world.refused(&world.text(), "unreachable-broker", "127.0.0.1:1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_workers_that_do_not_answer() {
    let world = World::start().await;
    let workers = |colour, port| {
        format!(
            "\n[clusters.{colour}.connect]\nurl = \"http://127.0.0.1:{port}\"\ntopics = [\"connect-offsets\"]\n"
        )
    };
    let text = world.text() + &workers("blue", 1) + &workers("green", 2);
    let both = ["blue", "green"].map(|colour| ("connect".to_owned(), format!("workers of {colour}")));
    assert_eq!(world.plan(&text), (both.into(), Some(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_than_the_one_that_is_published() {
    let world = World::start().await;
    let file = world.file(&world.text());
    let up = kutover(&["up", file.to_str().expect("UTF-8")]);
    assert_eq!(up.status, Some(0), "{}", up.stderr);
    let stranger = cluster().await;
    stranger.fake().create_topic("orders", 2);
    world.refused(
        &existing([&world.blue, &stranger], "to = \"blue\"\n"),
        "wrong-cluster",
        "kafka.orders.test",
    );
}
