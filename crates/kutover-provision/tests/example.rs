//! The example for Terraform (`examples/terraform`) with a stand-in for Terraform: what it does when several ask at once, or
//! give up. `terraform.rs` has it with Terraform itself.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kutover_core::error::{ErrorKind, Outcome};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::ClusterProvisioner as _;
use kutover_core::words::{Colour, Nonce};
use kutover_provision::{ExecProvisioner, ExecSubject};
use kutover_testkit::conformance::provision;
use kutover_testkit::until;

const LIMIT: Duration = Duration::from_secs(20);
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/terraform/cluster.py");

/// Stands for Terraform: what is applied and destroyed is written down, and takes until
/// somebody writes to the pipe, if there is one.
const TERRAFORM: &str = r#"#!/bin/sh
case " $* " in
    *" apply "* | *" destroy "*)
        echo "$*" >>"$0.log"
        [ -z "${GATE-}" ] || timeout 60 cat "$GATE"
        ;;
    *" output "*)
        echo '{"incarnation": {"value": {"id": "green-1", "bootstrap": ["b.test:9092"], "endpoint": {"cname": "b.test"}}}}'
        ;;
esac
"#;

fn there_is_python(test: &str) -> bool {
    let python = std::process::Command::new("python3").args(["-c", "match 0:\n case _: pass"]).status();
    let is_there = python.is_ok_and(|status| status.success());
    if !is_there {
        kutover_testkit::skip(test, "Python 3.10");
    }
    is_there
}

/// The example over that Terraform, with its state in this directory.
fn example(directory: &Path, more: &[(&str, &str)]) -> ExecProvisioner {
    let terraform = directory.join("terraform");
    std::fs::write(&terraform, TERRAFORM).unwrap();
    std::fs::set_permissions(&terraform, std::fs::Permissions::from_mode(0o755)).unwrap();
    let clusters = directory.join("clusters");
    let own = [("TERRAFORM", &terraform), ("KUTOVER_TERRAFORM", &clusters)]
        .map(|(name, path)| (name, path.to_str().expect("UTF-8")));
    let environment = own.iter().chain(more).map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let subject = ExecSubject { deployment: "orders".into(), colour: Colour::Green };
    ExecProvisioner::new(vec![EXAMPLE.to_owned()], subject, LIMIT).with_environment(environment.collect())
}

/// Each with a request of its own: whoever asks while another one makes it must not make it its own a moment later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_thirty_two_makers_one_makes_it() {
    if !there_is_python("of_thirty_two_makers_one_makes_it") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let by = Arc::new(example(directory.path(), &[]));
    let racers: Vec<_> = (0..32)
        .map(|number| {
            let by = by.clone();
            let request = Nonce::new(format!("maker-{number:02}"));
            tokio::spawn(async move {
                let ended = async || match by.provision(Colour::Green, &request).await {
                    Err(error) if error.kind == ErrorKind::Unavailable => None,
                    ended => Some(ended),
                };
                let ended = until("it to be made", 3 * LIMIT, ended).await;
                (request, ended)
            })
        })
        .collect();
    let (mut winners, mut losers) = (Vec::new(), Vec::new());
    for racer in racers {
        let (request, ended) = racer.await.unwrap();
        match ended {
            Ok(made) => winners.push((request, made)),
            Err(error) => losers.push(error),
        }
    }
    let [(winner, made)] = &winners[..] else { panic!("{winners:?} won") };
    assert_eq!(losers.len(), 31);
    let whose = format!("{} stands there, made by request {winner}", made.id);
    for error in losers {
        assert_eq!((error.kind, error.outcome), (ErrorKind::Refused, Outcome::NotDone), "{error}");
        assert!(error.reason.contains(&whose), "{error}, and not: {whose}");
    }
    let applied = std::fs::read_to_string(directory.path().join("terraform.log")).unwrap();
    assert_eq!(applied.lines().count(), 1, "{applied}");
}

/// Two who shut at once: what the one asked for is not undone by the other, who had looked before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_isolations_at_once_both_stand() {
    if !there_is_python("of_two_isolations_at_once_both_stand") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let by = example(directory.path(), &[]);
    let made =
        until("it to stand", LIMIT, async || by.provision(Colour::Green, &"r".into()).await.ok()).await;
    let shut = async |nonce: &str| {
        until("it to be shut", LIMIT, async || by.isolate(&made.id, &nonce.into()).await.ok()).await;
    };
    tokio::join!(shut("one"), shut("two"), shut("three"), shut("four"));
    let there = std::fs::read(directory.path().join("clusters/orders-green/there")).unwrap();
    let there: serde_json::Value = serde_json::from_slice(&there).unwrap();
    assert_eq!(there["isolations"], serde_json::json!(["four", "one", "three", "two"]));
}

/// Whoever gives up while it is being made is not told that nothing is there, and finds it later.
#[tokio::test]
async fn the_example_for_terraform_tells_of_what_is_being_made() {
    if !there_is_python("the_example_for_terraform_tells_of_what_is_being_made") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let gate = directory.path().join("gate").to_str().expect("UTF-8").to_owned();
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let by = example(directory.path(), &[("GATE", &gate)]);
    let let_on = async || {
        let gate = gate.clone();
        tokio::task::spawn_blocking(move || std::fs::write(gate, "")).await.unwrap().unwrap();
    };
    let green = Colour::Green;

    let begin = async || {
        let error = by.provision(green, &"r".into()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    };
    provision::what_is_being_made_is_not_nothing(&by, green, begin).await;
    let error = by.describe(green).await.unwrap_err();
    assert!(error.kind == ErrorKind::Unavailable && error.reason.contains("under way"), "{error}");
    let_on().await;
    let made = until("it to stand", LIMIT, || async { by.describe(green).await.ok() }).await;
    let made = made.expect("what was begun is there");
    assert_eq!(made.id.as_str(), "green-1");
    let mark = RemovalMark { incarnation: made.id, cluster_id: "any".into() };
    assert_eq!(by.destroy(&mark).await.unwrap_err().kind, ErrorKind::Unavailable);
    assert!(by.describe(green).await.unwrap().is_some(), "something of it is left");
    let_on().await;
    let is_gone = || async { by.describe(green).await.unwrap().is_none().then_some(()) };
    until("it to be gone", LIMIT, is_gone).await;
    by.destroy(&mark).await.unwrap();
}
