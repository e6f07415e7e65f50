//! Connectors: a source and a sink that go along with a cutover.

use kutover_core::controls::Control;
use kutover_core::ports::{ConnectAdmin as _, ConnectorState};
use kutover_testkit::until;
use kutover_tests_kafka::clients::{BOUND, make_topics};
use kutover_tests_kafka::connectors::{Workers, running, sink, source};

use super::{BLUE, GREEN, Stage, stopped};

const TOPIC: &str = "lines";
const SINK: &str = "files-out";

/// Workers of both clusters; on blue a source that has read its file, and a sink that has written it.
pub(super) struct Connected {
    workers: Workers,
}

impl Connected {
    pub(super) async fn start(stage: &Stage) -> Self {
        make_topics(&stage.kafka, &[(TOPIC, 1, &[])]).await;
        let workers = Workers::start(&stage.world, BLUE, GREEN).await;
        let (into, out) = (stage.world.directory().join("in"), stage.world.directory().join("out"));
        std::fs::write(&into, "a\nb\nc\n").expect("written");
        running(&workers.blue, "files-in", &source(&into, TOPIC)).await;
        running(&workers.blue, SINK, &sink(&out, TOPIC)).await;
        let written =
            async || (std::fs::read_to_string(&out).unwrap_or_default() == "a\nb\nc\n").then_some(());
        until("the sink's lines", BOUND, written).await;
        Self { workers }
    }

    /// What the configuration says of it.
    pub(super) fn tables(&self) -> String {
        self.workers.tables("")
    }

    /// L19: green's sink is there, and waits, while a group has blue to read: sources, which go first, run.
    pub(super) async fn sink_waits(&self) {
        let there = self.workers.green.connectors().await.expect("green's connectors");
        let state = |name: &str| there.get(&name.into()).map(|connector| connector.state);
        assert_eq!(state("files-in"), Some(ConnectorState::Running), "{there:?}");
        let waits = state(SINK) == Some(ConnectorState::Stopped);
        stopped(waits, Control::SinksEarly, format!("green's sink is {:?}", state(SINK)));
    }
}
