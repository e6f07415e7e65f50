//! Clusters that break a clause: fence, lag, who writes. Admins are in `broken_admins.rs`.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use common::rejected;
use futures_core::Stream;
use futures_util::StreamExt as _;
use kutover_core::decisions::stragglers::{LastRecord, PartitionWriters, Sign};
use kutover_core::drain::{GroupProgress, OpenTransaction, Tail};
use kutover_core::error::ProviderResult;
use kutover_core::ports::*;
use kutover_core::words::*;
use kutover_memory::{
    ClientOptions, ForeignProducer, MemoryCluster, MemoryTransaction, MemoryWorld, StoredRecord,
};
use kutover_testkit::conformance::{fence, lag, provision, writers};
use parking_lot::Mutex;

async fn cluster() -> (MemoryWorld, MemoryCluster) {
    let world = MemoryWorld::new();
    world.provisioner.provision(Colour::Blue, &provision::request()).await.unwrap();
    let cluster = world.cluster(Colour::Blue).unwrap();
    (world, cluster)
}

#[derive(Clone, Copy, PartialEq)]
enum FenceFlaw {
    None,
    FencesControl,
    FencesInternal,
    FencesAll,
    LiftsAll,
    LiftsItsOwn,
    TellsItsOwn,
    TellsTheLifted,
}

/// A fence over a set of names.
struct Names {
    standing: Arc<Mutex<BTreeSet<TopicName>>>,
    own: Mutex<BTreeSet<TopicName>>,
    flaw: FenceFlaw,
}

impl Names {
    fn new(flaw: FenceFlaw) -> Self {
        Self { standing: Arc::default(), own: Mutex::default(), flaw }
    }

    /// Another process's, on the same cluster.
    fn later(&self) -> Self {
        Self { standing: Arc::clone(&self.standing), ..Self::new(self.flaw) }
    }

    async fn writes(&self, topic: &TopicName) -> bool {
        !self.standing.lock().contains(topic)
    }

    fn spares(&self, topic: &TopicName) -> bool {
        match topic.as_str() {
            CONTROL_TOPIC | MEMBERS_TOPIC => self.flaw != FenceFlaw::FencesControl,
            name => is_internal_topic(name) && self.flaw != FenceFlaw::FencesInternal,
        }
    }
}

#[async_trait]
impl FenceSwitch for Names {
    fn kind(&self) -> FenceKind {
        FenceKind::Hook
    }
    async fn raise(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let all = ["t", "other"].map(TopicName::new);
        let all = all.iter().filter(|_| self.flaw == FenceFlaw::FencesAll);
        for topic in topics.iter().filter(|topic| !self.spares(topic)).chain(all) {
            self.own.lock().insert(topic.clone());
            self.standing.lock().insert(topic.clone());
        }
        Ok(())
    }
    async fn lift(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let own = self.own.lock().clone();
        let known = |topic: &TopicName| self.flaw != FenceFlaw::LiftsItsOwn || own.contains(topic);
        let named = |topic: &TopicName| self.flaw == FenceFlaw::LiftsAll || topics.contains(topic);
        self.standing.lock().retain(|topic| !(named(topic) && known(topic)));
        Ok(())
    }
    async fn traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
        let mut standing = self.standing.lock().clone();
        match self.flaw {
            FenceFlaw::TellsItsOwn => standing.retain(|topic| self.own.lock().contains(topic)),
            FenceFlaw::TellsTheLifted => standing.extend(self.own.lock().iter().cloned()),
            _ => {}
        }
        Ok(standing)
    }
}

async fn judge_fence(flaw: FenceFlaw) {
    let (named, other) = (TopicName::new("t"), TopicName::new("other"));
    let switch = Names::new(flaw);
    let writes = async |topic: &TopicName| switch.writes(topic).await;
    fence::only_what_is_named_is_fenced(&switch, writes, &named, &other).await;
    fence::a_later_process_takes_it_away(&switch, &switch.later(), writes, &named).await;
    fence::where_it_stands_is_told(&switch, &other).await;
}

#[tokio::test]
async fn fences_that_break_a_clause_are_rejected() {
    judge_fence(FenceFlaw::None).await;
    for (flaw, by) in [
        (FenceFlaw::FencesControl, "FenceSwitch, clause 1"),
        (FenceFlaw::FencesInternal, "FenceSwitch, clause 1"),
        (FenceFlaw::FencesAll, "FenceSwitch, clause 1"),
        (FenceFlaw::LiftsAll, "FenceSwitch, clause 1"),
        (FenceFlaw::LiftsItsOwn, "FenceSwitch, clause 2"),
        (FenceFlaw::TellsItsOwn, "FenceSwitch, clause 4: `traces` names where anything of an earlier"),
        (FenceFlaw::TellsTheLifted, "FenceSwitch, clause 4: `traces` names the topics"),
    ] {
        rejected(by, judge_fence(flaw)).await;
    }
    // An ACL on all operations instead of writing.
    let closed = Names::new(FenceFlaw::None);
    let reads = async |topic: &TopicName| closed.writes(topic).await;
    rejected("FenceSwitch, clause 3", fence::readers_keep_reading(&closed, reads, &"t".into())).await;
}

type Batches = Vec<ProviderResult<LagBatch>>;

#[derive(Clone, Copy, PartialEq)]
enum LagFlaw {
    None,
    AnswersTwice,
    LeavesOutALog,
    LeavesOutAPair,
    NoCommitIsAllRead,
    SilenceIsAllRead,
    LeavesOutTheSilent,
    Remembers,
    BeyondIsRead,
    EndIsBeyond,
}

struct FlawedLag {
    inner: MemoryCluster,
    flaw: LagFlaw,
    remembered: Arc<Mutex<Option<Batches>>>,
}

impl FlawedLag {
    fn told(flaw: LagFlaw, batch: LagBatch) -> LagBatch {
        let all_read = GroupProgress { committed: Some(Offset(1_000)), tail: Tail::NotRead };
        match batch {
            LagBatch::Logs(mut logs) => {
                if flaw == LagFlaw::LeavesOutALog {
                    logs.pop();
                }
                LagBatch::Logs(logs)
            }
            LagBatch::Group(group, mut places) => {
                match flaw {
                    LagFlaw::LeavesOutAPair => drop(places.pop()),
                    LagFlaw::LeavesOutTheSilent => places.retain(|(_, progress)| progress.is_ok()),
                    LagFlaw::NoCommitIsAllRead => {
                        for progress in places.iter_mut().flat_map(|(_, progress)| progress) {
                            progress.committed = progress.committed.or(all_read.committed);
                        }
                    }
                    LagFlaw::BeyondIsRead => {
                        for progress in places.iter_mut().flat_map(|(_, progress)| progress) {
                            progress.tail = Tail::NotRead;
                        }
                    }
                    LagFlaw::EndIsBeyond => {
                        for progress in places.iter_mut().flat_map(|(_, progress)| progress) {
                            progress.tail = Tail::Beyond;
                        }
                    }
                    LagFlaw::SilenceIsAllRead => {
                        let silent = places.iter_mut().filter(|(_, progress)| progress.is_err());
                        silent.for_each(|(_, progress)| *progress = Ok(all_read.clone()));
                    }
                    _ => {}
                }
                LagBatch::Group(group, places)
            }
        }
    }
}

impl LagSource for FlawedLag {
    fn lag(&self, query: LagQuery) -> Pin<Box<dyn Stream<Item = ProviderResult<LagBatch>> + Send + '_>> {
        let flaw = self.flaw;
        let told = self.inner.lag(query.clone()).map(move |batch| batch.map(|batch| Self::told(flaw, batch)));
        if flaw == LagFlaw::AnswersTwice {
            return Box::pin(told.chain(self.inner.lag(query)));
        }
        if flaw != LagFlaw::Remembers {
            return Box::pin(told);
        }
        let remembered = Arc::clone(&self.remembered);
        let batches = async move {
            let known = remembered.lock().clone();
            let batches = match known {
                Some(batches) => batches,
                None => told.collect().await,
            };
            *remembered.lock() = Some(batches.clone());
            futures_util::stream::iter(batches)
        };
        Box::pin(futures_util::stream::once(batches).flatten())
    }
}

async fn judge_lag(flaw: LagFlaw) {
    let (_world, inner) = cluster().await;
    inner.add_topic("t", 1);
    let (place, group) = (TopicPartition::new("t", 0), GroupId::new("billing"));
    let source = FlawedLag { inner: inner.clone(), flaw, remembered: Arc::default() };
    let append = async || {
        inner.produce(&place, StoredRecord::default()).unwrap();
    };
    let query = LagQuery {
        groups: [(group.clone(), ["t".into()].into())].into(),
        partitions: vec![place.clone()],
        ..LagQuery::default()
    };
    lag::everything_is_answered_once(&source, &query).await;
    lag::no_commit_is_not_zero(&source, &group, &place).await;
    lag::ranges_are_read_after_the_call(&source, &place, append).await;
    let to = async |offset| inner.commit(&group, &place, offset);
    lag::a_commit_beyond_the_end_is_told(&source, &group, &place, to).await;
    let silence = async || inner.set_coordinator(&group, false);
    lag::a_silent_group_is_an_error(&source, &group, &place, silence).await;
}

#[tokio::test]
async fn sources_of_lag_that_break_a_clause_are_rejected() {
    judge_lag(LagFlaw::None).await;
    for (flaw, by) in [
        (LagFlaw::AnswersTwice, "LagSource, clause 1"),
        (LagFlaw::LeavesOutALog, "LagSource, clause 1"),
        (LagFlaw::LeavesOutAPair, "LagSource, clause 1"),
        (LagFlaw::NoCommitIsAllRead, "LagSource, clause 2: a group without a commit"),
        (LagFlaw::SilenceIsAllRead, "LagSource, clause 2: a group that did not answer"),
        (LagFlaw::LeavesOutTheSilent, "LagSource, clause 2: a group that did not answer"),
        (LagFlaw::Remembers, "LagSource, clause 3"),
        (LagFlaw::BeyondIsRead, "LagSource, clause 4"),
        (LagFlaw::EndIsBeyond, "LagSource, clause 4"),
    ] {
        rejected(by, judge_lag(flaw)).await;
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Blind {
    No,
    LeavesOut,
    Remembers,
    EndsAlone,
    OneEnd,
    FirstRecords,
    MakesUp,
    CountsMarkers,
    NothingOpen,
    NothingEnds,
    MissingHasNoneOpen,
}

type Writers = BTreeMap<TopicPartition, Result<PartitionWriters, String>>;

struct FlawedSurvey {
    inner: MemoryCluster,
    how: Blind,
    first: Mutex<Option<Writers>>,
    /// Every transaction that was ever open, once for each look.
    seen: Mutex<Vec<(TopicPartition, OpenTransaction)>>,
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
        for writers in answers.values_mut().flatten() {
            match self.how {
                Blind::EndsAlone => writers.producers.clear(),
                Blind::OneEnd => writers.end_before = Offset(writers.end.0 + 1),
                _ => {}
            }
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
            Blind::CountsMarkers => {
                let ends = self.inner.ends(std::slice::from_ref(&place.topic)).await?;
                let end = ends.into_iter().find(|end| end.place == *place).map(|end| end.high_watermark.0);
                let newest = last.last().cloned().zip(end).filter(|(newest, end)| newest.offset.0 + 1 < *end);
                last.extend(newest.map(|(newest, end)| LastRecord { offset: Offset(end - 1), ..newest }));
                last.drain(..last.len().saturating_sub(at_most));
            }
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
        for (place, answer) in &mut answers {
            let mut seen = self.seen.lock();
            match (self.how, answer) {
                (Blind::NothingOpen, Ok(open)) => open.clear(),
                (Blind::NothingEnds, Ok(open)) => {
                    seen.extend(open.iter().map(|open| (place.clone(), open.clone())));
                    *open = seen.iter().filter(|(at, _)| at == place).map(|(_, open)| open.clone()).collect();
                }
                (Blind::MissingHasNoneOpen, answer) if answer.is_err() => *answer = Ok(Vec::new()),
                _ => {}
            }
        }
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
        let survey =
            FlawedSurvey { inner: inner.clone(), how, first: Mutex::default(), seen: Mutex::default() };
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
        (Blind::EndsAlone, "ProducerSurvey, clause 2"),
        (Blind::OneEnd, "ProducerSurvey, clause 3"),
        (Blind::FirstRecords, "ProducerSurvey, clause 4"),
        (Blind::MakesUp, "ProducerSurvey, clause 4"),
        (Blind::CountsMarkers, "ProducerSurvey, clause 4: markers"),
        (Blind::NothingOpen, "ProducerSurvey, clause 5"),
        (Blind::NothingEnds, "ProducerSurvey, clause 5"),
        (Blind::MissingHasNoneOpen, "ProducerSurvey, clause 5: a partition that did not answer"),
    ] {
        rejected(by, suite(how)).await;
    }
}
