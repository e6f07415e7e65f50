//! The workers in memory keep the port's contract.

use kutover_core::ports::{ClusterProvisioner as _, ConnectorConfig};
use kutover_core::words::Colour;
use kutover_memory::{MemoryConnect, MemoryFiles, MemoryWorld};
use kutover_testkit::conformance::{connect, provision};
use serde_json::json;

fn config(file: &str) -> ConnectorConfig {
    let properties = [("connector.class", "source"), ("file", file), ("topic", "t")];
    ConnectorConfig::new(properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

#[tokio::test]
async fn the_workers_conform() {
    let world = MemoryWorld::new();
    world.provisioner.provision(Colour::Blue, &provision::request()).await.unwrap();
    let cluster = world.cluster(Colour::Blue).unwrap();
    cluster.add_topic("t", 1);
    let files = MemoryFiles::default();
    files.lock().insert("in".into(), vec!["a".into(), "b".into()]);
    let workers = MemoryConnect::new(Colour::Blue, &world.provisioner, &files);
    let (name, source) = ("c".into(), config("in"));
    connect::workers_say_whose_they_are(&workers, &cluster.cluster_id()).await;
    connect::every_connector_is_named(&workers, &name, &source).await;
    connect::a_connector_is_made_stopped(&workers, &name, &source, &config("other")).await;
    let worked = async || workers.work(10);
    connect::a_stopped_source_has_said_how_far_it_came(&workers, &name, &source, worked).await;
    let fail = async || workers.fail(&name);
    connect::a_connector_that_failed_does_not_run(&workers, &name, &source, fail).await;
    let at = |file: &str| (json!({ "file": file }), json!({ "position": 1 }));
    connect::offsets_are_as_they_were_altered(&workers, &name, &source, &at("a"), &at("b")).await;
    connect::a_deleted_connector_is_gone(&workers, &name, &source).await;
    connect::no_error_shows_a_value(&workers, &name, &source, "hunter2", None).await;
}
