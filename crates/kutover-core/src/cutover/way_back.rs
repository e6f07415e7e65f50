//! What a rollback knows, and its steps.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::state::{Redirected, Redirection, Retirement, Side, State, Verified};
use super::{Isolation, StartOffsets};
use crate::drain::ReadOut;
use crate::owner::{Intent, Target};
use crate::ports::{Incarnation, PartitionEnd};
use crate::words::{
    ClusterId, Colour, Generation, GroupId, IncarnationId, Offset, TopicName, TopicPartition,
};

/// How the segments that are left come to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Barrier {
    /// The cluster that is left is fenced, and that is proven, before anybody goes back.
    Fence,
    /// The fence was waived, or could not be raised or proven: producers go back at once, and the segments close after a
    /// quiet window. Order between the clusters is not promised.
    Quiet,
    /// The cluster that is left does not answer: producers go back at once, and its segments are given up as unreadable.
    Lost,
}

/// A rollback that has been decided on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WayBack {
    /// What is gone back from: its `target` is the generation that closes.
    pub redirected: Redirected,
    /// The generation that opens, on the colour that was left.
    pub target: Target,
    /// Whether clients may have been shut out of the cluster that is gone back to.
    pub isolated: bool,
    /// How the closing segments come to their end.
    pub barrier: Barrier,
    /// Whether all of the cluster that is gone back to had been read when this began.
    #[serde(default)]
    pub drained: bool,
    /// Groups of the cluster that is left that never read the other one, each with its topics.
    #[serde(default)]
    pub born_away: BTreeMap<GroupId, BTreeSet<TopicName>>,
    /// Where groups start at home that have no commit there (L7).
    #[serde(default)]
    pub arrivals: Vec<StartOffsets>,
    /// Whether a step has failed for as long as a barrier may take, on a cluster that answers.
    #[serde(default)]
    pub patient: bool,
    /// Whether the cluster that is left refuses to be told anything.
    #[serde(default)]
    pub mute: bool,
    /// Records that came behind the ends that were closed, as far as they were seen.
    #[serde(default)]
    pub behind: i64,
    /// As [`Closed::read_out`](super::Closed::read_out), of the cluster that is left.
    #[serde(default)]
    pub read_out: ReadOut,
    /// Why.
    pub reason: String,
}

impl WayBack {
    /// The intent that stands in owner record and control topics until the new generation is published.
    pub fn intent(&self) -> Intent {
        let Target { generation, colour, .. } = &self.target;
        Intent { closing: self.closing(), opening: *generation, colour: *colour }
    }

    /// The generation that closes.
    pub fn closing(&self) -> Generation {
        self.redirected.target.generation
    }

    /// The cluster that is gone back to.
    pub fn home(&self) -> &Incarnation {
        &self.redirected.prepared.verified.old.incarnation
    }

    /// The cluster that is left.
    pub fn away(&self) -> &Incarnation {
        &self.redirected.prepared.verified.new.incarnation
    }

    /// What follows once receipts have come in, or are not waited for any longer.
    pub(super) fn after_convergence(&self) -> Rollback {
        match self.barrier {
            Barrier::Fence => self.before_drain(),
            Barrier::Quiet => Rollback::Quiet(Vec::new()),
            Barrier::Lost => Rollback::QuietChain,
        }
    }

    /// What a start makes of a fence that is not known to stand: it is proven again, or is wanted no more.
    pub(super) fn resume(&mut self, step: &mut Rollback, waived: bool) {
        if self.barrier != Barrier::Fence {
            return;
        }
        let tried: &Rollback = match &*step {
            Rollback::Ask(failed) => failed,
            step => step,
        };
        let fences = matches!(tried, Rollback::Raise | Rollback::Prove | Rollback::Ends(_));
        let before = matches!(
            tried,
            Rollback::Topics
                | Rollback::LookAway
                | Rollback::GroupsAway
                | Rollback::LookHome
                | Rollback::SourcesAway
                | Rollback::Intent
        );
        if waived && (fences || before) {
            self.barrier = Barrier::Quiet;
        }
        match step {
            _ if waived && fences => *step = Rollback::Ends(Vec::new()),
            Rollback::Ends(_) => *step = Rollback::Raise,
            _ => {}
        }
    }

    /// The clusters whose members can be heard: one that takes no word can be read.
    pub(super) fn heard(&self) -> Vec<Incarnation> {
        match self.barrier {
            Barrier::Lost => vec![self.home().clone()],
            Barrier::Fence | Barrier::Quiet => self.redirected.prepared.verified.both(),
        }
    }

    /// The clusters that can be told anything.
    pub fn within_reach(&self) -> Vec<Incarnation> {
        if self.mute { vec![self.home().clone()] } else { self.heard() }
    }
}

/// Steps of [`State::RollingBack`]. The order from [`Rollback::Intent`] to [`Rollback::Announce`] is the barrier: each
/// step rests on the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rollback {
    /// The cluster that is gone back to gets what topics and partitions the other has by now.
    Topics,
    /// Every partition of the cluster that is left has a leader: who shuts it without being able to prove that leaves nobody
    /// to write to.
    LookAway,
    /// Who has come to read the cluster that is left, and never read the other one?
    GroupsAway,
    /// Every partition of the cluster that is gone back to has a leader, for the same reason; and where groups start there.
    LookHome,
    /// Sources are stopped on the cluster that is left, and how far they came is carried home.
    SourcesAway,
    /// Owner record and control topics say what is about to happen: producers park refusals.
    Intent,
    /// The fence goes up on the cluster that is left.
    Raise,
    /// Every leader there refuses.
    Prove,
    /// With these final ends there, the ends here are read: they separate what came before from what comes after.
    Ends(Vec<PartitionEnd>),
    /// The chain is written.
    Chain,
    /// The cluster that is gone back to takes clients and records, which is proven.
    Reopen,
    /// Owner record and DNS.
    Publish,
    /// The control topics.
    Announce,
    /// Sources go on at home.
    SourcesHome,
    /// Receipts come in. Late acts of an older term on the cluster that serves are undone.
    Converge,
    /// Where there was no fence: the ends there must stand still for the quiet window.
    Quiet(Vec<(TopicPartition, Offset)>),
    /// The chain is written with the ends that stood still.
    QuietChain,
    /// Sinks read what came to the cluster that was left.
    SinksAway,
    /// Groups read the cluster that was left to its end.
    Drain,
    /// Records came behind its fence: a request to lift it that was given up long ago was carried out after all. It is
    /// raised and proven once more.
    FenceAgain,
    /// Sinks go on at home.
    SinksHome,
    /// The connectors of the cluster that was left go.
    ConnectorsGone,
    /// The TTL is restored.
    Ttl,
    /// A step has failed for too long: does the cluster that is left answer at all?
    Ask(Box<Rollback>),
}

impl State {
    /// The incarnation that serves behind the published colour, as far as this state knows it.
    pub(super) fn serving(&self, published: Colour) -> Option<Incarnation> {
        self.verified()?.both().into_iter().find(|incarnation| incarnation.colour == published)
    }

    /// Whether it is asked, in the middle of a hold, if a cluster answers at all.
    pub(super) fn asks(&self) -> bool {
        matches!(self, State::RollingBack(_, Rollback::Ask(_)))
    }

    /// The colour that a cutover under way is to end on; `None` where none is, or it is being undone.
    pub(super) fn leads_to(&self) -> Option<Colour> {
        match self {
            State::Aborting(..) | State::RollingBack(..) => None,
            State::Verifying(_, new) => Some(new.colour),
            under_way => Some(under_way.verified()?.new.incarnation.colour),
        }
    }

    /// Who lived in each incarnation when it was verified.
    pub(super) fn identities(&self) -> BTreeMap<IncarnationId, ClusterId> {
        let sides = self.verified().map(|verified| [&verified.old, &verified.new]);
        let known = |side: &Side| (side.incarnation.id.clone(), side.identity.cluster_id.clone());
        sides.into_iter().flatten().map(known).collect()
    }

    fn verified(&self) -> Option<&Verified> {
        Some(match self {
            State::Preparing(verified, ..) => verified,
            State::Ready(prepared) | State::Redirecting(prepared, _) => &prepared.verified,
            State::Converging(redirected) | State::Fencing(redirected, _) => &redirected.prepared.verified,
            State::Draining(closed)
            | State::Soaking(closed)
            | State::Isolating(closed, _)
            | State::Retiring(closed, ..) => &closed.redirected.prepared.verified,
            State::RollingBack(way, _) => &way.redirected.prepared.verified,
            _ => return None,
        })
    }

    /// What a rollback would go back from, and whether the old cluster may be isolated. `None` before the publication
    /// (where there is something to abort instead) and from the mark of removal on.
    pub fn way_back(&self) -> Option<(Redirected, bool)> {
        match self {
            State::Redirecting(prepared, Redirection::Announce(target) | Redirection::Start(target)) => {
                Some((Redirected::of(prepared.clone(), target.clone()), false))
            }
            State::Converging(redirected) | State::Fencing(redirected, _) => {
                Some((redirected.clone(), false))
            }
            State::Draining(closed)
            | State::Soaking(closed)
            | State::Retiring(closed, _, Retirement::Keep | Retirement::FenceAgain(true)) => {
                Some((closed.redirected.clone(), false))
            }
            State::Isolating(closed, step) => Some((closed.redirected.clone(), *step == Isolation::Isolate)),
            State::Retiring(
                closed,
                _,
                Retirement::Prove | Retirement::FenceAgain(false) | Retirement::Approval,
            ) => Some((closed.redirected.clone(), true)),
            _ => None,
        }
    }
}
