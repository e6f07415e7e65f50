//! The driver: carries out the cutover machine's outputs, in order, through the ports.

mod connect;
mod early;
mod owner;
mod proofs;
mod publish;
mod retention;
mod rollback;
mod topics;
mod ttl;
mod verify;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use kutover_core::cutover::{Answer, Progress};
use kutover_core::cutover::{ApprovalGate, CommandId, Cutover, Event, Input, Output, Plan, Record, Stop};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{
    ClusterAdmin, ClusterProvisioner, ClusterSurvey, ConnectAdmin, DnsProvider, Incarnation, Journal,
    JournalEntry, LagSource, ProducerIds, ProducerSurvey, Registry,
};
use kutover_core::survey::Waivers;
use kutover_core::words::{Colour, DeploymentName, EndpointKey, GroupId, Millis, Nonce, ZoneId};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use proofs::observe;
use ttl::Switch;
use world::World;

use crate::survey::Watch;

/// The controller's connections to one cluster.
#[derive(Clone)]
pub struct ClusterLinks {
    /// Topics, ends, fences.
    pub admin: Arc<dyn ClusterAdmin>,
    /// Lag.
    pub lag: Arc<dyn LagSource>,
    /// Who writes.
    pub survey: Arc<dyn ProducerSurvey>,
    /// kutover's own topics.
    pub registry: Arc<dyn Registry>,
    /// Producer ids.
    pub ids: Arc<dyn ProducerIds>,
}

/// Connects to clusters over the controller's path.
#[async_trait]
pub trait ClusterConnector: Send + Sync {
    /// Connects to an incarnation.
    ///
    /// # Errors
    /// Unreachable, or client properties that make no sense.
    async fn connect(&self, incarnation: &Incarnation) -> ProviderResult<ClusterLinks>;

    /// What a plan asks of an incarnation besides. Needed where a controller has a [`Gate`].
    ///
    /// # Errors
    /// As `connect`; `Unsupported` where nobody can tell.
    async fn survey(&self, incarnation: &Incarnation) -> ProviderResult<Arc<dyn ClusterSurvey>> {
        let what = format!("look at {}", incarnation.id);
        Err(ProviderError::new(ErrorKind::Unsupported, what, "this connector cannot tell what a plan asks"))
    }

    /// The Connect workers of a colour. Needed where connectors move along.
    ///
    /// # Errors
    /// Invalid: none are configured.
    async fn workers(&self, colour: Colour) -> ProviderResult<Arc<dyn ConnectAdmin>> {
        let what = format!("Connect workers of {colour}");
        Err(ProviderError::new(
            ErrorKind::Invalid,
            what,
            format!("none are configured; say clusters.{colour}.connect"),
        ))
    }
}

/// The world that a controller steers, behind the ports.
#[derive(Clone)]
pub struct Backends {
    /// The authoritative side of DNS, for endpoints whose name says where they are kept.
    pub dns: Arc<dyn DnsProvider>,
    /// The same for endpoints that name their zone, by it.
    pub zones: BTreeMap<ZoneId, Arc<dyn DnsProvider>>,
    /// Where blue clusters come from.
    pub blue: Arc<dyn ClusterProvisioner>,
    /// Where green clusters come from.
    pub green: Arc<dyn ClusterProvisioner>,
    /// Connections to clusters.
    pub clusters: Arc<dyn ClusterConnector>,
    /// The journal.
    pub journal: Arc<dyn Journal>,
}

/// What the driver needs to know besides the plan.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Its name; must be the owner record's.
    pub name: DeploymentName,
    /// The endpoints; the first one holds the term.
    pub endpoints: Vec<EndpointKey>,
    /// The colour that is active when the deployment is seen for the first time and nothing else says it.
    pub initial: Colour,
    /// The endpoints' TTL in ordinary times, in seconds.
    pub ordinary_ttl_s: u32,
    /// Groups that read uncommitted records.
    pub read_uncommitted: BTreeSet<GroupId>,
}

/// What a person says while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Go on past a gate.
    Approve(ApprovalGate),
    /// Get out, if that is still possible.
    Abort,
    /// Go back to the old cluster, if there still is a way back.
    RollBack,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How.
    pub stop: Stop,
    /// Where the deployment stands.
    pub progress: Progress,
}

/// Why a run could not go on. Nothing is undone; run it again on the same journal.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The journal could not be read or written.
    #[error("the journal failed, so nothing more was done: {0}")]
    Journal(#[source] ProviderError),
    /// The journal holds an entry that is not one of ours.
    #[error(
        "journal entry {index} makes no sense ({reason}): it was written by another program or a newer version"
    )]
    Entry {
        /// Which.
        index: u64,
        /// Why.
        reason: String,
    },
}

/// What a cutover must not begin over: the refusals of a plan, judged when both clusters are there and before anything is
/// written to either.
#[derive(Clone, Debug)]
pub struct Gate {
    /// What is waived.
    pub waivers: Waivers,
    /// How the clusters are looked at. The time has to fit into one command's.
    pub watch: Watch,
}

/// A controller, ready to run.
pub struct Controller {
    plan: Plan,
    deployment: Deployment,
    backends: Backends,
    gate: Option<Gate>,
    nonce: Nonce,
    again: bool,
}

type Running = Pin<Box<dyn Future<Output = ProviderResult<Answer>> + Send>>;

impl Controller {
    /// Puts a controller together.
    pub fn new(plan: Plan, deployment: Deployment, backends: Backends) -> Self {
        let nonce = Nonce::new(format!("{:016x}", rand::random::<u64>()));
        Self { plan, deployment, backends, gate: None, nonce, again: false }
    }

    /// The same, which holds before it has touched a cluster as long as a plan would be refused.
    #[must_use]
    pub fn with_gate(mut self, gate: Gate) -> Self {
        self.gate = Some(gate);
        self
    }

    /// The same, which sets out anew if the last cutover was rolled back; otherwise it stays rolled back.
    #[must_use]
    pub fn again(mut self) -> Self {
        self.again = true;
        self
    }

    /// The same with a nonce of the caller's, which no other run may ever have: a simulation draws it from its seed.
    #[must_use]
    pub fn with_nonce(mut self, nonce: Nonce) -> Self {
        self.nonce = nonce;
        self
    }

    /// Makes the deployment kutover's, and nothing else: the owner record, kutover's topics on the active cluster.
    ///
    /// # Errors
    /// [`DriveError`]; everything else is in [`Finished::stop`].
    pub async fn adopt(self, events: impl FnMut(Event) + Send) -> Result<Finished, DriveError> {
        let (_keep_open, operator) = mpsc::unbounded_channel();
        self.drive(operator, events, true).await
    }

    /// Runs the cutover, or goes on with the one that the journal knows.
    ///
    /// # Errors
    /// [`DriveError`]; everything else is in [`Finished::stop`].
    pub async fn run(
        self,
        operator: mpsc::UnboundedReceiver<Operator>,
        events: impl FnMut(Event) + Send,
    ) -> Result<Finished, DriveError> {
        self.drive(operator, events, false).await
    }

    async fn drive(
        self,
        mut operator: mpsc::UnboundedReceiver<Operator>,
        mut events: impl FnMut(Event) + Send,
        adopt_only: bool,
    ) -> Result<Finished, DriveError> {
        let journal = Arc::clone(&self.backends.journal);
        let limit = std::time::Duration::from_millis(self.plan.timings.command_timeout_ms);
        let entries = in_time(limit, "read the journal", journal.read()).await?;
        let mut next_index = entries.len() as u64;
        let records = entries.into_iter().map(record).collect::<Result<Vec<_>, _>>()?;
        let gate = self.gate.map(|gate| (self.plan.clone(), gate));
        let switch = Switch {
            to: self.plan.to,
            ttl_s: self.plan.timings.ttl_s,
            command_timeout: limit,
            fence: self.plan.fence,
            waived_replicas: self.plan.waived_replicas.clone(),
        };
        let mut machine = Cutover::new(self.plan, self.nonce, records);
        if adopt_only {
            machine = machine.adopting();
        }
        if self.again {
            machine = machine.again();
        }
        let world = Arc::new(World::new(self.deployment, self.backends, switch, gate));
        let origin = Instant::now();
        let now = || Millis(u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX));
        // At most one command is under way: a new one replaces it, and dropping its future gives it up.
        let mut running: Option<(CommandId, Running)> = None;
        machine.handle(now(), Input::Start);
        loop {
            match machine.poll() {
                Output::Persist(term, record) => {
                    let body = serde_json::to_value(&record).map_err(|error| DriveError::Entry {
                        index: next_index,
                        reason: error.to_string(),
                    })?;
                    let entry = JournalEntry { index: next_index, term, body };
                    in_time(limit, "append to the journal", journal.append(&entry)).await?;
                    next_index += 1;
                }
                Output::Notify(event) => events(event),
                Output::Run(id, command) => {
                    tracing::debug!(id = id.0, command = command.name(), "run");
                    let (world, term) = (Arc::clone(&world), machine.term());
                    running = Some((id, Box::pin(async move { world.execute(&command, term).await })));
                }
                Output::Stop(stop) => return Ok(Finished { stop, progress: machine.progress().clone() }),
                Output::Wait(until) => {
                    let input = wait(&mut running, &mut operator, origin, until).await;
                    machine.handle(now(), input);
                }
            }
        }
    }
}

/// A journal that does not answer is one that failed: nothing may be done without it.
async fn in_time<T>(
    limit: std::time::Duration,
    what: &str,
    call: impl Future<Output = ProviderResult<T>>,
) -> Result<T, DriveError> {
    let silent =
        |_| Err(ProviderError::new(ErrorKind::Unreachable, what, format!("no answer within {limit:?}")));
    tokio::time::timeout(limit, call).await.unwrap_or_else(silent).map_err(DriveError::Journal)
}

fn record(entry: JournalEntry) -> Result<Record, DriveError> {
    serde_json::from_value(entry.body)
        .map_err(|error| DriveError::Entry { index: entry.index, reason: error.to_string() })
}

/// Waits for the first of: the command's answer, a word from the operator, the instant.
async fn wait(
    running: &mut Option<(CommandId, Running)>,
    operator: &mut mpsc::UnboundedReceiver<Operator>,
    origin: Instant,
    until: Option<Millis>,
) -> Input {
    let command = async {
        match running.as_mut() {
            Some((id, future)) => (*id, future.await),
            None => std::future::pending().await,
        }
    };
    let timer = async {
        match until {
            Some(until) => tokio::time::sleep_until(origin + std::time::Duration::from_millis(until.0)).await,
            None => std::future::pending().await,
        }
    };
    let word = async {
        match operator.recv().await {
            Some(word) => word,
            None => std::future::pending().await, // Nobody is left to say anything.
        }
    };
    tokio::select! {
        // Which comes first when several are ready must not be chance: a simulation replays it. A person's word is heard
        // also where every answer is there at once.
        biased;
        word = word => match word {
            Operator::Approve(gate) => Input::Approve(gate),
            Operator::Abort => Input::Abort,
            Operator::RollBack => Input::RollBack,
        },
        (id, result) = command => {
            *running = None;
            if let Err(error) = &result {
                tracing::debug!(id = id.0, %error, "failed");
            }
            Input::Answer(id, result)
        }
        () = timer => Input::Tick,
    }
}

/// A port that should have given something has not.
fn missing(what: impl std::fmt::Display, reason: impl std::fmt::Display) -> ProviderError {
    ProviderError::new(ErrorKind::NotFound, what, reason)
}
