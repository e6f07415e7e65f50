//! Surveys that break a clause, and one that keeps them all.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use common::rejected;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::*;
use kutover_core::words::*;
use kutover_memory::{MemoryCluster, MemoryWorld};
use kutover_testkit::conformance::{provision, survey};

#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    MakesTopics,
    LeavesOut,
    CallsItYoung,
    AnswersEmpty,
    Remembers,
    ReachesNobody,
}

/// Looks at a cluster in memory, with a flaw.
struct Flawed {
    cluster: MemoryCluster,
    /// `retention.ms` of every topic.
    retention_ms: AtomicU32,
    flaw: Flaw,
}

impl Flawed {
    async fn new(flaw: Flaw) -> Self {
        let world = MemoryWorld::new();
        world.provisioner.provision(Colour::Blue, &provision::request()).await.unwrap();
        let cluster = world.cluster(Colour::Blue).unwrap();
        cluster.add_topic("t", 1);
        Self { cluster, retention_ms: AtomicU32::new(1), flaw }
    }

    fn missing<T>(&self) -> ProviderResult<T> {
        Err(ProviderError::new(ErrorKind::Unsupported, "look", "a cluster in memory has no such call"))
    }
}

impl Flawed {
    fn configs(&self) -> ConfigMap {
        let now = if self.flaw == Flaw::Remembers { 1 } else { self.retention_ms.load(Ordering::Relaxed) };
        let value = ConfigValue { value: Some(now.to_string()), source: ConfigSource::Own, is_secret: false };
        [("retention.ms".to_owned(), value)].into()
    }
}

#[async_trait]
impl ClusterSurvey for Flawed {
    async fn topic_configs(
        &self,
        topics: &[TopicName],
    ) -> ProviderResult<BTreeMap<TopicName, Item<ConfigMap>>> {
        let known: Vec<TopicName> =
            self.cluster.topics().await?.into_iter().map(|topic| topic.name).collect();
        let answer = |topic: &TopicName| match known.contains(topic) {
            true => (topic.clone(), Ok(self.configs())),
            false => (topic.clone(), Err("no such topic".to_owned())),
        };
        Ok(topics
            .iter()
            .map(answer)
            .filter(|(_, answer)| answer.is_ok() || self.flaw != Flaw::LeavesOut)
            .collect())
    }
    async fn broker_configs(&self) -> ProviderResult<BTreeMap<i32, Item<ConfigMap>>> {
        self.missing()
    }
    async fn refused_topics(&self, _: &[NewTopic]) -> ProviderResult<RefusedTopics> {
        if self.flaw == Flaw::MakesTopics {
            self.cluster.add_topic("kutover.plan", 1);
        }
        Ok(RefusedTopics::default())
    }
    async fn describe_groups(&self) -> ProviderResult<BTreeMap<GroupId, Item<GroupDescription>>> {
        self.missing()
    }
    async fn transactional_ids(&self) -> ProviderResult<BTreeMap<String, String>> {
        if self.flaw == Flaw::AnswersEmpty { Ok(BTreeMap::new()) } else { self.missing() }
    }
    async fn sizes(&self, _: &[TopicName]) -> ProviderResult<BTreeMap<TopicPartition, Item<u64>>> {
        self.missing()
    }
    async fn ages(
        &self,
        at: &BTreeMap<TopicPartition, Offset>,
        _: i64,
    ) -> ProviderResult<BTreeMap<TopicPartition, Item<u64>>> {
        let age = || if self.flaw == Flaw::CallsItYoung { Ok(0) } else { Err("no record".to_owned()) };
        Ok(at.keys().map(|place| (place.clone(), age())).collect())
    }
    async fn reach(&self, addresses: &BTreeSet<String>) -> BTreeMap<String, Item<()>> {
        let answer = |address: &String| match address == "open:1" || self.flaw == Flaw::ReachesNobody {
            true => (address.clone(), Ok(())),
            false => (address.clone(), Err("connection refused".to_owned())),
        };
        addresses.iter().map(answer).collect()
    }
}

async fn every_clause(looked: &Flawed) {
    survey::looking_changes_nothing(looked, &looked.cluster, &"t".into()).await;
    survey::what_does_not_answer_is_an_error(looked, &"missing".into()).await;
    survey::a_missing_call_is_unsupported(looked).await;
    let change = async || looked.retention_ms.store(2, Ordering::Relaxed);
    survey::configs_are_read_after_the_call(looked, &"t".into(), "retention.ms", change).await;
    survey::every_address_is_tried(looked, "open:1", "shut:1").await;
}

#[tokio::test]
async fn surveys_that_break_a_clause_are_rejected() {
    every_clause(&Flawed::new(Flaw::None).await).await;
    for (flaw, by) in [
        (Flaw::MakesTopics, "ClusterSurvey, clause 1"),
        (Flaw::LeavesOut, "ClusterSurvey, clause 2"),
        (Flaw::CallsItYoung, "ClusterSurvey, clause 2"),
        (Flaw::AnswersEmpty, "ClusterSurvey, clause 3"),
        (Flaw::Remembers, "ClusterSurvey, clause 4"),
        (Flaw::ReachesNobody, "ClusterSurvey, clause 5"),
    ] {
        rejected(by, every_clause(&Flawed::new(flaw).await)).await;
    }
}
