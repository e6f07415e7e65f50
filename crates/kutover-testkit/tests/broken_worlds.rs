//! DNS, watches and journals that break a clause.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use common::rejected;
use kutover_core::error::{Outcome, ProviderResult};
use kutover_core::ports::*;
use kutover_core::words::*;
use kutover_memory::{Fault, Faults, MemoryDns, MemoryJournal};
use kutover_testkit::conformance::{dns, journal, watch};
use parking_lot::Mutex;

#[derive(Clone, Copy, PartialEq)]
enum DnsFlaw {
    ReadsACache,
    StoresLater,
    CallsItNotDone,
    None,
}

struct Dns {
    inner: MemoryDns,
    flaw: DnsFlaw,
    cached: Mutex<Option<Published>>,
}

impl Dns {
    fn new(faults: &Faults, flaw: DnsFlaw) -> Self {
        Self { inner: MemoryDns::new(faults), flaw, cached: Mutex::default() }
    }
}

#[async_trait]
impl DnsProvider for Dns {
    async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published> {
        let found = self.inner.read(endpoint).await?;
        let first = self.cached.lock().get_or_insert_with(|| found.clone()).clone();
        Ok(if self.flaw == DnsFlaw::ReadsACache { first } else { found })
    }
    async fn compare_and_set(
        &self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        if self.flaw == DnsFlaw::StoresLater {
            return Ok(());
        }
        let given = self.inner.compare_and_set(endpoint, expected, desired).await;
        match self.flaw {
            DnsFlaw::CallsItNotDone => given.map_err(|error| error.with_outcome(Outcome::NotDone)),
            _ => given,
        }
    }
    async fn is_visible(&self, endpoint: &DnsName, published: &Published) -> ProviderResult<bool> {
        self.inner.is_visible(endpoint, published).await
    }
}

#[tokio::test]
async fn providers_of_dns_that_break_a_clause_are_rejected() {
    let (faults, at) = (Faults::new(), DnsName::new("a.test"));
    let caching = Dns::new(&faults, DnsFlaw::ReadsACache);
    rejected("DnsProvider, clause 1", dns::read_gives_what_is_stored(&caching, &at)).await;
    let late = Dns::new(&faults, DnsFlaw::StoresLater);
    rejected("DnsProvider, clause 3", dns::ok_means_stored(&late, &at)).await;
    let sure = Dns::new(&faults, DnsFlaw::CallsItNotDone);
    let lose = || faults.inject("dns.compare_and_set", Fault::UnknownDone);
    rejected("DnsProvider, clause 4", dns::a_lost_answer_is_unknown(&sure, &at, lose)).await;
    let honest = Dns::new(&faults, DnsFlaw::None);
    dns::the_owners_ttl_is_the_sets(&honest, &at, async || (5, 4)).await;
    let hourly = dns::the_owners_ttl_is_the_sets(&honest, &at, async || (5, 3600));
    rejected("DnsProvider, clause 6", hourly).await;
}

/// Answers from a list, one call after the other.
struct Watch {
    answers: [Option<EndpointAnswer>; 3],
    calls: AtomicUsize,
    now: EndpointAnswer,
}

fn leads_to(last: u8) -> EndpointAnswer {
    EndpointAnswer::Found { addresses: vec![[127, 0, 0, last].into()], owner: None, ttl_ms: 1_000 }
}

#[async_trait]
impl EndpointWatch for Watch {
    async fn next(&self) -> EndpointAnswer {
        match self.answers.get(self.calls.fetch_add(1, Ordering::SeqCst)) {
            Some(Some(answer)) => answer.clone(),
            _ => std::future::pending().await,
        }
    }
    async fn ask_now(&self) -> EndpointAnswer {
        self.now.clone()
    }
}

#[tokio::test]
async fn watches_that_break_a_clause_are_rejected() {
    let watch = |answers, now| Watch { answers, calls: AtomicUsize::new(0), now };
    let late = watch([Some(EndpointAnswer::Empty), None, None], EndpointAnswer::Empty);
    let expected = leads_to(1);
    let first = watch::the_first_answer_is_what_stands_there(&late, &expected);
    rejected("EndpointWatch, clause 1", first).await;
    let change = async || leads_to(2);
    let cached = watch([Some(leads_to(1)), None, Some(leads_to(2))], leads_to(1));
    let suite = watch::a_change_is_seen_after_a_dropped_wait(&cached, change);
    rejected("EndpointWatch, clause 2", suite).await;
    // The dropped wait took the change with it, and what comes next is the old answer again.
    let swallowing = watch([Some(leads_to(1)), None, Some(leads_to(1))], leads_to(2));
    let suite = watch::a_change_is_seen_after_a_dropped_wait(&swallowing, change);
    rejected("EndpointWatch, clause 3", suite).await;
    let honest = watch([Some(leads_to(1)), None, Some(leads_to(2))], leads_to(2));
    watch::a_change_is_seen_after_a_dropped_wait(&honest, change).await;
}

/// Reads the newest first.
struct Backwards(MemoryJournal);

#[async_trait]
impl Journal for Backwards {
    async fn read(&self) -> ProviderResult<Vec<JournalEntry>> {
        let mut entries = self.0.read().await?;
        entries.reverse();
        Ok(entries)
    }
    async fn append(&self, entry: &JournalEntry) -> ProviderResult<()> {
        self.0.append(entry).await
    }
}

/// Shows what was cut off as if it were whole; leaves out what is damaged.
struct Lenient(MemoryJournal);

#[async_trait]
impl Journal for Lenient {
    async fn read(&self) -> ProviderResult<Vec<JournalEntry>> {
        let Ok(mut entries) = self.0.read().await else { return Ok(Vec::new()) };
        if self.0.is_torn() {
            let index = entries.len() as u64;
            entries.push(JournalEntry { index, term: Term(1), body: serde_json::Value::Null });
        }
        Ok(entries)
    }
    async fn append(&self, entry: &JournalEntry) -> ProviderResult<()> {
        self.0.append(entry).await
    }
}

#[tokio::test]
async fn journals_that_break_a_clause_are_rejected() {
    let journal = Arc::new(Backwards(MemoryJournal::new(&Faults::new())));
    rejected("Journal, clause 3", journal::check_all(journal)).await;
    let kept = MemoryJournal::new(&Faults::new());
    let open = async || Ok(Lenient(kept.clone()));
    rejected("Journal, clause 3", journal::damage_is_named(open, async || kept.damage(0))).await;
}
