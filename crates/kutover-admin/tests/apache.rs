//! krafka's admin client on real Apache Kafka, through kutover-lab: one broker of 3.9.2 on ZooKeeper, one of 4.3.1.

#[path = "support/apache.rs"]
mod scenarios;
mod support;

use kutover_core::error::ErrorKind;
use kutover_core::ports::ClusterProvisioner as _;
use kutover_core::words::Colour;
use kutover_lab::{ClusterSpec, KafkaVersion, LabOptions, LabProvisioner, Tools};

const ON_ZOOKEEPER: KafkaVersion = KafkaVersion::new(3, 9, 2);
const KRAFT: KafkaVersion = KafkaVersion::new(4, 3, 1);

/// Everything on one cluster of a version, one after the other: brokers are dear to start.
async fn everything(test: &str, version: KafkaVersion) {
    let tools = Tools::from_env();
    if let Err(missing) = tools.ready(version).await {
        assert_ne!(missing.kind, ErrorKind::Invalid, "{test}: {missing}");
        return kutover_testkit::skip(test, &missing.to_string());
    }
    let _turn = tools.machine_turn().await.expect("a turn");
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = LabOptions::new(dir.path(), ClusterSpec::apache(version), ClusterSpec::embedded());
    options.tools = tools;
    options.is_disposable = true;
    let lab = LabProvisioner::new(options).await.expect("a world");
    let cluster = lab.provision(Colour::Blue, &"r1".into()).await.expect("a cluster");
    scenarios::topics(&cluster, version == ON_ZOOKEEPER).await;
    scenarios::size_fence(&cluster).await;
    scenarios::groups(&cluster).await;
    scenarios::fence(&cluster).await;
    scenarios::fence_beside_acls(&cluster).await;
    scenarios::isolated(&cluster, &lab).await;
    scenarios::contracts(&cluster).await;
}

#[tokio::test]
async fn everything_holds_on_zookeepers_kafka() {
    everything("everything_holds_on_zookeepers_kafka", ON_ZOOKEEPER).await;
}

#[tokio::test]
async fn everything_holds_on_kraft() {
    everything("everything_holds_on_kraft", KRAFT).await;
}
