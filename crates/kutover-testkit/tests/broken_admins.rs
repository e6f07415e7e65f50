//! Admins that break a clause.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;

use async_trait::async_trait;
use common::rejected;
use futures_core::Stream;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::messages::{ControlMessage, ControlView, MemberState};
use kutover_core::ports::*;
use kutover_core::words::*;
use kutover_memory::{FenceStyle, Isolation, MemoryCluster, MemoryTransaction, MemoryWorld, StoredRecord};
use kutover_testkit::conformance::{admin, provision};
use parking_lot::Mutex;

#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    NoId,
    RemembersIdentity,
    NeverGrows,
    MakesAnew,
    DropsUnknownConfigs,
    NamesNoConfig,
    LeavesOutTheMissing,
    OverwritesCommits,
    MovesCommits,
    LiftsNothing,
    LiftsEverything,
    TakesTheirRules,
    ShutsReadersOut,
    ProvesByWriting,
    AsksOneLeader,
    SilenceProves,
    ForgetsMarkers,
    AlwaysOpen,
    OpensByWriting,
    OneOpenLeaderWillDo,
    SilenceIsOpen,
    AsksAsController,
    FencesControl,
    FencesCommits,
    HidesAcls,
    ShowsItsFence,
    ReplacesAccess,
    GrantsNothing,
    TakesNothingAway,
    AltersNothing,
    HidesItsFence,
    NamesWhatLooksLikeIt,
}

struct Flawed {
    inner: MemoryCluster,
    flaw: Flaw,
    identity: Mutex<Option<ClusterIdentity>>,
    /// What its fence was asked for, and not told to be lifted.
    fenced: Mutex<BTreeSet<TopicName>>,
    _world: MemoryWorld,
}

fn silent(error: &ProviderError) -> bool {
    error.kind == ErrorKind::Unavailable
}

impl Flawed {
    async fn new(flaw: Flaw) -> Self {
        let world = MemoryWorld::new();
        world.provisioner.provision(Colour::Blue, &provision::request()).await.unwrap();
        let inner = world.cluster(Colour::Blue).unwrap();
        if flaw == Flaw::ShutsReadersOut {
            inner.configure(|options| options.fence_style = FenceStyle::ReadersShutOut);
        }
        inner.configure(|options| options.unknown_configs = ["new.fangled".into()].into());
        Self { inner, flaw, identity: Mutex::default(), fenced: Mutex::default(), _world: world }
    }

    fn has_fenced(&self, topic: &str) -> bool {
        self.fenced.lock().contains(&topic.into())
    }

    /// A probe that is stored.
    fn write(&self, topics: &[TopicName]) {
        for topic in topics {
            let place = TopicPartition { topic: topic.clone(), partition: 0 };
            let _ = self.inner.produce(&place, StoredRecord::default());
        }
    }

    /// Whatever stands, as a proof.
    async fn unproven(&self, topics: &[TopicName]) -> ProviderResult<FenceProof> {
        let ends = self.inner.ends(topics).await?;
        Ok(FenceProof { kind: FenceKind::Hook, topics: BTreeMap::new(), ends })
    }
}

#[async_trait]
impl ClusterAdmin for Flawed {
    async fn identity(&self) -> ProviderResult<ClusterIdentity> {
        let found = self.inner.identity().await?;
        let first = self.identity.lock().get_or_insert_with(|| found.clone()).clone();
        Ok(match self.flaw {
            Flaw::NoId => ClusterIdentity { cluster_id: "".into(), ..found },
            Flaw::RemembersIdentity => first,
            _ => found,
        })
    }
    async fn topics(&self) -> ProviderResult<Vec<TopicDescription>> {
        self.inner.topics().await
    }
    async fn create_topic(&self, topic: &NewTopic) -> ProviderResult<()> {
        let exists = self.inner.topics().await?.iter().any(|found| found.name == topic.name);
        let without_configs = NewTopic { configs: BTreeMap::new(), ..topic.clone() };
        match self.flaw {
            Flaw::NeverGrows if exists => return Ok(()),
            Flaw::MakesAnew if exists => self.inner.recreate_topic(topic.name.as_str()),
            _ => {}
        }
        match self.inner.create_topic(topic).await {
            Err(_) if self.flaw == Flaw::DropsUnknownConfigs => {
                self.inner.create_topic(&without_configs).await
            }
            Err(error) if self.flaw == Flaw::NamesNoConfig => {
                Err(ProviderError::new(error.kind, "create the topic", "a config is not known"))
            }
            made => made,
        }
    }
    async fn delete_topics(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.inner.delete_topics(topics).await
    }
    async fn access(&self) -> ProviderResult<Access> {
        let mut found = self.inner.access().await?;
        match self.flaw {
            Flaw::ShowsItsFence if !self.fenced.lock().is_empty() => {
                found.acls.get_or_insert_default().insert(admin::rule("User:*", "deny"));
            }
            Flaw::HidesAcls => found.acls = None,
            _ => {}
        }
        Ok(found)
    }
    async fn grant(&self, access: &NewAccess) -> ProviderResult<ScramUsers> {
        match self.flaw {
            Flaw::ReplacesAccess => self.inner.forget_access(),
            Flaw::GrantsNothing => return Ok(access.scram_users.clone()),
            _ => {}
        }
        self.inner.grant(access).await
    }
    async fn groups(&self) -> ProviderResult<GroupListing> {
        self.inner.groups().await
    }
    async fn ends(&self, topics: &[TopicName]) -> ProviderResult<Vec<PartitionEnd>> {
        match self.inner.ends(topics).await {
            Err(_) if self.flaw == Flaw::LeavesOutTheMissing => Ok(Vec::new()),
            ends => ends,
        }
    }
    async fn set_start_offsets(
        &self,
        group: &GroupId,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> ProviderResult<Vec<TopicPartition>> {
        let overwrite =
            || offsets.iter().for_each(|(place, offset)| self.inner.commit(group, place, *offset));
        if self.flaw == Flaw::FencesCommits && self.has_fenced("__consumer_offsets") {
            return Err(ProviderError::new(ErrorKind::Refused, "commit", "the record is too large"));
        }
        if self.flaw == Flaw::OverwritesCommits {
            overwrite();
            return Ok(Vec::new());
        }
        let kept = self.inner.set_start_offsets(group, offsets).await?;
        if self.flaw == Flaw::MovesCommits {
            overwrite();
        }
        Ok(kept)
    }
    async fn raise_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceKind> {
        self.fenced.lock().extend(topics.iter().cloned());
        self.inner.raise_fence(topics).await
    }
    async fn prove_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceProof> {
        if self.flaw == Flaw::ProvesByWriting {
            self.write(topics);
        }
        match self.inner.prove_fence(topics).await {
            Err(_) if self.flaw == Flaw::ForgetsMarkers => self.unproven(topics).await,
            Err(error) if self.flaw == Flaw::SilenceProves && silent(&error) => {
                Ok(FenceProof { kind: FenceKind::Hook, topics: BTreeMap::new(), ends: Vec::new() })
            }
            // The error is about another leader than the first.
            Err(error) if self.flaw == Flaw::AsksOneLeader && error.to_string().contains("partition 1") => {
                self.unproven(topics).await
            }
            proof => proof,
        }
    }
    async fn lift_fence(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let all: Vec<TopicName> = std::mem::take(&mut *self.fenced.lock()).into_iter().collect();
        match self.flaw {
            Flaw::LiftsNothing => return Ok(()),
            Flaw::LiftsEverything => return self.inner.lift_fence(&all).await,
            Flaw::TakesTheirRules => self.inner.forget_access(),
            _ => {}
        }
        self.inner.lift_fence(topics).await
    }
    async fn prove_open(&self, topics: &[TopicName]) -> ProviderResult<()> {
        if self.flaw == Flaw::OpensByWriting {
            self.write(topics);
        }
        match self.inner.prove_open(topics).await {
            Err(_) if self.flaw == Flaw::AlwaysOpen => Ok(()),
            Err(error) if self.flaw == Flaw::SilenceIsOpen && silent(&error) => Ok(()),
            // The controller gets through.
            Err(_) if self.flaw == Flaw::AsksAsController && self.inner.is_isolated() => Ok(()),
            // What can be proven of no leader is that all refuse.
            Err(_)
                if self.flaw == Flaw::OneOpenLeaderWillDo
                    && self.inner.prove_fence(topics).await.is_err() =>
            {
                Ok(())
            }
            proof => proof,
        }
    }
    async fn alter_configs(&self, configs: &TopicConfigs) -> ProviderResult<()> {
        let mut configs = configs.clone();
        match self.flaw {
            Flaw::AltersNothing => return Ok(()),
            Flaw::TakesNothingAway => {
                configs.values_mut().for_each(|set| set.retain(|_, value| value.is_some()));
            }
            _ => {}
        }
        self.inner.alter_configs(&configs).await
    }
    async fn fence_traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
        let mut found = self.inner.fence_traces().await?;
        match self.flaw {
            Flaw::HidesItsFence => found.clear(),
            Flaw::NamesWhatLooksLikeIt => {
                let rules = self.inner.access().await?.acls.unwrap_or_default();
                let denies = rules.into_iter().filter(|rule| rule.permission == "deny");
                found.extend(denies.map(|rule| TopicName::new(rule.name)));
            }
            _ => {}
        }
        Ok(found)
    }
}

impl LagSource for Flawed {
    fn lag(&self, query: LagQuery) -> Pin<Box<dyn Stream<Item = ProviderResult<LagBatch>> + Send + '_>> {
        self.inner.lag(query)
    }
}

#[async_trait]
impl Registry for Flawed {
    async fn prepare(&self) -> ProviderResult<()> {
        self.inner.prepare().await
    }
    async fn say(&self, message: &ControlMessage) -> ProviderResult<()> {
        if self.flaw == Flaw::FencesControl && self.has_fenced(CONTROL_TOPIC) {
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

async fn judge(flaw: Flaw) {
    let flawed = Flawed::new(flaw).await;
    let cluster = &flawed.inner;
    admin::check_all(&flawed, &flawed, &flawed, "t").await;
    admin::an_unknown_config_is_named(&flawed, &"odd".into(), "new.fangled").await;
    let change = async || cluster.configure(|options| options.version = Some("another".into()));
    admin::a_changed_cluster_is_noticed(&flawed, change).await;
    let reads = async |topic: &TopicName| {
        let reader = cluster.reader(&"group".into(), Isolation::ReadCommitted);
        let place = TopicPartition { topic: topic.clone(), partition: 0 };
        reader.fetch(&place, Offset(0), 1, 0).await.is_ok()
    };
    admin::readers_keep_reading_under_the_fence(&flawed, &"read".into(), reads).await;
    let (first, second) = (TopicPartition::new("leaders", 0), TopicPartition::new("leaders", 1));
    // All leaders but the second refuse, then all but the first.
    for place in [&second, &first] {
        admin::every_leader_is_asked(&flawed, place, async || cluster.leak(place.clone())).await;
        cluster.stop_leaking();
    }
    let silence = (async || cluster.silence(second.clone()), async || cluster.speak());
    admin::a_silent_leader_proves_nothing(&flawed, &second, silence).await;
    let place = TopicPartition::new("ledger", 0);
    let begin = async || {
        let transaction = cluster.begin();
        let since = transaction.produce(&place, StoredRecord::default()).unwrap();
        (transaction, since)
    };
    let end = async |transaction: MemoryTransaction| transaction.commit();
    admin::a_fence_is_not_proven_over_an_open_transaction(&flawed, &place, begin, end).await;
    let told = cluster.access().await.unwrap();
    admin::access_is_told_whole(&flawed, &told).await;
    let shut = async || cluster.isolate(&"n".into());
    admin::an_ordinary_client_proves_it_open(&flawed, &"shut".into(), shut).await;
}

#[tokio::test]
async fn admins_that_break_a_clause_are_rejected() {
    judge(Flaw::None).await;
    for (flaw, by) in [
        (Flaw::NoId, "ClusterAdmin, clause 1"),
        (Flaw::RemembersIdentity, "ClusterAdmin, clause 1"),
        (Flaw::NeverGrows, "ClusterAdmin, clause 2"),
        (Flaw::MakesAnew, "ClusterAdmin, clause 2"),
        (Flaw::DropsUnknownConfigs, "ClusterAdmin, clause 2: a config that the cluster does not know"),
        (Flaw::NamesNoConfig, "ClusterAdmin, clause 2: a config that the cluster does not know"),
        (Flaw::LeavesOutTheMissing, "ClusterAdmin, clause 0"),
        (Flaw::OverwritesCommits, "ClusterAdmin, clause 3"),
        (Flaw::MovesCommits, "ClusterAdmin, clause 3"),
        (Flaw::LiftsNothing, "ClusterAdmin, clause 4"),
        (
            Flaw::LiftsEverything,
            "ClusterAdmin, clause 4: `lift_fence` takes away all that `raise_fence` added",
        ),
        (
            Flaw::TakesTheirRules,
            "ClusterAdmin, clause 4: `lift_fence` takes away all that `raise_fence` added",
        ),
        (Flaw::ShutsReadersOut, "ClusterAdmin, clause 4: readers keep reading"),
        (Flaw::ProvesByWriting, "ClusterAdmin, clause 5"),
        (Flaw::AsksOneLeader, "ClusterAdmin, clause 5: `prove_fence` is `Ok` only if every leader refused"),
        (Flaw::SilenceProves, "ClusterAdmin, clause 5: `prove_fence`: a leader that is silent"),
        (Flaw::ForgetsMarkers, "ClusterAdmin, clause 5"),
        (Flaw::AlwaysOpen, "ClusterAdmin, clause 6"),
        (Flaw::OpensByWriting, "ClusterAdmin, clause 6"),
        (Flaw::OneOpenLeaderWillDo, "ClusterAdmin, clause 6"),
        (Flaw::SilenceIsOpen, "ClusterAdmin, clause 6"),
        (Flaw::AsksAsController, "ClusterAdmin, clause 6: `prove_open` is done as an ordinary client"),
        (Flaw::FencesControl, "ClusterAdmin, clause 7"),
        (Flaw::FencesCommits, "ClusterAdmin, clause 7"),
        (Flaw::HidesAcls, "ClusterAdmin, clause 8"),
        (Flaw::ShowsItsFence, "ClusterAdmin, clause 8"),
        (Flaw::ReplacesAccess, "ClusterAdmin, clause 9"),
        (Flaw::GrantsNothing, "ClusterAdmin, clause 9"),
        (Flaw::TakesNothingAway, "ClusterAdmin, clause 10"),
        (Flaw::AltersNothing, "ClusterAdmin, clause 10"),
        (Flaw::HidesItsFence, "ClusterAdmin, clause 11"),
        (Flaw::NamesWhatLooksLikeIt, "ClusterAdmin, clause 11"),
    ] {
        rejected(by, judge(flaw)).await;
    }
}

/// One that forgets markers alone: it says `Ok` of a standing fence over an open transaction.
#[tokio::test]
async fn an_admin_that_forgets_of_markers_is_rejected() {
    let flawed = Flawed::new(Flaw::ForgetsMarkers).await;
    let place = TopicPartition::new("ledger", 0);
    let begin = async || {
        let transaction = flawed.inner.begin();
        let since = transaction.produce(&place, StoredRecord::default()).unwrap();
        (transaction, since)
    };
    let end = async |transaction: MemoryTransaction| transaction.commit();
    let suite = admin::a_fence_is_not_proven_over_an_open_transaction(&flawed, &place, begin, end);
    rejected("ClusterAdmin, clause 5: `prove_fence` is `Ok` only if no transaction is open", suite).await;
}

/// L17: it raises whatever fence it has, and asks no reader.
#[tokio::test]
async fn an_admin_that_asks_no_reader_is_rejected() {
    let flawed = Flawed::new(Flaw::None).await;
    let topic = "orders".into();
    let suite = admin::a_fence_that_shuts_readers_out_is_taken_away(&flawed, &topic);
    rejected("ClusterAdmin, clause 4: a fence that shuts out", suite).await;
}
