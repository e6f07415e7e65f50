//! Groups that are on the new cluster before they have read the old one (L19): named at once, from the switch until the
//! drain is over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::{Answer, Cause, Command, Cutover, Event, Next, Redirection, Retirement, State};
use crate::controls::{Control, without};
use crate::decisions::early_members::{Early, GroupThere, early_members};
use crate::drain::DrainVerdict;
use crate::words::{GroupId, Millis};

/// How often the new cluster is asked for them.
const LOOK_EVERY_MS: u64 = 5_000;
/// How many groups a note names.
const NAMED: usize = 10;

/// What is known of them. Not journalled: after a restart they are named once more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct EarlyWatch {
    looked: Option<Millis>,
    /// Whether it was said that the new cluster cannot tell.
    blind: bool,
    /// Those that were named, as long as they are there.
    named: BTreeSet<GroupId>,
    /// Those that have read the old cluster to its closed ends: they may go on.
    released: BTreeSet<GroupId>,
    /// Whether it was asked at the end who has come at all.
    over: bool,
}

impl State {
    /// The last step of a cutover that has led groups to another cluster.
    fn ends(&self) -> bool {
        matches!(self, State::Retiring(_, _, Retirement::Tidy))
    }
}

impl Cutover {
    /// Looks for them before a step is taken, if it is time to, and then lets the step be taken.
    pub(super) fn early_named(&mut self, cause: Cause) -> ControlFlow<Next, Cause> {
        match cause {
            Cause::Enter => match self.early_look() {
                Some(command) => ControlFlow::Break(Next::Run(command)),
                None => ControlFlow::Continue(Cause::Enter),
            },
            Cause::Answer(Answer::EarlyLooked { there }) => {
                match there {
                    Ok(there) if self.progress.state.ends() => self.name_absent(&there),
                    Ok(there) => {
                        let required = self.must_read();
                        self.name_early(early_members(&required, &self.early.released, &there));
                    }
                    Err(reason) => self.say_blind(&reason),
                }
                ControlFlow::Continue(Cause::Enter)
            }
            other => ControlFlow::Continue(other),
        }
    }

    fn early_look(&mut self) -> Option<Command> {
        let fresh = |(at, now): (Millis, Millis)| now.since(at) < LOOK_EVERY_MS;
        let (prepared, target) = match &self.progress.state {
            _ if without(Control::EarlyMembersIgnored) => return None,
            state if state.ends() => {
                if std::mem::replace(&mut self.early.over, true) {
                    return None;
                }
                state.awaits_groups()?
            }
            _ if self.early.looked.zip(self.now).is_some_and(fresh) => return None,
            state => state.leading()?,
        };
        if matches!(self.progress.state, State::Redirecting(_, Redirection::Publish(_))) {
            return None;
        }
        let command = Command::LookForEarly {
            new: prepared.verified.new.incarnation.clone(),
            groups: prepared.draft.groups.clone(),
            starts: self.starts_of(target),
        };
        self.early.looked = self.now;
        Some(command)
    }

    fn must_read(&self) -> BTreeSet<GroupId> {
        let leading = self.progress.state.leading();
        leading.map(|(prepared, _)| prepared.draft.groups.keys().cloned().collect()).unwrap_or_default()
    }

    fn name_early(&mut self, early: Vec<Early>) {
        let now: BTreeSet<GroupId> = early.iter().map(|one| one.group().clone()).collect();
        let news = early.into_iter().filter(|one| !self.early.named.contains(one.group()));
        for early in news.collect::<Vec<_>>() {
            self.notify(Event::EarlyMembers { early });
        }
        self.early.named = now;
    }

    /// From the end of the cutover on nobody looks after start offsets any more: who has not come by then has to be known (L7).
    fn name_absent(&mut self, there: &BTreeMap<GroupId, Result<GroupThere, String>>) {
        let Some((prepared, _)) = self.progress.state.awaits_groups() else { return };
        let here = |group: &GroupId| match there.get(group) {
            Some(Ok(here)) => !here.members.is_empty() || !here.moved.is_empty(),
            // It exists there.
            Some(Err(_)) => true,
            None => false,
        };
        let absent: Vec<&str> =
            prepared.draft.groups.keys().filter(|group| !here(group)).map(GroupId::as_str).collect();
        if absent.is_empty() {
            return;
        }
        let more = match absent.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let text = format!(
            "not on {} yet: groups {}{more}. Their start offsets there last for its offsets.retention.minutes from now on (7 days by \
             default); a group that comes later starts where its auto.offset.reset says",
            prepared.verified.new.incarnation.colour,
            absent.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ")
        );
        self.notify(Event::Note { text });
    }

    fn say_blind(&mut self, reason: &str) {
        if std::mem::replace(&mut self.early.blind, true) {
            return;
        }
        let text = format!(
            "whether groups are on the new cluster before they have read the old one cannot be told ({reason})"
        );
        self.notify(Event::Note { text });
    }

    /// What a look at the drain says of groups that are done. Where a partition itself is at fault, nothing is known of any.
    pub(super) fn note_released(&mut self, verdict: &DrainVerdict) {
        let mut released = self.must_read();
        for remaining in &verdict.remaining {
            match &remaining.group {
                Some(group) => drop(released.remove(group)),
                None => released.clear(),
            }
        }
        self.early.released = released;
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::super::{Plan, StateName, Stop};
    use super::*;
    use crate::decisions::early_members::{GroupThere, Member};
    use crate::drain::Observation;

    fn there() -> Answer {
        let member = Member { client_id: "billing-7".into(), host: "/10.0.0.7".into() };
        let here = GroupThere { members: [member].into(), ..GroupThere::default() };
        Answer::EarlyLooked { there: Ok([("billing".into(), Ok(here))].into()) }
    }

    /// A drain that is over at the n-th look.
    fn slow() -> Plan {
        let mut plan = plan();
        plan.timings.poll_ms = LOOK_EVERY_MS;
        plan
    }

    fn early(events: &[Event]) -> Vec<String> {
        let early = events.iter().filter(|event| matches!(event, Event::EarlyMembers { .. }));
        early.map(ToString::to_string).collect()
    }

    /// L19: named at once, and once; looked for again and again until the drain is over, and no longer.
    #[test]
    fn who_is_early_on_the_new_cluster_is_named_once() {
        let (mut drains, mut looks) = (0, 0);
        let (stop, world) = World::new(slow(), vec![])
            .but(|command, _| match command {
                Command::LookForEarly { groups, .. } => {
                    looks += 1;
                    assert!(groups.contains_key(&"billing".into()));
                    Some(Ok(there()))
                }
                Command::ObserveDrain { .. } if drains < 3 => {
                    drains += 1;
                    Some(Ok(Answer::Drain { seen: drained(99), listed: BTreeMap::new() }))
                }
                _ => None,
            })
            .run();
        assert_eq!(stop, Stop::Complete);
        let named = early(&world.events);
        assert_eq!(named.len(), 1, "{named:?}");
        assert!(named[0].starts_with("group billing must still read the old cluster, but is on the new one"));
        let place = |wanted: &dyn Fn(&Event) -> bool| world.events.iter().position(wanted).unwrap();
        let when = place(&|event| matches!(event, Event::EarlyMembers { .. }));
        assert_eq!(when, 1 + place(&|event| *event == Event::Entered { state: StateName::Converging }));
        let number = |wanted| world.commands.iter().rposition(|name| *name == wanted).unwrap();
        let observed = number("observe the drain");
        let late = world.commands[observed..].iter().filter(|name| **name == "look for early members");
        assert_eq!(late.count(), 1, "who has come at all: {:?}", world.commands);
        assert!(number("look for early members") > number("destroy"));
        drop(world);
        assert_eq!(looks, 4 + 1, "every time it is observed");
    }

    /// L7: start offsets are looked after no more, so whoever has not come is named; who has been there has left its commits.
    #[test]
    fn who_has_not_come_by_the_end_is_named() {
        let been = GroupThere { moved: [place(0)].into(), ..GroupThere::default() };
        let cases = [
            (BTreeMap::new(), true),
            ([("billing".into(), Ok(GroupThere::default()))].into(), true),
            ([("billing".into(), Ok(been))].into(), false),
            ([("billing".into(), Err("it does not say who its members are".into()))].into(), false),
        ];
        for (there, named) in cases {
            let (stop, world) = World::new(plan(), vec![])
                .but(|command, _| match command {
                    Command::LookForEarly { .. } => {
                        Some(Ok(Answer::EarlyLooked { there: Ok(there.clone()) }))
                    }
                    _ => None,
                })
                .run();
            assert_eq!(stop, Stop::Complete);
            let absent = |event: &&Event| event.to_string().starts_with("not on green yet: groups billing.");
            assert_eq!(world.events.iter().filter(absent).count(), usize::from(named), "{there:?}");
        }
    }

    /// One that has read the old cluster to its closed ends may go on; one that comes back is named again; and where nothing
    /// can be told, that is said once.
    #[test]
    fn who_may_go_on_is_not_named() {
        let (_, whole) = World::new(plan(), vec![]).run();
        let draining = whole.journal.iter().find_map(|record| match record {
            super::super::Record::Checkpoint { progress } => {
                matches!(progress.state, State::Draining(_)).then(|| progress.state.clone())
            }
            _ => None,
        });
        let mut machine = Cutover::new(plan(), "run".into(), []);
        machine.progress.state = draining.unwrap();
        let look = |machine: &mut Cutover, answer: Answer| {
            let _enter = machine.early_named(Cause::Answer(answer));
            std::mem::take(&mut machine.outputs).len()
        };
        let nobody = || Answer::EarlyLooked { there: Ok(BTreeMap::new()) };
        assert_eq!(look(&mut machine, there()), 1);
        assert_eq!(look(&mut machine, there()), 0, "it stays");
        assert_eq!(look(&mut machine, nobody()), 0);
        assert_eq!(look(&mut machine, there()), 1, "it came back");
        assert_eq!(look(&mut machine, nobody()), 0);
        let judge = |machine: &mut Cutover, seen: &Observation| {
            let State::Draining(closed) = machine.progress.state.clone() else { panic!() };
            let verdict = machine.judge(
                closed.redirected.left,
                &closed.redirected.prepared,
                &mut closed.read_out.clone(),
                seen,
            );
            machine.note_released(&verdict);
            machine.outputs.clear();
        };
        machine.progress.chain = whole.machine.progress().chain.clone();
        judge(&mut machine, &Observation { logs: BTreeMap::new(), ..drained(100) });
        assert_eq!(look(&mut machine, there()), 1, "no log has answered: nobody is known to be done");
        assert_eq!(look(&mut machine, nobody()), 0);
        judge(&mut machine, &drained(100));
        assert_eq!(look(&mut machine, there()), 0, "it may go on");
        let blind = || Answer::EarlyLooked { there: Err("embedded".into()) };
        assert_eq!((look(&mut machine, blind()), look(&mut machine, blind())), (1, 0));
    }
}
