//! What a test says when a part of its world is missing on this machine.

use std::{env, fs::OpenOptions, io::Write};

/// Names the file to which [`skip`] appends; `cargo xtask test` sets it and counts its lines.
pub const SKIP_LOG: &str = "KUTOVER_SKIPPED";

/// Says that `test` cannot be carried out here because `what` is missing. The caller returns right after it:
///
/// ```no_run
/// # fn java_is_here() -> bool { false }
/// # fn a_real_broker_serves() {
/// if !java_is_here() {
///     return kutover_testkit::skip("a_real_broker_serves", "Java 17");
/// }
/// # }
/// ```
///
/// The test then passes in libtest's eyes, so it is written down twice: as `SKIPPED: test: what` on standard error
/// (past libtest's capture, so that a person sees it), and as `test: what` in the file that the environment variable
/// [`SKIP_LOG`] names.
///
/// # Panics
///
/// With `CI=true` in the environment, where nothing may be missing; and if the skip log cannot be written, since a
/// part that is missing must not look like one that passed.
pub fn skip(test: &str, what: &str) {
    assert!(
        !is_ci(env::var("CI").ok().as_deref()),
        "{test}: {what} is missing, and CI=true: nothing may be missing"
    );
    let log = env::var_os(SKIP_LOG);
    say(test, what, &mut std::io::stderr()).expect("standard error cannot be written");
    if let Some(path) = log {
        let mut file =
            OpenOptions::new().create(true).append(true).open(&path).expect("the skip log cannot be opened");
        // One write, so that lines of tests that run at the same time do not mix.
        file.write_all(format!("{test}: {what}\n").as_bytes()).expect("the skip log cannot be written");
    }
}

fn is_ci(value: Option<&str>) -> bool {
    matches!(value, Some("true" | "1"))
}

fn say(test: &str, what: &str, to: &mut dyn Write) -> std::io::Result<()> {
    to.write_all(format!("SKIPPED: {test}: {what}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{is_ci, say};

    #[test]
    fn only_ci_forbids_a_missing_part() {
        assert!(is_ci(Some("true")) && is_ci(Some("1")));
        assert!(!is_ci(None) && !is_ci(Some("")) && !is_ci(Some("false")));
    }

    #[test]
    fn a_skipped_test_is_named_with_what_it_missed() {
        let mut said = Vec::new();
        say("a_real_broker_serves", "Java 17", &mut said).unwrap();
        assert_eq!(String::from_utf8(said).unwrap(), "SKIPPED: a_real_broker_serves: Java 17\n");
    }
}
