//! The lab's ports against their contracts, on embedded clusters, as stock clients see them.

mod support;

use std::cell::RefCell;

use kutover_core::owner::RemovalMark;
use kutover_core::ports::ClusterProvisioner as _;
use kutover_core::words::{Colour, TopicName};
use kutover_lab::{ClusterSpec, LabOptions, LabProvisioner};
use kutover_testkit::conformance::{fence, provision};
use support::{create_orders, is_served, is_shut_out, producer, read, send};

async fn lab(directory: &tempfile::TempDir) -> LabProvisioner {
    let options = LabOptions::new(directory.path(), ClusterSpec::embedded(), ClusterSpec::embedded());
    LabProvisioner::new(options).await.expect("a world")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provisioner_keeps_its_contract() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let lab = lab(&directory).await;
    provision::check_all(&lab, Colour::Blue).await;
    provision::nothing_there_is_none(&lab, Colour::Green).await;
    let request = provision::request();
    let under_way = RefCell::new(None);
    let begin = async || loop {
        let mut making = lab.provision(Colour::Green, &request);
        tokio::select! {
            biased;
            // Without a pause, as happens where its thread was quicker: once more.
            made = &mut making => {
                let cluster_id = lab.embedded(Colour::Green).expect("embedded").cluster_id();
                let mark = RemovalMark { incarnation: made.expect("green").id, cluster_id };
                lab.destroy(&mark).await.expect("gone");
            }
            () = std::future::ready(()) => {
                under_way.replace(Some(making));
                return;
            }
        }
    };
    provision::what_is_being_made_is_not_nothing(&lab, Colour::Green, begin).await;
    drop(under_way.take());
    provision::nothing_there_is_none(&lab, Colour::Green).await;
    let green = lab.provision(Colour::Green, &request).await.expect("green");
    let blue = lab.provision(Colour::Blue, &provision::request()).await.expect("blue");
    // A client that is shut out is given a moment, one that should be served a long time.
    let reaches = async |servers: &[String]| {
        servers == blue.controller_bootstrap && is_served(servers, "kutover-controller-test").await
            || !is_shut_out(servers, "app").await
    };
    provision::an_isolation_is_undone_by_its_own_nonce(&lab, Colour::Blue, reaches).await;
    let cluster_id = lab.embedded(Colour::Blue).expect("embedded").cluster_id();
    provision::the_marked_is_destroyed_for_good(&lab, Colour::Blue, &cluster_id).await;
    assert_eq!(lab.describe(Colour::Green).await, Ok(Some(green)));
}

/// Not clause 1: the embedded fence knows no topics, and refuses whoever is not kutover itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_fence_keeps_its_contract_but_for_names() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let lab = lab(&directory).await;
    let blue = lab.provision(Colour::Blue, &provision::request()).await.expect("blue");
    create_orders(&blue.bootstrap, 1, 1).await;
    let cluster = lab.embedded(Colour::Blue).expect("embedded");
    let (earlier, later) = (cluster.fence(), cluster.fence());
    let client = producer(&blue.bootstrap, "app");
    let writes = async |_: &TopicName| send(&client, "x").await.is_ok();
    fence::a_later_process_takes_it_away(&earlier, &later, writes, &"orders".into()).await;
    let reads = async |_: &TopicName| read(&blue.bootstrap, 1).await.contains("x");
    fence::readers_keep_reading(&later, reads, &"orders".into()).await;
    fence::where_it_stands_is_told(&later, &"orders".into()).await;
}
