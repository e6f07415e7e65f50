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
    /// Retention deleted records before the group had read them.
    Lost {
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
            NotDrained::Lost { records } => {
                write!(f, "retention deleted {records} records before they were read")
            }
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
    /// Why it is not drained, in order of group and partition; empty means drained.
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
                    | NotDrained::Lost { .. }
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
                if let Some(Ok(GroupProgress { committed: Some(committed), tail: Tail::NoData })) = progress
                    && (range.start..range.end).contains(committed)
                    && *closed
                {
                    verdict.read_out.note(group, place, *committed);
                }
                let read_out = |committed| required.read_out.knows(group, place, committed);
                if let Err(mut why) = judge_group(*range, progress, read_out) {
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

/// `read_out` says whether nothing was left to read at a commit, before retention took what came behind it.
fn judge_group(
    range: LogRange,
    progress: Option<&Result<GroupProgress, String>>,
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
    match progress.committed.map(eaten_is_read) {
        None if range.start == range.end || without(Control::ExpiredIsDrained) => Ok(()),
        None if only_markers => Ok(()),
        None if progress.tail == Tail::Open => open(range.start),
        None => Err(NotDrained::NeverCommitted { records: range.end.0 - range.start.0 }),
        Some(committed) if committed < range.start && read_out(committed) => Ok(()),
        Some(committed) if committed < range.start => {
            Err(NotDrained::Lost { records: range.start.0 - committed.0 })
        }
        Some(committed) if committed >= range.end => Ok(()),
        Some(_) if only_markers => Ok(()),
        Some(committed) if progress.tail == Tail::Open => open(committed),
        Some(committed) => Err(NotDrained::Unread { records: range.end.0 - committed.0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    fn required(closed: Option<i64>) -> Required {
        Required {
            groups: [(GroupId::new("billing"), [TopicName::new("orders")].into())].into(),
            partitions: vec![(place(3), closed.map(Offset))],
            read_out: ReadOut::default(),
        }
    }

    fn seen(start: i64, end: i64, committed: Option<i64>, tail: Tail) -> Observation {
        Observation {
            logs: [(place(3), Ok(LogRange { start: Offset(start), end: Offset(end) }))].into(),
            progress: [(
                ("billing".into(), place(3)),
                Ok(GroupProgress { committed: committed.map(Offset), tail }),
            )]
            .into(),
            ..Observation::default()
        }
    }

    fn words(required: &Required, seen: &Observation) -> Vec<String> {
        prove(required, seen).remaining.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn says_why_not_in_an_operators_terms() {
        let unread = words(&required(None), &seen(0, 100, Some(59), Tail::NotRead));
        assert_eq!(unread, ["group billing, topic orders, partition 3: 41 records unread"]);
        assert_eq!(prove(&required(None), &seen(0, 100, Some(59), Tail::Data)).unread, 41);
        let never = words(&required(None), &seen(10, 12, None, Tail::NotRead));
        assert_eq!(never, ["group billing, topic orders, partition 3: no commit, 2 records unread"]);
    }

    /// L9: a partition or group without an answer is not drained.
    #[test]
    fn unanswered_is_not_drained() {
        assert_eq!(
            words(&required(None), &Observation::default()),
            ["topic orders, partition 3: its log did not answer (no answer)"]
        );
        let mut half = seen(0, 1, Some(1), Tail::NotRead);
        half.progress.clear();
        assert_eq!(
            words(&required(None), &half),
            ["group billing, topic orders, partition 3: its offset was not answered (no answer)"]
        );
        let unknown_topic = Required { partitions: vec![], ..required(None) };
        assert_eq!(
            words(&unknown_topic, &seen(0, 0, None, Tail::NotRead)),
            [
                "group billing, topic orders, partition -1: its log did not answer (the topic's partitions are not known)"
            ]
        );
    }

    /// L9: commits that expired are gone, what they counted is not.
    #[test]
    fn a_group_whose_commits_expired_is_not_drained() {
        let expired = prove(&required(Some(100)), &seen(90, 100, None, Tail::Data));
        assert_eq!((expired.is_drained(), expired.unread), (false, 10));
        assert!(prove(&required(None), &seen(90, 100, None, Tail::NoData)).is_drained(), "but for markers");
    }

    /// L10: what nobody can commit past is read to see.
    #[test]
    fn markers_and_empty_partitions_count_as_drained() {
        assert!(prove(&required(None), &seen(0, 11, Some(10), Tail::NoData)).is_drained());
        assert!(!prove(&required(None), &seen(0, 11, Some(10), Tail::NotRead)).is_drained());
        assert!(prove(&required(None), &seen(0, 0, None, Tail::NotRead)).is_drained());
        assert!(prove(&required(None), &seen(7, 7, None, Tail::NotRead)).is_drained());
    }

    /// L10: a transaction that is open is no marker. It is named, with the command that ends it.
    #[test]
    fn an_open_transaction_is_not_drained_and_is_named() {
        let mut stuck = seen(0, 13, Some(11), Tail::Open);
        let hanging = OpenTransaction {
            producer_id: 7,
            epoch: 0,
            coordinator_epoch: 0,
            since: Offset(11),
            last_write_ms: 1,
            coordinator: Coordinated::Forgotten,
        };
        assert_eq!(prove(&required(None), &stuck).unread, 2);
        stuck.open.insert(place(3), vec![hanging]);
        let words = words(&required(None), &stuck).concat();
        assert!(words.contains("2 records unread, behind an open transaction; "), "{words}");
        assert!(words.contains("producer id 7 hangs since offset 11"), "{words}");
        assert!(words.ends_with("abort --topic orders --partition 3 --start-offset 11"), "{words}");
        let never = prove(&required(None), &seen(11, 13, None, Tail::Open)).remaining;
        assert_eq!(
            never[0].why,
            NotDrained::Open { records: 2, transactions: vec![] },
            "nor without a commit"
        );
    }

    /// L11: what retention ate is reported, not taken for read.
    #[test]
    fn a_commit_below_the_start_is_a_loss() {
        assert_eq!(
            words(&required(None), &seen(20, 20, Some(15), Tail::NotRead)),
            ["group billing, topic orders, partition 3: retention deleted 5 records before they were read"]
        );
    }

    /// L10, L11: markers that retention takes once a tail was read were nobody's to read, also in the journal's words. What
    /// comes before them was, and so is all of a log whose end is not closed.
    #[test]
    fn markers_that_retention_takes_are_no_loss() {
        let before = seen(0, 100, Some(99), Tail::NoData);
        let known = prove(&required(Some(100)), &before).read_out;
        let json = serde_json::to_string(&known).unwrap();
        let required_again =
            Required { read_out: serde_json::from_str(&json).unwrap(), ..required(Some(100)) };
        assert!(prove(&required_again, &seen(100, 100, Some(99), Tail::NotRead)).is_drained());
        let reset = prove(&required_again, &seen(100, 100, Some(98), Tail::NotRead));
        assert_eq!(reset.remaining[0].why, NotDrained::Lost { records: 2 }, "it was set back since");
        assert_eq!(prove(&required(None), &before).read_out, ReadOut::default());
        assert_eq!(
            prove(&required(Some(100)), &seen(0, 100, Some(99), Tail::Data)).read_out,
            ReadOut::default()
        );
    }

    /// L11: a group that stands at the start of the log has lost nothing.
    #[test]
    fn a_commit_at_the_start_is_none() {
        let verdict = prove(&required(None), &seen(20, 30, Some(20), Tail::Data));
        assert_eq!(verdict.remaining[0].why, NotDrained::Unread { records: 10 });
        assert_eq!((verdict.pairs, verdict.unread), (1, 10));
    }

    /// L11, L12: what no waiting mends is told from what it does.
    #[test]
    fn a_broken_end_is_told_from_what_is_yet_to_be_read() {
        let broken = |required, seen| prove(&required, &seen).broken_end();
        let lost = broken(required(None), seen(20, 20, Some(15), Tail::NotRead));
        assert!(lost.is_some_and(|why| why.contains("retention deleted 5 records")));
        let past = broken(required(Some(100)), seen(0, 101, Some(101), Tail::NotRead));
        assert!(past.is_some_and(|why| why.contains("goes on to 101")));
        let short = broken(required(Some(100)), seen(0, 99, Some(99), Tail::NotRead));
        assert!(short.is_some_and(|why| why.contains("ends at 99")));
        assert_eq!(broken(required(None), seen(0, 100, Some(59), Tail::Data)), None);
    }

    /// L12: records past a closed end re-open it as a hold.
    #[test]
    fn a_closed_end_must_stand() {
        assert!(prove(&required(Some(100)), &seen(0, 100, Some(100), Tail::NotRead)).is_drained());
        assert_eq!(
            words(&required(Some(100)), &seen(0, 101, Some(101), Tail::NotRead)),
            ["topic orders, partition 3: closed at 100, but the log goes on to 101"]
        );
        assert_eq!(
            words(&required(Some(100)), &seen(0, 99, Some(99), Tail::NotRead)),
            ["topic orders, partition 3: closed at 100, but the log ends at 99"]
        );
    }
}
