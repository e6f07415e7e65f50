//! Python programs that tests run: in a virtual environment in the build folder, where the tests look for them.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::Context;

/// What is installed from PyPI, and in which versions: MiniStack stands for AWS, cfn-lint reads templates.
const AWS_TOOLS: [&str; 2] = ["ministack==1.5.33", "cfn-lint==1.58.*"];
/// Where, below the build folder. `crates/kutover-aws/tests/aws/server.rs` knows the name too.
const FOLDER: &str = "aws-tools";

/// Makes sure that they are there; makes the environment where it is not, or holds other versions.
///
/// # Errors
/// Python has no `venv`, or PyPI gives nothing.
pub(crate) fn aws_tools(context: &Context) -> Result<()> {
    let folder = target_folder(context)?.join(FOLDER);
    // Written when all is installed: an environment without it is one that was not finished.
    let stamp = folder.join("installed.txt");
    let wanted = AWS_TOOLS.join("\n");
    if context.sh.read_file(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let sh = &context.sh;
    sh.cmd("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&folder)
        .quiet()
        .run()
        .context("python3 makes no venv")?;
    println!("setup: {} are fetched from PyPI", AWS_TOOLS.join(" and "));
    let python = folder.join("bin/python");
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    sh.cmd(&python)
        .args(install)
        .args(AWS_TOOLS)
        .quiet()
        .run()
        .context("pip installs nothing; is PyPI reached?")?;
    sh.write_file(&stamp, &wanted)?;
    Ok(())
}

fn target_folder(context: &Context) -> Result<PathBuf> {
    let args = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let metadata: serde_json::Value = serde_json::from_str(&context.cargo(args).quiet().read()?)?;
    let folder = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
    Ok(folder.into())
}
