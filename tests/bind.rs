//! A whole cutover of a deployment whose records are in BIND and whose new cluster a command makes, under a live producer
//! that resolves through BIND.

#[path = "../crates/kutover-dns/tests/common/name_servers.rs"]
#[allow(dead_code, reason = "kutover-dns uses the rest")]
mod name_servers;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::ports::{ClusterAdmin as _, DnsProvider as _, RecordData};
use kutover_core::words::{Colour, DnsName};
use kutover_lab::embedded::{EmbeddedCluster, EmbeddedOptions};
use kutover_producer::{BlueGreenProducer, FutureRecord, Resolvers};
use kutover_testkit::until;
use kutover_tests::{Ended, command, existing, happened, kutover};
use name_servers::{KEY, Kind, NameServer, SECRET};
use serde_json::Value;

const BOUND: Duration = Duration::from_secs(120);
/// Planted where a command's secret goes: it must not come out again.
const PLANTED: &str = "planted-secret-of-the-command";

/// The configuration, and beside it the secret's file and the command that "makes" green.
fn configuration(directory: &Path, clusters: [&EmbeddedCluster; 2], server: &NameServer) -> String {
    let [_, green] = clusters;
    let broker = green.brokers()[0];
    let script = format!(
        r#"#!/bin/sh
request=$(cat)
printf '%s\n' "$request" >>"$0.requests"
[ -n "$TOKEN" ] || exit 1
case $request in
*'"act":"provision"'*) touch "$0.made" ;;
*'"act":"isolate"'*) echo '{{"unsupported": "there is nothing to shut"}}' && exit ;;
esac
[ -f "$0.made" ] || {{ echo '{{"incarnation": null}}' && exit; }}
echo '{{"incarnation": {{"id": "green-1", "cluster_id": "{}", "bootstrap": ["{broker}"],
  "endpoint": {{"addresses": ["127.8.8.2"]}}}}}}'
"#,
        green.cluster_id()
    );
    std::fs::write(directory.join("cluster.sh"), script).expect("written");
    std::fs::write(directory.join("tsig.secret"), format!("{SECRET}\n")).expect("written");
    let text =
        existing(clusters, "approve = \"manual\"\nquiet_window = \"500ms\"\nconverge_deadline = \"20s\"\n");
    let dns = format!(
        "kind = \"rfc2136\"\nzone = \"orders.test\"\nserver = \"{}\"\nkey_name = \"{KEY}\"\n\
         secret = {{ file = \"tsig.secret\" }}",
        server.address
    );
    let text = text.replace("kind = \"local\"\nzone = \"orders.test\"\nlisten = \"127.0.0.1:0\"", &dns);
    let (before, after) = text.split_once("[clusters.green.provisioner]\n").expect("green");
    let (_, after) = after.split_once("\n\n").expect("the next table");
    let command = directory.join("cluster.sh");
    format!(
        "{before}[clusters.green.provisioner]\nkind = \"exec\"\ncommand = [\"sh\", {:?}]\n\
         environment = {{ TOKEN = \"{PLANTED}\" }}\n\n{after}",
        command.to_str().expect("UTF-8")
    )
}

async fn admin(cluster: &EmbeddedCluster) -> KafkaAdmin {
    let bootstrap: Vec<String> = cluster.brokers().iter().map(ToString::to_string).collect();
    let config =
        AdminConfig { bootstrap: bootstrap.clone(), client_bootstrap: bootstrap, ..AdminConfig::default() };
    KafkaAdmin::connect(config).await.expect("connected")
}

/// How many records a cluster holds of the topic.
async fn records(cluster: &EmbeddedCluster) -> u64 {
    let ends = admin(cluster).await.ends(&["orders".into()]).await.expect("its ends");
    ends.iter().map(|end| u64::try_from(end.high_watermark.0 - end.start.0).expect("a count")).sum()
}

fn check(file: &str) -> (Value, Option<i32>) {
    let run = kutover(&["check", file, "--online", "--json"]);
    assert!(!format!("{}{}", run.stdout, run.stderr).contains(PLANTED), "{}", run.stderr);
    let report = run.stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
    (report.unwrap_or_else(|| panic!("no report: {}", run.stderr)), run.status)
}

fn says(report: &Value, part: &str) -> String {
    let parts = report["parts"].as_array().expect("parts");
    let found = parts.iter().find(|it| it["part"] == part).unwrap_or_else(|| panic!("no {part}: {report}"));
    found["says"].as_str().expect("a text").to_owned()
}

/// Sends one record after the other until it is told to stop; gives how many were acknowledged.
async fn send_on(producer: &BlueGreenProducer, stop: &AtomicBool, acknowledged: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let record = FutureRecord::to("orders").key("k").payload("p");
        producer.send(record, Duration::from_secs(30)).await.expect("every record is acknowledged");
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cutover_on_bind_with_a_commands_cluster_loses_nothing() {
    let test = "a_cutover_on_bind_with_a_commands_cluster_loses_nothing";
    let Some(server) = NameServer::start(test, Kind::Bind).await else { return };
    let blue = EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("blue");
    let green = EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("green");
    blue.fake().create_topic("orders", 3);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.toml");
    std::fs::write(&path, configuration(directory.path(), [&blue, &green], &server)).expect("written");
    let file = path.to_str().expect("UTF-8");

    let (before, status) = check(file);
    assert_eq!((status, before["ok"].as_bool()), (Some(0), Some(true)), "{before}");
    assert!(says(&before, "dns").contains("takes updates"), "{before}");
    assert!(says(&before, "dns kafka.orders.test").contains("nothing is there yet"), "{before}");
    assert!(says(&before, "cluster blue").contains(blue.cluster_id().as_str()), "{before}");
    assert!(says(&before, "cluster green").contains("nothing stands there"), "{before}");

    let mut program = command();
    program.args(["up", "--json", file]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Ended(program.spawn().expect("the program starts"));
    let mut words = child.0.stdin.take().expect("its input");
    let mut log = BufReader::new(child.0.stderr.take().expect("its log"));
    let mut said = String::new();
    while !said.contains("waiting for approval to redirect") {
        assert!(log.read_line(&mut said).expect("its log") > 0, "it ended:\n{said}");
    }
    // It goes on talking, and must not block on it.
    let rest = std::thread::spawn(move || {
        let mut rest = String::new();
        log.read_to_string(&mut rest).map(|_| rest)
    });
    let producer = BlueGreenProducer::builder()
        .deployment("orders")
        .endpoint("kafka.orders.test")
        .cluster(Colour::Blue, [("client.id", "test")])
        .cluster(Colour::Green, [("client.id", "test")])
        .resolvers(Resolvers::Servers(vec![server.address]))
        .build()
        .await
        .expect("it finds blue by BIND's owner record");
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let sender = tokio::spawn({
        let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        async move {
            send_on(&producer, &stop, &acknowledged).await;
            producer.close().await;
        }
    });
    let sent = async |count: u64| {
        until("records", BOUND, async || (acknowledged.load(Ordering::Relaxed) >= count).then_some(())).await;
    };
    sent(20).await;
    words.write_all(b"approve redirect\n").expect("it listens");
    let mut stdout = String::new();
    child.0.stdout.take().expect("its report").read_to_string(&mut stdout).expect("its report");
    let status = child.0.wait().expect("its end").code();
    said += &rest.join().expect("its log").expect("its log");
    sent(acknowledged.load(Ordering::Relaxed) + 20).await;
    stop.store(true, Ordering::Relaxed);
    sender.await.expect("no record was refused");

    let report: Value = serde_json::from_str(stdout.trim()).unwrap_or_else(|_| panic!("no report:\n{said}"));
    assert_eq!((report["outcome"].as_str(), status), (Some("complete"), Some(0)), "{report}\n{said}");
    assert!(happened(&report, "redirecting"), "{report}");
    let (on_blue, on_green) = (records(&blue).await, records(&green).await);
    assert!(on_blue >= 20 && on_green >= 20, "it moved: {on_blue} on blue, {on_green} on green");
    assert_eq!(on_blue + on_green, acknowledged.load(Ordering::Relaxed), "0 lost, 0 duplicated");

    let published = server.provider().read(&DnsName::new("kafka.orders.test")).await.expect("read");
    let owner = published.owner.expect("an owner record");
    assert_eq!((owner.target.colour, owner.target.cluster_id), (Colour::Green, green.cluster_id()));
    let set = published.endpoint.expect("a record set");
    assert_eq!(set.data, RecordData::Addresses(vec![[127, 8, 8, 2].into()]));
    let (after, status) = check(file);
    assert_eq!(status, Some(0), "{after}");
    assert!(says(&after, "cluster green").contains(green.cluster_id().as_str()), "{after}");
    no_secret_came_out(directory.path(), &[&said, &stdout, &after.to_string()]);

    // The server is gone: the file is sound, what it names is not all there, and which part is said.
    drop(server);
    let (gone, status) = check(file);
    assert_eq!((status, gone["ok"].as_bool()), (Some(4), Some(false)), "{gone}");
    assert!(says(&gone, "dns").contains("cannot be reached"), "{gone}");
    assert!(says(&gone, "cluster blue").contains(blue.cluster_id().as_str()), "{gone}");
}

/// Neither the key's secret nor the command's is in anything that was written or said, but where they were put.
fn no_secret_came_out(directory: &Path, said: &[&str]) {
    let mut texts: Vec<String> = said.iter().map(|&text| text.to_owned()).collect();
    for entry in std::fs::read_dir(directory).expect("listed") {
        let path = entry.expect("a file").path();
        if !matches!(path.file_name().and_then(|name| name.to_str()), Some("orders.toml" | "tsig.secret")) {
            texts.push(String::from_utf8_lossy(&std::fs::read(&path).expect("read")).into_owned());
        }
    }
    assert!(texts.len() > said.len() + 2, "journal, command and its requests are among them");
    for secret in [SECRET, PLANTED] {
        assert!(texts.iter().all(|text| !text.contains(secret)), "a secret came out");
    }
}
