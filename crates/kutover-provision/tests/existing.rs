//! The `static` provisioner against its port's contract.

use kutover_core::ports::{ClusterProvisioner as _, RecordData};
use kutover_core::words::Colour;
use kutover_provision::{ExistingCluster, StaticProvisioner};
use kutover_testkit::conformance::provision;

fn cluster(servers: &[&str]) -> ExistingCluster {
    ExistingCluster {
        bootstrap: servers.iter().map(|server| (*server).to_owned()).collect(),
        endpoint: RecordData::Cname("lb-a.example".into()),
    }
}

#[tokio::test]
async fn it_keeps_the_ports_contract() {
    let both = StaticProvisioner::new()
        .with(Colour::Blue, cluster(&["10.0.0.1:9092"]))
        .with(Colour::Green, cluster(&["10.0.1.1:9092"]));
    // It makes none, so that no request made what stands there.
    provision::the_same_request_gives_the_same_incarnation(&both, Colour::Green).await;
    provision::only_the_marked_is_destroyed(&both, Colour::Green).await;
    provision::nothing_there_is_none(&StaticProvisioner::new(), Colour::Blue).await;
    provision::what_cannot_isolate_says_so(&both, Colour::Green).await;
    provision::what_serves_is_ready(&both, Colour::Green).await;
    provision::the_marked_is_released_and_stays(&both, Colour::Green, &"c".into()).await;
}

#[tokio::test]
async fn it_describes_as_configured() {
    let only_blue = StaticProvisioner::new().with(Colour::Blue, cluster(&["b:9092", "a:9092"]));
    let blue = only_blue.describe(Colour::Blue).await.unwrap().unwrap();
    assert_eq!(blue.id.as_str(), "static-blue-a:9092+b:9092");
    assert_eq!(blue.bootstrap, ["b:9092", "a:9092"]);
    assert_eq!(blue.controller_bootstrap, blue.bootstrap);
    only_blue.put_back(&blue.id, &"n".into()).await.unwrap();

    let error = only_blue.provision(Colour::Green, &"r".into()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "provision green: no cluster is configured; describe one in clusters.green.provisioner"
    );
}

#[test]
fn other_servers_are_another_incarnation() {
    let id = |servers: &[&str], colour| cluster(servers).incarnation_id(colour);
    assert_eq!(id(&["a:1", "b:1"], Colour::Blue), id(&["b:1", "a:1", "a:1"], Colour::Blue));
    assert_ne!(id(&["a:1"], Colour::Blue), id(&["a:2"], Colour::Blue));
    assert_ne!(id(&["a:1"], Colour::Blue), id(&["a:1"], Colour::Green));
}
