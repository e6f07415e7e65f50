//! A rollback's chain: the closing generation ends where the cluster that is left stands, the opening one starts where the
//! other does. Each half is decided on by itself, so that both are known to be possible before anybody is kept from writing.

use std::collections::BTreeMap;
use std::fmt;

use super::decide::close_segments;
use super::{Barrier, WayBack};
use crate::chain::{Chain, ChainError, ClosedBy, SegmentEnd};
use crate::owner::Target;
use crate::ports::PartitionEnd;
use crate::words::{Colour, Generation, Offset, TopicName, TopicPartition};

/// Why the cluster that a rollback leaves cannot be closed: partitions in which the closing generation has segments are gone. Those
/// that came to the other cluster after the switch were never there.
pub(super) fn gone(
    chain: &Chain,
    closing: Generation,
    known: &BTreeMap<TopicName, i32>,
    now: &BTreeMap<TopicName, i32>,
    colour: Colour,
) -> Option<String> {
    let has_segment = |topic: &TopicName, partition: i32| {
        let place = TopicPartition::new(topic.clone(), partition);
        chain.segments(&place).iter().any(|segment| segment.generation == closing)
    };
    known.iter().find_map(|(topic, count)| {
        let stood = (0..*count).filter(|partition| has_segment(topic, *partition)).count();
        let there = now.get(topic).copied().unwrap_or(0);
        (usize::try_from(there).unwrap_or(0) < stood).then(|| {
            format!(
                "topic {topic} does not have its {stood} partitions on {colour} any more: make them again there, empty, so \
                 that they can be closed"
            )
        })
    })
}

/// A log that ends before its segment does, or before that even starts: its topic was deleted and made anew. The same is seen
/// where Kafka itself has lost the end of a log (an unclean election).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MadeAnew {
    place: TopicPartition,
    colour: Colour,
    generation: Generation,
    reached: Offset,
    found: Offset,
}

impl fmt::Display for MadeAnew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, colour, generation, reached, found } = self;
        write!(
            f,
            "{place} (generation {generation} had come to {reached} on {colour}, and its log ends at {found})"
        )
    }
}

/// The chain, where some of these logs were made anew since a generation's segments stood in them.
fn made_anew(chain: &Chain, generation: Generation, ends: &[PartitionEnd]) -> (Chain, Vec<MadeAnew>) {
    let mut chain = chain.clone();
    let mut found = Vec::new();
    for end in ends {
        let segment = chain.segments(&end.place).iter().find(|segment| segment.generation == generation);
        let Some(segment) = segment else { continue };
        let reached = match segment.end {
            SegmentEnd::Closed { end, .. } => end,
            SegmentEnd::Open | SegmentEnd::Unreadable => segment.start,
        };
        if end.high_watermark < reached {
            let (colour, cluster_id) = (segment.colour, segment.cluster_id.clone());
            chain.made_anew(&end.place, &cluster_id, end.start);
            let (place, log_end) = (end.place.clone(), end.high_watermark);
            found.push(MadeAnew { place, colour, generation, reached, found: log_end });
        }
    }
    (chain, found)
}

/// Where the next segment starts on the cluster that is gone back to, after the one that was left there.
fn start(chain: &Chain, left: Generation, end: &PartitionEnd) -> Offset {
    let mut segments = chain.segments(&end.place).iter();
    match segments.find(|segment| segment.generation == left).map(|segment| segment.end) {
        // A partition that is new here, or a log: all of it is to be read.
        None | Some(SegmentEnd::Unreadable) => end.start,
        Some(SegmentEnd::Closed { end: closed, .. }) => closed,
        Some(SegmentEnd::Open) => end.high_watermark,
    }
}

/// The same for all of these logs.
pub(super) fn starts(
    chain: &Chain,
    left: Generation,
    ends: &[PartitionEnd],
) -> Vec<(TopicPartition, Offset)> {
    let (chain, _) = made_anew(chain, left, ends);
    ends.iter().map(|end| (end.place.clone(), start(&chain, left, end))).collect()
}

/// A chain with what a step of a rollback has made of it, the partition counts as they are closed, and the logs that were made
/// anew.
pub(super) type Separated = (Chain, BTreeMap<TopicName, i32>, Vec<MadeAnew>);

/// Closes the segments of the cluster that a rollback leaves, at these ends.
pub(super) fn close(
    chain: &Chain,
    way: &WayBack,
    ends: &[PartitionEnd],
    by: ClosedBy,
) -> Result<Separated, String> {
    let verified = &way.redirected.prepared.verified;
    let (chain, anew) = made_anew(chain, way.closing(), ends);
    let (chain, topics) = close_segments(&chain, way.closing(), verified, &verified.new, ends, by)?;
    Ok((chain, topics, anew))
}

/// Opens the segments that a rollback leads to where their cluster stands. What was open there before ends at the same
/// offset.
pub(super) fn open(
    chain: &Chain,
    way: &WayBack,
    topics: &BTreeMap<TopicName, i32>,
    ends: &[PartitionEnd],
) -> Result<(Chain, Vec<MadeAnew>), String> {
    let refuse = |error: ChainError| error.to_string();
    let left = way.redirected.left;
    let (mut chain, anew) = made_anew(chain, left, ends);
    for end in ends {
        let start = start(&chain, left, end);
        let before = chain.segments(&end.place).iter().find(|segment| segment.generation == left);
        if before.is_some_and(|segment| segment.end == SegmentEnd::Open) {
            chain.close(&end.place, left, start, ClosedBy::Barrier).map_err(refuse)?;
        }
        let Target { generation, colour, cluster_id, .. } = way.target.clone();
        chain.open(end.place.clone(), generation, colour, cluster_id, start).map_err(refuse)?;
    }
    let missing = topics.iter().find_map(|(topic, count)| {
        let place = TopicPartition { topic: topic.clone(), partition: count - 1 };
        (!ends.iter().any(|end| end.place == place)).then_some(place)
    });
    match missing {
        Some(place) => Err(format!("{place}: its end was not answered by the cluster to go back to")),
        None => Ok((chain, anew)),
    }
}

/// A rollback's chain: the closing generation ends where the fence holds it (or is given up with its cluster), the
/// opening one starts where its cluster stands.
pub(super) fn separate(
    chain: &Chain,
    way: &WayBack,
    away: &[PartitionEnd],
    home: &[PartitionEnd],
) -> Result<Separated, String> {
    let known = || way.redirected.prepared.verified.topics.clone();
    let (mut chain, topics, mut anew) = match way.barrier {
        Barrier::Fence => close(chain, way, away, ClosedBy::Fence)?,
        Barrier::Quiet | Barrier::Lost => (chain.clone(), known(), Vec::new()),
    };
    if way.barrier == Barrier::Lost {
        chain.give_up(way.closing());
    }
    let (chain, at_home) = open(&chain, way, &topics, home)?;
    anew.extend(at_home);
    Ok((chain, topics, anew))
}
