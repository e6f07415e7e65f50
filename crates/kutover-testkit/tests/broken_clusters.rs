//! Clusters that break a clause: admin, fence, lag.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use common::rejected;
use futures_core::Stream;
use futures_util::StreamExt as _;
use kutover_core::decisions::stragglers::{LastRecord, PartitionWriters, Sign};
use kutover_core::drain::OpenTransaction;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::messages::{ControlMessage, ControlView, MemberState};
use kutover_core::ports::*;
use kutover_core::words::*;
use kutover_memory::{
    ClientOptions, ForeignProducer, MemoryCluster, MemoryTransaction, MemoryWorld, StoredRecord,
};
use kutover_testkit::conformance::{admin, fence, lag, provision, writers};
use parking_lot::Mutex;

async fn cluster() -> (MemoryWorld, MemoryCluster) {
    let world = MemoryWorld::new();
    world.provisioner.provision(Colour::Blue, &provision::request()).await.unwrap();
    let cluster = world.cluster(Colour::Blue).unwrap();
    (world, cluster)
}

#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    NoId,
    NeverGrows,
    OverwritesCommits,
    LiftsNothing,
    AlwaysOpen,
    FencesControl,
    ShowsItsFence,
    ReplacesAccess,
    TakesNothingAway,
    HidesItsFence,
    ForgetsMarkers,
}

struct Flawed {
    inner: MemoryCluster,
    flaw: Flaw,
    control_fenced: Arc<AtomicBool>,
    is_fenced: AtomicBool,
}

impl Flawed {
    async fn new(flaw: Flaw) -> Self {
        Self {
            inner: cluster().await.1,
            flaw,
            control_fenced: Arc::default(),
            is_fenced: AtomicBool::default(),
        }
    }
}

#[async_trait]
impl ClusterAdmin for Flawed {
    async fn identity(&self) -> ProviderResult<ClusterIdentity> {
        let found = self.inner.identity().await?;
        Ok(if self.flaw == Flaw::NoId { ClusterIdentity { cluster_id: "".into(), ..found } } else { found })
    }
    async fn topics(&self) -> ProviderResult<Vec<TopicDescription>> {
        self.inner.topics().await
    }
    async fn create_topic(&self, topic: &NewTopic) -> ProviderResult<()> {
        let exists = self.inner.topics().await?.iter().any(|found| found.name == topic.name);
        if exists && self.flaw == Flaw::NeverGrows {
            return Ok(());
        }
        self.inner.create_topic(topic).await
    }
    async fn delete_topics(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.inner.delete_topics(topics).await
    }
    async fn access(&self) -> ProviderResult<Access> {
        let mut found = self.inner.access().await?;
        if self.flaw == Flaw::ShowsItsFence && self.is_fenced.load(Ordering::SeqCst) {
            found.acls.get_or_insert_default().insert(admin::rule("User:*", "deny"));
        }
        Ok(found)
    }
    async fn grant(&self, access: &NewAccess) -> ProviderResult<ScramUsers> {
        if self.flaw == Flaw::ReplacesAccess {
            self.inner.forget_access();
        }
        self.inner.grant(access).await
    }
    async fn groups(&self) -> ProviderResult<GroupListing> {
        self.inner.groups().await
    }
    async fn ends(&self, topics: &[TopicName]) -> ProviderResult<Vec<PartitionEnd>> {
        self.inner.ends(topics).await
    }
    async fn set_start_offsets(
        &self,
        group: &GroupId,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> ProviderResult<Vec<TopicPartition>> {
        if self.flaw != Flaw::OverwritesCommits {
            return self.inner.set_start_offsets(group, offsets).await;
        }
        offsets.iter().for_each(|(place, offset)| self.inner.commit(group, place, *offset));
        Ok(Vec::new())
    }
    async fn raise_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceKind> {
        let control = topics.iter().any(|topic| topic.as_str() == CONTROL_TOPIC);
        self.control_fenced.store(control && self.flaw == Flaw::FencesControl, Ordering::SeqCst);
        self.is_fenced.store(true, Ordering::SeqCst);
        self.inner.raise_fence(topics).await
    }
    async fn prove_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceProof> {
        if self.flaw == Flaw::ForgetsMarkers {
            let ends = self.inner.ends(topics).await?;
            return Ok(FenceProof { kind: FenceKind::Hook, topics: BTreeMap::new(), ends });
        }
        self.inner.prove_fence(topics).await
    }
    async fn lift_fence(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.is_fenced.store(false, Ordering::SeqCst);
        if self.flaw == Flaw::LiftsNothing { Ok(()) } else { self.inner.lift_fence(topics).await }
    }
    async fn prove_open(&self, topics: &[TopicName]) -> ProviderResult<()> {
        if self.flaw == Flaw::AlwaysOpen { Ok(()) } else { self.inner.prove_open(topics).await }
    }
    async fn alter_configs(&self, configs: &TopicConfigs) -> ProviderResult<()> {
        let mut configs = configs.clone();
        if self.flaw == Flaw::TakesNothingAway {
            configs.values_mut().for_each(|set| set.retain(|_, value| value.is_some()));
        }
        self.inner.alter_configs(&configs).await
    }
    async fn fence_traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
        if self.flaw == Flaw::HidesItsFence { Ok(BTreeSet::new()) } else { self.inner.fence_traces().await }
    }
}

#[async_trait]
impl Registry for Flawed {
    async fn prepare(&self) -> ProviderResult<()> {
        self.inner.prepare().await
    }
    async fn say(&self, message: &ControlMessage) -> ProviderResult<()> {
        if self.control_fenced.load(Ordering::SeqCst) {
            return Err(ProviderError::new(ErrorKind::Refused, "say", "not authorised"));
        }
        self.inner.say(message).await
    }
    async fn control(&self) -> ProviderResult<ControlView> {
        self.inner.control().await
    }
    async fn members(&self) -> ProviderResult<Vec<MemberState>> {
        self.inner.members().await
    }
}

#[tokio::test]
async fn admins_that_break_a_clause_are_rejected() {
    for (flaw, by) in [
        (Flaw::NoId, "ClusterAdmin, clause 1"),
        (Flaw::NeverGrows, "ClusterAdmin, clause 2"),
        (Flaw::OverwritesCommits, "ClusterAdmin, clause 3"),
        (Flaw::LiftsNothing, "ClusterAdmin, clause 4"),
        (Flaw::AlwaysOpen, "ClusterAdmin, clause 6"),
        (Flaw::FencesControl, "ClusterAdmin, clause 7"),
        (Flaw::ShowsItsFence, "ClusterAdmin, clause 8"),
        (Flaw::ReplacesAccess, "ClusterAdmin, clause 9"),
        (Flaw::TakesNothingAway, "ClusterAdmin, clause 10"),
        (Flaw::HidesItsFence, "ClusterAdmin, clause 11"),
    ] {
        let cluster = Flawed::new(flaw).await;
        rejected(by, admin::check_all(&cluster, &cluster, "t")).await;
    }
}

/// L17: it raises whatever fence it has, and asks no reader.
#[tokio::test]
async fn an_admin_that_asks_no_reader_is_rejected() {
    let (_world, cluster) = cluster().await;
    let topic = "orders".into();
    let suite = admin::a_fence_that_shuts_readers_out_is_taken_away(&cluster, &topic);
    rejected("ClusterAdmin, clause 4", suite).await;
}

#[tokio::test]
async fn an_admin_that_forgets_of_markers_is_rejected() {
    let cluster = Flawed::new(Flaw::ForgetsMarkers).await;
    let place = TopicPartition::new("ledger", 0);
    let begin = async || {
        let transaction = cluster.inner.begin();
        let since = transaction.produce(&place, StoredRecord::default()).unwrap();
        (transaction, since)
    };
    let end = async |transaction: MemoryTransaction| transaction.commit();
    let suite = admin::a_fence_is_not_proven_over_an_open_transaction(&cluster, &place, begin, end);
    rejected("ClusterAdmin, clause 5", suite).await;
}

/// A fence over a set of names, with what it does wrong.
#[derive(Default)]
struct Names {
    standing: Arc<Mutex<BTreeSet<TopicName>>>,
    own: Mutex<BTreeSet<TopicName>>,
    spares_control: bool,
    forgets_others: bool,
}

impl Names {
    async fn writes(&self, topic: &TopicName) -> bool {
        !self.standing.lock().contains(topic)
    }
}

#[async_trait]
impl FenceSwitch for Names {
    fn kind(&self) -> FenceKind {
        FenceKind::Hook
    }
    async fn raise(&self, topics: &[TopicName]) -> ProviderResult<()> {
        for topic in topics.iter().filter(|topic| !self.spares_control || topic.as_str() != CONTROL_TOPIC) {
            self.own.lock().insert(topic.clone());
            self.standing.lock().insert(topic.clone());
        }
        Ok(())
    }
    async fn lift(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let own = self.own.lock().clone();
        let known = |topic: &&TopicName| !self.forgets_others || own.contains(*topic);
        for topic in topics.iter().filter(known) {
            self.standing.lock().remove(topic);
        }
        Ok(())
    }
    async fn traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
        let standing = self.standing.lock().clone();
        Ok(if self.forgets_others { self.own.lock().clone() } else { standing })
    }
}

#[tokio::test]
async fn fences_that_break_a_clause_are_rejected() {
    let (named, other) = (TopicName::new("t"), TopicName::new("other"));
    let honest = Names { spares_control: true, ..Names::default() };
    let writes = async |topic: &TopicName| honest.writes(topic).await;
    fence::only_what_is_named_is_fenced(&honest, writes, &named, &other).await;

    let greedy = Names::default();
    let writes = async |topic: &TopicName| greedy.writes(topic).await;
    let suite = fence::only_what_is_named_is_fenced(&greedy, writes, &named, &other);
    rejected("FenceSwitch, clause 1", suite).await;

    let forgetful =
        Names { standing: Arc::clone(&honest.standing), forgets_others: true, ..Names::default() };
    let writes = async |topic: &TopicName| honest.writes(topic).await;
    let suite = fence::a_later_process_takes_it_away(&honest, &forgetful, writes, &named);
    rejected("FenceSwitch, clause 2", suite).await;

    fence::where_it_stands_is_told(&honest, &other).await;
    rejected("FenceSwitch, clause 4", fence::where_it_stands_is_told(&forgetful, &named)).await;

    // An ACL on all operations instead of writing.
    let reads = async |topic: &TopicName| honest.writes(topic).await;
    rejected("FenceSwitch, clause 3", fence::readers_keep_reading(&honest, reads, &named)).await;
}

type Batches = Vec<ProviderResult<LagBatch>>;

/// Answers twice, or what it answered before.
struct FlawedLag {
    inner: MemoryCluster,
    twice: bool,
    remembered: Arc<Mutex<Option<Batches>>>,
}

impl LagSource for FlawedLag {
    fn lag(&self, query: LagQuery) -> Pin<Box<dyn Stream<Item = ProviderResult<LagBatch>> + Send + '_>> {
        if self.twice {
            return Box::pin(self.inner.lag(query.clone()).chain(self.inner.lag(query)));
        }
        let remembered = Arc::clone(&self.remembered);
        let batches = async move {
            let known = remembered.lock().clone();
            let batches = match known {
                Some(batches) => batches,
                None => self.inner.lag(query).collect().await,
            };
            *remembered.lock() = Some(batches.clone());
            futures_util::stream::iter(batches)
        };
        Box::pin(futures_util::stream::once(batches).flatten())
    }
}

#[tokio::test]
async fn sources_of_lag_that_break_a_clause_are_rejected() {
    let (_world, inner) = cluster().await;
    inner.add_topic("t", 1);
    let place = TopicPartition::new("t", 0);
    let flawed = |twice| FlawedLag { inner: inner.clone(), twice, remembered: Arc::default() };
    let query = LagQuery { partitions: vec![place.clone()], ..LagQuery::default() };
    lag::everything_is_answered_once(&flawed(false), &query).await;
    rejected("LagSource, clause 1", lag::everything_is_answered_once(&flawed(true), &query)).await;
    let append = async || {
        inner.produce(&place, StoredRecord::default()).unwrap();
    };
    let stale = flawed(false);
    rejected("LagSource, clause 3", lag::ranges_are_read_after_the_call(&stale, &place, append)).await;
}

#[derive(Clone, Copy, PartialEq)]
enum Blind {
    No,
    LeavesOut,
    Remembers,
    OneEnd,
    FirstRecords,
    MakesUp,
    NothingOpen,
}

type Writers = BTreeMap<TopicPartition, Result<PartitionWriters, String>>;

struct FlawedSurvey {
    inner: MemoryCluster,
    how: Blind,
    first: Mutex<Option<Writers>>,
}

#[async_trait]
impl ProducerSurvey for FlawedSurvey {
    async fn writers(&self, places: &[TopicPartition]) -> ProviderResult<Writers> {
        let mut answers = self.inner.writers(places).await?;
        if self.how == Blind::LeavesOut {
            answers.retain(|_, answer| answer.is_ok());
        }
        let first = self.first.lock().get_or_insert_with(|| answers.clone()).clone();
        if self.how == Blind::Remembers {
            return Ok(first);
        }
        for writers in answers.values_mut().flatten().filter(|_| self.how == Blind::OneEnd) {
            writers.end_before = Offset(writers.end.0 + 1);
        }
        Ok(answers)
    }
    async fn last_records(&self, place: &TopicPartition, at_most: usize) -> ProviderResult<Vec<LastRecord>> {
        let mut last = self.inner.last_records(place, 1_000).await?;
        let sign = Sign::default();
        let made_up = LastRecord { offset: Offset(0), timestamp_ms: 0, producer_id: None, sign };
        match self.how {
            Blind::FirstRecords => last.truncate(at_most),
            Blind::MakesUp if last.is_empty() => last.push(made_up),
            _ => {
                last.drain(..last.len().saturating_sub(at_most));
            }
        }
        Ok(last)
    }
    async fn open_transactions(
        &self,
        places: &[TopicPartition],
    ) -> ProviderResult<BTreeMap<TopicPartition, Result<Vec<OpenTransaction>, String>>> {
        let mut answers = self.inner.open_transactions(places).await?;
        answers.values_mut().flatten().filter(|_| self.how == Blind::NothingOpen).for_each(Vec::clear);
        Ok(answers)
    }
}

#[tokio::test]
async fn surveys_that_break_a_clause_are_rejected() {
    let (_world, inner) = cluster().await;
    inner.add_topic("t", 2);
    let (place, empty) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
    let stranger = tokio::sync::Mutex::new(ForeignProducer::start(&inner, ClientOptions::default()));
    let append = async || {
        stranger.lock().await.send(&place, StoredRecord::default()).await.unwrap();
    };
    let suite = async |how| {
        let survey = FlawedSurvey { inner: inner.clone(), how, first: Mutex::default() };
        let there = [place.clone(), empty.clone()];
        writers::every_partition_has_its_answer(&survey, &there, &TopicPartition::new("t", 2)).await;
        writers::what_was_acknowledged_shows(&survey, &place, append).await;
        writers::the_last_records_come_last(&survey, &place, &Sign::default(), append).await;
        writers::an_empty_partition_has_no_last_record(&survey, &empty).await;
        let begin = async || {
            let transaction = inner.begin();
            let since = transaction.produce(&place, StoredRecord::default()).unwrap();
            (transaction, since)
        };
        let end = async |transaction: MemoryTransaction| transaction.commit();
        writers::an_open_transaction_is_named_until_it_ends(&survey, &place, begin, end).await;
    };
    suite(Blind::No).await;
    for (how, by) in [
        (Blind::LeavesOut, "ProducerSurvey, clause 1"),
        (Blind::Remembers, "ProducerSurvey, clause 2"),
        (Blind::OneEnd, "ProducerSurvey, clause 3"),
        (Blind::FirstRecords, "ProducerSurvey, clause 4"),
        (Blind::MakesUp, "ProducerSurvey, clause 4"),
        (Blind::NothingOpen, "ProducerSurvey, clause 5"),
    ] {
        rejected(by, suite(how)).await;
    }
}
