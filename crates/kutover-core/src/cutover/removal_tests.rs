//! What a removal rests on, each part taken away in turn: it then waits, and says for what.

use std::collections::BTreeMap;

use super::fixtures::*;
use super::*;
use crate::drain::{GroupProgress, LogRange, Tail};
use crate::messages::MemberState;
use crate::owner::Target;
use crate::ports::{FenceKind, FenceProof};
use crate::words::{Colour, Offset, TopicId, TopicName};

/// The last proof as it goes well, but for one thing, once.
fn once_otherwise(change: impl Fn(&mut Answer)) -> (Stop, Vec<String>) {
    let mut first = true;
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, _| match command {
            Command::Reprove { .. } if std::mem::take(&mut first) => {
                let mut given = answer(command, 1, &target(2, Colour::Green));
                change(&mut given);
                Some(Ok(given))
            }
            _ => None,
        })
        .run();
    (stop, world.holds().into_iter().map(str::to_owned).collect())
}

/// L13: another cluster or colour under the right generation is not what was published.
#[test]
fn the_record_must_say_what_was_published_word_for_word() {
    let foreign = [
        Target { cluster_id: "somebody-elses".into(), ..target(2, Colour::Green) },
        Target { colour: Colour::Blue, ..target(2, Colour::Green) },
        Target { bootstrap: vec!["127.9.0.9:9092".into()], ..target(2, Colour::Green) },
    ];
    for said in foreign {
        let (stop, holds) = once_otherwise(|given| {
            let Answer::Reproved { published, .. } = given else { panic!("{given:?}") };
            *published = said.clone();
        });
        assert_eq!((stop, holds.len()), (Stop::Complete, 1), "{said:?}");
        assert!(holds[0].starts_with("owner record or endpoints say generation 2"), "{holds:?}");
    }
}

/// G4, L4: however short the soak, nothing goes before the last answer that leads to it has expired.
#[test]
fn the_old_cluster_outlives_every_answer_that_leads_to_it() {
    let took = |ttl_s| {
        let mut plan = plan();
        (plan.timings.soak_ms, plan.timings.ttl_s) = (0, ttl_s);
        let (stop, world) = World::new(plan, vec![]).run();
        assert_eq!(stop, Stop::Complete);
        world.now.since(Millis(1_000))
    };
    assert!(took(1) < 600_000 && took(600) >= 600_000, "{} and {}", took(1), took(600));
}

/// L10, L11: the markers that stood behind a group's last commit went by retention while the old cluster was kept. Nothing that
/// anybody had to read went with them, also for a controller that has only the journal to know that by.
#[test]
fn markers_that_go_after_the_drain_hold_nothing() {
    let with = |start, committed, tail| {
        let mut seen = drained(committed);
        seen.logs.values_mut().for_each(|log| *log = Ok(LogRange { start: Offset(start), end: Offset(100) }));
        seen.progress
            .values_mut()
            .for_each(|one| *one = Ok(GroupProgress { committed: Some(Offset(committed)), tail }));
        seen
    };
    let answers = move |command: &Command, _| match command {
        Command::ObserveDrain { .. } => {
            Some(Ok(Answer::Drain { seen: with(0, 99, Tail::NoData), listed: BTreeMap::new() }))
        }
        Command::Reprove { .. } => {
            let mut given = answer(command, 1, &target(2, Colour::Green));
            if let Answer::Reproved { seen, .. } = &mut given {
                *seen = with(100, 99, Tail::NotRead);
            }
            Some(Ok(given))
        }
        _ => None,
    };
    let (stop, world) = World::new(plan(), vec![]).but(answers).run();
    assert_eq!((stop, world.holds()), (Stop::Complete, Vec::<&str>::new()));
    let soaking = world.journal.iter().position(|record| match record {
        Record::Checkpoint { progress } => matches!(progress.state, State::Soaking(_)),
        _ => false,
    });
    let text = serde_json::to_string(&world.journal[..=soaking.unwrap()]).unwrap();
    let mut resumed = World::new(plan(), serde_json::from_str(&text).unwrap()).but(answers);
    (resumed.term, resumed.published) = (2, target(2, Colour::Green));
    assert_eq!(resumed.run().0, Stop::Complete);
}

/// The same while another group still reads: the first one's look is remembered.
#[test]
fn markers_that_go_while_another_group_reads_hold_nothing() {
    let mut looks = 0;
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, _| match command {
            Command::ObserveDrain { .. } => {
                looks += 1;
                let mut seen = drained(100);
                let (start, tail) = if looks == 1 { (0, Tail::NoData) } else { (100, Tail::NotRead) };
                seen.logs.insert(place(0), Ok(LogRange { start: Offset(start), end: Offset(100) }));
                let at = |committed, tail| Ok(GroupProgress { committed: Some(Offset(committed)), tail });
                seen.progress.insert(("billing".into(), place(0)), at(99, tail));
                if looks < 3 {
                    seen.progress.insert(("billing".into(), place(1)), at(40, Tail::Data));
                }
                Some(Ok(Answer::Drain { seen, listed: BTreeMap::new() }))
            }
            Command::Isolate { .. } => Some(Err(failure(ErrorKind::Superseded))),
            _ => None,
        })
        .run();
    assert!(matches!(stop, Stop::Superseded(_)), "{stop:?}");
    assert!(world.holds().is_empty(), "{:?}", world.holds());
}

/// L20: a person may take days over it, and much may happen in them.
#[test]
fn a_removal_is_proven_again_after_a_person_took_their_time() {
    let mut plan = plan();
    plan.approve_removal = Approval::Manual;
    let (stop, world) = World::new(plan, vec![]).run();
    assert_eq!(stop, Stop::Complete);
    let isolated = world.commands.iter().position(|name| *name == "isolate").unwrap();
    let after = ["isolate", "prove once more", "prove once more", "mark the removal", "destroy"];
    assert_eq!(world.commands[isolated..isolated + 5], after);
}

/// L13: a yes counts for what was asked. One that was said by a slip, where another was asked for or none, removes nothing
/// hours later.
#[test]
fn a_yes_that_nobody_asked_for_removes_nothing() {
    let mut plan = plan();
    (plan.approve_redirect, plan.approve_removal) = (Approval::Manual, Approval::Manual);
    let mut world = World::new(plan, vec![]);
    world.machine.handle(Millis(0), Input::Approve(ApprovalGate::Removal));
    world.slip = Some(ApprovalGate::Removal);
    let (stop, world) = world.run();
    assert_eq!(stop, Stop::Complete);
    let asked = |gate| {
        world
            .events
            .iter()
            .position(|event| matches!(event, Event::AwaitingApproval { gate: at, .. } if *at == gate))
    };
    assert!(asked(ApprovalGate::Redirect) < asked(ApprovalGate::Removal));
    assert!(asked(ApprovalGate::Removal).is_some(), "{:?}", world.events);
    let told = |event: &&Event| event.to_string().starts_with("the removal is not waiting for approval");
    assert_eq!(world.events.iter().filter(told).count(), 2);
}

/// L12: a topic of the same name and size is not the one that was closed and read.
#[test]
fn a_topic_made_anew_holds_the_removal() {
    let with_id = |id: &str| {
        let mut there = topics();
        there[0].id = Some(TopicId::new(id));
        there
    };
    let mut looks = 0;
    let (stop, world) = World::new(plan(), vec![])
        .but(|command, _| match command {
            Command::ProveFence { .. } => Some(Ok(Answer::FenceProven {
                proof: FenceProof {
                    kind: FenceKind::Acl,
                    topics: [(TopicName::new("orders"), (with_id("first")[0].id.clone(), 2))].into(),
                    ends: vec![end(0, 100), end(1, 100)],
                },
            })),
            Command::Reprove { .. } => {
                looks += 1;
                Some(Ok(Answer::Reproved {
                    published: target(2, Colour::Green),
                    new: identity(Colour::Green),
                    seen: drained(100),
                    listed: BTreeMap::new(),
                    topics: with_id(if looks == 1 { "second" } else { "first" }),
                }))
            }
            _ => None,
        })
        .run();
    assert_eq!(stop, Stop::Complete);
    assert_eq!(world.holds(), ["topic orders was re-created on the old cluster since it was closed"]);
}

/// A producer that has been silent since before the switch, as it stands in the members topic of the old cluster.
fn asleep(instance: &str) -> MemberState {
    MemberState { instance: instance.into(), ..producer(3, &target(1, Colour::Blue)) }
}

/// What a person was shown at each request, where the last proofs find these producers still to move.
fn shown(fence: FencePolicy, shut_out: bool, unmoved: &[&[&str]]) -> (Vec<Vec<String>>, Vec<&'static str>) {
    let mut plan = plan();
    plan.fence = fence;
    let (mut isolated, mut looks) = (false, 0);
    let (stop, world) = World::new(plan, vec![])
        .but(|command, _| match command {
            Command::Isolate { .. } => {
                isolated = true;
                Some(Ok(Answer::Isolated { shut_out }))
            }
            Command::ReadMembers { .. } if isolated => {
                let there = unmoved[looks.min(unmoved.len() - 1)].iter().copied().map(asleep).collect();
                looks += 1;
                Some(Ok(Answer::Members { by_cluster: vec![there, vec![]] }))
            }
            _ => None,
        })
        .run();
    assert_eq!(stop, Stop::Complete);
    let asked = world.events.iter().filter_map(|event| match event {
        Event::AwaitingApproval { unmoved, .. } => Some(unmoved.clone()),
        _ => None,
    });
    let at = world.commands.iter().position(|name| *name == "isolate").unwrap();
    (asked.collect(), world.commands[at..].to_vec())
}

/// L8 (found by seed 202606): with neither fence nor isolation a producer that slept through the move woke up and wrote to
/// the cluster 47 ms before it was destroyed. Who says yes to that is told who it is.
#[test]
fn who_may_still_write_to_what_goes_is_named_to_the_person_who_approves() {
    let (asked, after) = shown(FencePolicy::Waived, false, &[&["p1", "p2"]]);
    assert_eq!(asked, [["producer/p1/r", "producer/p2/r"]]);
    let round = ["read members", "prove once more"];
    assert_eq!(after[1..6], [round[0], round[1], round[0], round[1], "mark the removal"]);
}

/// A hold whose cause stays is one hold, also where members are asked before every proof: only so it comes to its limit.
#[test]
fn a_proof_that_fails_again_and_again_is_one_hold() {
    let mut plan = plan();
    (plan.fence, plan.timings.hold_limit_ms) = (FencePolicy::Waived, Some(5_000));
    let (stop, world) = World::new(plan, vec![])
        .but(|command, _| match command {
            Command::Isolate { .. } => Some(Ok(Answer::Isolated { shut_out: false })),
            Command::Reprove { .. } => {
                let mut given = answer(command, 1, &target(2, Colour::Green));
                let Answer::Reproved { seen, .. } = &mut given else { panic!("{given:?}") };
                *seen = drained(99);
                Some(Ok(given))
            }
            _ => None,
        })
        .run();
    assert!(matches!(stop, Stop::Held(_)), "{stop:?}");
    assert_eq!(world.holds().len(), 1, "{:?}", world.holds());
}

/// G4: what was proven last is marked at once, also where start offsets have grown old meanwhile.
#[test]
fn nothing_comes_between_the_last_proof_and_the_mark() {
    let mut plan = plan();
    plan.timings.command_timeout_ms = 60_000;
    let mut world = World::new(plan, vec![]);
    world.slow = Some(("prove once more", 31_000));
    let (stop, world) = world.run();
    assert_eq!(stop, Stop::Complete);
    let marked = world.commands.iter().position(|name| *name == "mark the removal").unwrap();
    assert_eq!(world.commands[marked - 1], "prove once more", "{:?}", world.commands);
}

/// A yes counts for those that it was said to.
#[test]
fn who_turns_up_after_the_approval_is_asked_for_anew() {
    let (asked, _) = shown(FencePolicy::Waived, false, &[&["p1"], &["p1", "p2"], &["p2"]]);
    assert_eq!(asked, [vec!["producer/p1/r"], vec!["producer/p1/r", "producer/p2/r"]]);
    let (asked, _) = shown(FencePolicy::Waived, false, &[&["p1"], &[]]);
    assert_eq!(asked, [["producer/p1/r"]]);
    let (asked, _) = shown(FencePolicy::Waived, false, &[&[]]);
    assert_eq!(asked, [Vec::<String>::new()]);
}

/// A fence keeps them out: nobody needs to be asked about them. An isolation may leave connections that stand already.
#[test]
fn who_is_kept_out_needs_no_word() {
    for shut_out in [false, true] {
        let (asked, after) = shown(FencePolicy::Required, shut_out, &[&["p1"]]);
        assert!(asked.is_empty() && after[1] == "prove once more", "{after:?}");
        let (asked, after) = shown(FencePolicy::Waived, shut_out, &[&["p1"]]);
        assert_eq!((asked, after[1]), (vec![vec!["producer/p1/r".to_owned()]], "read members"));
    }
}
