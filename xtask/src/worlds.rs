//! `cargo xtask worlds`: builds the small worlds with some optimisation and visits all their states.
//!
//! The worlds are in `kutover-worlds`, so that xtask stays quick to build.

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    evidence::{Page, grouped},
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
    run: |context: &Context| {
        if !context.nightly {
            run(WorldsArgs { only: Vec::new(), without: None, json: false, list: false })?;
            return Ok(Ran::Passed);
        }
        let program = programs::build_one(context, "kutover-worlds", &SIM)?;
        let said = context.sh.cmd(program.path).arg("--json").quiet().read().context("the small worlds")?;
        stand_in(&Page::read(context)?, said.lines().last().unwrap_or_default())?;
        Ok(Ran::Passed)
    },
}];

/// Whether the page has the states that a run visits.
fn stand_in(page: &Page, report: &str) -> Result<()> {
    let run: Value = serde_json::from_str(report).context("kutover-worlds printed no JSON")?;
    for world in run["worlds"].as_array().context("no worlds in it")? {
        let (name, states) = (world["world"].as_str().unwrap_or_default(), grouped(&world["states"]));
        ensure!(
            page.rows(name).any(|cells| cells.contains(&states.as_str())),
            "docs/evidence.md does not say that {name} has {states} states"
        );
    }
    page.says(&[format!("{} states in", grouped(&run["states"]))])
}

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
