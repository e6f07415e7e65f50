//! The drain proof of ten thousand pairs of group and partition on real Apache Kafka, by the program that `cargo xtask bench
//! drain` runs. It fails by itself where the proof or Kafka's own tool looks at fewer, or where not just those groups are behind
//! that are; what either takes is not judged.

use std::process::{Command, Stdio};

use kutover_lab::{KafkaVersion, Tools};
use serde_json::Value;

const TEST: &str = "many_groups_are_proven";

#[tokio::test]
async fn many_groups_are_proven() {
    if let Err(missing) = Tools::from_env().ready(KafkaVersion::new(4, 3, 1)).await {
        return kutover_testkit::skip(TEST, &missing.to_string());
    }
    let size = ["--rounds", "1", "--groups", "200", "--topics", "10", "--partitions", "50"];
    let mut bench = Command::new(env!("CARGO_BIN_EXE_kutover-bench"));
    bench.args(["drain", "--json"]).args(size).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = bench.output().expect("it runs");
    assert!(output.status.success(), "{}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!((&report["pairs"], &report["partitions"]), (&10_000.into(), &500.into()), "{report}");
}
