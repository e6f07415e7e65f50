//! kutover-core stays pure: it may depend on what is listed here and on nothing else, and clippy refuses it the
//! standard library's clock, threads, files, sockets and environment.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Check, Context, Ran};

const CORE: &str = "kutover-core";

/// All that kutover-core may pull in, directly or not: data structures, serialisation and macros. What is not here is
/// refused, so that a runtime (tokio), a client (rdkafka), a clock (chrono, time) or randomness (rand, getrandom)
/// need not be known by name. A new entry must be free of all four.
const ALLOWED: &[&str] = &[
    "arc-swap",
    "async-trait",
    "bytes",
    "futures-core",
    "itoa",
    "memchr",
    "proc-macro2",
    "quote",
    "rustversion",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_json",
    "syn",
    "thiserror",
    "thiserror-impl",
    "unicode-ident",
    "zmij",
];

/// The checks of section `core`.
pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "kutover-core depends on nothing that has a runtime, a clock or randomness",
        run: dependencies,
    },
    Check { name: "kutover-core uses no clock, thread, file, socket or environment of std", run: clippy },
    super::threads::CHECK,
];

fn dependencies(context: &Context) -> Result<Ran> {
    let args = ["tree", "--package", CORE, "--edges", "normal,build", "--prefix", "none"];
    let tree = context.cargo(args).args(["--all-features", "--target", "all"]).quiet().read()?;
    let foreign = not_allowed(&tree)?;
    if !foreign.is_empty() {
        bail!(
            "{CORE} is pure and now pulls in {}. Move what needs it into another crate; a crate without runtime, \
             clock, randomness and I/O can be added to ALLOWED in xtask/src/test/purity.rs",
            foreign.join(", ")
        );
    }
    Ok(Ran::Passed)
}

/// The crates of a `cargo tree --prefix none` that are not on the list.
fn not_allowed(tree: &str) -> Result<Vec<String>> {
    let mut lines = tree.lines().filter(|line| !line.is_empty());
    let root = lines.next().context("cargo tree printed nothing")?;
    ensure!(root.starts_with("kutover-core v"), "cargo tree began with {root:?} and not with {CORE}");
    let mut foreign = BTreeSet::new();
    for line in lines {
        let name = line.split(' ').next().unwrap_or(line);
        // Section heads, such as `[build-dependencies]`.
        if !name.starts_with('[') && !ALLOWED.contains(&name) {
            foreign.insert(name.to_owned());
        }
    }
    Ok(foreign.into_iter().collect())
}

/// The list of what is refused is crates/kutover-core/clippy.toml; `forbid` so that no attribute can lift it.
fn clippy(context: &Context) -> Result<Ran> {
    if let Some(why) = crate::lint::component_missing(context, "clippy") {
        return Ok(Ran::Skipped(why));
    }
    let args = ["clippy", "--quiet", "--package", CORE, "--", "-D", "warnings"];
    let forbid = ["-F", "clippy::disallowed_methods", "-F", "clippy::disallowed_types"];
    context.cargo(args).args(forbid).quiet().run()?;
    Ok(Ran::Passed)
}

#[cfg(test)]
mod tests {
    use super::not_allowed;

    const PURE: &str = "\
kutover-core v0.1.0 (/somewhere/crates/kutover-core)
async-trait v0.1.92 (proc-macro)
proc-macro2 v1.0.107
serde v1.0.229
serde_derive v1.0.229 (proc-macro)
proc-macro2 v1.0.107 (*)";

    #[test]
    fn a_pure_tree_is_accepted() {
        assert!(not_allowed(PURE).unwrap().is_empty());
    }

    #[test]
    fn a_runtime_a_client_a_clock_and_randomness_are_refused_by_name() {
        let tree = format!(
            "{PURE}\ntokio v1.48.0\nmio v1.1.0\nrdkafka v0.39.0\nchrono v0.4.42\n\n[build-dependencies]\nrand v0.9.2"
        );
        assert_eq!(not_allowed(&tree).unwrap(), ["chrono", "mio", "rand", "rdkafka", "tokio"]);
    }

    #[test]
    fn a_tree_of_something_else_is_no_proof() {
        assert!(not_allowed("").is_err());
        assert!(not_allowed("kutover-dns v0.1.0 (/somewhere)").is_err());
    }
}
