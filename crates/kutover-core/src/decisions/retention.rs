//! Retention against the time of the drain (L11).
//!
//! The old cluster's retention deletes what a slow group has not read; the new one's deletes what a reader that wants
//! order has not reached, since that reader comes to the new cluster only when it has read the old one. Rates are given
//! as what was seen in a span of time, so that nothing is rounded before it is compared.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::controls::{Control, without};
use crate::words::{Colour, GroupId, TopicName, TopicPartition};

/// What is expected is doubled before it is compared: rates were seen once and will change.
const MARGIN: u64 = 2;

/// An amount that was seen in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seen {
    /// Records, or bytes.
    pub amount: u64,
    /// Milliseconds.
    pub over_ms: u64,
}

impl Seen {
    /// Milliseconds until `amount` more is done at this rate; `None` if nothing moves.
    pub(crate) fn ms_for(self, amount: u64) -> Option<u64> {
        let ms = (u128::from(amount) * u128::from(self.over_ms)).checked_div(u128::from(self.amount));
        if amount == 0 { Some(0) } else { ms.map(clamp) }
    }

    /// How much comes in a time at this rate, rounded up.
    pub(crate) fn in_ms(self, ms: u64) -> u64 {
        clamp((u128::from(self.amount) * u128::from(ms)).div_ceil(u128::from(self.over_ms.max(1))))
    }
}

fn clamp(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(u64::MAX)
}

/// What a topic is kept for on one cluster, the broker's defaults included. Kafka writes "without limit" as -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// `retention.ms`.
    pub ms: i64,
    /// `retention.bytes`, for each partition.
    pub bytes: i64,
}

/// What one group has not read of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Unread {
    /// The group.
    pub group: GroupId,
    /// The partition.
    pub place: TopicPartition,
    /// Records between its commit and the end.
    pub records: u64,
    /// The size of them on disk.
    pub bytes: u64,
    /// The age of the oldest of them.
    pub oldest_age_ms: u64,
    /// How many of the partition's records it read.
    pub read: Seen,
}

/// What was observed of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TopicPace {
    /// The topic.
    pub topic: TopicName,
    /// Whether `cleanup.policy` deletes by age and size at all; a topic that is only compacted loses nothing unread.
    pub deletes: bool,
    /// What the old cluster keeps. `Err` says why it is not known.
    pub old: Result<Limits, String>,
    /// What the new cluster keeps. `Err` says why it is not known.
    pub new: Result<Limits, String>,
    /// Bytes written to its busiest partition.
    pub written: Seen,
    /// What every required group has not read. A pair that did not answer is an `Err`.
    pub unread: Vec<Result<Unread, String>>,
}

/// What is being left, and how long that may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bounds {
    /// Which colour is being left.
    pub old: Colour,
    /// How long producers may still write to the old cluster.
    pub converge_ms: u64,
}

/// A config that can be raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// `retention.ms`.
    Ms,
    /// `retention.bytes`.
    Bytes,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Ms => "retention.ms",
            Limit::Bytes => "retention.bytes",
        })
    }
}

/// What is to be done about one topic. Nothing at all means that retention is enough.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// Raise a config for the time of the cutover, then restore it.
    Raise {
        /// On which cluster.
        colour: Colour,
        /// The topic.
        topic: TopicName,
        /// Which config.
        config: Limit,
        /// Its value.
        from: i64,
        /// The value that is enough.
        to: i64,
    },
    /// A group does not read: its drain would never end.
    Stopped {
        /// The group.
        group: GroupId,
        /// Where.
        place: TopicPartition,
        /// Unread records.
        records: u64,
    },
    /// Something was not answered.
    Unknown {
        /// The topic.
        topic: TopicName,
        /// What, and why.
        reason: String,
    },
}

impl Verdict {
    /// Whether the plan is refused over it; otherwise it says what to raise.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Verdict::Raise { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Raise { colour, topic, config, from, to } => {
                write!(
                    f,
                    "topic {topic}: raise {config} on {colour} from {from} to {to} until the drain is over, or name the topic \
                     in plan.raise_retention"
                )
            }
            Verdict::Stopped { group, place, records } => write!(
                f,
                "group {group} does not read {place}, where {records} records are unread: start its consumers, or waive \
                 the group"
            ),
            Verdict::Unknown { topic, reason } => {
                write!(f, "topic {topic}: whether retention outlasts the drain is not known: {reason}")
            }
        }
    }
}

/// What must be kept for all groups to read what is there.
#[derive(Clone, Copy, Default)]
struct Need {
    old_ms: u64,
    old_bytes: u64,
    drain_ms: u64,
}

/// Judges one topic. Refusals come first, then what to raise.
pub fn judge(pace: &TopicPace, bounds: &Bounds) -> Vec<Verdict> {
    if !pace.deletes || without(Control::RetentionIgnored) {
        return Vec::new();
    }
    let unknown = |what: &str, reason: &String| Verdict::Unknown {
        topic: pace.topic.clone(),
        reason: format!("{what} ({reason})"),
    };
    let (need, mut verdicts) = need(pace, bounds);
    match &pace.old {
        Ok(limits) => {
            verdicts.extend(enough(pace, bounds.old, *limits, need.old_ms, need.old_bytes));
        }
        Err(reason) => verdicts.push(unknown("what the old cluster keeps", reason)),
    }
    match &pace.new {
        Ok(limits) => {
            // From the first record there to the arrival of a reader that has just drained the old cluster.
            let ms = need.drain_ms.saturating_add(bounds.converge_ms).saturating_mul(MARGIN);
            let bytes = pace.written.in_ms(ms);
            verdicts.extend(enough(pace, bounds.old.other(), *limits, ms, bytes));
        }
        Err(reason) => verdicts.push(unknown("what the new cluster keeps", reason)),
    }
    verdicts.sort_by_key(|verdict| !verdict.is_refusal());
    verdicts
}

fn need(pace: &TopicPace, bounds: &Bounds) -> (Need, Vec<Verdict>) {
    let mut need = Need::default();
    let mut verdicts = Vec::new();
    // What is still written to the old cluster has to be read there as well, and pushes the oldest records out.
    let still_written = pace.written.in_ms(bounds.converge_ms);
    for unread in &pace.unread {
        let unread = match unread {
            Ok(unread) => unread,
            Err(reason) => {
                verdicts.push(Verdict::Unknown { topic: pace.topic.clone(), reason: reason.clone() });
                continue;
            }
        };
        let (group, place) = (unread.group.clone(), unread.place.clone());
        let Some(drain_ms) = unread.read.ms_for(unread.records) else {
            verdicts.push(Verdict::Stopped { group, place, records: unread.records });
            continue;
        };
        let ahead_ms = drain_ms.saturating_add(bounds.converge_ms).saturating_mul(MARGIN);
        need.drain_ms = need.drain_ms.max(drain_ms);
        need.old_ms = need.old_ms.max(unread.oldest_age_ms.saturating_add(ahead_ms));
        need.old_bytes =
            need.old_bytes.max(unread.bytes.saturating_add(still_written.saturating_mul(MARGIN)));
    }
    (need, verdicts)
}

fn enough(pace: &TopicPace, colour: Colour, limits: Limits, ms: u64, bytes: u64) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (config, from, needed) in [(Limit::Ms, limits.ms, ms), (Limit::Bytes, limits.bytes, bytes)] {
        // Below zero is without limit.
        if u64::try_from(from).is_ok_and(|limit| limit < needed) {
            let to = i64::try_from(needed).unwrap_or(-1);
            verdicts.push(Verdict::Raise { colour, topic: pace.topic.clone(), config, from, to });
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FOR_EVER: Limits = Limits { ms: -1, bytes: -1 };

    /// 1,000 records unread, read at 10 a second: 100 s.
    fn unread() -> Unread {
        Unread {
            group: "billing".into(),
            place: TopicPartition::new("orders", 3),
            records: 1_000,
            bytes: 100_000,
            oldest_age_ms: 50_000,
            read: Seen { amount: 100, over_ms: 10_000 },
        }
    }

    fn pace(old: Limits, new: Limits) -> TopicPace {
        TopicPace {
            topic: "orders".into(),
            deletes: true,
            old: Ok(old),
            new: Ok(new),
            written: Seen { amount: 1_000, over_ms: 1_000 },
            unread: vec![Ok(unread())],
        }
    }

    fn bounds() -> Bounds {
        Bounds { old: Colour::Blue, converge_ms: 0 }
    }

    fn words(pace: &TopicPace) -> Vec<String> {
        judge(pace, &bounds()).iter().map(ToString::to_string).collect()
    }

    /// L11: the oldest unread record, 50 s old now, is read within 100 s; doubled, that is 250 s.
    #[test]
    fn retention_is_raised_to_what_the_drain_takes() {
        let limits = |ms| Limits { ms, bytes: -1 };
        assert!(words(&pace(limits(250_000), limits(200_000))).is_empty());
        assert_eq!(
            words(&pace(limits(249_999), limits(199_999))),
            [
                "topic orders: raise retention.ms on blue from 249999 to 250000 until the drain is over, or name the topic in plan.raise_retention",
                "topic orders: raise retention.ms on green from 199999 to 200000 until the drain is over, or name the topic in plan.raise_retention",
            ]
        );
        assert!(words(&pace(FOR_EVER, FOR_EVER)).is_empty());
    }

    /// What is written while a reader drains the old cluster has to wait for it on the new one.
    #[test]
    fn bytes_count_too() {
        let limits = |bytes| Limits { ms: -1, bytes };
        assert!(words(&pace(limits(100_000), limits(200_000))).is_empty());
        assert_eq!(
            words(&pace(limits(99_999), limits(199_999))),
            [
                "topic orders: raise retention.bytes on blue from 99999 to 100000 until the drain is over, or name the topic in plan.raise_retention",
                "topic orders: raise retention.bytes on green from 199999 to 200000 until the drain is over, or name the topic in plan.raise_retention",
            ]
        );
    }

    #[test]
    fn who_does_not_read_is_named() {
        let with = |unread| TopicPace { unread: vec![unread], ..pace(FOR_EVER, FOR_EVER) };
        let stopped = Unread { read: Seen { amount: 0, over_ms: 10_000 }, ..unread() };
        assert!(
            words(&with(Ok(stopped.clone())))[0]
                .starts_with("group billing does not read topic orders, partition 3")
        );
        let done = Unread { records: 0, ..stopped };
        assert!(words(&with(Ok(done))).is_empty(), "nothing to read takes no time");
    }

    /// Unknown is not enough.
    #[test]
    fn what_was_not_answered_refuses() {
        let silent = || Err("timed out".to_owned());
        let base = pace(FOR_EVER, FOR_EVER);
        for pace in [
            TopicPace { old: silent(), ..base.clone() },
            TopicPace { new: silent(), ..base.clone() },
            TopicPace { unread: vec![Err("timed out".into())], ..base.clone() },
        ] {
            let verdicts = judge(&pace, &bounds());
            assert!(verdicts.len() == 1 && verdicts[0].is_refusal(), "{verdicts:?}");
        }
        assert!(judge(&TopicPace { deletes: false, old: silent(), ..base }, &bounds()).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// If nothing is refused and what is to be raised is raised, no record is deleted before it is read, also if
        /// the group reads only half as fast; and a second look asks for nothing more.
        #[test]
        fn what_was_raised_is_enough(
            records in 0..5_000_u64,
            oldest_age_ms in 0..500_000_u64,
            amount in 0..2_000_u64,
            over_ms in 1..60_000_u64,
            old_ms in prop_oneof![Just(-1_i64), 0..1_000_000_i64],
            new_ms in prop_oneof![Just(-1_i64), 0..1_000_000_i64],
            bytes in prop_oneof![Just(-1_i64), 0..1_000_000_i64],
            converge_ms in 0..60_000_u64,
        ) {
            let read = Seen { amount, over_ms };
            let one = Unread { records, oldest_age_ms, read, ..unread() };
            let old = Limits { ms: old_ms, bytes };
            let mut pace = TopicPace { unread: vec![Ok(one)], ..pace(old, Limits { ms: new_ms, bytes }) };
            let bounds = Bounds { old: Colour::Blue, converge_ms };
            let verdicts = judge(&pace, &bounds);
            if verdicts.iter().any(Verdict::is_refusal) {
                return Ok(());
            }
            for verdict in verdicts {
                let Verdict::Raise { colour, config, from, to, .. } = verdict else { continue };
                prop_assert!(from >= 0 && to > from);
                let side = if colour == Colour::Blue { &mut pace.old } else { &mut pace.new };
                let limits = side.as_mut().unwrap();
                match config {
                    Limit::Ms => limits.ms = to,
                    Limit::Bytes => limits.bytes = to,
                }
            }
            prop_assert_eq!(judge(&pace, &bounds), vec![]);
            if let Ok(kept) = u64::try_from(pace.old.unwrap().ms) {
                let slow_ms = (records * over_ms * 2).div_euclid(amount.max(1));
                prop_assert!(kept + 2 >= oldest_age_ms + slow_ms, "{kept} for {slow_ms}");
            }
        }
    }
}
