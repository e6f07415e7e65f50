//! Whether a fence holds on a cluster (L17): the wrong one does harm.
//!
//! An ACL that denies writing does not bind super users. A size fence binds everybody, and wedges an open transaction for
//! ever: its commit marker cannot be written, and lifting the fence does not mend it. So it holds only where nothing
//! transactional can exist. Whether a command of the operator's holds is the operator's to know.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::controls::{Control, without};
use crate::words::Colour;

/// How a cluster can be made to refuse records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Means {
    /// Deny Write for everyone on each topic.
    Acl,
    /// A command of the operator's: a security group, an IAM policy, a listener.
    Exec,
    /// `max.message.bytes=0` on each topic.
    Size,
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Means::Acl => "an ACL fence",
            Means::Exec => "a fence by command",
            Means::Size => "a size fence",
        })
    }
}

/// What a cluster says about transactions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transactions {
    /// Every coordinator answered. An id without an open transaction can begin one at any time.
    Listed {
        /// Every transactional id that is known.
        ids: BTreeSet<String>,
        /// Those with a transaction under way.
        open: BTreeSet<String>,
    },
    /// Not every coordinator answered, or the version cannot list them (before 3.0).
    Unknown {
        /// Why.
        reason: String,
    },
}

/// What was observed of the cluster to be fenced, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// What is configured for it.
    pub means: Means,
    /// Whether it has an authorizer, as an answer to describing ACLs. `Err` says why that is not known.
    pub authorizer: Result<bool, String>,
    /// Principals that produce and that no ACL binds, since they are super users. `Err` says why they are not known.
    pub exempt: Result<BTreeSet<String>, String>,
    /// Transactions.
    pub transactions: Transactions,
}

/// Why a means is no fence on this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WhyNot {
    /// There is no authorizer.
    NoAuthorizer,
    /// Something that it depends on was not answered.
    Unknown {
        /// What, and why.
        what: String,
    },
    /// A producer is not bound by ACLs.
    SuperUser {
        /// Its principal.
        principal: String,
    },
    /// A transaction is under way.
    OpenTransaction {
        /// Its transactional id.
        id: String,
    },
    /// A transactional producer is known, which can begin a transaction at any time.
    TransactionalId {
        /// Its transactional id.
        id: String,
    },
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNot::NoAuthorizer => f.write_str("the cluster has no authorizer"),
            WhyNot::Unknown { what } => write!(f, "not known: {what}"),
            WhyNot::SuperUser { principal } => {
                write!(f, "{principal} produces as a super user, whom no ACL binds")
            }
            WhyNot::OpenTransaction { id } => {
                write!(f, "transaction {id} is open, and its commit could never be written")
            }
            WhyNot::TransactionalId { id } => {
                write!(f, "{id} is transactional and can begin a transaction at any time")
            }
        }
    }
}

/// The fence does not hold here. Its text ends with what the operator can do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub struct Refusal {
    /// What was to be the fence.
    pub means: Means,
    /// What stands against it, in order.
    pub against: Vec<WhyNot>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold on this cluster: ", self.means)?;
        for why in &self.against {
            write!(f, "{why}; ")?;
        }
        f.write_str(
            "mend it, or waive the fence with plan.fence = \"waived\": then a quiet window decides, order between the clusters \
             is not promised, and a person approves the removal",
        )
    }
}

/// Whether the fence that is configured would hold, and do no harm.
///
/// # Errors
/// It would not, or that is not known.
pub fn holds(facts: &Facts) -> Result<(), Refusal> {
    match facts.means {
        Means::Acl => judge(Means::Acl, why_no_acl(facts)),
        Means::Exec => Ok(()),
        Means::Size => size_holds(&facts.transactions),
    }
}

/// The same of a size fence, for which nothing else counts.
///
/// # Errors
/// As of [`holds`].
pub fn size_holds(transactions: &Transactions) -> Result<(), Refusal> {
    judge(Means::Size, why_no_size(transactions))
}

fn judge(means: Means, mut against: Vec<WhyNot>) -> Result<(), Refusal> {
    if without(Control::AnyFence) {
        against.retain(|why| *why == WhyNot::NoAuthorizer);
    }
    if against.is_empty() { Ok(()) } else { Err(Refusal { means, against }) }
}

/// What to do where leaders refuse the client that is to prove a fence before there is one: by refusing it under one they would
/// prove nothing.
pub fn not_provable(colour: Colour) -> String {
    format!(
        "while the client that asks is refused without a fence, none could be proven: if its principal may not write there, \
         grant it Write on the topics, or give clusters.{colour}.probe_properties another one (docs/security.md)"
    )
}

fn why_no_acl(facts: &Facts) -> Vec<WhyNot> {
    match &facts.authorizer {
        Ok(true) => {}
        Ok(false) => return vec![WhyNot::NoAuthorizer],
        Err(reason) => {
            return vec![WhyNot::Unknown { what: format!("whether there is an authorizer ({reason})") }];
        }
    }
    match &facts.exempt {
        Ok(exempt) => {
            exempt.iter().map(|principal| WhyNot::SuperUser { principal: principal.clone() }).collect()
        }
        Err(reason) => {
            vec![WhyNot::Unknown { what: format!("which producers no ACL binds ({reason})") }]
        }
    }
}

fn why_no_size(transactions: &Transactions) -> Vec<WhyNot> {
    match transactions {
        Transactions::Listed { ids, open } => {
            let open_ones = open.iter().map(|id| WhyNot::OpenTransaction { id: id.clone() });
            let others = ids.difference(open).map(|id| WhyNot::TransactionalId { id: id.clone() });
            open_ones.chain(others).collect()
        }
        Transactions::Unknown { reason } => {
            vec![WhyNot::Unknown { what: format!("whether anybody uses transactions ({reason})") }]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(means: Means) -> Facts {
        Facts { means, authorizer: Ok(true), exempt: Ok(BTreeSet::new()), transactions: listed(&[], &[]) }
    }

    fn listed(ids: &[&str], open: &[&str]) -> Transactions {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Transactions::Listed { ids: set(ids), open: set(open) }
    }

    fn refused(facts: &Facts) -> String {
        holds(facts).unwrap_err().to_string()
    }

    /// L17, L8: an ACL that does not bind a producer is no fence; what a command does is not asked here.
    #[test]
    fn producers_that_no_acl_binds_need_another_fence() {
        assert_eq!(holds(&facts(Means::Acl)), Ok(()));
        let exempt = Facts { exempt: Ok(["User:batch".to_owned()].into()), ..facts(Means::Acl) };
        let said = refused(&exempt);
        assert!(
            said.starts_with("an ACL fence does not hold on this cluster: User:batch produces"),
            "{said}"
        );
        assert!(said.contains("plan.fence = \"waived\""), "{said}");
        assert_eq!(holds(&Facts { means: Means::Exec, ..exempt }), Ok(()));
    }

    #[test]
    fn unknown_is_not_no() {
        let silent = || "timed out".to_owned();
        let acl = facts(Means::Acl);
        for facts in [
            Facts { exempt: Err(silent()), ..acl.clone() },
            Facts { authorizer: Err(silent()), ..acl.clone() },
        ] {
            assert!(refused(&facts).contains("timed out"), "{facts:?}");
        }
        assert!(refused(&Facts { authorizer: Ok(false), ..acl }).contains("no authorizer"));
    }

    /// L17: a size fence over an open transaction wedges it for ever; over an idle id it may do so a moment later.
    #[test]
    fn a_size_fence_needs_no_transactions() {
        let with = |transactions| Facts { transactions, authorizer: Ok(false), ..facts(Means::Size) };
        assert_eq!(holds(&with(listed(&[], &[]))), Ok(()));
        assert!(refused(&with(listed(&["pay"], &["pay"]))).contains("transaction pay is open"));
        assert!(refused(&with(listed(&["pay"], &[]))).contains("pay is transactional"));
        assert!(refused(&with(Transactions::Unknown { reason: "Kafka 2.8".into() })).contains("Kafka 2.8"));
    }
}
