//! What is not where it should be, from 3.9.2 to 4.3.1, as an operator meets it: a producer outside the library that stays on
//! the old cluster (L8), with a fence and without one, consumers that come to the new one too early (L19) and a pipeline that waits for their group, a fence
//! that an earlier life left behind. And retention, which is raised meanwhile (L11).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::ports::{
    ClusterAdmin as _, ClusterProvisioner as _, Incarnation, NewTopic, TopicDescription,
};
use kutover_core::words::{Colour, Offset, TopicPartition, is_reserved_topic};
use kutover_lab::{ClusterSpec, KafkaVersion, LabOptions, LabProvisioner, Tools};
use kutover_tests::{Program, Run, command, kutover, number, tools};
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use serde_json::Value;

const BLUE: KafkaVersion = KafkaVersion::new(3, 9, 2);
const GREEN: KafkaVersion = KafkaVersion::new(4, 3, 1);
const QUIET_WINDOW_MS: u64 = 4_000;

fn configuration(blue: &Incarnation, green: &Incarnation, more: &str) -> String {
    let mut text = "deployment = \"orders\"\njournal = \"orders.journal\"\n\
         endpoints = [{ name = \"kafka.orders.test\", port = 9092 }]\n\n\
         [dns]\nkind = \"local\"\nzone = \"orders.test\"\nlisten = \"127.0.0.1:0\"\nttl_s = 1\n"
        .to_owned();
    for (colour, last, cluster) in [("blue", 1, blue), ("green", 2, green)] {
        let servers: Vec<String> = cluster.bootstrap.iter().map(|server| format!("\"{server}\"")).collect();
        text += &format!(
            "\n[clusters.{colour}.provisioner]\nkind = \"static\"\nbootstrap = [{}]\n\
             endpoint = {{ addresses = [\"127.8.8.{last}\"] }}\n",
            servers.join(", ")
        );
    }
    text + &format!(
        "\n[plan]\nwaive_history = \"*\"\nquiet_window = \"{QUIET_WINDOW_MS}ms\"\nconverge_deadline = \"20s\"\n\
         soak = \"0s\"\nhold_limit = \"2m\"\ndrain_poll = \"500ms\"\nwatch = \"1s\"\n{more}"
    )
}

/// Kafka's own console producer, fed a line again and again until it is told to end.
struct Console {
    child: Child,
    stop: mpsc::Sender<()>,
    feeder: Option<std::thread::JoinHandle<()>>,
    said: std::path::PathBuf,
}

impl Console {
    fn start(tools: &Tools, class_path: &str, bootstrap: &str, directory: &Path) -> Self {
        let said = directory.join("console.log");
        let log = std::fs::File::create(&said).expect("a log");
        // It says what became of its records to its log alone.
        let logging = directory.join("log4j.properties");
        let errors = "log4j.rootLogger=ERROR, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n\
                      log4j.appender.out.layout=org.apache.log4j.PatternLayout\n\
                      log4j.appender.out.layout.ConversionPattern=%p %m %throwable%n\n";
        std::fs::write(&logging, errors).expect("written");
        let mut command = Command::new(&tools.java);
        command.arg(format!("-Dlog4j.configuration=file:{}", logging.display()));
        command.args(["-Xmx96m", "-cp", class_path, "org.apache.kafka.tools.ConsoleProducer"]);
        command.args(["--bootstrap-server", bootstrap, "--topic", "orders"]);
        command.stdin(Stdio::piped()).stdout(log.try_clone().expect("a log")).stderr(log);
        let mut child = command.spawn().expect("it starts");
        let mut lines = child.stdin.take().expect("its input");
        let (stop, stopped) = mpsc::channel();
        let feeder = std::thread::spawn(move || {
            let tick = Duration::from_millis(100);
            while stopped.recv_timeout(tick) == Err(mpsc::RecvTimeoutError::Timeout) {
                if writeln!(lines, "from the console").is_err() {
                    return;
                }
            }
        });
        Self { child, stop, feeder: Some(feeder), said }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).expect("its log")
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(feeder) = self.feeder.take() {
            let _ = feeder.join();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn report(run: &Run) -> Value {
    let last = run.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("no report ({error}):\n{}", run.stderr))
}

/// The first entry of a timeline that says this, with its place.
fn entry<'a>(timeline: &'a [Value], text: &str) -> (usize, &'a Value) {
    let says = |entry: &&Value| entry["event"].as_str().is_some_and(|event| event.contains(text));
    let place = timeline.iter().position(|entry| says(&entry));
    let place = place.unwrap_or_else(|| panic!("`{text}` is not in {timeline:#?}"));
    (place, &timeline[place])
}

/// Topic `orders` has a retention of its own, `ledger` has none.
const RETENTION_MS: (&str, &str) = ("retention.ms", "1209600000");

async fn read_by_nobody(admin: &KafkaAdmin) {
    let configs = [(RETENTION_MS.0.to_owned(), RETENTION_MS.1.to_owned())].into();
    let topic = NewTopic { name: "orders".into(), partitions: 1, replication: 1, configs };
    admin.create_topic(&topic).await.expect("the topic is made");
    let start = [(TopicPartition::new("orders", 0), Offset(0))];
    let kept = admin.set_start_offsets(&"billing".into(), &start.into()).await.expect("set");
    assert!(kept.is_empty());
}

/// Topic `ledger`, which group `readers` has read, and on which somebody has left a fence that no journal knows.
async fn fenced_by_an_earlier_life(blue: &Incarnation, admin: &KafkaAdmin) {
    let topic = NewTopic { name: "ledger".into(), partitions: 1, replication: 1, configs: [].into() };
    admin.create_topic(&topic).await.expect("the topic is made");
    let servers = blue.bootstrap.join(",");
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", servers).create().expect("a producer");
    for _ in 0..3 {
        let record = FutureRecord::<(), _>::to("ledger").payload("entry");
        producer.send(record, Timeout::Never).await.expect("it is written");
    }
    let read = [(TopicPartition::new("ledger", 0), Offset(3))];
    admin.set_start_offsets(&"readers".into(), &read.into()).await.expect("a commit");
    admin.raise_fence(&["ledger".into()]).await.expect("a fence");
}

/// What topics have set themselves of retention, on one cluster.
async fn retention(admin: &KafkaAdmin) -> BTreeMap<String, BTreeMap<String, String>> {
    let all = admin.topics().await.expect("topics");
    let of = |topic: TopicDescription| {
        let mut own = topic.configs.expect("Kafka tells configs");
        own.retain(|config, _| config.starts_with("retention."));
        (topic.name.to_string(), own)
    };
    all.into_iter().filter(|topic| !is_reserved_topic(topic.name.as_str())).map(of).collect()
}

fn own(bytes: Option<&str>, ms: Option<&str>) -> BTreeMap<String, String> {
    let set = [("retention.bytes", bytes), ("retention.ms", ms)];
    set.into_iter().filter_map(|(config, value)| Some((config.to_owned(), value?.to_owned()))).collect()
}

/// Waits until retention is raised on both clusters, and until groups have start offsets on green. Then a consumer of
/// `readers` comes up there, as one does that bears the producers' name.
async fn comes_early(green: &Incarnation, blue: &KafkaAdmin) -> StreamConsumer {
    let config = AdminConfig { bootstrap: green.bootstrap.clone(), ..AdminConfig::default() };
    let admin = KafkaAdmin::connect(config).await.expect("connect");
    let raised =
        BTreeMap::from(["ledger", "orders"].map(|topic| (topic.to_owned(), own(Some("-1"), Some("-1")))));
    let prepared = async || {
        let on_both = retention(blue).await == raised && retention(&admin).await == raised;
        let groups = admin.groups().await.expect("groups");
        (on_both && groups.listed().contains_key(&"readers".into())).then_some(())
    };
    kutover_testkit::until("raised retention, and start offsets", Duration::from_secs(120), prepared).await;
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", green.bootstrap.join(",")).set("group.id", "readers");
    let consumer: StreamConsumer = client.set("client.id", "early-reader").create().expect("a consumer");
    consumer.subscribe(&["ledger"]).expect("subscribed");
    consumer
}

/// The next cutover, back to blue, on which a console producer stays on green and no fence may end it: it holds, ends held,
/// and nothing is closed or removed; a yes to that which nobody asked for counts for nothing.
async fn nothing_is_removed_without_a_fence(
    tools: &Tools,
    class_path: &str,
    [blue, green]: [&Incarnation; 2],
    directory: &Path,
) {
    let console = Console::start(tools, class_path, &green.bootstrap.join(","), directory);
    let config = AdminConfig { bootstrap: green.bootstrap.clone(), ..AdminConfig::default() };
    let admin = KafkaAdmin::connect(config).await.expect("connect");
    let written = async || {
        let ends = admin.ends(&["orders".into()]).await.expect("ends");
        (ends[0].high_watermark > Offset(3)).then_some(())
    };
    kutover_testkit::until("the console's first records on green", Duration::from_secs(60), written).await;
    let more = "to = \"blue\"\nfence = \"waived\"\napprove = \"manual\"\nseparation = \"off\"\nwaive_groups = [\"billing\"]\n\
                waive_unread = [\"orders\"]\nraise_retention = \"*\"\n";
    let text = configuration(blue, green, more)
        .replace("converge_deadline = \"20s\"", "converge_deadline = \"4s\"")
        .replace("hold_limit = \"2m\"", "hold_limit = \"8s\"");
    let path = directory.join("orders.toml");
    std::fs::write(&path, text).expect("written");
    let file = path.to_str().expect("UTF-8").to_owned();
    let mut up = Program::start(command().args(["up", "--json", &file]));
    up.wait_for("approve redirect");
    up.say("approve redirect\napprove removal");
    let (status, stdout) = up.end();
    let told = report(&Run { status, stdout, stderr: up.said.clone() });
    assert_eq!((told["outcome"].as_str(), status), (Some("held"), Some(1)), "{told:#}\n{}", up.said);
    let timeline = told["timeline"].as_array().expect("a timeline");
    let why = "hold: still writing to the old cluster, which cannot be closed: producer id";
    let (_, held) = entry(timeline, why);
    assert_eq!(held["state"], "fencing");
    let said = timeline.iter().filter_map(|entry| entry["event"].as_str());
    let gone = said.filter(|event| event.starts_with("generation 2 closed") || event.contains("removed "));
    assert_eq!(gone.collect::<Vec<_>>(), Vec::<&str>::new(), "{timeline:#?}");
    let before = admin.ends(&["orders".into()]).await.expect("ends")[0].high_watermark;
    let goes_on = async || {
        let ends = admin.ends(&["orders".into()]).await.expect("ends");
        (ends[0].high_watermark > before).then_some(())
    };
    kutover_testkit::until("records that green still takes", Duration::from_secs(60), goes_on).await;
    drop(console);
}

/// Must be shown: a console producer that is left on blue is named within two quiet windows, with topic and rate; the
/// cutover holds; the fence ends it, and nothing is removed before that, nor at all where there is no fence. And `kutover
/// drain` says what a group has not read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_producer_left_on_blue_is_named_held_for_and_fenced() {
    let test = "a_console_producer_left_on_blue_is_named_held_for_and_fenced";
    let Some(tools) = tools(test, &[BLUE, GREEN]).await else { return };
    let _turn = tools.machine_turn().await.expect("a turn");
    let directory = tempfile::tempdir().expect("a directory");
    let mut options =
        LabOptions::new(directory.path().join("lab"), ClusterSpec::apache(BLUE), ClusterSpec::apache(GREEN));
    options.tools = tools.clone();
    options.is_disposable = true;
    let lab = LabProvisioner::new(options).await.expect("a world");
    let blue = lab.provision(Colour::Blue, &"r".into()).await.expect("blue");
    let green = lab.provision(Colour::Green, &"r".into()).await.expect("green");
    let config = AdminConfig { bootstrap: blue.bootstrap.clone(), ..AdminConfig::default() };
    let admin = KafkaAdmin::connect(config).await.expect("connect");
    read_by_nobody(&admin).await;
    fenced_by_an_earlier_life(&blue, &admin).await;

    let class_path = tools.class_path(GREEN).await.expect("the tools");
    let console = Console::start(&tools, &class_path, &blue.bootstrap.join(","), directory.path());
    let written = async || {
        let ends = admin.ends(&["orders".into()]).await.expect("ends");
        (ends[0].high_watermark > Offset(3)).then_some(())
    };
    kutover_testkit::until("the console's first records", Duration::from_secs(60), written).await;

    let path = directory.path().join("orders.toml");
    let file = path.to_str().expect("UTF-8").to_owned();
    std::fs::write(&path, configuration(&blue, &green, "")).expect("written");
    let looked = tokio::task::spawn_blocking({
        let file = file.clone();
        move || kutover(&["drain", "--every", "1", "--json", &file])
    });
    let looked = looked.await.expect("it ran");
    let drain = report(&looked);
    assert_eq!((drain["schema"].as_str(), looked.status), (Some("kutover.drain/1"), Some(1)), "{drain}");
    let row = &drain["table"]["rows"][0];
    assert_eq!((row["group"].as_str(), row["zero"]["estimate"].as_str()), (Some("billing"), Some("never")));
    assert!(row["unread"].as_i64() > Some(3) && looked.stderr.contains("records unread"), "{drain}");

    let more = "waive_groups = [\"billing\"]\nwaive_unread = [\"orders\"]\nraise_retention = \"*\"\n";
    std::fs::write(&path, configuration(&blue, &green, more)).expect("written");
    let planned = tokio::task::spawn_blocking({
        let file = file.clone();
        move || kutover(&["plan", "--watch", "1", "--json", &file])
    });
    let plan = report(&planned.await.expect("it ran"));
    assert_eq!(plan["left_fence"], Value::from(vec!["ledger"]), "{plan}");
    assert_eq!(plan["raised_retention"], Value::from(vec!["ledger", "orders"]), "{plan}");

    let waiting = tokio::task::spawn_blocking({
        let file = file.clone();
        move || kutover(&["wait-group", "--every", "1", "--limit", "300", "--json", &file, "readers"])
    });
    let running = tokio::task::spawn_blocking(move || kutover(&["up", "--json", &file]));
    let early = comes_early(&green, &admin).await;
    let run = running.await.expect("it ran");
    drop(early);
    let waited = waiting.await.expect("it ran");
    let released = report(&waited);
    assert_eq!(
        (released["released"].as_bool(), released["colour"].as_str(), waited.status),
        (Some(true), Some("green"), Some(0)),
        "{released}\n{}",
        waited.stderr
    );
    let told = report(&run);
    assert_eq!(
        (told["outcome"].as_str(), run.status),
        (Some("complete"), Some(0)),
        "{told:#}\n{}",
        run.stderr
    );
    let timeline = told["timeline"].as_array().expect("a timeline");
    let (left, _) =
        entry(timeline, "a left-over fence stands on blue, where producers belong: ledger; it is lifted");
    let (lifted, _) = entry(timeline, "the left-over fence is lifted, and every leader takes records again");
    let (begun, _) = entry(timeline, "provisioning");
    assert!(left < lifted && lifted < begun, "{timeline:#?}");
    let (_, early) =
        entry(timeline, "group readers must still read the old cluster, but is on the new one: early-reader");
    assert_eq!(early["state"], "converging");
    // Blue was released, not removed: it is somebody else's, and as it was.
    let config = AdminConfig { bootstrap: green.bootstrap.clone(), ..AdminConfig::default() };
    let on_green = KafkaAdmin::connect(config).await.expect("connect");
    let before = [("ledger", own(None, None)), ("orders", own(None, Some(RETENTION_MS.1)))];
    let before = BTreeMap::from(before.map(|(topic, own)| (topic.to_owned(), own)));
    assert_eq!((retention(&admin).await, retention(&on_green).await), (before.clone(), before));
    let (_, converging) = entry(timeline, "converging");
    let (first, named) = entry(timeline, "still writing to the old cluster: producer id");
    let said = named["event"].as_str().unwrap_or_default();
    assert!(said.contains("on topic orders, partition 0: ") && said.contains("/s), last write at"), "{said}");
    assert!(said.contains("its last record: no key"), "{said}");
    assert_eq!(named["state"], "converging");
    let after = number(named, "at_ms") - number(converging, "at_ms");
    assert!(after <= 2 * QUIET_WINDOW_MS, "named after {after} ms");
    let (hold, _) = entry(timeline, "hold: still writing to the old cluster: producer id");
    let (fence, _) = entry(timeline, "ACL fence proven");
    let (removed, _) = entry(timeline, "removed ");
    assert!(first < hold && hold < fence && fence < removed, "{timeline:#?}");
    let words = console.said();
    assert!(words.contains("TopicAuthorizationException"), "the fence has refused it: {words}");
    drop(console);
    nothing_is_removed_without_a_fence(&tools, &class_path, [&blue, &green], directory.path()).await;
}
