//! A program that is run to its end, or to the end of its time.

use std::{
    io::{self, Read},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::programs::Program;

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
    let (mut reader, writer) = io::pipe().context("cannot make a pipe")?;
    command.args(args).env_remove(WITHOUT).envs(without.map(|name| (WITHOUT, name)));
    command.stdin(Stdio::null()).stderr(writer.try_clone()?).stdout(writer);
    let mut child =
        command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    // It holds the pipe's other end, which must be closed for the reading to end.
    drop(command);
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let mut output = Vec::new();
        // What could be read is what there is.
        let _ = reader.read_to_end(&mut output);
        let _ = done.send(String::from_utf8_lossy(&output).into_owned());
    });
    match ended.recv_timeout(limit) {
        Ok(output) => Ok(Ended { status: Some(child.wait()?), output }),
        Err(_) => {
            // It may have ended in this moment; then there is nothing to stop.
            let _ = child.kill();
            child.wait()?;
            Ok(Ended { status: None, output: String::new() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, without: Option<&str>, limit: Duration) -> Ended {
        run_command(Command::new("/bin/sh"), &["-c", script], without, limit).unwrap()
    }

    #[test]
    fn a_program_is_told_what_to_go_without() {
        let ended = shell("echo $KUTOVER_WITHOUT; echo said >&2", Some("no-flush"), LONG);
        assert!(ended.is_success());
        assert_eq!(ended.output, "no-flush\nsaid\n");
        assert_eq!(shell("echo ${KUTOVER_WITHOUT-none}", None, LONG).output, "none\n");
        assert!(!shell("exit 3", None, LONG).is_success());
    }

    #[test]
    fn a_program_that_hangs_is_stopped() {
        let ended = shell("read line </dev/zero", None, Duration::from_millis(50));
        assert!(ended.status.is_none());
        assert!(!ended.is_success());
    }
}
