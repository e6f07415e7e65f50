//! Producer-id separation (L16): before the switch with all the time it takes, right before it, and after the fence.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::steps::unexpected;
use super::{Answer, Cause, Command, Cutover, Event, Next, Redirection, SeparationPolicy, Side, Verified};
use crate::decisions::separation::{Given, Room, Separation, judge, judge_again};
use crate::ports::NewestIds;

impl Cutover {
    /// Whether the plan wants it.
    pub(super) fn separates(&self) -> bool {
        matches!(self.plan.separation, SeparationPolicy::Required(_))
    }

    /// What a switch begins with.
    pub(super) fn first_look(&self) -> Redirection {
        if self.separates() { Redirection::Ids } else { Redirection::Recheck }
    }

    /// Looks where ids stand, and uses up the new cluster's as long as they are below the mark, a call at a time: a person
    /// can stop it in between. `passed` is the mark of an earlier look. Gives the mark, or what is next.
    pub(super) fn separate_ids(
        &mut self,
        verified: &Verified,
        passed: Option<u64>,
        cause: Cause,
    ) -> ControlFlow<Next, Option<u64>> {
        // A restart may have changed the plan.
        let SeparationPolicy::Required(room) = self.plan.separation else {
            return ControlFlow::Continue(None);
        };
        let (old, new, live) = match cause {
            Cause::Enter => {
                // A cluster that has never been apart from the others may have had writers that do not show in its ids.
                let known = self.progress.given.get(&verified.new.identity.cluster_id);
                return ControlFlow::Break(look(verified, known.is_none_or(|known| known.from == 0), None));
            }
            Cause::Answer(Answer::ProducerIds { old, new, live }) => (old, new, live),
            Cause::Answer(other) => return ControlFlow::Break(unexpected(&other)),
        };
        let new = self.note_ids(verified, old, new);
        match self.judge_ids(&new, live.as_ref(), passed, room) {
            Separation::Separated { mark } => {
                let from = if new.from == 0 { mark } else { new.from };
                self.remember_ids(Given { from, ..new });
                self.notify(Event::IdsSeparated { mark });
                ControlFlow::Continue(Some(mark))
            }
            Separation::Burn { mark, behind, ids } => {
                self.notify(Event::SeparatingIds { mark, behind: behind.len(), ids });
                ControlFlow::Break(look(verified, live.is_some(), Some(mark)))
            }
            Separation::AskWriters => ControlFlow::Break(look(verified, true, None)),
            held => ControlFlow::Break(Next::Hold(format!("{held} (plan.separation = \"off\" waives it)"))),
        }
    }

    /// Remembers where the old cluster's ids stand, and says where the new one's do.
    fn note_ids(&mut self, verified: &Verified, old: NewestIds, new: NewestIds) -> Given {
        let known = &self.progress.given;
        let given = |side: &Side, newest| {
            let cluster_id = side.identity.cluster_id.clone();
            let from = known.get(&cluster_id).map_or(0, |known| known.from);
            Given { cluster_id, from, newest }
        };
        let (old, new) = (given(&verified.old, old), given(&verified.new, new));
        self.remember_ids(old);
        new
    }

    /// A broker that is not there any more, or not just now, has given out what it gave.
    fn remember_ids(&mut self, mut given: Given) {
        if let Some(known) = self.progress.given.get(&given.cluster_id) {
            let told = known.newest.iter().filter(|(_, id)| id.is_ok());
            for (broker, id) in told {
                given.newest.entry(*broker).or_insert_with(|| id.clone());
            }
        }
        self.progress.given.insert(given.cluster_id.clone(), given);
    }

    fn judge_ids(
        &self,
        new: &Given,
        live: Option<&BTreeSet<u64>>,
        passed: Option<u64>,
        room: Room,
    ) -> Separation {
        // One that was prepared, and given up before anybody was pointed there, has given no id to anybody.
        let served = self.progress.chain.clusters();
        let others = self.progress.given.values();
        let others: Vec<Given> =
            others.filter(|given| given.from == 0 || served.contains(&given.cluster_id)).cloned().collect();
        match passed {
            None => judge(new, &others, live, room),
            Some(passed) => judge_again(new, &others, live, passed, room),
        }
    }
}

fn look(verified: &Verified, writers: bool, mark: Option<u64>) -> Next {
    Next::Run(Command::ProducerIds {
        old: verified.old.incarnation.clone(),
        new: verified.new.incarnation.clone(),
        writers_of: writers.then(|| verified.topic_names()),
        mark,
    })
}
