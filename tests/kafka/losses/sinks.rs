//! Connectors: a source and a sink that go along with a cutover.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

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
    into: PathBuf,
    out: PathBuf,
}

impl Connected {
    pub(super) async fn start(stage: &Stage) -> Self {
        make_topics(&stage.kafka, &[(TOPIC, 1, &[])]).await;
        let workers = Workers::start(&stage.world, BLUE, GREEN).await;
        let (into, out) = (stage.world.directory().join("in"), stage.world.directory().join("out"));
        std::fs::write(&into, "a\nb\nc\n").expect("written");
        running(&workers.blue, "files-in", &source(&into, TOPIC)).await;
        running(&workers.blue, SINK, &sink(&out, TOPIC)).await;
        let connected = Self { workers, into, out };
        connected.has_written("a\nb\nc\n").await;
        connected
    }

    async fn has_written(&self, all: &str) {
        let written = async || (std::fs::read_to_string(&self.out).unwrap_or_default() == all).then_some(());
        until("the sink's lines", BOUND, written).await;
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

    /// After the way back both run on blue as before, and nothing of them is left on green: what comes then is written once,
    /// behind what was.
    pub(super) async fn are_home(&self) {
        let there = self.workers.blue.connectors().await.expect("blue's connectors");
        let run = |name: &str| there[&name.into()].state == ConnectorState::Running;
        assert!(run("files-in") && run(SINK), "{there:?}");
        let left = self.workers.green.connectors().await.expect("green's connectors");
        assert!(left.is_empty(), "{left:?}");
        let mut file = OpenOptions::new().append(true).open(&self.into).expect("its file");
        file.write_all(b"d\n").expect("written");
        self.has_written("a\nb\nc\nd\n").await;
    }
}
