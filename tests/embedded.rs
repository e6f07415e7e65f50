//! Whole cutovers on embedded clusters.

use kutover_tests::{assert_complete, assert_rolled_back, demo, happened, number};

/// The world of `Must`: 8 producers, 3 groups, at least 5,000 records a second.
#[test]
fn a_cutover_under_load() {
    let (report, status) = demo(&[]);
    assert_complete(&report, status, 8);
    assert_eq!(report["groups"].as_array().map(Vec::len), Some(3));
    assert!(number(&report, "records_per_s") >= 5_000, "{report}");
    let timeline = report["timeline"].as_array().expect("timeline");
    let states: Vec<&str> = timeline.iter().filter_map(|entry| entry["event"].as_str()).collect();
    let mut seen = states.iter();
    for state in [
        "provisioning",
        "verifying",
        "preparing",
        "ready",
        "redirecting",
        "converging",
        "fencing",
        "draining",
        "soaking",
        "isolating",
        "retiring",
        "complete",
    ] {
        assert!(seen.any(|event| *event == state), "{state} is missing, or out of turn: {states:?}");
    }
}

/// `Overlap` trades order for a shorter stall; it loses nothing and duplicates nothing while every cluster answers.
#[test]
fn a_cutover_with_overlap() {
    let (report, status) = demo(&["--hand-over", "overlap", "--producers", "4", "--rate", "2000"]);
    assert_eq!((report["outcome"].as_str(), status), (Some("complete"), Some(0)), "{report}");
    assert_eq!((number(&report, "lost"), number(&report, "duplicated")), (0, 0));
}

/// Back to blue after green has taken traffic; the groups follow the chain there and back.
#[test]
fn a_rollback_after_green_has_taken_traffic() {
    let (report, status) = demo(&["--rollback"]);
    assert_rolled_back(&report, status);
}

/// The same world, the recipe's producers: it loses records, and says so without failing.
#[test]
fn the_recipe_loses_records() {
    let (report, status) = demo(&["--strategy", "recipe"]);
    assert_eq!((report["outcome"].as_str(), status), (Some("complete"), Some(0)));
    assert!(number(&report, "lost") > 0, "{report}");
    assert!(number(&report["green"], "records") > 0, "its producers did move");
}

/// The same world, stock producers and a changed record: nobody moves.
#[test]
fn dns_alone_moves_nobody() {
    let (report, status) = demo(&["--strategy", "dns-only", "--warm-up", "1"]);
    assert_eq!((report["outcome"].as_str(), status), (Some("not-moved"), Some(0)));
    assert_eq!(number(&report["green"], "records"), 0);
    for producer in report["producers"].as_array().expect("producers") {
        assert!(producer["switched_after_ms"].is_null(), "{producer}");
        assert_eq!(producer["records_on_green"], 0, "the log says so, too: {producer}");
    }
}

/// Troubles through which a cutover completes with nothing lost.
#[test]
fn troubles_that_end_well() {
    for (trouble, sign, producers) in [
        ("broker-dies", "broker 1 of blue dies", 4),
        ("dns-fails", "every DNS answer is SERVFAIL", 4),
        ("dns-empty", "every DNS answer is empty", 4),
        ("dns-stale", "DNS answers with the older generation", 4),
        ("late-producer", "one more producer has started", 5),
    ] {
        let (report, status) = demo(&["--trouble", trouble, "--producers", "4", "--rate", "3000"]);
        assert!(happened(&report, sign), "{trouble} did not strike: {report}");
        assert_complete(&report, status, producers);
    }
}

/// L5: green has blue's cluster id. It holds with a reason that names the cause, and blue goes on serving.
#[test]
fn green_with_blues_cluster_id() {
    let (report, status) = demo(&["--trouble", "same-cluster", "--producers", "2", "--rate", "1000"]);
    assert_eq!((report["outcome"].as_str(), status), (Some("held"), Some(1)));
    assert!(happened(&report, ": both colours lead to cluster"), "{report}");
    assert_eq!((number(&report, "lost"), number(&report["green"], "records")), (0, 0));
    assert_eq!(number(&report["blue"], "records"), number(&report, "accepted"));
}

/// An abort before Redirecting leaves blue serving and nothing behind.
#[test]
fn an_abort_leaves_blue_serving() {
    let (report, status) = demo(&["--trouble", "abort", "--producers", "2", "--rate", "1000"]);
    assert_eq!((report["outcome"].as_str(), status), (Some("aborted"), Some(1)), "{report}");
    assert!(happened(&report, "nothing stands behind green, and the record is as it was"), "{report}");
    assert_eq!(number(&report, "lost"), 0);
    assert_eq!(number(&report["blue"], "records"), number(&report, "accepted"));
}

/// Two worlds on one machine do not meet.
#[test]
fn two_demos_side_by_side() {
    let one = std::thread::spawn(|| demo(&["--producers", "2", "--rate", "1000"]));
    let (other, other_status) = demo(&["--producers", "2", "--rate", "1000"]);
    let (report, status) = one.join().expect("the other demo");
    assert_complete(&report, status, 2);
    assert_complete(&other, other_status, 2);
    assert_ne!(report["blue"]["cluster_id"], other["blue"]["cluster_id"]);
}
