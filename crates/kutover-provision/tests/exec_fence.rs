//! A fence by command, with the shell as the command.

use std::path::Path;
use std::time::Duration;

use kutover_core::error::{ErrorKind, Outcome};
use kutover_core::ports::{FenceKind, FenceSwitch as _};
use kutover_core::words::{Colour, TopicName};
use kutover_provision::{ExecFence, FenceSubject};
use kutover_testkit::conformance::fence;

const LIMIT: Duration = Duration::from_secs(20);

fn by(command: &[&str], limit: Duration) -> ExecFence {
    let subject = FenceSubject {
        deployment: "orders".into(),
        colour: Colour::Blue,
        bootstrap: vec!["127.0.0.1:9092".into()],
    };
    ExecFence::new(command.iter().map(|&part| part.to_owned()).collect(), subject, limit)
}

/// Keeps its requests in a directory, the last one apart: what they say is what the fence is.
fn keeping(directory: &Path) -> ExecFence {
    by(
        &[
            "sh",
            "-c",
            "cat > \"$0\"/request && cat \"$0\"/request >> \"$0\"/requests",
            directory.to_str().expect("UTF-8"),
        ],
        LIMIT,
    )
}

fn request(directory: &Path) -> serde_json::Value {
    let text = std::fs::read(directory.join("request")).unwrap_or_else(|_| b"{}".to_vec());
    serde_json::from_slice(&text).expect("the command was given JSON")
}

fn takes(directory: &Path, topic: &TopicName) -> bool {
    let text = std::fs::read(directory.join("requests")).unwrap_or_default();
    let requests = serde_json::Deserializer::from_slice(&text).into_iter::<serde_json::Value>();
    let requests: Vec<_> = requests.map(|request| request.expect("the command was given JSON")).collect();
    let names = |request: &&serde_json::Value| {
        request["topics"].as_array().is_some_and(|topics| topics.iter().any(|it| it == topic.as_str()))
    };
    requests.iter().rfind(names).is_none_or(|newest| newest["act"] != "raise")
}

#[tokio::test]
async fn keeps_the_ports_contract() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    let (named, other) = ("orders".into(), "other".into());
    let writes = async |topic: &TopicName| takes(at, topic);
    fence::only_what_is_named_is_fenced(&keeping(at), writes, &named, &other).await;
    fence::a_later_process_takes_it_away(&keeping(at), &keeping(at), writes, &named).await;
    fence::readers_keep_reading(&keeping(at), async |_: &TopicName| true, &named).await;
}

#[tokio::test]
async fn the_command_is_told_everything() {
    let directory = tempfile::tempdir().expect("a directory");
    let switch = keeping(directory.path());
    assert_eq!(switch.kind(), FenceKind::Exec);
    switch.raise(&["orders".into()]).await.expect("raised");
    let expected = serde_json::json!({
        "schema": "kutover.fence/1", "act": "raise", "deployment": "orders", "colour": "blue",
        "bootstrap": ["127.0.0.1:9092"], "topics": ["orders"],
    });
    assert_eq!(request(directory.path()), expected);
}

#[tokio::test]
async fn what_a_failed_command_said_is_passed_on_and_nothing_is_known() {
    let failing = by(&["sh", "-c", "echo first >&2; echo 'no such policy' >&2; exit 3"], LIMIT);
    let error = failing.raise(&["orders".into()]).await.expect_err("it failed");
    assert_eq!(error.outcome, Outcome::Unknown);
    assert!(error.to_string().contains("no such policy") && error.to_string().contains("blue"), "{error}");
    let missing = by(&["no-such-program"], LIMIT);
    let error = missing.lift(&["orders".into()]).await.expect_err("there is none");
    assert_eq!((error.kind, error.outcome), (ErrorKind::Invalid, Outcome::NotDone), "{error}");
}

/// It reads a pipe that nobody ever writes to.
#[tokio::test]
async fn a_command_that_hangs_is_ended_and_nothing_is_known() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path().to_str().expect("UTF-8");
    let hanging =
        by(&["sh", "-c", "mkfifo \"$0\"/pipe && exec cat \"$0\"/pipe", at], Duration::from_millis(200));
    let error = hanging.raise(&["orders".into()]).await.expect_err("it never ends");
    assert_eq!((error.kind, error.outcome), (ErrorKind::Unreachable, Outcome::Unknown), "{error}");
}
