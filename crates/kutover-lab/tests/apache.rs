//! Real Apache Kafka as stock clients see it. One world at a time: brokers are large.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use kutover_core::error::{ErrorKind, Outcome};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner, Incarnation};
use kutover_core::words::{ClusterId, Colour};
use kutover_lab::{ClusterSpec, KafkaVersion, LabOptions, LabProvisioner, Tools, random_cluster_id};
use support::{create_orders, is_served, is_shut_out, kafka_tools, producer, read, send};

const ON_ZOOKEEPER: KafkaVersion = KafkaVersion::new(3, 9, 2);
const KRAFT: KafkaVersion = KafkaVersion::new(4, 3, 1);

fn options(dir: &Path, tools: &Tools, blue: ClusterSpec, green: ClusterSpec) -> LabOptions {
    let mut options = LabOptions::new(dir, blue, green);
    options.tools = tools.clone();
    options.is_disposable = true;
    options
}

fn mark(incarnation: &Incarnation, cluster_id: &ClusterId) -> RemovalMark {
    RemovalMark { incarnation: incarnation.id.clone(), cluster_id: cluster_id.clone() }
}

fn id_of(lab: &LabProvisioner, colour: Colour) -> ClusterId {
    lab.apache(colour).expect("a running cluster").cluster_id().clone()
}

/// Sends `count` records and reads all that are there.
async fn write_and_read(cluster: &Incarnation, count: usize, there: usize) {
    let producer = producer(&cluster.bootstrap, "app");
    let mut sent = BTreeSet::new();
    for number in there..there + count {
        let text = format!("record {number}");
        send(&producer, &text).await.expect("acknowledged");
        sent.insert(text);
    }
    let values = read(&cluster.bootstrap, count).await;
    assert_eq!(values, sent);
}

/// Isolates and puts back, and looks from outside.
async fn isolation_works(lab: &LabProvisioner, cluster: &Incarnation) {
    let before = producer(&cluster.bootstrap, "app");
    let nonce = "i1".into();
    lab.isolate(&cluster.id, &nonce).await.expect("isolate");
    assert!(send(&before, "shut out").await.is_err());
    assert!(is_shut_out(&cluster.bootstrap, "app").await);
    assert!(is_served(&cluster.controller_bootstrap, "kutover-controller").await);
    lab.put_back(&cluster.id, &"i0".into()).await.expect("a late put-back is no error");
    assert!(is_shut_out(&cluster.bootstrap, "app").await, "and undoes nothing");
    lab.put_back(&cluster.id, &nonce).await.expect("put back");
    assert!(is_served(&cluster.bootstrap, "app").await);
}

#[tokio::test]
async fn two_clusters_of_zookeepers_day_share_an_ensemble_and_one_goes_alone() {
    let test = "two_clusters_of_zookeepers_day_share_an_ensemble_and_one_goes_alone";
    let Some(tools) = kafka_tools(test, &[ON_ZOOKEEPER]).await else { return };
    let _turn = tools.machine_turn().await.expect("a turn");
    let dir = tempfile::tempdir().expect("a directory");
    let spec = || ClusterSpec::apache(ON_ZOOKEEPER);
    let lab = LabProvisioner::new(options(dir.path(), &tools, spec(), spec())).await.expect("a world");
    let blue = lab.provision(Colour::Blue, &"r1".into()).await.expect("blue");
    let green = lab.provision(Colour::Green, &"r2".into()).await.expect("green");
    assert_eq!(lab.provision(Colour::Blue, &"r1".into()).await.expect("the same"), blue);
    let (blue_id, green_id) = (id_of(&lab, Colour::Blue), id_of(&lab, Colour::Green));
    assert_ne!(blue_id, green_id);

    // Another process may look, and may not touch.
    let other = LabProvisioner::new(options(dir.path(), &tools, spec(), spec())).await.expect("to look");
    assert_eq!(other.describe(Colour::Green).await.expect("described"), Some(green.clone()));
    let refused = other.destroy(&mark(&green, &green_id)).await.expect_err("not its own");
    assert!(refused.reason.contains(&std::process::id().to_string()), "{refused}");
    drop(other);

    create_orders(&blue.bootstrap, 3, 1).await;
    write_and_read(&blue, 20, 0).await;
    isolation_works(&lab, &blue).await;
    let cluster = lab.apache(Colour::Blue).expect("blue runs");
    cluster.kill_broker(0).await;
    assert!(cluster.pids().is_empty());
    assert!(is_shut_out(&blue.bootstrap, "app").await);
    cluster.restart_broker(0).await.expect("restart");
    write_and_read(&blue, 5, 20).await;

    let refused = lab.destroy(&mark(&blue, &green_id)).await.expect_err("another cluster's id");
    assert_eq!((refused.kind, refused.outcome), (ErrorKind::Refused, Outcome::NotDone));
    assert!(is_served(&blue.bootstrap, "app").await);
    lab.destroy(&mark(&blue, &blue_id)).await.expect("destroy");
    lab.destroy(&mark(&blue, &blue_id)).await.expect("gone already");
    assert_eq!(lab.describe(Colour::Blue).await.expect("described"), None);
    assert!(!dir.path().join(blue.id.as_str()).exists());
    create_orders(&green.bootstrap, 1, 1).await;
    write_and_read(&green, 3, 0).await;

    // Behind the same chroot a new cluster: nothing of the old one is left in ZooKeeper.
    let again = lab.provision(Colour::Blue, &"r3".into()).await.expect("blue again");
    assert_ne!(id_of(&lab, Colour::Blue), blue_id);
    create_orders(&again.bootstrap, 1, 1).await;
    lab.destroy(&mark(&again, &id_of(&lab, Colour::Blue))).await.expect("destroy");
    assert!(dir.path().join("zookeeper").exists(), "green needs it");
    lab.destroy(&mark(&green, &green_id)).await.expect("destroy");
    assert!(!dir.path().join("zookeeper").exists(), "the last one out ends it");
}

#[tokio::test]
async fn a_kraft_cluster_lives_through_isolation_a_crash_and_a_new_process() {
    let test = "a_kraft_cluster_lives_through_isolation_a_crash_and_a_new_process";
    let Some(tools) = kafka_tools(test, &[KRAFT]).await else { return };
    let _turn = tools.machine_turn().await.expect("a turn");
    let dir = tempfile::tempdir().expect("a directory");
    let id = random_cluster_id();
    let options = || {
        options(
            dir.path(),
            &tools,
            ClusterSpec::embedded(),
            ClusterSpec::apache(KRAFT).cluster_id(id.clone()),
        )
    };
    let lab = LabProvisioner::new(options()).await.expect("a world");
    let green = lab.provision(Colour::Green, &"r1".into()).await.expect("green");
    assert_eq!(id_of(&lab, Colour::Green), id);
    create_orders(&green.bootstrap, 3, 1).await;
    write_and_read(&green, 20, 0).await;
    isolation_works(&lab, &green).await;
    let cluster = lab.apache(Colour::Green).expect("green runs");
    cluster.kill_broker(0).await;
    cluster.restart_broker(0).await.expect("restart");
    write_and_read(&green, 5, 20).await;

    // A new process finds the cluster, isolated as it was, and its data.
    lab.isolate(&green.id, &"i2".into()).await.expect("isolate");
    drop(cluster);
    lab.stop().await;
    let lab = LabProvisioner::new(options()).await.expect("the world of before");
    assert_eq!(lab.describe(Colour::Green).await.expect("described"), Some(green.clone()));
    assert_eq!(lab.provision(Colour::Green, &"r1".into()).await.expect("the same"), green);
    assert!(is_shut_out(&green.bootstrap, "app").await);
    lab.put_back(&green.id, &"i2".into()).await.expect("put back");
    write_and_read(&green, 5, 25).await;
    lab.destroy(&mark(&green, &id)).await.expect("destroy");
    assert!(!dir.path().join(green.id.as_str()).exists());
}

#[tokio::test]
async fn older_versions_serve() {
    let versions = [KafkaVersion::new(2, 8, 2), KafkaVersion::new(3, 3, 2)];
    let Some(tools) = kafka_tools("older_versions_serve", &versions).await else { return };
    let _turn = tools.machine_turn().await.expect("a turn");
    for version in versions {
        let dir = tempfile::tempdir().expect("a directory");
        let options = options(dir.path(), &tools, ClusterSpec::apache(version), ClusterSpec::embedded());
        let lab = LabProvisioner::new(options).await.expect("a world");
        let blue = lab.provision(Colour::Blue, &"r1".into()).await.expect("blue");
        create_orders(&blue.bootstrap, 3, 1).await;
        write_and_read(&blue, 10, 0).await;
        lab.destroy(&mark(&blue, &id_of(&lab, Colour::Blue))).await.expect("destroy");
    }
}

#[tokio::test]
async fn three_kraft_brokers_go_on_when_one_is_killed() {
    three_brokers_go_on_when_one_is_killed("three_kraft_brokers_go_on_when_one_is_killed", KRAFT).await;
}

#[tokio::test]
async fn three_brokers_on_zookeeper_go_on_when_one_is_killed() {
    let test = "three_brokers_on_zookeeper_go_on_when_one_is_killed";
    three_brokers_go_on_when_one_is_killed(test, ON_ZOOKEEPER).await;
}

async fn three_brokers_go_on_when_one_is_killed(test: &str, version: KafkaVersion) {
    let Some(tools) = kafka_tools(test, &[version]).await else { return };
    let _turn = tools.machine_turn().await.expect("a turn");
    let dir = tempfile::tempdir().expect("a directory");
    let options =
        options(dir.path(), &tools, ClusterSpec::apache(version).brokers(3), ClusterSpec::embedded());
    let lab = LabProvisioner::new(options).await.expect("a world");
    let blue = lab.provision(Colour::Blue, &"r1".into()).await.expect("blue");
    create_orders(&blue.bootstrap, 6, 3).await;
    write_and_read(&blue, 20, 0).await;
    let cluster = lab.apache(Colour::Blue).expect("blue runs");
    cluster.kill_broker(2).await;
    // The others take over once they have noticed, which may take longer than one record may wait.
    let producer = producer(&blue.bootstrap, "app");
    let served = tokio::time::timeout(Duration::from_secs(60), async {
        while send(&producer, "after the crash").await.is_err() {}
    });
    served.await.expect("the others take over");
    cluster.restart_broker(2).await.expect("restart");
    assert_eq!(cluster.pids().len(), 3);
    // And at once, while the others still take it for the one that is gone.
    cluster.kill_broker(2).await;
    cluster.restart_broker(2).await.expect("restart");
    assert!(is_served(&[cluster.internal()[2].to_string()], "app").await, "it serves itself");
}
