//! DNS, watches and journals that break a clause.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use common::rejected;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::ports::*;
use kutover_core::words::*;
use kutover_memory::{Fault, Faults, MemoryDns, MemoryJournal};
use kutover_testkit::conformance::{dns, journal, watch};
use parking_lot::Mutex;

#[derive(Clone, Copy, PartialEq)]
enum DnsFlaw {
    None,
    ReadsACache,
    SpoiltIsAbsent,
    CnameIsAbsent,
    CnameIsDropped,
    StoresHalf,
    LosersAreUnknown,
    StoresLater,
    CallsItNotDone,
    StoredIsVisible,
    KeepsTheOwnerForAnHour,
}

struct Dns {
    inner: MemoryDns,
    flaw: DnsFlaw,
    cached: Mutex<Option<Published>>,
    /// Whether a CNAME stands in the owner record's place.
    taken: AtomicBool,
    /// The TTLs that record set and owner record are answered with.
    ttls: Mutex<(u32, u32)>,
}

impl Dns {
    fn new(faults: &Faults, flaw: DnsFlaw) -> Self {
        Self {
            inner: MemoryDns::new(faults),
            flaw,
            cached: Mutex::default(),
            taken: AtomicBool::default(),
            ttls: Mutex::default(),
        }
    }

    /// What is said where a CNAME stands in the owner record's place, unless this flaw has it passed over.
    fn room(&self, endpoint: &DnsName, passed_over: DnsFlaw) -> ProviderResult<()> {
        if self.flaw == passed_over || !self.taken.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(ProviderError::new(ErrorKind::Refused, format!("record of {endpoint}"), "a CNAME stands there"))
    }
}

#[async_trait]
impl DnsProvider for Dns {
    async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published> {
        self.room(endpoint, DnsFlaw::CnameIsAbsent)?;
        let found = match self.inner.read(endpoint).await {
            Err(error) if self.flaw == DnsFlaw::SpoiltIsAbsent && error.kind == ErrorKind::Invalid => {
                Published::default()
            }
            found => found?,
        };
        let first = self.cached.lock().get_or_insert_with(|| found.clone()).clone();
        Ok(if self.flaw == DnsFlaw::ReadsACache { first } else { found })
    }
    async fn compare_and_set(
        &self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        self.room(endpoint, DnsFlaw::CnameIsDropped)?;
        if self.flaw == DnsFlaw::StoresLater {
            return Ok(());
        }
        let stored = match self.flaw {
            DnsFlaw::StoresHalf => Published { owner: expected.owner.clone(), ..desired.clone() },
            _ => desired.clone(),
        };
        let ttl_s = desired.owner_ttl_s();
        let owner_ttl_s = if self.flaw == DnsFlaw::KeepsTheOwnerForAnHour { 3600 } else { ttl_s - 1 };
        *self.ttls.lock() = (ttl_s, owner_ttl_s);
        let given = self.inner.compare_and_set(endpoint, expected, &stored).await;
        match self.flaw {
            DnsFlaw::CallsItNotDone => given.map_err(|error| error.with_outcome(Outcome::NotDone)),
            DnsFlaw::LosersAreUnknown => given.map_err(|error| error.with_outcome(Outcome::Unknown)),
            _ => given,
        }
    }
    async fn is_visible(&self, endpoint: &DnsName, published: &Published) -> ProviderResult<bool> {
        match self.flaw {
            DnsFlaw::StoredIsVisible => Ok(self.inner.read(endpoint).await? == *published),
            _ => self.inner.is_visible(endpoint, published).await,
        }
    }
}

async fn judge(flaw: DnsFlaw) {
    let (faults, at) = (Faults::new(), DnsName::new("a.test"));
    let provider = Arc::new(Dns::new(&faults, flaw));
    // A half that is missing shows in what is read too; here it is to be rejected for the swap.
    if flaw != DnsFlaw::StoresHalf {
        dns::read_gives_what_is_stored(&*provider, &at).await;
        dns::ok_means_stored(&*provider, &at).await;
    }
    dns::compare_and_set_has_one_winner(Arc::clone(&provider) as Arc<dyn DnsProvider>, &at).await;
    let inner = &provider.inner;
    let (hold, let_go) = (async || inner.hide_for(usize::MAX), async || inner.hide_for(0));
    dns::one_server_behind_hides_it(&*provider, &at, (hold, let_go), 3).await;
    let lose = || faults.inject("dns.compare_and_set", Fault::UnknownDone);
    dns::a_lost_answer_is_unknown(&*provider, &at, lose).await;
    dns::the_owners_ttl_is_the_sets(&*provider, &at, async || *provider.ttls.lock()).await;
    inner.spoil_owner(&at);
    dns::a_spoilt_owner_record_is_invalid(&*provider, &at).await;
    provider.taken.store(true, Ordering::Relaxed);
    dns::a_cname_in_the_owners_place_is_refused(&*provider, &"b.test".into()).await;
}

#[tokio::test]
async fn providers_of_dns_that_break_a_clause_are_rejected() {
    judge(DnsFlaw::None).await;
    for (flaw, by) in [
        (DnsFlaw::ReadsACache, "DnsProvider, clause 1"),
        (DnsFlaw::SpoiltIsAbsent, "DnsProvider, clause 1"),
        (DnsFlaw::CnameIsAbsent, "DnsProvider, clause 1"),
        (DnsFlaw::CnameIsDropped, "DnsProvider, clause 1"),
        (DnsFlaw::StoresHalf, "DnsProvider, clause 2"),
        (DnsFlaw::LosersAreUnknown, "DnsProvider, clause 2"),
        (DnsFlaw::CallsItNotDone, "DnsProvider, clause 4"),
        (DnsFlaw::StoredIsVisible, "DnsProvider, clause 5"),
        (DnsFlaw::KeepsTheOwnerForAnHour, "DnsProvider, clause 6"),
    ] {
        rejected(by, judge(flaw)).await;
    }
    let late = Dns::new(&Faults::new(), DnsFlaw::StoresLater);
    rejected("DnsProvider, clause 3", dns::ok_means_stored(&late, &"a.test".into())).await;
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
    let fails = || EndpointAnswer::Failed("SERVFAIL".into());
    let hushed = watch([Some(EndpointAnswer::Empty), None, None], fails());
    let suite = watch::a_failure_is_an_answer_and_is_tried_again(&hushed, change);
    rejected("EndpointWatch, clause 3", suite).await;
    let resigned = watch([Some(fails()), Some(fails()), None], fails());
    let suite = watch::a_failure_is_an_answer_and_is_tried_again(&resigned, change);
    rejected("EndpointWatch, clause 1", suite).await;
    let recovers = watch([Some(fails()), Some(leads_to(2)), None], fails());
    watch::a_failure_is_an_answer_and_is_tried_again(&recovers, change).await;
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

/// How a journal over a sound one breaks a clause.
#[derive(Clone, Copy, PartialEq)]
enum JournalFlaw {
    None,
    AnyIndex,
    LooksThenAppends,
    ShowsWhatWasCutOff,
    LeavesOutTheDamaged,
    NamesNothing,
}

#[derive(Clone)]
struct Flawed {
    inner: MemoryJournal,
    flaw: JournalFlaw,
    /// Whether a part of an entry stands behind the last one.
    torn: Arc<AtomicBool>,
    /// What an append that looks at no index has put there.
    extra: Arc<Mutex<Vec<JournalEntry>>>,
}

impl Flawed {
    fn new(flaw: JournalFlaw) -> Self {
        let inner = MemoryJournal::new(&Faults::new());
        Self { inner, flaw, torn: Arc::default(), extra: Arc::default() }
    }
}

#[async_trait]
impl Journal for Flawed {
    async fn read(&self) -> ProviderResult<Vec<JournalEntry>> {
        let mut entries = match self.inner.read().await {
            Err(_) if self.flaw == JournalFlaw::LeavesOutTheDamaged => Vec::new(),
            Err(error) if self.flaw == JournalFlaw::NamesNothing => {
                return Err(ProviderError::new(error.kind, "read the journal", "it is damaged"));
            }
            read => read?,
        };
        entries.extend(self.extra.lock().iter().cloned());
        if self.flaw == JournalFlaw::ShowsWhatWasCutOff && self.torn.load(Ordering::SeqCst) {
            let index = entries.len() as u64;
            entries.push(JournalEntry { index, term: Term(1), body: serde_json::Value::Null });
        }
        Ok(entries)
    }
    async fn append(&self, entry: &JournalEntry) -> ProviderResult<()> {
        match self.flaw {
            JournalFlaw::AnyIndex => {
                let index = self.inner.read().await?.len() as u64;
                self.inner.append(&JournalEntry { index, ..entry.clone() }).await
            }
            // Two that look before either appends both find their place.
            JournalFlaw::LooksThenAppends => {
                let held = self.read().await?.len() as u64;
                tokio::task::yield_now().await;
                if held == entry.index && self.inner.append(entry).await.is_err() {
                    self.extra.lock().push(entry.clone());
                }
                Ok(())
            }
            _ => self.inner.append(entry).await,
        }
    }
}

async fn judge_journal(flaw: JournalFlaw) {
    let flawed = Flawed::new(flaw);
    journal::append_has_one_winner(Arc::new(flawed.clone())).await;
    journal::check_all(Arc::new(flawed.clone())).await;
    let tear = async || flawed.torn.store(true, Ordering::SeqCst);
    journal::a_torn_tail_is_dropped(async || flawed.clone(), tear).await;
    let damage = async || flawed.inner.damage(0);
    journal::damage_is_named(async || Ok(flawed.clone()), damage).await;
}

#[tokio::test]
async fn journals_that_break_a_clause_are_rejected() {
    let journal = Arc::new(Backwards(MemoryJournal::new(&Faults::new())));
    rejected("Journal, clause 3", journal::check_all(journal)).await;
    judge_journal(JournalFlaw::None).await;
    for (flaw, by) in [
        (JournalFlaw::LooksThenAppends, "Journal, clause 1: of several racing appends"),
        (JournalFlaw::ShowsWhatWasCutOff, "Journal, clause 3: an entry that was cut off"),
        (JournalFlaw::LeavesOutTheDamaged, "Journal, clause 3: damage before the end"),
        (JournalFlaw::NamesNothing, "Journal, clause 3: damage before the end"),
    ] {
        rejected(by, judge_journal(flaw)).await;
    }
    let anywhere = Flawed::new(JournalFlaw::AnyIndex);
    rejected("Journal, clause 1", journal::only_the_next_index_is_taken(&anywhere)).await;
}
