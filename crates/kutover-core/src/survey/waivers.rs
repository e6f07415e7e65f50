//! What the operator has said may be so all the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::cutover::Topics;
use crate::decisions::fence::Means;
use crate::words::Colour;

/// Which things of a kind a waiver is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// All of them.
    All,
    /// These and no others.
    Named(BTreeSet<String>),
}

impl Names {
    /// Whether the waiver is about this one.
    pub fn include(&self, name: &str) -> bool {
        match self {
            Names::All => true,
            Names::Named(names) => names.contains(name),
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        Names::Named(BTreeSet::new())
    }
}

/// What the operator has said that only an assessment looks at. What the machine itself obeys (groups, history, the fence)
/// is in its [`Plan`](crate::cutover::Plan).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waivers {
    /// Streams applications that somebody moves by hand, by application id.
    pub streams: Names,
    /// Transactional ids whose producers somebody moves by hand.
    pub transactions: Names,
    /// Topics that nobody needs to have read.
    pub unread: Topics,
    /// Topics of which retention may eat unread records.
    pub retention: Topics,
    /// Principals among `super.users` that do not produce.
    pub super_users: Names,
    /// `host:port` of brokers that clients reach although the controller does not.
    pub unreachable: Names,
    /// Whether a new cluster that does not tell if it makes topics by itself makes none.
    pub auto_create: bool,
    /// What is to make each colour refuse records when it is left; ACLs where nothing is said.
    pub fences: BTreeMap<Colour, Means>,
    /// The principal of the client that asks each colour's leaders whether they refuse, where the configuration tells.
    pub probes: BTreeMap<Colour, String>,
    /// SCRAM users that each colour can be given, since their passwords are told.
    pub passwords: BTreeMap<Colour, BTreeSet<String>>,
    /// The controller's principal on each colour, where the configuration tells.
    pub controllers: BTreeMap<Colour, String>,
}

impl Default for Waivers {
    /// Nothing is waived.
    fn default() -> Self {
        let (none, no_topic) = (Names::default, || Topics::Named(BTreeSet::new()));
        Self {
            streams: none(),
            transactions: none(),
            unread: no_topic(),
            retention: no_topic(),
            super_users: none(),
            unreachable: none(),
            auto_create: false,
            fences: BTreeMap::new(),
            probes: BTreeMap::new(),
            passwords: BTreeMap::new(),
            controllers: BTreeMap::new(),
        }
    }
}
