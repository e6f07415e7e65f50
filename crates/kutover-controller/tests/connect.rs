//! Cutovers with Kafka Connect through the driver, in memory: a source and a sink carry lines of files, and whatever goes
//! wrong, the sink's file has each line once and in order.

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::{CONFIG, backends, group, holds, reached, world};
use kutover_controller::config::Config;
use kutover_controller::driver::{
    Backends, ClusterConnector, ClusterLinks, Controller, DriveError, Finished, Operator,
};
use kutover_core::cutover::{Event, StateName, Stop};
use kutover_core::error::ProviderResult;
use kutover_core::ports::{ConnectAdmin, ConnectorConfig, ConnectorState, Incarnation};
use kutover_core::words::{Colour, ConnectorName, TopicPartition};
use kutover_memory::{Fault, MemoryConnect, MemoryFiles, MemoryWorld};
use tokio::sync::mpsc;

const WORKERS: &str = "\
[clusters.blue.connect]
url = \"http://127.0.0.1:8083\"
topics = [\"connect-configs\"]

[clusters.green.connect]
url = \"http://127.0.0.2:8083\"

[plan]
";

/// Rounds that the source is ahead of the sink.
const BEHIND: usize = 10;

struct Workers {
    clusters: common::Connector,
    blue: MemoryConnect,
    green: MemoryConnect,
}

#[async_trait]
impl ClusterConnector for Workers {
    async fn connect(&self, incarnation: &Incarnation) -> ProviderResult<ClusterLinks> {
        self.clusters.connect(incarnation).await
    }

    async fn workers(&self, colour: Colour) -> ProviderResult<Arc<dyn ConnectAdmin>> {
        Ok(Arc::new(if colour == Colour::Blue { self.blue.clone() } else { self.green.clone() }))
    }
}

/// A world in which a source reads the file `in` into the topic `orders` and a sink writes that into the file `out`.
struct Scene {
    world: MemoryWorld,
    files: MemoryFiles,
    blue: MemoryConnect,
    green: MemoryConnect,
    lines: std::sync::Mutex<usize>,
}

fn config(properties: [(&str, &str); 3]) -> ConnectorConfig {
    ConnectorConfig::new(properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

impl Scene {
    async fn new() -> Self {
        let world = world().await;
        world.cluster(Colour::Blue).unwrap().add_topic("connect-configs", 1);
        world.cluster(Colour::Blue).unwrap().add_topic("lines", 1);
        let files = MemoryFiles::default();
        let workers = |colour| MemoryConnect::new(colour, &world.provisioner, &files);
        let (blue, green) = (workers(Colour::Blue), workers(Colour::Green));
        let source = config([("connector.class", "source"), ("file", "in"), ("topic", "lines")]);
        let sink = config([("connector.class", "sink"), ("file", "out"), ("topic", "lines")]);
        let scene = Self { world, files, blue, green, lines: std::sync::Mutex::new(0) };
        scene.start("files-in", &source).await;
        // The sink is behind for as long as the source runs, which carries as much as it does.
        for _ in 0..BEHIND {
            scene.grow_and_work();
        }
        scene.start("files-out", &sink).await;
        scene
    }

    async fn start(&self, name: &str, config: &ConnectorConfig) {
        let name = name.into();
        self.blue.create_stopped(&name, config).await.unwrap();
        self.blue.set_state(&name, ConnectorState::Running).await.unwrap();
    }

    /// The file grows, faster than blue's connectors carry it.
    fn grow_and_work(&self) {
        let mut lines = self.lines.lock().unwrap();
        for _ in 0..3 {
            *lines += 1;
            self.files.lock().entry("in".into()).or_default().push(format!("line {lines}"));
        }
        self.work();
    }

    /// Every worker works, and the group of the topic `orders` reads along.
    fn work(&self) {
        self.blue.work(2);
        self.green.work(10);
        for colour in Colour::BOTH {
            if let Some(cluster) = self.world.cluster(colour) {
                cluster.read_all(&group());
            }
        }
    }

    fn controller(&self, text: &str) -> Controller {
        let config = Config::parse(text).unwrap();
        let clusters = common::Connector(self.world.clone());
        let workers = Workers { clusters, blue: self.blue.clone(), green: self.green.clone() };
        let backends = Backends { clusters: Arc::new(workers), ..backends(&self.world) };
        Controller::new(config.cutover_plan(), config.deployment(), backends)
    }

    /// Runs a cutover; the workers work at every event.
    async fn run(&self, text: &str) -> (Result<Finished, DriveError>, Vec<Event>) {
        self.run_and(text, |_, _| ()).await
    }

    async fn run_and(
        &self,
        text: &str,
        mut at: impl FnMut(&Event, &mpsc::UnboundedSender<Operator>) + Send,
    ) -> (Result<Finished, DriveError>, Vec<Event>) {
        let (operator, words) = mpsc::unbounded_channel();
        let mut events = vec![];
        let finished = self.controller(text).run(words, |event| {
            at(&event, &operator);
            self.grow_and_work();
            events.push(event);
        });
        (finished.await, events)
    }

    /// What is on its way arrives.
    fn arrive(&self) {
        let lines = self.files.lock()["in"].len();
        for _ in 0..lines {
            self.work();
        }
    }

    /// Each line stands in the sink's file, once, in order.
    fn assert_whole(&self, about: &str) {
        self.arrive();
        let files = self.files.lock();
        assert_eq!(files["out"], files["in"], "{about}");
    }

    fn states(&self, workers: &MemoryConnect) -> [Option<ConnectorState>; 2] {
        ["files-in", "files-out"].map(|name| workers.state(&ConnectorName::new(name)))
    }

    fn assert_complete(&self, finished: Result<Finished, DriveError>, about: &str) {
        let finished = finished.unwrap_or_else(|error| panic!("{about}: {error}"));
        assert_eq!(finished.stop, Stop::Complete, "{about}");
        assert_eq!(self.states(&self.green), [Some(ConnectorState::Running); 2], "{about}");
        self.assert_whole(about);
        let blue = self.states(&self.blue);
        assert!(blue.iter().all(|state| matches!(state, None | Some(ConnectorState::Stopped))), "{about}");
    }

    /// Blue runs both, as before, and green has none.
    fn assert_back(&self, about: &str) {
        assert_eq!(self.states(&self.blue), [Some(ConnectorState::Running); 2], "{about}");
        assert_eq!(self.states(&self.green), [None; 2], "{about}");
    }
}

fn with_workers() -> String {
    CONFIG.replace("[plan]\n", WORKERS)
}

/// A source and a sink go along; the workers' own topic does not.
#[tokio::test(start_paused = true)]
async fn a_sink_writes_each_line_once_and_in_order() {
    let scene = Scene::new().await;
    let (finished, events) = scene.run(&with_workers()).await;
    assert!(holds(&events).is_empty(), "{:?}", holds(&events));
    scene.assert_complete(finished, "all goes well");
    let said: Vec<String> = events.iter().map(ToString::to_string).collect();
    assert!(
        said.contains(&"connectors that move: sources [files-in], sinks [files-out]".to_owned()),
        "{said:?}"
    );
    let green = scene.world.cluster(Colour::Green).unwrap();
    assert!(green.extent(&TopicPartition::new("connect-configs", 0)).is_none(), "it was made on green");
    assert!(scene.files.lock()["out"].len() > 20);
}

/// L14, G6: each call to the workers goes wrong in each way.
#[tokio::test(start_paused = true)]
async fn every_call_to_the_workers_may_go_wrong_in_every_way() {
    let clean = Scene::new().await;
    let before = clean.world.faults.calls().len();
    clean.run(&with_workers()).await.0.unwrap();
    let calls = clean.world.faults.calls();
    let to_workers: Vec<_> =
        calls.iter().enumerate().skip(before).filter(|(_, call)| call.contains("connect.")).collect();
    assert!(to_workers.len() > 30, "{to_workers:?}");
    for (number, call) in to_workers {
        for fault in Fault::all() {
            let about = format!("call {number} ({call}) {fault:?}");
            let scene = Scene::new().await;
            scene.world.faults.at(number, fault);
            let finished = scene.run(&with_workers()).await.0;
            scene.assert_complete(finished, &about);
        }
    }
}

/// G6: the controller is killed in the middle of each call to the workers; another one goes on.
#[tokio::test(start_paused = true)]
async fn killed_in_the_middle_of_every_call_to_the_workers() {
    let clean = Scene::new().await;
    let before = clean.world.faults.calls().len();
    clean.run(&with_workers()).await.0.unwrap();
    let calls = clean.world.faults.calls();
    let to_workers = calls.iter().enumerate().skip(before).filter(|(_, call)| call.contains("connect."));
    let text = with_workers();
    for (number, call) in to_workers {
        for fault in [Fault::Hang, Fault::HangDone] {
            let about = format!("killed in call {number} ({call}), {fault:?}");
            let scene = Scene::new().await;
            scene.world.faults.at(number, fault);
            tokio::select! {
                finished = scene.run(&text) => panic!("{about}: it went on to {:?}", finished.0),
                () = reached(&scene.world, number) => {}
            }
            let (finished, _) = scene.run(&text).await;
            scene.assert_complete(finished, &about);
        }
    }
}

/// From every state that has a way back: blue's connectors run as before, and every line is there once. In order too, if the
/// sink had been moved by then; before that it reads what comes back behind what it had not read yet.
#[tokio::test(start_paused = true)]
async fn back_from_every_state() {
    for at in [
        StateName::Converging,
        StateName::Fencing,
        StateName::Draining,
        StateName::Soaking,
        StateName::Isolating,
        StateName::Retiring,
    ] {
        let scene = Scene::new().await;
        let (finished, events) = scene
            .run_and(&with_workers(), |event, operator| {
                if matches!(event, Event::Entered { state } if *state == at) {
                    operator.send(Operator::RollBack).unwrap();
                }
            })
            .await;
        let stop = finished.unwrap().stop;
        assert!(matches!(stop, Stop::RolledBack(_)), "{at}: {stop:?} {:?}", holds(&events));
        scene.assert_back(&format!("from {at}"));
        scene.arrive();
        let files = scene.files.lock();
        let (mut out, mut all) = (files["out"].clone(), files["in"].clone());
        if at >= StateName::Soaking {
            assert_eq!(out, all, "{at}: not in order");
        }
        out.sort();
        all.sort();
        assert_eq!(out, all, "{at}");
    }
}

/// A step that keeps failing before the publication leads back: nothing is left on green, and blue's source goes on.
#[tokio::test(start_paused = true)]
async fn what_keeps_failing_before_the_publication_is_undone() {
    for call in ["green.connect.create_stopped", "blue.connect.set_state", "green.connect.alter_offsets"] {
        let scene = Scene::new().await;
        scene.world.faults.always(call, Fault::NotDone);
        let (finished, events) = scene
            .run_and(&with_workers(), |event, _| {
                if matches!(event, Event::Entered { state: StateName::Aborting }) {
                    scene.world.faults.clear();
                }
            })
            .await;
        let stop = finished.unwrap().stop;
        assert!(matches!(&stop, Stop::Aborted(why) if why.contains(call)), "{call}: {stop:?}");
        assert!(!events.iter().any(|event| matches!(event, Event::Published { .. })), "{call}");
        scene.assert_back(call);
        scene.assert_whole(call);
    }
}

/// A source that has failed on green is not passed over by the next try. Meanwhile the others go on there, and in the end
/// everybody goes back.
#[tokio::test(start_paused = true)]
async fn a_failed_source_leads_back_and_keeps_no_other_from_going_on() {
    let scene = Scene::new().await;
    let more = config([("connector.class", "source"), ("file", "more"), ("topic", "lines")]);
    scene.start("more-in", &more).await;
    let (failing, other): (ConnectorName, ConnectorName) = ("files-in".into(), "more-in".into());
    let mut meanwhile = None;
    let (finished, events) = scene
        .run_and(&with_workers(), |event, _| match event {
            Event::Published { .. } if meanwhile.is_none() => scene.green.fail(&failing),
            Event::Hold { .. } => meanwhile = Some((scene.blue.state(&other), scene.green.state(&other))),
            _ => {}
        })
        .await;
    let stop = finished.unwrap().stop;
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?} {:?}", holds(&events));
    assert_eq!(meanwhile, Some((Some(ConnectorState::Stopped), Some(ConnectorState::Running))));
    assert!(holds(&events).iter().any(|why| why.contains("connector files-in")), "{:?}", holds(&events));
    assert_eq!(scene.blue.state(&other), Some(ConnectorState::Running));
    scene.assert_back("a source has failed");
    scene.arrive();
    let files = scene.files.lock();
    let (mut out, mut all) = (files["out"].clone(), files["in"].clone());
    out.sort();
    all.sort();
    assert_eq!(out, all, "each line once");
}

/// All that failed are named, and none that did not.
#[tokio::test(start_paused = true)]
async fn every_source_that_failed_is_named() {
    let scene = Scene::new().await;
    let names: [ConnectorName; 2] = ["more-in".into(), "others-in".into()];
    for name in &names {
        let file = config([("connector.class", "source"), ("file", "more"), ("topic", "lines")]);
        scene.start(name.as_str(), &file).await;
    }
    let (finished, events) = scene
        .run_and(&with_workers(), |event, _| match event {
            Event::Published { .. } => names.iter().for_each(|name| scene.green.fail(name)),
            Event::Hold { .. } => names.iter().for_each(|name| scene.green.restart(name)),
            _ => {}
        })
        .await;
    let [why] = &holds(&events)[..] else { panic!("{:?}", holds(&events)) };
    let named = ["connector more-in", "connector others-in"].iter().all(|name| why.contains(name));
    assert!(named && !why.contains("files-in"), "{why}");
    scene.assert_complete(finished, "started again");
}

/// Neither a sink that fails when it is moved nor what fails later: until it is started again blue's stay, and no mark is set.
#[tokio::test(start_paused = true)]
async fn what_has_failed_on_green_is_not_passed_over() {
    let keeps = with_workers().replace("[plan]\n", "[plan]\nremove_old = false\n");
    for (name, fails_at, text) in [
        ("files-out", StateName::Converging, &with_workers()),
        ("files-in", StateName::Soaking, &with_workers()),
        ("files-in", StateName::Soaking, &keeps),
    ] {
        let (scene, failing, mut marked) = (Scene::new().await, ConnectorName::new(name), false);
        let (finished, _) = scene
            .run_and(text, |event, _| {
                if matches!(event, Event::Entered { state } if *state == fails_at) {
                    scene.green.fail(&failing);
                }
                let owner = scene.world.dns.published(&"kafka.orders.test".into()).owner;
                marked |= owner.is_some_and(|owner| owner.removal.is_some());
            })
            .await;
        let stop = finished.unwrap().stop;
        let named = matches!(&stop, Stop::Held(why) if why.contains(&format!("connector {name}")));
        assert!(named && !marked, "{name}, {fails_at}: {stop:?}, marked: {marked}");
        assert_eq!(scene.states(&scene.blue)[0], Some(ConnectorState::Stopped), "{name}, {fails_at}");
        scene.green.restart(&failing);
        scene.assert_complete(scene.run(text).await.0, "started again");
    }
}

/// What came to green its sink has to read there: a way back holds for that, with blue serving, until it runs again.
#[tokio::test(start_paused = true)]
async fn a_way_back_waits_for_a_sink_that_has_failed() {
    let (scene, failing) = (Scene::new().await, "files-out".into());
    let (finished, events) = scene
        .run_and(&with_workers(), |event, operator| match event {
            Event::Published { .. } => scene.green.fail(&failing),
            Event::Hold { state: StateName::Draining, reason } if reason.contains("files-out") => {
                operator.send(Operator::RollBack).unwrap();
            }
            _ => {}
        })
        .await;
    let stop = finished.unwrap().stop;
    assert!(matches!(&stop, Stop::Held(why) if why.contains("connector files-out")), "{stop:?}");
    let last = events.iter().rev().find_map(|event| match event {
        Event::Published { target, .. } => Some(target.colour),
        _ => None,
    });
    assert_eq!(last, Some(Colour::Blue), "everybody is home");
    assert_eq!(scene.blue.state(&"files-in".into()), Some(ConnectorState::Running));
    scene.green.restart(&failing);
    let (finished, events) = scene.run(&with_workers()).await;
    let stop = finished.unwrap().stop;
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?} {:?}", holds(&events));
    scene.assert_back("rolled back");
    scene.assert_whole("rolled back");
}

/// After an abort green's workers may be busy with a rebalance: what was made there goes all the same.
#[tokio::test(start_paused = true)]
async fn workers_that_are_busy_after_an_abort_are_asked_again() {
    for call in ["green.connect.kafka_cluster_id", "green.connect.delete"] {
        let scene = Scene::new().await;
        scene.world.faults.always("green.connect.alter_offsets", Fault::NotDone);
        let (finished, events) = scene
            .run_and(&with_workers(), |event, _| {
                if matches!(event, Event::Entered { state: StateName::Aborting }) {
                    scene.world.faults.clear();
                    scene.world.faults.inject(call, Fault::NotDone);
                }
            })
            .await;
        let stop = finished.unwrap().stop;
        assert!(matches!(&stop, Stop::Aborted(_)), "{call}: {stop:?}");
        assert!(holds(&events).iter().any(|why| why.contains(call)), "{call}: it went wrong");
        scene.assert_back(call);
    }
}

/// Green and its workers die after the switch: producers go back, and so does the source, from where it left blue. What it
/// wrote on green meanwhile is lost with it, and is read again.
#[tokio::test(start_paused = true)]
async fn back_from_a_dead_green() {
    let (scene, mut killed) = (Scene::new().await, false);
    let (finished, events) = scene
        .run_and(&with_workers(), |event, operator| {
            // By then green's source has written something.
            if matches!(event, Event::Moved { .. }) && !std::mem::replace(&mut killed, true) {
                scene.world.cluster(Colour::Green).unwrap().kill();
                scene.green.kill();
                operator.send(Operator::RollBack).unwrap();
            }
        })
        .await;
    let stop = finished.unwrap().stop;
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?} {:?}", holds(&events));
    assert_eq!(scene.states(&scene.blue), [Some(ConnectorState::Running); 2]);
    scene.assert_whole("the sink has not read what was lost");
    let said = |text: &str| events.iter().any(|event| event.to_string().contains(text));
    assert!(said("the connectors on green stay there"), "{events:?}");
}

/// Workers that belong to another cluster are asked nothing.
#[tokio::test(start_paused = true)]
async fn workers_of_another_cluster_are_left_alone() {
    let scene = Scene::new().await;
    let config = Config::parse(&with_workers()).unwrap();
    let clusters = common::Connector(scene.world.clone());
    let workers = Workers { clusters, blue: scene.blue.clone(), green: scene.blue.clone() };
    let backends = Backends { clusters: Arc::new(workers), ..backends(&scene.world) };
    let (_operator, words) = mpsc::unbounded_channel();
    let controller = Controller::new(config.cutover_plan(), config.deployment(), backends);
    let stop = controller.run(words, |_| {}).await.unwrap().stop;
    assert!(
        matches!(&stop, Stop::Aborted(why) if why.contains("correct clusters.green.connect.url")),
        "{stop:?}"
    );
    assert_eq!(scene.states(&scene.blue), [Some(ConnectorState::Running); 2]);
}

/// A config that names blue's servers would write there from green.
#[tokio::test(start_paused = true)]
async fn a_config_that_leads_back_to_blue_is_refused() {
    let scene = Scene::new().await;
    let server = scene.world.provisioner.ever()[0].0.bootstrap[0].clone();
    let leads_back = config([("connector.class", "sink"), ("topic", "lines"), ("dlq.servers", &server)]);
    scene.blue.create_stopped(&"leads-back".into(), &leads_back).await.unwrap();
    let (finished, events) = scene.run(&with_workers()).await;
    let stop = finished.unwrap().stop;
    assert!(
        matches!(&stop, Stop::Aborted(why) if why.contains("dlq.servers names a server of blue")),
        "{stop:?}"
    );
    assert!(!events.iter().any(|event| event.to_string().contains(&server)), "values are not shown");
    scene.assert_back("refused");
}

/// What passes through the driver is nowhere in the journal, and in no event.
#[tokio::test(start_paused = true)]
async fn no_config_is_journalled_or_told() {
    let scene = Scene::new().await;
    let secret = config([("connector.class", "sink"), ("topic", "lines"), ("password", "hunter2")]);
    scene.blue.create_stopped(&"secret".into(), &secret).await.unwrap();
    let (finished, events) = scene.run(&with_workers()).await;
    assert_eq!(finished.unwrap().stop, Stop::Complete);
    let green = scene.green.config(&"secret".into()).await.unwrap();
    assert_eq!(green, secret, "it has come to green");
    assert_eq!(scene.green.state(&"secret".into()), Some(ConnectorState::Stopped), "as it was");
    let entries = kutover_core::ports::Journal::read(&scene.world.journal).await.unwrap();
    let journal: String = entries.iter().map(|entry| entry.body.to_string()).collect();
    assert!(journal.contains("\"secret\"") && !journal.contains("hunter2"));
    assert!(!format!("{events:?}").contains("hunter2"));
}
