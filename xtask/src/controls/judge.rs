//! What counts as noticing that a defence is missing.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{process::Ended, suite::Outcome};

/// A test program notices if a test fails. One that fails otherwise may not even have run any: that is no finding.
pub(super) fn tests(target: &str, ended: &Ended) -> Result<Outcome> {
    if ended.is_success() {
        return Ok(Outcome::Held);
    }
    match failed_tests(&ended.output).first() {
        Some(test) => {
            Ok(Outcome::Caught { by: format!("{target}: {test}"), after: cases(&ended.output, test) })
        }
        None => bail!("{target}: it failed, and no test of it did:\n{}", ended.output),
    }
}

/// Whether a test program had a test to run.
pub(super) fn runs_any_test(output: &str) -> bool {
    output.lines().any(|line| {
        let count = line.strip_prefix("running ").and_then(|line| line.split(' ').next());
        count.is_some_and(|count| count != "0")
    })
}

/// The worlds' program succeeds without a defence if a world found a path. It refuses controls that no world is known to
/// notice, which is no finding.
pub(super) fn worlds(ended: &Ended) -> Result<Outcome> {
    if ended.output.contains("no world is known to notice") {
        return Ok(Outcome::Held);
    }
    let report = last_json(ended)?;
    let worlds = report["worlds"].as_array().context("kutover-worlds named no worlds")?;
    let Some(world) = worlds.iter().find(|world| !world["found"].is_null()) else {
        return Ok(Outcome::Held);
    };
    let promise = world["found"]["promise"].as_str().unwrap_or("a promise is broken");
    Ok(Outcome::Caught {
        by: format!("{}: {promise}", world["world"].as_str().unwrap_or("?")),
        after: world["states"].as_u64().map(|states| format!("{states} states")),
    })
}

/// The simulation notices by a promise that is broken or a record that is lost; that a kind of fault never struck is
/// nothing of the kind.
pub(super) fn sim(ended: &Ended) -> Result<Outcome> {
    // 101: a panic, which the machines' own expectations end in.
    if ended.status.is_some_and(|status| status.code() == Some(101)) {
        let panic = ended.output.lines().find(|line| line.contains("panicked at"));
        let by = panic.unwrap_or("a panic").to_owned();
        return Ok(Outcome::Caught { by, after: None });
    }
    let report = last_json(ended)?;
    if report["violations"] == 0 && report["lost"] == 0 {
        return Ok(Outcome::Held);
    }
    let first = report["failed_seeds"][0].as_u64();
    let of_first = first.map(|seed| format!("seed {seed}: "));
    let said = of_first.and_then(|of_first| {
        let line = ended.output.lines().find(|line| line.starts_with(&of_first))?;
        Some(line.trim_start_matches(&of_first).to_owned())
    });
    Ok(Outcome::Caught {
        by: said.unwrap_or_else(|| format!("{} lost records", report["lost"])),
        after: first.map(|seed| format!("{} seeds", seed + 1)),
    })
}

/// A program that was asked for JSON prints it on a line of its own; one that does not has not understood.
fn last_json(ended: &Ended) -> Result<Value> {
    let line = ended.output.lines().rev().find(|line| line.starts_with('{'));
    match line.map(serde_json::from_str) {
        Some(Ok(value)) => Ok(value),
        _ => bail!("no result was printed:\n{}", ended.output),
    }
}

/// The tests that libtest says have failed.
fn failed_tests(output: &str) -> Vec<&str> {
    output.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED")).collect()
}

/// After how many cases a property test failed: proptest counts those that held before.
fn cases(output: &str, test: &str) -> Option<String> {
    let (_, own) = output.split_once(&format!("---- {test} stdout ----"))?;
    let own = own.split("\n---- ").next()?;
    let (_, after) = own.split_once("successes: ")?;
    let held: u64 = after.lines().next()?.trim().parse().ok()?;
    Some(if held == 0 { "1 case".to_owned() } else { format!("{} cases", held + 1) })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test a::holds ... ok
test a::finds_it ... FAILED
test b::finds_it_too ... FAILED

failures:

---- a::finds_it stdout ----
thread 'a::finds_it' panicked: Test failed: no.
minimal failing input: x = 1
	successes: 11
	local rejects: 0

---- b::finds_it_too stdout ----
thread 'b::finds_it_too' panicked
";

    fn ended(code: u8, output: &str) -> Ended {
        let status = Command::new("/bin/sh").args(["-c", &format!("exit {code}")]).status().unwrap();
        Ended { status: Some(status), output: output.to_owned() }
    }

    fn caught(by: &str, after: Option<&str>) -> Outcome {
        Outcome::Caught { by: by.to_owned(), after: after.map(str::to_owned) }
    }

    #[test]
    fn the_first_test_that_failed_is_named_with_its_cases() {
        let found = tests("lib", &ended(101, OUTPUT)).unwrap();
        assert_eq!(found, caught("lib: a::finds_it", Some("12 cases")));
        assert_eq!(cases(OUTPUT, "b::finds_it_too"), None);
        assert_eq!(tests("lib", &ended(0, OUTPUT)).unwrap(), Outcome::Held);
        assert!(tests("lib", &ended(101, "error: Unrecognized option")).is_err(), "not a finding");
    }

    #[test]
    fn a_filter_that_no_test_matches_is_seen() {
        assert!(runs_any_test(OUTPUT));
        assert!(!runs_any_test("\nrunning 0 tests\n\ntest result: ok. 0 passed"));
    }

    #[test]
    fn a_world_notices_by_a_path() {
        let found = r#"{"worlds":[{"world":"a","states":9,"found":null},{"world":"b","states":7,"found":{"promise":"G1"}}]}"#;
        assert_eq!(worlds(&ended(0, found)).unwrap(), caught("b: G1", Some("7 states")));
        let nothing = r#"{"worlds":[{"world":"a","states":9,"found":null}]}"#;
        assert_eq!(worlds(&ended(1, nothing)).unwrap(), Outcome::Held);
        assert_eq!(
            worlds(&ended(1, "error: no world is known to notice this control")).unwrap(),
            Outcome::Held
        );
        assert!(worlds(&ended(1, "error: build with --features controls")).is_err(), "not a finding");
    }

    #[test]
    fn the_simulation_notices_by_a_broken_promise() {
        let broken = "seed 4: lost: p1/3\n{\"violations\":2,\"lost\":1,\"failed_seeds\":[4]}";
        assert_eq!(sim(&ended(1, broken)).unwrap(), caught("lost: p1/3", Some("5 seeds")));
        let dull = "FAILED: no crash ever struck\n{\"violations\":0,\"lost\":0,\"failed_seeds\":[]}";
        assert_eq!(sim(&ended(1, dull)).unwrap(), Outcome::Held);
        assert!(sim(&ended(2, "error: there is no control `x`")).is_err(), "not a finding");
        let panic = "thread 'main' panicked at machine.rs:1:1:\n";
        assert!(matches!(sim(&ended(101, panic)).unwrap(), Outcome::Caught { .. }));
    }
}
