//! The drain as an operator looks at it: a row for each group, how fast it reads, and when it will have read everything.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{NotDrained, Observation, Required, prove};
use crate::words::{GroupId, TopicPartition};

/// When nothing will be left to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "estimate")]
pub enum Estimate {
    /// It is drained.
    Drained,
    /// At the pace between the two looks, in so many milliseconds: as long as its slowest partition takes.
    In {
        /// Milliseconds from the second look on.
        ms: u64,
    },
    /// Not at this pace: what is unread of a partition did not become less between the two looks.
    Never,
    /// What is left has no number, or cannot be read at all.
    Unknown,
}

impl Estimate {
    /// The later of two.
    fn or_longer(self, other: Self) -> Self {
        let rank = |estimate: &Self| match estimate {
            Estimate::Drained => (0, 0),
            Estimate::In { ms } => (1, *ms),
            Estimate::Never => (2, 0),
            Estimate::Unknown => (3, 0),
        };
        if rank(&other) > rank(&self) { other } else { self }
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Estimate::Drained => f.write_str("drained"),
            Estimate::Never => f.write_str("never at this pace"),
            Estimate::Unknown => f.write_str("unknown"),
            Estimate::In { ms } => {
                let s = ms.div_ceil(1_000);
                match (s / 3_600, s / 60 % 60, s % 60) {
                    (0, 0, s) => write!(f, "{s} s"),
                    (0, m, s) => write!(f, "{m} min {s} s"),
                    (h, m, _) => write!(f, "{h} h {m} min"),
                }
            }
        }
    }
}

/// One group, or (without a name) what is wrong with partitions themselves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Row {
    /// The group.
    pub group: Option<GroupId>,
    /// Partitions that it must read to their end.
    pub partitions: usize,
    /// Those that it has.
    pub drained: usize,
    /// Unread offsets, as far as they are known. Markers are counted while data stands before them.
    pub unread: i64,
    /// Offsets that retention took before they were read.
    pub lost: i64,
    /// Partitions of which nothing is known.
    pub unknown: usize,
    /// Offsets per second by which the unread became less between the two looks; negative if they became more.
    pub per_s: Option<i64>,
    /// When nothing will be left.
    pub zero: Estimate,
    /// Why it is not drained, in an operator's terms: what only a person can end first.
    pub why: Vec<String>,
}

/// Every required group, those that are not drained first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DrainTable {
    /// (group, partition) pairs that were looked at.
    pub pairs: usize,
    /// The rows.
    pub rows: Vec<Row>,
}

impl DrainTable {
    /// Whether every required group has read every partition to its end.
    pub fn is_drained(&self) -> bool {
        self.rows.iter().all(|row| row.zero == Estimate::Drained)
    }
}

#[derive(Default)]
struct Sum {
    left: usize,
    unread: BTreeMap<TopicPartition, i64>,
    lost: i64,
    unknown: usize,
    stuck: bool,
    why: Vec<String>,
}

impl Sum {
    fn unread(&self) -> i64 {
        self.unread.values().sum()
    }
}

fn sums(required: &Required, seen: &Observation) -> (usize, BTreeMap<Option<GroupId>, Sum>) {
    let verdict = prove(required, seen);
    let mut sums: BTreeMap<Option<GroupId>, Sum> = BTreeMap::new();
    for remaining in &verdict.remaining {
        let sum = sums.entry(remaining.group.clone()).or_default();
        sum.left += 1;
        match &remaining.why {
            NotDrained::NeverCommitted { records } | NotDrained::Unread { records } => {
                sum.unread.insert(remaining.place.clone(), *records);
            }
            NotDrained::Open { records, .. } => {
                sum.unread.insert(remaining.place.clone(), *records);
                sum.stuck = true;
            }
            NotDrained::Lost { records } | NotDrained::LostUncommitted { records } => {
                sum.lost += records;
                sum.stuck = true;
            }
            NotDrained::LogUnknown { .. } | NotDrained::ProgressUnknown { .. } => sum.unknown += 1,
            NotDrained::PastClosedEnd { .. }
            | NotDrained::ShortOfClosedEnd { .. }
            | NotDrained::Beyond { .. } => sum.stuck = true,
        }
        sum.why.push(remaining.to_string());
    }
    (verdict.pairs, sums)
}

/// Makes the table of two observations, the second taken `apart_ms` after the first.
pub fn table(required: &Required, first: &Observation, second: &Observation, apart_ms: u64) -> DrainTable {
    let (_, mut before) = sums(required, first);
    let (pairs, mut now) = sums(required, second);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (TopicPartition { topic, .. }, _) in &required.partitions {
        *counts.entry(topic.as_str()).or_default() += 1;
    }
    let places = required.partitions.iter().map(|(place, _)| place);
    let silent: Vec<_> = places.filter(|place| !second.logs.get(*place).is_some_and(Result::is_ok)).collect();
    let looks = Looks { first, second, apart_ms };
    let mut rows = Vec::new();
    if let Some(sum) = now.remove(&None) {
        rows.push(looks.row(None, required.partitions.len(), sum, &Sum::default()));
    }
    for (group, topics) in &required.groups {
        let partitions = topics.iter().filter_map(|topic| counts.get(topic.as_str())).sum();
        let key = Some(group.clone());
        let earlier = before.remove(&key).unwrap_or_default();
        let mut sum = now.remove(&key).unwrap_or_default();
        // A log that did not answer is nobody's to have read.
        let silent = silent.iter().filter(|place| topics.contains(&place.topic)).count();
        (sum.left, sum.unknown) = (sum.left + silent, sum.unknown + silent);
        rows.push(looks.row(key, partitions, sum, &earlier));
    }
    rows.sort_by_key(|row| (row.zero == Estimate::Drained, std::cmp::Reverse(row.unread)));
    DrainTable { pairs, rows }
}

struct Looks<'a> {
    first: &'a Observation,
    second: &'a Observation,
    apart_ms: u64,
}

impl Looks<'_> {
    fn row(&self, group: Option<GroupId>, partitions: usize, sum: Sum, earlier: &Sum) -> Row {
        let is_known = group.is_some() && earlier.unknown == 0 && sum.unknown == 0;
        let answered = |place: &TopicPartition| self.first.logs.get(place).is_some_and(Result::is_ok);
        let less = (is_known && sum.unread.keys().all(answered)).then(|| earlier.unread() - sum.unread());
        let zero = match (&group, less) {
            _ if sum.left == 0 => Estimate::Drained,
            (Some(group), Some(_)) if !sum.stuck => {
                sum.unread.iter().fold(Estimate::Drained, |longest, (place, unread)| {
                    let earlier = earlier.unread.get(place).copied().unwrap_or(0);
                    longest.or_longer(self.zero(group, place, earlier, *unread))
                })
            }
            _ => Estimate::Unknown,
        };
        let apart = i64::try_from(self.apart_ms).unwrap_or(i64::MAX).max(1);
        Row {
            group,
            partitions,
            drained: partitions.saturating_sub(sum.left),
            unread: sum.unread(),
            lost: sum.lost,
            unknown: sum.unknown,
            per_s: less.map(|less| less.saturating_mul(1_000) / apart),
            zero,
            why: sum.why,
        }
    }

    /// When nothing is left of one partition. Whoever has read all that was there at the first look keeps up, and takes no longer
    /// than the time between the looks, however much has come since.
    fn zero(&self, group: &GroupId, place: &TopicPartition, earlier: i64, unread: i64) -> Estimate {
        let end = self.first.logs.get(place).and_then(|log| Some(log.as_ref().ok()?.end));
        let progress = self.second.progress.get(&(group.clone(), place.clone()));
        let committed = progress.and_then(|progress| progress.as_ref().ok()?.committed);
        let less = earlier - unread;
        if committed.zip(end).is_some_and(|(committed, end)| committed >= end) {
            return Estimate::In { ms: self.apart_ms };
        }
        if less <= 0 {
            return Estimate::Never;
        }
        let ms = i128::from(unread) * i128::from(self.apart_ms.max(1)) / i128::from(less);
        Estimate::In { ms: u64::try_from(ms).unwrap_or(u64::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::{Coordinated, GroupProgress, LogRange, OpenTransaction, Tail};
    use crate::words::Offset;

    fn place(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    fn seen(groups: &[(&str, Option<i64>)]) -> Observation {
        let range = LogRange { start: Offset(10), end: Offset(110) };
        Observation {
            logs: [(place(0), Ok(range)), (place(1), Ok(range))].into(),
            progress: groups
                .iter()
                .flat_map(|(group, committed)| {
                    let at = |partition| {
                        let progress = GroupProgress { committed: committed.map(Offset), tail: Tail::Data };
                        (((*group).into(), place(partition)), Ok(progress))
                    };
                    [at(0), at(1)]
                })
                .collect(),
            ..Observation::default()
        }
    }

    fn required(groups: &[&str]) -> Required {
        Required {
            groups: groups.iter().map(|group| ((*group).into(), ["orders".into()].into())).collect(),
            partitions: vec![(place(0), None), (place(1), None)],
            ..Required::default()
        }
    }

    #[test]
    fn two_looks_tell_when_it_will_be_zero() {
        let names = ["reads", "stands", "done", "ate"];
        let at = |reads| {
            seen(&[("reads", Some(reads)), ("stands", Some(50)), ("done", Some(110)), ("ate", Some(5))])
        };
        let table = table(&required(&names), &at(60), &at(85), 10_000);
        assert_eq!(table.pairs, 8);
        let row = |name: &str| table.rows.iter().find(|row| row.group == Some(name.into())).unwrap();
        let reads = row("reads");
        assert_eq!((reads.partitions, reads.drained, reads.unread, reads.per_s), (2, 0, 50, Some(5)));
        assert_eq!((reads.zero, reads.zero.to_string()), (Estimate::In { ms: 10_000 }, "10 s".to_owned()));
        assert_eq!(row("stands").zero, Estimate::Never);
        assert_eq!((row("done").zero, row("done").drained), (Estimate::Drained, 2));
        assert_eq!((row("ate").zero, row("ate").lost), (Estimate::Unknown, 10));
        assert!(!table.is_drained());
        assert_eq!(table.rows.last().and_then(|row| row.group.clone()), Some("done".into()));
    }

    /// A partition that is read fast is no comfort to one that stands still, or that takes longer.
    #[test]
    fn the_slowest_partition_is_waited_for() {
        let at = |fast: i64, slow: i64| {
            let mut seen = seen(&[("reads", Some(fast))]);
            let slow = GroupProgress { committed: Some(Offset(slow)), tail: Tail::Data };
            seen.progress.insert(("reads".into(), place(1)), Ok(slow));
            seen
        };
        let zero = |first: &Observation, second: &Observation| {
            table(&required(&["reads"]), first, second, 10_000).rows[0].zero
        };
        assert_eq!(zero(&at(20, 100), &at(100, 100)), Estimate::Never);
        assert_eq!(zero(&at(20, 50), &at(100, 60)), Estimate::In { ms: 50_000 });
        assert_eq!(zero(&at(20, 50), &at(110, 60)), Estimate::In { ms: 50_000 }, "one of them is done");
        // What has come since the first look is no standstill.
        let mut later = at(110, 110);
        for log in later.logs.values_mut() {
            *log = Ok(LogRange { start: Offset(10), end: Offset(130) });
        }
        assert_eq!(zero(&at(110, 110), &later), Estimate::In { ms: 10_000 });
        assert_eq!(zero(&at(109, 109), &later), Estimate::In { ms: 10_000 });
        assert_eq!(zero(&at(109, 109), &at(109, 109)), Estimate::Never);
    }

    /// Nobody reads past a transaction that hangs: it is named before what is merely unread, and nothing is left out.
    #[test]
    fn what_only_a_person_can_end_comes_first() {
        let places: Vec<_> = (0..8).map(place).collect();
        let range = LogRange { start: Offset(0), end: Offset(100) };
        let hangs = OpenTransaction {
            producer_id: 7,
            epoch: 0,
            coordinator_epoch: 0,
            since: Offset(90),
            last_write_ms: 0,
            coordinator: Coordinated::Forgotten,
        };
        let known =
            Coordinated::Known { transactional_id: "pay".into(), state: "Ongoing".into(), ends_by_ms: None };
        let ongoing = OpenTransaction { coordinator: known, ..hangs.clone() };
        let progress = |place: &TopicPartition| {
            let (committed, tail) = match place.partition {
                5 => (-1, Tail::Data),
                6 | 7 => (90, Tail::Open),
                _ => (50, Tail::Data),
            };
            (("reads".into(), place.clone()), Ok(GroupProgress { committed: Some(Offset(committed)), tail }))
        };
        let mut seen = Observation {
            logs: places.iter().map(|place| (place.clone(), Ok(range))).collect(),
            progress: places.iter().map(progress).collect(),
            open: [(place(6), vec![ongoing]), (place(7), vec![hangs])].into(),
        };
        seen.progress.insert(("reads".into(), place(1)), Err("timed out".into()));
        let partitions = places.iter().map(|place| (place.clone(), None)).collect();
        let required = Required { partitions, ..required(&["reads"]) };
        let table = table(&required, &seen, &seen, 1_000);
        let of = |why: &String| why.split(": ").next().map(|place| place[place.len() - 1..].to_owned());
        let order: Option<Vec<String>> = table.rows[0].why.iter().map(of).collect();
        assert_eq!(order.unwrap(), ["5", "7", "6", "1", "0", "2", "3", "4"], "{:?}", table.rows[0].why);
        assert!(table.rows[0].why[1].contains("kafka-transactions.sh"), "{:?}", table.rows[0].why);
    }

    /// L9: what was not answered is not nothing, in either look.
    #[test]
    fn without_an_answer_there_is_no_estimate() {
        let (whole, mut half) = (seen(&[("reads", Some(60))]), seen(&[("reads", Some(85))]));
        half.progress.insert(("reads".into(), place(1)), Err("timed out".into()));
        let after = table(&required(&["reads"]), &whole, &half, 1_000);
        assert_eq!((after.rows[0].zero, after.rows[0].unknown), (Estimate::Unknown, 1));
        let before = table(&required(&["reads"]), &half, &whole, 1_000);
        assert_eq!((before.rows[0].zero, before.rows[0].per_s), (Estimate::Unknown, None));
        let mut dead = seen(&[("reads", Some(110))]);
        dead.logs.insert(place(1), Err("it has no leader".into()));
        let table = table(&required(&["reads"]), &dead, &dead, 1_000);
        assert_eq!((table.rows[0].group.clone(), table.rows[0].zero), (None, Estimate::Unknown));
        let behind = seen(&[("reads", Some(85))]);
        let mut without = whole.clone();
        without.logs.insert(place(1), Err("it has no leader".into()));
        let back = super::table(&required(&["reads"]), &without, &behind, 1_000);
        assert_eq!((back.rows[0].zero, back.rows[0].per_s), (Estimate::Unknown, None));
        assert!(table.rows[0].why[0].contains("no leader") && !table.is_drained());
        let reads = &table.rows[1];
        assert_eq!((reads.drained, reads.unknown, reads.zero), (1, 1, Estimate::Unknown));
    }

    #[test]
    fn long_estimates_are_said_in_hours() {
        assert_eq!(Estimate::In { ms: 3_661_000 }.to_string(), "1 h 1 min");
        assert_eq!(Estimate::In { ms: 61_000 }.to_string(), "1 min 1 s");
    }
}
