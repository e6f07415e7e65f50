//! The drain proof and the survey of producers on real Apache Kafka: one broker of each version, used for every check.

#[path = "support/scenes.rs"]
mod scenes;
mod support;

use kutover_core::error::ErrorKind;
use kutover_core::ports::ClusterProvisioner as _;
use kutover_core::words::Colour;
use kutover_lab::{ClusterSpec, KafkaVersion, LabOptions, LabProvisioner, Tools};
use scenes::Scene;

async fn everything(test: &str, version: KafkaVersion) {
    let tools = Tools::from_env();
    if let Err(missing) = tools.ready(version).await {
        assert_ne!(missing.kind, ErrorKind::Invalid, "{test}: {missing}");
        return kutover_testkit::skip(test, &missing.to_string());
    }
    let _turn = tools.machine_turn().await.expect("a turn");
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = LabOptions::new(dir.path(), ClusterSpec::apache(version), ClusterSpec::embedded());
    options.tools = tools.clone();
    options.is_disposable = true;
    let lab = LabProvisioner::new(options).await.expect("a world");
    let cluster = lab.provision(Colour::Blue, &"r1".into()).await.expect("a cluster");
    let scene = Scene::new(&cluster, version, tools).await;
    scene.a_marker_is_no_lag().await;
    scene.aborted_records_are_data_to_some().await;
    scene.commits_expire_and_retention_eats().await;
    scene.a_live_member_needs_no_commit().await;
    scene.an_open_transaction_is_named_and_ended_by_its_command().await;
    scene.two_looks_tell_when_it_will_be_zero().await;
    scene.contracts().await;
}

#[tokio::test]
async fn drains_are_proven_on_2_8() {
    everything("drains_are_proven_on_2_8", KafkaVersion::new(2, 8, 2)).await;
}

#[tokio::test]
async fn drains_are_proven_on_3_9() {
    everything("drains_are_proven_on_3_9", KafkaVersion::new(3, 9, 2)).await;
}

#[tokio::test]
async fn drains_are_proven_on_4_3() {
    everything("drains_are_proven_on_4_3", KafkaVersion::new(4, 3, 1)).await;
}
