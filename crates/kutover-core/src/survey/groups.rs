//! Groups: what they are, how far behind, how fast.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{ClusterSeen, Traffic};
use crate::cutover::Plan;
use crate::decisions::retention::{Seen, Unread};
use crate::drain::{NotDrained, Required, Tail, prove};
use crate::ports::{GroupDescription, GroupProtocol};
use crate::words::{GroupId, TopicName, TopicPartition};

/// What a cutover makes of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupStanding {
    /// It must have read the old cluster to its end before that is removed.
    Required,
    /// It must not, since the operator said so.
    Waived,
    /// It has nothing on topics that move.
    Unconcerned,
}

/// One group of the old cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupReport {
    /// Its id.
    pub group: GroupId,
    /// What the cutover makes of it.
    pub standing: GroupStanding,
    /// How it shares out its work; `None` if that was not answered.
    pub protocol: Option<GroupProtocol>,
    /// Its state; `None` if that was not answered.
    pub state: Option<String>,
    /// Live members; `None` if that was not answered.
    pub members: Option<usize>,
    /// Whether it is a Streams application.
    pub is_streams: bool,
    /// The topics that it reads, of those that move.
    pub topics: BTreeSet<TopicName>,
    /// Unread records; `None` if a partition did not answer, or the group was not observed: it need not drain, or is a share
    /// group, which has no offsets.
    pub lag: Option<u64>,
    /// Records that retention deleted before the group had read them; `None` as for `lag`.
    pub lost: Option<u64>,
    /// Records that it read between the looks; `None` as for `lag`.
    pub read: Option<u64>,
    /// How long it takes at that rate to read what is unread, in milliseconds; `None` if it does not read, or nobody
    /// knows.
    pub drain_ms: Option<u64>,
}

/// The assignor of every Streams application on the classic protocol (`StreamsPartitionAssignor.name`).
const STREAMS_ASSIGNOR: &str = "stream";

/// Whether a group is a Streams application: by its protocol, its assignor, or by the internal topics that bear its name,
/// which a stopped one has too.
pub(super) fn is_streams(
    group: &GroupId,
    description: Option<&GroupDescription>,
    topics: &BTreeMap<TopicName, i32>,
) -> bool {
    let by_protocol = description.is_some_and(|described| {
        described.protocol == GroupProtocol::Streams
            || described.assignor.as_deref() == Some(STREAMS_ASSIGNOR)
    });
    let internal = |topic: &TopicName| {
        let rest = topic.as_str().strip_prefix(group.as_str()).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|rest| rest.ends_with("-changelog") || rest.ends_with("-repartition"))
    };
    by_protocol || topics.keys().any(internal)
}

/// What is unread, by group and partition, with the pace of the reading.
pub(super) fn unread(
    traffic: &Traffic,
    required: &BTreeMap<GroupId, BTreeSet<TopicName>>,
    places: &[TopicPartition],
) -> BTreeMap<(GroupId, TopicPartition), Result<Unread, String>> {
    let partitions = places.iter().map(|place| (place.clone(), None)).collect();
    let verdict =
        prove(&Required { groups: required.clone(), partitions, ..Required::default() }, &traffic.now);
    let mut found = BTreeMap::new();
    for remaining in verdict.remaining {
        // A log that did not answer is behind for every group that must read it.
        let groups: Vec<GroupId> = match &remaining.group {
            Some(group) => vec![group.clone()],
            None => required
                .iter()
                .filter(|(_, topics)| topics.contains(&remaining.place.topic))
                .map(|(group, _)| group.clone())
                .collect(),
        };
        for group in groups {
            let key = (group.clone(), remaining.place.clone());
            let records = match &remaining.why {
                NotDrained::Unread { records }
                | NotDrained::NeverCommitted { records }
                | NotDrained::Open { records, .. } => u64::try_from(*records).unwrap_or(0),
                // What retention ate is gone; what it left is unread.
                NotDrained::Lost { .. } | NotDrained::LostUncommitted { .. } => {
                    left(traffic, &remaining.place)
                }
                _ => {
                    found.insert(key, Err(remaining.to_string()));
                    continue;
                }
            };
            found.insert(key, Ok(one(traffic, group, remaining.place.clone(), records)));
        }
    }
    found
}

fn one(traffic: &Traffic, group: GroupId, place: TopicPartition, records: u64) -> Unread {
    let read = Seen { amount: read_between(traffic, &group, &place), over_ms: traffic.over_ms };
    let in_log = left(traffic, &place).max(1);
    let size = traffic.sizes.as_ref().and_then(|sizes| sizes.as_ref().ok()?.get(&place)?.as_ref().ok());
    let bytes = size.map_or(0, |size| {
        u64::try_from(u128::from(*size) * u128::from(records) / u128::from(in_log)).unwrap_or(u64::MAX)
    });
    let oldest_age_ms = match traffic.ages.get(&place) {
        Some(Ok(age)) => *age,
        _ => 0,
    };
    Unread { group, place, records, bytes, oldest_age_ms, read }
}

/// Whether a group has read all that it could: what is unread came since the first look, or stands in a transaction that is
/// not over.
pub(super) fn keeps_up(traffic: &Traffic, unread: &Unread) -> bool {
    let Some(Ok(before)) = traffic.before.logs.get(&unread.place) else { return false };
    let key = (unread.group.clone(), unread.place.clone());
    let Some(Ok(now)) = traffic.now.progress.get(&key) else { return false };
    now.tail == Tail::Open || now.committed.is_some_and(|committed| committed >= before.end)
}

/// How long a group takes to read what is unread, at the pace that was seen; `None` if it does not read.
fn time_for(traffic: &Traffic, unread: &Unread) -> Option<u64> {
    let at_its_pace = unread.read.ms_for(unread.records);
    at_its_pace.or_else(|| keeps_up(traffic, unread).then_some(traffic.over_ms))
}

/// Offsets between a log's start and end.
pub(super) fn left(traffic: &Traffic, place: &TopicPartition) -> u64 {
    match traffic.now.logs.get(place) {
        Some(Ok(range)) => u64::try_from(range.end.0 - range.start.0).unwrap_or(0),
        _ => 0,
    }
}

fn read_between(traffic: &Traffic, group: &GroupId, place: &TopicPartition) -> u64 {
    let key = (group.clone(), place.clone());
    let commit = |seen: &crate::drain::Observation| {
        seen.progress.get(&key).and_then(|answer| answer.as_ref().ok()?.committed)
    };
    match (commit(&traffic.before), commit(&traffic.now)) {
        (Some(before), Some(now)) => u64::try_from(now.0 - before.0).unwrap_or(0),
        _ => 0,
    }
}

/// Every group of a cluster, and those that the plan names.
pub(super) fn report(
    old: &ClusterSeen,
    plan: &Plan,
    moving: &BTreeMap<TopicName, i32>,
    required: &BTreeMap<GroupId, BTreeSet<TopicName>>,
    traffic: &Traffic,
    unread: &BTreeMap<(GroupId, TopicPartition), Result<Unread, String>>,
) -> Vec<GroupReport> {
    let names: BTreeSet<&GroupId> = old.known_groups().chain(required.keys()).collect();
    let report = |group: &GroupId| {
        let description = old.description(group);
        let topics = read_topics(old, group, moving, required);
        let standing = match () {
            () if required.contains_key(group) => GroupStanding::Required,
            () if plan.waived_groups.contains(group) => GroupStanding::Waived,
            () => GroupStanding::Unconcerned,
        };
        let shares = description.is_some_and(|described| described.protocol == GroupProtocol::Share);
        let observed = standing == GroupStanding::Required && !shares;
        let mine = of(unread, group).map(|(_, answer)| answer.as_ref().ok());
        let lag = || mine.clone().map(|one| one.map(|one| one.records)).sum();
        let longest = |longest: u64, ms: Option<u64>| Some(longest.max(ms?));
        let drain_ms = || mine.clone().map(|one| time_for(traffic, one?)).try_fold(0, longest);
        GroupReport {
            group: group.clone(),
            standing,
            protocol: description.map(|described| described.protocol.clone()),
            state: description.map(|described| described.state.clone()),
            members: description.and_then(|described| Some(described.members.as_ref()?.len())),
            is_streams: is_streams(group, description, moving),
            topics,
            lag: observed.then(lag).flatten(),
            lost: observed.then(|| lost(traffic, group)).flatten(),
            read: observed.then(|| read(traffic, group)).flatten(),
            drain_ms: observed.then(drain_ms).flatten(),
        }
    };
    names.into_iter().map(report).collect()
}

/// The topics of those that move which a group reads: it committed there, is assigned to it, or the plan says so.
pub(super) fn read_topics(
    old: &ClusterSeen,
    group: &GroupId,
    moving: &BTreeMap<TopicName, i32>,
    required: &BTreeMap<GroupId, BTreeSet<TopicName>>,
) -> BTreeSet<TopicName> {
    let committed = old.groups.iter().filter_map(|groups| groups.listed().get(group)).flatten();
    let assigned = old.description(group).into_iter().flat_map(|described| &described.topics);
    let all = committed.chain(assigned).chain(required.get(group).into_iter().flatten());
    all.filter(|topic| moving.contains_key(*topic)).cloned().collect()
}

/// What is kept of a group's partitions: clusters have many of both, so that nobody looks through all for one.
fn of<'a, T>(
    all: &'a BTreeMap<(GroupId, TopicPartition), T>,
    group: &'a GroupId,
) -> impl Iterator<Item = (&'a TopicPartition, &'a T)> + Clone {
    let first = (group.clone(), TopicPartition::new("", i32::MIN));
    let mine = all.range(first..).take_while(move |((owner, _), _)| owner == group);
    mine.map(|((_, place), one)| (place, one))
}

fn read(traffic: &Traffic, group: &GroupId) -> Option<u64> {
    let mine = of(&traffic.now.progress, group).map(|(place, now)| {
        let key = (group.clone(), place.clone());
        let both = now.is_ok() && traffic.before.progress.get(&key)?.is_ok();
        both.then(|| read_between(traffic, group, place))
    });
    mine.sum()
}

fn lost(traffic: &Traffic, group: &GroupId) -> Option<u64> {
    let mine = of(&traffic.now.progress, group).map(|(place, answer)| {
        let start = traffic.now.logs.get(place)?.as_ref().ok()?.start;
        let committed = answer.as_ref().ok()?.committed;
        Some(committed.map_or(0, |committed| u64::try_from(start.0 - committed.0).unwrap_or(0)))
    });
    mine.sum()
}
