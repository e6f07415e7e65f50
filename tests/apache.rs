//! Whole cutovers on real Apache Kafka. Each has the machine to itself: its traffic takes what the brokers leave.

use kutover_lab::{KafkaVersion, MachineTurn, Tools};
use kutover_tests::{assert_complete, assert_rolled_back, command, demo, demo_by, happened, number, tools};

/// Traffic that leaves most of the machine to the brokers, where its rate shows nothing.
const CALM: [&str; 2] = ["--rate", "1500"];

/// The machine, if these versions can be run here.
fn turn(test: &str, versions: &[&str]) -> Option<MachineTurn> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let versions: Vec<KafkaVersion> =
        versions.iter().map(|version| version.parse().expect("a version")).collect();
    let tools = runtime.block_on(tools(test, &versions))?;
    Some(runtime.block_on(tools.whole_machine()).expect("the machine"))
}

/// ZooKeeper-era to KRaft: what people replace clusters for.
#[test]
fn from_3_9_2_to_4_3_1() {
    let Some(_turn) = turn("from_3_9_2_to_4_3_1", &["3.9.2", "4.3.1"]) else { return };
    let (report, status) = demo(&["--kafka", "apache"]);
    assert_complete(&report, status, 8);
    assert_eq!(report["kafka"], "apache:3.9.2,4.3.1");
    // L16: both brokers began at id 0.
    assert!(happened(&report, "using up producer ids"), "{report}");
    assert!(happened(&report, "producer ids are separated"), "{report}");
    assert!(number(&report, "records_per_s") >= 5_000, "{report}");
    assert_ne!(report["blue"]["cluster_id"], report["green"]["cluster_id"]);
}

/// Back to a ZooKeeper-era cluster after a KRaft one has taken traffic, over the fences of both. Who has Apache Kafka on the
/// machine already needs no Maven, and nothing is fetched.
#[test]
fn a_rollback_from_4_3_1_to_3_9_2_on_kafka_directories_of_the_user() {
    let test = "a_rollback_from_4_3_1_to_3_9_2_on_kafka_directories_of_the_user";
    let Some(_turn) = turn(test, &["3.9.2", "4.3.1"]) else { return };
    let theirs = Tools::from_env().cache;
    let of = |version: &str| format!("{version}={}", theirs.join(format!("kafka-{version}")).display());
    let (blue, green) = (of("3.9.2"), of("4.3.1"));
    let cache = tempfile::tempdir().expect("a directory");
    let directories = ["--kafka-dir", &blue, "--kafka-dir", &green];
    let arguments = [&["--kafka", "apache", "--rollback"], &directories[..], &CALM].concat();
    let (report, status) = demo_by(command().env("KUTOVER_CACHE", cache.path()), &arguments);
    assert_rolled_back(&report, status);
    let fetched: Vec<_> =
        std::fs::read_dir(cache.path()).expect("listed").flatten().map(|it| it.file_name()).collect();
    assert!(!fetched.iter().any(|name| name.to_string_lossy().contains("kafka-")), "{fetched:?}");
}

/// Two ZooKeeper-era clusters on one ensemble, under /KafkaA and /KafkaB.
#[test]
fn two_clusters_on_one_ensemble() {
    let Some(_turn) = turn("two_clusters_on_one_ensemble", &["3.9.2"]) else { return };
    let (report, status) = demo(&["--kafka", "apache:3.9.2,3.9.2", "--producers", "4", CALM[0], CALM[1]]);
    assert_complete(&report, status, 4);
}

/// The recipe on real Kafka loses records too: the embedded clusters do not make it look worse than it is.
#[test]
fn the_recipe_loses_records_on_real_kafka() {
    let Some(_turn) = turn("the_recipe_loses_records_on_real_kafka", &["3.9.2", "4.3.1"]) else { return };
    let (report, status) = demo(&["--kafka", "apache", "--strategy", "recipe", CALM[0], CALM[1]]);
    assert_eq!((report["outcome"].as_str(), status), (Some("complete"), Some(0)));
    assert!(number(&report, "lost") > 0, "{report}");
}
