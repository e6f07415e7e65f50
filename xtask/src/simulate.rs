//! `cargo xtask simulate`: builds the simulation with some optimisation and runs seeds.
//!
//! The simulation is in `kutover-sim`, so that xtask stays quick to build. Options go through as they are; `--help`
//! after `--` shows them.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::Value;
use xshell::Cmd;

use crate::{
    evidence::{Page, grouped},
    programs::{self, SIM},
    test::{Check, Context, Ran},
};

#[derive(Args)]
pub(crate) struct SimulateArgs {
    /// `--seeds A..B`, `--seconds N`, `--strategy kutover|recipe|dns-only|rolling`, `--producers N`, `--groups N`,
    /// `--resolvers N`, `--faults light|heavy|none`, `--only FAULTS`, `--trace`, `--json`, `--without CONTROL`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// What the test section runs: 200 seeds and a crowd, or with `--nightly` 1,000 seeds, ten minutes of new ones and five
/// crowds.
pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "seeds with heavy faults keep every promise, and show what they promise to show",
        run: |context: &Context| {
            let seeds = if context.nightly { 1_000 } else { 200 };
            let seed_range = format!("0..{seeds}");
            let options = ["--seeds", &seed_range, "--faults", "heavy", "--json"].map(str::to_owned);
            let json = command(context, &options)?.read().context("the simulation")?;
            promised(&serde_json::from_str(&json)?, seeds)?;
            if context.nightly {
                command(context, &new_seeds()?)?
                    .run()
                    .context("the simulation, on seeds that no run has had")?;
            }
            Ok(Ran::Passed)
        },
    },
    Check {
        name: "docs/evidence.md has the figures that these seeds give",
        run: |context: &Context| {
            let evidence = Page::read(context)?;
            for (strategy, seeds, figures) in
                [("recipe", "0..100", recipe as Figures), ("dns-only", "0..50", dns_only)]
            {
                let options = ["--strategy", strategy, "--seeds", seeds, "--json"].map(str::to_owned);
                evidence.says(&figures(&ran(context, &options)?))?;
            }
            if context.nightly {
                let options = ["--seeds", "0..1000", "--json"].map(str::to_owned);
                evidence.says(&kutover(&ran(context, &options)?))?;
            }
            Ok(Ran::Passed)
        },
    },
    Check {
        name: "2,000 producers, 200 groups and 667 resolvers keep every promise through a cutover",
        run: |context: &Context| {
            let seeds = if context.nightly { "1..6" } else { "1" };
            let options = ["--seeds", seeds, "--producers", "2000", "--faults", "light", "--json"];
            let json = command(context, &options.map(str::to_owned))?.read().context("the simulation")?;
            let run: Value = serde_json::from_str(&json)?;
            let number = |field: &str| run[field].as_u64().with_context(|| format!("no {field} in {run}"));
            let worlds = number("seeds")?;
            ensure!(number("lost")? == 0 && number("violations")? == 0, "a promise was broken: {run}");
            ensure!(number("cutovers")? > 0, "no cutover came to its end: {run}");
            ensure!(number("producers")? == 2_000 * worlds, "not the producers that were asked for: {run}");
            ensure!(number("groups")? == 200 * worlds, "not one group for ten producers: {run}");
            if context.nightly {
                Page::read(context)?.says(&crowd(&run))?;
            }
            Ok(Ran::Passed)
        },
    },
];

/// What a run's figures read like in docs/evidence.md.
type Figures = fn(&Value) -> Vec<String>;

fn recipe(run: &Value) -> Vec<String> {
    let [lost, accepted, returned] = ["lost", "accepted", "returned"].map(|field| grouped(&run[field]));
    vec![format!("{lost} of {accepted} accepted records lost, {returned} more returned")]
}

fn dns_only(run: &Value) -> Vec<String> {
    let fields = ["never_moved", "producers", "accepted", "returned"];
    let [never, producers, accepted, returned] = fields.map(|field| grouped(&run[field]));
    vec![format!(
        "{never} of {producers} producers never moved; none of {accepted} accepted records lost, {returned} returned"
    )]
}

fn kutover(run: &Value) -> Vec<String> {
    let number = |field: &str| grouped(&run[field]);
    let counted = |fields: [&str; 4]| fields.map(number);
    let [events, cutovers, rollbacks, taken_back] =
        counted(["events", "cutovers", "rollbacks", "taken_back"]);
    let [crashes, pauses, aborts, aged_out] = counted(["crashes", "pauses", "aborts", "aged_out"]);
    let [accepted, duplicated, own, returned] = counted(["accepted", "duplicated", "own", "returned"]);
    let [wait, room, calm, seal] =
        counted(["longest_wait_ms", "longest_room_ms", "longest_calm_wait_ms", "longest_seal_ms"]);
    let (faults, effects) = (&run["faults"], &run["took_effect"]);
    let struck: u64 =
        faults.as_object().into_iter().flat_map(|faults| faults.values()).filter_map(Value::as_u64).sum();
    let (struck, kinds) = (grouped(&struck.into()), faults.as_object().map_or(0, serde_json::Map::len));
    let [met, late] = ["controllers-meet", "call-outlives-caller"].map(|kind| grouped(&effects[kind]));
    vec![
        format!("{events} events in"),
        format!("{cutovers} cutovers, {rollbacks} of them rolled back"),
        format!("{taken_back} of these because"),
        format!("{aborts} aborts"),
        format!("{crashes} controllers crashed, {pauses} paused, {met} met a second one"),
        format!("{struck} faults of {kinds} kinds"),
        format!("{late} calls landed when nobody waited"),
        format!("{accepted} records accepted, **0 lost, 0 violations**, {duplicated} duplicates"),
        format!("Retention took {aged_out} records"),
        format!("returned {returned} of {own}"),
        format!("{wait} ms at a switch, {room} ms of it for room, {calm} ms while nothing went wrong"),
        format!("{seal} ms until a client was settled"),
    ]
}

fn crowd(run: &Value) -> Vec<String> {
    let [events, cutovers, rollbacks, accepted] =
        ["events", "cutovers", "rollbacks", "accepted"].map(|field| grouped(&run[field]));
    vec![
        format!("{events} events in"),
        format!(
            "{cutovers} cutovers, {rollbacks} of them rolled back, {accepted} records, 0 lost, 0 violations"
        ),
    ]
}

fn ran(context: &Context, options: &[String]) -> Result<Value> {
    Ok(serde_json::from_str(&command(context, options)?.read().context("the simulation")?)?)
}

/// Ten minutes of seeds that no run has had before: a range for each day, printed first, so that what fails is seen again.
fn new_seeds() -> Result<Vec<String>> {
    let day = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 86_400;
    let range = format!("{}..{}", day * 1_000_000, (day + 1) * 1_000_000);
    Ok(["--seeds", &range, "--seconds", "600", "--faults", "heavy"].map(str::to_owned).to_vec())
}

/// Whether a run of so many seeds did its share: of a thousand a million events and a thousand cutovers are promised.
fn promised(run: &Value, seeds: u64) -> Result<()> {
    let number = |field: &str| run[field].as_u64().with_context(|| format!("no {field} in {run}"));
    ensure!(run["schema"] == "kutover.simulation/1", "another schema: {run}");
    for none in ["lost", "violations"] {
        ensure!(number(none)? == 0, "{none} is not 0: {run}");
    }
    // Who goes back whenever something is amiss ends every run, and never gets anybody to the new cluster.
    ensure!(number("rollbacks")? * 2 <= number("cutovers")?, "more went back than got there: {run}");
    let of_a_thousand = [
        ("events", 1_000_000),
        ("cutovers", 1_000),
        ("rollbacks", 200),
        ("crashes", 200),
        ("pauses", 200),
        ("resumes", 200),
    ];
    for (field, least) in of_a_thousand {
        let least = least * seeds / 1_000;
        let seen = number(field)?;
        ensure!(seen >= least, "{field} is {seen}, below {least}: {run}");
    }
    for field in ["duplicated", "out_of_order", "events_per_s", "seeds"] {
        number(field)?;
    }
    let faults = run["faults"].as_object().with_context(|| format!("no faults in {run}"))?;
    for (fault, struck) in faults {
        ensure!(struck.as_u64() > Some(0), "no {fault} ever struck: {run}");
    }
    Ok(())
}

/// The simulation with these options.
fn command<'a>(context: &'a Context, options: &[String]) -> Result<Cmd<'a>> {
    let program = programs::build_one(context, "kutover-sim", &SIM)?;
    Ok(context.sh.cmd(program.path).args(options).quiet())
}

/// Runs it; its output goes straight through.
pub(crate) fn run(args: &SimulateArgs) -> Result<()> {
    command(&Context::new(false)?, &args.options)?.run().context("the simulation")
}
