//! The switch's threads over every interleaving. The tests need kutover-core with its atomics and lock replaced by loom's,
//! which no other test wants, and an optimised build.

use anyhow::Result;

use super::{Check, Context, Ran};

/// Gate and entrance under loom; `--nightly` allows one preemption more.
pub(crate) const CHECK: Check =
    Check { name: "gate and entrance lose nothing over any interleaving of their threads (loom)", run };

fn run(context: &Context) -> Result<Ran> {
    let build = ["test", "--profile", "sim", "--package", "kutover-core", "--features", "threads", "--lib"];
    let tests = ["switch::threads", "--", "--show-output"];
    let command = context.cargo(build).args(tests).quiet();
    if context.nightly { command.env(super::cargo_test::NIGHTLY, "1") } else { command }.run()?;
    Ok(Ran::Passed)
}
