//! Sections that compute and wait for nothing, run beside the others in a process of their own.
//!
//! Tests that start clusters and name servers wait for them: they leave a good part of two cores idle. What runs beside them
//! has the lowest priority, so that they hardly notice.

use std::{
    env,
    process::Command,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{Row, cargo_test, sections::Section};
use crate::{
    limited::{self, Stderr},
    test::Context,
};

/// What the process is started with: it is one of these, and tells its rows in its last line.
pub(super) const OPTION: &str = "--beside";

/// Sections under way.
pub(super) struct Beside {
    names: Vec<&'static str>,
    run: JoinHandle<Result<(String, Vec<Row>)>>,
}

impl Beside {
    /// Starts them, if there are any.
    pub(super) fn start(context: &Context, sections: &[&'static Section]) -> Result<Option<Self>> {
        let names: Vec<&str> = sections.iter().map(|section| section.name).collect();
        if names.is_empty() {
            return Ok(None);
        }
        println!("\n=== beside the others, and shown when they are over: {}", names.join(", "));
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(env::current_exe().context("cannot tell this program's path")?);
        command.args(["test", OPTION, "--only", &names.join(",")]);
        if context.nightly {
            command.arg("--nightly");
        }
        // Each of its programs has a limit of its own.
        let limit = cargo_test::limit(context) * 10;
        Ok(Some(Self { names, run: thread::spawn(move || run(command, limit)) }))
    }

    /// Waits for their end and shows what they said.
    pub(super) fn end(self) -> Vec<Row> {
        let ended = self.run.join().unwrap_or_else(|_| bail!("the thread that reads it died"));
        match ended {
            Ok((said, rows)) => {
                print!("{said}");
                rows
            }
            Err(why) => vec![Row::failed(&self.names.join(","), format!("beside the others: {why:#}"))],
        }
    }
}

fn run(command: Command, limit: Duration) -> Result<(String, Vec<Row>)> {
    let mut said = Vec::new();
    let ended = limited::run(command, Stderr::Output, limit, |line| {
        said.extend_from_slice(line);
        Ok(())
    })?;
    let said = String::from_utf8_lossy(&said);
    let Some(status) = ended else { bail!("it did not end:\n{said}") };
    let (rest, last) = said.trim_end().rsplit_once('\n').unwrap_or_default();
    // A failed test is in the rows; without rows there is nothing to go by.
    match serde_json::from_str(last) {
        Ok(rows) if status.success() => Ok((format!("{rest}\n"), rows)),
        _ => bail!("it ended with {status}, without a count:\n{said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(script: &str) -> Result<(String, Vec<Row>)> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(command, Duration::from_secs(300))
    }

    #[test]
    fn its_last_line_is_its_count() {
        let row = Row::failed("sim", "sim: a promise was broken".into());
        let json = serde_json::to_string(&[&row]).unwrap();
        let (text, rows) = said(&format!("echo tests; echo warnings >&2; echo '{json}'")).unwrap();
        assert_eq!((text.as_str(), rows), ("tests\nwarnings\n", vec![row]));
    }

    #[test]
    fn one_that_dies_is_no_success() {
        let why = said("echo tests; exit 101").unwrap_err().to_string();
        assert!(why.contains("101") && why.contains("tests"), "{why}");
        assert!(said("").is_err());
    }
}
