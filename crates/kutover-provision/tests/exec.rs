//! The `exec` provisioner against its port's contract, with the shell as the command.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use kutover_core::error::{ErrorKind, Outcome, ProviderError};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner as _, RecordData};
use kutover_core::words::Colour;
use kutover_provision::{ExecProvisioner, ExecSubject};
use kutover_testkit::conformance::provision;
use tokio::sync::oneshot;

const LIMIT: Duration = Duration::from_secs(20);
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster.sh");

fn by(command: &[&str], limit: Duration) -> ExecProvisioner {
    let subject = ExecSubject { deployment: "orders".into(), colour: Colour::Green };
    ExecProvisioner::new(command.iter().map(|&part| part.to_owned()).collect(), subject, limit)
}

/// Clusters that are files in a directory.
fn in_files(directory: &Path) -> ExecProvisioner {
    let state = directory.to_str().expect("UTF-8").to_owned();
    by(&["sh", SCRIPT], LIMIT).with_environment(BTreeMap::from([("STATE".to_owned(), state)]))
}

/// A command that says one thing, whatever it is asked.
fn saying(text: &str) -> ExecProvisioner {
    by(&["sh", "-c", "printf '%s' \"$0\"", text], LIMIT)
}

async fn refusal(provisioner: &ExecProvisioner) -> ProviderError {
    provisioner.provision(Colour::Green, &"r".into()).await.unwrap_err()
}

#[tokio::test]
async fn it_keeps_the_ports_contract() {
    let directory = tempfile::tempdir().unwrap();
    let files = in_files(directory.path());
    provision::nothing_there_is_none(&files, Colour::Green).await;
    let slow = directory.path().join("slow");
    std::fs::write(&slow, "").unwrap();
    let begin = async || {
        let error = files.provision(Colour::Green, &provision::request()).await.unwrap_err();
        assert_eq!((error.kind, error.outcome), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
    };
    provision::what_is_being_made_is_not_nothing(&files, Colour::Green, begin).await;
    std::fs::remove_file(&slow).unwrap();
    provision::check_all(&files, Colour::Green).await;
    let here = directory.path().join("green-B");
    let is_isolated = || {
        let names = std::fs::read_dir(&here).unwrap().map(|entry| entry.unwrap().file_name());
        names.into_iter().any(|name| name.to_string_lossy().starts_with("isolation-"))
    };
    let reaches = async |servers: &[String]| !is_isolated() || servers == ["controller.test:9092"];
    provision::an_isolation_is_undone_by_its_own_nonce(&files, Colour::Green, reaches).await;
    provision::the_marked_is_destroyed_for_good(&files, Colour::Green, &"cluster-of-conformance".into())
        .await;
}

#[tokio::test]
async fn the_command_is_told_everything_and_its_answer_is_the_incarnation() {
    let directory = tempfile::tempdir().unwrap();
    let files = in_files(directory.path());
    let made = files.provision(Colour::Green, &"orders-7".into()).await.unwrap();
    assert!(made.id.as_str().starts_with("orders-B-"), "{made:?}");
    assert_eq!(made.bootstrap, ["clients.test:9092"]);
    assert_eq!(made.controller_bootstrap, ["controller.test:9092"]);
    let addresses = ["127.0.0.1", "127.0.0.2"].map(|address| address.parse().unwrap());
    assert_eq!(made.endpoint, RecordData::Addresses(addresses.into()));
    // What another request finds there is not what it made.
    let error = files.provision(Colour::Green, &"orders-8".into()).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::Refused, Outcome::NotDone), "{error}");
    assert!(error.reason.contains("another request"), "{error}");

    files.isolate(&made.id, &"n".into()).await.unwrap();
    files.put_back(&made.id, &"n".into()).await.unwrap();
    let mark = RemovalMark { incarnation: made.id.clone(), cluster_id: "cluster-of-orders-7".into() };
    files.destroy(&mark).await.unwrap();
    let told = std::fs::read_to_string(directory.path().join("requests")).unwrap();
    let told: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let subject = serde_json::json!({
        "schema": "kutover.provisioner/1", "deployment": "orders", "colour": "green", "suffix": "B",
    });
    let expected = [
        serde_json::json!({"act": "provision", "request": "orders-7"}),
        serde_json::json!({"act": "provision", "request": "orders-8"}),
        serde_json::json!({"act": "isolate", "incarnation": made.id, "nonce": "n"}),
        serde_json::json!({"act": "put-back", "incarnation": made.id, "nonce": "n"}),
        serde_json::json!({"act": "describe"}),
        serde_json::json!({"act": "destroy", "incarnation": made.id, "cluster_id": "cluster-of-orders-7"}),
    ];
    for (told, mut expected) in told.iter().zip(&expected).map(|(told, expected)| (told, expected.clone())) {
        expected.as_object_mut().unwrap().extend(subject.as_object().unwrap().clone());
        assert_eq!(*told, expected);
    }
    assert_eq!(told.len(), expected.len());
}

/// L13: the command is not even asked where its own word says that another cluster lives there.
#[tokio::test]
async fn another_cluster_than_the_marked_is_never_destroyed() {
    let directory = tempfile::tempdir().unwrap();
    let files = in_files(directory.path());
    let made = files.provision(Colour::Green, &"orders-7".into()).await.unwrap();
    let mark = RemovalMark { incarnation: made.id.clone(), cluster_id: "other".into() };
    let error = files.destroy(&mark).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::Refused, Outcome::NotDone), "{error}");
    assert!(error.reason.contains("cluster-of-orders-7") && error.reason.contains("other"), "{error}");
    let told = std::fs::read_to_string(directory.path().join("requests")).unwrap();
    assert!(!told.contains("destroy"), "{told}");
    let gone = RemovalMark { incarnation: "long-gone".into(), ..mark };
    files.destroy(&gone).await.unwrap();
    assert_eq!(files.describe(Colour::Green).await.unwrap(), Some(made));
}

#[tokio::test]
async fn what_it_says_of_itself_is_an_error_of_that_kind() {
    for (said, kind, outcome, words) in [
        (r#"{"refused": "no quota"}"#, ErrorKind::Refused, Outcome::NotDone, "no quota"),
        (r#"{"pending": "3 of 9"}"#, ErrorKind::Unavailable, Outcome::Unknown, "under way: 3 of 9"),
        (r#"{"unsupported": "not here"}"#, ErrorKind::Unsupported, Outcome::NotDone, "not here"),
        ("{}", ErrorKind::Invalid, Outcome::Unknown, "reply with `incarnation`"),
        ("", ErrorKind::Invalid, Outcome::Unknown, "kutover.provisioner/1"),
        ("Applying...\n{}", ErrorKind::Invalid, Outcome::Unknown, "write all else to standard error"),
        (r#"{"incarnatoin": null}"#, ErrorKind::Invalid, Outcome::Unknown, "incarnatoin"),
        (
            r#"{"incarnation": {"id": "a", "bootstrap": [], "endpoint": {"cname": "x"}}}"#,
            ErrorKind::Invalid,
            Outcome::Unknown,
            "must not be empty",
        ),
        (
            r#"{"incarnation": {"id": "a", "bootstrap": ["a:1"], "endpoint": {"addresses": []}}}"#,
            ErrorKind::Invalid,
            Outcome::Unknown,
            "`endpoint.addresses` is empty",
        ),
    ] {
        let error = refusal(&saying(said)).await;
        assert_eq!((error.kind, error.outcome), (kind, outcome), "{said}: {error}");
        assert!(error.to_string().contains(words), "{said}: {error}");
    }
    let cannot = saying(r#"{"unsupported": "not here"}"#);
    let error = cannot.isolate(&"i".into(), &"n".into()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
    cannot.put_back(&"i".into(), &"n".into()).await.unwrap();
    // Looking changes nothing: whatever becomes of it, nothing was done.
    let error = saying("?").describe(Colour::Green).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::Invalid, Outcome::NotDone), "{error}");
    // L13: a reply that does not speak of it is no word that nothing stands there, neither to see nor to have destroyed.
    let empty = saying("{}");
    let mark = RemovalMark { incarnation: "i".into(), cluster_id: "c".into() };
    for error in [empty.describe(Colour::Green).await.unwrap_err(), empty.destroy(&mark).await.unwrap_err()] {
        assert_eq!((error.kind, error.outcome), (ErrorKind::Invalid, Outcome::NotDone), "{error}");
        assert!(error.reason.contains("{\"incarnation\": null} where nothing stands"), "{error}");
    }
    let nothing = saying(r#"{"incarnation": null}"#);
    assert_eq!(nothing.describe(Colour::Green).await.unwrap(), None);
    nothing.destroy(&mark).await.unwrap();
    let error = saying("{}").describe(Colour::Blue).await.unwrap_err();
    assert!(error.to_string().contains("for green"), "{error}");
    let plain = r#"{"incarnation": {"id": "a", "bootstrap": ["a:1"], "endpoint": {"cname": "LB.test."}}}"#;
    let made = saying(plain).provision(Colour::Green, &"r".into()).await.unwrap();
    assert_eq!(made.controller_bootstrap, made.bootstrap);
    assert_eq!(made.endpoint, RecordData::Cname("lb.test".into()));
}

#[tokio::test]
async fn a_failed_command_is_quoted_without_its_secrets() {
    let secrets = BTreeMap::from([("TOKEN".to_owned(), "hunter2".to_owned())]);
    let failing = by(&["sh", "-c", "echo first >&2; echo \"no access with $TOKEN\" >&2; exit 3"], LIMIT)
        .with_environment(secrets.clone());
    let error = refusal(&failing).await;
    assert_eq!((error.kind, error.outcome), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
    assert!(error.reason.contains("no access with ***"), "{error}");
    for said in [
        "printf '{\"refused\": \"%s\"}' \"$TOKEN\"",
        "printf '{\"pending\": \"%s\"}' \"$TOKEN\"",
        "printf '\"%s\"' \"$TOKEN\"",
    ] {
        let error = refusal(&by(&["sh", "-c", said], LIMIT).with_environment(secrets.clone())).await;
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    assert!(!format!("{failing:?}").contains("hunter2"), "{failing:?}");
    let error = refusal(&by(&["no-such-program"], LIMIT)).await;
    assert_eq!((error.kind, error.outcome), (ErrorKind::Invalid, Outcome::NotDone), "{error}");
}

/// Whatever a secret looks like, and wherever what is said is cut, nothing of it is shown.
#[tokio::test]
async fn secrets_of_several_lines_and_ones_that_overlap_are_not_shown() {
    let secrets = [
        ("KEY", "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\n9w0BAQEFAASCBKcwggSj\nend\n"),
        ("LOGIN", "admin:swordfish"),
        ("PASSWORD", "swordfish-2"),
        ("PREFIX", "sword"),
    ];
    let secrets: BTreeMap<_, _> = secrets.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    for (said, shown) in [
        // The last line that it said is one of the secret's.
        ("echo \"bad key: $KEY\" | head -n 3 >&2; exit 1", "***"),
        ("echo no access for admin:swordfish-2 >&2; exit 1", "no access for ***"),
        ("echo swordfish >&2; exit 1", "***fish"),
        ("awk 'BEGIN { while (n++ < 395) printf \"x\"; print ENVIRON[\"LOGIN\"] }' >&2; exit 1", "xx***"),
    ] {
        let failing = by(&["sh", "-c", said], LIMIT).with_environment(secrets.clone());
        let error = refusal(&failing).await;
        assert!(error.reason.ends_with(shown), "{said}: {error}");
    }
    let whole = r#"{"refused": "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\n9w0BAQEFAASCBKcwggSj\nend\n"}"#;
    let error = refusal(&saying(whole).with_environment(secrets)).await;
    assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::Refused, "***"), "{error}");
}

/// What a command has started ends with it when nobody waits for it any more: two runs do not get in each other's way.
#[tokio::test]
async fn what_a_command_has_started_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_str().expect("UTF-8");
    let held = directory.path().join("held");
    assert!(std::process::Command::new("mkfifo").arg(&held).status().unwrap().success());
    let ((tell_opened, opened), (tell_ended, ended)) = (oneshot::channel(), oneshot::channel());
    std::thread::spawn(move || {
        // Both wait for whoever writes: until somebody does, and until nobody does any more.
        let mut held = std::fs::File::open(held).unwrap();
        tell_opened.send(()).unwrap();
        let _ = held.read_to_end(&mut Vec::new());
        let _ = tell_ended.send(());
    });
    let script = "mkfifo \"$0/pipe\"; (exec >\"$0/held\"; cat \"$0/pipe\") & wait";
    let hanging = by(&["sh", "-c", script, at], LIMIT);
    tokio::select! {
        error = refusal(&hanging) => panic!("it hangs: {error}"),
        opened = opened => opened.unwrap(),
    }
    tokio::time::timeout(LIMIT, ended).await.expect("what it has started goes on").unwrap();
}

/// It reads a pipe that nobody ever writes to.
#[tokio::test]
async fn a_command_that_hangs_is_ended_and_nothing_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_str().expect("UTF-8");
    let hanging =
        by(&["sh", "-c", "mkfifo \"$0\"/pipe && exec cat \"$0\"/pipe", at], Duration::from_millis(200));
    let error = refusal(&hanging).await;
    assert_eq!((error.kind, error.outcome), (ErrorKind::Unreachable, Outcome::Unknown), "{error}");
}
