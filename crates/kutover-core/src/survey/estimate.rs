//! How long a cutover would take.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::groups::{GroupReport, GroupStanding};
use super::{ClusterSeen, Survey};
use crate::cutover::{Plan, SeparationPolicy};
use crate::decisions::separation::{Given, Separation, judge};

/// How long the parts of a cutover would take, in milliseconds. What cannot be told is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Estimates {
    /// Waiting out the TTL that stands now, where it is lowered for the switch.
    pub ttl_ms: Option<u64>,
    /// At the most, until the fence decides about producers that have not moved.
    pub converge_ms: u64,
    /// Until the slowest group has read what is unread now.
    pub drain_ms: Option<u64>,
    /// The drained old cluster is kept for so long.
    pub soak_ms: u64,
    /// Producer ids that would have to be used up for the separation, as far as the ids that partitions know tell.
    pub separation_ids: Option<u64>,
    /// The same in words.
    pub separation: String,
}

pub(super) fn estimate(
    survey: &Survey,
    plan: &Plan,
    groups: &[GroupReport],
    clusters: (&ClusterSeen, Option<&ClusterSeen>),
) -> Estimates {
    let ttls: Option<Vec<u32>> = survey
        .endpoints
        .values()
        .map(|seen| Some(seen.as_ref().ok()?.record.as_ref().map_or(0, |(_, ttl_s)| *ttl_s)))
        .collect();
    let longest = ttls.map(|ttls| ttls.into_iter().max().unwrap_or(0));
    let ttl_ms = longest.map(|ttl_s| if ttl_s > plan.timings.ttl_s { u64::from(ttl_s) * 1_000 } else { 0 });
    let required = groups.iter().filter(|group| group.standing == GroupStanding::Required);
    let drain_ms =
        required.map(|group| group.drain_ms).try_fold(0, |longest: u64, ms| Some(longest.max(ms?)));
    let separation = separation(survey, plan, clusters);
    Estimates {
        ttl_ms,
        converge_ms: plan.timings.converge_ms,
        drain_ms,
        soak_ms: plan.timings.soak_ms,
        separation_ids: match &separation {
            Some(Separation::Separated { .. }) => Some(0),
            Some(Separation::Burn { ids, .. } | Separation::TooFar { ids, .. }) => Some(*ids),
            _ => None,
        },
        separation: match (separation, &plan.separation) {
            (_, SeparationPolicy::Waived) => "waived".to_owned(),
            (Some(separation), _) => separation.to_string(),
            (None, _) => "not known".to_owned(),
        },
    }
}

/// A plan asks for no ids, since that would use some up. What partitions know of old ids says at least how far the old
/// cluster has come; of the new one it supposes the worst, that it has given out none.
fn separation(
    survey: &Survey,
    plan: &Plan,
    (old, new): (&ClusterSeen, Option<&ClusterSeen>),
) -> Option<Separation> {
    let SeparationPolicy::Required(room) = plan.separation else { return None };
    let answered = survey.traffic.second.partitions.values();
    let known: Option<Vec<u64>> = answered
        .map(|answer| {
            let ids = answer.as_ref().ok()?.producers.keys();
            Some(ids.filter_map(|id| u64::try_from(*id).ok()).max().unwrap_or(0))
        })
        .collect();
    let highest = known?.into_iter().max().unwrap_or(0);
    let given = |cluster: &ClusterSeen, newest| Given {
        cluster_id: cluster.identity.cluster_id.clone(),
        from: 0,
        newest: cluster
            .identity
            .brokers
            .iter()
            .zip(0..)
            .map(|(_, id)| (id, Ok(newest)))
            .collect::<BTreeMap<i32, _>>(),
    };
    let (old, new) = (given(old, highest), given(new?, 0));
    Some(judge(&new, &[old], Some(&BTreeSet::new()), room))
}
