//! The old cluster is the last way home: what must be so before it goes, and what an abort must not take with it.

use std::cell::Cell;

use super::fixtures::*;
use super::rollback_tests::number;
use super::*;
use crate::ports::TopicDescription;
use crate::words::{Colour, TopicName};

/// Blue has the topic `ledger` besides.
fn with_ledger(plan: Plan) -> World<'static> {
    let all = || {
        let ledger = TopicDescription { name: "ledger".into(), partitions: 1, ..topics()[0].clone() };
        topics().into_iter().chain([ledger]).collect::<Vec<_>>()
    };
    World::new(plan, vec![]).but(move |command, _| {
        let mut given = answer(command, 1, &target(2, Colour::Green));
        match &mut given {
            Answer::Verified { topics, .. } | Answer::Rechecked { topics, .. } => *topics = all(),
            Answer::Reproved { topics, .. } => *topics = all(),
            _ => return None,
        }
        Some(Ok(given))
    })
}

fn moves_orders_alone() -> Plan {
    let mut plan = plan();
    plan.topics = Topics::Named([TopicName::new("orders")].into());
    plan.timings.hold_limit_ms = Some(300);
    plan
}

/// L9, L18: a topic that does not move is neither fenced nor drained; it goes with the old cluster only if it is named.
#[test]
fn what_does_not_move_is_not_removed_unsaid() {
    for history in [Topics::All, Topics::Named([TopicName::new("orders")].into())] {
        let plan = Plan { waived_history: history, ..moves_orders_alone() };
        let (stop, world) = with_ledger(plan).run();
        assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
        assert!(world.holds()[0].starts_with("topic ledger is not in plan.topics"), "{:?}", world.holds());
    }
    let named = Topics::Named([TopicName::new("orders"), TopicName::new("ledger")].into());
    let (stop, _) = with_ledger(Plan { waived_history: named, ..moves_orders_alone() }).run();
    assert_eq!(stop, Stop::Complete, "the operator has named it");
    let (stop, world) = with_ledger(Plan { remove_old: false, ..moves_orders_alone() }).run();
    assert_eq!(stop, Stop::Complete, "blue stays");
    assert!(!world.commands.contains(&"destroy"));
}

/// L8: clients can still reach a cluster that could not be isolated, so its fence is proven once more before it goes.
#[test]
fn the_fence_of_a_cluster_within_reach_is_proven_again() {
    for shut_out in [true, false] {
        let asked = Cell::new(None);
        let world = World::new(plan(), vec![]).but(|command, _| match command {
            Command::Isolate { .. } => Some(Ok(Answer::Isolated { shut_out })),
            Command::Reprove { fence_too, .. } => {
                asked.set(Some(*fence_too));
                None
            }
            _ => None,
        });
        let (stop, _) = world.run();
        assert_eq!((stop, asked.get()), (Stop::Complete, Some(!shut_out)));
    }
}

/// A slip of the pen would lead producers to a cluster without their topics.
#[test]
fn topics_that_are_not_there_hold() {
    let mut plan = moves_orders_alone();
    plan.topics = Topics::Named([TopicName::new("ordres")].into());
    let (stop, world) = World::new(plan, vec![]).run();
    assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
    assert!(world.holds()[0].starts_with("plan.topics names ordres, which the old cluster does not have"));

    let mut plan = super::fixtures::plan();
    plan.timings.hold_limit_ms = Some(300);
    let reads = BTreeSet::from([TopicName::new("ordres")]);
    let misspelt = Plan { groups: [("billing".into(), Some(reads))].into(), ..plan.clone() };
    let (stop, world) = World::new(misspelt, vec![]).run();
    assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
    assert!(
        world.holds()[0].starts_with("plan.groups says that billing reads ordres"),
        "{:?}",
        world.holds()
    );

    let (stop, world) = World::new(plan, vec![])
        .but(|command, _| match answer(command, 1, &target(1, Colour::Blue)) {
            Answer::Verified { old, new, ttls, .. } => {
                Some(Ok(Answer::Verified { old, new, topics: vec![], ttls }))
            }
            _ => None,
        })
        .run();
    assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
    assert!(world.holds()[0].starts_with("the old cluster has no topic to move"));
}

/// G5: a cluster must serve in the end, so the old one stays while the new one is dead or another.
#[test]
fn nothing_is_removed_while_the_new_cluster_does_not_serve() {
    let mut tries = 0;
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, _| {
            let Command::Reprove { new, .. } = command else { return None };
            assert_eq!(new.colour, Colour::Green);
            tries += 1;
            let mut given = answer(command, 1, &target(2, Colour::Green));
            match (tries, &mut given) {
                (1, _) => return Some(Err(failure(ErrorKind::Unreachable))),
                (2, Answer::Reproved { new, .. }) => new.cluster_id = "somebody-elses".into(),
                _ => {}
            }
            Some(Ok(given))
        })
        .run();
    assert_eq!(stop, Stop::Complete, "it goes on when the cause ends");
    assert_eq!(world.holds()[0], "test: made to fail");
    assert!(world.holds()[1].starts_with("green was cluster cluster-green and is now somebody-elses"));
    assert_eq!(world.commands.iter().filter(|name| **name == "prove once more").count(), 3);
}

/// L13: until the provisioner has said whose the new cluster is, it is not this cutover's to destroy; what an earlier
/// cutover knew of its own does not count.
#[test]
fn whose_a_cluster_is_that_was_asked_for_is_not_known() {
    let mut asked = Vec::new();
    let mut plan = plan();
    plan.timings.hold_limit_ms = Some(300);
    let (stop, _) = World::new(plan, vec![])
        .but(|command, _| match command {
            Command::Provision { .. } => Some(Err(failure(ErrorKind::Unreachable))),
            Command::Discard { kept, request, .. } => {
                asked.push((*kept, request.clone()));
                None
            }
            _ => None,
        })
        .run();
    assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
    let Command::Provision { request, .. } = provision(&super::fixtures::plan()) else { unreachable!() };
    assert_eq!(asked, [(None, request)], "the driver asks the provisioner by the same request");
}

fn provision(plan: &Plan) -> Command {
    let (_, world) = World::new(plan.clone(), vec![]).run();
    let intended = world.journal.into_iter().find_map(|record| match record {
        Record::Intent { command, .. } if matches!(*command, Command::Provision { .. }) => Some(*command),
        _ => None,
    });
    intended.expect("it was intended")
}

/// What stood at an endpoint comes back there, whichever way a cutover ends.
#[test]
fn each_endpoint_gets_its_own_ttl_back() {
    for (rollback, abort) in [
        (None, None),
        (Some(number("observe the drain")), None),
        (None, Some(number("publish the target") - 3)),
    ] {
        let mut restored = None;
        let mut world = World::new(plan(), vec![]).but(|command, _| {
            if let Command::SetTtl { each, .. } | Command::Tidy { each, .. } = command {
                restored = Some(each.clone());
            }
            None
        });
        (world.rollback, world.abort) = (rollback, abort);
        let (stop, world) = world.run();
        drop(world);
        assert_eq!(restored, Some(ttls(60)), "{stop:?}");
    }
}

/// An old cluster that stays does not keep the short TTL of the switch.
#[test]
fn the_ttl_is_restored_where_the_old_cluster_stays() {
    let (stop, world) = World::new(Plan { remove_old: false, ..plan() }, vec![])
        .but(|command, _| {
            if let Command::Tidy { ttl_s, each, .. } = command {
                assert_eq!((*ttl_s, each), (60, &ttls(60)));
            }
            None
        })
        .run();
    assert_eq!(stop, Stop::Complete);
    assert_eq!(world.commands.last(), Some(&"tidy up"));
}

/// G4: what stood before the change is known before it, so that a lost answer does not shorten the wait.
#[test]
fn a_lost_answer_does_not_hide_the_old_ttl() {
    let mut tries = 0;
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, _| match command {
            Command::Verify { .. } => match answer(command, 1, &target(1, Colour::Blue)) {
                Answer::Verified { old, new, topics, .. } => {
                    Some(Ok(Answer::Verified { old, new, topics, ttls: ttls(600) }))
                }
                other => Some(Ok(other)),
            },
            // It was set, and nobody heard; the record says the new one from then on.
            Command::SetTtl { .. } => {
                tries += 1;
                let heard = Ok(Answer::TtlSet { old_ttl_s: 60 });
                Some(if tries == 1 { Err(failure(ErrorKind::Unreachable)) } else { heard })
            }
            Command::Tidy { ttl_s, .. } => {
                assert_eq!(*ttl_s, 600);
                None
            }
            _ => None,
        })
        .run();
    assert_eq!(stop, Stop::Complete);
    assert!(world.now >= Millis(600_000), "the old TTL was waited out: {:?}", world.now);
    assert!(world.commands.contains(&"tidy up"));
}

/// An abort is heeded after a restart too, although the cluster that is given up is dead.
#[test]
fn an_abort_after_a_restart_needs_no_dead_cluster() {
    let (_, whole) = World::new(plan(), vec![]).run();
    let ready = whole.journal.iter().position(|record| match record {
        Record::Checkpoint { progress } => matches!(progress.state, State::Ready(_)),
        _ => false,
    });
    let mut world =
        World::new(plan(), whole.journal[..=ready.expect("it was ready")].to_vec()).but(|command, _| {
            if let Command::Claim { on, .. } = command {
                assert!(on.iter().all(|on| on.colour == Colour::Blue), "green is dead: {on:?}");
            }
            None
        });
    world.term = 2;
    world.machine.handle(Millis(0), Input::Abort);
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
    assert_eq!(world.commands.last(), Some(&"discard"));
}

/// A plan and a journal for the way back to blue, which was kept by an earlier cutover and is dead by now but for what `lives`
/// answers.
fn to_a_kept_cluster(lives: impl Fn(&Command) -> bool + 'static) -> World<'static> {
    let mut keeps = Plan { remove_old: false, ..plan() };
    let (_, there) = World::new(keeps.clone(), vec![]).run();
    (keeps.to, keeps.approve_redirect) = (Colour::Blue, Approval::Manual);
    let mut back = World::new(keeps, there.journal).but(move |command, _| {
        let turned = match command {
            Command::Provision { .. } => Answer::Provisioned {
                old: incarnation(Colour::Green),
                new: incarnation(Colour::Blue),
                made: false,
            },
            Command::Verify { .. } => Answer::Verified {
                old: identity(Colour::Green),
                new: identity(Colour::Blue),
                topics: topics(),
                ttls: ttls(60),
            },
            Command::Recheck { .. } => Answer::Rechecked {
                old: identity(Colour::Green),
                new: identity(Colour::Blue),
                old_ends: vec![end(0, 40), end(1, 40)],
                new_ends: vec![end(0, 100), end(1, 100)],
                topics: topics(),
            },
            Command::Reopen { prove: true, .. } | Command::RaiseFence { .. } if !lives(command) => {
                return Some(Err(failure(ErrorKind::Unreachable)));
            }
            _ => return None,
        };
        Some(Ok(turned))
    });
    (back.term, back.published) = (2, target(2, Colour::Green));
    back
}

/// A cluster that served before, and was not opened again, has its fence still: an abort asks nothing of it.
#[test]
fn an_abort_needs_no_kept_cluster_that_is_dead() {
    let (_, whole) = to_a_kept_cluster(|_| true).run();
    let ready = whole.journal.iter().rposition(|record| match record {
        Record::Checkpoint { progress } => matches!(progress.state, State::Ready(_)),
        _ => false,
    });
    let mut world = to_a_kept_cluster(|_| false);
    let journal = whole.journal[..=ready.expect("it was ready")].to_vec();
    world.machine = Cutover::new(world.machine.plan.clone(), "next".into(), journal);
    world.term = 3;
    world.machine.handle(Millis(0), Input::Abort);
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
    assert!(!world.commands.contains(&"raise the fence"), "{:?}", world.commands);
    assert_eq!(world.commands.last(), Some(&"discard"));
}

/// One that was opened is to be fenced again, and is not waited for if it has died meanwhile.
#[test]
fn an_abort_is_not_stuck_on_a_kept_cluster_that_was_opened_and_died() {
    let mut world = to_a_kept_cluster(|_| false);
    world.machine.plan.timings.hold_limit_ms = Some(3_000);
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
    assert!(world.commands.contains(&"raise the fence"));
    let told = |event: &Event| event.to_string().contains("blue was opened again and is not fenced");
    assert!(world.events.iter().any(told), "{:?}", world.events);
}

/// L8, L12: somebody takes the fence away after the drain. It is raised again before anything is proven on it, where the old
/// cluster is removed as where it stays.
#[test]
fn a_fence_that_went_after_the_drain_is_raised_again() {
    for remove_old in [true, false] {
        let stands = Cell::new(true);
        let mut taken = false;
        let world = World::new(Plan { remove_old, ..plan() }, vec![]).but(|command, _| match command {
            Command::Isolate { .. } => Some(Ok(Answer::Isolated { shut_out: false })),
            Command::RaiseFence { .. } => {
                stands.set(true);
                None
            }
            Command::Reprove { fence_too: true, .. } => {
                stands.set(stands.get() && std::mem::replace(&mut taken, true));
                (!stands.get()).then(|| Ok(Answer::Unfenced { why: "its leader takes records".into() }))
            }
            _ => None,
        });
        let (stop, world) = world.run();
        assert_eq!(stop, Stop::Complete, "{remove_old}");
        assert!(stands.get());
        assert_eq!(world.holds(), ["its leader takes records"], "{remove_old}: {:?}", world.commands);
    }
    // One that is refused over and over ends as a hold does.
    let mut plan = plan();
    plan.timings.hold_limit_ms = Some(5_000);
    let (stop, _) = World::new(plan, vec![])
        .but(|command, _| match command {
            Command::Isolate { .. } => Some(Ok(Answer::Isolated { shut_out: false })),
            Command::Reprove { .. } => Some(Ok(Answer::Unfenced { why: "its leader takes records".into() })),
            _ => None,
        })
        .run();
    assert!(matches!(stop, Stop::Held(_)), "{stop:?}");
}

/// Any other refusal is none of the fence's: who flees by hand, with the record pointed back to blue, is not fenced there.
#[test]
fn a_record_that_was_put_back_by_hand_fences_nobody() {
    for remove_old in [true, false] {
        let mut plan = Plan { remove_old, ..plan() };
        plan.timings.hold_limit_ms = Some(5_000);
        let (stop, world) = World::new(plan, vec![])
            .but(|command, _| match command {
                Command::Isolate { .. } => Some(Ok(Answer::Isolated { shut_out: false })),
                Command::Reprove { .. } => Some(Err(failure(ErrorKind::Refused))),
                _ => None,
            })
            .run();
        assert!(matches!(stop, Stop::Held(_)), "{stop:?}");
        assert_eq!(world.commands.iter().filter(|name| **name == "raise the fence").count(), 1);
    }
}
