//! `cargo xtask bench`: builds the measuring program with optimisations and runs it.
//!
//! The measuring itself is in `kutover-bench`, so that xtask stays quick to build.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{programs, test::Context};

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
    /// Records in one run (of `producer`)
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
    let mut options: Vec<String> = vec![what.into()];
    options.extend(json.then(|| "--json".into()));
    for (name, value) in [("--rounds", rounds), ("--records", records)] {
        if let Some(value) = value {
            options.extend([name.to_owned(), value.to_string()]);
        }
    }
    programs::run_one(&Context::new(false)?, "kutover-bench", &["--release"], &options)
}
