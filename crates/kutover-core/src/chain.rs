//! The chain: what order means across clusters.
//!
//! Each generation owns one segment of every partition: `[start, end)` offsets on one cluster. A partition's history is
//! the list of its segments, oldest first. A reader that wants order reads them in turn, never two at once, and leaves
//! an open one only when it is closed and read to its end.
//!
//! A closed end never moves, and a closed segment never takes records again. Segments on one cluster follow each other
//! without gap or overlap, as long as it is the same log that they stand in: whoever deletes a topic and makes it again
//! begins a new one, and offsets with it ([`Chain::made_anew`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::words::{ClusterId, Colour, Generation, Offset, TopicName, TopicPartition};

/// Why a segment's end is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClosedBy {
    /// Every leader refused records and the log's end stood still.
    Fence,
    /// The absence of a fence was waived; nothing came for the quiet window. Promises no order between clusters.
    Quiet,
    /// A rollback's barrier: the generation after the next goes on from here on the same cluster, and whoever wrote in
    /// between on the other one had left this one before.
    Barrier,
}

/// Where a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum SegmentEnd {
    /// It still takes records.
    Open,
    /// Its end is final.
    Closed {
        /// The first offset that is not part of it.
        end: Offset,
        /// Why it is final.
        by: ClosedBy,
    },
    /// Its cluster is dead, or its topic was deleted there, with the log that it was closed in or before that: what stands in it
    /// past what was read cannot be had.
    Unreadable,
}

/// One generation's part of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Segment {
    /// Whose part this is.
    pub generation: Generation,
    /// The colour it stands on.
    pub colour: Colour,
    /// The cluster it stands on.
    pub cluster_id: ClusterId,
    /// The first offset that can be part of it.
    pub start: Offset,
    /// Where it ends.
    pub end: SegmentEnd,
}

/// Why a change to the chain was refused; the chain is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Generations only grow along a partition's chain.
    #[error("{place}: generation {new} cannot follow generation {last}")]
    NotNewer {
        /// The partition.
        place: TopicPartition,
        /// The newest generation there.
        last: Generation,
        /// The one that was to be opened.
        new: Generation,
    },
    /// No segment of that generation stands in the partition.
    #[error("{place}: no segment of generation {generation}")]
    NoSegment {
        /// The partition.
        place: TopicPartition,
        /// The generation.
        generation: Generation,
    },
    /// A closed end never changes.
    #[error("{place}: generation {generation} is closed at {known}, not at {new}")]
    EndMoved {
        /// The partition.
        place: TopicPartition,
        /// The generation.
        generation: Generation,
        /// The end it has.
        known: Offset,
        /// The end it was to get.
        new: Offset,
    },
    /// A segment cannot end before it starts.
    #[error("{place}: generation {generation} starts at {start} and cannot end at {end}")]
    EndBeforeStart {
        /// The partition.
        place: TopicPartition,
        /// The generation.
        generation: Generation,
        /// Its start.
        start: Offset,
        /// The end it was to get.
        end: Offset,
    },
}

/// The segments of every partition of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chain {
    #[serde(with = "partitions_as_list")]
    partitions: BTreeMap<TopicPartition, Vec<Segment>>,
}

/// JSON objects need text keys, so the map is written as a list of pairs.
mod partitions_as_list {
    use super::{BTreeMap, Deserialize, Segment, Serialize, TopicPartition};

    pub(super) fn serialize<S: serde::Serializer>(
        map: &BTreeMap<TopicPartition, Vec<Segment>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<TopicPartition, Vec<Segment>>, D::Error> {
        Ok(Vec::<(TopicPartition, Vec<Segment>)>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl Chain {
    /// Opens a generation's segment in a partition. Doing it again with the same values changes nothing.
    ///
    /// # Errors
    /// [`ChainError::NotNewer`] if the partition already has this or a newer generation with other values.
    pub fn open(
        &mut self,
        place: TopicPartition,
        generation: Generation,
        colour: Colour,
        cluster_id: ClusterId,
        start: Offset,
    ) -> Result<(), ChainError> {
        let segments = self.partitions.entry(place.clone()).or_default();
        if let Some(last) = segments.last() {
            let same = last.generation == generation && last.cluster_id == cluster_id && last.start == start;
            if same {
                return Ok(());
            }
            if last.generation >= generation {
                return Err(ChainError::NotNewer { place, last: last.generation, new: generation });
            }
        }
        segments.push(Segment { generation, colour, cluster_id, start, end: SegmentEnd::Open });
        Ok(())
    }

    /// Closes a generation's segment in a partition. Doing it again with the same end changes nothing.
    ///
    /// # Errors
    /// The segment is not there, its end is another already, or it would end before it starts.
    pub fn close(
        &mut self,
        place: &TopicPartition,
        generation: Generation,
        end: Offset,
        by: ClosedBy,
    ) -> Result<(), ChainError> {
        let segment = self
            .partitions
            .get_mut(place)
            .and_then(|segments| segments.iter_mut().find(|segment| segment.generation == generation))
            .ok_or_else(|| ChainError::NoSegment { place: place.clone(), generation })?;
        if end < segment.start {
            return Err(ChainError::EndBeforeStart {
                place: place.clone(),
                generation,
                start: segment.start,
                end,
            });
        }
        match segment.end {
            SegmentEnd::Closed { end: known, .. } if known != end => {
                Err(ChainError::EndMoved { place: place.clone(), generation, known, new: end })
            }
            SegmentEnd::Closed { .. } => Ok(()),
            SegmentEnd::Open | SegmentEnd::Unreadable => {
                segment.end = SegmentEnd::Closed { end, by };
                Ok(())
            }
        }
    }

    /// Takes away segments of generations newer than this one: they were opened for a publication that never came, and
    /// hold nothing.
    pub fn forget_after(&mut self, generation: Generation) {
        for segments in self.partitions.values_mut() {
            segments.retain(|segment| segment.generation <= generation);
        }
    }

    /// Gives a generation's open segments up: their cluster is dead. A closed end never changes: whoever reads in order
    /// waits until that cluster answers again.
    pub fn give_up(&mut self, generation: Generation) {
        self.give_up_where(generation, |_| true);
    }

    /// The same of one topic alone, which was deleted there.
    pub fn give_up_topic(&mut self, generation: Generation, topic: &TopicName) {
        self.give_up_where(generation, |place| place.topic == *topic);
    }

    fn give_up_where(&mut self, generation: Generation, wanted: impl Fn(&TopicPartition) -> bool) {
        let places = self.partitions.iter_mut().filter(|(place, _)| wanted(place));
        for segment in places.flat_map(|(_, segments)| segments) {
            if segment.generation == generation && segment.end == SegmentEnd::Open {
                segment.end = SegmentEnd::Unreadable;
            }
        }
    }

    /// Says that a cluster's log of this partition was deleted with its topic, and that the topic was made again with a log that
    /// begins at `start`. What its segments held is gone. An open one goes on in the new log, as producers do. Of a closed one
    /// nothing in the new log is part: it has become unreadable, and the new log is the next segment's.
    pub fn made_anew(&mut self, place: &TopicPartition, cluster_id: &ClusterId, start: Offset) {
        let segments = self.partitions.get_mut(place).into_iter().flatten();
        for segment in segments.filter(|segment| segment.cluster_id == *cluster_id) {
            match segment.end {
                SegmentEnd::Open => segment.start = start,
                SegmentEnd::Closed { .. } | SegmentEnd::Unreadable => segment.end = SegmentEnd::Unreadable,
            }
        }
    }

    /// Every cluster that a segment stands on.
    pub fn clusters(&self) -> std::collections::BTreeSet<&ClusterId> {
        self.partitions.values().flatten().map(|segment| &segment.cluster_id).collect()
    }

    /// Puts one partition's segments in place as they were read from a control topic.
    pub fn replace(&mut self, place: TopicPartition, segments: Vec<Segment>) {
        self.partitions.insert(place, segments);
    }

    /// A partition's segments, oldest first.
    pub fn segments(&self, place: &TopicPartition) -> &[Segment] {
        self.partitions.get(place).map_or(&[], Vec::as_slice)
    }

    /// Every partition with its segments.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &[Segment])> {
        self.partitions.iter().map(|(place, segments)| (place, segments.as_slice()))
    }

    /// The closed ends of a generation in some partitions; `None` while one of its segments there is open or unreadable, or
    /// if it has none there. A topic that was deleted, or that a plan no longer moves, keeps an open segment for good.
    pub fn closed_ends<'a>(
        &self,
        generation: Generation,
        places: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Option<BTreeMap<TopicPartition, Offset>> {
        let mut ends = BTreeMap::new();
        for place in places {
            for segment in self.segments(place).iter().filter(|segment| segment.generation == generation) {
                let SegmentEnd::Closed { end, .. } = segment.end else { return None };
                ends.insert(place.clone(), end);
            }
        }
        (!ends.is_empty()).then_some(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> TopicPartition {
        TopicPartition::new("orders", 3)
    }

    fn opened(generation: u64, start: i64) -> Chain {
        let mut chain = Chain::default();
        chain.open(place(), Generation(generation), Colour::Blue, "b".into(), Offset(start)).unwrap();
        chain
    }

    #[test]
    fn a_closed_end_never_moves() {
        let mut chain = opened(6, 0);
        assert_eq!(chain.closed_ends(Generation(6), [&place()]), None);
        chain.close(&place(), Generation(6), Offset(812), ClosedBy::Fence).unwrap();
        chain.close(&place(), Generation(6), Offset(812), ClosedBy::Fence).unwrap();
        let error = chain.close(&place(), Generation(6), Offset(813), ClosedBy::Fence).unwrap_err();
        assert_eq!(error.to_string(), "topic orders, partition 3: generation 6 is closed at 812, not at 813");
        assert_eq!(chain.closed_ends(Generation(6), [&place()]), Some([(place(), Offset(812))].into()));
    }

    #[test]
    fn generations_only_grow() {
        let mut chain = opened(7, 10);
        chain.open(place(), Generation(7), Colour::Blue, "b".into(), Offset(10)).unwrap();
        assert!(matches!(
            chain.open(place(), Generation(7), Colour::Green, "g".into(), Offset(0)),
            Err(ChainError::NotNewer { .. })
        ));
        chain.open(place(), Generation(8), Colour::Green, "g".into(), Offset(0)).unwrap();
        assert_eq!(chain.segments(&place()).len(), 2);
    }

    /// Opening again is only doing it again if nothing differs.
    #[test]
    fn a_generation_has_one_cluster_and_one_start() {
        let mut chain = opened(7, 10);
        for (generation, cluster, start) in [(7, "g", 10), (7, "b", 11), (6, "b", 10)] {
            let again =
                chain.open(place(), Generation(generation), Colour::Blue, cluster.into(), Offset(start));
            assert!(
                matches!(again, Err(ChainError::NotNewer { .. })),
                "{generation} {cluster} {start}: {again:?}"
            );
        }
        assert_eq!(chain, opened(7, 10));
    }

    /// What was opened for a publication that never came is forgotten, and nothing else.
    #[test]
    fn only_newer_generations_are_forgotten() {
        let mut chain = opened(7, 10);
        chain.open(place(), Generation(8), Colour::Green, "g".into(), Offset(0)).unwrap();
        assert_eq!(chain.clusters(), [&"b".into(), &"g".into()].into());
        chain.forget_after(Generation(7));
        assert_eq!(chain, opened(7, 10));
        assert_eq!(chain.clusters(), [&"b".into()].into());
    }

    /// G5: a dead cluster's open segments are given up; closed ones and other generations' stay as they are.
    #[test]
    fn only_open_segments_of_the_dead_are_given_up() {
        let other = TopicPartition::new("orders", 4);
        let mut chain = opened(7, 10);
        chain.open(other.clone(), Generation(7), Colour::Blue, "b".into(), Offset(0)).unwrap();
        chain.close(&other, Generation(7), Offset(5), ClosedBy::Fence).unwrap();
        chain.open(other.clone(), Generation(8), Colour::Green, "g".into(), Offset(0)).unwrap();
        chain.give_up(Generation(7));
        let ends = |place: &TopicPartition| -> Vec<SegmentEnd> {
            chain.segments(place).iter().map(|segment| segment.end).collect()
        };
        assert_eq!(ends(&place()), [SegmentEnd::Unreadable]);
        let closed = SegmentEnd::Closed { end: Offset(5), by: ClosedBy::Fence };
        assert_eq!(ends(&other), [closed, SegmentEnd::Open]);
        assert_eq!(chain.closed_ends(Generation(7), [&place(), &other]), None, "one of them is unreadable");
        assert_eq!(chain.closed_ends(Generation(7), [&other]), Some([(other.clone(), Offset(5))].into()));
        assert_eq!(chain.closed_ends(Generation(9), [&place(), &other]), None, "there is none");
    }

    /// A log that was made anew holds nothing of a closed segment, whose end moves nowhere; an open one goes on in it. What
    /// stands on other clusters and in other partitions is as it was.
    #[test]
    fn a_closed_segment_does_not_go_on_in_a_log_made_anew() {
        let mut chain = opened(7, 10);
        chain.close(&place(), Generation(7), Offset(812), ClosedBy::Fence).unwrap();
        chain.open(place(), Generation(8), Colour::Green, "g".into(), Offset(40)).unwrap();
        chain.made_anew(&place(), &"b".into(), Offset(3));
        let [left, newest] = chain.segments(&place()) else { panic!("{chain:?}") };
        assert_eq!((left.start, left.end), (Offset(10), SegmentEnd::Unreadable));
        assert_eq!((newest.start, newest.end), (Offset(40), SegmentEnd::Open));
        let before = chain.clone();
        chain.made_anew(&place(), &"elsewhere".into(), Offset(5));
        chain.made_anew(&TopicPartition::new("orders", 4), &"g".into(), Offset(5));
        assert_eq!(chain, before);
        chain.made_anew(&place(), &"g".into(), Offset(0));
        chain.close(&place(), Generation(8), Offset(12), ClosedBy::Fence).expect("it goes on in the new log");
        assert_eq!(chain.closed_ends(Generation(8), [&place()]), Some([(place(), Offset(12))].into()));
    }

    /// The ends of a generation are those of its own segments, whatever comes after.
    #[test]
    fn closed_ends_are_a_generations_own() {
        let mut chain = opened(7, 10);
        chain
            .close(&place(), Generation(7), Offset(10), ClosedBy::Fence)
            .expect("an empty segment ends where it starts");
        chain.open(place(), Generation(8), Colour::Green, "g".into(), Offset(0)).unwrap();
        assert_eq!(chain.closed_ends(Generation(7), [&place()]), Some([(place(), Offset(10))].into()));
        assert_eq!(chain.closed_ends(Generation(8), [&place()]), None);
        chain.close(&place(), Generation(8), Offset(3), ClosedBy::Fence).unwrap();
        assert_eq!(chain.closed_ends(Generation(8), [&place()]), Some([(place(), Offset(3))].into()));
    }

    #[test]
    fn an_end_before_the_start_is_refused() {
        let mut chain = opened(7, 10);
        let error = chain.close(&place(), Generation(7), Offset(9), ClosedBy::Fence).unwrap_err();
        assert!(matches!(error, ChainError::EndBeforeStart { .. }));
    }

    #[test]
    fn a_chain_survives_json() {
        let chain = opened(7, 10);
        let json = serde_json::to_string(&chain).unwrap();
        assert_eq!(serde_json::from_str::<Chain>(&json).unwrap(), chain);
    }
}
