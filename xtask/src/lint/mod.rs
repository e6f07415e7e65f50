//! Section `lint`: what the tools check, and what only this project knows.

mod rust;
mod tidy;
pub(crate) mod tree;

use anyhow::{Context as _, Result};

use crate::test::{Check, Context, Ran};

/// The checks of section `lint`.
pub(crate) const CHECKS: &[Check] = &[
    Check { name: "files are of the agreed size, whole, and name no machine or registry", run: tidy::run },
    Check { name: "cargo fmt", run: fmt },
    Check { name: "cargo clippy without a warning", run: clippy },
    Check { name: "rustdoc without a warning", run: rustdoc },
    Check { name: "dependencies, licences and sources (deny.toml)", run: deny },
];

/// cargo-deny's version in CI, where it is installed if it is absent.
const CARGO_DENY: &str = "0.20.2";

/// Says that a component of the toolchain (`fmt`, `clippy`) is not there, or nothing if it is.
pub(crate) fn component_missing(context: &Context, command: &str) -> Option<String> {
    let found = context.cargo([command, "--version"]).quiet().ignore_stdout().ignore_stderr().run();
    let component = if command == "fmt" { "rustfmt" } else { command };
    found.err().map(|_| format!("cargo {command} is missing: rustup component add {component}"))
}

fn fmt(context: &Context) -> Result<Ran> {
    if let Some(why) = component_missing(context, "fmt") {
        return Ok(Ran::Skipped(why));
    }
    context.cargo(["fmt", "--all", "--check"]).quiet().run().context("cargo fmt --all mends it")?;
    Ok(Ran::Passed)
}

fn clippy(context: &Context) -> Result<Ran> {
    if let Some(why) = component_missing(context, "clippy") {
        return Ok(Ran::Skipped(why));
    }
    let args = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    context.cargo(args).quiet().run()?;
    Ok(Ran::Passed)
}

fn rustdoc(context: &Context) -> Result<Ran> {
    context.cargo(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings").quiet().run()?;
    Ok(Ran::Passed)
}

/// cargo-deny takes minutes to build: it is installed where nothing may be missing or long forms are wanted, and used
/// wherever it already is. Advisories are left out, since their database is one more download.
fn deny(context: &Context) -> Result<Ran> {
    let version = context.cargo(["deny", "--version"]).quiet().ignore_stderr().read();
    let install = context.ci || context.nightly;
    match version {
        Ok(version) if !install || version.ends_with(CARGO_DENY) => {}
        _ if install => {
            println!("lint: installing cargo-deny {CARGO_DENY}");
            let version = format!("={CARGO_DENY}");
            // Not optimised: it runs for seconds, and optimising it takes a minute and a half.
            let install = ["install", "cargo-deny", "--version", &version, "--locked", "--debug"];
            context.cargo(install).env("CARGO_PROFILE_DEV_DEBUG", "0").run()?;
        }
        _ => {
            let how = format!("cargo install cargo-deny --version ={CARGO_DENY} --locked");
            return Ok(Ran::Skipped(format!("cargo-deny is not installed (some minutes): {how}")));
        }
    }
    context
        .cargo([
            "deny",
            "--log-level",
            "warn",
            "check",
            "--hide-inclusion-graph",
            "bans",
            "licenses",
            "sources",
        ])
        .quiet()
        .run()?;
    Ok(Ran::Passed)
}
