//! The way back over topics that somebody has worked on meanwhile: nobody is kept from writing before it is known that both
//! clusters can be told apart, and no deleted topic bars it.

use std::cell::Cell;

use super::fixtures::*;
use super::rollback_tests::number;
use super::*;
use crate::chain::{ClosedBy, Segment, SegmentEnd};
use crate::drain::{GroupProgress, LogRange, Tail};
use crate::ports::{FenceKind, FenceProof, PartitionEnd, TopicDescription};
use crate::words::{Colour, Generation, Offset, TopicPartition};

fn ends(of: &[PartitionEnd]) -> Option<Result<Answer, ProviderError>> {
    Some(Ok(Answer::Ends { ends: of.to_vec() }))
}

fn proven(ends: Vec<PartitionEnd>) -> Option<Result<Answer, ProviderError>> {
    let proof = FenceProof { kind: FenceKind::Acl, topics: Default::default(), ends };
    Some(Ok(Answer::FenceProven { proof }))
}

fn segments(world: &World<'_>, place: &TopicPartition) -> Vec<Segment> {
    world.machine.progress().chain.segments(place).to_vec()
}

fn said_anew(world: &World<'_>) -> Vec<String> {
    let notes = world.events.iter().filter_map(|event| match event {
        Event::Note { text } if text.starts_with("deleted and made anew") => Some(text.clone()),
        _ => None,
    });
    notes.collect()
}

/// G5 and G7: a topic on blue was deleted and made again after it was closed at 100. That held behind green's fence, for ever,
/// and nobody could write. What was closed has died with its topic; whatever the new log holds is the next segment's.
#[test]
fn a_topic_made_anew_at_home_bars_no_way_back() {
    let mut starts = Vec::new();
    let mut world = World::new(plan(), vec![]).but(|command, _| match command {
        Command::ReadEnds { old, .. } if old.colour == Colour::Blue => ends(&[end(0, 3), end(1, 100)]),
        Command::FreshenStarts { starts: of } => {
            starts.extend(of.clone());
            None
        }
        _ => None,
    });
    world.rollback = Some(number("observe the drain"));
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    let [left, green, next] = &segments(&world, &place(0))[..] else { panic!("three segments") };
    assert_eq!(left.end, SegmentEnd::Unreadable);
    assert_eq!(green.end, SegmentEnd::Closed { end: Offset(100), by: ClosedBy::Fence });
    assert_eq!((next.generation, next.start, next.end), (Generation(3), Offset(0), SegmentEnd::Open));
    let other = segments(&world, &place(1));
    assert_eq!(other[0].end, SegmentEnd::Closed { end: Offset(100), by: ClosedBy::Fence });
    assert_eq!(other[2].start, Offset(100));
    let [said] = &said_anew(&world)[..] else { panic!("{:?}", world.events) };
    let named = "topic orders, partition 0 (generation 1 had come to 100 on blue, and its log ends at 3)";
    assert!(said.contains(named), "{said}");
    drop(world);
    assert_eq!(starts[0].at, [(place(0), Offset(0)), (place(1), Offset(100))], "their commits went with it");
}

/// An open segment goes on in the new log, where producers that have not moved yet write: it ends at the barrier.
#[test]
fn an_open_segment_at_home_goes_on_in_a_log_made_anew() {
    let mut plan = plan();
    plan.timings.converge_ms = 20_000;
    let mut world = World::new(plan, vec![]).but(|command, _| match command {
        Command::Recheck { .. } => {
            let Answer::Rechecked { old, new, new_ends, topics, .. } =
                answer(command, 1, &target(1, Colour::Blue))
            else {
                return None;
            };
            let trimmed = PartitionEnd { start: Offset(50), ..end(0, 90) };
            let old_ends = vec![trimmed, end(1, 95)];
            Some(Ok(Answer::Rechecked { old, new, old_ends, new_ends, topics }))
        }
        Command::ReadMembers { .. } => {
            let waiting = producer(1, &target(1, Colour::Blue));
            Some(Ok(Answer::Members { by_cluster: vec![vec![waiting], vec![]] }))
        }
        Command::ReadEnds { old, .. } if old.colour == Colour::Blue => ends(&[end(0, 12), end(1, 100)]),
        _ => None,
    });
    world.rollback = Some(number("announce the target") + 1);
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    let found = segments(&world, &place(0));
    let barrier = SegmentEnd::Closed { end: Offset(12), by: ClosedBy::Barrier };
    assert_eq!((found[0].start, found[0].end, found[2].start), (Offset(0), barrier, Offset(12)));
    assert_eq!(said_anew(&world).len(), 1);
}

/// The same on the cluster that is left, which had served before: its segment starts at 300. With a fence or without.
#[test]
fn a_topic_made_anew_on_the_cluster_that_is_left_is_closed_in_its_new_log() {
    for (fence, by) in [(FencePolicy::Required, ClosedBy::Fence), (FencePolicy::Waived, ClosedBy::Quiet)] {
        let mut world = World::new(Plan { fence, ..plan() }, vec![]).but(|command, _| match command {
            Command::Recheck { .. } => {
                let Answer::Rechecked { old, new, old_ends, topics, .. } =
                    answer(command, 1, &target(1, Colour::Blue))
                else {
                    return None;
                };
                let new_ends = vec![end(0, 300), end(1, 0)];
                Some(Ok(Answer::Rechecked { old, new, old_ends, new_ends, topics }))
            }
            Command::ReadEnds { old, .. } if old.colour == Colour::Green => ends(&[end(0, 12), end(1, 100)]),
            Command::ProveFence { old, .. } if old.colour == Colour::Green => {
                proven(vec![end(0, 12), end(1, 100)])
            }
            Command::ObserveDrain { old, .. } if old.colour == Colour::Green => {
                let mut seen = drained(100);
                seen.logs.get_mut(&place(0)).unwrap().as_mut().unwrap().end = Offset(12);
                Some(Ok(Answer::Drain { seen, listed: Default::default() }))
            }
            _ => None,
        });
        world.rollback = Some(number("announce the target"));
        let (stop, world) = world.run();
        assert!(matches!(stop, Stop::RolledBack(_)), "{fence:?}: {stop:?}");
        let left = &segments(&world, &place(0))[1];
        assert_eq!((left.start, left.end), (Offset(0), SegmentEnd::Closed { end: Offset(12), by }));
        assert_eq!(said_anew(&world).len(), 1, "{fence:?}");
    }
}

/// A cluster is not shut before it is known that it can be closed, and that the other can be opened.
#[test]
fn green_goes_on_where_an_end_is_missing() {
    for silent in Colour::BOTH {
        let begun = number("observe the drain");
        let mut plan = plan();
        plan.timings.hold_limit_ms = Some(500);
        let mut world = World::new(plan, vec![]).but(move |command, _| match command {
            Command::ReadEnds { old, .. } if old.colour == silent => ends(&[end(0, 100)]),
            _ => None,
        });
        world.rollback = Some(begun);
        let (stop, world) = world.run();
        assert!(
            matches!(&stop, Stop::Held(why) if why.contains("partition 1: its end was not answered")),
            "{stop:?}"
        );
        let after = &world.commands[begun + 1..];
        assert!(!after.contains(&"write the intent") && !after.contains(&"raise the fence"), "{after:?}");
    }
}

/// Green's topic grew between the looks and its fence: blue gets the partition too, although nobody can write meanwhile.
#[test]
fn a_topic_that_grows_before_the_fence_stands_goes_back_too() {
    let matched = Cell::new(0);
    let count = || if matched.get() < 2 { 2 } else { 3 };
    let of = |count: usize| [end(0, 100), end(1, 100), end(2, 0)][..count].to_vec();
    let mut world = World::new(plan(), vec![]).but(|command, _| match command {
        Command::MatchTopics { strict: false, .. } => {
            matched.set(matched.get() + 1);
            let there = vec![TopicDescription { partitions: count() as i32, ..topics()[0].clone() }];
            Some(Ok(Answer::TopicsMatched { notes: vec![], there }))
        }
        Command::ReadEnds { .. } => ends(&of(count())),
        Command::ProveFence { old, .. } if old.colour == Colour::Green => proven(of(3)),
        Command::ObserveDrain { old, .. } if old.colour == Colour::Green => {
            let mut seen = drained(100);
            seen.logs.insert(place(2), Ok(LogRange { start: Offset(0), end: Offset(0) }));
            let nothing = GroupProgress { committed: None, tail: Tail::NotRead };
            seen.progress.insert(("billing".into(), place(2)), Ok(nothing));
            Some(Ok(Answer::Drain { seen, listed: Default::default() }))
        }
        _ => None,
    });
    world.rollback = Some(number("observe the drain"));
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    let generations: Vec<u64> =
        segments(&world, &place(2)).iter().map(|segment| segment.generation.0).collect();
    assert_eq!(generations, [2, 3], "closed on green, opened on blue");
    assert_eq!(matched.get(), 3);
}

/// What was added to blue after the switch was never on green, and is no reason to stay there.
#[test]
fn a_partition_that_was_added_at_home_after_the_switch_bars_no_way_back() {
    let of_blue = || vec![end(0, 100), end(1, 100), end(2, 7)];
    let mut world = World::new(plan(), vec![]).but(|command, _| match command {
        Command::ProveFence { old, .. } if old.colour == Colour::Blue => proven(of_blue()),
        Command::ReadEnds { old, .. } if old.colour == Colour::Blue => ends(&of_blue()),
        _ => None,
    });
    world.rollback = Some(number("prove the fence"));
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}: {:?}", world.holds());
    assert_eq!(world.holds(), Vec::<&str>::new());
    let found: Vec<(u64, i64)> =
        segments(&world, &place(2)).iter().map(|segment| (segment.generation.0, segment.start.0)).collect();
    assert_eq!(found, [(1, 0), (3, 7)]);
}

/// Between the first endpoint and the last one nobody can tell yet what there is to go back from: a person is told so.
#[test]
fn a_word_in_the_middle_of_the_publication_is_answered() {
    let before = number("publish the target") - 1;
    let noted = |world: &World<'_>, text: &str| {
        assert!(world.events.contains(&Event::Note { text: text.into() }), "{:?}", world.events);
    };
    let mut world = World::new(plan(), vec![]);
    world.rollback = Some(before);
    let (stop, world) = world.run();
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    noted(
        &world,
        "the endpoints are being switched, and some may be already: the rollback waits until all are",
    );
    let mut world = World::new(plan(), vec![]);
    world.abort = Some(before);
    let (stop, world) = world.run();
    assert_eq!(stop, Stop::Complete);
    noted(
        &world,
        "the endpoints are being switched, and some may be already, which cannot be aborted; it goes on, and `rollback` leads \
         back once all are",
    );
}
