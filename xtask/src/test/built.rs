//! The test programs of the chosen sections, built at once and run section by section.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{Context, sections::Section};
use crate::programs::{self, Program};

/// The test programs, as soon as a section asks for them: what is said without them is said before.
pub(super) struct Built<'a> {
    context: &'a Context,
    /// The packages whose programs are wanted.
    packages: BTreeSet<&'static str>,
    /// All of the workspace is wanted.
    all: bool,
    programs: Option<Result<Vec<Program>, String>>,
    /// How long it took.
    pub(super) took: Duration,
}

impl<'a> Built<'a> {
    /// Nothing is built yet.
    pub(super) fn new(context: &'a Context, chosen: &[&'static Section], all: bool) -> Self {
        let packages = chosen.iter().flat_map(|section| packages(section)).collect();
        Self { context, packages, all, programs: None, took: Duration::ZERO }
    }

    /// The section's programs; why there are none, if they do not compile.
    pub(super) fn tests_of(&mut self, section: &Section) -> Result<Vec<&Program>, String> {
        if packages(section).next().is_none() {
            return Ok(Vec::new());
        }
        let programs = self.now().as_ref().map_err(String::clone)?;
        Ok(programs.iter().filter(|program| is_of(section, program)).collect())
    }

    /// Builds them, if that has not been tried.
    pub(super) fn now(&mut self) -> &Result<Vec<Program>, String> {
        if self.programs.is_none() {
            let started = Instant::now();
            self.programs = Some(self.build());
            self.took = started.elapsed();
        }
        self.programs.as_ref().expect("it was just set")
    }

    /// All targets: binaries too, which some tests start.
    fn build(&self) -> Result<Vec<Program>, String> {
        let packages = self.packages.iter().flat_map(|package| ["--package", package]);
        let chosen: Vec<&str> = if self.all { vec!["--workspace"] } else { packages.collect() };
        let args = ["test", "--no-run", "--all-targets"].into_iter().chain(chosen);
        programs::build(self.context, args)
            .map_err(|_| "the tests do not compile (see cargo's output above)".to_owned())
    }
}

/// The packages whose programs a section runs.
fn packages(section: &Section) -> impl Iterator<Item = &'static str> {
    section.packages.iter().copied().chain(section.targets.iter().map(|(package, _)| *package))
}

fn is_of(section: &Section, program: &Program) -> bool {
    let Program { package, target, kind, is_test, .. } = program;
    let named = (package.as_str(), target.as_str());
    *is_test
        && (section.packages.contains(&package.as_str())
            || (kind == "test" && section.targets.contains(&named)))
}
