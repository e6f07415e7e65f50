//! One run of an operator's command: a JSON object on its standard input, its standard output, and its status.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

/// How much of what a failed command said is passed on, in characters.
const SHOWN: usize = 400;
/// How long a line of a secret is that is a secret by itself.
const SECRET_LINE: usize = 8;

/// A command: the program, then its arguments.
#[derive(Clone)]
pub(crate) struct CommandLine {
    line: Vec<String>,
    limit: Duration,
    /// Added to its environment. Values may be secrets.
    environment: BTreeMap<String, String>,
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandLine")
            .field("line", &self.line)
            .field("limit", &self.limit)
            .field("environment", &self.environment.keys())
            .finish()
    }
}

impl CommandLine {
    pub(crate) fn new(line: Vec<String>, limit: Duration) -> Self {
        Self { line, limit, environment: BTreeMap::new() }
    }

    pub(crate) fn with_environment(mut self, environment: BTreeMap<String, String>) -> Self {
        self.environment = environment;
        self
    }

    /// Runs it with `request` on its standard input, and gives what it wrote to its standard output. It is ended if it
    /// takes longer than the limit, or if nobody waits for it any more, and with it all that it has started in its process
    /// group: what goes on behind the back of whoever asks again would be in the way of the next run.
    ///
    /// # Errors
    /// `Invalid`, not done, if it cannot be run; otherwise nothing is known. What it said on standard error is in the text.
    pub(crate) async fn run(&self, what: &str, request: &impl Serialize) -> ProviderResult<Vec<u8>> {
        let failed = |kind, reason: String| ProviderError::new(kind, what, reason);
        let Some((program, arguments)) = self.line.split_first() else {
            return Err(failed(ErrorKind::Invalid, "the command is empty".to_owned()));
        };
        let request =
            serde_json::to_vec(request).map_err(|error| failed(ErrorKind::Invalid, error.to_string()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .envs(&self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(ErrorKind::Invalid, format!("`{program}` cannot be run: {error}")))?;
        let group = Group::of(&child);
        let input = child.stdin.take();
        let done = async {
            if let Some(mut input) = input {
                // A command that reads nothing may end before it was told everything: its status decides.
                let _ = input.write_all(&request).await;
            }
            child.wait_with_output().await
        };
        // From here on it may have been done, or in part.
        let unknown = |kind, reason: String| failed(kind, reason).with_outcome(Outcome::Unknown);
        let output = match tokio::time::timeout(self.limit, done).await {
            Ok(output) => output.map_err(|error| unknown(ErrorKind::Unavailable, error.to_string()))?,
            Err(_) => {
                let reason = format!(
                    "`{program}` was ended after {} s: it, or what it left running, had not closed its output",
                    self.limit.as_secs()
                );
                return Err(unknown(ErrorKind::Unreachable, reason));
            }
        };
        group.has_ended();
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = self.last_words(&output.stderr);
        Err(unknown(ErrorKind::Unavailable, format!("`{program}` ended with {}: {said}", output.status)))
    }

    /// The last line of what it said.
    fn last_words(&self, stderr: &[u8]) -> String {
        let said = String::from_utf8_lossy(stderr);
        self.shown(said.trim().lines().last().unwrap_or("it said nothing"))
    }

    /// A text of the command's as it may be shown: not too long, and without any secret that it was given, or a part of one.
    pub(crate) fn shown(&self, text: &str) -> String {
        let mut is_secret = vec![false; text.len()];
        for (at, found) in self.secrets().flat_map(|secret| text.match_indices(secret)) {
            is_secret[at..at + found.len()].fill(true);
        }
        let mut shown = String::new();
        for (at, letter) in text.char_indices() {
            match is_secret[at] {
                false => shown.push(letter),
                true if at == 0 || !is_secret[at - 1] => shown.push_str("***"),
                true => {}
            }
        }
        shown.chars().take(SHOWN).collect()
    }

    /// The environment's values, and each line of one that is long enough: what a command says is told by the line.
    fn secrets(&self) -> impl Iterator<Item = &str> {
        self.environment.values().filter(|value| !value.is_empty()).flat_map(|value| {
            let lines = value.lines().map(str::trim).filter(|line| line.len() >= SECRET_LINE);
            std::iter::once(value.as_str()).chain(lines)
        })
    }
}

/// The process group of a run, which ends with it unless it has ended by itself.
struct Group(Option<Pid>);

impl Group {
    /// A child leads a group of its own, which bears its number.
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)))
    }

    /// What it has left running has let go of its output, and may go on.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
