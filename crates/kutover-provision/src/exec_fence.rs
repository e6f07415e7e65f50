//! The fence that a command makes: a security group, an IAM policy, a listener; whatever the operator's tools can do.

use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::ports::{FenceKind, FenceSwitch};
use kutover_core::words::{Colour, DeploymentName, TopicName, is_reserved_topic};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// The request's schema. A field may be added under it; one that goes or changes its meaning raises the number.
pub const SCHEMA: &str = "kutover.fence/1";
/// How much of what a failed command said is passed on, in characters.
const SHOWN: usize = 400;

/// The cluster that a command is to fence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FenceSubject {
    /// Whose cluster it is.
    pub deployment: DeploymentName,
    /// Which one.
    pub colour: Colour,
    /// `host:port` of the bootstrap servers that clients use.
    pub bootstrap: Vec<String>,
}

/// What the command reads from its standard input: one JSON object.
#[derive(Serialize)]
struct Request<'a> {
    schema: &'static str,
    act: &'static str,
    #[serde(flatten)]
    subject: &'a FenceSubject,
    topics: &'a [TopicName],
}

/// Raises and lifts a fence with a command, which gets one JSON object on its standard input:
///
/// ```json
/// {"schema": "kutover.fence/1", "act": "raise", "deployment": "orders", "colour": "blue",
///  "bootstrap": ["10.0.0.1:9092"], "topics": ["orders", "payments"]}
/// ```
///
/// `act` is `raise` or `lift`. Both must be repeatable; `lift` takes away all that any `raise` added. Status 0 says that
/// it is done; anything else that nothing is known, and the last line on standard error says why. The fence must refuse
/// records at the brokers and let readers and the controller in: a closed port is no proof, because connections that
/// stand already may go on.
#[derive(Clone, Debug)]
pub struct ExecFence {
    command: Vec<String>,
    subject: FenceSubject,
    limit: Duration,
}

impl ExecFence {
    /// A fence by `command`, the program first and then its arguments, ended if it takes longer than `limit`.
    pub fn new(command: Vec<String>, subject: FenceSubject, limit: Duration) -> Self {
        Self { command, subject, limit }
    }

    async fn run(&self, act: &'static str, topics: &[TopicName]) -> ProviderResult<()> {
        let what = format!("{act} the fence of {} by command", self.subject.colour);
        let failed = |kind, reason: String| ProviderError::new(kind, &what, reason);
        let topics: Vec<TopicName> =
            topics.iter().filter(|topic| !is_reserved_topic(topic.as_str())).cloned().collect();
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(failed(ErrorKind::Invalid, "the command is empty".to_owned()));
        };
        let request = Request { schema: SCHEMA, act, subject: &self.subject, topics: &topics };
        let request =
            serde_json::to_vec(&request).map_err(|error| failed(ErrorKind::Invalid, error.to_string()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(ErrorKind::Invalid, format!("`{program}` cannot be run: {error}")))?;
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
                let reason = format!("`{program}` was ended after {} s", self.limit.as_secs());
                return Err(unknown(ErrorKind::Unreachable, reason));
            }
        };
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String =
            said.trim().lines().last().unwrap_or("it said nothing").chars().take(SHOWN).collect();
        Err(unknown(ErrorKind::Unavailable, format!("`{program}` ended with {}: {said}", output.status)))
    }
}

#[async_trait]
impl FenceSwitch for ExecFence {
    fn kind(&self) -> FenceKind {
        FenceKind::Exec
    }

    async fn raise(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.run("raise", topics).await
    }

    async fn lift(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.run("lift", topics).await
    }
}
