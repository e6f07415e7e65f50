//! A program that is run to its end, or to the end of its time.

use std::{
    io::{self, BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// Where a program's stderr goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stderr {
    /// Into its output, line by line.
    Output,
    /// Where this program's goes.
    Ours,
}

/// Runs `command` and hands its output to `said`, line by line and by bytes, since a program may print anything. `None`: its
/// time was over and it was stopped.
///
/// # Errors
///
/// It cannot be started, or `said` fails.
pub(crate) fn run(
    mut command: Command,
    stderr: Stderr,
    limit: Duration,
    mut said: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Option<ExitStatus>> {
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    if stderr == Stderr::Output {
        command.stderr(writer.try_clone()?);
    }
    let child = command.stdin(Stdio::null()).stdout(writer).spawn();
    let mut child = child.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    // It holds the pipe's other end, which must be closed for the reading to end.
    drop(command);
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        // What could be read is what there is.
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if sender.send(std::mem::take(&mut line)).is_err() {
                break;
            }
        }
    });
    let end = Instant::now() + limit;
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            // One that never stops talking has no more time than one that is silent.
            Ok(line) if Instant::now() < end => {
                if let Err(error) = said(&line) {
                    stop(&mut child)?;
                    return Err(error);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(Some(child.wait()?)),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {
                stop(&mut child)?;
                return Ok(None);
            }
        }
    }
}

fn stop(child: &mut Child) -> io::Result<ExitStatus> {
    // It may have ended in this moment; then there is nothing to stop.
    let _ = child.kill();
    child.wait()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> (Option<ExitStatus>, String) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let mut output = String::new();
        let ended = run(command, Stderr::Output, limit, |line| {
            output.push_str(&String::from_utf8_lossy(line));
            Ok(())
        });
        (ended.unwrap(), output)
    }

    #[test]
    fn both_streams_are_heard_and_the_status_is_told() {
        let (status, output) = shell("echo one; echo two >&2; exit 3", Duration::from_secs(300));
        assert_eq!((status.unwrap().code(), output.as_str()), (Some(3), "one\ntwo\n"));
    }

    #[test]
    fn a_program_that_hangs_is_stopped_whether_it_talks_or_not() {
        let (silent, _) = shell("read line </dev/zero", Duration::from_millis(50));
        let (talking, output) = shell("while :; do echo still; done", Duration::from_millis(50));
        assert!(silent.is_none() && talking.is_none());
        assert!(output.starts_with("still\n"));
    }
}
