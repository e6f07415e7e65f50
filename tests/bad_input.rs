//! Bad input: a clear error that names the thing and the fix, exit status 2, and nothing done.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;

use kutover_lab::embedded::{EmbeddedCluster, EmbeddedOptions};
use kutover_tests::{command, existing, kutover, run};

fn refused(arguments: &[&str], words: &[&str]) {
    let run = kutover(arguments);
    assert_eq!(run.status, Some(2), "{arguments:?}: {}", run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "{arguments:?}: `{word}` is not in: {}", run.stderr);
    }
    assert!(run.stdout.is_empty(), "{arguments:?}: {}", run.stdout);
}

#[test]
fn unknown_options_and_values() {
    refused(&["demo", "--colour", "red"], &["--colour", "--help"]);
    refused(&["demo", "--kafka", "apache:3.9.2,9.9.9"], &["9.9.9", "3.9.2", "4.3.1"]);
    let apache = ["demo", "--kafka", "apache", "--kafka-dir"];
    refused(&[&apache[..], &["4.3.1"]].concat(), &["--kafka-dir", "4.3.1=/opt/kafka"]);
    refused(&[&apache[..], &["9.9.9=/opt/kafka"]].concat(), &["--kafka-dir", "9.9.9", "4.3.1"]);
    refused(&[&apache[..], &["2.8.2=/opt/kafka"]].concat(), &["--kafka-dir", "2.8.2", "apache:3.9.2,4.3.1"]);
    refused(&["demo", "--producers", "0"], &["--producers", "1"]);
    refused(&["demo", "--strategy", "hope"], &["hope", "kutover", "recipe", "dns-only"]);
    refused(&["demo", "--strategy", "recipe", "--trouble", "abort"], &["--trouble", "--strategy kutover"]);
    refused(
        &["demo", "--strategy", "recipe", "--hand-over", "overlap"],
        &["--hand-over", "--strategy kutover"],
    );
    refused(&["demo", "--warm-up", "150"], &["--warm-up 150", "--limit is 300"]);
    refused(&["demo", "--kafka", "apache", "--trouble", "broker-dies"], &["--trouble", "embedded"]);
    refused(&["up"], &["FILE"]);
    refused(&["plan"], &["FILE"]);
    refused(&["check"], &["FILE"]);
    refused(&["plan", "orders.toml", "--watch", "0"], &["--watch", "from 1 to 3600"]);
}

const FILE: &str = r#"
deployment = "orders"
journal = "orders.journal"
endpoints = [{ name = "kafka.orders.test", port = 9092 }]

[dns]
kind = "local"
zone = "orders.test"
listen = "127.0.0.1:0"
ttl_s = 1

[clusters.blue.provisioner]
kind = "static"
bootstrap = ["127.0.0.1:1"]
endpoint = { addresses = ["127.0.0.1"] }

[clusters.green.provisioner]
kind = "static"
bootstrap = ["127.0.0.1:2"]
endpoint = { addresses = ["127.0.0.2"] }
"#;

fn up_with(text: &str, words: &[&str]) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.toml");
    std::fs::write(&path, text).expect("written");
    for command in ["up", "plan", "check"] {
        refused(&[command, path.to_str().expect("UTF-8")], words);
    }
}

#[test]
fn bad_configuration_names_the_field() {
    refused(&["up", "no-such-file.toml"], &["no-such-file.toml"]);
    refused(&["plan", "no-such-file.toml"], &["no-such-file.toml"]);
    up_with(&FILE.replace("ttl_s = 1", "ttl_s = 0"), &["orders.toml", "dns.ttl_s", "write"]);
    up_with(&FILE.replace("deployment", "deployement"), &["deployement", "deployment"]);
    up_with(
        &FILE.replace("kind = \"static\"\nbootstrap = [\"127.0.0.1:1\"]", "kind = \"magic\""),
        &["magic", "static"],
    );
    up_with(&FILE.replace("127.0.0.1:0", "0.0.0.0:5353"), &["dns.listen", "0.0.0.0:5353", "loopback"]);
    up_with(&FILE.replace("orders.test", "localhost"), &["dns.zone", "RFC 6761"]);
    let itself = "endpoint = { cname = \"kafka.orders.test\" }";
    up_with(
        &FILE.replacen("endpoint = { addresses = [\"127.0.0.1\"] }", itself, 1),
        &["clusters.blue.provisioner.endpoint", "a CNAME to itself"],
    );
    up_with(&FILE.replace("[\"127.0.0.1:1\"]", "[]"), &["clusters.blue", "`bootstrap` is empty"]);
    up_with(&format!("{FILE}\n[plan]\nsoak = \"soon\"\n"), &["plan.soak", "soon"]);
    up_with(&FILE.replace("[dns]", "[dns"), &["orders.toml", "line"]);
    up_with(
        &format!("{FILE}\n[plan]\nwaive_streams = \"counts\"\n"),
        &["plan.waive_streams", "[\"counts\"]"],
    );
    up_with(&format!("{FILE}\n[plan]\nwaive_unread = [\"a b\"]\n"), &["plan.waive_unread", "a b"]);
    let weak = format!("{FILE}\n[clusters.green.properties]\nacks = \"1\"\n");
    up_with(&weak, &["clusters.green.properties", "acks"]);
}

/// All of it at once where it can be told: from the file's tables, and then from what stands elsewhere.
#[test]
fn a_check_names_more_than_the_first_fault() {
    let tables = FILE.replace("ttl_s = 1", "ttl_s = 0") + "\n[plan]\nsoak = \"20 days\"\n";
    let secrets = FILE.replace(
        "kind = \"local\"\nzone = \"orders.test\"\nlisten = \"127.0.0.1:0\"",
        "kind = \"rfc2136\"\nzone = \"orders.test\"\nserver = \"127.0.0.1:1\"\nkey_name = \"k\"\n\
         secret = { file = \"no-such-file\" }",
    ) + "\n[clusters.green.properties]\nacks = \"1\"\n";
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.toml");
    let path = path.to_str().expect("UTF-8");
    for (text, fields) in
        [(tables, ["dns.ttl_s", "plan.soak"]), (secrets, ["clusters.green.properties", "dns.secret"])]
    {
        std::fs::write(path, text).expect("written");
        let run = kutover(&["check", path, "--json"]);
        assert_eq!(run.status, Some(2), "{}", run.stderr);
        let report: serde_json::Value = serde_json::from_str(run.stdout.trim()).expect("a report");
        let faults = report["faults"].as_array().expect("faults");
        let named: Vec<_> = faults.iter().filter_map(|fault| fault["field"].as_str()).collect();
        assert_eq!(named, fields, "{report}");
        for field in fields {
            assert!(run.stderr.contains(field), "{}", run.stderr);
        }
    }
}

/// What is kept on AWS is looked at as far as that goes without AWS: a program that was built without it, or no region.
#[test]
fn a_check_says_what_is_missing_for_aws() {
    let local = "kind = \"local\"\nzone = \"orders.test\"\nlisten = \"127.0.0.1:0\"";
    let records = FILE.replace(local, "kind = \"route53\"\nzone = \"orders.test\"");
    let journal = records.replace("\"orders.journal\"", "\"s3://bucket/orders.journal\"");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.toml");
    for text in [records, journal] {
        std::fs::write(&path, text).expect("written");
        for arguments in ["check", "up"] {
            let mut command = command();
            for name in ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"] {
                command.env_remove(name);
            }
            command.env("AWS_EC2_METADATA_DISABLED", "true");
            command.env("AWS_CONFIG_FILE", directory.path().join("none"));
            let run = run(command.arg(arguments).arg(&path));
            assert_eq!(run.status, Some(2), "{arguments}: {}", run.stderr);
            assert!(
                run.stderr.contains("field `") && run.stderr.contains("aws"),
                "{arguments}: {}",
                run.stderr
            );
        }
    }
}

/// Offline nothing is asked for; online each part is said for itself, and nothing is left behind.
#[test]
fn a_check_online_names_what_does_not_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.toml");
    std::fs::write(&path, FILE).expect("written");
    let path = path.to_str().expect("UTF-8");
    let run = kutover(&["check", path]);
    assert_eq!((run.status, run.stdout.as_str()), (Some(0), ""), "{}", run.stderr);
    let run = kutover(&["check", path, "--online"]);
    assert_eq!(run.status, Some(4), "{}", run.stderr);
    for line in ["ok      journal: ", "ok      dns: ", "FAILED  cluster blue: ", "FAILED  cluster green: "] {
        assert!(run.stderr.contains(line), "`{line}` is not in: {}", run.stderr);
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), 1, "nothing is left behind");
}

/// Workers that do not answer, and a client that is to prove fences and is not let in, are parts of their own: the clusters
/// beside them are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_online_reaches_workers_and_the_client_that_proves_fences() {
    let start = || async { EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("a cluster") };
    let (blue, green) = tokio::join!(start(), start());
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.toml");
    let check = |tables: &str| {
        let text = existing([&blue, &green], "").replace("\n[plan]\n", &format!("\n{tables}[plan]\n"));
        std::fs::write(&path, text).expect("written");
        kutover(&["check", path.to_str().expect("UTF-8"), "--online"])
    };
    let sound = check("");
    assert_eq!(sound.status, Some(0), "{}", sound.stderr);
    assert!(sound.stderr.contains("ok      probe blue: ") && sound.stderr.contains("ok      probe green: "));
    assert!(!sound.stderr.contains("connect blue"), "{}", sound.stderr);

    let mut tables = String::new();
    for colour in ["blue", "green"] {
        // Nobody listens on a port that was taken and given back.
        let dead = TcpListener::bind("127.0.0.1:0").and_then(|taken| taken.local_addr()).expect("a port");
        tables += &format!("[clusters.{colour}.connect]\nurl = \"http://{dead}\"\n\n");
    }
    // These listeners know no SASL.
    tables += "[clusters.blue.probe_properties]\n\"security.protocol\" = \"SASL_PLAINTEXT\"\n\
               \"sasl.mechanism\" = \"PLAIN\"\n\"sasl.username\" = \"probe\"\n\
               \"sasl.password\" = \"planted-5d1c-probes\"\n\n";
    let run = check(&tables);
    assert_eq!(run.status, Some(4), "{}", run.stderr);
    for line in [
        "ok      cluster blue: ",
        "FAILED  probe blue: ",
        "FAILED  connect blue: ",
        "ok      cluster green: ",
        "ok      probe green: ",
        "FAILED  connect green: ",
    ] {
        assert!(run.stderr.contains(line), "`{line}` is not in: {}", run.stderr);
    }
    assert!(!run.stderr.contains("planted-5d1c-probes"), "{}", run.stderr);
}

/// Nothing listens where the configuration says: the plan says so of each colour, and makes no file.
#[test]
fn a_plan_names_clusters_that_do_not_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.toml");
    std::fs::write(&path, FILE).expect("written");
    let run = kutover(&["plan", path.to_str().expect("UTF-8"), "--watch", "1", "--json"]);
    assert_eq!(run.status, Some(4), "{}", run.stderr);
    for word in ["blue: ", "green: ", "127.0.0.1:1", "127.0.0.1:2"] {
        assert!(run.stderr.contains(word), "`{word}` is not in: {}", run.stderr);
    }
    assert!(run.stdout.contains("\"outcome\":\"unreachable\""), "{}", run.stdout);
    assert_eq!(
        std::fs::read_dir(directory.path()).expect("listed").count(),
        1,
        "a plan leaves nothing behind"
    );
}

#[test]
fn a_plan_names_a_damaged_zone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.toml");
    std::fs::write(&path, FILE).expect("written");
    std::fs::write(directory.path().join("orders.journal.zone"), "nonsense").expect("written");
    let run = kutover(&["plan", path.to_str().expect("UTF-8"), "--watch", "1"]);
    assert_eq!(run.status, Some(4), "{}", run.stderr);
    assert!(run.stderr.contains("orders.journal.zone") && run.stderr.contains("damaged"), "{}", run.stderr);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.toml");
    std::fs::write(&path, FILE.replace("127.0.0.1:0", &address)).expect("written");
    let run = kutover(&["up", path.to_str().expect("UTF-8")]);
    assert_eq!(run.status, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains(&address) && run.stderr.contains("in use"), "{}", run.stderr);
}

#[test]
fn a_damaged_journal_is_named_with_its_entry() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.toml");
    std::fs::write(&path, FILE).expect("written");
    let damaged = [
        ("this is no journal\nat all\n", "first line"),
        ("kutover-journal 1\n00000002 5d1f02c3 9a0b11e4 {}\n", "entry 0"),
    ];
    for (text, place) in damaged {
        std::fs::write(directory.path().join("orders.journal"), text).expect("written");
        let run = kutover(&["up", path.to_str().expect("UTF-8")]);
        assert_eq!(run.status, Some(2), "{}", run.stderr);
        let named = ["orders.journal", place, "restore the file from a copy"];
        assert!(named.iter().all(|word| run.stderr.contains(word)), "{named:?}: {}", run.stderr);
    }
    std::fs::write(&path, FILE.replace("orders.journal", "/dev/full")).expect("written");
    let run = kutover(&["up", path.to_str().expect("UTF-8")]);
    assert_eq!(run.status, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("/dev/full") && run.stderr.contains("not a regular file"), "{}", run.stderr);
}

/// Runs the Apache demo with a `java` of the test's own.
fn with_java(script: &str, words: &[&str]) {
    let directory = tempfile::tempdir().expect("a directory");
    make_program(&directory.path().join("java"), script);
    let run = run(command()
        .args(["demo", "--kafka", "apache"])
        .env_remove("JAVA_HOME")
        .env("KUTOVER_CACHE", directory.path().join("cache"))
        .env("PATH", directory.path()));
    assert!(matches!(run.status, Some(1 | 2)), "{}", run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "`{word}` is not in: {}", run.stderr);
    }
}

fn make_program(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

#[test]
fn java_that_is_too_old_is_named_with_what_is_needed() {
    with_java(r#"echo 'openjdk version "1.7.0_80"' >&2"#, &["Java 7", "4.3.1 need Java 17", "JAVA_HOME"]);
}

#[test]
fn maven_that_is_missing_is_named() {
    with_java(r#"echo 'openjdk version "17.0.15"' >&2"#, &["mvn"]);
}
