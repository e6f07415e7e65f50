//! Producer ids that break a clause.

mod common;

use std::collections::BTreeSet;

use async_trait::async_trait;
use common::rejected;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{ClusterAdmin as _, ClusterProvisioner as _, NewestIds, ProducerIds};
use kutover_core::words::{Colour, Offset, TopicName, TopicPartition};
use kutover_memory::{ClientOptions, ForeignProducer, MemoryCluster, MemoryWorld, StoredRecord};
use kutover_testkit::conformance::{producer_ids, provision};
use parking_lot::Mutex;

#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    SilentLeftOut,
    OneAsked,
    Remembers,
    OnlySaysSo,
    NobodyIsLive,
    MissingIsNobody,
}

struct Flawed {
    inner: MemoryCluster,
    flaw: Flaw,
    remembered: Mutex<Option<NewestIds>>,
    _world: MemoryWorld,
}

impl Flawed {
    async fn new(flaw: Flaw) -> Self {
        let world = MemoryWorld::new();
        world.provisioner.provision(Colour::Blue, &provision::request()).await.unwrap();
        let inner = world.cluster(Colour::Blue).unwrap();
        Self { inner, flaw, remembered: Mutex::default(), _world: world }
    }
}

#[async_trait]
impl ProducerIds for Flawed {
    async fn newest(&self) -> ProviderResult<NewestIds> {
        let mut newest = self.inner.newest().await?;
        match self.flaw {
            Flaw::SilentLeftOut => newest.retain(|_, id| id.is_ok()),
            Flaw::OneAsked => newest.retain(|broker, _| *broker == 0),
            Flaw::Remembers => newest = self.remembered.lock().get_or_insert(newest).clone(),
            _ => {}
        }
        Ok(newest)
    }

    async fn pass(&self, mark: u64) -> ProviderResult<NewestIds> {
        if self.flaw != Flaw::OnlySaysSo {
            return self.inner.pass(mark).await;
        }
        let newest = self.inner.newest().await?;
        Ok(newest.into_keys().map(|broker| (broker, Ok(mark))).collect())
    }

    async fn live(&self, topics: &[TopicName]) -> ProviderResult<BTreeSet<u64>> {
        match self.inner.live(topics).await {
            Ok(_) if self.flaw == Flaw::NobodyIsLive => Ok(BTreeSet::new()),
            Err(_) if self.flaw == Flaw::MissingIsNobody => Ok(BTreeSet::new()),
            live => live,
        }
    }
}

#[tokio::test]
async fn a_silent_broker_that_is_left_out() {
    let ids = Flawed::new(Flaw::SilentLeftOut).await;
    let silence = async || {
        ids.inner.stop_broker(1, None);
        1
    };
    rejected("ProducerIds, clause 1", producer_ids::a_silent_broker_is_an_error(&ids, silence)).await;
}

#[tokio::test]
async fn one_broker_speaks_for_all() {
    let ids = Flawed::new(Flaw::OneAsked).await;
    rejected("ProducerIds, clause 1", producer_ids::every_broker_says_where_it_stands(&ids, 3)).await;
}

#[tokio::test]
async fn ids_that_are_remembered() {
    let ids = Flawed::new(Flaw::Remembers).await;
    rejected("ProducerIds, clause 2", producer_ids::no_id_is_given_out_twice(&ids)).await;
}

#[tokio::test]
async fn a_mark_that_is_passed_in_words() {
    let ids = Flawed::new(Flaw::OnlySaysSo).await;
    rejected("ProducerIds, clause 3", producer_ids::a_mark_is_passed_by_every_broker(&ids)).await;
}

#[tokio::test]
async fn writers_that_are_not_seen() {
    for flaw in [Flaw::NobodyIsLive, Flaw::MissingIsNobody] {
        let ids = Flawed::new(flaw).await;
        ids.inner.add_topic("t", 1);
        let write = async || {
            let mut writer = ForeignProducer::start(&ids.inner, ClientOptions::default());
            writer.send(&TopicPartition::new("t", 0), StoredRecord::default()).await.unwrap();
            u64::try_from(writer.producer_id()).unwrap()
        };
        let (topic, missing) = ("t".into(), "missing".into());
        let checked = producer_ids::who_wrote_is_live(&ids, &topic, write, &missing);
        rejected("ProducerIds, clause 4", checked).await;
    }
}

/// Knows of no writer, and of every partition whether it ever held a record.
struct Untold {
    inner: Flawed,
    calls_them_nobody: bool,
}

#[async_trait]
impl ProducerIds for Untold {
    async fn newest(&self) -> ProviderResult<NewestIds> {
        self.inner.newest().await
    }

    async fn pass(&self, mark: u64) -> ProviderResult<NewestIds> {
        self.inner.pass(mark).await
    }

    async fn live(&self, topics: &[TopicName]) -> ProviderResult<BTreeSet<u64>> {
        let ends = self.inner.inner.ends(topics).await?;
        match ends.into_iter().find(|end| end.high_watermark > Offset(0)) {
            Some(end) if !self.calls_them_nobody => {
                let what = format!("read the producers of {}", end.place);
                Err(ProviderError::new(ErrorKind::Unsupported, what, "it does not tell"))
            }
            _ => Ok(BTreeSet::new()),
        }
    }
}

#[tokio::test]
async fn writers_that_are_unknown_and_called_nobody() {
    let cluster = |inner: Flawed, calls_them_nobody| {
        inner.inner.add_topic("empty", 1);
        inner.inner.add_topic("t", 2);
        inner.inner.produce(&TopicPartition::new("t", 1), StoredRecord::default()).unwrap();
        Untold { inner, calls_them_nobody }
    };
    let (empty, written) = ("empty".into(), TopicPartition::new("t", 1));
    let honest = cluster(Flawed::new(Flaw::None).await, false);
    producer_ids::unknown_writers_are_not_nobody(&honest, &empty, &written).await;
    let careless = cluster(Flawed::new(Flaw::None).await, true);
    let checked = producer_ids::unknown_writers_are_not_nobody(&careless, &empty, &written);
    rejected("ProducerIds, clause 4", checked).await;
}
