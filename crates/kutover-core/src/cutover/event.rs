//! What the machine tells people, and what it journals.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::command::{Command, CommandId};
use super::state::Progress;
use super::state_name::StateName;
use crate::decisions::early_members::Early;
use crate::decisions::stragglers::Straggler;
use crate::owner::Target;
use crate::ports::FenceKind;
use crate::words::{ClusterId, Colour, ConnectorName, Generation, IncarnationId, Nonce, Term, TopicName};

/// A step that a person may have to approve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApprovalGate {
    /// Pointing producers at the new cluster.
    Redirect,
    /// Removing the old one.
    Removal,
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A controller took the term.
    TermTaken {
        /// The term.
        term: Term,
    },
    /// A state was entered.
    Entered {
        /// The state.
        state: StateName,
    },
    /// Both incarnations are known.
    Provisioned {
        /// The new colour.
        colour: Colour,
        /// The new incarnation.
        incarnation: IncarnationId,
    },
    /// Both clusters are who they should be.
    Verified {
        /// The old cluster.
        old: ClusterId,
        /// The new cluster.
        new: ClusterId,
        /// Topics that move.
        topics: usize,
    },
    /// Something a person should know, and that stops nothing.
    Note {
        /// The text.
        text: String,
    },
    /// Groups that must read the old cluster to its end.
    GroupsRequired {
        /// How many.
        groups: usize,
    },
    /// Connectors that move along.
    Connectors {
        /// Those that write.
        sources: Vec<ConnectorName>,
        /// Those that read.
        sinks: Vec<ConnectorName>,
    },
    /// Producer ids of the new cluster are being used up.
    SeparatingIds {
        /// The mark that they must pass.
        mark: u64,
        /// Brokers that have not.
        behind: usize,
        /// How many ids are still to be used up, at most.
        ids: u64,
    },
    /// All of the new cluster's producer ids are above all that others gave out.
    IdsSeparated {
        /// The mark that they have passed.
        mark: u64,
    },
    /// The endpoints point at the new cluster.
    Published {
        /// The target.
        target: Target,
    },
    /// How many producers have moved.
    Moved {
        /// Receipts.
        moved: usize,
        /// Registered producers.
        of: usize,
        /// Those that have not moved, by name.
        waiting: Vec<String>,
    },
    /// Producers outside the library, or that say that they have left, still write to the old cluster (L8).
    Stragglers {
        /// Who, where, how much: the busiest first, at most ten.
        writing: Vec<Straggler>,
        /// How many more there are.
        more: usize,
        /// Ids that nobody claims and that wrote nothing meanwhile.
        silent: usize,
        /// Partitions that did not answer.
        unanswered: usize,
    },
    /// Producer ids on the old cluster that no receipt claims and that write nothing: dead, asleep, or about to wake (L8). Once,
    /// before the old cluster is closed.
    Silent {
        /// Whose they are, as far as it is known; the newest write first, at most ten.
        silent: Vec<Straggler>,
        /// How many more there are.
        more: usize,
    },
    /// A group that must still read the old cluster is on the new one already, or it cannot be told (L19). Once for each, as
    /// long as it stays there.
    EarlyMembers {
        /// Which, and who.
        early: Early,
    },
    /// A fence stands on the cluster that producers belong to, where nobody means it to. It is lifted.
    FenceLeft {
        /// The cluster's colour.
        colour: Colour,
        /// Its topics; at most ten.
        topics: Vec<TopicName>,
        /// How many more there are.
        more: usize,
    },
    /// The fence stands and is proven.
    FenceProven {
        /// Which fence.
        kind: FenceKind,
        /// Partitions that refused.
        partitions: usize,
    },
    /// The old generation's segments are closed.
    Closed {
        /// The generation.
        generation: Generation,
        /// Partitions.
        partitions: usize,
        /// Records in those segments.
        records: i64,
    },
    /// The cluster that a rollback leaves does not answer: it is gone back without a barrier, order is not promised for
    /// that generation, and what of it nobody has read stays on that cluster.
    BarrierLost {
        /// The generation.
        generation: Generation,
        /// What was tried last, and how it failed.
        reason: String,
    },
    /// The cluster that a rollback leaves answers, but a leader of it does not prove the fence: it is gone back without
    /// the barrier. Order is not promised for that generation, which closes when it has been quiet.
    BarrierUnproven {
        /// The generation.
        generation: Generation,
        /// What was tried last, and how it failed.
        reason: String,
    },
    /// A topic that the operator has named was deleted on the old cluster: it is out of the cutover.
    TopicGone {
        /// The topic.
        topic: TopicName,
        /// How many records that groups had not read may be lost with it, at the most; `None` where nobody can tell.
        unread: Option<i64>,
    },
    /// How far the drain is.
    Draining {
        /// (group, partition) pairs looked at.
        pairs: usize,
        /// Unread offsets, as far as they are known.
        unread: i64,
        /// Why it is not drained, in an operator's terms: the first ten, what only a person can end before the rest.
        remaining: Vec<String>,
    },
    /// The old cluster does not answer, and the operator has given it up.
    Abandoned {
        /// The incarnation.
        incarnation: IncarnationId,
    },
    /// Clients are shut out of the old cluster.
    Isolated {
        /// Whether they really are.
        shut_out: bool,
    },
    /// The old cluster is gone.
    Removed {
        /// The incarnation.
        incarnation: IncarnationId,
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// A person has to say so.
    AwaitingApproval {
        /// What for.
        gate: ApprovalGate,
        /// Before a removal that no fence protects: producers that never said that they have moved,
        /// by the key of their word (kind, instance, incarnation). Who says yes says that they have ended.
        unmoved: Vec<String>,
    },
    /// Something failed and is tried again; nothing is lost meanwhile.
    Hold {
        /// Where.
        state: StateName,
        /// Why, and where there is one the fix.
        reason: String,
    },
    /// The cause of a hold has ended.
    Resumed {
        /// Where.
        state: StateName,
    },
    /// An answer came that nobody waited for.
    LateAnswer {
        /// To which command.
        id: CommandId,
    },
    /// A promise of the machine itself is broken; it has stopped.
    InvariantBroken {
        /// Which.
        text: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::TermTaken { term } => write!(f, "term {term} taken"),
            Event::Entered { state } => write!(f, "{state}"),
            Event::Provisioned { colour, incarnation } => write!(f, "{colour} is {incarnation}"),
            Event::Verified { old, new, topics } => {
                write!(f, "clusters {old} and {new} are distinct; topics that move: {topics}")
            }
            Event::Note { text } => f.write_str(text),
            Event::GroupsRequired { groups } => write!(f, "groups that must read to the end: {groups}"),
            Event::Connectors { sources, sinks } => {
                let names = |all: &[ConnectorName]| {
                    all.iter().map(ConnectorName::as_str).collect::<Vec<_>>().join(", ")
                };
                write!(f, "connectors that move: sources [{}], sinks [{}]", names(sources), names(sinks))
            }
            Event::SeparatingIds { mark, behind, ids } => {
                write!(f, "using up producer ids up to {mark}: up to {ids} to go, brokers below it: {behind}")
            }
            Event::IdsSeparated { mark } => write!(f, "producer ids are separated: all start above {mark}"),
            Event::Published { target } => {
                write!(f, "generation {} is {} ({})", target.generation, target.colour, target.cluster_id)
            }
            Event::Moved { moved, of, waiting } if waiting.is_empty() => {
                write!(f, "{moved} of {of} producers moved")
            }
            Event::Moved { moved, of, waiting } => {
                let names = waiting.join(", ");
                write!(
                    f,
                    "{moved} of {of} producers moved, waiting for {names} (one that is gone for good is not waited for if \
                     plan.waive_members names it)"
                )
            }
            Event::Stragglers { writing, more, silent, unanswered } => {
                f.write_str("still writing to the old cluster: ")?;
                for (at, straggler) in writing.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { "; " })?;
                    write!(f, "{straggler}")?;
                }
                if *more > 0 {
                    write!(f, "; and {more} more")?;
                }
                if *silent > 0 {
                    write!(f, " ({silent} more ids are silent)")?;
                }
                if *unanswered > 0 {
                    write!(f, " ({unanswered} partitions did not answer)")?;
                }
                Ok(())
            }
            Event::Silent { silent, more } => {
                let named: Vec<String> = silent.iter().map(ToString::to_string).collect();
                write!(f, "on the old cluster, and claimed by no receipt: {}", named.join("; "))?;
                if *more > 0 {
                    write!(f, "; and {more} more")?;
                }
                f.write_str(" (dead, asleep, or about to wake)")
            }
            Event::EarlyMembers { early } => write!(f, "{early}"),
            Event::FenceLeft { colour, topics, more } => {
                let named: Vec<&str> = topics.iter().map(TopicName::as_str).collect();
                write!(
                    f,
                    "a left-over fence stands on {colour}, where producers belong: {}",
                    named.join(", ")
                )?;
                if *more > 0 {
                    write!(f, " and {more} more topics")?;
                }
                f.write_str("; it is lifted")
            }
            Event::FenceProven { kind, partitions } => {
                let kind = match kind {
                    FenceKind::Acl => "ACL",
                    FenceKind::Size => "size",
                    FenceKind::Exec => "command",
                    FenceKind::Hook => "hook",
                };
                write!(f, "{kind} fence proven at the leaders of {partitions} partitions")
            }
            Event::Closed { generation, partitions, records } => {
                write!(f, "generation {generation} closed: {partitions} partitions, {records} records")
            }
            Event::BarrierLost { generation, reason } => write!(
                f,
                "going back without a barrier, generation {generation} is unreadable ({reason}): order is not promised for it"
            ),
            Event::BarrierUnproven { generation, reason } => write!(
                f,
                "going back although the fence is not proven ({reason}): order is not promised for generation {generation}"
            ),
            Event::TopicGone { topic, unread } => {
                write!(f, "topic {topic} was deleted on the old cluster and is out of the cutover: ")?;
                match unread {
                    Some(0) => f.write_str("groups had read it to its end"),
                    Some(records) => write!(f, "up to {records} records that groups had not read are lost"),
                    None => {
                        f.write_str("what groups had not read is lost, and nobody can tell how much that is")
                    }
                }
            }
            Event::Draining { unread, remaining, .. } if remaining.is_empty() => {
                write!(f, "drained ({unread} unread)")
            }
            Event::Draining { unread, remaining, .. } => {
                write!(f, "{unread} unread; {}", remaining.join("; "))
            }
            Event::Abandoned { incarnation } => write!(
                f,
                "{incarnation} does not answer and is given up: what nobody had read of it is not known, and it stays as it is"
            ),
            Event::Isolated { shut_out: true } => f.write_str("clients are shut out of the old cluster"),
            Event::Isolated { shut_out: false } => {
                f.write_str("the provisioner cannot isolate; the fence stays and is proven once more")
            }
            Event::Removed { incarnation, cluster_id } => {
                write!(f, "removed {incarnation} (cluster {cluster_id})")
            }
            Event::AwaitingApproval { gate: ApprovalGate::Redirect, .. } => {
                f.write_str("waiting for approval to redirect")
            }
            Event::AwaitingApproval { gate: ApprovalGate::Removal, unmoved } => {
                f.write_str("waiting for approval to remove")?;
                if unmoved.is_empty() {
                    return Ok(());
                }
                write!(
                    f,
                    ": no fence keeps {} from writing to the old cluster, and it was never seen to have moved; approve only if \
                     it has ended",
                    unmoved.join(", ")
                )
            }
            Event::Hold { reason, .. } => write!(f, "hold: {reason}"),
            Event::Resumed { .. } => f.write_str("goes on"),
            Event::LateAnswer { id } => {
                write!(f, "an answer to command {} came too late and was ignored", id.0)
            }
            Event::InvariantBroken { text } => {
                write!(f, "stopped, a promise of the machine is broken: {text}")
            }
        }
    }
}

/// One journal entry's body.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "record")]
pub enum Record {
    /// A controller took over.
    Takeover {
        /// Its nonce.
        nonce: Nonce,
    },
    /// Where the cutover stands. The newest one is what a resume goes on from.
    Checkpoint {
        /// All of it.
        progress: Box<Progress>,
    },
    /// A mutation is about to run.
    Intent {
        /// Its id.
        id: CommandId,
        /// What it is.
        command: Box<Command>,
    },
}
