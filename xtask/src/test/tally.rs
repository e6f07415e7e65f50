//! Counting: libtest's result lines, skipped parts, checks.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

/// What passed, failed and was skipped, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Tests and checks that held.
    pub(crate) passed: usize,
    /// Those that did not, and runs that came to no result.
    pub(crate) failed: usize,
    /// Those that could not be carried out here.
    pub(crate) skipped: usize,
    /// One line for each failure that cargo did not print itself.
    pub(crate) failures: Vec<String>,
    /// One line for each skipped part.
    pub(crate) skips: Vec<String>,
}

impl Tally {
    /// Counts a failure and keeps its reason for the end of the run.
    pub(crate) fn fail(&mut self, reason: String) {
        self.failed += 1;
        self.failures.push(reason);
    }

    /// Counts a skipped part and keeps its reason for the end of the run.
    pub(crate) fn skip(&mut self, reason: String) {
        self.skipped += 1;
        self.skips.push(reason);
    }

    /// Adds another count to this one.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
        self.skips.extend(other.skips);
    }

    /// Nothing was counted at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.passed + self.failed + self.skipped == 0
    }

    /// Nothing failed and something was executed.
    pub(crate) fn is_success(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// Moves tests that passed in cargo's eyes, but reported a missing part in the skip log, to where they belong.
    ///
    /// A line of the log is `test: what is missing`. A test counts once, however many lines it wrote.
    pub(crate) fn apply_skip_log(&mut self, log: &str, ci: bool) {
        let mut seen = BTreeSet::new();
        for line in log.lines().filter(|line| !line.trim().is_empty()) {
            let test = line.split_once(": ").map_or(line, |(test, _)| test);
            if !seen.insert(test.to_owned()) {
                continue;
            }
            self.passed = self.passed.saturating_sub(1);
            if ci {
                self.fail(format!("{line} (CI=true: nothing may be missing)"));
            } else {
                self.skip(line.to_owned());
            }
        }
    }
}

/// The closing line, and nothing but the closing line.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Reads libtest's output line by line.
#[derive(Debug, Default)]
pub(crate) struct ResultLines {
    tally: Tally,
    /// Binaries that said `running N tests` and have not said how it ended.
    open: usize,
}

impl ResultLines {
    /// Takes one line of output, of whatever kind.
    pub(crate) fn line(&mut self, line: &str) {
        if is_start(line) {
            self.open += 1;
        } else if let Some(counts) = line.strip_prefix("test result: ").and_then(counts) {
            self.open = self.open.saturating_sub(1);
            self.tally.passed += counts.passed;
            self.tally.failed += counts.failed;
            self.tally.skipped += counts.skipped;
        }
    }

    /// The count, once `what` has ended. A binary that died under its tests, and a build that failed, print no result
    /// line; neither may look like a success.
    pub(crate) fn finish(mut self, section: &str, what: &str, success: bool) -> Tally {
        for _ in 0..self.open {
            self.tally.fail(format!("{section}: {what}: a test binary ended without a result line"));
        }
        if !success && self.tally.failed == 0 {
            self.tally.fail(format!("{section}: {what} failed before its tests ran (see its output above)"));
        }
        self.tally
    }
}

/// `running 12 tests`, `running 1 test`.
fn is_start(line: &str) -> bool {
    let mut words = line.split(' ');
    words.next() == Some("running")
        && words.next().is_some_and(|count| count.parse::<usize>().is_ok())
        && matches!(words.next(), Some("test" | "tests"))
        && words.next().is_none()
}

/// `ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s`; ignored means skipped.
fn counts(text: &str) -> Option<Tally> {
    let (_, text) = text.split_once(". ")?;
    let mut found = Tally::default();
    for part in text.split("; ") {
        let (count, what) = part.split_once(' ')?;
        match what {
            "passed" => found.passed = count.parse().ok()?,
            "failed" => found.failed = count.parse().ok()?,
            "ignored" => found.skipped = count.parse().ok()?,
            _ => {}
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::{ResultLines, Tally};

    fn read(text: &str, success: bool) -> (usize, usize, usize) {
        let mut lines = ResultLines::default();
        text.lines().for_each(|line| lines.line(line));
        let tally = lines.finish("core", "cargo", success);
        (tally.passed, tally.failed, tally.skipped)
    }

    const TWO_BINARIES: &str = "\
running 3 tests
test words::tests::round ... ok
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests kutover_core

running 1 test
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.41s";

    #[test]
    fn all_binaries_and_doc_tests_are_added_up() {
        assert_eq!(read(TWO_BINARIES, true), (3, 0, 1));
    }

    #[test]
    fn failures_are_counted() {
        let text = "running 5 tests
test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s";
        assert_eq!(read(text, false), (3, 2, 0));
    }

    #[test]
    fn a_binary_that_died_is_a_failure_even_beside_others() {
        let text = format!("{TWO_BINARIES}\nrunning 7 tests\ntest switch::seal ... ");
        assert_eq!(read(&text, false), (3, 1, 1));
        assert_eq!(read(&text, true), (3, 1, 1));
    }

    #[test]
    fn a_build_that_failed_is_a_failure() {
        assert_eq!(read("", false), (0, 1, 0));
    }

    #[test]
    fn what_a_test_prints_is_not_a_result() {
        let text = "running 1 test\n  test result: ok. 9 passed; 0 failed\nrunning late tests today
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(read(text, true), (1, 0, 0));
    }

    #[test]
    fn skipped_parts_leave_the_passed_ones() {
        let log = "apache_serves: no Java\napache_isolates: no Maven\napache_serves: no Maven\n";
        let mut by_hand = Tally { passed: 5, ..Tally::default() };
        by_hand.apply_skip_log(log, false);
        assert_eq!(by_hand.to_string(), "3 passed, 0 failed, 2 skipped");
        assert!(by_hand.is_success());
        let mut in_ci = Tally { passed: 5, ..Tally::default() };
        in_ci.apply_skip_log(log, true);
        assert_eq!(in_ci.to_string(), "3 passed, 2 failed, 0 skipped");
        assert!(!in_ci.is_success());
    }

    #[test]
    fn a_run_without_a_test_is_no_success() {
        assert!(!Tally::default().is_success());
        assert!(!Tally { skipped: 3, ..Tally::default() }.is_success());
    }
}
