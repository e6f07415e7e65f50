//! The example for Terraform (`examples/terraform`) against the port's contract, with Terraform itself. Only the section
//! `terraform` of `cargo xtask test` builds this, and sees to it that Terraform is there.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
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
    async fn is_ready(&self, incarnation: &IncarnationId) -> ProviderResult<()> {
        self.0.is_ready(incarnation).await
    }
}

/// What the example keeps of the colour that stands.
fn kept(directory: &Path) -> serde_json::Value {
    let text = std::fs::read(directory.join("orders-green/there")).expect("it stands");
    serde_json::from_slice(&text).expect("JSON")
}

/// The example, with this in its environment.
fn example(environment: &[(&str, &Path)]) -> Patient {
    let subject = ExecSubject { deployment: "orders".into(), colour: Colour::Green };
    let by = ExecProvisioner::new(vec![COMMAND.to_owned()], subject, LIMIT);
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let environment: BTreeMap<_, _> =
        environment.iter().map(|(name, path)| ((*name).to_owned(), text(path))).collect();
    Patient(by.with_environment(environment))
}

/// An apply makes the cluster and fails over what comes after it: it is not left behind, and nobody is told that nothing
/// stands while it does.
#[tokio::test]
async fn what_is_half_made_is_taken_away() {
    let directory = tempfile::tempdir().unwrap();
    let program = std::env::var("TERRAFORM").unwrap_or_else(|_| "terraform".to_owned());
    let failing = directory.path().join("failing");
    let script = format!(
        "#!/bin/sh\n'{program}' \"$@\" || exit 1\n[ \"$2\" != apply ] || {{ echo 'no more subnets' >&2; exit 1; }}\n"
    );
    std::fs::write(&failing, script).unwrap();
    std::fs::set_permissions(&failing, std::fs::Permissions::from_mode(0o755)).unwrap();
    let at = directory.path().join("clusters");
    let half_way = example(&[("KUTOVER_TERRAFORM", &at), ("TERRAFORM", &failing)]);
    let green = Colour::Green;
    let all = async {
        let error = half_way.provision(green, &provision::request()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        assert!(error.reason.contains("no more subnets"), "{error}");
        assert_eq!(half_way.describe(green).await.unwrap(), None);
        let state = std::fs::read(at.join("orders-green/state")).expect("Terraform's state");
        let state: serde_json::Value = serde_json::from_slice(&state).expect("JSON");
        assert_eq!(state["resources"], serde_json::json!([]));
    };
    tokio::time::timeout(BOUND, all).await.expect("Terraform is done in time");
}

#[tokio::test]
async fn the_example_keeps_the_ports_contract() {
    let directory = tempfile::tempdir().unwrap();
    let terraform = example(&[("KUTOVER_TERRAFORM", directory.path())]);
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
