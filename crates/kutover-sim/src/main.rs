//! `kutover-sim`: runs seeds, says what it found, and how to see it again. `cargo xtask simulate` runs it.

// A program that people run talks to them.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use kutover_sim::batch::{self, Batch};
use kutover_sim::scene::{Size, Strategy};
use kutover_sim::shrink::Needed;
use kutover_sim::weather::{Level, Occurrence};
use kutover_sim::{Options, Outcome, rolling, shrink};

/// How many seeds are run if nothing else is said.
const SEEDS: u64 = 200;
/// How long it is looked for what a failure needs.
const SHRINKING: Duration = Duration::from_secs(60);

/// Runs whole deployments in virtual time, each from one seed.
#[derive(Parser)]
#[command(name = "kutover-sim", bin_name = "cargo xtask simulate")]
struct Cli {
    /// Which seeds: `A..B`, or one; otherwise 0..200, or with `--seconds` as many as there is time for
    #[arg(long, value_parser = seeds)]
    seeds: Option<(u64, u64)>,
    /// Begins no further seed after so many seconds
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// What moves the producers
    #[arg(long, value_enum, default_value_t = Chosen::Kutover)]
    strategy: Chosen,
    /// Producers in each world; otherwise as the seed has it
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    producers: Option<u32>,
    /// Groups in each world; otherwise as the seed has it, and one for ten producers from 100 producers on
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    groups: Option<u32>,
    /// Resolvers in each world; otherwise one for three producers
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    resolvers: Option<u32>,
    /// How much goes wrong; otherwise heavy
    #[arg(long, value_enum)]
    faults: Option<Level>,
    /// Only these faults strike: `kind#number`, with commas between; as a failure prints it
    #[arg(long, value_delimiter = ',')]
    only: Option<Vec<Occurrence>>,
    /// Does not look for the faults that a failure needs, which takes up to a minute
    #[arg(long)]
    unshrunk: bool,
    /// Prints every event of every seed on stderr
    #[arg(long)]
    trace: bool,
    /// Prints one JSON object as the last line on stdout
    #[arg(long)]
    json: bool,
    /// Takes a defence out; the build needs the feature `controls`
    #[arg(long)]
    without: Option<String>,
}

/// What can be asked for: the simulated strategies, and the one that is calculated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Chosen {
    /// `BlueGreenProducer`, moved by the controller
    Kutover,
    /// The published recipe: a new client on a timer
    Recipe,
    /// A change of DNS alone
    DnsOnly,
    /// What blue/green replaces, brokers batch by batch: what it costs, for the cluster of the first seed
    Rolling,
}

impl Chosen {
    fn simulated(self) -> Option<Strategy> {
        match self {
            Self::Kutover => Some(Strategy::Kutover),
            Self::Recipe => Some(Strategy::Recipe),
            Self::DnsOnly => Some(Strategy::DnsOnly),
            Self::Rolling => None,
        }
    }
}

impl Cli {
    /// The seeds from where to where: with nothing but a time, as many as there is time for.
    fn range(&self) -> (u64, u64) {
        self.seeds.unwrap_or((0, if self.seconds.is_some() { u64::MAX } else { SEEDS }))
    }

    fn level(&self) -> Level {
        self.faults.unwrap_or(Level::Heavy)
    }

    /// The first option that says something about a simulated world, where nothing is simulated.
    fn idle_option(&self) -> Option<&'static str> {
        let given = [
            ("--seconds", self.seconds.is_some()),
            ("--producers", self.producers.is_some()),
            ("--groups", self.groups.is_some()),
            ("--resolvers", self.resolvers.is_some()),
            ("--faults", self.faults.is_some()),
            ("--only", self.only.is_some()),
            ("--unshrunk", self.unshrunk),
            ("--trace", self.trace),
            ("--without", self.without.is_some()),
        ];
        given.into_iter().find_map(|(option, is_given)| is_given.then_some(option))
    }
}

/// Prints the comparison of docs/rolling.md.
fn rolling(seed: u64, json: bool) -> Result<(), String> {
    let options = rolling::Options { seed, ..rolling::Options::default() };
    let found = rolling::compare(&options)?;
    println!("{found}\n{}", rolling::hours_by_throttle(&options, &rolling::THROTTLES)?);
    if json {
        println!("{}", serde_json::to_string(&found).map_err(|error| error.to_string())?);
    }
    Ok(())
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}`: {error}"));
    match text.split_once("..") {
        Some((from, to)) => match (number(from)?, number(to)?) {
            (from, to) if from < to => Ok((from, to)),
            _ => Err("there is no seed in it: the end comes after the last one, as in 0..200".to_owned()),
        },
        None => {
            let one = number(text)?;
            Ok((one, one.checked_add(1).ok_or("the greatest seed is one less")?))
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(name) = &cli.without
        && let Err(error) = take_out(name)
    {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    let only: Option<BTreeSet<Occurrence>> = cli.only.clone().map(|only| only.into_iter().collect());
    let whole = only.is_none();
    let (first, end) = cli.range();
    let Some(strategy) = cli.strategy.simulated() else {
        if let Some(option) = cli.idle_option() {
            eprintln!(
                "error: {option} goes with the simulated strategies: `rolling` is calculated; leave it out"
            );
            return ExitCode::from(2);
        }
        return match rolling(first, cli.json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        };
    };
    let size = Size { producers: cli.producers, groups: cli.groups, resolvers: cli.resolvers };
    let options = Options { level: cli.level(), strategy, size, only, lines: cli.trace };
    match cli.seconds {
        Some(seconds) if cli.seeds.is_none() => eprintln!("seeds from 0 on, for {seconds} s"),
        _ => eprintln!("seeds {first}..{end}"),
    }
    let limit = cli.seconds.map(Duration::from_secs);
    let batch = batch::run_all(first..end, &options, limit, |outcome| {
        for line in &outcome.lines {
            eprintln!("{line}");
        }
        for violation in &outcome.violations {
            eprintln!("seed {}: {violation}", outcome.seed);
        }
    });
    if let Some(failed) = batch.failed.first().filter(|_| whole) {
        explain(&cli, failed, &options);
    }
    let wrong = batch.wrong();
    for wrong in &wrong {
        eprintln!("FAILED: {wrong}");
    }
    print(&batch, cli.json);
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How to see a failure again, and what it needs.
fn explain(cli: &Cli, failed: &Outcome, options: &Options) {
    let seed = failed.seed;
    let mut again = format!("cargo xtask simulate --seeds {seed}..{}", seed + 1);
    again += &format!(" --faults {} --strategy {}", named(&cli.level()), named(&cli.strategy));
    let sizes = [("producers", cli.producers), ("groups", cli.groups), ("resolvers", cli.resolvers)];
    for (option, count) in sizes {
        if let Some(count) = count {
            again += &format!(" --{option} {count}");
        }
    }
    if let Some(control) = &cli.without {
        again += &format!(" --without {control}");
    }
    eprintln!("to see it again: {again}");
    if cli.unshrunk {
        return;
    }
    let all = failed.struck.len();
    let Some(Needed { faults, runs, each }) = shrink::shrink(failed, options, SHRINKING) else {
        eprintln!(
            "the {all} faults that struck do not show it alone: also where none struck, time was taken"
        );
        return;
    };
    if faults.is_empty() {
        eprintln!("it needs none of its {all} faults: {again} --faults none may show it, too");
        return;
    }
    let needs = if each { "it needs" } else { "the time was over; it needs at most" };
    eprintln!("{needs} {} of its {all} faults (seen in {runs} runs):", faults.len());
    for struck in failed.struck.iter().filter(|struck| faults.contains(&struck.what)) {
        eprintln!("  {:>9.3} s  {}", struck.at_ms as f64 / 1e3, struck.what);
    }
    let list: Vec<_> = faults.iter().map(ToString::to_string).collect();
    eprintln!("with these alone: {again} --only {} --trace", list.join(","));
}

fn print(batch: &Batch, json: bool) {
    if json {
        println!("{}", batch.json());
    } else {
        println!("{}", batch.text());
    }
}

#[cfg(feature = "controls")]
fn take_out(name: &str) -> Result<(), String> {
    use kutover_core::controls::{Control, take_out};
    let control = Control::named(name).ok_or_else(|| format!("there is no control `{name}`"))?;
    take_out(Some(control));
    Ok(())
}

#[cfg(not(feature = "controls"))]
fn take_out(_: &str) -> Result<(), String> {
    Err("this build has no controls: build it with `--features controls`".into())
}

/// The name of a choice as it is written on the command line.
fn named(choice: &impl clap::ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_alone_ends_after_no_number_of_seeds() {
        let range = |options: &[&str]| Cli::parse_from([&["kutover-sim"], options].concat()).range();
        assert_eq!(range(&[]), (0, SEEDS));
        assert_eq!(range(&["--seconds", "5"]), (0, u64::MAX));
        assert_eq!(range(&["--seconds", "5", "--seeds", "3..9"]), (3, 9));
        assert_eq!(range(&["--seeds", "7"]), (7, 8));
    }

    /// A run that runs nothing is no success.
    #[test]
    fn what_runs_nothing_is_refused() {
        let greatest = u64::MAX.to_string();
        for (options, word) in [
            (["--seeds", "5..3"], "no seed in it"),
            (["--seeds", "3..3"], "no seed in it"),
            (["--seeds", greatest.as_str()], "the greatest seed"),
            (["--seconds", "0"], "--seconds"),
        ] {
            let error = Cli::try_parse_from(["kutover-sim"].into_iter().chain(options)).err();
            let error = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(word), "{options:?}: {error}");
        }
        let idle = |options: &[&str]| Cli::parse_from([&["kutover-sim"], options].concat()).idle_option();
        assert_eq!(idle(&["--strategy", "rolling", "--seeds", "3", "--json"]), None);
        assert_eq!(idle(&["--strategy", "rolling", "--faults", "none"]), Some("--faults"));
    }
}
