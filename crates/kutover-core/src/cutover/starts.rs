//! Where groups start on the new cluster: looked after from the last check before the switch until they live there (L7).

use std::ops::ControlFlow;

use super::{Answer, Cause, Command, Cutover, Event, Next, Prepared, Redirection, StartOffsets, State};
use crate::controls::{Control, without};
use crate::owner::Target;
use crate::words::{Millis, Offset, TopicPartition};

/// How often start offsets are looked after. No broker forgets a commit sooner than after a minute
/// (`offsets.retention.minutes` is at least 1).
const FRESH_EVERY_MS: u64 = 30_000;

impl State {
    /// What groups are on their way to, in the states in which their start offsets must stand: from the publication, which
    /// may be tried for long, until everything is drained.
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
}

impl Cutover {
    /// Sees to start offsets before a step is taken, if it is time to, and then lets the step be taken.
    pub(super) fn starts_fresh(&mut self, cause: Cause) -> ControlFlow<Next, Cause> {
        match cause {
            Cause::Enter => match self.stale_starts() {
                Some(command) => ControlFlow::Break(Next::Run(command)),
                None => ControlFlow::Continue(Cause::Enter),
            },
            Cause::Answer(Answer::StartsFresh { silent: None }) => ControlFlow::Continue(Cause::Enter),
            Cause::Answer(Answer::StartsFresh { silent: Some(why) }) => self.new_is_silent(&why),
            other => ControlFlow::Continue(other),
        }
    }

    /// Whether nothing is known of start offsets any more.
    pub(super) fn starts_are_old(&self) -> bool {
        let fresh = |(at, now): (Millis, Millis)| now.since(at) < FRESH_EVERY_MS;
        !self.freshened.zip(self.now).is_some_and(fresh) && !without(Control::StartsForgotten)
    }

    fn stale_starts(&mut self) -> Option<Command> {
        if !self.starts_are_old() {
            return None;
        }
        let (prepared, target) = self.progress.state.leading()?;
        let at = self.starts_of(target);
        let starts = StartOffsets { on: prepared.verified.new.incarnation.clone(), at };
        let groups = prepared.draft.groups.clone();
        self.freshened = self.now;
        Some(Command::FreshenStarts { groups, starts })
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
    /// to its end all the same.
    fn new_is_silent(&mut self, why: &str) -> ControlFlow<Next, Cause> {
        if let State::Redirecting(prepared, Redirection::Publish(_)) = &self.progress.state {
            let colour = prepared.verified.new.incarnation.colour;
            self.freshened = None;
            let hold = format!(
                "{colour} does not answer, and nobody may have been led there yet: bring it back, or start the controller \
                 again and abort ({why})"
            );
            return ControlFlow::Break(Next::Hold(hold));
        }
        if let Some((_, target)) = self.progress.state.leading() {
            let text = format!(
                "{} does not answer, and producers belong there: bring it back, or roll back ({why})",
                target.colour
            );
            self.notify(Event::Note { text });
        }
        ControlFlow::Continue(Cause::Enter)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::fixtures::*;
    use super::super::{Plan, Stop};
    use super::*;
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
            world.holds()[1].starts_with("green does not answer, and nobody may have been led there yet")
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
                    starts.push(of.clone());
                    None
                }
                _ => None,
            })
            .run();
        assert_eq!(stop, Stop::Complete);
        let commands = world.commands.clone();
        drop(world);
        let at = |name: &str| commands.iter().position(|known| *known == name).unwrap();
        let freshened = |from: &str, to: &str| {
            let steps = &commands[at(from)..at(to)];
            steps.iter().filter(|name| **name == "freshen start offsets").count()
        };
        assert_eq!(freshened("announce the target", "raise the fence"), 3, "in 108 s, every 36 s");
        assert_eq!(freshened("raise the fence", "observe the drain"), 2, "two back-offs");
        assert_eq!(freshened("observe the drain", "isolate"), 2, "in 72 s, every 36 s");
        let segments_start = vec![(place(0), Offset(0)), (place(1), Offset(0))];
        assert!(starts.iter().all(|of| of.on == incarnation(Colour::Green) && of.at == segments_start));
    }
}
