//! What is remembered of tails in which nobody finds data: retention may take the markers before the last proof.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::words::{GroupId, Offset, TopicPartition};

/// One group on one partition.
type Pair = (GroupId, TopicPartition);

/// The commits of groups that had nothing left to read up to a closed end although they stood before it. What comes between
/// the two can be deleted, and nothing is lost to a group that stands there still or has come further.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<(Pair, Offset)>", into = "Vec<(Pair, Offset)>")]
pub struct ReadOut(BTreeMap<Pair, Offset>);

impl ReadOut {
    /// From this commit on nothing is left for the group up to the closed end.
    pub(super) fn note(&mut self, group: &GroupId, place: &TopicPartition, committed: Offset) {
        self.0.insert((group.clone(), place.clone()), committed);
    }

    /// Takes in what is known besides.
    pub fn learn(&mut self, more: ReadOut) {
        self.0.extend(more.0);
    }

    /// Whether a group with this commit had nothing left to read.
    pub(super) fn knows(&self, group: &GroupId, place: &TopicPartition, committed: Offset) -> bool {
        self.0.get(&(group.clone(), place.clone())).is_some_and(|read_out| committed >= *read_out)
    }
}

// JSON objects need text keys.
impl From<Vec<(Pair, Offset)>> for ReadOut {
    fn from(pairs: Vec<(Pair, Offset)>) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl From<ReadOut> for Vec<(Pair, Offset)> {
    fn from(known: ReadOut) -> Self {
        known.0.into_iter().collect()
    }
}
