//! Commands about Kafka Connect. Configs and offsets pass through here from one Connect cluster to the other, and go
//! nowhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use kutover_core::cutover::{Answer, ConnectAct, ConnectAnswer, ConnectCommand, Connector, Side};
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::ports::{ConnectAdmin, ConnectorDescription, ConnectorKind, ConnectorState};
use kutover_core::words::{Colour, ConnectorName};

use super::world::World;

type Connect = Arc<dyn ConnectAdmin>;

impl World {
    pub(super) async fn connect(&self, command: &ConnectCommand) -> ProviderResult<Answer> {
        let ConnectCommand { act, from, to, connectors } = command;
        let (mut notes, mut failures) = (Vec::new(), Failures::default());
        match act {
            ConnectAct::Find => {
                let there = self.workers_of(from).await?.connectors().await?;
                let taken = self.workers_of(to).await?.connectors().await?.into_keys().collect();
                return Ok(Answer::Connect(ConnectAnswer::Found { there, taken }));
            }
            _ if connectors.is_empty() => {}
            ConnectAct::Create => {
                let (old, new) = (self.workers_of(from).await?, self.workers_of(to).await?);
                for name in connectors.keys() {
                    failures.note(name, create(&old, &new, name, from).await);
                }
            }
            ConnectAct::HandOver => {
                let (old, new) = (self.side(from).await?, self.side(to).await?);
                // What fails here is tried again: the others run on where they are, and stand still no longer than they must.
                for (name, connector) in connectors {
                    hand_over(&old, &new, name, connector.kind).await?;
                }
            }
            ConnectAct::Start => {
                let (old, new) = (self.side(from).await?, self.side(to).await?);
                for (name, connector) in connectors {
                    failures.note(name, start(&old, &new, name, connector).await);
                }
            }
            ConnectAct::StartBeside => {
                let new = self.side(to).await?;
                for (name, Connector { state, .. }) in connectors {
                    failures.note(name, new.set_state(name, *state).await);
                }
            }
            ConnectAct::See => {
                let new = self.side(to).await?;
                for name in connectors.keys() {
                    failures.note(name, new.sees(name));
                }
            }
            ConnectAct::Remove => match self.remove(command).await {
                Err(error) if is_away(&error) => notes.push(format!(
                    "the connectors on {} stay there, stopped: {error}",
                    from.incarnation.colour
                )),
                removed => removed?,
            },
        }
        failures.none(*act)?;
        Ok(Answer::Connect(ConnectAnswer::Done { notes }))
    }

    async fn remove(
        &self,
        ConnectCommand { act, from, connectors, .. }: &ConnectCommand,
    ) -> ProviderResult<()> {
        let (workers, mut failures) = (self.workers_of(from).await?, Failures::default());
        for name in connectors.keys() {
            failures.note(name, workers.delete(name).await);
        }
        failures.none(*act)
    }

    /// The same, with what their connectors do.
    async fn side(&self, side: &Side) -> ProviderResult<Workers> {
        let connect = self.workers_of(side).await?;
        let found = connect.connectors().await?;
        Ok(Workers { connect, found, colour: side.incarnation.colour })
    }

    /// The workers of one side, which say that they belong to its cluster: no others are asked anything.
    async fn workers_of(&self, side: &Side) -> ProviderResult<Connect> {
        let colour = side.incarnation.colour;
        let workers = self.backends.clusters.workers(colour).await?;
        let found = workers.kafka_cluster_id().await?;
        if found == side.identity.cluster_id {
            return Ok(workers);
        }
        let reason = format!(
            "they belong to cluster {found}, and {colour} is {}: correct clusters.{colour}.connect.url",
            side.identity.cluster_id
        );
        Err(ProviderError::new(ErrorKind::Refused, format!("Connect workers of {colour}"), reason))
    }
}

/// What failed of what is done to each of several connectors: none keeps another from its turn.
#[derive(Default)]
struct Failures(Vec<(ConnectorName, ProviderError)>);

impl Failures {
    fn note(&mut self, name: &ConnectorName, done: ProviderResult<()>) {
        self.0.extend(done.err().map(|error| (name.clone(), error)));
    }

    /// One error that names all that failed. Its kind is that of one that was answered, if there is such a one: who answers
    /// is not silent. Its outcome is unknown if that of any is.
    fn none(mut self, act: ConnectAct) -> ProviderResult<()> {
        if self.0.len() < 2 {
            return self.0.pop().map_or(Ok(()), |(_, error)| Err(error));
        }
        let errors = || self.0.iter().map(|(_, error)| error);
        let answered = errors().find(|error| !error.kind.is_silence());
        let kind = answered.or(errors().next()).map_or(ErrorKind::Unavailable, |error| error.kind);
        let unknown = errors().any(|error| error.outcome == Outcome::Unknown);
        let outcome = if unknown { Outcome::Unknown } else { Outcome::NotDone };
        let reasons: Vec<String> = self.0.iter().map(|(name, error)| format!("{name}: {error}")).collect();
        Err(ProviderError::new(kind, act.name(), reasons.join("; ")).with_outcome(outcome))
    }
}

/// Whether workers are not there to be asked, or not ours to ask: a cluster that was shut off takes them with it. Workers that
/// are busy with a rebalance or another change are there, and are asked again.
fn is_away(error: &ProviderError) -> bool {
    matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Refused)
}

async fn create(old: &Connect, new: &Connect, name: &ConnectorName, from: &Side) -> ProviderResult<()> {
    let config = old.config(name).await?;
    let addresses = from.incarnation.bootstrap.iter().chain(&from.identity.brokers);
    if let Some(property) = config.naming(addresses) {
        let reason = format!(
            "its property {property} names a server of {}, which it would go on using from the new cluster: name the \
             endpoint there, or leave it out of plan.connectors",
            from.incarnation.colour
        );
        return Err(ProviderError::new(ErrorKind::Refused, format!("copy connector {name}"), reason));
    }
    new.create_stopped(name, &config).await
}

/// Hands a connector over, and has it do on the other side what it did.
async fn start(
    old: &Workers,
    new: &Workers,
    name: &ConnectorName,
    connector: &Connector,
) -> ProviderResult<()> {
    hand_over(old, new, name, connector.kind).await?;
    new.set_state(name, connector.state).await
}

/// Stops a connector and says on the other side how far it came. One that is not stopped there has gone on already, and
/// knows better.
async fn hand_over(
    old: &Workers,
    new: &Workers,
    name: &ConnectorName,
    kind: ConnectorKind,
) -> ProviderResult<()> {
    old.set_state(name, ConnectorState::Stopped).await?;
    if kind == ConnectorKind::Sink || new.found(name)?.state != ConnectorState::Stopped {
        return Ok(());
    }
    let came = old.connect.offsets(name).await?;
    if new.connect.offsets(name).await? != came {
        new.connect.alter_offsets(name, &came).await?;
    }
    Ok(())
}

/// The workers of one side, with what their connectors did when they were looked at.
struct Workers {
    connect: Connect,
    found: BTreeMap<ConnectorName, ConnectorDescription>,
    colour: Colour,
}

impl Workers {
    fn found(&self, name: &ConnectorName) -> ProviderResult<&ConnectorDescription> {
        self.found.get(name).ok_or_else(|| {
            ProviderError::new(
                ErrorKind::NotFound,
                format!("connector {name} on {}", self.colour),
                "it is gone: make it again, stopped, as the other Connect cluster has it",
            )
        })
    }

    /// It is there and has not failed. A person may have paused it since.
    fn sees(&self, name: &ConnectorName) -> ProviderResult<()> {
        if !self.found(name)?.failed {
            return Ok(());
        }
        Err(ProviderError::new(
            ErrorKind::Refused,
            format!("see connector {name} run on {}", self.colour),
            "it, or a task of it, has failed: see the worker's log, then restart it there (POST \
             /connectors/NAME/restart?includeTasks=true&onlyFailed=true)",
        ))
    }

    async fn set_state(&self, name: &ConnectorName, wanted: ConnectorState) -> ProviderResult<()> {
        let found = self.found(name)?;
        if wanted != ConnectorState::Stopped {
            self.sees(name)?;
        }
        // Of one that runs its workers alone know whether its tasks do.
        if found.state == wanted && wanted != ConnectorState::Running {
            return Ok(());
        }
        self.connect.set_state(name, wanted).await
    }
}
