//! The suites' own control: a backend that breaks a clause is rejected, by that clause.

mod common;

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use common::verdict;
use futures_core::Stream;
use futures_util::StreamExt as _;
use kutover_core::drain::LogRange;
use kutover_core::error::{ErrorKind, ProviderResult};
use kutover_core::owner::{RemovalMark, Target};
use kutover_core::ports::*;
use kutover_core::words::*;
use kutover_memory::{Faults, MemoryCluster, MemoryDns, MemoryJournal, MemoryWorld};
use kutover_testkit::conformance::{admin, dns, journal, lag, producer, provision};
use kutover_testkit::mocks::MockClusterProvisioner;
use parking_lot::Mutex;

/// Looks, and then stores, in two steps.
struct RacyDns(MemoryDns);

#[async_trait]
impl DnsProvider for RacyDns {
    async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published> {
        self.0.read(endpoint).await
    }
    async fn compare_and_set(
        &self,
        at: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        let found = self.0.read(at).await?;
        tokio::task::yield_now().await;
        if found != *expected {
            return self.0.compare_and_set(at, expected, desired).await;
        }
        self.0.overwrite(at, desired.clone());
        Ok(())
    }
    async fn is_visible(&self, endpoint: &DnsName, published: &Published) -> ProviderResult<bool> {
        self.0.is_visible(endpoint, published).await
    }
}

#[tokio::test]
async fn a_racy_compare_and_set_is_rejected() {
    let provider = Arc::new(RacyDns(MemoryDns::new(&Faults::new())));
    let text = verdict(dns::check_all(provider, &"a.test".into())).await;
    assert!(text.contains("DnsProvider, clause 2: of several racing callers"), "{text}");
}

/// Compares the record set alone, and forgets the owner record.
struct OwnerBlindDns(MemoryDns);

#[async_trait]
impl DnsProvider for OwnerBlindDns {
    async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published> {
        self.0.read(endpoint).await
    }
    async fn compare_and_set(
        &self,
        at: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        let found = self.0.read(at).await?;
        let expected = Published { owner: found.owner, ..expected.clone() };
        self.0.compare_and_set(at, &expected, desired).await
    }
    async fn is_visible(&self, _endpoint: &DnsName, _published: &Published) -> ProviderResult<bool> {
        Ok(true)
    }
}

#[tokio::test]
async fn a_swap_that_does_not_look_at_the_owner_is_rejected() {
    let provider = OwnerBlindDns(MemoryDns::new(&Faults::new()));
    let text = verdict(dns::a_stale_expectation_is_a_conflict(&provider, &"a.test".into())).await;
    assert!(text.contains("DnsProvider, clause 2: a swap whose expectation is not met"), "{text}");
    let text = verdict(dns::only_what_is_stored_becomes_visible(&provider, &"a.test".into(), 3)).await;
    assert!(text.contains("DnsProvider, clause 5"), "{text}");
}

/// Takes entries of any term.
struct TermlessJournal(MemoryJournal, Mutex<Vec<JournalEntry>>);

#[async_trait]
impl Journal for TermlessJournal {
    async fn read(&self) -> ProviderResult<Vec<JournalEntry>> {
        Ok(self.1.lock().clone())
    }
    async fn append(&self, entry: &JournalEntry) -> ProviderResult<()> {
        // The index is checked by a journal whose terms are all the same.
        self.0.append(&JournalEntry { term: Term(0), ..entry.clone() }).await?;
        self.1.lock().push(entry.clone());
        Ok(())
    }
}

#[tokio::test]
async fn a_journal_without_terms_is_rejected() {
    let journal = Arc::new(TermlessJournal(MemoryJournal::new(&Faults::new()), Mutex::default()));
    let text = verdict(journal::check_all(journal)).await;
    assert!(
        text.contains(
            "Journal, clause 1: `append` succeeds only if the journal has no entry of a higher term"
        ),
        "{text}"
    );
}

#[tokio::test]
async fn a_forgetful_journal_is_rejected() {
    let text = verdict(journal::appended_entries_survive(async || MemoryJournal::new(&Faults::new()))).await;
    assert!(text.contains("Journal, clause 2: `Ok` means durable"), "{text}");
}

/// Calls what is unknown a zero (L9).
struct ZeroLag(MemoryCluster);

impl LagSource for ZeroLag {
    fn lag(&self, query: LagQuery) -> Pin<Box<dyn Stream<Item = ProviderResult<LagBatch>> + Send + '_>> {
        Box::pin(self.0.lag(query).map(|batch| match batch {
            Ok(LagBatch::Logs(logs)) => {
                let zero = LogRange { start: Offset(0), end: Offset(0) };
                let known = logs.into_iter().map(|(place, range)| (place, Ok(range.unwrap_or(zero))));
                Ok(LagBatch::Logs(known.collect()))
            }
            other => other,
        }))
    }
}

async fn world() -> (MemoryWorld, MemoryCluster, Target) {
    let world = MemoryWorld::new();
    let made = world.provisioner.provision(Colour::Blue, &provision::request()).await.unwrap();
    let cluster = world.cluster(Colour::Blue).unwrap();
    cluster.add_topic("t", 2);
    let cluster_id = cluster.cluster_id();
    let target =
        Target { generation: Generation(1), colour: Colour::Blue, cluster_id, bootstrap: made.bootstrap };
    (world, cluster, target)
}

#[tokio::test]
async fn an_unknown_that_is_called_zero_is_rejected() {
    let (_world, cluster, _) = world().await;
    let text =
        verdict(lag::what_does_not_answer_is_an_error(&ZeroLag(cluster), &TopicPartition::new("t", 9))).await;
    assert!(text.contains("LagSource, clause 2: a partition that did not answer is an `Err`"), "{text}");
}

/// A fence with a hole: one leader goes on taking records.
#[tokio::test]
async fn a_fence_with_a_hole_is_rejected() {
    let (_world, cluster, _) = world().await;
    admin::a_fence_is_proven_while_it_stands(&cluster, &"whole".into()).await;
    cluster.leak(TopicPartition::new("t", 1));
    let text = verdict(async {
        admin::a_fence_is_proven_while_it_stands(&cluster, &"t".into()).await;
    })
    .await;
    assert!(text.contains("ClusterAdmin, clause 5") && text.contains("partition 1"), "{text}");
}

/// Destroys whatever stands behind the colour, whatever the mark says (L13).
#[tokio::test]
async fn a_removal_without_a_look_is_rejected() {
    let (world, _, _) = world().await;
    let inner = world.provisioner.clone();
    let standing = inner.describe(Colour::Blue).await.unwrap();
    let gone = Arc::new(Mutex::new(false));
    let mut careless = MockClusterProvisioner::new();
    careless.expect_provision().return_const(Ok(standing.clone().unwrap()));
    let marked = Arc::clone(&gone);
    careless.expect_destroy().returning(move |_: &RemovalMark| {
        *marked.lock() = true;
        Ok(())
    });
    careless.expect_describe().returning(move |_| Ok(standing.clone().filter(|_| !*gone.lock())));
    let text = verdict(provision::only_the_marked_is_destroyed(&careless, Colour::Blue)).await;
    assert!(
        text.contains("ClusterProvisioner, clause 4: `destroy` removes the marked incarnation only"),
        "{text}"
    );
}

/// Connects to whatever answers (L5).
struct AnyCluster(kutover_memory::MemoryFactory);

#[async_trait]
impl ProducerFactory for AnyCluster {
    async fn connect(
        &self,
        target: &Target,
        topics: &[String],
        events: Arc<dyn ClientEvents>,
    ) -> ProviderResult<Arc<dyn ProducerClient>> {
        let anyone = Target { cluster_id: "".into(), ..target.clone() };
        self.0.connect(&anyone, topics, events).await
    }
}

#[tokio::test]
async fn a_client_of_another_cluster_is_rejected() {
    let (world, _, target) = world().await;
    let text = verdict(producer::check_all(&AnyCluster(world.factory()), &target, "t")).await;
    assert!(text.contains("ProducerFactory, clause 2: a cluster with another id is `Refused`"), "{text}");
    let honest = world.factory();
    let wrong = Target { cluster_id: "x".into(), ..target };
    let events: Arc<dyn ClientEvents> = Arc::new(producer::Collector::default());
    let refused = honest.connect(&wrong, &[], events).await.err().map(|error| error.kind);
    assert_eq!(refused, Some(ErrorKind::Refused));
}
