//! When a group may go on to the new cluster: for whoever moves consumers that do not follow the chain themselves (L19).

use std::collections::{BTreeMap, BTreeSet};

use super::state::{Closed, Progress, Redirected, State};
use crate::ports::Incarnation;
use crate::words::{Colour, GroupId, TopicName};

/// Where groups stand in a cutover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// They stay where they are; the old cluster still takes records. Says until when.
    NotYet(&'static str),
    /// Each reads this cluster, the old one, to its closed ends, and goes on to the other colour when it has.
    Reads(Incarnation),
    /// All that were required are done: they go on to this colour.
    Free(Colour),
    /// They stay where they are: the cutover was undone, or is being undone. Says why.
    Stays(String),
}

const NOT_BEGUN: &str = "the cutover that leads there has not begun yet";

impl Progress {
    /// Where groups stand that are to go to this colour. What an earlier cutover has come to, or another one that is under
    /// way, releases nobody for the one that leads there.
    pub fn release(&self, to: Colour) -> Release {
        match &self.state {
            // `up` was run once more on a cutover that is over, and found nothing to do.
            State::Planned
                if self.cutover > 1 && self.published.as_ref().is_some_and(|target| target.colour == to) =>
            {
                Release::Free(to)
            }
            State::Planned => Release::NotYet(NOT_BEGUN),
            State::Provisioning
            | State::Verifying(..)
            | State::Preparing(..)
            | State::Ready(_)
            | State::Redirecting(..) => {
                Release::NotYet("producers have not been sent to the new cluster yet")
            }
            State::Converging(redirected) | State::Fencing(redirected, _) => match redirected.leads(to) {
                true => Release::NotYet("the old cluster is not closed yet"),
                false => Release::NotYet(NOT_BEGUN),
            },
            State::Draining(Closed { redirected, .. })
            | State::Soaking(Closed { redirected, .. })
            | State::Isolating(Closed { redirected, .. }, _)
            | State::Retiring(Closed { redirected, .. }, ..)
                if !redirected.leads(to) =>
            {
                Release::NotYet(NOT_BEGUN)
            }
            State::Draining(closed) => {
                Release::Reads(closed.redirected.prepared.verified.old.incarnation.clone())
            }
            State::Soaking(_) | State::Isolating(..) | State::Retiring(..) => Release::Free(to),
            State::Complete => match &self.published {
                Some(target) if target.colour == to => Release::Free(to),
                Some(_) => Release::NotYet(NOT_BEGUN),
                None => Release::NotYet("nothing was published yet"),
            },
            State::Aborting(undo, _) => Release::Stays(undo.reason.clone()),
            State::Aborted(reason) | State::RolledBack(reason) => Release::Stays(reason.clone()),
            State::RollingBack(way, _) => Release::Stays(way.reason.clone()),
        }
    }

    /// Whether the cutover was undone, and nothing more becomes of it.
    pub fn is_undone(&self) -> bool {
        matches!(self.state, State::Aborted(_) | State::RolledBack(_))
    }

    /// The groups that a cutover to this colour has recorded; `None` where this state holds none, or is about another one.
    pub fn recorded(&self, to: Colour) -> Option<&BTreeMap<GroupId, BTreeSet<TopicName>>> {
        let (verified, draft) = match &self.state {
            State::Preparing(verified, draft, _) => (verified, draft),
            State::Ready(prepared) | State::Redirecting(prepared, _) => (&prepared.verified, &prepared.draft),
            State::Converging(redirected) | State::Fencing(redirected, _) => {
                (&redirected.prepared.verified, &redirected.prepared.draft)
            }
            State::Draining(closed)
            | State::Soaking(closed)
            | State::Isolating(closed, _)
            | State::Retiring(closed, ..) => {
                (&closed.redirected.prepared.verified, &closed.redirected.prepared.draft)
            }
            _ => return None,
        };
        (verified.new.incarnation.colour == to && !draft.groups.is_empty()).then_some(&draft.groups)
    }
}

impl Redirected {
    fn leads(&self, to: Colour) -> bool {
        self.target.colour == to
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::super::{Cutover, Plan, Record, StateName};
    use super::*;

    fn places(journal: &[Record]) -> Vec<(StateName, Release)> {
        let progress = journal.iter().filter_map(|record| match record {
            Record::Checkpoint { progress } => Some(progress),
            _ => None,
        });
        let mut places: Vec<_> =
            progress.map(|progress| (progress.state.name(), progress.release(Colour::Green))).collect();
        places.dedup();
        places
    }

    /// L19: nobody goes on before the old cluster is closed and read.
    #[test]
    fn a_group_is_released_once_the_drain_is_over() {
        let (_, world) = World::new(plan(), vec![]).run();
        for (state, release) in places(&world.journal) {
            match release {
                Release::NotYet(_) => assert!(state < StateName::Draining, "{state}"),
                Release::Reads(old) => {
                    assert_eq!((state, old.colour), (StateName::Draining, Colour::Blue));
                }
                Release::Free(colour) => {
                    assert!(state > StateName::Draining, "{state}");
                    assert_eq!(colour, Colour::Green);
                }
                Release::Stays(why) => panic!("{state}: {why}"),
            }
        }
    }

    /// `up` may be run again when there is nothing left to do.
    #[test]
    fn a_run_that_finds_nothing_to_do_holds_nobody_back() {
        let (_, world) = World::new(plan(), vec![]).run();
        let again = Cutover::new(plan(), "again".into(), world.journal);
        let progress = again.progress();
        assert_eq!(
            (progress.state.name(), progress.release(Colour::Green)),
            (StateName::Planned, Release::Free(Colour::Green))
        );
        assert!(matches!(progress.release(Colour::Blue), Release::NotYet(_)));
    }

    #[test]
    fn after_an_abort_a_group_stays() {
        let mut plan = Plan { topics: super::super::Topics::Named(["ordres".into()].into()), ..plan() };
        plan.timings.hold_limit_ms = Some(300);
        let (_, world) = World::new(plan, vec![]).run();
        let places = places(&world.journal);
        assert!(matches!(places.last(), Some((StateName::Aborted, Release::Stays(_)))), "{places:?}");
    }

    /// L19: where `to` was changed for the way back, what the last cutover came to releases nobody: at no point of it does
    /// one go to the colour that is to be left next.
    #[test]
    fn an_earlier_cutover_releases_nobody_for_the_next() {
        let (_, world) = World::new(plan(), vec![]).run();
        for record in &world.journal {
            let Record::Checkpoint { progress } = record else { continue };
            let release = progress.release(Colour::Blue);
            assert!(matches!(release, Release::NotYet(_)), "{}: {release:?}", progress.state.name());
            assert_eq!(progress.recorded(Colour::Blue), None);
        }
    }

    /// Whom a cutover waits for can be told as long as it has something to drain, so that a name can be checked.
    #[test]
    fn whom_it_waits_for_is_told_until_it_is_over() {
        let (_, world) = World::new(plan(), vec![]).run();
        let mut told = 0;
        for record in &world.journal {
            let Record::Checkpoint { progress } = record else { continue };
            if let Some(groups) = progress.recorded(Colour::Green) {
                told += 1;
                assert_eq!(groups.keys().map(GroupId::as_str).collect::<Vec<_>>(), ["billing"]);
            } else {
                let state = progress.state.name();
                assert!(state <= StateName::Preparing || state == StateName::Complete, "{state}");
            }
        }
        assert!(told > 5, "{told}");
    }
}
