//! Topics that somebody deletes on the old cluster after the switch: nothing can be proven of them any more, so the cutover
//! says which, and goes on without one once the operator has named it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::{
    Answer, Cause, Command, Cutover, Event, Fencing, Next, Redirected, Retirement, State, Verified, decide,
};
use crate::ports::TopicDescription;
use crate::words::{Millis, TopicName};

/// How long after a look that found every topic there the next one is, at the least.
const LOOK_EVERY_MS: u64 = 30_000;

/// Whether topics may be gone. Not journalled: after a restart the first failure raises the suspicion anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Missing {
    suspected: bool,
    /// When all were last seen to be there.
    all_there: Option<Millis>,
}

impl State {
    /// What is being left, in the steps that ask the old cluster for each topic.
    fn leaving(&mut self) -> Option<&mut Redirected> {
        match self {
            State::Fencing(redirected, Fencing::Raise | Fencing::Prove | Fencing::Quiet(_)) => {
                Some(redirected)
            }
            State::Draining(closed)
            | State::Retiring(closed, _, Retirement::Keep | Retirement::Prove | Retirement::FenceAgain(_)) => {
                Some(&mut closed.redirected)
            }
            _ => None,
        }
    }

    /// How many records that nobody has read go with a topic, at the most: all between its ends while groups read, and none
    /// once they have been seen to have read everything.
    fn lost_with(&self, only: &Verified, records: impl Fn(&Verified) -> i64) -> Option<i64> {
        match self {
            State::Draining(_) => Some(records(only)),
            State::Retiring(..) => Some(0),
            _ => None,
        }
    }
}

impl Cutover {
    /// Something was not found where the old cluster is asked for its topics: they are looked at before the step is taken
    /// again.
    pub(super) fn suspect(&mut self) {
        let lately = |(at, now): (Millis, Millis)| now.since(at) < LOOK_EVERY_MS;
        let seen = self.missing.all_there.zip(self.now).is_some_and(lately);
        self.missing.suspected |= !seen && self.progress.state.leaving().is_some();
    }

    /// Looks which topics are there before a step is taken, if one may be gone, and then lets the step be taken.
    pub(super) fn topics_there(&mut self, cause: Cause) -> ControlFlow<Next, Cause> {
        match cause {
            Cause::Enter if self.missing.suspected => match self.progress.state.leaving() {
                Some(redirected) => {
                    let old = redirected.prepared.verified.old.incarnation.clone();
                    ControlFlow::Break(Next::Run(Command::ListTopics { old }))
                }
                None => ControlFlow::Continue(Cause::Enter),
            },
            Cause::Answer(Answer::Topics { there }) => match self.gone(&there) {
                Some(next) => ControlFlow::Break(next),
                None => {
                    self.missing = Missing { suspected: false, all_there: self.now };
                    ControlFlow::Continue(Cause::Enter)
                }
            },
            other => ControlFlow::Continue(other),
        }
    }

    /// What follows if topics that are to be fenced, drained or proven are not among these.
    pub(super) fn gone(&mut self, there: &[TopicDescription]) -> Option<Next> {
        let mut state = self.progress.state.clone();
        let redirected = state.leaving()?;
        let there: BTreeSet<&TopicName> = there.iter().map(|topic| &topic.name).collect();
        let topics = &redirected.prepared.verified.topics;
        let gone: Vec<TopicName> = topics.keys().filter(|topic| !there.contains(topic)).cloned().collect();
        let first = gone.first()?;
        if gone.len() == topics.len() {
            return Some(Next::Hold(
                "every topic that moved is gone from the old cluster: find out who deleted them; make them again there, or \
                 roll back"
                    .into(),
            ));
        }
        let unwaived = gone.iter().find(|topic| !self.plan.waived_deleted.contains(*topic));
        if let Some(topic) = unwaived {
            return Some(Next::Hold(format!(
                "topic {topic} was deleted on the old cluster after the switch: what nobody has read of it is lost, and nothing \
                 can be proven of it any more. Find out who did it; to go on without it, name it in plan.waive_deleted and \
                 run `up` again ({} of {} topics are gone, the first is {first})",
                gone.len(),
                topics.len()
            )));
        }
        let left = redirected.left;
        for topic in gone {
            let verified = &mut redirected.prepared.verified;
            let count = verified.topics.remove(&topic).unwrap_or_default();
            let only = Verified { topics: [(topic.clone(), count)].into(), ..verified.clone() };
            let records = |only: &Verified| decide::closed_records(&self.progress.chain, left, only);
            let unread = self.progress.state.lost_with(&only, records);
            self.progress.chain.give_up_topic(left, &topic);
            self.notify(Event::TopicGone { topic, unread });
        }
        Some(Next::Goto(state))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::fixtures::*;
    use super::super::{FencePolicy, Plan, StateName, Stop};
    use super::*;
    use crate::chain::SegmentEnd;
    use crate::drain::{GroupProgress, LogRange, Tail};
    use crate::error::{ErrorKind, ProviderError};
    use crate::ports::{FenceKind, FenceProof, PartitionEnd};
    use crate::words::{Offset, TopicPartition};

    fn audit() -> TopicPartition {
        TopicPartition::new("audit", 0)
    }

    fn with_audit(there: bool) -> Vec<TopicDescription> {
        let audit = TopicDescription { name: "audit".into(), partitions: 1, ..topics()[0].clone() };
        topics().into_iter().chain(there.then_some(audit)).collect()
    }

    /// A world whose topic `audit` is deleted on blue when this command is run first.
    struct Deleted {
        by: &'static str,
        gone: bool,
    }

    impl Deleted {
        fn answer(&mut self, command: &Command) -> Option<Result<Answer, ProviderError>> {
            self.gone |= command.name() == self.by;
            let ends = |offset| {
                let audit = PartitionEnd { place: audit(), start: Offset(20), ..end(0, offset) };
                vec![end(0, offset), end(1, offset), audit]
            };
            let asks = |topics: &BTreeSet<TopicName>| topics.contains(&audit().topic);
            let missing =
                || ProviderError::new(ErrorKind::NotFound, "describe topic audit", "it is not there");
            let seen = |gone: bool, partitions: &[TopicPartition]| {
                let mut seen = drained(100);
                let log = LogRange { start: Offset(20), end: Offset(100) };
                if partitions.contains(&audit()) {
                    let log = if gone { Err("unknown topic".to_owned()) } else { Ok(log) };
                    seen.logs.insert(audit(), log);
                    let read = GroupProgress { committed: Some(Offset(100)), tail: Tail::NotRead };
                    seen.progress.insert(("billing".into(), audit()), Ok(read));
                }
                seen
            };
            let mut given = answer(command, 1, &target(2, crate::words::Colour::Green));
            match (command, &mut given) {
                (_, Answer::Verified { topics, .. } | Answer::TopicsMatched { there: topics, .. }) => {
                    *topics = with_audit(true);
                }
                (_, Answer::Rechecked { old_ends, new_ends, topics, .. }) => {
                    (*old_ends, *new_ends, *topics) = (ends(90), ends(20), with_audit(true));
                }
                (
                    Command::RaiseFence { topics, .. }
                    | Command::ProveFence { topics, .. }
                    | Command::ReadEnds { topics, .. }
                    | Command::Reprove { topics, fence_too: true, .. },
                    _,
                ) if self.gone && asks(topics) => return Some(Err(missing())),
                (Command::ProveFence { topics, .. } | Command::ReadEnds { topics, .. }, given) => {
                    let ends: Vec<_> =
                        ends(100).into_iter().filter(|end| topics.contains(&end.place.topic)).collect();
                    *given = match command {
                        Command::ReadEnds { .. } => Answer::Ends { ends },
                        _ => Answer::FenceProven {
                            proof: FenceProof { kind: FenceKind::Acl, topics: BTreeMap::new(), ends },
                        },
                    };
                }
                (Command::ObserveDrain { partitions, groups, .. }, Answer::Drain { seen: told, .. }) => {
                    let reads = groups.values().any(asks);
                    assert_eq!(reads, partitions.contains(&audit()), "it would be described for its groups");
                    *told = seen(self.gone, partitions);
                }
                (Command::Reprove { topics, .. }, Answer::Reproved { seen: told, topics: there, .. }) => {
                    let places: Vec<_> =
                        [audit()].into_iter().filter(|place| topics.contains(&place.topic)).collect();
                    (*told, *there) = (seen(self.gone, &places), with_audit(!self.gone));
                }
                (_, Answer::Topics { there }) => *there = with_audit(!self.gone),
                _ => return None,
            }
            Some(Ok(given))
        }
    }

    /// Deleted at this command, and named by the operator or not.
    fn deleted(by: &'static str, fence: FencePolicy, waived: bool) -> (Stop, World<'static>) {
        let mut plan = Plan { fence, ..plan() };
        plan.timings.hold_limit_ms = Some(9_000);
        if waived {
            plan.waived_deleted = [TopicName::new("audit")].into();
        }
        let mut world = Deleted { by, gone: false };
        World::new(plan, vec![]).but(move |command, _| world.answer(command)).run()
    }

    const ANYWHERE: [(&str, FencePolicy, StateName); 6] = [
        ("raise the fence", FencePolicy::Required, StateName::Fencing),
        ("prove the fence", FencePolicy::Required, StateName::Fencing),
        ("read ends", FencePolicy::Waived, StateName::Fencing),
        ("observe the drain", FencePolicy::Required, StateName::Draining),
        ("isolate", FencePolicy::Required, StateName::Retiring),
        ("isolate", FencePolicy::Waived, StateName::Retiring),
    ];

    /// L12, L18: a topic that is gone is named, wherever that is noticed, and what lasts counts as one hold.
    #[test]
    fn a_topic_that_is_gone_holds_by_its_name() {
        for (by, fence, state) in ANYWHERE {
            let (stop, world) = deleted(by, fence, false);
            assert!(
                matches!(&stop, Stop::Held(why) if why.starts_with("topic audit was deleted on the old cluster")),
                "{by}: {stop:?}"
            );
            assert_eq!(world.states().last(), Some(&state), "{by}");
            assert!(!world.events.iter().any(|event| matches!(event, Event::Resumed { .. })), "{by}");
        }
    }

    /// Once the operator has named it the rest is proven without it. What may be lost is said.
    #[test]
    fn a_topic_that_is_gone_is_left_out_once_it_is_named() {
        for (by, fence, state) in ANYWHERE {
            let (stop, world) = deleted(by, fence, true);
            assert_eq!(stop, Stop::Complete, "{by}");
            let told = world.events.iter().find_map(|event| match event {
                Event::TopicGone { topic, unread } => Some((topic.as_str(), *unread)),
                _ => None,
            });
            let unread = match state {
                StateName::Fencing => None,
                StateName::Draining => Some(80),
                _ => Some(0),
            };
            assert_eq!(told, Some(("audit", unread)), "{by}");
            let chain = &world.machine.progress().chain;
            assert_eq!(
                chain.segments(&audit())[0].end == SegmentEnd::Unreadable,
                state == StateName::Fencing
            );
            assert_eq!(chain.segments(&audit()).len(), 2, "it goes on on green");
            assert!(world.commands.contains(&"destroy"), "{by}");
        }
    }

    /// A name alone takes nothing out: it is left out only if it is gone.
    #[test]
    fn a_topic_that_is_named_and_there_is_drained_like_the_others() {
        let (stop, world) = deleted("never", FencePolicy::Required, true);
        assert_eq!(stop, Stop::Complete);
        assert!(!world.events.iter().any(|event| matches!(event, Event::TopicGone { .. })));
        assert!(!world.commands.contains(&"list topics"), "nothing was missing");
    }
}
