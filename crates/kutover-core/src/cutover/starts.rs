//! Where groups start on the cluster that they are led to (L7): looked after from the last check before the switch until the
//! cutover is over, on the way back until everything is drained. A group that has read the old cluster need not come at once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::way_back::{Barrier, Rollback, WayBack};
use super::{
    Answer, Cause, Command, Cutover, Event, Next, Plan, Prepared, Redirection, Retirement, StartOffsets,
    State, back,
};
use crate::chain::Chain;
use crate::controls::{Control, without};
use crate::owner::Target;
use crate::ports::PartitionEnd;
use crate::words::{Colour, GroupId, Millis, Offset, TopicName, TopicPartition};

/// How often start offsets are looked after. No broker forgets a commit sooner than after a minute
/// (`offsets.retention.minutes` is at least 1).
const FRESH_EVERY_MS: u64 = 30_000;

impl State {
    /// What groups are led to, from the publication, which may be tried for long, until everything is drained.
    pub(super) fn leading(&self) -> Option<(&Prepared, &Target)> {
        match self {
            State::Redirecting(prepared, Redirection::Publish(target) | Redirection::Start(target)) => {
                Some((prepared, target))
            }
            State::Converging(redirected) | State::Fencing(redirected, _) => {
                Some((&redirected.prepared, &redirected.target))
            }
            State::Draining(closed) => Some((&closed.redirected.prepared, &closed.redirected.target)),
            _ => None,
        }
    }

    /// What groups may still come to, in the states in which their start offsets must stand.
    pub(super) fn awaits_groups(&self) -> Option<(&Prepared, &Target)> {
        match self {
            // Nothing comes between the last proof and the mark.
            State::Retiring(.., Retirement::Mark) => None,
            State::Soaking(closed) | State::Isolating(closed, _) | State::Retiring(closed, ..) => {
                Some((&closed.redirected.prepared, &closed.redirected.target))
            }
            _ => self.leading(),
        }
    }
}

impl Cutover {
    /// Sees to start offsets before a step is taken, if it is time to, and then lets the step be taken.
    pub(super) fn starts_fresh(&mut self, cause: Cause) -> ControlFlow<Next, Cause> {
        match cause {
            Cause::Enter => match self.stale_starts() {
                Some(command) => ControlFlow::Break(Next::Run(command)),
                None => ControlFlow::Continue(Cause::Enter),
            },
            Cause::Answer(Answer::StartsFresh { silent }) => {
                if self.starts_are_old() {
                    // It took as long as start offsets count as fresh: the step is taken, and then they are looked after again.
                    self.freshened = self.now;
                }
                match silent {
                    None => ControlFlow::Continue(Cause::Enter),
                    Some(why) => self.new_is_silent(&why),
                }
            }
            other => ControlFlow::Continue(other),
        }
    }

    /// Whether nothing is known of start offsets any more.
    pub(super) fn starts_are_old(&self) -> bool {
        let fresh = |(at, now): (Millis, Millis)| now.since(at) < FRESH_EVERY_MS;
        !self.freshened.zip(self.now).is_some_and(fresh) && !without(Control::StartsForgotten)
    }

    /// When start offsets are to be looked after again, for a step that waits for longer.
    pub(super) fn starts_due(&self) -> Option<Millis> {
        let looked_after = !self.arrivals().is_empty() && !without(Control::StartsForgotten);
        self.freshened.filter(|_| looked_after).map(|at| at.plus(FRESH_EVERY_MS))
    }

    fn stale_starts(&mut self) -> Option<Command> {
        if !self.starts_are_old() {
            return None;
        }
        let starts = self.arrivals();
        if starts.is_empty() {
            return None;
        }
        self.freshened = self.now;
        Some(Command::FreshenStarts { starts })
    }

    /// Who is on the way to another cluster, and where they start there.
    fn arrivals(&self) -> Vec<StartOffsets> {
        if let State::RollingBack(way, step) = &self.progress.state {
            return if leads_home(step) { way.arrivals.clone() } else { Vec::new() };
        }
        let arriving = self.progress.state.awaits_groups().map(|(prepared, target)| StartOffsets {
            on: prepared.verified.new.incarnation.clone(),
            groups: prepared.draft.groups.clone(),
            at: self.starts_of(target),
        });
        arriving.into_iter().collect()
    }

    /// Where the segments of a generation start.
    pub(super) fn starts_of(&self, target: &Target) -> Vec<(TopicPartition, Offset)> {
        let opened = self.progress.chain.iter().filter_map(|(place, segments)| {
            let segment = segments.iter().find(|segment| segment.generation == target.generation)?;
            Some((place.clone(), segment.start))
        });
        opened.collect()
    }

    /// Nobody is led to a cluster that does not answer. Where they were led there already, the old one is closed and read
    /// to its end all the same. On the way back that is so from the intent on: the cluster that is left takes no records any
    /// more, and whoever waits then has nobody to write to. Nor is the way back barred for longer than the barrier may take.
    fn new_is_silent(&mut self, why: &str) -> ControlFlow<Next, Cause> {
        let (colour, way_out) = match &self.progress.state {
            State::Redirecting(prepared, Redirection::Publish(_)) => {
                (prepared.verified.new.incarnation.colour, ", or start the controller again and abort")
            }
            State::RollingBack(way, Rollback::Intent) if self.is_patient(way) => (way.home().colour, ""),
            State::RollingBack(way, _) => {
                let colour = way.home().colour;
                self.belongs_there(colour, "bring it back", why);
                return ControlFlow::Continue(Cause::Enter);
            }
            state => {
                let what_to_do = match state.way_back() {
                    Some(_) => "bring it back, or roll back",
                    None => "bring it back",
                };
                if let Some(colour) = state.awaits_groups().map(|(_, target)| target.colour) {
                    self.belongs_there(colour, what_to_do, why);
                }
                return ControlFlow::Continue(Cause::Enter);
            }
        };
        self.freshened = None;
        let hold = format!(
            "{colour} does not take start offsets, and nobody may have been led there yet: bring it back{way_out} ({why})"
        );
        ControlFlow::Break(Next::Hold(hold))
    }

    /// Whether a way back can still wait for start offsets: somebody else takes records meanwhile.
    fn is_patient(&self, way: &WayBack) -> bool {
        let held = self.hold.as_ref().map(|hold| hold.since);
        let waited = held.zip(self.now).map_or(0, |(since, now)| now.since(since));
        way.barrier != Barrier::Lost && waited < self.plan.timings.barrier_ms
    }

    fn belongs_there(&mut self, colour: Colour, what_to_do: &str, why: &str) {
        let text =
            format!("{colour} does not take start offsets, and producers belong there: {what_to_do} ({why})");
        self.notify(Event::Note { text });
    }
}

/// The steps of a way back in which start offsets must stand: right before producers park, and from the publication until
/// everything is drained. Between the two everybody waits for the barrier.
fn leads_home(step: &Rollback) -> bool {
    matches!(
        step,
        Rollback::Intent
            | Rollback::Publish
            | Rollback::Announce
            | Rollback::Converge
            | Rollback::Quiet(_)
            | Rollback::Drain
    )
}

impl WayBack {
    /// What the listing of the cluster that is left says of groups that never read the other one.
    pub(super) fn born_away(&mut self, plan: &Plan, listed: &BTreeMap<GroupId, BTreeSet<TopicName>>) {
        let prepared = &self.redirected.prepared;
        let mut born = BTreeMap::new();
        plan.require(&mut born, listed, &prepared.verified.topics);
        born.retain(|group, _| !prepared.draft.groups.contains_key(group));
        self.born_away = born;
    }

    /// Where groups start at home, whose `ends` these are. A group that was born on the cluster that is left has nothing to
    /// read there but the next segment. One that reads home has it where nothing is left for it: what it has not read, it
    /// is to read first.
    pub(super) fn arrive(&mut self, chain: &Chain, ends: &[PartitionEnd]) {
        let mut next = Vec::new();
        let mut read_out = Vec::new();
        for (end, (place, start)) in ends.iter().zip(back::starts(chain, self.redirected.left, ends)) {
            if self.drained || end.start >= start {
                read_out.push((place.clone(), start));
            }
            next.push((place, start));
        }
        let groups = self.redirected.prepared.draft.groups.clone();
        self.arrivals.clear();
        self.expect(groups, read_out);
        self.expect(self.born_away.clone(), next);
    }

    /// Groups that will come home, and where they start.
    pub(super) fn expect(
        &mut self,
        groups: BTreeMap<GroupId, BTreeSet<TopicName>>,
        at: Vec<(TopicPartition, Offset)>,
    ) {
        if !groups.is_empty() && !at.is_empty() {
            self.arrivals.push(StartOffsets { on: self.home().clone(), groups, at });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::fixtures::*;
    use super::super::{Approval, Plan, Stop};
    use super::*;
    use crate::drain::LogRange;
    use crate::error::{ErrorKind, ProviderError};
    use crate::words::Colour;

    /// A back-off that outlives every start offset.
    fn stalling() -> Plan {
        let mut plan = plan();
        plan.timings.retry_ms = FRESH_EVERY_MS + 10_000;
        plan
    }

    /// Runs a world in which the n-th command, as it is counted when all goes well, fails once.
    fn stalled_at(failing: usize) -> (Stop, Vec<&'static str>) {
        let fails = move |_: &Command, n| (n == failing).then(|| Err(failure(ErrorKind::Unavailable)));
        let (stop, world) = World::new(stalling(), vec![]).but(fails).run();
        (stop, world.commands)
    }

    fn number(name: &str) -> usize {
        FORWARD.iter().position(|known| *known == name).unwrap()
    }

    /// How often start offsets were looked after between the first of one command and the first of another.
    fn freshened(commands: &[&str], from: &str, to: &str) -> usize {
        let at = |name: &str| commands.iter().position(|known| *known == name).unwrap();
        commands[at(from)..at(to)].iter().filter(|name| **name == "freshen start offsets").count()
    }

    /// Every time they were set on green, at the segment's start.
    fn assert_on_green(starts: &[StartOffsets]) {
        let segments_start = vec![(place(0), Offset(0)), (place(1), Offset(0))];
        assert!(starts.iter().all(|of| of.on == incarnation(Colour::Green) && of.at == segments_start));
    }

    /// L7 (found by seed 100170): a switch that was stopped between its last check and the publication published what the
    /// check had found; groups whose start offsets had expired since began at the end of the log.
    #[test]
    fn what_waited_since_the_last_check_is_checked_again() {
        for stall in ["write the chain", "reopen"] {
            let (stop, commands) = stalled_at(number(stall));
            assert_eq!(stop, Stop::Complete);
            let publish = commands.iter().position(|name| *name == "publish the target").unwrap();
            let last = ["read producer ids", "check again", "write the chain", "reopen"];
            assert_eq!(commands[publish - 4..publish], last, "{stall}: {commands:?}");
            assert_eq!(commands[..publish].iter().filter(|name| **name == "check again").count(), 2);
        }
    }

    /// Offsets that were there before are nobody's to write over, and may be nobody's any more: it is said where, and what to do.
    #[test]
    fn offsets_that_were_there_before_are_told_with_what_comes_of_them() {
        let kept = |command: &Command, _| match command {
            Command::SetStartOffsets { .. } => {
                let kept = [("billing".into(), vec![place(0), place(1)])].into();
                Some(Ok(Answer::StartOffsetsSet { kept }))
            }
            _ => None,
        };
        let (_, world) = World::new(stalling(), vec![]).but(kept).run();
        let told = |event: &Event| matches!(event, Event::Note { text } if text.starts_with("group billing has offsets on green already, on 2 partitions") && text.contains("--delete-offsets"));
        assert!(world.events.iter().any(told), "{:?}", world.events);
    }

    /// Whether a publication was done that failed is not known: its segments stand, and start offsets are set where they do.
    #[test]
    fn a_publication_that_is_tried_again_finds_start_offsets_fresh() {
        let publish = number("publish the target");
        let (stop, commands) = stalled_at(publish);
        assert_eq!(stop, Stop::Complete);
        assert_eq!(
            commands[publish..publish + 3],
            [FORWARD[publish], "freshen start offsets", FORWARD[publish]]
        );
    }

    /// As long as nobody was led there, a new cluster that does not answer gets nobody.
    #[test]
    fn nobody_is_led_to_a_cluster_that_does_not_answer() {
        let (mut silent, mut tried) = (2, false);
        let (stop, world) = World::new(stalling(), vec![])
            .but(|command, _| match command {
                Command::Publish { .. } if !std::mem::replace(&mut tried, true) => {
                    Some(Err(failure(ErrorKind::Unavailable)))
                }
                Command::FreshenStarts { .. } if silent > 0 => {
                    silent -= 1;
                    Some(Ok(Answer::StartsFresh { silent: Some("connection refused".into()) }))
                }
                _ => None,
            })
            .run();
        assert_eq!(stop, Stop::Complete);
        let publish = number("publish the target");
        let freshened = &world.commands[publish + 1..publish + 5];
        assert_eq!(freshened[..3], ["freshen start offsets"; 3]);
        assert_eq!(freshened[3], "publish the target");
        assert!(
            world.holds()[1]
                .starts_with("green does not take start offsets, and nobody may have been led there yet")
        );
    }

    /// While producers move, the fence is proven and groups read, start offsets are set again, where the segments start.
    #[test]
    fn start_offsets_are_looked_after_until_everything_is_drained() {
        let mut plan = stalling();
        (plan.timings.converge_ms, plan.timings.poll_ms) = (100_000, 9_000);
        let (mut proofs, mut looks, mut starts) = (0, 0, Vec::new());
        let (stop, world) = World::new(plan, vec![])
            .but(|command, _| match command {
                Command::ReadMembers { .. } if looks == 0 => Some(Ok(Answer::Members {
                    by_cluster: vec![vec![producer(7, &target(1, Colour::Blue))], vec![]],
                })),
                Command::ProveFence { .. } if proofs < 2 => {
                    proofs += 1;
                    Some(Err::<Answer, ProviderError>(failure(ErrorKind::Unavailable)))
                }
                Command::ObserveDrain { .. } if looks < 8 => {
                    looks += 1;
                    Some(Ok(Answer::Drain { seen: drained(99), listed: BTreeMap::new() }))
                }
                Command::FreshenStarts { starts: of, .. } => {
                    starts.extend(of.clone());
                    None
                }
                _ => None,
            })
            .run();
        assert_eq!(stop, Stop::Complete);
        let commands = world.commands.clone();
        drop(world);
        let freshened = |from, to| freshened(&commands, from, to);
        assert_eq!(freshened("announce the target", "raise the fence"), 3, "in 108 s, every 36 s");
        assert_eq!(freshened("raise the fence", "observe the drain"), 2, "two back-offs");
        assert_eq!(freshened("observe the drain", "isolate"), 2, "in 72 s, every 36 s");
        assert_on_green(&starts);
    }

    /// A group that has read everything may come as late as the old cluster is kept, and as a person takes to let it go: its
    /// start offsets stand until then.
    #[test]
    fn start_offsets_are_looked_after_until_the_cutover_is_over() {
        let mut plan = plan();
        plan.timings.soak_ms = 3 * FRESH_EVERY_MS + 10_000;
        plan.approve_removal = Approval::Manual;
        let mut starts = Vec::new();
        let mut world = World::new(plan, vec![]).but(|command, _| {
            if let Command::FreshenStarts { starts: of } = command {
                starts.extend(of.clone());
            }
            None
        });
        // Every other tick is for what came behind the closed ends.
        world.ticks_before_yes = 8;
        let (stop, world) = world.run();
        assert_eq!(stop, Stop::Complete);
        let commands = world.commands.clone();
        drop(world);
        let freshened = |from, to| freshened(&commands, from, to);
        assert_eq!(freshened("observe the drain", "isolate"), 3, "every 30 s of the soak");
        assert_eq!(freshened("isolate", "mark the removal"), 4, "each time that nobody says yes");
        assert_on_green(&starts);
    }

    /// Runs a world that is rolled back after `command`, in which blue's first partition is empty and green has a reader of its
    /// own. Gives the commands of the way back, and which start offsets were set.
    fn rolled_back_after(command: &str, late: &str) -> (Vec<&'static str>, Vec<Vec<StartOffsets>>) {
        let reads = |group: &str| (GroupId::new(group), [TopicName::new("orders")].into());
        let (mut starts, at) = (Vec::new(), number(command));
        let mut world = World::new(plan(), vec![]).but(|command, n| match command {
            Command::ReadEnds { old, .. } if old.colour == Colour::Blue => {
                Some(Ok(Answer::Ends { ends: vec![end(0, 0), end(1, 100)] }))
            }
            Command::ProveFence { old, .. } if old.colour == Colour::Blue => {
                let mut proven = answer(command, 1, &target(2, Colour::Green));
                if let Answer::FenceProven { proof } = &mut proven {
                    proof.ends = vec![end(0, 0), end(1, 100)];
                }
                Some(Ok(proven))
            }
            Command::ObserveDrain { old, .. } if old.colour == Colour::Blue => {
                let mut seen = drained(100);
                seen.logs.insert(place(0), Ok(LogRange { start: Offset(0), end: Offset(0) }));
                Some(Ok(Answer::Drain { seen, listed: BTreeMap::new() }))
            }
            Command::ListGroups { old } if old.colour == Colour::Green => {
                Some(Ok(Answer::Groups { listed: [reads("billing"), reads("audit")].into(), complete: true }))
            }
            Command::ObserveDrain { old, .. } if old.colour == Colour::Green => {
                let mut seen = drained(100);
                for group in ["audit", late] {
                    let read = |p| {
                        (
                            (GroupId::new(group), place(p)),
                            seen.progress[&("billing".into(), place(p))].clone(),
                        )
                    };
                    let read = [0, 1].map(read);
                    seen.progress.extend(read);
                }
                let listed = [reads("billing"), reads("audit"), reads(late)].into();
                Some(Ok(Answer::Drain { seen, listed }))
            }
            Command::FreshenStarts { starts: of } if n > at => {
                starts.push(of.clone());
                None
            }
            _ => None,
        });
        world.rollback = Some(at);
        let (stop, world) = world.run();
        assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
        let commands = world.commands[at + 1..].to_vec();
        drop(world);
        (commands, starts)
    }

    fn groups_of(starts: &StartOffsets) -> Vec<&str> {
        assert_eq!(starts.on, incarnation(Colour::Blue));
        starts.groups.keys().map(GroupId::as_str).collect()
    }

    /// L7, on the way back: a group that was born on green has no commit on blue, and would begin at the end of its log. Its
    /// start offsets stand there before producers park. So do those of a group whose commits there have expired since it had
    /// read it all.
    #[test]
    fn start_offsets_stand_before_anybody_goes_home() {
        let (commands, starts) = rolled_back_after("observe the drain", "audit");
        let at = |name: &str| commands.iter().position(|known| *known == name).unwrap();
        assert_eq!(at("freshen start offsets") + 1, at("write the intent"), "{commands:?}");
        let next = vec![(place(0), Offset(0)), (place(1), Offset(100))];
        let of = |starts: &StartOffsets| (groups_of(starts).concat(), starts.at.clone());
        assert_eq!(
            starts[0].iter().map(of).collect::<Vec<_>>(),
            [("billing".into(), next.clone()), ("audit".into(), next)]
        );
    }

    /// What a group has not read on blue it is to read first: where its commits are not known to have been the end of it, it
    /// gets none but where nothing was ever written.
    #[test]
    fn who_has_something_left_to_read_at_home_begins_there() {
        let (_, starts) = rolled_back_after("announce the target", "audit");
        let [billing, audit] = &starts[0][..] else { panic!("{starts:?}") };
        assert_eq!((groups_of(billing), &billing.at[..]), (vec!["billing"], &[(place(0), Offset(0))][..]));
        assert_eq!((groups_of(audit), audit.at.len()), (vec!["audit"], 2));
    }

    /// A group that comes to green while that is being drained goes home as well.
    #[test]
    fn who_comes_late_to_the_cluster_that_is_left_starts_at_home_too() {
        let (commands, starts) = rolled_back_after("observe the drain", "late");
        assert_eq!(commands.iter().filter(|name| **name == "freshen start offsets").count(), 2);
        let last = starts[1].last().unwrap();
        assert_eq!(groups_of(last), ["late"]);
        assert_eq!(
            last.at,
            [(place(0), Offset(0)), (place(1), Offset(100))],
            "where the next segments start"
        );
    }
}
