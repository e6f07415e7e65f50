//! The test programs, built once with the feature `controls`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::process;
use crate::test::Context;

/// Packages whose test programs are suites. The feature is kutover-core's; those that stand on it get it with it.
const TESTED: [&str; 2] = ["kutover-core", "kutover-controller"];

/// Packages whose program is a suite.
const PROGRAMS: [&str; 2] = ["kutover-worlds", "kutover-sim"];

/// One program of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The package.
    pub(super) package: String,
    /// The target's name: of the library, an integration test, a binary.
    pub(super) target: String,
    /// `lib`, `test`, `bin` or `example`.
    pub(super) kind: String,
    /// Whether it is libtest that runs.
    pub(super) is_test: bool,
    /// The program.
    pub(super) path: PathBuf,
    /// The package's folder, in which cargo would run it.
    pub(super) folder: PathBuf,
}

/// All programs.
pub(super) struct Built {
    programs: Vec<Program>,
    threads: Program,
}

impl Built {
    /// Builds them, optimised: they run many times. The profile keeps debug assertions, without which the feature does not
    /// compile.
    pub(super) fn new(context: &Context) -> Result<Self> {
        println!("building the suites with the feature `controls`");
        let packages = TESTED.iter().flat_map(|package| ["--package", package]);
        let features = ["--features", "kutover-core/controls"];
        let mut programs = build(context, &["test", "--no-run"], packages.chain(features))?;
        let features = PROGRAMS.map(|package| format!("{package}/controls")).join(",");
        let features = ["--features", features.as_str()];
        let packages = PROGRAMS.iter().flat_map(|package| ["--package", package]);
        programs.extend(build(context, &["build", "--bins"], packages.chain(features))?);
        // Not optimised: librdkafka takes the time to build, and everybody else has it like this.
        let switch = ["--package", "kutover-producer", "--features", "controls", "--test", "switch"];
        programs.extend(build_as(context, &["test", "--no-run"], &[], switch.into_iter())?);
        let threads = ["--package", "kutover-core", "--lib", "--features", "controls,threads"];
        let threads = build(context, &["test", "--no-run"], threads.into_iter())?;
        let threads = threads.into_iter().find(|program| program.is_test);
        Ok(Self { programs, threads: threads.context("kutover-core has no test program on loom")? })
    }

    /// The test programs of a package: the library's first, since its tests are the quickest.
    pub(super) fn tests_of(&self, package: &str) -> Vec<&Program> {
        let mut tests: Vec<&Program> =
            self.programs.iter().filter(|program| program.package == package && program.is_test).collect();
        tests.sort_by_key(|program| (program.kind != "lib", program.target.clone()));
        tests
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

/// What kutover-core's example `controls` prints, if it is among these programs.
fn list_of_controls(programs: &[Program]) -> Result<String> {
    let is_it = |program: &&Program| program.kind == "example" && program.target == "controls";
    let program = programs.iter().find(is_it).context("kutover-core's example `controls` was not built")?;
    let ended = process::run(program, &[], None, process::LONG)?;
    ensure!(ended.is_success(), "{} failed", program.path.display());
    Ok(ended.output)
}

/// The scenes on real Kafka, and the list of controls. Not optimised: the brokers take the time, and what the other tests
/// of real Kafka are built on is built already.
pub(super) fn on_kafka(context: &Context) -> Result<(Program, String)> {
    println!("building the scenes on real Kafka with the feature `controls`");
    let features = ["--features", "kutover-tests-kafka/controls"];
    let both = ["--package", "kutover-tests-kafka", "--package", "kutover-core"];
    let what = |target: [&'static str; 2]| both.into_iter().chain(features).chain(target);
    let list = build_as(context, &["build"], &[], what(["--example", "controls"]))?;
    let tests = build_as(context, &["test", "--no-run"], &[], what(["--test", "losses"]))?;
    let scenes = tests.into_iter().find(|program| program.is_test && program.target == "losses");
    Ok((scenes.context("kutover-tests-kafka has no test `losses`")?, list_of_controls(&list)?))
}

/// Builds with debug assertions, optimised.
fn build<'a>(
    context: &Context,
    command: &[&str],
    what: impl Iterator<Item = &'a str>,
) -> Result<Vec<Program>> {
    build_as(context, command, &["--profile", "sim"], what)
}

fn build_as<'a>(
    context: &Context,
    command: &[&str],
    profile: &[&str],
    what: impl Iterator<Item = &'a str>,
) -> Result<Vec<Program>> {
    let how = ["--quiet", "--message-format", "json"];
    let said = context.cargo(command).args(profile).args(how).args(what).quiet().read()?;
    let mut programs = Vec::new();
    for line in said.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).context("cargo's messages are no JSON")?;
        programs.extend(read_artifact(&message));
    }
    Ok(programs)
}

/// The program that a message of cargo's announces, if it does.
fn read_artifact(message: &Value) -> Option<Program> {
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let folder = manifest.parent()?.to_owned();
    Some(Program {
        package: folder.file_name()?.to_str()?.to_owned(),
        target: message["target"]["name"].as_str()?.to_owned(),
        kind: message["target"]["kind"][0].as_str()?.to_owned(),
        is_test: message["profile"]["test"].as_bool()?,
        path: PathBuf::from(message["executable"].as_str()?),
        folder,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_read_from_cargos_message() {
        let message = serde_json::json!({
            "reason": "compiler-artifact",
            "manifest_path": "/there/crates/kutover-core/Cargo.toml",
            "target": { "kind": ["test"], "name": "switch_property" },
            "profile": { "test": true },
            "executable": "/there/target/sim/deps/switch_property-1",
        });
        let program = read_artifact(&message).unwrap();
        assert_eq!((program.package.as_str(), program.target.as_str()), ("kutover-core", "switch_property"));
        assert!(program.is_test);
        let mut library = message.clone();
        library["executable"] = Value::Null;
        assert_eq!(read_artifact(&library), None);
        assert_eq!(read_artifact(&serde_json::json!({ "reason": "build-finished" })), None);
    }
}
