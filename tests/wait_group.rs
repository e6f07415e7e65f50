//! `wait-group`, as a pipeline runs it beside `up`: it ends when the group has read the old cluster, and not before.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Command, Stdio};

use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::ports::ClusterAdmin as _;
use kutover_core::words::{GroupId, TopicName};
use kutover_lab::embedded::{EmbeddedCluster, EmbeddedOptions};
use kutover_tests::{Ended, command, existing, run};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use serde_json::Value;

/// Starts a program and gives its log, line by line.
fn started(program: &mut Command) -> (Ended, impl Iterator<Item = String> + use<>) {
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Ended(program.spawn().expect("it starts"));
    let log = BufReader::new(child.0.stderr.take().expect("its log"));
    (child, log.lines().map_while(Result::ok))
}

/// Reads on until something is said. A program that ends without a word of it fails the test.
fn until(log: &mut impl Iterator<Item = String>, sign: &str) {
    let mut said = Vec::new();
    let found = log.any(|line| {
        said.push(line);
        said.last().is_some_and(|line| line.contains(sign))
    });
    assert!(found, "`{sign}` was not said:\n{}", said.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_released_when_it_has_read_the_old_cluster() {
    let blue = EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("blue");
    let green = EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("green");
    blue.fake().create_topic("orders", 1);
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", blue.bootstrap_servers()).create().expect("a producer");
    for n in 0..3 {
        let payload = n.to_string();
        let record = FutureRecord::<(), _>::to("orders").payload(&payload);
        producer.send(record, Timeout::Never).await.expect("it is written");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.toml");
    let plan = "groups = [\"billing\"]\nquiet_window = \"100ms\"\nconverge_deadline = \"500ms\"\n";
    std::fs::write(&path, existing([&blue, &green], plan)).expect("written");
    let file = path.to_str().expect("UTF-8");

    let told = directory.path().join("told");
    let script = format!("echo deployed; echo $KUTOVER_GROUP $KUTOVER_COLOUR > '{}'; exit 7", told.display());
    let mut waits = command();
    waits.args(["wait-group", file, "billing", "--every", "1", "--json", "--", "sh", "-c", &script]);
    let (mut waits, mut said) = started(&mut waits);
    until(&mut said, "group billing waits: no cutover has begun");
    let (_up, mut up) = started(command().args(["up", file]));
    until(&mut said, "group billing, topic orders, partition 0: no commit, 3 records unread");
    let typo = run(command().args(["wait-group", file, "biling", "--every", "1"]));
    assert_eq!(typo.status, Some(2), "{}", typo.stderr);
    assert!(typo.stderr.contains("does not wait for biling"), "{}", typo.stderr);
    let late = run(command().args(["wait-group", file, "billing", "--every", "3600", "--limit", "1"]));
    assert_eq!(late.status, Some(1), "{}", late.stderr);
    assert!(late.stderr.contains("is not released"), "{}", late.stderr);
    assert!(!told.exists());

    let config = AdminConfig { bootstrap: vec![blue.bootstrap_servers()], ..AdminConfig::default() };
    let admin = KafkaAdmin::connect(config).await.expect("an admin");
    let ends = admin.ends(&[TopicName::new("orders")]).await.expect("the ends");
    let read = ends.into_iter().map(|end| (end.place, end.high_watermark)).collect();
    admin.set_start_offsets(&GroupId::new("billing"), &read).await.expect("a commit");
    until(&mut said, "group billing goes on to green");
    assert_eq!(waits.0.wait().expect("its end").code(), Some(7), "the command's own status");
    let mut shown = String::new();
    waits.0.stdout.take().expect("its stdout").read_to_string(&mut shown).expect("read");
    let lines: Vec<&str> = shown.lines().collect();
    let ["deployed", report] = lines[..] else { panic!("the object is not the last line: {shown}") };
    let report: Value = serde_json::from_str(report).expect("one object");
    assert_eq!(report["schema"], "kutover.wait-group/1");
    assert_eq!((&report["released"], &report["colour"]), (&Value::from(true), &Value::from("green")));
    assert_eq!(std::fs::read_to_string(&told).expect("the hook ran").trim(), "billing green");
    until(&mut up, "● complete");
    // `up` may be run again, and finds nothing to do: who is released stays so.
    assert_eq!(run(command().args(["up", file])).status, Some(0));
    let again = run(command().args(["wait-group", file, "billing", "--every", "1", "--limit", "60"]));
    assert_eq!(again.status, Some(0), "{}", again.stderr);

    // It is over: a slip of the pen is told all the same, and nobody is released for the way back before that has begun.
    let typo = run(command().args(["wait-group", file, "biling", "--every", "1", "--limit", "1"]));
    assert_eq!(typo.status, Some(2), "{}", typo.stderr);
    assert!(typo.stderr.contains("does not wait for biling"), "{}", typo.stderr);
    std::fs::remove_file(&told).expect("it was there");
    let plan = format!("{plan}to = \"blue\"\n");
    std::fs::write(&path, existing([&blue, &green], &plan)).expect("written");
    let hook = ["--every", "1", "--limit", "1", "--", "sh", "-c", &script];
    let early = run(command().args(["wait-group", file, "billing"]).args(hook));
    assert_eq!(early.status, Some(1), "{}", early.stderr);
    assert!(early.stderr.contains("the cutover that leads there has not begun yet"), "{}", early.stderr);
    assert!(!told.exists(), "what follows the release was run");
}
