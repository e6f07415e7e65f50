//! `cargo xtask clash`: builds the program that reproduces the clash of producer ids, and runs it.
//!
//! The scenario is in `kutover-clash`, so that xtask stays quick to build; the test command runs it as a test too.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use xshell::{Shell, cmd};

#[derive(Args)]
pub(crate) struct ClashArgs {
    /// Prints one JSON object as the last line on stdout
    #[arg(long)]
    json: bool,
}

/// Runs it; its output goes straight through.
pub(crate) fn run(args: ClashArgs) -> Result<()> {
    let shell = Shell::new()?;
    shell.change_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let options: &[&str] = if args.json { &["--json"] } else { &[] };
    cmd!(shell, "cargo run --quiet --package kutover-clash -- {options...}").quiet().run().context("clash")
}
