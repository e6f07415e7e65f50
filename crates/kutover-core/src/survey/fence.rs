//! Whether the fence that is configured would hold: on the old cluster, which is refused over, and on the new one, by which a
//! rollback would shut it.

use std::collections::BTreeSet;

use super::refusals::{Facets, Found};
use super::{ClusterSeen, Code, Waiver, traffic};
use crate::cutover::FencePolicy;
use crate::decisions::fence::{self, Facts, Means, Transactions, WhyNot};
use crate::words::Colour;

/// L8, L17: the fence that is configured for the old cluster, and no other.
pub(super) fn refusals(facets: &Facets<'_>, found: &mut Found) {
    old(facets, found);
    proof(facets, found);
}

/// The fence by which a rollback would shut the new cluster. Without it one goes back all the same, after a while and without
/// a promise of order, so nothing is refused over it; `None` where nothing is known against it.
pub(super) fn of_rollback(facets: &Facets<'_>) -> Option<String> {
    let Facets { new: Some(new), plan, survey, waivers, .. } = facets else { return None };
    let to = survey.from.other();
    let against = match plan.fence {
        FencePolicy::Waived => "plan.fence = \"waived\"".to_owned(),
        FencePolicy::Required => {
            let exempt = super_users(new).map(|mut principals| {
                let asks = waivers.probes.get(&to);
                principals.retain(|one| !waivers.super_users.include(one) || asks == Some(one));
                principals
            });
            let facts = facts(facets, to, new, exempt);
            let refusal = fence::holds(&facts).err()?;
            let against: Vec<String> = refusal.against.iter().map(WhyNot::to_string).collect();
            format!("{} does not hold there: {}", refusal.means, against.join("; "))
        }
    };
    Some(format!(
        "a rollback from {to} would have no barrier, and order across it is not promised ({against})"
    ))
}

fn means(facets: &Facets<'_>, colour: Colour) -> Means {
    facets.waivers.fences.get(&colour).copied().unwrap_or(Means::Acl)
}

/// What the fence that is configured for a cluster is judged by.
fn facts(
    facets: &Facets<'_>,
    colour: Colour,
    cluster: &ClusterSeen,
    exempt: Result<BTreeSet<String>, String>,
) -> Facts {
    Facts {
        means: means(facets, colour),
        authorizer: cluster.access.as_ref().map(|access| access.acls.is_some()).map_err(Clone::clone),
        exempt,
        // They are the old one's, and begin theirs on the new one after the switch.
        transactions: match traffic::transactional_ids(&facets.survey.traffic) {
            Some(Ok(ids)) => {
                Transactions::Listed { ids: ids.keys().cloned().collect(), open: BTreeSet::new() }
            }
            Some(Err(reason)) => Transactions::Unknown { reason },
            None => Transactions::Unknown { reason: "they were not asked for".into() },
        },
    }
}

fn old(facets: &Facets<'_>, found: &mut Found) {
    let Facets { old, plan, waivers, survey, .. } = facets;
    let waived = plan.fence == FencePolicy::Waived;
    let means = means(facets, survey.from);
    let waiver = |value: &str| Some(Waiver::value("plan.waive_super_users", value));
    let exempt = match super_users(old) {
        _ if means != Means::Acl => BTreeSet::new(),
        Ok(mut principals) => {
            // That it does not produce is beside the point: the fence is proven by its being refused.
            let probe = waivers.probes.get(&survey.from).filter(|probe| !waived && principals.remove(*probe));
            if let Some(probe) = probe {
                let reason = format!(
                    "kutover asks the leaders of {from} as {probe}, a super user, whom no ACL binds, so that the fence could \
                     never be proven: give clusters.{from}.probe_properties another principal, which may write to the topics",
                    from = survey.from
                );
                found.put(false, Code::SuperUser, probe, reason, None);
            }
            principals.into_iter().filter(|principal| !waivers.super_users.include(principal)).collect()
        }
        Err(reason) => {
            let waived = waived || waivers.super_users.include("*");
            let reason = format!(
                "{reason}: whoever produces as a super user passes the fence, and if kutover's own principal is one, only \
                 clusters.{}.probe_properties can prove it",
                survey.from
            );
            found.put(waived, Code::SuperUser, "super.users", reason, waiver("\"*\""));
            BTreeSet::new()
        }
    };
    let facts = facts(facets, survey.from, old, Ok(exempt));
    let Err(refusal) = fence::holds(&facts) else { return };
    let mut rest = Vec::new();
    for why in &refusal.against {
        match why {
            WhyNot::SuperUser { principal } => {
                let reason = format!("{why}: let its producers use another principal");
                let value = format!("[{principal:?}]");
                found.put(waived, Code::SuperUser, principal, reason, waiver(&value));
            }
            _ => rest.push(why.to_string()),
        }
    }
    if !rest.is_empty() {
        let reason = format!(
            "{means} does not hold on the old cluster: {}. Without a fence a quiet window decides, order is not promised, and \
             a person approves the removal",
            rest.join("; ")
        );
        found.put(waived, Code::Fence, "fence", reason, Some(Waiver::value("plan.fence", "\"waived\"")));
    }
}

/// The client that is to prove the fence is let in while there is none.
fn proof(facets: &Facets<'_>, found: &mut Found) {
    let Some(Err(reason)) = &facets.survey.takes_records else { return };
    let reason = format!("{reason}; {}", fence::not_provable(facets.survey.from));
    let waived = facets.plan.fence == FencePolicy::Waived;
    found.put(waived, Code::Fence, "proof", reason, Some(Waiver::value("plan.fence", "\"waived\"")));
}

/// A cluster's super users: those of each of its brokers. Not known where one of them does not tell.
pub(super) fn super_users(cluster: &ClusterSeen) -> Result<BTreeSet<String>, String> {
    // Without an authorizer there are none.
    if cluster.access.as_ref().is_ok_and(|access| access.acls.is_none()) {
        return Ok(BTreeSet::new());
    }
    let not_known =
        |reason: String| Err(format!("who is a super user of the cluster is not known ({reason})"));
    let brokers = match &cluster.brokers {
        Ok(brokers) if brokers.is_empty() => return not_known("no broker answered".into()),
        Ok(brokers) => brokers,
        Err(reason) => return not_known(reason.clone()),
    };
    // Whom one broker alone takes for one passes a fence there.
    let mut all = BTreeSet::new();
    for (id, broker) in brokers {
        let found = match broker {
            Ok(broker) => broker.get("super.users"),
            Err(reason) => return not_known(format!("broker {id}: {reason}")),
        };
        match found.map(|found| (&found.value, found.is_secret)) {
            Some((Some(users), _)) => {
                let users = users.split(';').map(str::trim).filter(|user| !user.is_empty());
                all.extend(users.map(str::to_owned));
            }
            Some((None, true)) => {
                return Err("super.users is set on the cluster, and its brokers do not say to whom".into());
            }
            Some((None, false)) | None => {}
        }
    }
    Ok(all)
}
