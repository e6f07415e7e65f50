//! What changes in the world, or in the plan, while a cutover waits.

use std::collections::{BTreeMap, BTreeSet};

use super::fixtures::*;
use super::*;
use crate::chain::{ClosedBy, SegmentEnd};
use crate::drain::LogRange;
use crate::ports::{FenceKind, FenceProof, PartitionEnd, TopicDescription};
use crate::words::{Colour, Generation, Offset, TopicName, TopicPartition};

fn audit() -> TopicPartition {
    TopicPartition::new("audit", 0)
}

/// A world in which the topic `audit` is born after the clusters were verified; a group that the plan names for every
/// topic reads it too, and has not yet.
fn with_a_late_topic(plan: Plan) -> World<'static> {
    let born = || {
        let audit = TopicDescription { name: "audit".into(), partitions: 1, ..topics()[0].clone() };
        topics().into_iter().chain([audit]).collect::<Vec<_>>()
    };
    let at = |offset| PartitionEnd { place: audit(), ..end(0, offset) };
    let unread = move || {
        let mut seen = drained(100);
        seen.logs.insert(audit(), Ok(LogRange { start: Offset(0), end: Offset(50) }));
        seen
    };
    World::new(plan, vec![]).but(move |command, _| match command {
        Command::Recheck { .. } => Some(Ok(Answer::Rechecked {
            old: identity(Colour::Blue),
            new: identity(Colour::Green),
            old_ends: vec![end(0, 90), end(1, 95), at(50)],
            new_ends: vec![end(0, 0), end(1, 0), at(0)],
            topics: born(),
        })),
        Command::ProveFence { .. } => Some(Ok(Answer::FenceProven {
            proof: FenceProof {
                kind: FenceKind::Acl,
                topics: BTreeMap::new(),
                ends: vec![end(0, 100), end(1, 100), at(50)],
            },
        })),
        Command::ObserveDrain { groups, .. } => {
            assert!(groups[&"billing".into()].contains(&TopicName::new("audit")), "{groups:?}");
            Some(Ok(Answer::Drain { seen: unread(), listed: BTreeMap::new() }))
        }
        Command::Destroy { .. } => panic!("removed with unread records"),
        _ => None,
    })
}

/// L9: a group that reads every topic must read those to their end that were born since.
#[test]
fn a_topic_born_late_is_drained_by_groups_that_read_every_topic() {
    let mut plan = plan();
    plan.timings.hold_limit_ms = Some(500);
    let mut world = with_a_late_topic(plan);
    world.rollback = Some(60); // The drain never ends: leave it in the end.
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_) | Stop::Held(_)), "{stop:?}");
    let reasons = world.events.iter().filter_map(|event| match event {
        Event::Draining { remaining, .. } => Some(remaining.join("; ")),
        _ => None,
    });
    assert!(reasons.into_iter().any(|text| text.contains("topic audit, partition 0")));
}

/// L13, L14: what an abort has to delete is in the journal before it is made, whatever becomes of the call that makes it.
#[test]
fn topics_are_in_the_journal_before_they_are_made() {
    let mut plan = plan();
    plan.timings.hold_limit_ms = Some(300);
    let orders = BTreeSet::from([TopicName::new("orders")]);
    let (mut asked, mut discarded) = (Vec::new(), None);
    let (stop, world) = World::new(plan, vec![])
        .but(|command, _| match command {
            Command::MatchTopics { named, .. } => {
                asked.push(named.clone());
                Some(match asked.len() {
                    1 => Ok(Answer::TopicsMissing { topics: orders.clone() }),
                    _ => Err(failure(ErrorKind::Unreachable)),
                })
            }
            Command::Discard { created, .. } => {
                discarded = Some(created.clone());
                None
            }
            _ => None,
        })
        .run();
    assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
    let journal = world.journal.clone();
    drop(world);
    assert_eq!(asked[..2], [Some(BTreeSet::new()), Some(orders.clone())]);
    let makes = |record: &Record| match record {
        Record::Intent { command, .. } => {
            matches!(&**command, Command::MatchTopics { named, .. } if *named == Some(orders.clone()))
        }
        _ => false,
    };
    let made = journal.iter().position(makes).unwrap();
    let Record::Checkpoint { progress } = &journal[made - 1] else { panic!("{:?}", journal[made - 1]) };
    assert!(matches!(&progress.state, State::Preparing(_, draft, _) if draft.created == orders));
    assert_eq!(discarded, Some(orders), "although no answer ever said that it was made");
}

/// L18: nobody waived the history of a topic that was born since.
#[test]
fn the_history_of_a_topic_born_late_is_asked_for() {
    let mut plan = plan();
    plan.waived_history = Topics::Named([TopicName::new("orders")].into());
    plan.timings.hold_limit_ms = Some(500);
    let (stop, world) = with_a_late_topic(plan).run();
    assert!(matches!(&stop, Stop::Aborted(why) if why.contains("the history of topic audit")), "{stop:?}");
    assert!(!world.commands.contains(&"publish the target"));
}

/// L18: a plan that kept the old cluster is changed into one that removes it.
#[test]
fn removal_is_asked_for_history_when_the_plan_changes() {
    let mut keeps = plan();
    keeps.remove_old = false;
    keeps.waived_history = Topics::Named([].into());
    let (_, whole) = World::new(keeps.clone(), vec![]).run();
    let soaking = whole.journal.iter().position(|record| match record {
        Record::Checkpoint { progress } => matches!(progress.state, State::Soaking(_)),
        _ => false,
    });
    keeps.remove_old = true;
    keeps.timings.hold_limit_ms = Some(500);
    let mut removes = World::new(keeps, whole.journal[..=soaking.unwrap()].to_vec());
    (removes.term, removes.published) = (2, target(2, Colour::Green));
    let (stop, removes) = removes.run();
    assert!(matches!(&stop, Stop::Held(why) if why.contains("the history of topic orders")), "{stop:?}");
    assert!(!removes.commands.contains(&"mark the removal"));
}

/// An abort by the controller that took over takes back the segments that the one before it had written.
#[test]
fn an_abort_after_a_restart_takes_the_segments_back_too() {
    let (_, whole) = World::new(plan(), vec![]).run();
    let publishing = whole.journal.iter().position(|record| match record {
        Record::Checkpoint { progress } => {
            matches!(progress.state, State::Redirecting(_, Redirection::Publish(_)))
        }
        _ => false,
    });
    let mut plan = plan();
    plan.timings.hold_limit_ms = Some(300);
    let mut world = World::new(plan, whole.journal[..=publishing.unwrap()].to_vec()).but(|command, _| {
        if let Command::WriteChain { chain, .. } = command {
            assert!(chain.iter().all(|(_, segments)| segments.iter().all(|s| s.generation == Generation(1))));
        }
        matches!(command, Command::Recheck { .. }).then(|| Err(failure(ErrorKind::Unreachable)))
    });
    world.term = 2;
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
    assert_eq!(world.commands[world.commands.len() - 3..], ["write the chain", "set the TTL", "discard"]);
}

/// A cluster that has served before is fenced again by an abort, and what a straggler wrote there in between belongs to
/// the next segment on it.
#[test]
fn a_kept_cluster_is_fenced_again_and_leaves_no_gap_in_the_chain() {
    let mut keeps = plan();
    keeps.remove_old = false;
    let (_, there) = World::new(keeps.clone(), vec![]).run();
    keeps.to = Colour::Blue;
    keeps.timings.hold_limit_ms = Some(300);
    let turned = |command: &Command| match command {
        Command::Provision { .. } => Some(Ok(Answer::Provisioned {
            old: incarnation(Colour::Green),
            new: incarnation(Colour::Blue),
            made: false,
        })),
        Command::Verify { .. } => Some(Ok(Answer::Verified {
            old: identity(Colour::Green),
            new: identity(Colour::Blue),
            topics: topics(),
            ttls: ttls(60),
        })),
        Command::Recheck { .. } => Some(Ok(Answer::Rechecked {
            old: identity(Colour::Green),
            new: identity(Colour::Blue),
            old_ends: vec![end(0, 40), end(1, 40)],
            // Generation 1 was closed at 100.
            new_ends: vec![end(0, 103), end(1, 100)],
            topics: topics(),
        })),
        _ => None,
    };
    let mut back = World::new(keeps.clone(), there.journal).but(move |command, _| match command {
        Command::Publish { .. } | Command::Reopen { prove: true, .. } => {
            Some(Err(failure(ErrorKind::Unreachable)))
        }
        Command::Discard { kept, .. } => {
            assert_eq!(*kept, Some(true));
            None
        }
        command => turned(command),
    });
    (back.term, back.published) = (2, target(2, Colour::Green));
    let (stop, back) = back.run();
    assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
    let fenced = back.commands.iter().rposition(|command| *command == "raise the fence");
    assert!(fenced > back.commands.iter().rposition(|command| *command == "write the chain"));
    let mut again = World::new(keeps, back.journal).but(move |command, _| turned(command));
    (again.term, again.published) = (3, target(2, Colour::Green));
    let (stop, again) = again.run();
    assert_eq!(stop, Stop::Complete);
    let segments = again.machine.progress().chain.segments(&place(0));
    assert_eq!(segments[0].end, SegmentEnd::Closed { end: Offset(100), by: ClosedBy::Fence });
    assert_eq!((segments[2].generation, segments[2].start), (Generation(3), Offset(100)));
}

/// L18: the schemas' topic is not among those that `"*"` waives.
#[test]
fn schemas_are_waived_by_their_name_alone() {
    let there = ["registry", "_schemas", "orders"]
        .map(|name| TopicDescription { name: name.into(), ..topics()[0].clone() });
    assert_eq!(plan().unwaived_history(&there), ["_schemas".into()]);
    let renamed = Plan { schemas_topic: "registry".into(), ..plan() };
    assert_eq!(renamed.unwaived_history(&there), ["registry".into()]);
    let named = there.iter().map(|topic| topic.name.clone()).collect();
    let named = Plan { waived_history: Topics::Named(named), ..plan() };
    assert_eq!(named.unwaived_history(&there), Vec::<TopicName>::new());
}

/// L18: nobody misses what would have been deleted by the time of the removal anyhow. What is raised while the cutover runs
/// (L11) is no wish to keep it, and what the cluster does not tell has not expired.
#[test]
fn what_has_expired_after_the_soak_need_not_be_waived() {
    let unwaived = |own: &[(&str, &str)], defaults: &[(&str, &str)]| {
        let map = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
            all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let defaults = map(defaults).into_iter().map(|(name, value)| (name, [value].into())).collect();
        let orders = TopicDescription { configs: Some(map(own)), defaults, ..topics()[0].clone() };
        let plan = Plan { waived_history: Topics::none(), ..plan() };
        !plan.unwaived_history(&[orders]).is_empty()
    };
    let soak = plan().timings.soak_ms;
    let (expired, kept) = (soak.to_string(), (soak + 1).to_string());
    assert!(!unwaived(&[("cleanup.policy", "delete"), ("retention.ms", &expired)], &[]));
    assert!(!unwaived(&[("retention.ms", &expired)], &[("cleanup.policy", "delete")]));
    assert!(!unwaived(&[], &[("cleanup.policy", "delete"), ("retention.ms", &expired)]));
    assert!(unwaived(
        &[("retention.ms", &kept)],
        &[("cleanup.policy", "delete"), ("retention.ms", &expired)]
    ));
    assert!(unwaived(
        &[("cleanup.policy", "compact")],
        &[("cleanup.policy", "delete"), ("retention.ms", &expired)]
    ));
    assert!(unwaived(&[("retention.ms", &expired)], &[]), "its policy was not told");
}
