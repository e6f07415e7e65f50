//! `cargo xtask worlds`: builds the small worlds with some optimisation and visits all their states.
//!
//! The worlds are in `kutover-worlds`, so that xtask stays quick to build.

use anyhow::Result;
use clap::Args;

use crate::{
    programs::{self, SIM},
    test::{Check, Context, Ran},
};

#[derive(Args)]
pub(crate) struct WorldsArgs {
    /// This world alone (can be given several times)
    #[arg(long)]
    only: Vec<String>,
    /// Takes out a defence (a control's name): the worlds that are known to notice must find a path
    #[arg(long)]
    without: Option<String>,
    /// Prints one JSON object as the last line on stdout
    #[arg(long)]
    json: bool,
    /// Names the worlds and what each is about
    #[arg(long)]
    list: bool,
}

/// What the test section runs.
pub(crate) const CHECKS: &[Check] = &[Check {
    name: "every state of every small world keeps every promise",
    run: |_: &Context| {
        run(WorldsArgs { only: Vec::new(), without: None, json: false, list: false }).map(|()| Ran::Passed)
    },
}];

/// Runs them; their output goes straight through.
pub(crate) fn run(args: WorldsArgs) -> Result<()> {
    let WorldsArgs { only, without, json, list } = args;
    let mut options: Vec<String> = Vec::new();
    for world in only {
        options.extend(["--only".into(), world]);
    }
    options.extend(without.into_iter().flat_map(|control| ["--without".into(), control]));
    options.extend(json.then(|| "--json".into()));
    options.extend(list.then(|| "--list".into()));
    programs::run_one(&Context::new(false)?, "kutover-worlds", &SIM, &options)
}
