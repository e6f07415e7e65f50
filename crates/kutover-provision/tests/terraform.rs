//! The example for Terraform (`examples/terraform`) against the port's contract, with Terraform itself. Only the section
//! `terraform` of `cargo xtask test` builds this, and sees to it that Terraform is there.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner, Incarnation};
use kutover_core::words::{Colour, IncarnationId, Nonce};
use kutover_provision::{ExecProvisioner, ExecSubject};
use kutover_testkit::conformance::provision;

const COMMAND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/terraform/cluster.py");
/// For one run of the command.
const LIMIT: Duration = Duration::from_secs(60);
/// For all of it.
const BOUND: Duration = Duration::from_secs(300);

/// Asks again while the reply is `pending`, as the controller does.
struct Patient(ExecProvisioner);

fn is_pending<T>(given: &ProviderResult<T>) -> bool {
    let pending = |error: &ProviderError| {
        error.kind == ErrorKind::Unavailable && error.reason.contains("still under way")
    };
    given.as_ref().err().is_some_and(pending)
}

#[async_trait]
impl ClusterProvisioner for Patient {
    async fn provision(&self, colour: Colour, request: &Nonce) -> ProviderResult<Incarnation> {
        loop {
            let given = self.0.provision(colour, request).await;
            if !is_pending(&given) {
                return given;
            }
        }
    }
    async fn describe(&self, colour: Colour) -> ProviderResult<Option<Incarnation>> {
        self.0.describe(colour).await
    }
    async fn isolate(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        loop {
            let given = self.0.isolate(incarnation, nonce).await;
            if !is_pending(&given) {
                return given;
            }
        }
    }
    async fn put_back(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        loop {
            let given = self.0.put_back(incarnation, nonce).await;
            if !is_pending(&given) {
                return given;
            }
        }
    }
    async fn destroy(&self, mark: &RemovalMark) -> ProviderResult<()> {
        loop {
            let given = self.0.destroy(mark).await;
            if !is_pending(&given) {
                return given;
            }
        }
    }
}

/// What the example keeps of the colour that stands.
fn kept(directory: &Path) -> serde_json::Value {
    let text = std::fs::read(directory.join("orders-green/there")).expect("it stands");
    serde_json::from_slice(&text).expect("JSON")
}

#[tokio::test]
async fn the_example_keeps_the_ports_contract() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_str().expect("UTF-8").to_owned();
    let subject = ExecSubject { deployment: "orders".into(), colour: Colour::Green };
    let by = ExecProvisioner::new(vec![COMMAND.to_owned()], subject, LIMIT);
    let terraform = Patient(by.with_environment(BTreeMap::from([("KUTOVER_TERRAFORM".to_owned(), at)])));
    let green = Colour::Green;
    let all = async {
        provision::nothing_there_is_none(&terraform, green).await;
        provision::check_all(&terraform, green).await;
        // In a cloud these would be a security group's rules; the controller's own way in is none of them.
        let isolations = async |_: &[String]| kept(directory.path())["isolations"] == serde_json::json!([]);
        let made = terraform.provision(green, &provision::request()).await.unwrap();
        for (nonce, is_shut) in [("one", true), ("two", true)] {
            terraform.isolate(&made.id, &nonce.into()).await.unwrap();
            assert_eq!(isolations(&made.bootstrap).await, !is_shut);
        }
        for (nonce, is_open) in [("another", false), ("one", false), ("one", false), ("two", true)] {
            terraform.put_back(&made.id, &nonce.into()).await.unwrap();
            assert_eq!(isolations(&made.bootstrap).await, is_open, "{nonce}");
        }
        let cluster = kept(directory.path())["incarnation"]["cluster_id"].as_str().unwrap().into();
        provision::the_marked_is_destroyed_for_good(&terraform, green, &cluster).await;
    };
    tokio::time::timeout(BOUND, all).await.expect("Terraform is done in time");
}
