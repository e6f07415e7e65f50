//! Kafka Connect in a plan: which connectors there are, and what keeps them from moving along.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::refusals::{Facets, Found};
use super::{ClusterSeen, Code};
use crate::cutover::chosen_connectors;
use crate::ports::{ConnectorDescription, Item};
use crate::words::{ClusterId, Colour, ConnectorName, GroupId};

/// What was seen of a cluster's Connect workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectSeen {
    /// The cluster that they say they belong to.
    pub cluster_id: ClusterId,
    /// Their connectors.
    pub connectors: BTreeMap<ConnectorName, ConnectorDescription>,
}

/// What tells of Kafka Connect on the old cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConnectReport {
    /// Groups of Connect workers on the old cluster.
    pub worker_groups: BTreeSet<GroupId>,
    /// Groups that bear the name of a sink (`connect-NAME`).
    pub sink_groups: BTreeSet<GroupId>,
    /// The connectors of its workers; empty where none are configured.
    pub connectors: BTreeMap<ConnectorName, ConnectorDescription>,
}

pub(super) fn report(old: &ClusterSeen) -> ConnectReport {
    let mut report = ConnectReport::default();
    for (group, answer) in old.described.iter().flatten() {
        if answer.as_ref().is_ok_and(|description| description.protocol_type == "connect") {
            report.worker_groups.insert(group.clone());
        } else if group.as_str().starts_with("connect-") {
            report.sink_groups.insert(group.clone());
        }
    }
    if let Some(Ok(seen)) = &old.connect {
        report.connectors = seen.connectors.clone();
    }
    report
}

/// As the cutover has it, which asks again before it touches anything.
pub(super) fn refusals(facets: &Facets<'_>, found: &mut Found) {
    let Some(wanted) = &facets.plan.connect else { return };
    let from = facets.survey.from;
    let old = workers(from, facets.old, found);
    let new = facets.new.and_then(|new| workers(from.other(), new, found));
    if let Some((old, new)) = old.zip(new) {
        let taken = new.connectors.keys().cloned().collect();
        if let Err(reason) = chosen_connectors(&wanted.connectors, &old.connectors, &taken) {
            found.put(false, Code::Connect, "connectors", reason, None);
        }
    }
}

/// The workers of one side, if they answer and are its own.
fn workers<'a>(colour: Colour, seen: &'a ClusterSeen, found: &mut Found) -> Option<&'a ConnectSeen> {
    let connect: &Item<ConnectSeen> = seen.connect.as_ref()?;
    let reason = match connect {
        Ok(connect) if connect.cluster_id == seen.identity.cluster_id => return Some(connect),
        Ok(ConnectSeen { cluster_id, .. }) => format!(
            "the Connect workers of {colour} belong to cluster {cluster_id}, not to {}: correct clusters.{colour}.connect.url",
            seen.identity.cluster_id
        ),
        Err(reason) => format!(
            "the Connect workers of {colour} do not answer ({reason}): see to clusters.{colour}.connect"
        ),
    };
    found.put(false, Code::Connect, &format!("workers of {colour}"), reason, None);
    None
}
