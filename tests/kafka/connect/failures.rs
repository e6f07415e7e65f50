//! What a step that fails leads to, on real workers: as docs/operating.md has it under "Kafka Connect".

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use kutover_controller::driver::Operator;
use kutover_core::cutover::{ApprovalGate, Event, Stop};
use kutover_core::ports::{ConnectAdmin as _, ConnectorConfig, ConnectorState, SourceOffsets};
use kutover_core::words::{Colour, ConnectorName};
use kutover_testkit::until;
use kutover_tests_kafka::clients::{BOUND, make_topics};
use kutover_tests_kafka::connectors::{Workers, restart_failed, running, sink, source};
use kutover_tests_kafka::controller::{Deployed, Running};
use kutover_tests_kafka::world::{TwoClusters, client};
use serde_json::json;

use super::{BLUE, GREEN, PLAN, lines_of};

const SOURCE: &str = "files-in";
const SINK: &str = "files-out";
/// A source that somebody has stopped on blue.
const STOPPED: &str = "idle-in";

/// Workers of both clusters, and on blue a source that reads a file and a sink that writes one.
struct Stage {
    workers: Workers,
    deployed: Deployed,
    into: PathBuf,
    out: PathBuf,
    /// Last, so that what runs on it ends before it does.
    world: TwoClusters,
}

/// Takes a file's folder away, so that who has the file open goes on with it, and who opens it anew finds that it cannot be
/// had.
struct Away {
    folder: PathBuf,
    elsewhere: PathBuf,
}

impl Away {
    fn take(file: &Path) -> Self {
        let folder = file.parent().expect("a folder").to_owned();
        let elsewhere = folder.with_extension("elsewhere");
        std::fs::rename(&folder, &elsewhere).expect("moved away");
        // A source waits for a file that is not there yet. Below a file none can be.
        std::fs::write(&folder, "").expect("written");
        Self { folder, elsewhere }
    }

    fn bring_back(self) {
        std::fs::remove_file(&self.folder).expect("removed");
        std::fs::rename(&self.elsewhere, &self.folder).expect("moved back");
    }
}

fn holds<'a>(why: &'a [&str]) -> impl Fn(&Event) -> bool + 'a {
    |event| matches!(event, Event::Hold { reason, .. } if why.iter().all(|why| reason.contains(why)))
}

async fn awaits_the_switch(run: &mut Running) {
    let is_it = |event: &Event| matches!(event, Event::AwaitingApproval { gate: ApprovalGate::Redirect, .. });
    assert!(run.event(is_it).await.is_some(), "it waits for a person");
}

impl Stage {
    async fn start(world: TwoClusters) -> Self {
        let workers = Workers::start(&world, BLUE, GREEN).await;
        make_topics(&client(&world.blue).await, &[("lines", 1, &[])]).await;
        let [into, out] = ["inbox", "outbox"].map(|folder| {
            let folder = world.directory().join(folder);
            std::fs::create_dir(&folder).expect("a folder");
            folder.join("lines")
        });
        std::fs::write(&into, "a\nb\n").expect("written");
        running(&workers.blue, SOURCE, &source(&into, "lines")).await;
        running(&workers.blue, SINK, &sink(&out, "lines")).await;
        let idle = source(&world.directory().join("idle"), "lines");
        workers.blue.create_stopped(&STOPPED.into(), &idle).await.expect("made");
        let deployed = Deployed::new(&world).await;
        let stage = Self { workers, deployed, into, out, world };
        stage.has_written("ab").await;
        stage
    }

    async fn up(&self, plan: &str) -> Running {
        // As `up --again` does.
        self.deployed.start_again(&self.world, &self.workers.tables(""), &format!("{PLAN}{plan}")).await
    }

    /// The sink's file has these lines, once and in this order.
    async fn has_written(&self, all: &str) {
        let all: Vec<String> = all.chars().map(String::from).collect();
        until("the sink's lines", BOUND, async || (lines_of(&self.out).len() >= all.len()).then_some(()))
            .await;
        assert_eq!(lines_of(&self.out), all);
    }

    fn append(&self, lines: &str) {
        let mut file = OpenOptions::new().append(true).open(&self.into).expect("its file");
        lines.chars().for_each(|line| writeln!(file, "{line}").expect("written"));
    }

    /// Blue's connectors do what they did from where they were, and nothing is left of them on green; another line that comes
    /// is written once, behind what was.
    async fn is_home(&self, all: &str) {
        let (before, last) = all.split_at(all.len() - 1);
        let there = self.workers.blue.connectors().await.expect("blue's connectors");
        let states: BTreeMap<_, _> = there.iter().map(|(name, one)| (name.as_str(), one.state)).collect();
        for (name, state) in [
            (SOURCE, ConnectorState::Running),
            (SINK, ConnectorState::Running),
            (STOPPED, ConnectorState::Stopped),
        ] {
            assert_eq!(states.get(name), Some(&state), "{name}: {there:?}");
        }
        assert!(there.values().all(|one| !one.failed), "{there:?}");
        let left = self.workers.green.connectors().await.expect("green's connectors");
        assert!(left.is_empty(), "{left:?}");
        let mut came = SourceOffsets::default();
        // Each line is a letter.
        came.insert(json!({ "filename": self.into }), json!({ "position": 2 * before.len() }));
        let is_there = async || {
            let at = self.workers.blue.offsets(&SOURCE.into()).await.ok()?;
            (at == came).then_some(())
        };
        until("how far the source came", BOUND, is_there).await;
        self.append(last);
        self.has_written(all).await;
    }

    /// Before the publication, by itself: green's workers do not take one connector's config.
    async fn what_green_does_not_take_is_undone(&self) {
        let name: ConnectorName = "more-in".into();
        let mut more = source(&self.world.directory().join("more"), "lines").expose().clone();
        // Kafka 4.0 took it out.
        let gone = "org.apache.kafka.clients.producer.UniformStickyPartitioner";
        more.insert("producer.override.partitioner.class".into(), gone.into());
        running(&self.workers.blue, name.as_str(), &ConnectorConfig::new(more)).await;
        let mut run = self.up("hold_limit = \"8s\"\n").await;
        let end = run.end().await;
        let named = matches!(&end.stop, Stop::Aborted(why) if why.contains("create connector more-in"));
        assert!(named, "{:?}", end.stop);
        assert!(!run.has_seen(|event| matches!(event, Event::Published { .. })));
        self.is_home("abc").await;
        self.workers.blue.delete(&name).await.expect("deleted");
    }

    /// Before the publication, by the operator's word: the source stands still on blue, and cannot be handed over, since
    /// somebody has deleted it on green meanwhile.
    async fn a_hand_over_that_fails_is_undone(&self) {
        let mut run = self.up("hold_limit = \"2m\"\napprove = \"manual\"\n").await;
        awaits_the_switch(&mut run).await;
        let made = self.workers.green.connectors().await.expect("green's connectors");
        assert_eq!(made.keys().map(ConnectorName::as_str).collect::<Vec<_>>(), [SOURCE, SINK, STOPPED]);
        self.workers.green.delete(&SOURCE.into()).await.expect("deleted");
        run.say(Operator::Approve(ApprovalGate::Redirect));
        let held = run.event(holds(&["connector files-in on green", "it is gone"])).await;
        assert!(held.is_some());
        let there = self.workers.blue.connectors().await.expect("blue's connectors");
        assert_eq!(there[&SOURCE.into()].state, ConnectorState::Stopped, "{there:?}");
        run.say(Operator::Abort);
        let end = run.end().await;
        assert!(matches!(end.stop, Stop::Aborted(_)), "{:?}", end.stop);
        assert!(!run.has_seen(|event| matches!(event, Event::Published { .. })));
        self.is_home("abcd").await;
    }

    /// After it: green's source cannot open its file. It stands still on both clusters, so everybody goes back.
    async fn a_source_that_cannot_be_started_leads_back(&self) {
        let mut run = self.up("hold_limit = \"2m\"\napprove = \"manual\"\n").await;
        awaits_the_switch(&mut run).await;
        let away = Away::take(&self.into);
        run.say(Operator::Approve(ApprovalGate::Redirect));
        assert!(run.event(holds(&["connector files-in", "has failed"])).await.is_some());
        away.bring_back();
        run.say(Operator::RollBack);
        let end = run.end().await;
        assert!(matches!(end.stop, Stop::RolledBack(_)), "{:?}", end.stop);
        assert!(run.has_seen(
            |event| matches!(event, Event::Published { target } if target.colour == Colour::Green)
        ));
        self.is_home("abcde").await;
    }

    /// Later: green's sink cannot write. It says that it runs, and its task fails a moment later: it has not moved, however
    /// often it is looked at, and blue's stays. Mended and restarted, it goes on.
    async fn a_sink_that_cannot_write_holds(&self) {
        let away = Away::take(&self.out);
        let mut run = self.up("hold_limit = \"15s\"\n").await;
        let end = run.end().await;
        let named = ["connector files-out", "has failed"];
        let held = matches!(&end.stop, Stop::Held(why) if named.iter().all(|named| why.contains(named)));
        assert!(held, "{:?}", end.stop);
        let there = self.workers.blue.connectors().await.expect("blue's connectors");
        assert_eq!(there[&SINK.into()].state, ConnectorState::Stopped, "{there:?}");

        away.bring_back();
        restart_failed(&self.workers, SINK).await;
        self.append("fg");
        let mut run = self.up("").await;
        let end = run.end().await;
        assert_eq!(end.stop, Stop::Complete);
        self.has_written("abcdefg").await;
        let there = self.workers.green.connectors().await.expect("green's connectors");
        assert!(there.values().all(|one| !one.failed), "{there:?}");
        assert_eq!(there[&STOPPED.into()].state, ConnectorState::Stopped, "{there:?}");
    }
}

/// L14: four cutovers one after the other, until the last of them comes through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_leads_where_it_is_said_to() {
    let test = "a_step_that_fails_leads_where_it_is_said_to";
    let Some(world) = TwoClusters::start(test, BLUE, GREEN).await else { return };
    let stage = Stage::start(world).await;
    stage.what_green_does_not_take_is_undone().await;
    stage.a_hand_over_that_fails_is_undone().await;
    stage.a_source_that_cannot_be_started_leads_back().await;
    stage.a_sink_that_cannot_write_holds().await;
}
