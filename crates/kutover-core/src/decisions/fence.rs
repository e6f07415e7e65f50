//! Which fence (L17): chosen from what the cluster has, since the wrong one does harm.
//!
//! An ACL that denies writing does not bind super users, nor clients that do not obey Kafka's ACLs (MSK's IAM clients).
//! Where a topic had no ACL at all it shuts consumers out without a word, so reading is allowed there first; where it had
//! some, that allowance would open what was closed. A size fence binds everybody, and wedges an open transaction for
//! ever: its commit marker cannot be written, and lifting the fence does not mend it. It is used on request only, and
//! only where nothing transactional can exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::controls::{Control, without};
use crate::words::{Colour, TopicName, is_reserved_topic};

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

/// What the operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Whatever holds on this cluster; never a size fence.
    #[default]
    Best,
    /// This one or none.
    This(Means),
    /// None: waived by name.
    Waived,
}

/// Why a producer's writes pass an ACL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exempt {
    /// Its principal is among `super.users`.
    SuperUser,
    /// It is authorised by something else than Kafka's ACLs, such as MSK's IAM.
    OtherAuthorizer,
}

/// Whether a topic has ACLs of its own, by name, prefix or wildcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopicAcls {
    /// None at all, kutover's own not counted.
    None,
    /// At least one.
    Some,
    /// They were not answered.
    Unknown,
}

/// What a cluster says about transactions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "transactions")]
pub enum Transactions {
    /// There is no `__transaction_state` topic: nobody ever began one.
    Never,
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

/// What was observed of the cluster to be fenced, its clients and the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Facts {
    /// Whether it has an authorizer, as an answer to describing ACLs. `Err` says why that is not known.
    pub authorizer: Result<bool, String>,
    /// Principals that produce and that an ACL does not bind, by principal. `Err` says why they are not known.
    pub exempt: Result<BTreeMap<String, Exempt>, String>,
    /// The topics to be fenced.
    pub topics: BTreeMap<TopicName, TopicAcls>,
    /// Transactions.
    pub transactions: Transactions,
    /// Whether a fence command is configured.
    pub has_command: bool,
    /// What the operator asks for.
    pub request: Request,
}

/// The fence to raise.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fence")]
pub enum Choice {
    /// Deny Write on every topic.
    Acl {
        /// Topics without any ACL: reading is allowed there before, and no longer after, writing is denied.
        allow_read: BTreeSet<TopicName>,
    },
    /// The configured command.
    Exec,
    /// `max.message.bytes=0`.
    Size,
    /// None, as the operator has waived it: a quiet window instead, no order between the clusters, and a person approves
    /// the removal.
    Waived,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Acl { allow_read } if allow_read.is_empty() => f.write_str("ACLs deny writing"),
            Choice::Acl { allow_read } => {
                write!(
                    f,
                    "ACLs deny writing; {} topics without any ACL allow reading first",
                    allow_read.len()
                )
            }
            Choice::Exec => f.write_str("the configured command shuts writers out"),
            Choice::Size => {
                f.write_str("max.message.bytes=0 refuses every record; a producer with acks=0 is not told so")
            }
            Choice::Waived => f.write_str("none (waived): a quiet window decides, order is not promised"),
        }
    }
}

/// Why a means is no fence on this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum WhyNot {
    /// There is no authorizer.
    NoAuthorizer,
    /// Something that it depends on was not answered.
    Unknown {
        /// What, and why.
        what: String,
    },
    /// A producer is not bound by ACLs.
    Exempt {
        /// Its principal.
        principal: String,
        /// Why not.
        because: Exempt,
    },
    /// No command is configured.
    NoCommand,
    /// It is not used unless it is asked for.
    NotAsked,
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
            WhyNot::Exempt { principal, because: Exempt::SuperUser } => {
                write!(f, "{principal} produces as a super user, whom no ACL binds")
            }
            WhyNot::Exempt { principal, because: Exempt::OtherAuthorizer } => {
                write!(f, "{principal} does not obey Kafka's ACLs (IAM)")
            }
            WhyNot::NoCommand => f.write_str("no fence command is configured"),
            WhyNot::NotAsked => f.write_str("used on request only"),
            WhyNot::OpenTransaction { id } => {
                write!(f, "transaction {id} is open, and its commit could never be written")
            }
            WhyNot::TransactionalId { id } => {
                write!(f, "{id} is transactional and can begin a transaction at any time")
            }
        }
    }
}

/// No fence holds here. Its text ends with what the operator can do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub struct Refusal {
    /// What stands against each means that was looked at, in order.
    pub against: Vec<(Means, WhyNot)>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no fence holds on this cluster: ")?;
        for (means, why) in &self.against {
            write!(f, "{means}: {why}; ")?;
        }
        f.write_str(
            "mend one of these, or waive it with plan.fence = \"waived\": then a quiet window decides, order between \
             the clusters is not promised, and a person approves the removal",
        )
    }
}

/// Chooses the fence. Kutover's own topics and Kafka's internal ones are never part of it.
///
/// # Errors
/// No means holds on this cluster, or not the one that was asked for.
pub fn choose(facts: &Facts) -> Result<Choice, Refusal> {
    let candidates: &[Means] = match &facts.request {
        Request::Waived => return Ok(Choice::Waived),
        Request::This(means) => &[*means],
        Request::Best => &[Means::Acl, Means::Exec, Means::Size],
    };
    let mut against = Vec::new();
    for means in candidates {
        let mut found = why_not(*means, facts);
        if without(Control::AnyFence) {
            found.retain(|why| matches!(why, WhyNot::NoAuthorizer | WhyNot::NoCommand));
        }
        if found.is_empty() {
            return Ok(match means {
                Means::Acl => Choice::Acl { allow_read: without_acls(facts) },
                Means::Exec => Choice::Exec,
                Means::Size => Choice::Size,
            });
        }
        against.extend(found.into_iter().map(|why| (*means, why)));
    }
    Err(Refusal { against })
}

/// What to do where leaders refuse the client that is to prove a fence before there is one: by refusing it under one they would
/// prove nothing.
pub fn not_provable(colour: Colour) -> String {
    format!(
        "while the client that asks is refused without a fence, none could be proven: if its principal may not write there, \
         grant it Write on the topics, or give clusters.{colour}.probe_properties another one (docs/security.md)"
    )
}

fn why_not(means: Means, facts: &Facts) -> Vec<WhyNot> {
    match means {
        Means::Acl => why_no_acl(facts),
        Means::Exec if facts.has_command => vec![],
        Means::Exec => vec![WhyNot::NoCommand],
        Means::Size if facts.request == Request::Best => vec![WhyNot::NotAsked],
        Means::Size => why_no_size(&facts.transactions),
    }
}

fn why_no_acl(facts: &Facts) -> Vec<WhyNot> {
    match &facts.authorizer {
        Ok(true) => {}
        Ok(false) => return vec![WhyNot::NoAuthorizer],
        Err(reason) => {
            return vec![WhyNot::Unknown { what: format!("whether there is an authorizer ({reason})") }];
        }
    }
    let mut found = Vec::new();
    match &facts.exempt {
        Ok(exempt) => {
            found.extend(exempt.iter().map(|(principal, because)| WhyNot::Exempt {
                principal: principal.clone(),
                because: *because,
            }))
        }
        Err(reason) => {
            found.push(WhyNot::Unknown { what: format!("which producers no ACL binds ({reason})") });
        }
    }
    // Allowing to read where there was an ACL opens it to everybody; not allowing it where there was none shuts readers
    // out. So the one thing that cannot be done is to guess.
    let unanswered = facts.topics.iter().filter(|(_, acls)| **acls == TopicAcls::Unknown);
    found.extend(unanswered.map(|(topic, _)| WhyNot::Unknown { what: format!("the ACLs of topic {topic}") }));
    found
}

fn why_no_size(transactions: &Transactions) -> Vec<WhyNot> {
    match transactions {
        Transactions::Never => vec![],
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

fn without_acls(facts: &Facts) -> BTreeSet<TopicName> {
    let bare = |(topic, acls): (&TopicName, &TopicAcls)| {
        (*acls == TopicAcls::None && !is_reserved_topic(topic.as_str())).then(|| topic.clone())
    };
    facts.topics.iter().filter_map(bare).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts() -> Facts {
        let topics =
            [("bare", TopicAcls::None), ("guarded", TopicAcls::Some), ("kutover.control", TopicAcls::None)];
        Facts {
            authorizer: Ok(true),
            exempt: Ok(BTreeMap::new()),
            topics: topics.into_iter().map(|(name, acls)| (name.into(), acls)).collect(),
            transactions: Transactions::Never,
            has_command: false,
            request: Request::Best,
        }
    }

    fn listed(ids: &[&str], open: &[&str]) -> Transactions {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Transactions::Listed { ids: set(ids), open: set(open) }
    }

    fn refused(facts: &Facts) -> String {
        choose(facts).unwrap_err().to_string()
    }

    /// Reading is allowed only where there was no ACL at all; elsewhere it would open what was closed.
    #[test]
    fn an_acl_fence_allows_reading_only_where_nothing_was_said() {
        assert_eq!(choose(&facts()), Ok(Choice::Acl { allow_read: ["bare".into()].into() }));
        let mut unknown = facts();
        unknown.topics.insert("silent".into(), TopicAcls::Unknown);
        assert!(refused(&unknown).contains("an ACL fence: not known: the ACLs of topic silent"));
    }

    /// L17, L8: an ACL that does not bind a producer is no fence; a command may be one.
    #[test]
    fn producers_that_no_acl_binds_need_another_fence() {
        for (because, word) in [(Exempt::SuperUser, "super user"), (Exempt::OtherAuthorizer, "IAM")] {
            let mut facts = facts();
            facts.exempt = Ok([("User:batch".to_owned(), because)].into());
            let said = refused(&facts);
            assert!(said.contains("User:batch") && said.contains(word), "{said}");
            assert!(said.contains("plan.fence = \"waived\""), "{said}");
            facts.has_command = true;
            assert_eq!(choose(&facts), Ok(Choice::Exec));
            facts.request = Request::This(Means::Acl);
            assert!(choose(&facts).is_err(), "what was asked for is not replaced by something else");
        }
    }

    #[test]
    fn unknown_is_not_no() {
        let silent = || Err("timed out".to_owned());
        for facts in
            [Facts { exempt: Err("timed out".into()), ..facts() }, Facts { authorizer: silent(), ..facts() }]
        {
            assert!(refused(&facts).contains("timed out"), "{facts:?}");
        }
        assert!(refused(&Facts { authorizer: Ok(false), ..facts() }).contains("no authorizer"));
    }

    /// L17: a size fence over an open transaction wedges it for ever; over an idle id it may do so a moment later.
    #[test]
    fn a_size_fence_needs_a_request_and_no_transactions() {
        let asked = |transactions| Facts { transactions, request: Request::This(Means::Size), ..facts() };
        assert_eq!(choose(&asked(Transactions::Never)), Ok(Choice::Size));
        assert_eq!(choose(&asked(listed(&[], &[]))), Ok(Choice::Size));
        assert!(refused(&asked(listed(&["pay"], &["pay"]))).contains("transaction pay is open"));
        assert!(refused(&asked(listed(&["pay"], &[]))).contains("pay is transactional"));
        assert!(refused(&asked(Transactions::Unknown { reason: "Kafka 2.8".into() })).contains("Kafka 2.8"));
        let not_asked = Facts { authorizer: Ok(false), ..facts() };
        assert!(refused(&not_asked).contains("a size fence: used on request only"));
    }

    #[test]
    fn what_is_chosen_says_what_it_does() {
        let said = |topics: &[&str]| {
            Choice::Acl { allow_read: topics.iter().map(|topic| (*topic).into()).collect() }.to_string()
        };
        assert_eq!(said(&[]), "ACLs deny writing");
        assert_eq!(said(&["bare"]), "ACLs deny writing; 1 topics without any ACL allow reading first");
    }

    #[test]
    fn a_waiver_is_taken_at_its_word() {
        assert_eq!(
            choose(&Facts { authorizer: Ok(false), request: Request::Waived, ..facts() }),
            Ok(Choice::Waived)
        );
    }

    fn any_facts() -> impl Strategy<Value = Facts> {
        let authorizer = prop_oneof![Just(Ok(true)), Just(Ok(false)), Just(Err("silent".to_owned()))];
        let exempt = prop_oneof![
            Just(Ok(BTreeMap::new())),
            Just(Ok([("User:p".to_owned(), Exempt::SuperUser)].into())),
            Just(Err("silent".to_owned()))
        ];
        let acls = prop_oneof![Just(TopicAcls::None), Just(TopicAcls::Some), Just(TopicAcls::Unknown)];
        let topics = proptest::collection::btree_map(
            prop_oneof![Just("a".into()), Just("b".into()), Just("__consumer_offsets".into())],
            acls,
            0..3,
        );
        let transactions = prop_oneof![
            Just(Transactions::Never),
            Just(listed(&[], &[])),
            Just(listed(&["t"], &[])),
            Just(listed(&["t"], &["t"])),
            Just(Transactions::Unknown { reason: "silent".into() })
        ];
        let request = prop_oneof![
            Just(Request::Best),
            Just(Request::Waived),
            Just(Request::This(Means::Acl)),
            Just(Request::This(Means::Exec)),
            Just(Request::This(Means::Size))
        ];
        (authorizer, exempt, topics, transactions, any::<bool>(), request).prop_map(
            |(authorizer, exempt, topics, transactions, has_command, request)| Facts {
                authorizer,
                exempt,
                topics,
                transactions,
                has_command,
                request,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the cluster says: a fence that was chosen does no harm and is what was asked for.
        #[test]
        fn a_chosen_fence_does_no_harm(facts in any_facts()) {
            match choose(&facts) {
                Ok(Choice::Acl { allow_read }) => {
                    prop_assert_eq!(&facts.authorizer, &Ok(true));
                    prop_assert_eq!(&facts.exempt, &Ok(BTreeMap::new()));
                    for (topic, acls) in &facts.topics {
                        let opened = allow_read.contains(topic);
                        prop_assert_eq!(opened, *acls == TopicAcls::None && !is_reserved_topic(topic.as_str()));
                    }
                }
                Ok(Choice::Size) => {
                    prop_assert_eq!(facts.request, Request::This(Means::Size));
                    let none = facts.transactions == Transactions::Never || facts.transactions == listed(&[], &[]);
                    prop_assert!(none);
                }
                Ok(Choice::Exec) => prop_assert!(facts.has_command),
                Ok(Choice::Waived) => prop_assert_eq!(facts.request, Request::Waived),
                Err(refusal) => prop_assert!(!refusal.against.is_empty()),
            }
        }
    }
}
