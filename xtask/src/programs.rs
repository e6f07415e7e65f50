//! Programs that cargo builds for us, found by what cargo says of them.
//!
//! Nearly all are built with `--workspace` and chosen by target. Cargo gives a crate the features that the *chosen packages*
//! ask for, so that a choice by package builds hickory, rdkafka or the AWS SDK anew for nearly every section.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::test::Context;

/// How the simulation and the small worlds are built: optimised, and so that controls can be switched in, which takes debug
/// assertions. Always the same, since it takes minutes.
pub(crate) const SIM: [&str; 4] =
    ["--profile", "sim", "--features", "kutover-worlds/controls,kutover-sim/controls"];

/// Everything but this project's own crates is optimised.
pub(crate) const LOOM: [&str; 2] = ["--profile", "loom"];

/// One program of a package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Program {
    /// The package.
    pub(crate) package: String,
    /// `lib`, `test`, `bin` or `example`.
    pub(crate) kind: String,
    /// The target's name: of the library, an integration test, a binary.
    pub(crate) target: String,
    /// Whether it is libtest that runs.
    pub(crate) is_test: bool,
    /// The program.
    pub(crate) path: PathBuf,
    /// The package's folder, in which cargo would run it.
    pub(crate) folder: PathBuf,
}

impl Program {
    /// The program, started as cargo would start it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.folder);
        command.env("CARGO_MANIFEST_DIR", &self.folder).env("CARGO_PKG_NAME", &self.package);
        command
    }
}

/// Builds what `args` ask cargo for, in order of package and kind. What cargo has to say goes to stderr.
///
/// # Errors
///
/// It does not compile, or cargo cannot be understood.
pub(crate) fn build<'a>(context: &Context, args: impl IntoIterator<Item = &'a str>) -> Result<Vec<Program>> {
    let args = args.into_iter().chain(["--message-format", "json-render-diagnostics"]);
    let said = context.cargo(args).quiet().read()?;
    let mut programs = Vec::new();
    for line in said.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).context("cargo's messages are no JSON")?;
        programs.extend(read_artifact(&message));
    }
    programs.sort();
    Ok(programs)
}

/// Builds one program of the workspace that is no test, and nothing that it does not need.
///
/// # Errors
///
/// It does not compile.
pub(crate) fn build_one(context: &Context, name: &str, options: &[&str]) -> Result<Program> {
    let args = ["build", "--workspace", "--bin", name].into_iter().chain(options.iter().copied());
    let programs = build(context, args)?;
    let found = programs.into_iter().find(|program| program.kind == "bin" && program.target == name);
    found.with_context(|| format!("cargo has built no {name}"))
}

/// Runs a program that [`build_one`] builds; its output goes straight through.
///
/// # Errors
///
/// It does not compile, or it fails.
pub(crate) fn run_one<S: AsRef<str>>(
    context: &Context,
    name: &str,
    options: &[&str],
    args: &[S],
) -> Result<()> {
    let program = build_one(context, name, options)?;
    let status = Command::new(&program.path).args(args.iter().map(AsRef::as_ref)).status();
    let status = status.with_context(|| format!("{} does not start", program.path.display()))?;
    ensure!(status.success(), "{name} ended with {status}");
    Ok(())
}

/// The program that a message of cargo's announces, if it does.
fn read_artifact(message: &Value) -> Option<Program> {
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let folder = manifest.parent()?;
    Some(Program {
        package: package(message["package_id"].as_str()?, folder)?,
        kind: message["target"]["kind"][0].as_str()?.to_owned(),
        target: message["target"]["name"].as_str()?.to_owned(),
        is_test: message["profile"]["test"].as_bool()?,
        path: PathBuf::from(message["executable"].as_str()?),
        folder: folder.to_owned(),
    })
}

/// The package that an id names. Where its folder has the same name, the id leaves it out.
fn package(id: &str, folder: &Path) -> Option<String> {
    let (_, fragment) = id.rsplit_once('#')?;
    match fragment.split_once('@') {
        Some((name, _)) => Some(name.to_owned()),
        None => folder.file_name()?.to_str().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_read_from_cargos_message() {
        let message = serde_json::json!({
            "reason": "compiler-artifact",
            "package_id": "path+file:///there/crates/kutover-core#0.1.0",
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

    #[test]
    fn a_package_is_told_by_its_id_or_its_folder() {
        let folder = Path::new("/there/tests");
        let package = |id| package(id, folder);
        assert_eq!(package("path+file:///there/tests#kutover-tests@0.1.0").as_deref(), Some("kutover-tests"));
        assert_eq!(package("path+file:///there/tests#0.1.0").as_deref(), Some("tests"));
        assert_eq!(package("tests"), None);
    }
}
