//! What a worker says in one moment and not in the next: it reads the offsets' topic behind, and a connector's tasks come
//! after the connector.

mod answer;

use std::net::TcpListener;
use std::thread::JoinHandle;

use kutover_connect::{ConnectOptions, HttpConnect};
use kutover_core::error::ErrorKind;
use kutover_core::ports::{ConnectAdmin as _, ConnectorState, SourceOffsets};
use serde_json::json;

const STOPPED: &str =
    r#"{"name":"files","connector":{"state":"STOPPED","worker_id":"w"},"tasks":[],"type":"source"}"#;
const NOTHING: &str = r#"{"offsets":[]}"#;
const A: &str = r#"{"offsets":[{"partition":{"file":"a"},"offset":{"position":1}}]}"#;
const BOTH: &str = r#"{"offsets":[{"partition":{"file":"a"},"offset":{"position":1}},{"partition":{"file":"b"},"offset":{"position":2}}]}"#;
const B_AND_NO_A: &str = r#"{"offsets":[{"partition":{"file":"a"},"offset":null},{"partition":{"file":"b"},"offset":{"position":2}}]}"#;
const B: &str = r#"{"offsets":[{"partition":{"file":"b"},"offset":{"position":2}}]}"#;

/// As Kafka Connect 3.9.2 words it, with status 500.
const REBALANCES: &str =
    r#"{"error_code":500,"message":"Request cannot be completed because a rebalance is expected"}"#;

/// A worker that has these answers, and what it was asked.
fn worker(answers: Vec<&'static str>) -> (HttpConnect, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let served = std::thread::spawn(move || {
        let serve = |body| {
            let (mut stream, _) = listener.accept().expect("a connection");
            let status = if body == REBALANCES { "500 Internal Server Error" } else { "200 OK" };
            answer::one(&mut stream, |_| (status, body)).expect("a request")
        };
        answers.into_iter().map(serve).collect()
    });
    let options = ConnectOptions { url, ..ConnectOptions::default() };
    (HttpConnect::new(&options).expect("a client"), served)
}

fn offsets(of: &[(&str, u32)]) -> SourceOffsets {
    let mut offsets = SourceOffsets::default();
    of.iter().for_each(|(file, position)| {
        offsets.insert(json!({ "file": file }), json!({ "position": position }));
    });
    offsets
}

/// A source that begins on green without one of its partitions reads that one again, or not at all.
#[tokio::test]
async fn a_partition_of_which_the_worker_has_not_heard_yet_is_waited_for() {
    let (connect, served) = worker(vec![A, BOTH, BOTH]);
    let found = connect.offsets(&"files".into()).await.expect("offsets");
    assert!(found == offsets(&[("a", 1), ("b", 2)]), "{found:?}");
    assert_eq!(served.join().expect("it served").len(), 3);
}

#[tokio::test]
async fn a_partition_without_an_offset_is_none() {
    let (connect, _served) = worker(vec![B_AND_NO_A, B]);
    let found = connect.offsets(&"files".into()).await.expect("offsets");
    assert!(found == offsets(&[("b", 2)]), "{found:?}");
}

#[tokio::test]
async fn offsets_are_altered_when_that_is_seen() {
    let (connect, served) = worker(vec![STOPPED, A, A, NOTHING, A, A, B, B]);
    connect.alter_offsets(&"files".into(), &offsets(&[("b", 2)])).await.expect("altered");
    let asked = served.join().expect("it served");
    let (head, body) = asked[3].split_once("\r\n\r\n").expect("a request with a body");
    assert!(head.starts_with("PATCH /connectors/files/offsets "), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    // What is not named would keep its offset.
    let wanted = json!([
        { "partition": { "file": "a" }, "offset": null },
        { "partition": { "file": "b" }, "offset": { "position": 2 } },
    ]);
    assert_eq!(body["offsets"], wanted);
}

const UNDIVIDED: &str = r#"{"name":"files","config":{},"tasks":[],"type":"sink"}"#;
const OF_TWO: &str = r#"{"name":"files","config":{},"tasks":[{"connector":"files","task":0},{"connector":"files","task":1}],"type":"sink"}"#;
const ACCEPTED: &str = "{}";
const NO_TASK: &str = r#"{"connector":{"state":"RUNNING"},"tasks":[],"type":"sink"}"#;
const ONE_TASK: &str =
    r#"{"connector":{"state":"RUNNING"},"tasks":[{"id":0,"state":"RUNNING"}],"type":"sink"}"#;
const BOTH_TASKS: &str = r#"{"connector":{"state":"RUNNING"},"tasks":[{"id":0,"state":"RUNNING"},{"id":1,"state":"RUNNING"}],"type":"sink"}"#;
const ONE_FAILED: &str = r#"{"connector":{"state":"RUNNING"},"tasks":[{"id":0,"state":"RUNNING"},{"id":1,"state":"FAILED"}],"type":"sink"}"#;

/// What comes before the tasks of a connector that is to run.
const BEFORE: [&str; 6] = [UNDIVIDED, ACCEPTED, UNDIVIDED, NO_TASK, OF_TWO, ONE_TASK];

#[tokio::test]
async fn a_connector_runs_once_all_its_tasks_do() {
    let (connect, served) = worker([&BEFORE[..], &[OF_TWO, BOTH_TASKS]].concat());
    connect.set_state(&"files".into(), ConnectorState::Running).await.expect("it runs");
    let asked = served.join().expect("it served");
    assert!(asked[1].starts_with("PUT /connectors/files/resume "), "{}", asked[1]);
    assert_eq!(asked.len(), BEFORE.len() + 2);
}

/// It was resumed already: to say that it was not, and resume it anew, would be wrong.
#[tokio::test]
async fn workers_that_rebalance_for_it_are_looked_at_again() {
    let (connect, served) =
        worker(vec![UNDIVIDED, ACCEPTED, REBALANCES, OF_TWO, REBALANCES, OF_TWO, BOTH_TASKS]);
    connect.set_state(&"files".into(), ConnectorState::Running).await.expect("it runs");
    let asked = served.join().expect("it served");
    assert_eq!(asked.iter().filter(|one| one.starts_with("PUT ")).count(), 1, "{asked:?}");
}

/// Its first tasks ran, or none was there yet: that is no success.
#[tokio::test]
async fn a_task_that_fails_a_moment_later_is_seen() {
    let (connect, _served) = worker([&BEFORE[..], &[OF_TWO, ONE_FAILED]].concat());
    let error = connect.set_state(&"files".into(), ConnectorState::Running).await.expect_err("it failed");
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("has failed"), "{error}");
}
