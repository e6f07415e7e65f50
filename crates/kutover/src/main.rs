//! The program: `kutover check` looks at a configuration, `kutover provision` makes a deployment's first cluster, `kutover plan`
//! says what a cutover would do, `kutover up` runs the one that a file describes, `kutover demo` makes a world and runs one
//! in it.
//!
//! What machines read goes to stdout, as its last line and only with `--json`; all else goes to stderr. A document that is
//! asked for (`check --schema`, `template`) is all that is on stdout.

mod aws;
mod check;
mod cli;
mod clients;
mod command;
mod demo;
mod drain;
mod failure;
mod journal;
mod name_server;
mod news;
mod plan;
mod provision;
mod report;
mod rfc2136;
mod traffic;
mod ui;
mod up;
mod wait_group;
mod wire;
mod world;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use cli::{Cli, Command};
use failure::Failure;

/// How long work that cannot be cut short (a client's last flush) may go on after everything else has ended.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // clap ends the program itself, with status 2, when the command line makes no sense.
    let cli = Cli::parse();
    // librdkafka and the like speak up only when asked: what matters comes as an error or an event.
    let filter = match std::env::var("KUTOVER_LOG").unwrap_or_default().as_str() {
        "" => EnvFilter::new("off"),
        asked => match EnvFilter::builder().parse(asked) {
            Ok(filter) => filter,
            Err(error) => return end(Err(Failure::Input(anyhow::anyhow!("KUTOVER_LOG={asked}: {error}")))),
        },
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(filter_fn(may_be_logged))).with(filter).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(Failure::Run(anyhow::anyhow!("starting the runtime: {error}")))),
    };
    let left = cli.command.when_interrupted();
    let result = runtime.block_on(async {
        tokio::select! {
            result = run(cli.command) => result,
            () = interrupted() => Err(Failure::Interrupted(left)),
        }
    });
    runtime.shutdown_timeout(LAST_MOMENTS);
    end(result)
}

/// Whether an event may be logged at all. At its finest level Amazon's SDK logs each request as it signs it, with the
/// session's token in it, and what a command that gives credentials has said.
fn may_be_logged(of: &Metadata<'_>) -> bool {
    !of.target().starts_with("aws_") || *of.level() < Level::TRACE
}

/// The exit status of a command that came to its end.
async fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Demo(options) => command::demo(options).await.map(status),
        Command::Check(options) => check::run(&options).await,
        Command::Plan(options) => plan::run(&options).await,
        Command::Provision(options) => provision::run(&options).await.map(|()| 0),
        Command::Template => command::template().map(|()| 0),
        Command::Up(options) => command::up(options).await.map(status),
        Command::Drain(options) => command::drain(options).await.map(status),
        Command::WaitGroup(options) => wait_group::run(options).await,
    }
}

fn status(is_success: bool) -> u8 {
    u8::from(!is_success)
}

/// Resolves when a person, a supervisor or a terminal that closes wants the program to end. What runs is dropped then, and
/// takes along what it started.
async fn interrupted() {
    // Asked before there is a handler, which would undo what `nohup` asks for.
    let outlives_its_terminal = ignores_hangup();
    let told = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = told(SignalKind::interrupt()) => {}
        () = told(SignalKind::terminate()) => {}
        () = told(SignalKind::hangup()), if !outlives_its_terminal => {}
    }
}

/// Whether whoever started the program wants it to go on when its terminal is closed. Where the system does not tell, nobody does.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal 1 is the mask's lowest bit.
    ignored.is_some_and(|mask| mask & 1 != 0)
}

fn end(result: Result<u8, Failure>) -> ExitCode {
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            ExitCode::from(failure.status())
        }
    }
}
