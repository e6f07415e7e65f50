//! The fence that a command makes: a security group, an IAM policy, a listener; whatever the operator's tools can do.

use std::time::Duration;

use async_trait::async_trait;
use kutover_core::error::ProviderResult;
use kutover_core::ports::{FenceKind, FenceSwitch};
use kutover_core::words::{Colour, DeploymentName, TopicName, is_reserved_topic};
use serde::Serialize;

use crate::command::CommandLine;

/// The request's schema. A field may be added under it; one that goes or changes its meaning raises the number.
pub const SCHEMA: &str = "kutover.fence/1";

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
    command: CommandLine,
    subject: FenceSubject,
}

impl ExecFence {
    /// A fence by `command`, the program first and then its arguments, ended if it takes longer than `limit`.
    pub fn new(command: Vec<String>, subject: FenceSubject, limit: Duration) -> Self {
        Self { command: CommandLine::new(command, limit), subject }
    }

    async fn run(&self, act: &'static str, topics: &[TopicName]) -> ProviderResult<()> {
        let what = format!("{act} the fence of {} by command", self.subject.colour);
        let topics: Vec<TopicName> =
            topics.iter().filter(|topic| !is_reserved_topic(topic.as_str())).cloned().collect();
        let request = Request { schema: SCHEMA, act, subject: &self.subject, topics: &topics };
        self.command.run(&what, &request).await.map(drop)
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
