//! `cargo xtask controls`: takes every defence out in turn and looks whether the suites notice.
//!
//! The list is kutover-core's own (`Control::ALL`), and so is the switch: the test programs are built once with the
//! feature `controls`, and each of them asks the environment which defence it is to go without. A control that nothing
//! catches fails the run: either the defence is not needed, or nothing would notice if it broke.

mod built;
mod judge;
mod kafka;
mod process;
mod proofs;
mod report;
mod suite;

use std::{collections::BTreeSet, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use self::{
    built::Built,
    kafka::Staged,
    proofs::{PROOFS, Proof},
    report::{Catch, Report, Row},
    suite::{Outcome, Suite, Suites},
};
use crate::{
    evidence::Page,
    test::{Check, Context, Ran},
};

/// What `cargo xtask controls` takes.
#[derive(Args)]
pub(crate) struct ControlsArgs {
    /// Takes this control out alone; may be given more than once
    #[arg(long, value_name = "CONTROL", value_delimiter = ',')]
    only: Vec<String>,
    /// Tries every control on every suite, not on its proof alone, and names all that notice (long)
    #[arg(long)]
    all: bool,
    /// Takes out those whose loss shows on real Apache Kafka, there (needs Java and Maven)
    #[arg(long, conflicts_with = "all")]
    kafka: bool,
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

/// What the test section runs.
pub(crate) const CHECKS: &[Check] = &[Check {
    name: "every defence is missed when it is taken out",
    run: |context: &Context| {
        let report = take_out_each(context, &[], context.nightly)?;
        print!("{report}");
        ensure!(report.survived().next().is_none(), "nothing notices when a defence is missing");
        if context.nightly {
            report.stands_in(&Page::read(context)?)?;
        }
        Ok(Ran::Passed)
    },
}];

/// What the section of real Kafka runs. Its test programs play the scenes with every defence in place.
pub(crate) const CHECKS_ON_KAFKA: &[Check] = &[Check {
    name: "what a defence stops is let in without it",
    run: |context: &Context| match kafka::take_out_each(context, &[])? {
        Staged::Missing(what) => Ok(Ran::Skipped(what)),
        Staged::Played(report) => {
            print!("{report}");
            ensure!(report.survived().next().is_none(), "nothing is let in when a defence is missing");
            Ok(Ran::Passed)
        }
    },
}];

/// Runs what `args` ask for; a control that survives is a failure.
pub(crate) fn run(args: &ControlsArgs) -> Result<ExitCode> {
    let context = Context::new(false)?;
    let report = if args.kafka {
        kafka::play_all(&context)?;
        match kafka::take_out_each(&context, &args.only)? {
            Staged::Missing(what) => bail!("{what} is missing"),
            Staged::Played(report) => report,
        }
    } else {
        take_out_each(&context, &args.only, args.all)?
    };
    print!("{report}");
    if args.json {
        println!("{}", report.json());
    }
    Ok(if report.survived().next().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn take_out_each(context: &Context, only: &[String], all: bool) -> Result<Report> {
    let built = Built::new(context)?;
    let controls = controls(&built.list_of_controls()?)?;
    for name in only.iter().map(String::as_str).chain(PROOFS.iter().map(|proof| proof.control)) {
        ensure!(controls.iter().any(|control| control.name == name), "{name} is no control");
    }
    let mut suites = Suites::new(&built);
    let mut report = Report::default();
    for control in controls.iter().filter(|control| only.is_empty() || only.contains(&control.name)) {
        let row = take_out(&mut suites, control, all)?;
        println!("{row}");
        report.rows.push(row);
    }
    Ok(report)
}

fn take_out(suites: &mut Suites<'_>, control: &Control, all: bool) -> Result<Row> {
    let started = Instant::now();
    let proofs: Vec<&Proof> = PROOFS.iter().filter(|proof| proof.control == control.name).collect();
    let mut row = Row {
        loss_mode: control.loss_mode,
        control: control.name.clone(),
        what: control.what.clone(),
        tried: Vec::new(),
        caught: Vec::new(),
        elapsed: started.elapsed(),
        unproven: Vec::new(),
    };
    for proof in &proofs {
        if !attempt(suites, &mut row, proof.suite, Some(proof.only))? {
            row.unproven.push(proof.suite.name());
        }
    }
    for suite in Suite::ALL {
        if all || (proofs.is_empty() && row.caught.is_empty()) {
            attempt(suites, &mut row, *suite, None)?;
        }
    }
    row.elapsed = started.elapsed();
    Ok(row)
}

/// Whether the suite, or `only` a part of it, noticed.
fn attempt(suites: &mut Suites<'_>, row: &mut Row, suite: Suite, only: Option<&'static str>) -> Result<bool> {
    row.tried.push(suite.name());
    let (by, after) = match suites.run(suite, only, &row.control)? {
        Outcome::Held => return Ok(false),
        Outcome::Caught { by, after } => (by, after),
        Outcome::Hung { by } => (by, None),
    };
    row.caught.push(Catch { suite: suite.name(), by, after });
    Ok(true)
}

/// Which controls there are, as kutover-core's example `controls` says.
fn controls(said: &str) -> Result<Vec<Control>> {
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
