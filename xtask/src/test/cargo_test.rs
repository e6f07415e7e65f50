//! Test programs and `cargo test`, shown as they run and counted.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Context,
    tally::{ResultLines, Tally},
};
use crate::{
    limited::{self, Stderr},
    programs::Program,
};

/// Names the file to which a test appends a line when a part that it needs is missing.
const SKIP_LOG: &str = "KUTOVER_SKIPPED";
/// Set to `1` where long forms are wanted.
pub(super) const NIGHTLY: &str = "KUTOVER_NIGHTLY";

/// A time that no program of tests takes unless it hangs: the run is to tell which one, and to go on with the others.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// The same for long forms.
const LIMIT_BY_NIGHT: Duration = Duration::from_secs(6 * 60 * 60);

/// How long a program of tests may take.
pub(super) fn limit(context: &Context) -> Duration {
    if context.nightly { LIMIT_BY_NIGHT } else { LIMIT }
}

/// Runs `cargo test` with `args`. Everything that goes wrong is counted as a failure.
pub(crate) fn run(context: &Context, section: &str, args: &[&str]) -> Tally {
    let command = context.cargo(["test", "--no-fail-fast"]).args(args);
    counted(context, section, "cargo", command.into())
}

/// Runs a test program that is built already, in the same way.
pub(crate) fn run_program(context: &Context, section: &str, program: &Program) -> Tally {
    let Program { package, kind, target, .. } = program;
    println!("     Running {package}: {kind} {target}");
    counted(context, section, target, program.command())
}

fn counted(context: &Context, section: &str, what: &str, command: Command) -> Tally {
    try_run(context, section, what, command).unwrap_or_else(|error| {
        let mut tally = Tally::default();
        tally.fail(format!("{section}: {what}: {error:#}"));
        tally
    })
}

fn try_run(context: &Context, section: &str, what: &str, mut command: Command) -> Result<Tally> {
    let log = SkipLog::new(section)?;
    command.env(SKIP_LOG, &log.path);
    if context.nightly {
        command.env(NIGHTLY, "1");
    }
    // In a log both streams keep their order; on a terminal cargo draws its progress itself.
    let stderr = if io::stderr().is_terminal() { Stderr::Ours } else { Stderr::Output };
    let limit = limit(context);
    let mut results = ResultLines::default();
    let status = limited::run(command, stderr, limit, |line| {
        let mut stdout = io::stdout().lock();
        stdout.write_all(line)?;
        stdout.flush()?;
        results.line(String::from_utf8_lossy(line).trim_end_matches(['\r', '\n']));
        Ok(())
    })?;
    let Some(status) = status else {
        let minutes = limit.as_secs() / 60;
        bail!(
            "did not end in {minutes} minutes and was stopped (the last test that it names, above, may hang)"
        );
    };
    let mut tally = results.finish(section, what, status.success());
    tally.apply_skip_log(&log.read()?, context.ci);
    Ok(tally)
}

/// The file in which tests say what they missed; removed when the section is over.
struct SkipLog {
    path: PathBuf,
}

impl SkipLog {
    fn new(section: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("kutover-skipped-{}-{section}.log", std::process::id()));
        fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path })
    }

    fn read(&self) -> Result<String> {
        fs::read_to_string(&self.path).with_context(|| format!("cannot read {}", self.path.display()))
    }
}

impl Drop for SkipLog {
    fn drop(&mut self) {
        // A left-over file in the temporary folder is not worth an error.
        let _ = fs::remove_file(&self.path);
    }
}
