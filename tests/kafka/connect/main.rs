//! Kafka Connect on real Apache Kafka: the workers' REST interface as the port wants it, and a cutover with a source and a
//! sink, 3.9.2 to 4.3.1.

mod failures;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use krafka::consumer::AutoOffsetReset;
use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_connect::HttpConnect;
use kutover_core::ports::{ClusterAdmin as _, ConnectAdmin as _, ConnectorConfig, Incarnation, NewTopic};
use kutover_core::words::{Offset, TopicName};
use kutover_testkit::conformance::connect;
use kutover_testkit::until;
use kutover_tests::{Planted, Run, command, run};
use kutover_tests_kafka::connectors::{Workers, running, sink, source};
use kutover_tests_kafka::world::{TwoClusters, client};
use serde_json::{Value, json};

const BLUE: &str = "3.9.2";
const GREEN: &str = "4.3.1";
const PARTITIONS: i32 = 3;
/// Patience with two workers and two brokers on two cores.
const BOUND: Duration = Duration::from_secs(60);
/// Everything that a plan would be refused over is waived, and nothing takes longer than it must.
const PLAN: &str = "waive_history = \"*\"\nquiet_window = \"500ms\"\nconverge_deadline = \"2s\"\nsoak = \"1s\"\n\
                    drain_poll = \"200ms\"\nwatch = \"1s\"\nseparation_head_room = 1000\nfence = \"required\"\n";
/// Workers of these versions do not ask for any; they go along with every request.
const CREDENTIALS: &str = "username = \"kutover\"\npassword = { env = \"CONNECT\" }\n";
/// Lines a tick, at a hundred ticks a second at most.
const TICK: Duration = Duration::from_millis(20);

async fn admin(of: &Incarnation) -> KafkaAdmin {
    let config = AdminConfig { bootstrap: of.bootstrap.clone(), ..AdminConfig::default() };
    KafkaAdmin::connect(config).await.expect("the cluster answers")
}

/// The port's contract, on a real worker.
async fn conforms(workers: &HttpConnect, cluster: &KafkaAdmin, directory: &Path) {
    let file = directory.join("conformance");
    std::fs::write(&file, "a\nb\nc\n").expect("written");
    let topic = TopicName::new("conformance");
    let new = NewTopic { name: topic.clone(), partitions: 1, replication: 1, configs: [].into() };
    cluster.create_topic(&new).await.expect("made");
    let (name, config) = ("tried out".into(), source(&file, topic.as_str()));
    let other = source(&directory.join("other"), topic.as_str());
    let id = cluster.identity().await.expect("an identity").cluster_id;
    connect::workers_say_whose_they_are(workers, &id).await;
    connect::every_connector_is_named(workers, &name, &config).await;
    connect::a_connector_is_made_stopped(workers, &name, &config, &other).await;
    let all_written = async || {
        until("three records", BOUND, async || {
            let ends = cluster.ends(std::slice::from_ref(&topic)).await.ok()?;
            (ends[0].high_watermark >= Offset(3)).then_some(())
        })
        .await;
    };
    connect::a_stopped_source_has_said_how_far_it_came(workers, &name, &config, all_written).await;
    let nowhere = sink(&directory.join("nowhere").join("out"), topic.as_str());
    connect::a_connector_that_failed_does_not_run(workers, &name, &nowhere, async || ()).await;
    let at = |file: &str, position: u32| (json!({ "filename": file }), json!({ "position": position }));
    connect::offsets_are_as_they_were_altered(workers, &name, &config, &at("a", 1), &at("b", 2)).await;
    connect::a_deleted_connector_is_gone(workers, &name, &config).await;
    let mut wrong: BTreeMap<String, String> = config.expose().clone();
    wrong.insert("tasks.max".into(), "hunter2".into());
    let wrong = ConnectorConfig::new(wrong);
    connect::no_error_shows_a_value(workers, &name, &config, "hunter2", Some(&wrong)).await;
}

/// The records of each partition of the topic `lines`, as a stock consumer reads them.
async fn logs(of: &Incarnation, admin: &KafkaAdmin) -> Vec<Vec<String>> {
    let ends = admin.ends(&["lines".into()]).await.expect("ends");
    let all: i64 = ends.iter().map(|end| end.high_watermark.0).sum();
    let consumer = client(of).await.consumer("audit").metrics_push(false);
    let consumer = consumer.auto_offset_reset(AutoOffsetReset::Earliest).enable_auto_commit(false);
    let consumer = consumer.build().await.expect("a consumer");
    consumer.subscribe(["lines"]).await.expect("subscribed");
    let mut logs = vec![Vec::new(); ends.len()];
    let reading = async {
        while logs.iter().map(Vec::len).sum::<usize>() < usize::try_from(all).expect("a count") {
            for record in consumer.poll(Duration::from_millis(100)).await.expect("polled") {
                let line =
                    String::from_utf8(record.value.as_deref().expect("a value").to_vec()).expect("text");
                logs[usize::try_from(record.partition).expect("a partition")].push(line);
            }
        }
    };
    tokio::time::timeout(BOUND, reading).await.expect("all records");
    consumer.close().await.expect("left");
    logs
}

/// A file that grows until it is told to stop.
struct Growing {
    stop: Arc<AtomicBool>,
    lines: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Growing {
    fn start(path: PathBuf) -> Self {
        let (stop, lines) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut file = std::fs::File::create(path).expect("a file");
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&lines));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let line = count.load(Ordering::Relaxed);
                writeln!(file, "line {line}").expect("written");
                count.store(line + 1, Ordering::Relaxed);
                std::thread::park_timeout(TICK);
            }
        });
        Self { stop, lines, thread: Some(thread) }
    }

    fn lines(&self) -> usize {
        self.lines.load(Ordering::Relaxed)
    }

    /// Ends it, and gives how many lines there are.
    fn stop(&mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it wrote");
        }
        self.lines()
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A password that goes with every request to the workers: these ask for none, and take it.
const PASSWORD: &str = "planted-7c2e-connects";

fn planted() -> Planted {
    Planted::new([PASSWORD]).with_pair("kutover", PASSWORD)
}

/// Runs the program with a log of all that it can tell; neither that nor the rest may contain the password.
fn quietly(arguments: &[&str]) -> Run {
    let ran = run(command().args(arguments).env("CONNECT", PASSWORD).env("KUTOVER_LOG", "trace"));
    planted().assert_not_in("stdout", &ran.stdout);
    planted().assert_not_in("stderr", &ran.stderr);
    ran
}

/// Runs `plan`, and gives what it printed.
async fn plan(file: &Path) -> (Run, Value) {
    let file = file.to_str().expect("UTF-8").to_owned();
    let run = tokio::task::spawn_blocking(move || quietly(&["plan", &file, "--watch", "1", "--json"]));
    let run = run.await.expect("it ran");
    let plan = serde_json::from_str(run.stdout.lines().last().unwrap_or_default()).expect("a plan");
    (run, plan)
}

/// What is refused over connectors, each alone: workers that belong to the other colour's cluster, and a connector that nobody
/// has. Beside the plan in this file nothing else is.
async fn refused_alone(workers: &Workers, ready: &Path, blue: &KafkaAdmin) {
    let text = std::fs::read_to_string(ready).expect("read");
    let [of_blue, of_green] = workers.urls();
    // By another name: the same address twice is a slip of the pen, which no plan is made of.
    let of_blue = of_blue.replace("127.0.0.1", "localhost");
    let id = blue.identity().await.expect("an identity").cluster_id;
    let foreign = format!("the Connect workers of green belong to cluster {id}, not to ");
    let missing = "plan.connectors names missing, which the old cluster's Connect does not have".to_owned();
    for (from, to, subject, said) in [
        (of_green.as_str(), of_blue.as_str(), "workers of green", foreign),
        ("[plan]\n", "[plan]\nconnectors = [\"files-in\", \"missing\"]\n", "connectors", missing),
    ] {
        assert!(text.contains(from), "{from} is not in {text}");
        let file = ready.with_file_name("refused.toml");
        std::fs::write(&file, text.replace(from, to)).expect("written");
        let (run, plan) = plan(&file).await;
        let [refusal] = &plan["refusals"].as_array().expect("refusals")[..] else {
            panic!("{}", run.shown())
        };
        let found = ["code", "subject"].map(|part| refusal[part].as_str().expect("text"));
        assert_eq!((found, run.status), (["connect", subject], Some(3)), "{}", run.shown());
        assert!(refusal["reason"].as_str().is_some_and(|reason| reason.starts_with(&said)), "{refusal}");
    }
}

fn lines_of(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Must be shown: a cutover with Connect. The source's file grows all the time; the sink's file has each record once, in
/// order per partition. Before it the workers of both versions are tried against the port's contract.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_and_a_sink_go_along_and_each_record_is_written_once_in_order() {
    let test = "a_source_and_a_sink_go_along_and_each_record_is_written_once_in_order";
    let Some(world) = TwoClusters::start(test, BLUE, GREEN).await else { return };
    let workers = Workers::start(&world, BLUE, GREEN).await;
    let [blue, green] = [&workers.blue, &workers.green];
    let (blue_admin, green_admin) = (admin(&world.blue).await, admin(&world.green).await);
    let directory = world.directory();
    tokio::join!(conforms(blue, &blue_admin, directory), conforms(green, &green_admin, directory));
    blue_admin.delete_topics(&["conformance".into()]).await.expect("deleted");
    green_admin.delete_topics(&["conformance".into()]).await.expect("deleted");

    let topic = NewTopic { name: "lines".into(), partitions: PARTITIONS, replication: 1, configs: [].into() };
    blue_admin.create_topic(&topic).await.expect("made");
    let (into, out) = (world.directory().join("in"), world.directory().join("out"));
    let mut growing = Growing::start(into.clone());
    for (name, config) in [("files-in", source(&into, "lines")), ("files-out", sink(&out, "lines"))] {
        running(blue, name, &config).await;
    }
    until("the sink's first lines", BOUND, async || (lines_of(&out).len() > 10).then_some(())).await;

    let path = world.configuration_with(&workers.tables(CREDENTIALS), PLAN);
    let file = path.to_str().expect("UTF-8").to_owned();
    let (planned, ()) = tokio::join!(plan(&path), refused_alone(&workers, &path, &blue_admin));
    let (planned, plan) = planned;
    assert_eq!(planned.status, Some(0), "{}", planned.shown());
    assert_eq!(
        plan["connect"]["connectors"],
        json!({
            "files-in": { "kind": "source", "state": "running", "failed": false, "tasks": 1 },
            "files-out": { "kind": "sink", "state": "running", "failed": false, "tasks": 1 },
        })
    );
    let before = growing.lines();
    let run = tokio::task::spawn_blocking(move || quietly(&["up", "--json", &file])).await.expect("it ran");
    planted().assert_not_in_files(directory, &[]);
    let told: Value = serde_json::from_str(run.stdout.lines().last().unwrap_or_default()).expect("a report");
    assert_eq!(
        (told["outcome"].as_str(), run.status),
        (Some("complete"), Some(0)),
        "{told:#}\n{}",
        run.shown()
    );
    let grown = growing.lines();
    assert!(grown > before, "the file grew meanwhile");

    // What the file gets after the cutover goes through green.
    until("more lines", BOUND, async || (growing.lines() > grown + 10).then_some(())).await;
    let all: BTreeSet<String> = (0..growing.stop()).map(|line| format!("line {line}")).collect();
    until("the last lines", BOUND, async || (lines_of(&out).len() >= all.len()).then_some(())).await;
    let (on_blue, on_green) = (logs(&world.blue, &blue_admin).await, logs(&world.green, &green_admin).await);
    let written = lines_of(&out);
    assert_eq!(written.len(), all.len(), "each record once");
    assert_eq!(written.iter().cloned().collect::<BTreeSet<_>>(), all, "every record");
    for (partition, (blue, green)) in on_blue.into_iter().zip(on_green).enumerate() {
        assert!(!blue.is_empty() && !green.is_empty(), "partition {partition}: {blue:?} and {green:?}");
        let chain = [blue, green].concat();
        let of_it: Vec<_> = written.iter().filter(|line| chain.contains(line)).collect();
        assert_eq!(of_it, chain.iter().collect::<Vec<_>>(), "partition {partition}: once, in order");
    }
    assert!(blue.connectors().await.expect("blue's connectors").is_empty());
}
