//! Provisioners that break a clause.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use common::rejected;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::*;
use kutover_core::words::*;
use kutover_memory::{MemoryWorld, StoredRecord};
use kutover_testkit::conformance::provision;

#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    MakesASecond,
    HandsOut,
    ServesLater,
    MakesOneUp,
    CallsItNothing,
    IsolatesInWords,
    ShutsEverybodyOut,
    AnyNonce,
    AnyOfItsNonces,
    WipesTheData,
    DestroysAnyCluster,
    DestroysAnotherInWords,
    DestroysInWords,
    DestroysBoth,
    MissesWhatIsGone,
    NeverReady,
    AlwaysReady,
    DestroysWhenAsked,
    NotReadyWhenShut,
    PutsBackWhenAsked,
}

struct Provisioner {
    world: MemoryWorld,
    flaw: Flaw,
    made: AtomicUsize,
}

impl Provisioner {
    fn new(flaw: Flaw) -> Self {
        Self { world: MemoryWorld::new(), flaw, made: AtomicUsize::new(0) }
    }

    fn inner(&self) -> &dyn ClusterProvisioner {
        &self.world.provisioner
    }

    fn told(&self, mut found: Incarnation) -> Incarnation {
        match self.flaw {
            Flaw::ServesLater => found.bootstrap = vec!["later:9092".into()],
            Flaw::ShutsEverybodyOut => found.controller_bootstrap = found.bootstrap.clone(),
            _ => {}
        }
        found
    }

    /// The incarnation behind blue.
    async fn blue(&self) -> Option<Incarnation> {
        self.inner().describe(Colour::Blue).await.ok().flatten()
    }

    /// Whether a client gets through to these servers: an isolation leaves the controller's alone.
    async fn reaches(&self, servers: &[String]) -> bool {
        let controllers = servers.iter().all(|server| server.ends_with(":9093"));
        let cluster = self.world.provisioner.cluster_at(servers);
        cluster.is_some_and(|cluster| controllers || !cluster.is_isolated())
    }
}

#[async_trait]
impl ClusterProvisioner for Provisioner {
    async fn provision(&self, colour: Colour, request: &Nonce) -> ProviderResult<Incarnation> {
        // The suite's own request made what stands there.
        let ours = provision::request();
        let request = if self.flaw == Flaw::HandsOut { &ours } else { request };
        let mut found = self.told(self.inner().provision(colour, request).await?);
        if self.flaw == Flaw::MakesASecond {
            found.id = IncarnationId::new(format!("i{}", self.made.fetch_add(1, Ordering::SeqCst)));
        }
        Ok(found)
    }
    async fn describe(&self, colour: Colour) -> ProviderResult<Option<Incarnation>> {
        match self.inner().describe(colour).await {
            Ok(None) if self.flaw == Flaw::MakesOneUp => Ok(self.blue().await),
            Err(error) if self.flaw == Flaw::CallsItNothing && error.kind == ErrorKind::Unavailable => {
                Ok(None)
            }
            found => Ok(found?.map(|found| self.told(found))),
        }
    }
    async fn isolate(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        match self.flaw {
            Flaw::IsolatesInWords => return Ok(()),
            Flaw::WipesTheData => self.world.cluster(Colour::Blue).unwrap().recreate_topic("t"),
            _ => {}
        }
        self.inner().isolate(incarnation, nonce).await
    }
    async fn put_back(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        // The suite isolates under these.
        let its = [Nonce::new("one"), Nonce::new("two")];
        match self.flaw {
            Flaw::AnyNonce => self.inner().put_back(incarnation, &its[0]).await,
            Flaw::AnyOfItsNonces if its.contains(nonce) => {
                self.inner().put_back(incarnation, &its[0]).await?;
                self.inner().put_back(incarnation, &its[1]).await
            }
            _ => self.inner().put_back(incarnation, nonce).await,
        }
    }
    async fn destroy(&self, mark: &RemovalMark) -> ProviderResult<()> {
        let Some(blue) = self.blue().await.filter(|blue| blue.id == mark.incarnation) else {
            return match self.flaw {
                Flaw::MissesWhatIsGone => {
                    Err(ProviderError::new(ErrorKind::NotFound, "destroy", "it is not there"))
                }
                _ => Ok(()),
            };
        };
        let cluster_id = self.world.cluster(Colour::Blue).unwrap().cluster_id();
        match self.flaw {
            Flaw::DestroysInWords if cluster_id == mark.cluster_id => return Ok(()),
            Flaw::DestroysAnotherInWords if cluster_id != mark.cluster_id => return Ok(()),
            Flaw::DestroysAnyCluster => {
                let mark = RemovalMark { incarnation: blue.id, cluster_id };
                return self.inner().destroy(&mark).await;
            }
            Flaw::DestroysBoth if cluster_id == mark.cluster_id => {
                let green = self.inner().describe(Colour::Green).await?.unwrap();
                let cluster_id = self.world.cluster(Colour::Green).unwrap().cluster_id();
                self.inner().destroy(&RemovalMark { incarnation: green.id, cluster_id }).await?;
            }
            _ => {}
        }
        self.inner().destroy(mark).await
    }
    async fn is_ready(&self, incarnation: &IncarnationId) -> ProviderResult<()> {
        let not_ready =
            || Err(ProviderError::new(ErrorKind::Unavailable, "is it ready", "no healthy target"));
        let cluster = self.world.cluster(Colour::Blue).unwrap();
        match self.flaw {
            Flaw::NeverReady => return not_ready(),
            Flaw::AlwaysReady => return Ok(()),
            Flaw::DestroysWhenAsked => {
                let mark = RemovalMark { incarnation: incarnation.clone(), cluster_id: cluster.cluster_id() };
                return self.inner().destroy(&mark).await;
            }
            Flaw::NotReadyWhenShut if cluster.is_isolated() => return not_ready(),
            Flaw::PutsBackWhenAsked => cluster.put_back(&"one".into()),
            _ => {}
        }
        self.inner().is_ready(incarnation).await
    }
}

async fn judge(flaw: Flaw) {
    let (blue, green) = (Colour::Blue, Colour::Green);
    let flawed = Provisioner::new(flaw);
    flawed.inner().provision(blue, &provision::request()).await.unwrap();
    let cluster = flawed.world.cluster(blue).unwrap();
    provision::nothing_there_is_none(&flawed, green).await;
    let begin = async || {
        flawed.world.provisioner.set_making(green, true);
        flawed.provision(green, &provision::request()).await.unwrap_err();
    };
    provision::what_is_being_made_is_not_nothing(&flawed, green, begin).await;
    flawed.world.provisioner.set_making(green, false);
    provision::check_all(&flawed, blue).await;
    let reaches = async |servers: &[String]| flawed.reaches(servers).await;
    provision::an_isolation_is_undone_by_its_own_nonce(&flawed, blue, &reaches).await;
    provision::an_isolated_one_is_ready(&flawed, blue, reaches).await;
    let fail = async || flawed.world.provisioner.set_ready(blue, false);
    let recover = async || flawed.world.provisioner.set_ready(blue, true);
    provision::what_does_not_serve_is_not_ready(&flawed, blue, fail, recover).await;
    let place = TopicPartition::new("t", 0);
    cluster.add_topic("t", 1);
    cluster.produce(&place, StoredRecord::default()).unwrap();
    let data = async |_: &[String]| cluster.log(&place, Offset(0));
    provision::an_isolation_leaves_the_data(&flawed, blue, data).await;
    provision::the_marked_is_destroyed_for_good(&flawed, blue, &cluster.cluster_id()).await;
}

#[tokio::test]
async fn provisioners_that_break_a_clause_are_rejected() {
    judge(Flaw::None).await;
    for (flaw, by) in [
        (Flaw::MakesASecond, "ClusterProvisioner, clause 1"),
        (Flaw::HandsOut, "ClusterProvisioner, clause 1"),
        (Flaw::ServesLater, "ClusterProvisioner, clause 1"),
        (Flaw::MakesOneUp, "ClusterProvisioner, clause 2"),
        (Flaw::CallsItNothing, "ClusterProvisioner, clause 2"),
        (Flaw::IsolatesInWords, "ClusterProvisioner, clause 3"),
        (Flaw::ShutsEverybodyOut, "ClusterProvisioner, clause 3"),
        (Flaw::AnyNonce, "ClusterProvisioner, clause 3"),
        (Flaw::AnyOfItsNonces, "ClusterProvisioner, clause 3"),
        (Flaw::WipesTheData, "ClusterProvisioner, clause 3"),
        (Flaw::DestroysAnyCluster, "ClusterProvisioner, clause 4"),
        (Flaw::DestroysAnotherInWords, "ClusterProvisioner, clause 4"),
        (Flaw::DestroysInWords, "ClusterProvisioner, clause 4"),
        (Flaw::DestroysBoth, "ClusterProvisioner, clause 4"),
        (Flaw::MissesWhatIsGone, "ClusterProvisioner, clause 4"),
        (Flaw::NeverReady, "ClusterProvisioner, clause 5"),
        (Flaw::AlwaysReady, "ClusterProvisioner, clause 5"),
        (Flaw::DestroysWhenAsked, "ClusterProvisioner, clause 5"),
        (Flaw::NotReadyWhenShut, "ClusterProvisioner, clause 5"),
        (Flaw::PutsBackWhenAsked, "ClusterProvisioner, clause 5"),
    ] {
        rejected(by, judge(flaw)).await;
    }
}

/// One that cannot isolate and says `Ok`; one that destroys what is only to be released.
#[tokio::test]
async fn provisioners_for_clusters_of_others_that_break_a_clause_are_rejected() {
    let honest = Provisioner::new(Flaw::None);
    honest.world.provisioner.set_isolates(false);
    provision::what_cannot_isolate_says_so(&honest, Colour::Blue).await;
    let silent = Provisioner::new(Flaw::IsolatesInWords);
    let suite = provision::what_cannot_isolate_says_so(&silent, Colour::Blue);
    rejected("ClusterProvisioner, clause 3", suite).await;
    honest.inner().provision(Colour::Blue, &provision::request()).await.unwrap();
    let id = honest.world.cluster(Colour::Blue).unwrap().cluster_id();
    let releasing = Provisioner { flaw: Flaw::DestroysInWords, ..honest };
    provision::the_marked_is_released_and_stays(&releasing, Colour::Blue, &id).await;
    let destroying = Provisioner { flaw: Flaw::None, ..releasing };
    let suite = provision::the_marked_is_released_and_stays(&destroying, Colour::Blue, &id);
    rejected("ClusterProvisioner, clause 4", suite).await;
}
