//! Test programs and `cargo test`, shown as they run and counted.

use std::{
    fs,
    io::{self, BufRead, BufReader, IsTerminal, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::{
    Context,
    tally::{ResultLines, Tally},
};
use crate::programs::Program;

/// Names the file to which a test appends a line when a part that it needs is missing.
const SKIP_LOG: &str = "KUTOVER_SKIPPED";
/// Set to `1` where long forms are wanted.
pub(super) const NIGHTLY: &str = "KUTOVER_NIGHTLY";

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
    let (output, writer) = io::pipe().context("cannot make a pipe")?;
    if !io::stderr().is_terminal() {
        // In a log both streams keep their order; on a terminal cargo draws its progress itself.
        command.stderr(writer.try_clone()?);
    }
    let mut child = command.stdin(Stdio::null()).stdout(writer).spawn().context("cannot be started")?;
    // It holds the pipe's other end, which must be closed for the reading to end.
    drop(command);
    let mut output = BufReader::new(output);
    let mut results = ResultLines::default();
    let mut line = Vec::new();
    // By bytes, since a test may print anything.
    while output.read_until(b'\n', &mut line).context("its output cannot be read")? > 0 {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&line)?;
        stdout.flush()?;
        results.line(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
        line.clear();
    }
    let status = child.wait().context("its end cannot be waited for")?;
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
