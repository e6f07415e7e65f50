//! `cargo xtask test`: runs the sections and counts.
//!
//! Cargo's output is shown as it comes and its result lines are added up; checks of the sections' own count as one
//! test each. The last line of every run says `N passed, N failed, N skipped`.

mod beside;
mod built;
mod cargo_test;
mod check;
mod purity;
mod python;
mod sections;
mod setup;
mod tally;
mod threads;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::{Args, builder::PossibleValuesParser};
use serde::{Deserialize, Serialize};
use xshell::{Cmd, Shell};

pub(crate) use self::check::{Check, Ran};
use self::{
    beside::Beside,
    built::Built,
    sections::{SECTIONS, Section},
    tally::Tally,
};

/// What `cargo xtask test` takes.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// Names the sections and runs nothing
    #[arg(long)]
    list: bool,
    /// Runs this section alone; may be given more than once
    #[arg(long, value_name = "SECTION", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(SECTIONS.iter().map(|section| section.name)))]
    only: Vec<String>,
    /// Runs the long forms of the tests too
    #[arg(long)]
    nightly: bool,
    /// This process runs beside another one, which wants its counts
    #[arg(long, hide = true)]
    beside: bool,
}

/// What became of one section.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    name: String,
    tally: Tally,
    elapsed: Duration,
}

impl Row {
    fn new(name: &str, tally: Tally, elapsed: Duration) -> Self {
        Self { name: name.to_owned(), tally, elapsed }
    }

    /// A run that came to no result.
    fn failed(name: &str, why: String) -> Self {
        let mut tally = Tally::default();
        tally.fail(why);
        Self::new(name, tally, Duration::ZERO)
    }
}

/// Where and how a run happens.
pub(crate) struct Context {
    /// Stands in the repository's root.
    pub(crate) sh: Shell,
    /// The repository's root.
    pub(crate) root: PathBuf,
    /// Long forms are wanted.
    pub(crate) nightly: bool,
    /// `CI=true`: a missing part is a failure.
    pub(crate) ci: bool,
}

impl Context {
    /// The repository this program was built from, and the environment's `CI`.
    pub(crate) fn new(nightly: bool) -> Result<Self> {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?.to_owned();
        let sh = Shell::new().context("cannot tell the current folder")?;
        sh.change_dir(&root);
        let ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
        Ok(Self { sh, root, nightly, ci })
    }

    /// The cargo that runs this program, with `args`. What it has told this program of its package is not handed on:
    /// ring's build script looks at the same variables, so that builds from here and builds by hand would undo each other.
    pub(crate) fn cargo<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Cmd<'_> {
        let cargo = self.sh.cmd(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let told = std::env::vars_os().map(|(name, _)| name).filter(|name| {
            let name = name.to_string_lossy();
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        told.fold(cargo, |cargo, name| cargo.env_remove(name)).args(args)
    }
}

/// Runs what `args` ask for; the exit code is a failure if anything failed or nothing was executed.
pub(crate) fn run(args: &TestArgs) -> Result<ExitCode> {
    if args.list {
        for section in SECTIONS {
            println!("{:<12}{}", section.name, section.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let context = Context::new(args.nightly)?;
    let chosen = chosen(&args.only, args.nightly);
    let whole = args.only.is_empty();
    let mut rows = Vec::new();
    if !args.beside {
        let started = Instant::now();
        rows.push(Row::new("setup", setup::run(&context, &chosen), started.elapsed()));
    }
    let mut built = Built::new(&context, &chosen, whole || args.beside);
    let (computing, waiting): (Vec<&Section>, Vec<&Section>) =
        chosen.into_iter().partition(|section| whole && section.beside);
    // What is quick to fail, and busy itself.
    let (first, waiting) =
        waiting.split_at(usize::from(waiting.first().is_some_and(|first| first.name == "lint")));
    rows.extend(first.iter().map(|section| run_section(&context, section, &mut built)));
    if !computing.is_empty() {
        // Or both would wait for cargo's lock.
        let _ = built.now();
    }
    let beside = Beside::start(&context, &computing)?;
    rows.extend(waiting.iter().map(|section| run_section(&context, section, &mut built)));
    rows.extend(beside.map(Beside::end).unwrap_or_default());
    if args.beside {
        println!("{}", serde_json::to_string(&rows)?);
        return Ok(ExitCode::SUCCESS);
    }
    // With whom they were built first is chance.
    rows.insert(1, Row::new("build", Tally::default(), built.took));
    Ok(close(&rows))
}

/// The sections that are run: those that are named, or all.
fn chosen(only: &[String], nightly: bool) -> Vec<&'static Section> {
    let is_chosen = |section: &&Section| match only {
        [] => nightly || !section.only_nightly,
        only => only.iter().any(|name| name == section.name),
    };
    SECTIONS.iter().filter(is_chosen).collect()
}

/// Runs a section; the time to build all tests is not its own.
fn run_section(context: &Context, section: &Section, built: &mut Built<'_>) -> Row {
    println!("\n=== {}: {}", section.name, section.about);
    let (started, building) = (Instant::now(), built.took);
    let tally = tally_of(context, section, built);
    Row::new(section.name, tally, started.elapsed().saturating_sub(built.took - building))
}

/// Checks first, since they are quick, then the test targets, then the documentation examples.
fn tally_of(context: &Context, section: &Section, built: &mut Built<'_>) -> Tally {
    let mut tally = Tally::default();
    for check in section.checks {
        tally.add(check.run(context, section.name));
    }
    match built.tests_of(section) {
        Ok(programs) => {
            for program in programs {
                tally.add(cargo_test::run_program(context, section.name, program));
            }
        }
        Err(why) => tally.fail(format!("{}: {why}", section.name)),
    }
    for (_, test) in section.tls {
        if let Some(why) = setup::no_tls(context) {
            // It does not even compile then.
            tally.skip(format!("{test}: {why}"));
            continue;
        }
        let args = ["--workspace", "--features", "kutover-tests/tls", "--test", *test];
        tally.add(cargo_test::run(context, section.name, &args));
    }
    if section.doc_tests {
        tally.add(cargo_test::run(context, section.name, &["--workspace", "--doc"]));
    }
    if tally.is_empty() {
        tally.fail(format!("{}: no test was executed", section.name));
    }
    tally
}

/// Prints the table, what failed and what was skipped, and the closing line.
fn close(rows: &[Row]) -> ExitCode {
    let mut total = Tally::default();
    println!("\n{:<12}{:>8}{:>8}{:>9}{:>10}", "section", "passed", "failed", "skipped", "elapsed");
    for Row { name, tally, elapsed } in rows {
        let elapsed = format!("{:.1} s", elapsed.as_secs_f64());
        println!("{name:<12}{:>8}{:>8}{:>9}{elapsed:>10}", tally.passed, tally.failed, tally.skipped);
        total.add(tally.clone());
    }
    for reason in &total.skips {
        println!("SKIPPED: {reason}");
    }
    for reason in &total.failures {
        println!("FAILED: {reason}");
    }
    println!("{total}");
    if total.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn a_long_form_is_run_by_night_or_by_name() {
        let runs =
            |only: &[String], nightly| chosen(only, nightly).iter().any(|section| section.name == "mutants");
        assert!(!runs(&[], false) && runs(&[], true));
        assert!(runs(&["mutants".into()], false) && !runs(&["core".into()], true));
    }
}
