//! `cargo xtask bench`: builds the measuring program with optimisations and runs it.
//!
//! The measuring itself is in `kutover-bench`, so that xtask stays quick to build.

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::test::Context;

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    what: What,
    /// Prints one JSON object as the last line on stdout
    #[arg(long)]
    json: bool,
    /// Runs of each contender; medians are compared
    #[arg(long)]
    rounds: Option<u32>,
    /// Records in one run
    #[arg(long)]
    records: Option<u32>,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// `BlueGreenProducer` against a bare rdkafka `FutureProducer`, on embedded clusters
    Producer,
    /// The drain proof of many groups against Kafka's own describe-all, on Apache Kafka
    Drain,
}

/// Runs a benchmark; its output goes straight through.
pub(crate) fn run(args: BenchArgs) -> Result<()> {
    let BenchArgs { what, json, rounds, records } = args;
    let what = match what {
        What::Producer => "producer",
        What::Drain => "drain",
    };
    let mut options: Vec<String> = Vec::new();
    if json {
        options.push("--json".into());
    }
    for (name, value) in [("--rounds", rounds), ("--records", records)] {
        if let Some(value) = value {
            options.extend([name.to_owned(), value.to_string()]);
        }
    }
    let run = ["run", "--quiet", "--release", "--package", "kutover-bench", "--", what];
    Context::new(false)?.cargo(run).args(options).quiet().run().with_context(|| format!("bench {what}"))
}
