//! What stands behind a colour: its cluster by the controller's path, the client that proves a fence by the ordinary clients',
//! and the Connect workers.

use std::time::Duration;

use kutover_controller::config::Config;
use kutover_controller::driver::ClusterConnector as _;
use kutover_core::ports::{ClusterAdmin as _, Incarnation, RecordData};
use kutover_core::words::{ClusterId, Colour};

use super::Part;
use crate::wire::{Connector, Hosts, provisioner};

/// Whether a cluster stands behind a colour.
pub(super) enum There {
    /// It could not be asked.
    Unknown,
    Nothing,
    /// What endpoints point at to lead to it.
    At(RecordData),
}

/// Reaches all that stands behind a colour.
pub(super) async fn reach(config: &Config, colour: Colour, is_active: bool, parts: &mut Vec<Part>) -> There {
    let limit = config.plan.command_timeout;
    let name = |part: &str| format!("{part} {colour}");
    let described = in_time(limit, describe(config, colour)).await;
    let connector = Connector::new(config, None).map_err(|error| format!("{error:#}"));
    let (mut id, mut there) = (None, There::Unknown);
    match &described {
        Ok(None) if is_active => {
            let says = "nothing stands there, and this colour is active; make it, or correct `clusters`";
            parts.push(Part::new(name("cluster"), Err(says.into())));
            there = There::Nothing;
        }
        Ok(None) => {
            parts.push(Part::new(name("cluster"), Ok("nothing stands there".into())));
            there = There::Nothing;
        }
        Ok(Some(incarnation)) => {
            let found = in_time(limit, cluster(connector.as_ref(), incarnation)).await;
            id = found.as_ref().ok().map(|(id, _)| id.clone());
            parts.push(Part::new(name("cluster"), found.map(|(_, says)| says)));
            let found = in_time(limit, probe(connector.as_ref(), incarnation)).await;
            parts.push(Part::new(name("probe"), found));
            there = There::At(incarnation.endpoint.clone());
        }
        Err(says) => parts.push(Part::new(name("cluster"), Err(says.clone()))),
    }
    if config.clusters.get(colour).connect.is_some() {
        let found = in_time(limit, workers(connector.as_ref(), colour, id.as_ref())).await;
        parts.push(Part::new(name("connect"), found));
    }
    there
}

async fn describe(config: &Config, colour: Colour) -> Result<Option<Incarnation>, String> {
    let by = provisioner(config, &Hosts::default(), colour).await.map_err(|failure| failure.to_string())?;
    by.describe(colour).await.map_err(|error| error.to_string())
}

/// By the controller's path.
async fn cluster(
    connector: Result<&Connector, &String>,
    there: &Incarnation,
) -> Result<(ClusterId, String), String> {
    let admin = connector.map_err(Clone::clone)?.admin(there).await.map_err(|error| error.to_string())?;
    let found = admin.identity().await.map_err(|error| error.to_string())?;
    let says = format!("{} is cluster {}, {} brokers", there.id, found.cluster_id, found.brokers.len());
    Ok((found.cluster_id, says))
}

/// By the ordinary clients' path, with properties of its own where it has some.
async fn probe(connector: Result<&Connector, &String>, there: &Incarnation) -> Result<String, String> {
    let connector = connector.map_err(Clone::clone)?;
    connector.reach_as_probe(there).await.map_err(|error| error.to_string())?;
    Ok(format!("the client that proves fences is let in at {}", there.bootstrap.join(",")))
}

/// Whose they are, and whether they say what each of their connectors does.
async fn workers(
    connector: Result<&Connector, &String>,
    colour: Colour,
    of: Option<&ClusterId>,
) -> Result<String, String> {
    let asked = async {
        let workers = connector.map_err(Clone::clone)?.workers(colour).await;
        let workers = workers.map_err(|error| error.to_string())?;
        let id = workers.kafka_cluster_id().await.map_err(|error| error.to_string())?;
        let connectors = workers.connectors().await.map_err(|error| error.to_string())?;
        Ok::<_, String>((id, connectors.len()))
    };
    let (id, connectors) = asked.await?;
    match of.filter(|of| **of != id) {
        Some(of) => Err(format!(
            "they belong to cluster {id}, and {colour} is {of}; correct clusters.{colour}.connect.url"
        )),
        None => Ok(format!("they belong to cluster {id}, {connectors} connectors")),
    }
}

async fn in_time<T>(limit: Duration, look: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(limit, look).await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
}
