//! `cargo xtask mutants`: cargo-mutants over what decides about records, and the list of what no test misses.
//!
//! Controls take out the defences that somebody thought of; this changes every expression in turn, and is slow: hours
//! for all of it, so it is part of the tests with `--nightly` alone.

use std::{
    fs,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use xshell::Cmd;

use crate::test::{Check, Context, Ran};

/// cargo-mutants' version, which is installed if it is absent.
const VERSION: &str = "27.1.0";

/// The package, and in it the machines, the chain, the drain proof and the decisions.
const PACKAGE: &str = "kutover-core";
const FILES: [&str; 6] = [
    "crates/kutover-core/src/cutover/*.rs",
    "crates/kutover-core/src/switch/*.rs",
    "crates/kutover-core/src/decisions/**/*.rs",
    "crates/kutover-core/src/chain.rs",
    "crates/kutover-core/src/drain.rs",
    "crates/kutover-core/src/drain/*.rs",
];

/// Where cargo-mutants puts its `mutants.out`.
const OUTPUT: &str = "target/mutants";

/// What `cargo xtask mutants` takes.
#[derive(Args)]
pub(crate) struct MutantsArgs {
    /// Changes this file alone (a path or a pattern); may be given more than once
    #[arg(long, value_name = "FILE")]
    file: Vec<String>,
    /// Runs kutover-core's unit tests alone: the stricter and the quicker way
    #[arg(long)]
    lib: bool,
    /// Counts what would be changed and runs nothing
    #[arg(long)]
    list: bool,
}

/// What the test section runs, with `--nightly` or by name.
pub(crate) const CHECKS: &[Check] = &[Check {
    name: "no expression can be changed without a test that notices (cargo-mutants)",
    run: |context: &Context| {
        install(context)?;
        let missed = change_each(context, &FILES, &[])?;
        ensure!(missed.is_empty(), "nothing notices these changes:\n{}", missed.join("\n"));
        Ok(Ran::Passed)
    },
}];

/// Runs it; a change that no test notices is a failure.
pub(crate) fn run(args: &MutantsArgs) -> Result<ExitCode> {
    let context = Context::new(false)?;
    install(&context)?;
    let files: Vec<&str> = match args.file.is_empty() {
        true => FILES.to_vec(),
        false => args.file.iter().map(String::as_str).collect(),
    };
    if args.list {
        let listed = cargo_mutants(&context, &files).arg("--list").read()?;
        println!("{listed}\n{} mutants", listed.lines().count());
        return Ok(ExitCode::SUCCESS);
    }
    let tests: &[&str] = if args.lib { &["--lib"] } else { &[] };
    let missed = change_each(&context, &files, tests)?;
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cargo_mutants<'a>(context: &'a Context, files: &[&str]) -> Cmd<'a> {
    let files = files.iter().flat_map(|file| ["--file", file]);
    context.cargo(["mutants", "--package", PACKAGE]).args(files).quiet()
}

/// Changes every expression of these files in turn, and runs these tests, or all if none are named; prints what came of it and
/// gives what no test noticed.
fn change_each(context: &Context, files: &[&str], tests: &[&str]) -> Result<Vec<String>> {
    let mutants = cargo_mutants(context, files);
    fs::create_dir_all(context.root.join(OUTPUT)).with_context(|| format!("cannot make {OUTPUT}"))?;
    let args = ["--output", OUTPUT, "--profile", "sim", "--timeout-multiplier", "5", "--"];
    let status =
        Command::from(mutants.args(args).args(tests)).status().context("cannot start cargo mutants")?;
    // 2: some were missed; 3: some hung. Everything else means that it came to no result.
    ensure!(matches!(status.code(), Some(0 | 2 | 3)), "cargo mutants came to no result ({status})");
    let outcomes = context.root.join(OUTPUT).join("mutants.out");
    let list = |name: &str| -> Result<Vec<String>> {
        let path = outcomes.join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    let (caught, missed, timeout) = (list("caught.txt")?, list("missed.txt")?, list("timeout.txt")?);
    for missed in &missed {
        println!("MISSED: {missed}");
    }
    let (caught, hung) = (caught.len(), timeout.len());
    println!(
        "{} mutants, {caught} caught, {hung} hung, {} missed",
        caught + hung + missed.len(),
        missed.len()
    );
    ensure!(caught + hung > 0, "no change was noticed at all: the tests did not run");
    Ok(missed)
}

fn install(context: &Context) -> Result<()> {
    let version = context.cargo(["mutants", "--version"]).quiet().ignore_stderr().read();
    if version.is_ok_and(|version| version.ends_with(VERSION)) {
        return Ok(());
    }
    println!("installing cargo-mutants {VERSION}");
    let version = format!("={VERSION}");
    context.cargo(["install", "cargo-mutants", "--version", &version, "--locked"]).run()?;
    Ok(())
}
