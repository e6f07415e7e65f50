//! krafka's admin client on real Apache Kafka, through kutover-lab: one and three brokers of 3.9.2 on ZooKeeper and of 4.3.1.

#[path = "support/aging.rs"]
mod aging;
#[path = "support/held.rs"]
mod held;
#[path = "support/leaders.rs"]
mod leaders;
#[path = "support/probe_alone.rs"]
mod probe_alone;
#[path = "support/apache.rs"]
mod scenarios;
#[path = "support/shut_out.rs"]
mod shut_out;
mod support;

use aging::Aging;
use kutover_admin::FenceWith;
use kutover_core::error::ErrorKind;
use kutover_core::ports::ClusterProvisioner as _;
use kutover_core::words::Colour;
use kutover_lab::{ClusterSpec, KafkaVersion, LabOptions, LabProvisioner, MachineTurn, Tools};
use leaders::Leaders;

const ON_ZOOKEEPER: KafkaVersion = KafkaVersion::new(3, 9, 2);
const KRAFT: KafkaVersion = KafkaVersion::new(4, 3, 1);

/// The programs of a version and the machine's turn; `None` is a skip.
async fn ready(test: &str, version: KafkaVersion) -> Option<(Tools, MachineTurn)> {
    let tools = Tools::from_env();
    if let Err(missing) = tools.ready(version).await {
        assert_ne!(missing.kind, ErrorKind::Invalid, "{test}: {missing}");
        kutover_testkit::skip(test, &missing.to_string());
        return None;
    }
    let turn = tools.machine_turn().await.expect("a turn");
    Some((tools, turn))
}

/// Everything on one cluster of a version, one after the other: brokers are dear to start.
async fn everything(test: &str, version: KafkaVersion) {
    let Some((tools, _turn)) = ready(test, version).await else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = LabOptions::new(dir.path(), ClusterSpec::apache(version), ClusterSpec::embedded());
    options.tools = tools;
    options.is_disposable = true;
    let lab = LabProvisioner::new(options).await.expect("a world");
    let cluster = lab.provision(Colour::Blue, &"r1".into()).await.expect("a cluster");
    let aging = Aging::begin(&cluster).await;
    scenarios::topics(&cluster, version == ON_ZOOKEEPER).await;
    probe_alone::is_no_proof(&cluster, FenceWith::Size).await;
    scenarios::size_fence(&cluster).await;
    probe_alone::is_no_proof(&cluster, FenceWith::Acl).await;
    scenarios::groups(&cluster).await;
    scenarios::fence(&cluster).await;
    scenarios::fence_over_a_transaction(&cluster).await;
    scenarios::fence_beside_acls(&cluster).await;
    shut_out::is_taken_away(&cluster).await;
    scenarios::producer_ids(&cluster).await;
    scenarios::isolated(&cluster, &lab).await;
    scenarios::contracts(&cluster).await;
    aging.end().await;
}

#[tokio::test]
async fn everything_holds_on_zookeepers_kafka() {
    everything("everything_holds_on_zookeepers_kafka", ON_ZOOKEEPER).await;
}

#[tokio::test]
async fn everything_holds_on_kraft() {
    everything("everything_holds_on_kraft", KRAFT).await;
}

/// What one broker of three says is not what all say. L16: each gives ids out of a block of its own, and all of them must
/// pass a mark. L8: a fence is up when every leader refuses. L9: what one coordinates the others do not list. L6: topics make
/// themselves where one broker makes them, and are kept as each of them keeps them.
async fn every_broker_is_asked(test: &str, version: KafkaVersion) {
    let Some((tools, _turn)) = ready(test, version).await else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let spec = ClusterSpec::apache(version).brokers(3);
    let mut options = LabOptions::new(dir.path(), spec, ClusterSpec::embedded());
    options.tools = tools.clone();
    options.is_disposable = true;
    let lab = LabProvisioner::new(options).await.expect("a world");
    let cluster = lab.provision(Colour::Blue, &"r1".into()).await.expect("a cluster");
    scenarios::every_broker_passes_a_mark(&cluster).await;
    let leaders = Leaders::new(&cluster, &lab, dir.path(), &tools, version).await;
    leaders.all_refuse().await;
    leaders.all_are_listed().await;
    leaders.one_is_silent().await;
    leaders.what_nobody_coordinates_is_not_listed().await;
    leaders.a_follower_is_behind().await;
    leaders.one_is_configured_otherwise().await;
    leaders.one_takes_records().await;
    leaders.topics_make_themselves(true).await;
    leaders.topics_are_kept_for(&["3600000", "604800000"]).await;
    leaders.one_is_as_the_others_again().await;
    leaders.topics_make_themselves(false).await;
    leaders.topics_are_kept_for(&["604800000"]).await;
    leaders.all_refuse_again_and_it_is_lifted().await;
}

#[tokio::test]
async fn every_broker_is_asked_of_zookeepers_kafka() {
    every_broker_is_asked("every_broker_is_asked_of_zookeepers_kafka", ON_ZOOKEEPER).await;
}

#[tokio::test]
async fn every_broker_is_asked_of_kraft() {
    every_broker_is_asked("every_broker_is_asked_of_kraft", KRAFT).await;
}
