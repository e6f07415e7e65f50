//! The switch's threads over every interleaving. The tests need kutover-core with its atomics and lock replaced by loom's,
//! which no other test wants, and an optimised loom.

use anyhow::Result;

use super::{Check, Context, Ran};
use crate::programs::LOOM;

/// Gate and entrance under loom; `--nightly` allows one preemption more.
pub(crate) const CHECK: Check =
    Check { name: "gate and entrance lose nothing over any interleaving of their threads (loom)", run };

fn run(context: &Context) -> Result<Ran> {
    let build = ["--package", "kutover-core", "--features", "threads", "--lib"];
    let tests = ["switch::threads", "--", "--show-output"];
    let command = context.cargo(["test"]).args(LOOM).args(build).args(tests).quiet();
    if context.nightly { command.env(super::cargo_test::NIGHTLY, "1") } else { command }.run()?;
    Ok(Ran::Passed)
}
