//! kutover's benchmarks. `cargo xtask bench` builds and runs this.
//!
//! Producers run in one process and in turn, each on an embedded cluster of its own that nobody used before; what is
//! compared are medians. A run that loses a record is an error, whatever its speed.

// A program that talks to a person, run by xtask alone.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod contender;
mod drain;
mod producer;
mod world;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "kutover-bench", about = "Measures kutover against what it is built on")]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// `BlueGreenProducer` against a bare rdkafka `FutureProducer`, on embedded clusters
    Producer(producer::ProducerArgs),
    /// The drain proof of many groups against Kafka's own describe-all, on Apache Kafka
    Drain(drain::DrainArgs),
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    match Cli::parse().bench {
        Bench::Producer(args) => runtime.block_on(producer::run(&args)),
        Bench::Drain(args) => runtime.block_on(drain::run(&args)),
    }
}
