//! Reproduces the clash of producer ids. `cargo xtask clash` builds and runs this.

// A program that talks to a person, run by xtask alone.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use kutover_clash::{BLUE, GREEN, World, reproduce};
use kutover_lab::Tools;

#[derive(Parser)]
#[command(name = "kutover-clash", about = "What stock clients lose that take their producer id along")]
struct Cli {
    /// Prints one JSON object as the last line on stdout
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    tokio::runtime::Runtime::new()?.block_on(run(&cli))
}

async fn run(cli: &Cli) -> Result<()> {
    let tools = Tools::from_env();
    for version in [BLUE, GREEN] {
        tools.ready(version).await?;
    }
    let _turn = tools.machine_turn().await?;
    eprintln!("Apache Kafka {BLUE} (blue) and {GREEN} (green), fresh");
    let world = World::start(tools).await?;
    let halves = reproduce(&world, |half| println!("{half}")).await?;
    if cli.json {
        println!("{}", serde_json::to_string(&halves).context("the report cannot be written")?);
    }
    for half in &halves {
        ensure!(half.shows(), "this does not show what it is there for: {half}");
    }
    Ok(())
}
