//! The programs that are run without a defence, built once with the feature `controls`.

use anyhow::{Context as _, Result, ensure};

use super::process;
use crate::{
    programs::{self, LOOM, Program, SIM},
    test::Context,
};

/// kutover-controller's tests that are a suite: they drive whole cutovers.
const CONTROLLER: [&str; 9] =
    ["changes", "connect", "drive", "left_behind", "mocks", "retention", "rollback", "takeover", "way_back"];

/// kutover-producer's.
const PRODUCER: [&str; 1] = ["switch"];

/// All programs.
pub(super) struct Built {
    programs: Vec<Program>,
    threads: Program,
}

impl Built {
    /// Builds them. What searches is optimised. Tests are not: it takes minutes, and those that stand on a runtime and
    /// clients are nearly there already as everybody else has them.
    pub(super) fn new(context: &Context) -> Result<Self> {
        println!("building the suites with the feature `controls`");
        let core = ["--package", "kutover-core", "--features", "controls"];
        let mut programs =
            programs::build(context, ["test", "--no-run"].into_iter().chain(LOOM).chain(core))?;
        let worlds = ["--bin", "kutover-worlds", "--bin", "kutover-sim"];
        programs
            .extend(programs::build(context, ["build", "--workspace"].into_iter().chain(SIM).chain(worlds))?);
        let tests = CONTROLLER.into_iter().chain(PRODUCER).flat_map(|test| ["--test", test]);
        let command = ["test", "--no-run", "--workspace"].into_iter().chain(WITH_CONTROLS);
        programs.extend(programs::build(context, command.chain(tests))?);
        let threads = ["--package", "kutover-core", "--lib", "--features", "controls,threads"];
        let threads = programs::build(context, ["test", "--no-run"].into_iter().chain(LOOM).chain(threads))?;
        let threads = threads.into_iter().find(|program| program.is_test);
        Ok(Self { programs, threads: threads.context("kutover-core has no test program on loom")? })
    }

    /// The test programs of a package: the library's first, since its tests are the quickest.
    pub(super) fn tests_of(&self, package: &str) -> Vec<&Program> {
        self.programs.iter().filter(|program| program.package == package && program.is_test).collect()
    }

    /// kutover-core's tests, its gate and entrance on loom's atomics.
    pub(super) fn threads(&self) -> &Program {
        &self.threads
    }

    /// The program of a package, if it was built.
    pub(super) fn program_of(&self, package: &str) -> Option<&Program> {
        self.programs.iter().find(|program| program.package == package && program.kind == "bin")
    }

    /// What kutover-core's example `controls` prints.
    pub(super) fn list_of_controls(&self) -> Result<String> {
        list_of_controls(&self.programs)
    }
}

/// The same for all that is not optimised, so that it is built once. The feature is kutover-core's; what stands on it gets
/// it with it.
const WITH_CONTROLS: [&str; 2] = ["--features", "kutover-tests-kafka/controls,kutover-producer/controls"];

/// What kutover-core's example `controls` prints, if it is among these programs.
fn list_of_controls(programs: &[Program]) -> Result<String> {
    let is_it = |program: &&Program| program.kind == "example" && program.target == "controls";
    let program = programs.iter().find(is_it).context("kutover-core's example `controls` was not built")?;
    let ended = process::run(program, &[], None, process::LONG)?;
    ensure!(ended.is_success(), "{} failed", program.path.display());
    Ok(ended.output)
}

/// The scenes on real Kafka, and the list of controls.
pub(super) fn on_kafka(context: &Context) -> Result<(Program, String)> {
    println!("building the scenes on real Kafka with the feature `controls`");
    let both = |args: [&'static str; 4]| args.into_iter().chain(WITH_CONTROLS);
    // `cargo test` would make a test of the example.
    let list = list_of_controls(&programs::build(
        context,
        both(["build", "--workspace", "--example", "controls"]),
    )?)?;
    let command = both(["test", "--no-run", "--workspace", "--test=losses"]);
    let scenes = programs::build(context, command)?
        .into_iter()
        .find(|program| program.is_test && program.target == "losses");
    Ok((scenes.context("kutover-tests-kafka has no test `losses`")?, list))
}
