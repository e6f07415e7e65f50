//! What a plan tells while somebody writes and a group reads: its figures, and the text for a person.

use std::path::Path;

use krafka::{Kafka, Record};
use kutover_tests::kutover;
use kutover_tests_kafka::clients::commit;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// It reads `orders` for as long as somebody writes there, and stays so many records behind.
const TAILING: &str = "tailing";
const BEHIND: i64 = 10;

/// A producer of partition 0 of `orders`, and a group that follows it.
pub(super) struct Traffic {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Traffic {
    /// Each partition has so many records by now.
    pub(super) async fn start(kafka: &Kafka, records: i64) -> Self {
        commit(kafka, TAILING, "orders", 2, records).await;
        let (stop, mut stopped) = oneshot::channel();
        let kafka = kafka.clone();
        let task = tokio::spawn(async move {
            let producer = kafka.producer().metrics_push(false).build().await.expect("a producer");
            let mut end = records;
            while stopped.try_recv().is_err() {
                let _stored =
                    producer.send(Record::new("orders", "more").partition(0)).await.expect("stored");
                end += 1;
                commit(&kafka, TAILING, "orders", 1, records.max(end - BEHIND)).await;
            }
            commit(&kafka, TAILING, "orders", 1, end).await;
            producer.close().await.expect("closed");
        });
        Self { stop, task }
    }

    /// It ends, and the group has read everything.
    pub(super) async fn stop(self) {
        let _sent = self.stop.send(());
        self.task.await.expect("it wrote");
    }
}

/// The group reads, and so it is told how long it takes to read what is unread. All that must drain has been read as soon as
/// this group has: the others are waived.
pub(super) fn assert_figures(refused: &Value, ready: &Value) {
    for plan in [refused, ready] {
        let tailing = group(plan, TAILING);
        let [lag, read, drain_ms] =
            ["lag", "read", "drain_ms"].map(|name| tailing[name].as_u64().unwrap_or(0));
        // A record more may be stored than is committed on by then.
        let behind = u64::try_from(BEHIND).expect("a count");
        assert!((1..=behind + 1).contains(&lag) && read > 0, "{tailing}");
        let over = plan["measured_over_ms"].as_u64().expect("a time");
        assert_eq!(drain_ms, lag * over / read, "{tailing}, over {over} ms");
        assert_eq!((&tailing["lost"], tailing["standing"].as_str()), (&0.into(), Some("required")));
        assert_eq!(tailing["topics"], serde_json::json!(["orders"]), "{tailing}");
    }
    let estimates = &ready["estimates"];
    assert_eq!(estimates["drain_ms"], group(ready, TAILING)["drain_ms"], "{estimates}");
    // One that has stopped never drains.
    let billing = group(refused, "billing");
    assert!(billing["lag"].as_u64().is_some_and(|lag| lag >= 60) && billing["read"] == 0, "{billing}");
    assert!(billing["drain_ms"].is_null() && refused["estimates"]["drain_ms"].is_null(), "{refused}");
}

fn group<'a>(plan: &'a Value, name: &str) -> &'a Value {
    let mut all = plan["groups"].as_array().expect("groups").iter();
    all.find(|group| group["group"] == name).unwrap_or_else(|| panic!("{name} is not in {plan}"))
}

/// Runs the plan for a person, and gives what it says with the exit status.
pub(super) async fn text(file: &Path) -> (String, Option<i32>) {
    let file = file.to_str().expect("UTF-8").to_owned();
    let run = tokio::task::spawn_blocking(move || kutover(&["plan", &file, "--watch", "2"]));
    let run = run.await.expect("it ran");
    assert_eq!(run.stdout, "", "that is for programs");
    (run.stderr, run.status)
}

/// What is in the other plan, a person is told too: each thing that it is refused over, with what waives it, and the groups as
/// a table.
pub(super) fn assert_told(text: &str, plan: &Value) {
    let refusals = plan["refusals"].as_array().expect("refusals");
    let (_, told) = text.split_once("\nRefused over:\n").unwrap_or_else(|| panic!("{text}"));
    for refusal in refusals {
        let waiver = match (&refusal["waiver"]["field"], &refusal["waiver"]["value"]) {
            (Value::String(field), Value::String(value)) => format!(" (or waive it: {field} = {value})"),
            _ => String::new(),
        };
        // Numbers differ from one look to the next.
        let [reason, subject] = ["reason", "subject"].map(|part| refusal[part].as_str().expect("text"));
        let begin: String = reason.chars().take_while(|letter| !letter.is_ascii_digit()).collect();
        let mut lines = told.lines().filter(|line| line.starts_with(&format!("  - {begin}")));
        assert!(lines.any(|line| line.ends_with(&waiver)), "{subject}: {reason}{waiver}\n{told}");
    }
    let count = refusals.len();
    assert!(told.ends_with(&format!("\nplan blue → green: refused, over {count} things\n")), "{told}");
    for line in ["plan.waive_history = [\"orders\"]", "plan.waive_transactions = [\"pay-1\"]"] {
        assert!(told.contains(&format!("(or waive it: {line})\n")), "{told}");
    }
    let (_, table) = text.split_once("\nGroups:\n").unwrap_or_else(|| panic!("{text}"));
    let mut rows = table.lines().take_while(|line| !line.is_empty()).map(cells);
    let header = ["group", "protocol", "state", "members", "lag", "records/s", "drained in", "lost"];
    assert_eq!(rows.next().as_deref(), Some(&header.map(str::to_owned)[..]), "{table}");
    let rows: Vec<Vec<String>> = rows.collect();
    let row = |name: &str| {
        let mut rows = rows.iter().filter(|row| row[0] == name);
        rows.next().unwrap_or_else(|| panic!("{name} in {table}"))
    };
    let [name, standing, protocol, state, members, lag, pace, time, lost] = &row("billing")[..] else {
        panic!("{table}")
    };
    assert_eq!([name, standing, protocol, state, members].map(String::as_str), BILLING);
    assert!(lag.parse::<u64>().is_ok_and(|lag| lag >= 60), "{table}");
    assert_eq!([pace, time, lost].map(String::as_str), ["0.0", "not known", "0"]);
    let [.., lag, pace, time, _] = &row(TAILING)[..] else { panic!("{table}") };
    assert!(lag.parse::<u64>().is_ok_and(|lag| lag > 0), "{table}");
    assert!(pace.parse::<f64>().is_ok_and(|pace| pace > 0.0) && time.ends_with(" s"), "{table}");
}

const BILLING: [&str; 5] = ["billing", "must drain", "Classic", "Empty", "0"];

/// Columns are two spaces apart at least; the second of the header is empty.
fn cells(line: &str) -> Vec<String> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
}
