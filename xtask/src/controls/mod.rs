//! `cargo xtask controls`: takes every defence out in turn and looks whether the suites notice.
//!
//! The list is kutover-core's own (`Control::ALL`), and so is the switch: the test programs are built once with the
//! feature `controls`, and each of them asks the environment which defence it is to go without. A control that nothing
//! catches fails the run: either the defence is not needed, or nothing would notice if it broke.

mod built;
mod judge;
mod process;
mod report;
mod suite;

use std::{collections::BTreeSet, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use self::{
    built::Built,
    report::{Catch, Report, Row},
    suite::{Outcome, Suite, Suites},
};
use crate::test::Context;

/// What `cargo xtask controls` takes.
#[derive(Args)]
pub(crate) struct ControlsArgs {
    /// Takes this control out alone; may be given more than once
    #[arg(long, value_name = "CONTROL", value_delimiter = ',')]
    only: Vec<String>,
    /// Prints one JSON object as the last line on stdout
    #[arg(long)]
    json: bool,
}

/// One defence that can be taken out.
struct Control {
    name: String,
    loss_mode: u64,
    what: String,
}

/// Suites that a control must be caught by, whatever else has caught it, beside those that are tried in turn.
///
/// A control without a line is tried on all suites, the quickest first, until one catches it.
const PROOFS: &[(&str, &[Suite])] = &[];

/// Runs what `args` ask for; a control that survives is a failure.
pub(crate) fn run(args: &ControlsArgs) -> Result<ExitCode> {
    let context = Context::new(false)?;
    let report = take_out_each(&context, &args.only)?;
    print!("{report}");
    if args.json {
        println!("{}", report.json());
    }
    Ok(if report.survived().next().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn take_out_each(context: &Context, only: &[String]) -> Result<Report> {
    let built = Built::new(context)?;
    let controls = controls(&built)?;
    for name in only.iter().map(String::as_str).chain(PROOFS.iter().map(|(name, _)| *name)) {
        ensure!(controls.iter().any(|control| control.name == name), "{name} is no control");
    }
    let mut suites = Suites::new(&built);
    let mut report = Report::default();
    for control in controls.iter().filter(|control| only.is_empty() || only.contains(&control.name)) {
        let row = take_out(&mut suites, control)?;
        println!("{row}");
        report.rows.push(row);
    }
    Ok(report)
}

fn take_out(suites: &mut Suites<'_>, control: &Control) -> Result<Row> {
    let started = Instant::now();
    let proofs = PROOFS.iter().find(|(name, _)| *name == control.name).map_or(&[][..], |(_, proofs)| *proofs);
    let mut row = Row {
        loss_mode: control.loss_mode,
        control: control.name.clone(),
        what: control.what.clone(),
        tried: Vec::new(),
        caught: Vec::new(),
        elapsed: started.elapsed(),
        unproven: Vec::new(),
    };
    for suite in Suite::ALL {
        // A proof whose package is missing is not passed over: it catches nothing.
        let is_proof = proofs.contains(suite);
        if !is_proof && (!row.caught.is_empty() || !suites.has(*suite)) {
            continue;
        }
        row.tried.push(suite.name());
        match suites.run(*suite, &control.name)? {
            Outcome::Caught { by, after } => row.caught.push(Catch { suite: suite.name(), by, after }),
            Outcome::Held if is_proof => row.unproven.push(suite.name()),
            Outcome::Held => {}
        }
    }
    row.elapsed = started.elapsed();
    Ok(row)
}

/// Asks kutover-core which controls there are.
fn controls(built: &Built) -> Result<Vec<Control>> {
    let said = built.list_of_controls()?;
    let controls = said.lines().map(read_control).collect::<Result<Vec<_>>>()?;
    let modes: BTreeSet<u64> = controls.iter().map(|control| control.loss_mode).collect();
    if controls.is_empty() || modes != (1..=20).collect() {
        bail!("kutover-core's list of controls does not cover L1 to L20");
    }
    Ok(controls)
}

fn read_control(line: &str) -> Result<Control> {
    let value: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
    let text = |field: &str| value[field].as_str().with_context(|| format!("no {field}: {line}"));
    Ok(Control {
        name: text("control")?.to_owned(),
        loss_mode: value["loss_mode"].as_u64().with_context(|| format!("no loss_mode: {line}"))?,
        what: text("what")?.to_owned(),
    })
}
