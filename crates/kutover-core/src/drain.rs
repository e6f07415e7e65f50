//! The drain proof: a pure function of what was observed. Unknown is never zero (L9).
//!
//! A group has drained a partition when nothing that is data lies between what it has committed and the partition's
//! end. Three things make that less plain than a subtraction: transaction markers and aborted records take up offsets
//! that nobody ever commits (L10), an empty partition has no commit at all, and a commit below the start of the log
//! says that retention ate records before they were read (L11).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::controls::{Control, without};
use crate::words::{GroupId, Offset, TopicName, TopicPartition};

mod open;
mod read_out;
mod table;
#[cfg(test)]
mod tests;

pub use open::{Coordinated, OpenTransaction};
pub use read_out::ReadOut;
pub use table::{DrainTable, Estimate, Row, table};

/// What was read between a group's commit and the end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tail {
    /// Nobody read it.
    NotRead,
    /// It was read to the end at the group's isolation level: no data record stands in it.
    NoData,
    /// It was read, and at least one data record stands in it.
    Data,
    /// No data stands in it before a transaction that is open: what stands from there on may yet become data.
    Open,
    /// The commit lies beyond the end: what the group had read up to it is gone, and what stands there now is not known to be
    /// read.
    Beyond,
}

/// What was answered about one partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogRange {
    /// The first offset still there.
    pub start: Offset,
    /// The first offset that is not there yet (high watermark).
    pub end: Offset,
}

/// What was answered about one group on one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupProgress {
    /// What the group has committed: the next offset it would read. `None` if it has no commit there.
    pub committed: Option<Offset>,
    /// What stands between the commit and the end.
    pub tail: Tail,
}

/// All that was observed, at one time. What is absent was not answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Fresh log ranges, by partition. `Err` is the reason why a partition did not answer.
    pub logs: BTreeMap<TopicPartition, Result<LogRange, String>>,
    /// Progress by group and partition. `Err` is the reason why it was not answered.
    pub progress: BTreeMap<(GroupId, TopicPartition), Result<GroupProgress, String>>,
    /// The transactions that are open where a tail could not be judged, as far as they are known.
    pub open: BTreeMap<TopicPartition, Vec<OpenTransaction>>,
}

impl Observation {
    /// Whether there is a topic of which no partition has answered.
    pub fn lacks_a_topic(&self) -> bool {
        let answered: BTreeSet<&TopicName> =
            self.logs.iter().filter(|(_, log)| log.is_ok()).map(|(place, _)| &place.topic).collect();
        self.logs.keys().any(|place| !answered.contains(&place.topic))
    }
}

/// What has to be drained.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Required {
    /// Each group that must read, with the topics it must read to their end.
    pub groups: BTreeMap<GroupId, BTreeSet<TopicName>>,
    /// Every partition of those topics, with its closed end where it has one.
    pub partitions: Vec<(TopicPartition, Option<Offset>)>,
    /// Where what must be read begins, as far as it is known: a group without a commit has all of it to read.
    pub starts: BTreeMap<TopicPartition, Offset>,
    /// What was proven of tails before.
    pub read_out: ReadOut,
}

/// Why one (group, partition) is not drained.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum NotDrained {
    /// The log's range was not answered.
    LogUnknown {
        /// Why not.
        reason: String,
    },
    /// The group's progress was not answered.
    ProgressUnknown {
        /// Why not.
        reason: String,
    },
    /// The group has no commit there, and there are records to read.
    NeverCommitted {
        /// How many offsets there are.
        records: i64,
    },
    /// Records are unread.
    Unread {
        /// How many offsets lie before the end.
        records: i64,
    },
    /// Up to the end there are markers, aborted records or an open transaction, which nobody can read past yet.
    Open {
        /// How many offsets lie before the end.
        records: i64,
        /// The transactions, as far as they are known.
        transactions: Vec<OpenTransaction>,
    },
    /// The commit lies beyond the end of the log.
    Beyond {
        /// The commit.
        committed: Offset,
    },
    /// Retention deleted records before the group had read them.
    Lost {
        /// How many offsets are gone.
        records: i64,
    },
    /// Retention deleted records, and the group has no commit there that would say whether it had read them.
    LostUncommitted {
        /// How many offsets are gone.
        records: i64,
    },
    /// The log goes on past the end that was closed: somebody wrote behind the fence.
    PastClosedEnd {
        /// The end that was closed.
        closed: Offset,
        /// The end that is there.
        found: Offset,
    },
    /// The log ends before the end that was closed: records are gone.
    ShortOfClosedEnd {
        /// The end that was closed.
        closed: Offset,
        /// The end that is there.
        found: Offset,
    },
}

impl NotDrained {
    /// How little it is a reader's to end: what only a person ends comes first, what is read in time last.
    fn urgency(&self) -> u8 {
        let hangs = |open: &OpenTransaction| open.coordinator == Coordinated::Forgotten;
        match self {
            NotDrained::PastClosedEnd { .. }
            | NotDrained::ShortOfClosedEnd { .. }
            | NotDrained::Beyond { .. }
            | NotDrained::Lost { .. }
            | NotDrained::LostUncommitted { .. } => 0,
            NotDrained::Open { transactions, .. } if transactions.iter().any(hangs) => 0,
            NotDrained::Open { .. } => 1,
            NotDrained::LogUnknown { .. } | NotDrained::ProgressUnknown { .. } => 2,
            NotDrained::NeverCommitted { .. } | NotDrained::Unread { .. } => 3,
        }
    }
}

/// One reason why the drain is not proven.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Remaining {
    /// The group; `None` where the partition itself is at fault.
    pub group: Option<GroupId>,
    /// The partition.
    pub place: TopicPartition,
    /// Why.
    pub why: NotDrained,
}

impl fmt::Display for Remaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(group) = &self.group {
            write!(f, "group {group}, ")?;
        }
        write!(f, "{}: ", self.place)?;
        match &self.why {
            NotDrained::LogUnknown { reason } => write!(f, "its log did not answer ({reason})"),
            NotDrained::ProgressUnknown { reason } => write!(f, "its offset was not answered ({reason})"),
            NotDrained::NeverCommitted { records } => write!(f, "no commit, {records} records unread"),
            NotDrained::Unread { records } => write!(f, "{records} records unread"),
            NotDrained::Open { records, transactions } => {
                write!(f, "{records} records unread, behind an open transaction")?;
                for open in transactions {
                    write!(f, "; {open}; to end it: {}", open.abort_command(&self.place))?;
                }
                Ok(())
            }
            NotDrained::Beyond { committed } => write!(
                f,
                "its commit {committed} lies beyond the end of the log: records that it had read are gone, and what was written \
                 in their place it may not have read; if it stays so, stop its consumers and set it to where they are to go on \
                 (kafka-consumer-groups --reset-offsets)"
            ),
            NotDrained::Lost { records } => {
                write!(f, "retention deleted {records} records before they were read")
            }
            NotDrained::LostUncommitted { records } => write!(
                f,
                "no commit, and retention deleted {records} records: if it had read them, or need not, commit the end of the log \
                 for it (kafka-consumer-groups --reset-offsets --to-latest), or name it in plan.waive_groups"
            ),
            NotDrained::PastClosedEnd { closed, found } => {
                write!(f, "closed at {closed}, but the log goes on to {found}")
            }
            NotDrained::ShortOfClosedEnd { closed, found } => {
                write!(f, "closed at {closed}, but the log ends at {found}")
            }
        }
    }
}

/// What the proof came to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DrainVerdict {
    /// (group, partition) pairs that were looked at.
    pub pairs: usize,
    /// Unread offsets in all, as far as they are known.
    pub unread: i64,
    /// Why it is not drained: what only a person can end first, records that are merely unread last, each in order of group and
    /// partition. Whoever shows a few shows these. Empty means drained.
    pub remaining: Vec<Remaining>,
    /// What is proven of tails up to closed ends.
    pub read_out: ReadOut,
}

impl DrainVerdict {
    /// Whether every required group has read every partition to its end.
    pub fn is_drained(&self) -> bool {
        self.remaining.is_empty()
    }

    /// Why no time will make it drained: a closed end no longer stands, because somebody wrote behind it or records are
    /// gone.
    pub fn broken_end(&self) -> Option<String> {
        let broken = |remaining: &&Remaining| {
            matches!(
                remaining.why,
                NotDrained::PastClosedEnd { .. }
                    | NotDrained::ShortOfClosedEnd { .. }
                    | NotDrained::Beyond { .. }
                    | NotDrained::Lost { .. }
                    | NotDrained::LostUncommitted { .. }
            )
        };
        self.remaining.iter().find(broken).map(ToString::to_string)
    }
}

/// Judges an observation. A group or partition without an answer is not drained.
pub fn prove(required: &Required, seen: &Observation) -> DrainVerdict {
    let mut verdict =
        DrainVerdict { pairs: 0, unread: 0, remaining: Vec::new(), read_out: ReadOut::default() };
    let mut readable: BTreeMap<&TopicPartition, (LogRange, bool)> = BTreeMap::new();
    for (place, closed) in &required.partitions {
        match judge_log(seen.logs.get(place), *closed) {
            Ok(range) => {
                readable.insert(place, (range, closed.is_some()));
            }
            Err(why) => verdict.remaining.push(Remaining { group: None, place: place.clone(), why }),
        }
    }
    let mut by_topic: BTreeMap<&TopicName, Vec<&TopicPartition>> = BTreeMap::new();
    for (place, _) in &required.partitions {
        by_topic.entry(&place.topic).or_default().push(place);
    }
    for (group, topics) in &required.groups {
        for topic in topics {
            let places = by_topic.get(topic).map(Vec::as_slice).unwrap_or_default();
            if places.is_empty() {
                verdict.remaining.push(Remaining {
                    group: Some(group.clone()),
                    place: TopicPartition { topic: topic.clone(), partition: -1 },
                    why: NotDrained::LogUnknown { reason: "the topic's partitions are not known".into() },
                });
            }
            for place in places {
                let place = *place;
                verdict.pairs += 1;
                let Some((range, closed)) = readable.get(place) else { continue };
                let progress = seen.progress.get(&(group.clone(), place.clone()));
                let begins = required.starts.get(place).copied();
                if let Some(Ok(GroupProgress { committed, tail: Tail::NoData })) = progress
                    && let Some(from) = committed.or(begins)
                    && (range.start..range.end).contains(&from)
                    && *closed
                {
                    verdict.read_out.note(group, place, from);
                }
                let read_out = |from| required.read_out.knows(group, place, from);
                if let Err(mut why) = judge_group(*range, progress, begins, read_out) {
                    match &mut why {
                        NotDrained::Unread { records } | NotDrained::NeverCommitted { records } => {
                            verdict.unread += *records;
                        }
                        NotDrained::Open { records, transactions } => {
                            verdict.unread += *records;
                            transactions.extend(seen.open.get(place).into_iter().flatten().cloned());
                        }
                        _ => {}
                    }
                    verdict.remaining.push(Remaining {
                        group: Some(group.clone()),
                        place: place.clone(),
                        why,
                    });
                }
            }
        }
    }
    verdict.remaining.sort_by_key(|remaining| remaining.why.urgency());
    verdict
}

fn judge_log(log: Option<&Result<LogRange, String>>, closed: Option<Offset>) -> Result<LogRange, NotDrained> {
    let range = match log {
        None | Some(Err(_)) if without(Control::UnansweredIsZero) => {
            return Ok(LogRange { start: Offset(0), end: Offset(0) });
        }
        None => return Err(NotDrained::LogUnknown { reason: "no answer".into() }),
        Some(Err(reason)) => return Err(NotDrained::LogUnknown { reason: reason.clone() }),
        Some(Ok(range)) => *range,
    };
    match closed {
        Some(closed) if range.end > closed && !without(Control::PastEndIgnored) => {
            Err(NotDrained::PastClosedEnd { closed, found: range.end })
        }
        Some(closed) if range.end < closed => Err(NotDrained::ShortOfClosedEnd { closed, found: range.end }),
        _ => Ok(range),
    }
}

/// What must be read begins at `begins`. `read_out` says whether nothing was left to read from an offset on, before retention
/// took what came behind it.
fn judge_group(
    range: LogRange,
    progress: Option<&Result<GroupProgress, String>>,
    begins: Option<Offset>,
    read_out: impl Fn(Offset) -> bool,
) -> Result<(), NotDrained> {
    let progress = match progress {
        None | Some(Err(_)) if without(Control::UnansweredIsZero) => return Ok(()),
        None => return Err(NotDrained::ProgressUnknown { reason: "no answer".into() }),
        Some(Err(reason)) => return Err(NotDrained::ProgressUnknown { reason: reason.clone() }),
        Some(Ok(progress)) => progress,
    };
    if range.end == Offset(0) {
        return Ok(()); // Nothing was ever written.
    }
    let only_markers = progress.tail == Tail::NoData && !without(Control::TailUnread);
    let eaten_is_read =
        |at: Offset| if without(Control::RetentionIgnored) { at.max(range.start) } else { at };
    let open =
        |from: Offset| Err(NotDrained::Open { records: range.end.0 - from.0, transactions: Vec::new() });
    let eaten =
        begins.filter(|from| *from < range.start && !read_out(*from) && !without(Control::RetentionIgnored));
    if let GroupProgress { committed: Some(committed), tail: Tail::Beyond } = progress
        && (range.start < range.end || eaten.is_some())
        && !without(Control::BeyondIsRead)
    {
        return Err(NotDrained::Beyond { committed: *committed });
    }
    match (progress.committed.map(eaten_is_read), eaten) {
        (None, _) if without(Control::ExpiredIsDrained) => Ok(()),
        (None, Some(from)) => Err(NotDrained::LostUncommitted { records: range.start.0 - from.0 }),
        (None, None) if range.start == range.end || only_markers => Ok(()),
        (None, None) if progress.tail == Tail::Open => open(range.start),
        (None, None) => Err(NotDrained::NeverCommitted { records: range.end.0 - range.start.0 }),
        (Some(committed), _) if committed < range.start && read_out(committed) => Ok(()),
        (Some(committed), _) if committed < range.start => {
            Err(NotDrained::Lost { records: range.start.0 - committed.0 })
        }
        (Some(committed), _) if committed >= range.end || only_markers => Ok(()),
        (Some(committed), _) if progress.tail == Tail::Open => open(committed),
        (Some(committed), _) => Err(NotDrained::Unread { records: range.end.0 - committed.0 }),
    }
}
