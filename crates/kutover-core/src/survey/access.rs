//! Who may do what: what the new cluster will be given, and what differs all the same.

use std::collections::BTreeSet;

use serde::Serialize;

use super::ClusterSeen;
use crate::parity::{AccessPlan, whom};
use crate::ports::{AclRule, ScramUsers};
use crate::words::is_reserved_topic;

/// A quota that the new cluster will be given.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuotaToSet {
    /// Whom it is for, as in `user alice`.
    pub entity: String,
    /// Its name, as in `producer_byte_rate`.
    pub quota: String,
    /// Its value, in Kafka's units.
    pub value: f64,
}

/// What the new cluster lacks and will be given. Empty where a cluster did not answer, which is named among what is unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AccessReport {
    /// ACLs.
    pub acls: BTreeSet<AclRule>,
    /// Quotas.
    pub quotas: Vec<QuotaToSet>,
    /// SCRAM users with the mechanisms that are missing. Nobody can copy a password: whoever knows it has to give it.
    pub scram_users: ScramUsers,
    /// What differs for good.
    pub differences: Vec<String>,
}

impl AccessReport {
    pub(super) fn of(plan: AccessPlan) -> Self {
        let differences = plan.differences.iter().map(ToString::to_string).collect();
        let quotas = plan.grant.quotas.iter().flat_map(|(entity, set)| {
            set.iter().map(|(quota, value)| QuotaToSet {
                entity: whom(entity),
                quota: quota.clone(),
                value: *value,
            })
        });
        let quotas = quotas.collect();
        Self { acls: plan.grant.acls, quotas, scram_users: plan.grant.scram_users, differences }
    }
}

/// Whether an ACL is about a topic.
pub(super) fn covers(rule: &AclRule, topic: &str) -> bool {
    let is_named = match rule.pattern.as_str() {
        "prefixed" => topic.starts_with(&rule.name),
        _ => rule.name == topic || rule.name == "*",
    };
    rule.resource == "topic" && is_named
}

/// Topics that an ACL names and the cluster did not list: Kafka leaves out without a word what a principal may not
/// describe. They would be neither made, nor fenced, nor drained.
pub(super) fn hidden_topics(cluster: &ClusterSeen) -> BTreeSet<&str> {
    let rules = cluster.access.iter().flat_map(|access| &access.acls).flatten();
    let named =
        rules.filter(|rule| rule.resource == "topic" && rule.pattern == "literal" && rule.name != "*");
    let is_listed = |name: &str| cluster.topics.iter().any(|topic| topic.name.as_str() == name);
    named.map(|rule| rule.name.as_str()).filter(|name| !is_reserved_topic(name) && !is_listed(name)).collect()
}
