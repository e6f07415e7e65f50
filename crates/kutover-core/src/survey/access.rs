//! Who may do what: what the new cluster will be given, and what differs all the same.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::parity::{AccessPlan, whom};
use crate::ports::{AclRule, ScramUsers};

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
