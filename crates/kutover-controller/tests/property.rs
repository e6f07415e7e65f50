//! Whole cutovers over arbitrary interleavings of faults, killed controllers, rollbacks and new attempts: whatever
//! happens, a cluster serves, the chain has neither gap nor overlap, and nothing that was written is in no segment.
//!
//! A failure prints its shrunk operations; put them into a test of their own that says which promise they broke.

mod common;

use std::collections::BTreeMap;

use common::{CONFIG, controller, group, place, record, world};
use kutover_controller::driver::{DriveError, Finished, Operator};
use kutover_core::chain::{Chain, SegmentEnd};
use kutover_core::cutover::{Event, StateName, Stop};
use kutover_core::words::{ClusterId, Colour, Offset};
use kutover_memory::{Fault, MemoryWorld, StoredRecord};
use proptest::prelude::*;
use tokio::sync::mpsc;

/// One controller's life.
#[derive(Clone, Debug)]
struct Life {
    /// Calls from its start on that go wrong, and how.
    faults: Vec<(usize, usize)>,
    /// It is killed in this call, before or after it took effect.
    killed: Option<(usize, bool)>,
    /// The operator goes back when it enters this state (by its place in [`StateName::FORWARD`]).
    back: Option<usize>,
    /// It is told to set out anew if the last cutover was rolled back.
    again: bool,
    /// Right before the operator goes back, somebody deletes the topic on blue and makes it again.
    made_anew: bool,
}

fn life() -> impl Strategy<Value = Life> {
    (
        prop::collection::vec((0..140_usize, 0..6_usize), 0..4),
        prop::option::of((0..140_usize, any::<bool>())),
        prop::option::weighted(0.4, 5..12_usize),
        any::<bool>(),
    )
        .prop_map(|(faults, killed, back, again)| Life { faults, killed, back, again, made_anew: false })
}

/// A life in which blue's topic is deleted and made anew, and the operator goes back, while blue may still be gone back to.
fn over_a_topic_made_anew() -> impl Strategy<Value = Life> {
    let back = |at| Life { faults: vec![], killed: None, back: Some(at), again: true, made_anew: true };
    (6..10_usize).prop_map(back)
}

/// Lets one controller live. Producers write where the record says, groups read all there is, whenever it says anything.
async fn live(world: &MemoryWorld, life: &Life, written: &mut u64) -> Option<Result<Finished, DriveError>> {
    let first = world.faults.calls().len();
    for (after, kind) in &life.faults {
        world.faults.at(first + after, Fault::all()[*kind].clone());
    }
    if let Some((after, done)) = life.killed {
        world.faults.at(first + after, if done { Fault::HangDone } else { Fault::Hang });
    }
    let (operator, words) = mpsc::unbounded_channel();
    let back = life.back.map(|at| StateName::FORWARD[at]);
    let mut one = controller(world, CONFIG);
    if life.again {
        one = one.again();
    }
    let running = one.run(words, |event| {
        if matches!(event, Event::Entered { state } if Some(state) == back) {
            if life.made_anew {
                *written -= delete(world);
            }
            operator.send(Operator::RollBack).unwrap();
        }
        write_and_read(world, written);
    });
    match life.killed {
        None => Some(running.await),
        Some((after, _)) => tokio::select! {
            finished = running => Some(finished),
            () = common::reached(world, first + after) => None,
        },
    }
}

/// Deletes the topic on blue and makes it again. Gives how many of the records that are counted went with it.
fn delete(world: &MemoryWorld) -> u64 {
    let Some(blue) = world.cluster(Colour::Blue) else { return 0 };
    let logs = [place(0), place(1)].map(|place| blue.log(&place, Offset(0)));
    blue.recreate_topic("orders");
    logs.iter().flatten().filter(|(_, record)| is_counted(record)).count() as u64
}

fn is_counted(record: &StoredRecord) -> bool {
    record.payload.as_deref().is_some_and(|text| text.starts_with(b"more "))
}

/// A producer that is where the owner record says; a refusal is no acceptance.
fn write_and_read(world: &MemoryWorld, written: &mut u64) {
    let owner = world.dns.published(&"kafka.orders.test".into()).owner;
    let active = owner.map_or(Colour::Blue, |owner| owner.target.colour);
    if let Some(cluster) = world.cluster(active)
        && cluster.produce(&place((*written % 2) as i32), record(&format!("more {written}"))).is_ok()
    {
        *written += 1;
    }
    for colour in Colour::BOTH {
        if let Some(cluster) = world.cluster(colour) {
            cluster.read_all(&group());
        }
    }
}

/// Segments on one cluster follow each other without gap or overlap, and only the newest is open. Where the topic was made anew
/// on blue, what was closed in its old log is unreadable, and whatever the new log holds is in a segment.
fn judge_chain(chain: &Chain, made_anew: bool) -> Result<(), TestCaseError> {
    for (place, segments) in chain.iter() {
        let mut ends: BTreeMap<&ClusterId, i64> = BTreeMap::new();
        prop_assert!(segments.is_sorted_by_key(|segment| segment.generation), "{place}: {segments:?}");
        for (at, segment) in segments.iter().enumerate() {
            let in_the_old_log =
                made_anew && segment.colour == Colour::Blue && segment.end == SegmentEnd::Unreadable;
            if in_the_old_log {
                ends.insert(&segment.cluster_id, 0);
                continue;
            }
            if let Some(end) = ends.get(&segment.cluster_id) {
                prop_assert_eq!(segment.start.0, *end, "{}: a gap or an overlap in {:?}", place, segments);
            }
            match segment.end {
                SegmentEnd::Closed { end, .. } => {
                    ends.insert(&segment.cluster_id, end.0);
                }
                _ => {
                    prop_assert_eq!(at, segments.len() - 1, "{}: open in the middle of {:?}", place, segments)
                }
            }
        }
    }
    Ok(())
}

/// Every record that was taken stands in a log, and on a cluster that is left it is in a segment: otherwise no reader of
/// the chain would be handed it. A segment that was given up has no end that could be compared.
fn judge_written(world: &MemoryWorld, chain: &Chain, written: u64) -> Result<(), TestCaseError> {
    let mut found = 0;
    for (_, cluster) in world.provisioner.ever() {
        let stands = Colour::BOTH.iter().any(|colour| {
            world.cluster(*colour).is_some_and(|standing| standing.cluster_id() == cluster.cluster_id())
        });
        for partition in 0..2 {
            let place = place(partition);
            let segments = chain.segments(&place);
            let holds = |offset: Offset| {
                let on_it = segments.iter().filter(|segment| segment.cluster_id == cluster.cluster_id());
                on_it.into_iter().any(|segment| match segment.end {
                    SegmentEnd::Closed { end, .. } => segment.start <= offset && offset < end,
                    SegmentEnd::Open | SegmentEnd::Unreadable => segment.start <= offset,
                })
            };
            for (offset, stored) in cluster.log(&place, Offset(0)) {
                found += u64::from(is_counted(&stored));
                let inside = !stands || segments.is_empty() || holds(offset);
                prop_assert!(inside, "{} @{} is in no segment: {:?}", place, offset, segments);
            }
        }
    }
    prop_assert_eq!(found, written, "what was taken stands in no log");
    Ok(())
}

async fn judge(lives: &[Life]) -> Result<(), TestCaseError> {
    let world = world().await;
    let mut written = 0;
    for life in lives {
        if life.made_anew {
            // One that an earlier life has not come to would end this one over its journal, and the operator's word with it.
            world.faults.clear();
        }
        let _ = live(&world, life, &mut written).await;
        let owner = world.dns.published(&"kafka.orders.test".into()).owner;
        let active = owner.map_or(Colour::Blue, |owner| owner.target.colour);
        prop_assert!(world.cluster(active).is_some(), "the active cluster is gone");
    }
    // The faults end: whoever comes next brings it to an end.
    world.faults.clear();
    let calm = Life { faults: vec![], killed: None, back: None, again: false, made_anew: false };
    let mut last = live(&world, &calm, &mut written).await;
    if matches!(last, Some(Err(DriveError::Journal(_)))) {
        last = live(&world, &calm, &mut written).await;
    }
    let finished = last.expect("nobody killed it").map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert!(
        matches!(finished.stop, Stop::Complete | Stop::RolledBack(_) | Stop::Aborted(_)),
        "{:?}",
        finished.stop
    );
    judge_chain(&finished.progress.chain, lives.iter().any(|life| life.made_anew))?;
    judge_written(&world, &finished.progress.chain, written)?;
    let owner = world.dns.published(&"kafka.orders.test".into()).owner.unwrap();
    let active = world.cluster(owner.target.colour).expect("the active cluster");
    prop_assert!(active.fenced().is_empty() && !active.is_isolated(), "the active cluster is shut");
    prop_assert_eq!(active.cluster_id(), owner.target.cluster_id);
    prop_assert_eq!((owner.intent, owner.removal), (None, None));
    let generations = world.dns.history().into_iter().filter_map(|(_, p)| Some(p.owner?.target.generation));
    prop_assert!(generations.is_sorted(), "a generation went back");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_cluster_serves_and_the_chain_is_whole(lives in prop::collection::vec(life(), 1..5)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(judge(&lives))?;
    }

    #[test]
    fn a_topic_that_was_made_anew_bars_no_way_back(
        mut lives in prop::collection::vec(life(), 0..3),
        last in over_a_topic_made_anew(),
    ) {
        lives.push(last);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(judge(&lives))?;
    }
}
