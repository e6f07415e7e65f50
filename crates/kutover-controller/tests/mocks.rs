//! What the driver must not do: strict mocks fail on any call that is not expected.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kutover_controller::config::Config;
use kutover_controller::driver::{Backends, ClusterConnector, ClusterLinks, Controller, DriveError};
use kutover_core::cutover::Stop;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::owner::{OwnerRecord, Target};
use kutover_core::ports::{Incarnation, Published, RecordData, RecordSet};
use kutover_core::words::{Colour, Generation, Term};
use kutover_testkit::mocks::{MockClusterProvisioner, MockDnsProvider, MockJournal};
use tokio::sync::mpsc;

const CONFIG: &str = r#"
deployment = "orders"
journal = "unused.journal"
endpoints = [{ name = "kafka.orders.test", port = 9092 }]
dns = { kind = "local", zone = "orders.test", listen = "127.0.0.1:5353", ttl_s = 30 }

[clusters.blue.provisioner]
kind = "static"
bootstrap = ["127.0.0.1:9092"]
endpoint = { addresses = ["127.0.0.1"] }

[clusters.green.provisioner]
kind = "static"
bootstrap = ["127.0.0.2:9092"]
endpoint = { addresses = ["127.0.0.2"] }

[plan]
hold_limit = "5s"
"#;

/// No cluster may be spoken to.
struct Nowhere;

#[async_trait]
impl ClusterConnector for Nowhere {
    async fn connect(&self, incarnation: &Incarnation) -> ProviderResult<ClusterLinks> {
        Err(ProviderError::new(ErrorKind::Unreachable, format!("connect to {}", incarnation.id), "a test"))
    }
}

async fn run(
    journal: MockJournal,
    dns: MockDnsProvider,
    provisioner: MockClusterProvisioner,
) -> Result<Stop, DriveError> {
    let config = Config::parse(CONFIG).expect("a configuration");
    let provisioner = Arc::new(provisioner);
    let backends = Backends {
        dns: Arc::new(dns),
        zones: BTreeMap::new(),
        blue: provisioner.clone(),
        green: provisioner,
        clusters: Arc::new(Nowhere),
        journal: Arc::new(journal),
    };
    let (_operator, words) = mpsc::unbounded_channel();
    let controller = Controller::new(config.cutover_plan(), config.deployment(), backends);
    controller.run(words, |_| {}).await.map(|finished| finished.stop)
}

fn full() -> ProviderError {
    ProviderError::new(ErrorKind::Unavailable, "append to the journal", "no space left on device")
}

/// L14: an intent that is not durable is not carried out. No port but the journal is touched.
#[tokio::test(start_paused = true)]
async fn nothing_is_done_whose_intent_is_not_durable() {
    let mut journal = MockJournal::new();
    journal.expect_read().times(1).returning(|| Ok(vec![]));
    journal.expect_append().times(1).returning(|_| Err(full()));
    let result = run(journal, MockDnsProvider::new(), MockClusterProvisioner::new()).await;
    let Err(DriveError::Journal(error)) = result else { panic!("{result:?}") };
    assert!(error.reason.contains("no space left"));
}

fn record(term: u64, deployment: &str) -> Published {
    Published {
        endpoint: Some(RecordSet { ttl_s: 30, data: RecordData::Addresses(vec![]) }),
        owner: Some(OwnerRecord {
            deployment: deployment.into(),
            term: Term(term),
            nonce: "somebody".into(),
            target: Target {
                generation: Generation(4),
                colour: Colour::Blue,
                cluster_id: "b".into(),
                bootstrap: vec![],
            },
            intent: None,
            removal: None,
        }),
    }
}

/// A record of another deployment is read, and never written.
#[tokio::test(start_paused = true)]
async fn a_foreign_record_is_never_written() {
    let mut journal = MockJournal::new();
    journal.expect_read().times(1).returning(|| Ok(vec![]));
    journal.expect_append().times(1).returning(|_| Ok(()));
    let mut dns = MockDnsProvider::new();
    dns.expect_read().returning(|_| Ok(record(3, "payments")));
    let stop = run(journal, dns, MockClusterProvisioner::new()).await.expect("it stops by itself");
    let Stop::Refused(why) = stop else { panic!("{stop:?}") };
    assert!(why.contains("belongs to deployment payments"), "{why}");
}

/// A term whose compare-and-set has an unknown outcome is looked up: the record says that it was ours, and it is not
/// raised a second time.
#[tokio::test(start_paused = true)]
async fn an_unknown_term_is_looked_up_and_not_raised_twice() {
    let mut journal = MockJournal::new();
    let takeover = serde_json::json!({ "record": "takeover", "nonce": "before" });
    let known = kutover_core::ports::JournalEntry { index: 0, term: Term(3), body: takeover };
    journal.expect_read().times(1).returning(move || Ok(vec![known.clone()]));
    journal.expect_append().returning(|_| Ok(()));
    let mut dns = MockDnsProvider::new();
    let written = Arc::new(std::sync::Mutex::new(record(3, "orders")));
    let stored = Arc::clone(&written);
    dns.expect_read().returning(move |_| Ok(stored.lock().expect("unpoisoned").clone()));
    let stored = Arc::clone(&written);
    dns.expect_compare_and_set().times(1).returning(move |_, _, desired| {
        *stored.lock().expect("unpoisoned") = desired.clone();
        let lost = ProviderError::new(ErrorKind::Unreachable, "compare and set", "the reply was lost");
        Err(lost.with_outcome(Outcome::Unknown))
    });
    let mut provisioner = MockClusterProvisioner::new();
    provisioner.expect_describe().returning(|_| Ok(None));
    // There is no cluster behind blue, so it holds after the term is known to be ours, and is given up in the end.
    let stop = run(journal, dns, provisioner).await.expect("it stops by itself");
    assert!(matches!(&stop, Stop::Held(why) if why.contains("describe blue")), "{stop:?}");
    let owner = written.lock().expect("unpoisoned").owner.clone().expect("an owner record");
    assert_eq!(owner.term, Term(4));
}
