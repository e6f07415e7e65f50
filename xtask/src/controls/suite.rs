//! The suites: what is run without a defence, and how long it may take.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{built::Built, judge, process};
use crate::programs::Program;

/// A suite. New ones go where their time puts them: the quickest is tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Suite {
    /// kutover-core's tests.
    Core,
    /// Gate and entrance over every interleaving of their threads.
    Threads,
    /// kutover-controller's tests: whole cutovers in memory.
    Controller,
    /// A producer with its real threads and clients, between two embedded clusters.
    Producer,
    /// Every interleaving of small worlds.
    Worlds,
    /// Seeds of the simulation.
    Sim,
}

/// Seeds that a control is tried on where no proof says which.
const SEEDS: &str = "0..40";

impl Suite {
    /// All of them, the quickest first.
    pub(super) const ALL: &'static [Suite] =
        &[Suite::Core, Suite::Threads, Suite::Controller, Suite::Producer, Suite::Worlds, Suite::Sim];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Suite::Core => "core",
            Suite::Threads => "threads",
            Suite::Controller => "controller",
            Suite::Producer => "producer",
            Suite::Worlds => "worlds",
            Suite::Sim => "sim",
        }
    }

    /// Its programs, in the order in which they are tried.
    fn programs(self, built: &Built) -> Vec<&Program> {
        match self {
            Suite::Core => built.tests_of("kutover-core"),
            Suite::Threads => vec![built.threads()],
            Suite::Controller => built.tests_of("kutover-controller"),
            Suite::Producer => built.tests_of("kutover-producer"),
            Suite::Worlds => built.program_of("kutover-worlds").into_iter().collect(),
            Suite::Sim => built.program_of("kutover-sim").into_iter().collect(),
        }
    }

    /// What a program of it is run with: all of it, or `only` a test, a world or some seeds.
    fn args<'a>(self, only: Option<&'a str>, without: Option<&'a str>) -> Vec<&'a str> {
        match self {
            Suite::Core | Suite::Controller | Suite::Producer => only.into_iter().collect(),
            Suite::Threads => vec![only.unwrap_or(THREADS)],
            Suite::Worlds => {
                let only = only.into_iter().flat_map(|world| ["--only", world]);
                ["--json"].into_iter().chain(only).chain(flag(without)).collect()
            }
            Suite::Sim => {
                let seeds = ["--json", "--unshrunk", "--seeds", only.unwrap_or(SEEDS)];
                seeds.into_iter().chain(flag(without)).collect()
            }
        }
    }

    /// Runs a program of it without one defence.
    fn try_out(
        self,
        program: &Program,
        only: Option<&str>,
        without: &str,
        limit: Duration,
    ) -> Result<Outcome> {
        let ended = process::run(program, &self.args(only, Some(without)), Some(without), limit)?;
        let outcome = self.judge(program, &ended, limit)?;
        if matches!(outcome, Outcome::Hung { .. }) {
            ends(program, &self.args(only, None), limit)?;
        }
        Ok(outcome)
    }

    /// What `ended` says about the defence that was missing.
    fn judge(self, program: &Program, ended: &process::Ended, limit: Duration) -> Result<Outcome> {
        match self {
            // What searches may have more to search without a defence: there a broken promise is what counts.
            Suite::Worlds | Suite::Sim if ended.status.is_none() => Ok(Outcome::Held),
            _ if ended.status.is_none() => Ok(Outcome::Hung {
                by: format!("{} did not end in {:.0} s", program.target, limit.as_secs_f64()),
            }),
            Suite::Core | Suite::Threads | Suite::Controller | Suite::Producer => {
                judge::tests(&program.target, ended)
            }
            Suite::Worlds => judge::worlds(ended),
            Suite::Sim => judge::sim(ended),
        }
    }

    fn is_tests(self) -> bool {
        matches!(self, Suite::Core | Suite::Threads | Suite::Controller | Suite::Producer)
    }
}

/// The tests that stand on loom; the others do not run in a build with its atomics.
const THREADS: &str = "switch::threads";

fn flag(without: Option<&str>) -> impl Iterator<Item = &str> {
    without.into_iter().flat_map(|name| ["--without", name])
}

/// What became of a control in one suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The suite did not notice.
    Held,
    /// It did.
    Caught {
        /// The test, the world or the broken promise.
        by: String,
        /// After how many cases, states or seeds, where that is known.
        after: Option<String>,
    },
    /// It did not end, and with every defence in place it does.
    Hung {
        /// What, and in which time.
        by: String,
    },
}

/// Programs, and how long each takes with every defence in place.
type Timed<'a> = Vec<(&'a Program, Duration)>;

/// The suites. What is run without a defence is run with all of them before: one that fails by itself could not be
/// believed, and its time tells what hanging is.
pub(super) struct Suites<'a> {
    built: &'a Built,
    timed: BTreeMap<(Suite, Option<&'static str>), Timed<'a>>,
}

impl<'a> Suites<'a> {
    /// Nothing is run yet.
    pub(super) fn new(built: &'a Built) -> Self {
        Self { built, timed: BTreeMap::new() }
    }

    /// Runs a suite, or `only` a part of it, without one defence, program by program until one notices.
    pub(super) fn run(&mut self, suite: Suite, only: Option<&'static str>, without: &str) -> Result<Outcome> {
        for (program, usual) in self.baseline(suite, only)? {
            let outcome = suite.try_out(program, only, without, limit(usual))?;
            if outcome != Outcome::Held {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Held)
    }

    /// Programs that run anything of it, with their times.
    fn baseline(&mut self, suite: Suite, only: Option<&'static str>) -> Result<Timed<'a>> {
        if let Some(programs) = self.timed.get(&(suite, only)) {
            return Ok(programs.clone());
        }
        let (mut programs, part) = (Vec::new(), only.unwrap_or("all of it"));
        let all = Instant::now();
        for program in suite.programs(self.built) {
            let started = Instant::now();
            let ended = process::run(program, &suite.args(only, None), None, process::LONG)?;
            let (target, output) = (&program.target, &ended.output);
            let name = suite.name();
            ensure!(ended.is_success(), "{name}: {target} fails with every defence in place:\n{output}");
            if !suite.is_tests() || judge::runs_any_test(output) {
                programs.push((program, started.elapsed()));
            }
        }
        ensure!(!programs.is_empty(), "{}: no test is named {part}", suite.name());
        let (name, seconds) = (suite.name(), all.elapsed().as_secs_f64());
        println!("green with every defence: {name}, {part}: {seconds:.1} s");
        self.timed.insert((suite, only), programs.clone());
        Ok(programs)
    }
}

/// Whether a program ends in this time with every defence in place, just now: what hung may have been the machine, which is
/// busier than it was when the usual time was taken.
fn ends(program: &Program, args: &[&str], limit: Duration) -> Result<()> {
    let ended = process::run(program, args, None, limit)?;
    let (target, seconds) = (&program.target, limit.as_secs_f64());
    ensure!(
        ended.status.is_some(),
        "{target} did not end in {seconds:.0} s, and neither does it with every defence in place: the machine is too busy to tell"
    );
    ensure!(ended.is_success(), "{target} fails with every defence in place:\n{}", ended.output);
    Ok(())
}

/// Long enough for a machine that is busier than it was; short enough for all the controls that make
/// a test hang.
fn limit(usual: Duration) -> Duration {
    usual * 4 + Duration::from_secs(10)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn program(path: &str) -> Program {
        Program {
            package: "a".into(),
            kind: "bin".into(),
            target: "a".into(),
            is_test: false,
            path: path.into(),
            folder: ".".into(),
        }
    }

    #[test]
    fn a_test_that_hangs_has_noticed_and_a_search_that_hangs_has_not() {
        let hung = process::Ended { status: None, output: String::new() };
        let judged = |suite: Suite| suite.judge(&program("a"), &hung, Duration::from_secs(7)).unwrap();
        let by = Outcome::Hung { by: "a did not end in 7 s".into() };
        for suite in Suite::ALL {
            let expected = if suite.is_tests() { by.clone() } else { Outcome::Held };
            assert_eq!(judged(*suite), expected, "{suite:?}");
        }
    }

    /// A machine that has become busy makes everything hang: that shows nothing of any defence.
    #[test]
    fn what_hangs_with_every_defence_too_is_an_error() {
        let folder = std::env::temp_dir().join(format!("kutover-controls-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("script");
        let tried_out = |script: &str| {
            fs::write(&file, script).unwrap();
            Suite::Core.try_out(&program("/bin/sh"), file.to_str(), "no-flush", Duration::from_millis(500))
        };
        let hang = "read line </dev/zero";
        let without_it = tried_out(&format!("test -z \"$KUTOVER_WITHOUT\" || {hang}")).unwrap();
        let (always, broken) =
            (tried_out(hang), tried_out(&format!("test -z \"$KUTOVER_WITHOUT\" && exit 3; {hang}")));
        fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(without_it, Outcome::Hung { .. }), "{without_it:?}");
        assert!(always.unwrap_err().to_string().contains("too busy to tell"));
        assert!(broken.unwrap_err().to_string().contains("fails with every defence"));
    }
}
