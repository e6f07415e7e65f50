//! Commands about Kafka Connect. Configs and offsets pass through here from one Connect cluster to the other, and go
//! nowhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use kutover_core::cutover::{Answer, ConnectAct, ConnectAnswer, ConnectCommand, Connector, Side};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{ConnectAdmin, ConnectorDescription, ConnectorKind, ConnectorState};
use kutover_core::words::{Colour, ConnectorName};

use super::world::World;

type Connect = Arc<dyn ConnectAdmin>;

impl World {
    pub(super) async fn connect(&self, command: &ConnectCommand) -> ProviderResult<Answer> {
        let ConnectCommand { act, from, to, connectors } = command;
        let mut notes = Vec::new();
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
                    create(&old, &new, name, from).await?;
                }
            }
            ConnectAct::HandOver | ConnectAct::Start => {
                let (old, new) = (self.side(from).await?, self.side(to).await?);
                for (name, connector) in connectors {
                    hand_over(&old, &new, name, connector.kind).await?;
                    if *act == ConnectAct::Start {
                        new.set_state(name, connector.state).await?;
                    }
                }
            }
            ConnectAct::StartBeside => {
                let new = self.side(to).await?;
                for (name, Connector { state, .. }) in connectors {
                    new.set_state(name, *state).await?;
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
        Ok(Answer::Connect(ConnectAnswer::Done { notes }))
    }

    async fn remove(&self, ConnectCommand { from, connectors, .. }: &ConnectCommand) -> ProviderResult<()> {
        let workers = self.workers_of(from).await?;
        for name in connectors.keys() {
            workers.delete(name).await?;
        }
        Ok(())
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

/// Stops a connector and says on the other side how far it came. One that is not stopped there has gone on already, and
/// knows better.
async fn hand_over(
    old: &Workers,
    new: &Workers,
    name: &ConnectorName,
    kind: ConnectorKind,
) -> ProviderResult<()> {
    old.set_state(name, ConnectorState::Stopped).await?;
    if kind == ConnectorKind::Sink || new.state(name)? != ConnectorState::Stopped {
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
    fn state(&self, name: &ConnectorName) -> ProviderResult<ConnectorState> {
        self.found.get(name).map(|found| found.state).ok_or_else(|| {
            ProviderError::new(
                ErrorKind::NotFound,
                format!("connector {name} on {}", self.colour),
                "it is gone: make it again, stopped, as the other Connect cluster has it",
            )
        })
    }

    async fn set_state(&self, name: &ConnectorName, wanted: ConnectorState) -> ProviderResult<()> {
        if self.state(name)? == wanted {
            return Ok(());
        }
        self.connect.set_state(name, wanted).await
    }
}
