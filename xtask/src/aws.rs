//! Section `aws`: what no test target of kutover-aws sees.

use anyhow::Result;

use crate::lint::component_missing;
use crate::test::{Check, Context, Ran};

/// The checks of section `aws`.
pub(crate) const CHECKS: &[Check] =
    &[Check { name: "the program compiles with the feature aws, without a warning", run: program }];

/// Only looked at, not built, and with `--workspace`: so the SDK's own crates are known from the section `lint`.
fn program(context: &Context) -> Result<Ran> {
    if let Some(why) = component_missing(context, "clippy") {
        return Ok(Ran::Skipped(why));
    }
    let args =
        ["clippy", "--workspace", "--features", "kutover/aws", "--all-targets", "--", "-D", "warnings"];
    context.cargo(args).quiet().run()?;
    Ok(Ran::Passed)
}
