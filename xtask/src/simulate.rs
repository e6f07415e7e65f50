//! `cargo xtask simulate`: builds the simulation with some optimisation and runs seeds.
//!
//! The simulation is in `kutover-sim`, so that xtask stays quick to build. Options go through as they are; `--help`
//! after `--` shows them.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Args;
use xshell::{Shell, cmd};

use crate::test::{Check, Context, Ran};

#[derive(Args)]
pub(crate) struct SimulateArgs {
    /// `--seeds A..B`, `--seconds N`, `--strategy kutover|recipe|dns-only|rolling`, `--producers N`, `--faults
    /// light|heavy|none`, `--only FAULTS`, `--trace`, `--json`, `--without CONTROL`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// What the test section runs.
pub(crate) const CHECKS: &[Check] = &[Check {
    name: "seeds with heavy faults keep every promise",
    run: |_: &Context| {
        let options = ["--seeds", "0..16", "--faults", "heavy", "--json"].map(str::to_owned).into();
        run(SimulateArgs { options }).map(|()| Ran::Passed)
    },
}];

/// Runs it; its output goes straight through.
pub(crate) fn run(args: SimulateArgs) -> Result<()> {
    let options = args.options;
    let shell = Shell::new()?;
    shell.change_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let without = options.iter().any(|option| option.starts_with("--without"));
    let features: &[&str] = if without { &["--features", "controls"] } else { &[] };
    cmd!(shell, "cargo run --quiet --profile sim --package kutover-sim {features...} -- {options...}")
        .quiet()
        .run()
        .context("the simulation")
}
