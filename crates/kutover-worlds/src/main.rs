//! Runs the small worlds: one line for each, and the path to a broken promise where there is one.

// The one place of this crate that talks to a person.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;
use kutover_core::controls::Control;
use kutover_worlds::{CATCHES, Outcome, WORLDS, World};

#[derive(Parser)]
#[command(about = "Exhaustive small worlds: every interleaving of kutover's real machines")]
struct Cli {
    /// This world alone (can be given several times)
    #[arg(long)]
    only: Vec<String>,
    /// Takes out a defence; the world that is known to notice must find a path
    #[arg(long)]
    without: Option<String>,
    /// Prints one JSON object as the last line on stdout
    #[arg(long)]
    json: bool,
    /// Names the worlds and what each is about
    #[arg(long)]
    list: bool,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

#[derive(serde::Serialize)]
struct Report<'a> {
    schema: &'static str,
    without: Option<&'a str>,
    states: usize,
    seconds: f64,
    worlds: &'a [Outcome],
    failures: &'a [String],
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.list {
        WORLDS.iter().for_each(|world| println!("{}: {}", world.name, world.about));
        return ExitCode::SUCCESS;
    }
    let control = match cli.without.as_deref().map(take_out).transpose() {
        Ok(control) => control,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let chosen = match chosen(&cli.only, control) {
        Ok(chosen) => chosen,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let (mut outcomes, mut failures) = (Vec::new(), Vec::new());
    for world in chosen {
        let outcome = world.check(cli.threads);
        tell(&outcome);
        failures.extend(fault(world, control, &outcome));
        outcomes.push(outcome);
    }
    for failure in &failures {
        eprintln!("failed: {failure}");
    }
    if cli.json {
        let report = Report {
            schema: "kutover.worlds/1",
            without: cli.without.as_deref(),
            states: outcomes.iter().map(|outcome| outcome.states).sum(),
            seconds: outcomes.iter().map(|outcome| outcome.seconds).sum(),
            worlds: &outcomes,
            failures: &failures,
        };
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The worlds that were asked for. With a control and none named: those that are known to notice it.
fn chosen(only: &[String], control: Option<Control>) -> Result<Vec<&'static World>, String> {
    if let Some(unknown) = only.iter().find(|name| WORLDS.iter().all(|world| world.name != **name)) {
        return Err(format!("there is no world {unknown}; see --list"));
    }
    let catches =
        |world: &&World| CATCHES.iter().any(|catch| Some(catch.0) == control && catch.1 == world.name);
    let chosen: Vec<_> = match (only.is_empty(), control) {
        (false, _) => WORLDS.iter().filter(|world| only.iter().any(|name| name == world.name)).collect(),
        (true, Some(_)) => WORLDS.iter().filter(catches).collect(),
        (true, None) => WORLDS.iter().collect(),
    };
    if chosen.is_empty() { Err("no world is known to notice this control".into()) } else { Ok(chosen) }
}

/// What is wrong with how a world came out.
fn fault(world: &World, control: Option<Control>, outcome: &Outcome) -> Option<String> {
    match (&outcome.found, control) {
        (Some(found), None) => Some(format!("{}: {}", world.name, found.promise)),
        (None, Some(control)) => Some(format!("{}: nothing found without {}", world.name, control.name())),
        (None, None) if outcome.states < world.least => Some(format!(
            "{}: {} states, at least {} were known: something no longer happens in it",
            world.name, outcome.states, world.least
        )),
        _ => None,
    }
}

fn tell(outcome: &Outcome) {
    let Outcome { world, states, transitions, depth, ends, seconds, .. } = outcome;
    println!(
        "{world}: {states} states, {transitions} transitions, {depth} steps deep, {ends} ends, {seconds:.1} s: {}",
        outcome.found.as_ref().map_or("every promise holds", |found| &found.promise)
    );
    if let Some(found) = &outcome.found {
        for (number, step) in (1..).zip(&found.path) {
            println!("  {number:>3}. {step}");
        }
        println!("       {}", found.seen);
    }
}

#[cfg(feature = "controls")]
fn take_out(name: &str) -> Result<Control, String> {
    let control = Control::named(name).ok_or_else(|| format!("{name} is no control"))?;
    kutover_core::controls::take_out(Some(control));
    Ok(control)
}

#[cfg(not(feature = "controls"))]
fn take_out(name: &str) -> Result<Control, String> {
    Err(format!("cannot take out {name}: build with --features controls"))
}
