//! Why a plan is refused, and what waives it.

use std::fmt;

use serde::Serialize;

/// Kinds of refusal; the names are part of the JSON's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// Both colours lead to one cluster, or advertise one broker (L5).
    SameCluster,
    /// The owner record names another cluster than the one found.
    WrongCluster,
    /// Nothing would move: no topics, or not those that the plan names.
    NothingMoves,
    /// An advertised address takes no connection.
    UnreachableBroker,
    /// The new cluster cannot be made like the old one (L6).
    Parity,
    /// The new cluster makes topics by itself, lets nobody in or binds nobody (L6).
    Access,
    /// A SCRAM user that the new cluster lacks, and no password for it.
    ScramUser,
    /// The cluster does not list its groups and the plan names none (L9).
    UnknownGroups,
    /// A group did not answer what it is.
    UnknownGroup,
    /// Nobody reads a topic: what is unread there is missed by nobody's drain (L9).
    UnreadTopic,
    /// A share group has no offsets to drain up to.
    ShareGroup,
    /// A Streams application, whose state and repartition topics do not move with it.
    Streams,
    /// Transactional producers, none of which is the library's.
    Transactions,
    /// A transaction that never ends by itself (L10).
    HangingTransaction,
    /// Retention is shorter than the expected drain, on either colour (L11).
    Retention,
    /// No fence holds (L8, L17).
    Fence,
    /// Whoever produces as a super user is not bound by a fence of ACLs (L8).
    SuperUser,
    /// History would die with the old cluster (L18).
    History,
    /// Schema Registry's topic would (L18).
    Schemas,
    /// Connectors that are to move along cannot.
    Connect,
}

/// What waives a refusal: a field of the configuration, with the value that does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiver {
    /// The field, as in `plan.waive_history`.
    pub field: &'static str,
    /// What to put there or add to it, as TOML.
    pub value: String,
}

impl Waiver {
    /// A name to be added to a list.
    pub(super) fn list(field: &'static str, name: &str) -> Self {
        Self { field, value: format!("[{name:?}]") }
    }

    /// A value to be set.
    pub(super) fn value(field: &'static str, value: &str) -> Self {
        Self { field, value: value.to_owned() }
    }
}

impl fmt::Display for Waiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.field, self.value)
    }
}

/// One thing that a plan is refused over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What kind.
    pub code: Code,
    /// The thing itself: a topic, a group, a broker, a principal.
    pub subject: String,
    /// Why, and what to do about it.
    pub reason: String,
    /// What waives it; `None` if nothing does.
    pub waiver: Option<Waiver>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        match &self.waiver {
            Some(waiver) => write!(f, " (or waive it: {waiver})"),
            None => Ok(()),
        }
    }
}
