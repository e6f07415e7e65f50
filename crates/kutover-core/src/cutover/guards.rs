//! What holds the machine back, and what lets it go on: aborts, proofs, terms, groups and topics that come late.

use std::collections::{BTreeMap, BTreeSet};

use super::fixtures::*;
use super::*;
use crate::drain::LogRange;
use crate::error::Outcome;
use crate::owner::Intent;
use crate::ports::{FenceKind, FenceProof, PartitionEnd};
use crate::words::{Colour, Generation, GroupId, Offset, TopicName};

#[test]
fn an_abort_before_redirecting_undoes_everything() {
    let mut machine = World::new(plan(), vec![]);
    machine.machine.handle(Millis(0), Input::Abort);
    let (stop, world) = machine.run();
    assert!(matches!(stop, Stop::Aborted(_)));
    assert_eq!(world.commands, FORWARD[..3], "nothing without the term");

    let mut plan = plan();
    plan.approve_redirect = Approval::Manual;
    let mut machine = Cutover::new(plan, "run".into(), []);
    machine.handle(Millis(0), Input::Start);
    let mut now = Millis(0);
    let mut commands = vec![];
    loop {
        match machine.poll() {
            Output::Run(id, command) => {
                commands.push(command.name());
                let given = answer(&command, 1, &target(1, Colour::Blue));
                machine.handle(now, Input::Answer(id, Ok(given)));
            }
            Output::Wait(Some(until)) => {
                now = until;
                machine.handle(now, Input::Tick);
            }
            Output::Wait(None) => machine.handle(now, Input::Abort), // Ready, waiting for approval.
            Output::Stop(stop) => {
                assert!(matches!(stop, Stop::Aborted(_)));
                break;
            }
            Output::Persist(..) | Output::Notify(_) => {}
        }
    }
    assert_eq!(commands[commands.len() - 4..], ["set the TTL", "write the chain", "set the TTL", "discard"]);
}

#[test]
fn after_the_publication_there_is_no_aborting() {
    let (_, world) = World::new(plan(), vec![]).run();
    let redirected = world.journal.iter().rev().find_map(|record| match record {
        Record::Checkpoint { progress } => match &progress.state {
            state @ State::Converging(_) => Some(state.clone()),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(redirected.unwrap().undo("x"), None);
}

/// L8, L20: a newer term stops the machine at once.
#[test]
fn a_newer_term_stops_it() {
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, _| {
            matches!(command, Command::Publish { .. }).then(|| Err(failure(ErrorKind::Superseded)))
        })
        .run();
    assert!(matches!(stop, Stop::Superseded(_)));
    assert_eq!(world.commands.last(), Some(&"publish the target"));
}

/// L9, L12: nothing is removed while a group is behind, a group is born late, or the log goes on past its closed end.
#[test]
fn removal_waits_for_fresh_proof() {
    let mut reproofs = 0;
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, _| match command {
            Command::Reprove { groups, .. } => {
                reproofs += 1;
                let (mut seen, mut listed) = (drained(100), BTreeMap::new());
                match reproofs {
                    1 => seen = drained(99),
                    2 => seen.logs = [(place(0), Ok(LogRange { start: Offset(0), end: Offset(101) }))].into(),
                    _ => {
                        let topics: BTreeSet<_> = [TopicName::new("orders")].into();
                        listed = [(GroupId::new("late"), topics)].into();
                    }
                }
                if groups.contains_key(&GroupId::new("late")) {
                    let progress = seen.progress.clone();
                    let late = progress.into_iter().map(|((_, p), v)| (("late".into(), p), v));
                    seen.progress.extend(late);
                }
                Some(Ok(Answer::Reproved {
                    published: target(2, Colour::Green),
                    new: identity(Colour::Green),
                    seen,
                    listed,
                    topics: topics(),
                }))
            }
            _ => None,
        })
        .run();
    assert_eq!(stop, Stop::Complete);
    assert_eq!(
        world.holds(),
        [
            "not removed: group billing, topic orders, partition 0: 1 records unread (and 1 more)",
            "not removed: topic orders, partition 0: closed at 100, but the log goes on to 101 (and 1 more)",
        ]
    );
    assert_eq!(world.commands.iter().filter(|name| **name == "prove once more").count(), 4);
}

/// A record that was changed by hand under a running cutover holds the removal.
#[test]
fn a_foreign_record_holds_the_removal() {
    let mut first = true;
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, _| match command {
            Command::Reprove { .. } if std::mem::take(&mut first) => Some(Ok(Answer::Reproved {
                published: target(1, Colour::Blue),
                new: identity(Colour::Green),
                seen: drained(100),
                listed: BTreeMap::new(),
                topics: topics(),
            })),
            _ => None,
        })
        .run();
    assert_eq!(stop, Stop::Complete);
    assert!(world.holds()[0].starts_with("owner record or endpoints say generation 1 on blue"));
}

/// Without a fence, ends must stand still for the quiet window, and a person has to approve the removal.
#[test]
fn a_waived_fence_needs_quiet_and_a_person() {
    let mut plan = plan();
    plan.fence = FencePolicy::Waived;
    let mut machine = Cutover::new(plan, "run".into(), []);
    let mut now = Millis(0);
    machine.handle(now, Input::Start);
    let (mut reads, mut asked, mut said) = (0, vec![], 0);
    let stop = loop {
        match machine.poll() {
            Output::Run(id, command) => {
                let mut given = answer(&command, 1, &target(2, Colour::Green));
                if let (Command::TakeTerm { .. }, Answer::TermTaken { owner, active, .. }) =
                    (&command, &mut given)
                {
                    owner.target = target(1, Colour::Blue);
                    *active = incarnation(Colour::Blue);
                }
                if let Answer::Ends { ends } = &mut given {
                    reads += 1;
                    if reads < 3 {
                        ends[0] = end(0, 90 + reads);
                    }
                }
                machine.handle(now, Input::Answer(id, Ok(given)));
            }
            Output::Wait(_) if said < asked.len() => {
                said = asked.len();
                machine.handle(now, Input::Approve(asked[0]));
            }
            Output::Wait(Some(until)) => {
                now = until;
                machine.handle(now, Input::Tick);
            }
            Output::Wait(None) => panic!("nothing to wait for"),
            Output::Notify(Event::AwaitingApproval { gate, .. }) => asked.push(gate),
            Output::Notify(Event::Closed { records, .. }) => assert_eq!(records, 200),
            Output::Stop(stop) => break stop,
            Output::Persist(..) | Output::Notify(_) => {}
        }
    };
    assert_eq!(stop, Stop::Complete);
    assert_eq!(asked, [ApprovalGate::Removal]);
    assert!(reads >= 3 + 2_000 / 100, "{reads} reads do not cover the quiet window");
}

/// L10: a transaction that is open while the ends stand still would get its marker behind them.
#[test]
fn a_quiet_end_waits_for_open_transactions() {
    let mut plan = plan();
    plan.fence = FencePolicy::Waived;
    let seen = || {
        let ended = LogRange { start: Offset(0), end: Offset(101) };
        let mut seen = drained(101);
        seen.logs.insert(place(1), Ok(ended));
        seen
    };
    let mut reads = 0;
    let (stop, world) = World::new(plan, vec![])
        .but(|command, _| match command {
            Command::ReadEnds { .. } => {
                reads += 1;
                // For longer than the quiet window.
                let open = PartitionEnd { stable_end: Offset(95), ..end(1, 100) };
                let second = if reads < 50 { open } else { end(1, 101) };
                Some(Ok(Answer::Ends { ends: vec![end(0, 100), second] }))
            }
            Command::ObserveDrain { .. } => Some(Ok(Answer::Drain { seen: seen(), listed: BTreeMap::new() })),
            Command::Reprove { .. } => Some(Ok(Answer::Reproved {
                published: target(2, Colour::Green),
                new: identity(Colour::Green),
                seen: seen(),
                listed: BTreeMap::new(),
                topics: topics(),
            })),
            _ => None,
        })
        .run();
    assert_eq!(stop, Stop::Complete);
    assert_eq!(
        world.holds(),
        [
            "not closed: topic orders, partition 1: a transaction is open from 95 (end 100), and its marker would come behind \
             that end; it ends by itself after its time-out, or abort it with `kafka-transactions.sh abort`, --start-offset 95"
        ]
    );
    let closed = |event: &Event| matches!(event, Event::Closed { records: 201, .. });
    assert!(world.events.iter().any(closed), "behind the marker: {:?}", world.events);
}

/// L8: a producer that still beats on the old cluster holds the isolation; a silent one does not.
#[test]
fn a_live_producer_on_the_old_cluster_holds_the_isolation() {
    let mut looks = 0;
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, _| match command {
            Command::ReadMembers { .. } => {
                looks += 1;
                // Converging's deadline passes, then it beats three times, then it is silent.
                let beat = if looks < 60 { looks } else { 60 };
                Some(Ok(Answer::Members {
                    by_cluster: vec![vec![producer(beat, &target(1, Colour::Blue))], vec![]],
                }))
            }
            _ => None,
        })
        .run();
    assert_eq!(stop, Stop::Complete);
    assert_eq!(world.holds(), ["still alive elsewhere than on the new cluster: producer/p1/r"]);
}

/// A topic that was born while the plan waited gets its parity, groups and start offsets before the switch (L6, L7).
#[test]
fn a_topic_born_late_is_prepared_before_the_switch() {
    let (_, world) = World::new(plan(), vec![])
        .but(|command, _| match command {
            Command::Recheck { .. } => {
                let mut grown = topics();
                grown[0].partitions = 3;
                let ends = |offset| (0..3).map(|partition| end(partition, offset)).collect();
                Some(Ok(Answer::Rechecked {
                    old: identity(Colour::Blue),
                    new: identity(Colour::Green),
                    old_ends: ends(90),
                    new_ends: ends(0),
                    topics: grown,
                }))
            }
            Command::Publish { .. } => Some(Err(failure(ErrorKind::Superseded))),
            _ => None,
        })
        .run();
    for prepared in ["match topics", "set start offsets", "check again"] {
        assert_eq!(world.commands.iter().filter(|name| **name == prepared).count(), 2, "{prepared}");
    }
    assert_eq!(world.machine.progress().chain.segments(&place(2)).len(), 2);
}

/// The machine's own promises are checked in release too: a step that would fence the active cluster is not taken.
#[test]
fn a_broken_invariant_stops_the_machine_before_the_act() {
    let (_, world) = World::new(plan(), vec![]).run();
    let fencing = world.journal.iter().find_map(|record| match record {
        Record::Checkpoint { progress } => match &progress.state {
            State::Fencing(_, Fencing::Raise) => Some(progress.clone()),
            _ => None,
        },
        _ => None,
    });
    let mut progress = fencing.unwrap();
    if let State::Fencing(redirected, _) = &mut progress.state {
        redirected.prepared.verified.old = redirected.prepared.verified.new.clone();
    }
    let mut world = World::new(plan(), vec![Record::Checkpoint { progress }]);
    world.published = target(2, Colour::Green);
    let (stop, world) = world.run();
    assert_eq!(stop, Stop::Broken("raise the fence on green, where producers belong".into()));
    assert!(!world.commands.contains(&"raise the fence"));
}

/// G4: a proof from before a restart is taken again before the mark, whatever the journal says.
#[test]
fn a_removal_is_proven_again_after_a_restart() {
    let (_, whole) = World::new(plan(), vec![]).run();
    let mut resumed = 0;
    for length in 1..whole.journal.len() {
        let at = whole.journal[..length].iter().rev().find_map(|record| match record {
            Record::Checkpoint { progress } => Some(progress.state.clone()),
            _ => None,
        });
        let Some(State::Retiring(_, _, Retirement::Approval | Retirement::Mark)) = at else { continue };
        let mut world = World::new(plan(), whole.journal[..length].to_vec());
        (world.term, world.published) = (2, target(2, Colour::Green));
        let (stop, world) = world.run();
        assert_eq!(stop, Stop::Complete);
        let place = |name| world.commands.iter().position(|command| *command == name);
        assert!(place("prove once more") < place("mark the removal"), "{:?}", world.commands);
        assert!(place("prove once more").is_some());
        resumed += 1;
    }
    assert!(resumed > 0);
}

/// G4: what is destroyed has been marked before, so that whoever takes over knows that there is no way back.
#[test]
fn nothing_is_destroyed_without_its_mark() {
    let (stop, world) = World::new(plan(), vec![]).run();
    assert_eq!(stop, Stop::Complete);
    let place = |name| world.commands.iter().position(|command| *command == name);
    assert!(place("mark the removal").is_some());
    assert!(place("mark the removal") < place("destroy"), "{:?}", world.commands);
}

/// The old cluster must be the one that was published: another one would be fenced, drained and removed in its place.
#[test]
fn another_cluster_than_the_published_one_holds() {
    let mut plan = plan();
    plan.timings.hold_limit_ms = Some(300);
    let mut world = World::new(plan, vec![]);
    world.published.cluster_id = "cluster-of-last-year".into();
    let (stop, world) = world.run();
    assert!(matches!(&stop, Stop::Aborted(why) if why.contains("correct clusters.blue")), "{stop:?}");
    assert!(!world.commands.contains(&"match topics"));
}

/// L9: groups that nobody can list and the plan does not name are not "no groups".
#[test]
fn unknown_groups_are_not_no_groups() {
    let mut plan = plan();
    plan.groups.clear();
    plan.timings.hold_limit_ms = Some(300);
    let (stop, world) = World::new(plan, vec![])
        .but(|command, _| match command {
            Command::ListGroups { .. } => {
                Some(Ok(Answer::Groups { listed: BTreeMap::new(), complete: false }))
            }
            _ => None,
        })
        .run();
    assert!(matches!(&stop, Stop::Aborted(why) if why.contains("plan.groups")), "{stop:?}");
    assert!(!world.commands.contains(&"publish the target"));
}

/// An abort after the new segments were opened takes them back: the next try opens them again, elsewhere perhaps.
#[test]
fn an_abort_takes_the_opened_segments_back() {
    let mut plan = plan();
    plan.timings.hold_limit_ms = Some(300);
    let mut chains = 0;
    let (stop, world) = World::new(plan.clone(), vec![])
        .but(|command, _| match command {
            Command::WriteChain { on, .. } => {
                chains += 1;
                (on.len() == 2).then(|| Err(failure(ErrorKind::Unreachable)))
            }
            _ => None,
        })
        .run();
    assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
    assert_eq!(world.commands[world.commands.len() - 3..], ["write the chain", "set the TTL", "discard"]);
    assert_eq!(world.machine.progress().chain.segments(&place(0)).len(), 1);
    let mut next = World::new(plan, world.journal);
    next.term = 2;
    assert_eq!(next.run().0, Stop::Complete);
}

/// A partition that was added to the old cluster after the switch is closed and drained like the others.
#[test]
fn a_partition_added_after_the_switch_is_closed_too() {
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, _| match command {
            Command::ProveFence { .. } => Some(Ok(Answer::FenceProven {
                proof: FenceProof {
                    kind: FenceKind::Acl,
                    topics: BTreeMap::new(),
                    ends: vec![end(0, 100), end(1, 100), end(2, 7)],
                },
            })),
            Command::ObserveDrain { partitions, .. } => {
                assert_eq!(partitions.len(), 3);
                Some(Err(failure(ErrorKind::Superseded)))
            }
            _ => None,
        })
        .run();
    assert!(matches!(stop, Stop::Superseded(_)));
    let ends = world.machine.progress().chain.closed_ends(Generation(1), [&place(2)]).unwrap();
    assert_eq!(ends[&place(2)], Offset(7));
}

/// A controller that dies right after the end, and is started again, must not begin the way back.
#[test]
fn a_finished_cutover_is_not_begun_again() {
    let (_, world) = World::new(plan(), vec![]).run();
    let mut again = World::new(plan(), world.journal);
    again.published = target(2, Colour::Green);
    let (stop, again) = again.run();
    assert_eq!(stop, Stop::Complete);
    assert_eq!(again.commands, FORWARD[..3]);
}

#[test]
fn adopting_stops_once_the_deployment_is_ours() {
    let mut world = World::new(plan(), vec![]);
    world.machine = world.machine.adopting();
    let (stop, world) = world.run();
    assert_eq!(stop, Stop::Adopted);
    assert_eq!(world.commands, FORWARD[..3]);
    let mut next = World::new(plan(), world.journal);
    next.term = 2;
    assert_eq!(next.run().0, Stop::Complete);
}

#[test]
fn errors_of_the_world_say_whether_they_may_have_happened() {
    assert_eq!(failure(ErrorKind::Unreachable).outcome, Outcome::Unknown);
    assert_eq!(failure(ErrorKind::Conflict).outcome, Outcome::NotDone);
}

/// A start that finds a fence on the cluster that producers belong to names it, lifts it whole and has it proven that records
/// are taken, before it does anything else; one that the journal has forgotten too.
#[test]
fn a_start_lifts_what_is_left_of_a_fence() {
    let found: BTreeSet<TopicName> = (0..12).map(|n| TopicName::new(format!("t{n:02}"))).collect();
    let mut fails = true;
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, n| match command {
            Command::LookForFence { on } => {
                assert_eq!(*on, incarnation(Colour::Blue));
                Some(Ok(Answer::FenceTraces { topics: found.clone(), blind: None, refusal: None }))
            }
            Command::Reopen { on, topics, prove, .. } if n < 5 => {
                assert_eq!((on, topics, *prove), (&incarnation(Colour::Blue), &Some(found.clone()), true));
                std::mem::take(&mut fails).then(|| Err(failure(ErrorKind::Refused)))
            }
            _ => None,
        })
        .run();
    assert_eq!(stop, Stop::Complete, "what is not proven yet is tried again");
    assert_eq!(world.commands[2..6], ["look for a left-over fence", "reopen", "reopen", "provision"]);
    let told: Vec<String> = world.events.iter().map(ToString::to_string).collect();
    let named =
        told.iter().filter(|text| text.starts_with("a left-over fence stands on blue")).collect::<Vec<_>>();
    assert!(named.len() == 1 && named[0].ends_with("t09 and 2 more topics; it is lifted"), "{named:?}");
    assert!(told.iter().any(|text| text.contains("every leader takes records again")), "{told:?}");
}

/// Where it cannot be looked for, that is said, and nothing waits for it.
#[test]
fn a_start_that_may_not_look_for_a_fence_goes_on() {
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, _| {
            let blind = Some("not authorised".to_owned());
            let told = Answer::FenceTraces { topics: BTreeSet::new(), blind, refusal: None };
            matches!(command, Command::LookForFence { .. }).then_some(Ok(told))
        })
        .run();
    assert_eq!(stop, Stop::Complete);
    assert!(world.events.iter().any(|event| event.to_string().ends_with("cannot be told: not authorised")));
}

/// A rollback's fence is meant, and the owner record may know of one that this journal does not.
#[test]
fn a_fence_is_not_looked_for_while_a_rollback_is_under_way() {
    let (_, whole) = World::new(plan(), vec![]).run();
    let draining = whole.journal.iter().position(|record| match record {
        Record::Checkpoint { progress } => matches!(progress.state, State::Draining(_)),
        _ => false,
    });
    let mut world = World::new(plan(), whole.journal[..=draining.unwrap()].to_vec()).but(|command, _| {
        let mut owner = owner(2, target(2, Colour::Green));
        owner.intent = Some(Intent { closing: Generation(2), opening: Generation(3), colour: Colour::Blue });
        let taken = Answer::TermTaken { term: Term(2), owner, active: incarnation(Colour::Green) };
        matches!(command, Command::TakeTerm { .. }).then_some(Ok(taken))
    });
    (world.term, world.published) = (2, target(2, Colour::Green));
    let (_, world) = world.run();
    assert!(!world.commands.contains(&"look for a left-over fence"), "{:?}", world.commands);
}
