//! `up` that is ended half way and run again: it goes on, since the owner record outlives the program.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kutover_lab::embedded::{EmbeddedCluster, EmbeddedOptions};
use kutover_tests::{Ended, Run, command, existing, happened, kutover};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The quiet window leaves time to end the program in it.
fn configuration(clusters: [&EmbeddedCluster; 2]) -> String {
    existing(clusters, "quiet_window = \"8s\"\nconverge_deadline = \"8s\"\n")
}

/// Runs `up` until its log has a line with `sign`, sends it a signal, and gives its status and what it said.
fn interrupted_at(file: &str, sign: &str, signal: Signal) -> (Option<i32>, String) {
    let mut program = command();
    program.args(["up", "--json", file]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = Ended(program.spawn().expect("the program starts"));
    let log = BufReader::new(child.0.stderr.take().expect("its log"));
    let (tell, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut said = String::new();
    while !said.contains(sign) {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left);
        let line = line.unwrap_or_else(|error| panic!("`{sign}` was not said ({error}):\n{said}"));
        said.push_str(&line);
        said.push('\n');
    }
    kill_process(Pid::from_child(&child.0), signal).expect("it is told");
    let status = child.0.wait().expect("its end").code();
    reader.join().expect("its log was read");
    said.extend(lines.try_iter());
    (status, said)
}

fn report(run: &Run) -> Value {
    let last = run.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("no report ({error}):\n{}", run.stderr))
}

/// What is published for the endpoint, as text.
fn zone(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("orders.journal.zone")).expect("the zone is kept")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_goes_on_where_it_was_ended() {
    let blue = EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("blue");
    let green = EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("green");
    blue.fake().create_topic("orders", 3);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.toml");
    std::fs::write(&path, configuration([&blue, &green])).expect("written");
    let file = path.to_str().expect("UTF-8").to_owned();

    // Past the redirect, in the quiet window that stands in for a fence.
    let (status, said) = interrupted_at(&file, "● fencing", Signal::HUP);
    assert_eq!(status, Some(130), "{said}");
    let again =
        format!("nothing was undone, and what was done stands in the journal: run `kutover up {file}` again");
    assert!(said.contains(&again), "{said}");
    let plan = kutover(&["plan", "--watch", "1", "--json", &file]);
    assert!(plan.stderr.contains("a cutover is under way, and stands in fencing"), "{}", plan.stderr);
    assert_eq!(report(&plan)["under_way"], "fencing");

    let published = zone(directory.path());
    assert!(published.contains("generation=2;") && published.contains("127.8.8.2"), "{published}");

    let run = kutover(&["up", "--json", &file]);
    let second = report(&run);
    assert_eq!((second["outcome"].as_str(), run.status), (Some("complete"), Some(0)), "{second}");
    assert!(!happened(&second, "redirecting"), "it goes on, it does not begin again: {second}");
    assert!(happened(&second, "fencing") && happened(&second, "complete"), "{second}");
    let published = zone(directory.path());
    assert!(published.contains("generation=2;") && published.contains("active=green;"), "{published}");
    assert!(published.contains("127.8.8.2") && !published.contains("127.8.8.1"), "{published}");

    let run = kutover(&["up", "--json", &file]);
    let third = report(&run);
    assert_eq!((third["outcome"].as_str(), run.status), (Some("complete"), Some(0)), "{third}");
    assert!(happened(&third, "green is active already"), "{third}");
    assert!(zone(directory.path()).contains("generation=2;"));
}
