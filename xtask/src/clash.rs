//! `cargo xtask clash`: builds the program that reproduces the clash of producer ids, and runs it.
//!
//! The scenario is in `kutover-clash`, so that xtask stays quick to build; the test command runs it as a test too.

use anyhow::Result;
use clap::Args;

use crate::{programs, test::Context};

#[derive(Args)]
pub(crate) struct ClashArgs {
    /// Prints one JSON object as the last line on stdout
    #[arg(long)]
    json: bool,
}

/// Runs it; its output goes straight through.
pub(crate) fn run(args: &ClashArgs) -> Result<()> {
    let options: &[&str] = if args.json { &["--json"] } else { &[] };
    programs::run_one(&Context::new(false)?, "kutover-clash", &[], options)
}
