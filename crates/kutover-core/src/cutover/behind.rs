//! What comes to the old cluster behind its closed ends (L12): looked for until its removal, so that a person hears of it when it
//! happens and not at the last proof, which it will not pass.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{Answer, Cause, Closed, Command, Cutover, Event, Next, Retirement, State, decide};
use crate::ports::{PartitionEnd, TopicDescription};
use crate::words::{Millis, Offset, TopicPartition};

/// How often it is looked for.
const LOOK_EVERY_MS: u64 = 30_000;

/// What was seen of it. Not journalled: after a restart it is told once more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Behind {
    /// When it was last looked for; the first look comes that long after the first step that waits.
    looked: Option<Millis>,
    told: Option<String>,
}

impl State {
    /// What was closed, in the steps that wait for long. While groups read, the ends themselves are looked at by each proof.
    fn closed_and_waiting(&self) -> Option<&Closed> {
        match self {
            State::Draining(closed)
            | State::Soaking(closed)
            | State::Retiring(closed, _, Retirement::Approval) => Some(closed),
            _ => None,
        }
    }
}

impl Cutover {
    /// Looks before a step is taken, if it is time to, and then lets the step be taken.
    pub(super) fn behind_named(&mut self, cause: Cause) -> ControlFlow<Next, Cause> {
        match cause {
            Cause::Enter => match self.look_behind() {
                Some(command) => ControlFlow::Break(Next::Run(command)),
                None => ControlFlow::Continue(Cause::Enter),
            },
            Cause::Answer(Answer::Behind { found }) => {
                // A cluster that does not answer is told of by the proofs that need it.
                if let Ok((there, ends)) = found {
                    self.name_behind(&there, &ends);
                }
                ControlFlow::Continue(Cause::Enter)
            }
            other => ControlFlow::Continue(other),
        }
    }

    /// When the next look is due, for a step that waits for longer.
    pub(super) fn behind_due(&self) -> Option<Millis> {
        self.progress.state.closed_and_waiting()?;
        Some(self.behind.looked?.plus(LOOK_EVERY_MS))
    }

    fn look_behind(&mut self) -> Option<Command> {
        let verified = &self.progress.state.closed_and_waiting()?.redirected.prepared.verified;
        let command =
            Command::LookBehind { old: verified.old.incarnation.clone(), topics: verified.topic_names() };
        let (now, looked) = (self.now?, *self.behind.looked.get_or_insert(self.now?));
        if now.since(looked) < LOOK_EVERY_MS {
            return None;
        }
        self.behind.looked = Some(now);
        Some(command)
    }

    fn name_behind(&mut self, there: &[TopicDescription], ends: &[PartitionEnd]) {
        let Some(closed) = self.progress.state.closed_and_waiting() else { return };
        let verified = &closed.redirected.prepared.verified;
        let places = verified.partitions();
        let known = self.progress.chain.closed_ends(closed.redirected.left, &places).unwrap_or_default();
        let found = verified
            .topics
            .keys()
            .find(|name| !there.iter().any(|topic| topic.name == **name))
            .map(|name| format!("topic {name} was deleted on the old cluster after it was closed"))
            .or_else(|| decide::changed_topics(&verified.topics, &self.plan.moving(there)))
            .or_else(|| closed.made_anew(there))
            .or_else(|| came_behind(&known, ends));
        if let Some(text) = found.clone().filter(|_| found != self.behind.told) {
            self.notify(Event::Note { text });
        }
        self.behind.told = found;
    }
}

fn came_behind(closed: &BTreeMap<TopicPartition, Offset>, ends: &[PartitionEnd]) -> Option<String> {
    let behind = |end: &PartitionEnd| Some((end.high_watermark.0 - closed.get(&end.place)?.0).max(0));
    let records: i64 = ends.iter().filter_map(behind).sum();
    let first = ends.iter().find(|end| behind(end).is_some_and(|records| records > 0))?;
    Some(format!(
        "{records} records came to the old cluster behind its closed ends, the first on {}: nobody reads them, and it is not \
         removed; find out who writes there",
        first.place
    ))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::super::{Approval, Plan, StateName, Stop};
    use super::*;
    use crate::words::{TopicId, TopicName};

    fn long_soak() -> Plan {
        let mut plan = Plan { approve_removal: Approval::Manual, ..plan() };
        plan.timings.soak_ms = 200_000;
        plan
    }

    /// Notes of a cutover whose old cluster looks like this from the first look behind its ends on, as far as they come in the soak.
    fn told(
        found: impl Fn(u32) -> Result<(Vec<TopicDescription>, Vec<PartitionEnd>), String>,
    ) -> Vec<String> {
        let mut looks = 0;
        let (stop, world) = World::new(long_soak(), vec![])
            .but(move |command, _| match command {
                Command::LookBehind { .. } => {
                    looks += 1;
                    Some(Ok(Answer::Behind { found: found(looks) }))
                }
                _ => None,
            })
            .run();
        assert_eq!(stop, Stop::Complete);
        let looked = world.commands.iter().filter(|name| **name == "look behind the closed ends").count();
        assert!((6..=7).contains(&looked), "every half minute of the soak: {looked}");
        let mut state = StateName::Planned;
        let mut notes = Vec::new();
        for event in world.events {
            match event {
                Event::Entered { state: entered } => state = entered,
                Event::Note { text } if state == StateName::Soaking => notes.push(text),
                _ => {}
            }
        }
        notes
    }

    /// L12: told when it is seen, and again only when it has changed.
    #[test]
    fn what_comes_behind_the_closed_ends_is_told_during_the_soak() {
        let ends = |late: u32| vec![end(0, 100 + i64::from(late)), end(1, 100)];
        assert!(told(|_| Ok((topics(), ends(0)))).is_empty());
        assert!(told(|_| Err("timed out".into())).is_empty());
        let notes = told(|look| Ok((topics(), ends(if look < 3 { 0 } else { 7 }))));
        let text = "7 records came to the old cluster behind its closed ends, the first on topic orders, partition 0: ";
        assert!(matches!(&notes[..], [told] if told.starts_with(text)), "{notes:?}");
        let notes = told(|look| Ok((topics(), ends(look))));
        assert!(notes.len() >= 6, "each is more: {notes:?}");
    }

    #[test]
    fn topics_that_change_are_told_during_the_soak() {
        let ends = || vec![end(0, 100), end(1, 100)];
        let grown =
            || topics().into_iter().map(|topic| TopicDescription { partitions: 3, ..topic }).collect();
        let notes = told(|_| Ok((grown(), ends())));
        assert!(
            notes[0].starts_with("topic orders grew from 2 to 3 partitions on the old cluster"),
            "{notes:?}"
        );
        let notes = told(|_| Ok((vec![], vec![])));
        assert!(notes[0].starts_with("topic orders was deleted on the old cluster"), "{notes:?}");
        assert_eq!(notes.len(), 1, "once: {notes:?}");
    }

    #[test]
    fn a_topic_that_was_made_anew_is_told_from_the_one_that_was_closed() {
        let ids = |id: &str| {
            let id = Some(TopicId::new(id));
            topics().into_iter().map(|topic| TopicDescription { id: id.clone(), ..topic }).collect::<Vec<_>>()
        };
        let (_, world) = World::new(plan(), vec![]).run();
        let closed = world.journal.iter().find_map(|record| match record {
            super::super::Record::Checkpoint { progress } => progress.state.closed_and_waiting().cloned(),
            _ => None,
        });
        let mut closed = closed.unwrap();
        assert_eq!(closed.made_anew(&ids("b")), None, "the cluster knows no ids");
        closed.topic_ids = [(TopicName::new("orders"), TopicId::new("a"))].into();
        assert_eq!(closed.made_anew(&ids("a")), None);
        assert!(closed.made_anew(&ids("b")).is_some_and(|why| why.contains("orders was re-created")));
    }
}
