//! A program that is run without one of the defences.

use std::{
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::Result;

use crate::{
    limited::{self, Stderr},
    programs::Program,
};

/// Names the defence that a program is to go without.
const WITHOUT: &str = "KUTOVER_WITHOUT";

/// A time that nothing here takes unless it hangs.
pub(super) const LONG: Duration = Duration::from_secs(300);

/// How a program ended.
pub(super) struct Ended {
    /// Its status; `None` if its time was over and it was stopped.
    pub(super) status: Option<ExitStatus>,
    /// All that it printed, on both streams.
    pub(super) output: String,
}

impl Ended {
    /// It ended by itself and well.
    pub(super) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// Runs a program in its package's folder, without one defence.
pub(super) fn run(program: &Program, args: &[&str], without: Option<&str>, limit: Duration) -> Result<Ended> {
    run_command(program.command(), args, without, limit)
}

fn run_command(mut command: Command, args: &[&str], without: Option<&str>, limit: Duration) -> Result<Ended> {
    command.args(args).env_remove(WITHOUT).envs(without.map(|name| (WITHOUT, name)));
    let mut output = Vec::new();
    let status = limited::run(command, Stderr::Output, limit, |line| {
        output.extend_from_slice(line);
        Ok(())
    })?;
    Ok(Ended { status, output: String::from_utf8_lossy(&output).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_what_to_go_without() {
        let shell = |script: &str, without| {
            run_command(Command::new("/bin/sh"), &["-c", script], without, LONG).unwrap()
        };
        let ended = shell("echo $KUTOVER_WITHOUT; echo said >&2", Some("no-flush"));
        assert!(ended.is_success());
        assert_eq!(ended.output, "no-flush\nsaid\n");
        assert_eq!(shell("echo ${KUTOVER_WITHOUT-none}", None).output, "none\n");
        assert!(!shell("exit 3", None).is_success());
    }
}
