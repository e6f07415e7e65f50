//! The example for Terraform, run with Terraform itself. It is part of the tests with `--nightly` alone, because Terraform is
//! built for it where it is absent, which takes some minutes.

use anyhow::{Context as _, Result, ensure};

use crate::test::{Check, Context, Ran};

/// The last version under a licence that lets anybody build and use it (MPL-2.0).
const MODULE: &str = "github.com/hashicorp/terraform@v1.5.7";
/// Where it is put.
const BUILT: &str = "target/terraform";

/// What the test section runs, with `--nightly` or by name.
pub(crate) const CHECKS: &[Check] =
    &[Check { name: "examples/terraform keeps the contract of a provisioner, on Terraform", run }];

fn run(context: &Context) -> Result<Ran> {
    if context.sh.cmd("python3").arg("--version").quiet().ignore_stderr().read().is_err() {
        return Ok(Ran::Skipped("the example's command needs python3, 3.10 or newer: install it".into()));
    }
    let Some(program) = program(context)? else {
        return Ok(Ran::Skipped(
            "neither terraform nor tofu is here, nor Go to build it: install one".into(),
        ));
    };
    let test = ["test", "--package", "kutover-provision", "--features", "terraform", "--test", "terraform"];
    context.cargo(test).env("TERRAFORM", program).run().context("the example breaks the contract")?;
    Ok(Ran::Passed)
}

/// A Terraform that runs; built with Go where there is none.
fn program(context: &Context) -> Result<Option<String>> {
    let built = context.sh.current_dir().join(BUILT);
    let program = built.join("terraform").to_str().context("the path is not UTF-8")?.to_owned();
    let runs = |program: &str| context.sh.cmd(program).arg("version").quiet().ignore_stderr().read().is_ok();
    for known in ["terraform", "tofu", &program] {
        if runs(known) {
            return Ok(Some(known.to_owned()));
        }
    }
    if context.sh.cmd("go").arg("version").quiet().ignore_stderr().read().is_err() {
        return Ok(None);
    }
    println!("terraform: {MODULE} is built with Go");
    context.sh.cmd("go").args(["install", MODULE]).env("GOBIN", &built).run().context("go install failed")?;
    ensure!(runs(&program), "{program} was built and does not run");
    Ok(Some(program))
}
