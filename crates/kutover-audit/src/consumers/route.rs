//! The way through the clusters that a reader takes.

use std::collections::BTreeMap;

use kutover_core::chain::SegmentEnd;
use kutover_core::messages::ControlView;
use kutover_core::words::{Colour, Generation};

use super::GroupBook;
use crate::traffic::TOPIC;

/// One generation's segments of the topic: read as a whole, before the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leg {
    /// Whose segments they are.
    pub generation: Generation,
    /// The cluster they stand on.
    pub colour: Colour,
    /// By partition, where they start and end; `None` while one of them is open.
    pub ends: Option<BTreeMap<i32, (i64, i64)>>,
}

impl Leg {
    /// Whether a group has read all of it.
    pub(crate) fn is_read(&self, book: &GroupBook) -> bool {
        let read = |partition: &i32, end: i64| {
            book.positions.get(&(self.colour, *partition)).is_some_and(|next| *next >= end)
        };
        self.ends.as_ref().is_some_and(|ends| {
            ends.iter().all(|(partition, (start, end))| end <= start || read(partition, *end))
        })
    }

    /// Whether a record belongs to a later leg on the same cluster.
    pub(crate) fn is_past(&self, partition: i32, offset: i64) -> bool {
        let end = self.ends.as_ref().and_then(|ends| ends.get(&partition));
        end.is_some_and(|(_, end)| offset >= *end)
    }
}

/// The legs that a control topic knows of, oldest first. Segments that were given up count as read.
pub(crate) fn route(view: &ControlView, partitions: u16) -> Vec<Leg> {
    let mut legs: BTreeMap<Generation, Leg> = BTreeMap::new();
    let mut closed: BTreeMap<Generation, BTreeMap<i32, (i64, i64)>> = BTreeMap::new();
    for (place, segments) in view.chain.iter().filter(|(place, _)| place.topic.as_str() == TOPIC) {
        for segment in segments {
            let generation = segment.generation;
            legs.entry(generation).or_insert(Leg { generation, colour: segment.colour, ends: None });
            let end = match segment.end {
                SegmentEnd::Open => continue,
                SegmentEnd::Closed { end, .. } => end,
                SegmentEnd::Unreadable => segment.start,
            };
            closed.entry(generation).or_default().insert(place.partition, (segment.start.0, end.0));
        }
    }
    for (generation, ends) in closed {
        if let Some(leg) = legs.get_mut(&generation)
            && ends.len() == usize::from(partitions)
        {
            leg.ends = Some(ends);
        }
    }
    legs.into_values().collect()
}

#[cfg(test)]
mod tests {
    use kutover_core::chain::ClosedBy;
    use kutover_core::words::{Offset, TopicPartition};

    use super::*;

    /// Blue, green, blue again; of the first leg one partition is closed, or both are.
    fn view(closed: i32) -> ControlView {
        let mut view = ControlView::default();
        for partition in 0..2 {
            let place = TopicPartition::new(TOPIC, partition);
            let chain = &mut view.chain;
            chain.open(place.clone(), Generation(1), Colour::Blue, "b".into(), Offset(0)).unwrap();
            if partition < closed {
                chain.close(&place, Generation(1), Offset(9), ClosedBy::Fence).unwrap();
            }
            chain.open(place.clone(), Generation(2), Colour::Green, "g".into(), Offset(3)).unwrap();
            chain.close(&place, Generation(2), Offset(3), ClosedBy::Fence).unwrap();
            chain.open(place, Generation(3), Colour::Blue, "b".into(), Offset(9)).unwrap();
        }
        view
    }

    #[test]
    fn legs_come_in_turn_and_end_when_every_partition_does() {
        assert_eq!(route(&ControlView::default(), 2), []);
        let legs = route(&view(1), 2);
        assert_eq!(
            legs.iter().map(|leg| leg.colour).collect::<Vec<_>>(),
            [Colour::Blue, Colour::Green, Colour::Blue]
        );
        assert_eq!(legs[0].ends, None, "one partition is open");
        assert_eq!(route(&view(2), 3)[0].ends, None, "a partition is missing");
        let legs = route(&view(2), 2);
        assert_eq!(legs[0].ends, Some([(0, (0, 9)), (1, (0, 9))].into()));
        assert!(legs[0].is_past(1, 9) && !legs[0].is_past(1, 8) && !legs[2].is_past(1, 9));
    }

    #[test]
    fn a_leg_is_read_when_every_partition_is_and_empty_ones_are_at_once() {
        let legs = route(&view(2), 2);
        let mut book = GroupBook::default();
        assert!(legs[1].is_read(&book), "nothing is in it");
        book.reached(Colour::Blue, 0, 9);
        book.reached(Colour::Green, 1, 9);
        assert!(!legs[0].is_read(&book), "another cluster's offsets say nothing");
        book.reached(Colour::Blue, 1, 9);
        assert!(legs[0].is_read(&book) && !legs[2].is_read(&book));
    }
}
