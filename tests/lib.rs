//! End-to-end tests of kutover: they run the program as a person does and judge what it prints and how it ends.

mod live;
mod program;
mod quiet;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::sync::OnceLock;

use kutover_core::error::ErrorKind;
use kutover_lab::embedded::EmbeddedCluster;
use kutover_lab::{KafkaVersion, Tools};
use serde_json::Value;

pub use live::{Counted, CutOver, Live, LivePlan};
pub use program::Program;
pub use quiet::Planted;

/// What a run of the program left.
pub struct Run {
    /// Its exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Run {
    /// What it said on stderr to a person: without the log, where one was asked for.
    pub fn shown(&self) -> String {
        without_log(&self.stderr).collect::<Vec<_>>().join("\n")
    }
}

/// The lines that are not a log's.
fn without_log(text: &str) -> impl Iterator<Item = &str> {
    let is_log = |line: &&str| ["TRACE", "DEBUG", "INFO", "WARN"].iter().any(|level| line.contains(level));
    text.lines().filter(move |line| !is_log(line))
}

/// Runs the program with these arguments and waits for its end. The demo bounds itself (`--limit`).
///
/// # Panics
/// If the program cannot be built or started.
pub fn kutover(arguments: &[&str]) -> Run {
    run(command().args(arguments))
}

/// The program, to be started with an environment of its own.
///
/// # Panics
/// If the program cannot be built.
pub fn command() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let features = if cfg!(feature = "tls") { "kutover/tls" } else { "" };
    Command::new(PROGRAM.get_or_init(|| built(features)))
}

/// The same with AWS in it. Both stand in the same place: a test uses the one or the other.
///
/// # Panics
/// If the program cannot be built.
pub fn command_with_aws() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    Command::new(PROGRAM.get_or_init(|| built("kutover/aws")))
}

fn built(features: &str) -> PathBuf {
    let build = told_by_cargo().fold(escargot::CargoBuild::new(), |build, name| build.env_remove(name));
    // From the whole workspace: chosen by its package it would be built on other features of what it stands on, and all
    // of that once more.
    let build = build.arg("--workspace").bin("kutover").features(features);
    build.run().expect("the program is built").path().to_owned()
}

/// The variables by which cargo tells a test of its package. ring's build script looks at the same ones: a build that
/// inherits them builds ring, and all that stands on it, once more.
fn told_by_cargo() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    })
}

/// What it takes to run these versions of Apache Kafka; `None`, with a word, where a part of it is missing.
///
/// # Panics
/// If what is there does not work.
pub async fn tools(test: &str, versions: &[KafkaVersion]) -> Option<Tools> {
    let tools = Tools::from_env();
    for version in versions {
        if let Err(missing) = tools.ready(*version).await {
            assert_ne!(missing.kind, ErrorKind::Invalid, "{test}: {missing}");
            kutover_testkit::skip(test, &missing.to_string());
            return None;
        }
    }
    Some(tools)
}

/// Two clusters that exist, in this process. They have nothing to be fenced with, so that is waived, and the old one
/// stays.
pub fn existing(clusters: [&EmbeddedCluster; 2], plan: &str) -> String {
    let mut text = "deployment = \"orders\"\njournal = \"orders.journal\"\n\
         endpoints = [{ name = \"kafka.orders.test\", port = 9092 }]\n\n\
         [dns]\nkind = \"local\"\nzone = \"orders.test\"\nlisten = \"127.0.0.1:0\"\nttl_s = 1\n"
        .to_owned();
    for ((colour, last), cluster) in [("blue", 1), ("green", 2)].into_iter().zip(clusters) {
        let servers: Vec<String> = cluster.brokers().iter().map(|broker| format!("\"{broker}\"")).collect();
        let _ = write!(
            text,
            "\n[clusters.{colour}.provisioner]\nkind = \"static\"\nbootstrap = [{}]\n\
             endpoint = {{ addresses = [\"127.8.8.{last}\"] }}\n",
            servers.join(", ")
        );
    }
    text + "\n[plan]\nfence = \"waived\"\nremove_old = false\nsoak = \"0s\"\ndrain_poll = \"20ms\"\n\
            hold_limit = \"60s\"\nseparation_head_room = 1000\n\
            watch = \"100ms\"\nwaive_retention = \"*\"\nwaive_transactions = \"*\"\nwaive_auto_create = true\n"
        + plan
}

/// Ends its program whatever becomes of the test.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started.
pub fn run(command: &mut Command) -> Run {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run { status: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// Runs `demo --json` with further arguments and gives its report, and its exit status.
///
/// # Panics
/// If the last line on stdout is no report.
pub fn demo(arguments: &[&str]) -> (Value, Option<i32>) {
    demo_by(&mut command(), arguments)
}

/// The same by a program with an environment of its own.
///
/// # Panics
/// As [`demo`].
pub fn demo_by(program: &mut Command, arguments: &[&str]) -> (Value, Option<i32>) {
    let run = run(program.args(["demo", "--json"]).args(arguments));
    let last = run.stdout.lines().last().unwrap_or_default();
    let report: Value = serde_json::from_str(last)
        .unwrap_or_else(|error| panic!("no report ({error}) in {last:?}; it said:\n{}", run.stderr));
    assert_eq!(report["schema"], "kutover.report/1");
    assert_eq!(run.stdout.lines().count(), 1, "all else goes to stderr");
    (report, run.status)
}

/// A number of a report.
///
/// # Panics
/// If it is not there.
pub fn number(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("`{field}` is {} in {report}", report[field]))
}

/// Asserts that a cutover was complete, that nothing was lost, out of order or missed, that every producer gave its
/// receipt, and that blue is gone, closed by its fence.
///
/// # Panics
/// If one of them does not hold.
pub fn assert_complete(report: &Value, status: Option<i32>, producers: usize) {
    assert_eq!((&report["outcome"], status), (&Value::from("complete"), Some(0)), "{report}");
    for field in ["lost", "duplicated", "out_of_order", "returned"] {
        assert_eq!(number(report, field), 0, "{field} in {report}");
    }
    assert_eq!(number(report, "accepted"), number(report, "acknowledged"));
    assert_eq!(report["blue"]["removed"], true);
    assert_eq!(report["blue"]["closed_by"], "fence");
    assert!(number(&report["blue"], "records") > 0 && number(&report["green"], "records") > 0, "{report}");
    let sum = number(&report["blue"], "records") + number(&report["green"], "records");
    assert_eq!(sum, number(report, "accepted"), "each record stands in one log, once");
    let groups = report["groups"].as_array().expect("groups");
    assert!(!groups.is_empty());
    for group in groups {
        assert_eq!(number(group, "missed"), 0, "{group}");
        assert_eq!(number(group, "processed"), number(report, "accepted"), "{group}");
    }
    let members = report["producers"].as_array().expect("producers");
    assert_eq!(members.len(), producers);
    for member in members {
        assert!(member["receipt"].is_object() && member["switched_after_ms"].is_u64(), "{member}");
        for percentile in ["p50", "p99", "p999", "max"] {
            assert!(member["stall_us"][percentile].is_u64(), "{member}");
        }
    }
}

/// Whether the timeline has an event that contains this text.
pub fn happened(report: &Value, text: &str) -> bool {
    let timeline = report["timeline"].as_array().into_iter().flatten();
    timeline.filter_map(|entry| entry["event"].as_str()).any(|event| event.contains(text))
}

/// What a rollback must come to: everything there, in order, read by every group; green closed by its fence and drained,
/// blue serving again, every producer back.
pub fn assert_rolled_back(report: &Value, status: Option<i32>) {
    assert_eq!((report["outcome"].as_str(), status), (Some("rolled-back"), Some(0)), "{report}");
    for zero in ["lost", "duplicated", "out_of_order", "not_written_but_there", "returned"] {
        assert_eq!(number(report, zero), 0, "{zero}: {report}");
    }
    assert!(number(&report["green"], "records") > 0, "green took no traffic: {report}");
    assert_eq!(report["green"]["closed_by"], "fence", "{report}");
    assert!(report["blue"]["closed_by"].is_null(), "blue serves: {report}");
    assert_eq!((&report["blue"]["removed"], &report["green"]["removed"]), (&false.into(), &false.into()));
    for group in report["groups"].as_array().expect("groups") {
        assert_eq!((number(group, "missed"), number(group, "out_of_order")), (0, 0), "{group}");
    }
    for producer in report["producers"].as_array().expect("producers") {
        assert_eq!(producer["on"], report["blue"]["cluster_id"], "{producer}");
        assert_eq!(producer["receipt"]["generation"], 3, "{producer}");
    }
    assert!(number(report, "barrier_ms") > 0, "the barrier's time is missing: {report}");
}
