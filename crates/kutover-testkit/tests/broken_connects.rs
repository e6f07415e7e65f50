//! Connect workers that break a clause.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use common::rejected;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{
    ClusterProvisioner as _, ConnectAdmin, ConnectorConfig, ConnectorDescription, ConnectorState,
    SourceOffsets,
};
use kutover_core::words::{ClusterId, Colour, ConnectorName};
use kutover_memory::{MemoryConnect, MemoryFiles, MemoryWorld};
use kutover_testkit::conformance::{connect, provision};
use serde_json::{Value, json};

#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    AnotherCluster,
    PausedLeftOut,
    MadeRunning,
    TakesOverARunningOne,
    StopsInWords,
    RunsInWords,
    GoesOnAfterItsStop,
    KeepsOtherOffsets,
    AltersWhilePaused,
    DeletesInWords,
    MissingIsDone,
    ShowsItsConfig,
}

struct Flawed {
    inner: MemoryConnect,
    flaw: Flaw,
    world: MemoryWorld,
    looks: AtomicUsize,
}

impl Flawed {
    async fn new(flaw: Flaw) -> Self {
        let world = MemoryWorld::new();
        world.provisioner.provision(Colour::Blue, &provision::request()).await.unwrap();
        world.cluster(Colour::Blue).unwrap().add_topic("t", 1);
        let files = MemoryFiles::default();
        files.lock().insert("in".into(), vec!["line".into()]);
        let inner = MemoryConnect::new(Colour::Blue, &world.provisioner, &files);
        Self { inner, flaw, world, looks: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl ConnectAdmin for Flawed {
    async fn kafka_cluster_id(&self) -> ProviderResult<ClusterId> {
        match self.flaw {
            Flaw::AnotherCluster => Ok("another".into()),
            _ => self.inner.kafka_cluster_id().await,
        }
    }

    async fn connectors(&self) -> ProviderResult<BTreeMap<ConnectorName, ConnectorDescription>> {
        let mut all = self.inner.connectors().await?;
        if self.flaw == Flaw::PausedLeftOut {
            all.retain(|_, one| one.state != ConnectorState::Paused);
        }
        Ok(all)
    }

    async fn config(&self, name: &ConnectorName) -> ProviderResult<ConnectorConfig> {
        self.inner.config(name).await
    }

    async fn create_stopped(&self, name: &ConnectorName, config: &ConnectorConfig) -> ProviderResult<()> {
        if self.flaw == Flaw::TakesOverARunningOne {
            let state = self.inner.state(name).unwrap_or(ConnectorState::Stopped);
            let _ = self.inner.set_state(name, ConnectorState::Stopped).await;
            self.inner.create_stopped(name, config).await?;
            return self.inner.set_state(name, state).await;
        }
        match self.inner.create_stopped(name, config).await {
            Err(_) if self.flaw == Flaw::ShowsItsConfig => {
                let text = format!("{:?}", config.expose());
                Err(ProviderError::new(ErrorKind::Refused, "create", text))
            }
            Ok(()) if self.flaw == Flaw::MadeRunning => {
                self.inner.set_state(name, ConnectorState::Running).await
            }
            result => result,
        }
    }

    async fn set_state(&self, name: &ConnectorName, state: ConnectorState) -> ProviderResult<()> {
        match (self.flaw, state) {
            (Flaw::MissingIsDone, _) if self.inner.state(name).is_none() => Ok(()),
            (Flaw::StopsInWords, ConnectorState::Stopped) => Ok(()),
            (Flaw::RunsInWords, ConnectorState::Running) => {
                self.inner.set_state(name, state).await.or_else(|error| match error.kind {
                    ErrorKind::Refused => Ok(()),
                    _ => Err(error),
                })
            }
            _ => self.inner.set_state(name, state).await,
        }
    }

    async fn offsets(&self, name: &ConnectorName) -> ProviderResult<SourceOffsets> {
        let mut found = self.inner.offsets(name).await?;
        if self.flaw == Flaw::GoesOnAfterItsStop {
            let position = self.looks.fetch_add(1, Ordering::SeqCst);
            found.insert(json!({ "file": "in" }), json!({ "position": position }));
        }
        Ok(found)
    }

    async fn alter_offsets(&self, name: &ConnectorName, offsets: &SourceOffsets) -> ProviderResult<()> {
        let mut wanted = offsets.clone();
        let state = self.inner.state(name);
        if self.flaw == Flaw::KeepsOtherOffsets {
            for (partition, offset) in self.inner.offsets(name).await?.iter() {
                if !offsets.contains(partition) {
                    wanted.insert(partition.clone(), offset.clone());
                }
            }
        }
        if let (Flaw::AltersWhilePaused, Some(state)) = (self.flaw, state) {
            self.inner.set_state(name, ConnectorState::Stopped).await?;
            self.inner.alter_offsets(name, &wanted).await?;
            return self.inner.set_state(name, state).await;
        }
        self.inner.alter_offsets(name, &wanted).await
    }

    async fn delete(&self, name: &ConnectorName) -> ProviderResult<()> {
        match self.flaw {
            Flaw::DeletesInWords => Ok(()),
            _ => self.inner.delete(name).await,
        }
    }
}

fn config(file: &str) -> ConnectorConfig {
    let properties = [("connector.class", "source"), ("file", file), ("topic", "t")];
    ConnectorConfig::new(properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

fn at(file: &str) -> (Value, Value) {
    (json!({ "file": file }), json!({ "position": 1 }))
}

#[tokio::test]
async fn workers_of_another_cluster() {
    let workers = Flawed::new(Flaw::AnotherCluster).await;
    let cluster = workers.world.cluster(Colour::Blue).unwrap().cluster_id();
    rejected("ConnectAdmin, clause 1", connect::workers_say_whose_they_are(&workers, &cluster)).await;
}

#[tokio::test]
async fn a_paused_connector_that_is_left_out() {
    let workers = Flawed::new(Flaw::PausedLeftOut).await;
    let (name, source) = ("c".into(), config("in"));
    let checked = connect::every_connector_is_named(&workers, &name, &source);
    rejected("ConnectAdmin, clause 2", checked).await;
}

#[tokio::test]
async fn a_connector_that_is_made_running_or_taken_over() {
    for flaw in [Flaw::MadeRunning, Flaw::TakesOverARunningOne] {
        let workers = Flawed::new(flaw).await;
        let name = "c".into();
        let (first, other) = (config("in"), config("other"));
        let checked = connect::a_connector_is_made_stopped(&workers, &name, &first, &other);
        rejected("ConnectAdmin, clause 3", checked).await;
    }
}

#[tokio::test]
async fn a_source_that_is_stopped_in_words() {
    for flaw in [Flaw::StopsInWords, Flaw::GoesOnAfterItsStop] {
        let workers = Flawed::new(flaw).await;
        let (name, source) = ("c".into(), config("in"));
        let worked = async || workers.inner.work(10);
        let checked = connect::a_stopped_source_has_said_how_far_it_came(&workers, &name, &source, worked);
        rejected("ConnectAdmin, clause 4", checked).await;
    }
}

#[tokio::test]
async fn a_connector_that_failed_and_runs_in_words() {
    let workers = Flawed::new(Flaw::RunsInWords).await;
    let (name, source) = ("c".into(), config("in"));
    let fail = async || workers.inner.fail(&name);
    let checked = connect::a_connector_that_failed_does_not_run(&workers, &name, &source, fail);
    rejected("ConnectAdmin, clause 4", checked).await;
}

#[tokio::test]
async fn offsets_that_are_not_those_that_were_given() {
    for flaw in [Flaw::KeepsOtherOffsets, Flaw::AltersWhilePaused] {
        let workers = Flawed::new(flaw).await;
        let (name, source, a, b) = ("c".into(), config("in"), at("a"), at("b"));
        let checked = connect::offsets_are_as_they_were_altered(&workers, &name, &source, &a, &b);
        rejected("ConnectAdmin, clause 5", checked).await;
    }
}

#[tokio::test]
async fn a_connector_that_is_gone_in_words() {
    for flaw in [Flaw::DeletesInWords, Flaw::MissingIsDone] {
        let workers = Flawed::new(flaw).await;
        let (name, source) = ("c".into(), config("in"));
        let checked = connect::a_deleted_connector_is_gone(&workers, &name, &source);
        rejected("ConnectAdmin, clause 6", checked).await;
    }
}

#[tokio::test]
async fn an_error_that_shows_a_password() {
    let workers = Flawed::new(Flaw::ShowsItsConfig).await;
    let (name, source) = ("c".into(), config("in"));
    let checked = connect::no_error_shows_a_value(&workers, &name, &source, "hunter2", None);
    rejected("ConnectAdmin, clause 7", checked).await;
}
