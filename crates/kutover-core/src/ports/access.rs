//! What decides who may do what on a cluster, and how much of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// One rule of an authorizer (an ACL binding), in the words of Kafka's own tools, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AclRule {
    /// What it is about: `topic`, `group`, `cluster`, `transactional-id`, `delegation-token`, `user`.
    pub resource: String,
    /// The name of that, or how it begins.
    pub name: String,
    /// How the name is meant: `literal` or `prefixed`.
    pub pattern: String,
    /// Whom it is about, as in `User:alice`.
    pub principal: String,
    /// From where, an address or `*`.
    pub host: String,
    /// What is done: `read`, `write`, `all` and so on.
    pub operation: String,
    /// `allow` or `deny`.
    pub permission: String,
}

impl fmt::Display for AclRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, name, pattern, principal, host, operation, permission } = self;
        write!(f, "{permission} {operation} on {resource} {name} ({pattern}) for {principal} from {host}")
    }
}

/// Whom a quota is for: kind (`user`, `client-id`, `ip`) and name, `None` being everybody of that kind without a quota
/// of their own.
pub type QuotaEntity = BTreeMap<String, Option<String>>;

/// Quotas by whom they are for: each one's name and value in Kafka's units (bytes per second, percent).
pub type Quotas = BTreeMap<QuotaEntity, BTreeMap<String, f64>>;

/// SCRAM users with the mechanisms that they have a password for, as in `SCRAM-SHA-512`. Nobody can read the password.
pub type ScramUsers = BTreeMap<String, BTreeSet<String>>;

/// What decides who may do what, as it stands. A part is `None` where the cluster has no such thing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    /// The authorizer's rules, without those of kutover's own fence. `None` where there is no authorizer.
    pub acls: Option<BTreeSet<AclRule>>,
    /// Quotas of clients.
    pub quotas: Option<Quotas>,
    /// SCRAM users.
    pub scram_users: Option<ScramUsers>,
    /// Whether any of its brokers makes a topic because a client has asked for it (`auto.create.topics.enable`).
    pub auto_creates_topics: Option<bool>,
}

/// What a cluster is to be given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewAccess {
    /// Rules to add.
    pub acls: BTreeSet<AclRule>,
    /// Quotas to set.
    pub quotas: Quotas,
    /// SCRAM users to make, by passwords that the cluster's backend was given.
    pub scram_users: ScramUsers,
}

impl NewAccess {
    /// Whether there is nothing to give.
    pub fn is_empty(&self) -> bool {
        self.acls.is_empty() && self.quotas.is_empty() && self.scram_users.is_empty()
    }
}
