//! The suites: what is run without a defence, and how long it may take.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{
    built::{Built, Program},
    judge, process,
};

/// A suite. New ones go where their time puts them: the quickest is tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    /// kutover-core's tests.
    Core,
    /// kutover-controller's tests: whole cutovers in memory.
    Controller,
    /// Every interleaving of small worlds.
    Worlds,
    /// Seeds of the simulation.
    Sim,
}

/// Seeds that a control has to be caught in.
const SEEDS: &str = "0..60";

impl Suite {
    /// All of them, the quickest first.
    pub(super) const ALL: &'static [Suite] = &[Suite::Core, Suite::Controller, Suite::Worlds, Suite::Sim];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Suite::Core => "core",
            Suite::Controller => "controller",
            Suite::Worlds => "worlds",
            Suite::Sim => "sim",
        }
    }

    /// Its programs, in the order in which they are tried.
    fn programs(self, built: &Built) -> Vec<&Program> {
        match self {
            Suite::Core => built.tests_of("kutover-core"),
            Suite::Controller => built.tests_of("kutover-controller"),
            Suite::Worlds => built.program_of("kutover-worlds").into_iter().collect(),
            Suite::Sim => built.program_of("kutover-sim").into_iter().collect(),
        }
    }

    fn args(self, without: Option<&str>) -> Vec<&str> {
        let own: &[&str] = match self {
            Suite::Core | Suite::Controller => return vec![],
            Suite::Worlds => &["--json"],
            Suite::Sim => &["--json", "--seeds", SEEDS],
        };
        own.iter().copied().chain(without.into_iter().flat_map(|name| ["--without", name])).collect()
    }
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
}

/// The suites. Each is run as it is before it is run without anything: one that fails by itself could not be believed,
/// and its time tells what hanging is.
pub(super) struct Suites<'a> {
    built: &'a Built,
    timed: Vec<(Suite, Vec<(&'a Program, Duration)>)>,
}

impl<'a> Suites<'a> {
    /// Nothing is run yet.
    pub(super) fn new(built: &'a Built) -> Self {
        Self { built, timed: Vec::new() }
    }

    /// Whether its package is in this workspace.
    pub(super) fn has(&self, suite: Suite) -> bool {
        !suite.programs(self.built).is_empty()
    }

    /// Runs one suite without a defence, program by program until one notices.
    pub(super) fn run(&mut self, suite: Suite, without: &str) -> Result<Outcome> {
        for (program, usual) in self.baseline(suite)? {
            let limit = limit(usual);
            let ended = process::run(program, &suite.args(Some(without)), Some(without), limit)?;
            let outcome = match suite {
                _ if ended.status.is_none() => Outcome::Caught {
                    by: format!("{} did not end in {:.0} s", program.target, limit.as_secs_f64()),
                    after: None,
                },
                Suite::Core | Suite::Controller => judge::tests(&program.target, &ended),
                Suite::Worlds => judge::worlds(&ended)?,
                Suite::Sim => judge::sim(&ended)?,
            };
            if outcome != Outcome::Held {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Held)
    }

    fn baseline(&mut self, suite: Suite) -> Result<Vec<(&'a Program, Duration)>> {
        if let Some((_, programs)) = self.timed.iter().find(|(known, _)| *known == suite) {
            return Ok(programs.clone());
        }
        let (mut programs, name) = (Vec::new(), suite.name());
        let all = Instant::now();
        for program in suite.programs(self.built) {
            let started = Instant::now();
            let ended = process::run(program, &suite.args(None), None, process::LONG)?;
            let (target, output) = (&program.target, &ended.output);
            ensure!(ended.is_success(), "{name}: {target} fails with every defence in place:\n{output}");
            programs.push((program, started.elapsed()));
        }
        println!("suite {name}: green with every defence, {:.1} s", all.elapsed().as_secs_f64());
        self.timed.push((suite, programs.clone()));
        Ok(programs)
    }
}

/// Long enough for a machine that is busier than it was, and for shrinking; short enough for all the controls that make
/// a test hang.
fn limit(usual: Duration) -> Duration {
    usual * 4 + Duration::from_secs(10)
}
