//! When a group may go on to the new cluster: for whoever moves consumers that do not follow the chain themselves (L19).

use super::state::{Progress, State};
use crate::ports::Incarnation;
use crate::words::Colour;

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

impl Progress {
    /// Where groups stand.
    pub fn release(&self) -> Release {
        match &self.state {
            State::Planned
            | State::Provisioning
            | State::Verifying(..)
            | State::Preparing(..)
            | State::Ready(_)
            | State::Redirecting(..) => {
                Release::NotYet("producers have not been sent to the new cluster yet")
            }
            State::Converging(_) | State::Fencing(..) => Release::NotYet("the old cluster is not closed yet"),
            State::Draining(closed) => {
                Release::Reads(closed.redirected.prepared.verified.old.incarnation.clone())
            }
            State::Soaking(closed) | State::Isolating(closed, _) | State::Retiring(closed, ..) => {
                Release::Free(closed.redirected.target.colour)
            }
            State::Complete => match &self.published {
                Some(target) => Release::Free(target.colour),
                None => Release::NotYet("nothing was published yet"),
            },
            State::Aborting(undo, _) => Release::Stays(undo.reason.clone()),
            State::Aborted(reason) | State::RolledBack(reason) => Release::Stays(reason.clone()),
            State::RollingBack(way, _) => Release::Stays(way.reason.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::super::{Plan, Record, StateName};
    use super::*;

    fn places(journal: &[Record]) -> Vec<(StateName, Release)> {
        let progress = journal.iter().filter_map(|record| match record {
            Record::Checkpoint { progress } => Some(progress),
            _ => None,
        });
        let mut places: Vec<_> =
            progress.map(|progress| (progress.state.name(), progress.release())).collect();
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

    #[test]
    fn after_an_abort_a_group_stays() {
        let mut plan = Plan { topics: super::super::Topics::Named(["ordres".into()].into()), ..plan() };
        plan.timings.hold_limit_ms = Some(300);
        let (_, world) = World::new(plan, vec![]).run();
        let places = places(&world.journal);
        assert!(matches!(places.last(), Some((StateName::Aborted, Release::Stays(_)))), "{places:?}");
    }
}
