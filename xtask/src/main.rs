//! The project's own tasks, run as `cargo xtask <task>`.
//!
//! One file per task or kind of check; nothing here is part of what a service embeds.

// The one place beside the program that talks to a person.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod aws;
mod bench;
mod clash;
mod controls;
mod docs;
mod evidence;
mod limited;
mod lint;
mod mutants;
mod programs;
mod simulate;
mod terraform;
mod test;
mod worlds;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "kutover's own tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs the tests, section by section, and counts what passed, failed and was skipped
    Test(test::TestArgs),
    /// Measures the producer against a bare client, or the drain proof against Kafka's own
    Bench(bench::BenchArgs),
    /// Shows on real Kafka what stock clients lose that take their producer id along, and that separation mends it
    Clash(clash::ClashArgs),
    /// Takes every defence out in turn; one that no suite misses fails the run
    Controls(controls::ControlsArgs),
    /// Changes every expression of the machines and proofs in turn, and lists what no test misses (hours)
    Mutants(mutants::MutantsArgs),
    /// Runs whole deployments in virtual time, each from a seed, while everything goes wrong
    Simulate(simulate::SimulateArgs),
    /// Visits every state of the small worlds, with the real machines in them
    Worlds(worlds::WorldsArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(args).map(|()| ExitCode::SUCCESS),
        Task::Clash(args) => clash::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Controls(args) => controls::run(&args),
        Task::Mutants(args) => mutants::run(&args),
        Task::Simulate(args) => simulate::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Worlds(args) => worlds::run(args).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
