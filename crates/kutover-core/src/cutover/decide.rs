//! Decisions that are pure functions of what was answered.

use std::collections::{BTreeMap, BTreeSet};

use super::{Draft, Plan, Prepared, Redirected, Side, Topics, Verified};
use crate::chain::{Chain, ChainError, ClosedBy, Segment, SegmentEnd};
use crate::controls::{Control, without};
use crate::decisions::closing;
use crate::drain::{Observation, ReadOut, Required};
use crate::messages::{MemberKind, MemberState};
use crate::owner::Target;
use crate::ports::{ClusterIdentity, Incarnation, PartitionEnd, TopicDescription};
use crate::words::{ClusterId, Generation, GroupId, InstanceName, Offset, TopicName, TopicPartition};

/// Two names for one cluster, or brokers in common, mean that a switch would move nobody, or move them in a circle (L5).
pub(crate) fn distinct(old: &ClusterIdentity, new: &ClusterIdentity) -> Result<(), String> {
    if without(Control::SameCluster) {
        return Ok(());
    }
    if old.cluster_id == new.cluster_id {
        return Err(format!(
            "both colours lead to cluster {}: give the new colour a cluster of its own",
            old.cluster_id
        ));
    }
    let shared: Vec<&str> = old.brokers.intersection(&new.brokers).map(String::as_str).collect();
    if !shared.is_empty() {
        return Err(format!(
            "both clusters advertise the broker {}: set advertised.listeners of the new one to its own addresses",
            shared.join(", ")
        ));
    }
    Ok(())
}

/// The old cluster must be the one that was published: what is fenced, drained and removed is where producers were.
pub(crate) fn is_published(published: &Target, old: &ClusterIdentity) -> Result<(), String> {
    if old.cluster_id == published.cluster_id {
        return Ok(());
    }
    Err(format!(
        "{} leads to cluster {}, but the owner record says that producers are on {}: correct clusters.{} in the \
         configuration",
        published.colour, old.cluster_id, published.cluster_id, published.colour
    ))
}

/// A cluster that is not the one that was verified before must not be acted on.
pub(super) fn same_as_before(
    verified: &Verified,
    old: &ClusterIdentity,
    new: &ClusterIdentity,
) -> Result<(), String> {
    for (side, now) in [(&verified.old, old), (&verified.new, new)] {
        if side.identity.cluster_id != now.cluster_id {
            return Err(format!(
                "{} was cluster {} and is now {}: find out who replaced it",
                side.incarnation.colour, side.identity.cluster_id, now.cluster_id
            ));
        }
    }
    distinct(old, new)
}

/// Why there is nothing to switch: a named topic that the old cluster does not have is a slip of the pen, and a cluster
/// without topics has no producers to move.
pub(crate) fn nothing_moves(plan: &Plan, there: &[TopicDescription]) -> Option<String> {
    if let Topics::Named(names) = &plan.topics
        && let Some(missing) = names.iter().find(|name| !there.iter().any(|topic| topic.name == **name))
    {
        return Some(format!(
            "plan.topics names {missing}, which the old cluster does not have: correct the name, or make the topic there"
        ));
    }
    let moving = plan.moving(there);
    if moving.is_empty() {
        let why =
            "the old cluster has no topic to move: there is nothing to switch, change the record by hand";
        return Some(why.into());
    }
    if let Topics::Named(names) = &plan.raised_retention
        && let Some(stays) = names.iter().find(|name| !moving.contains_key(*name))
    {
        return Some(format!(
            "plan.raise_retention names {stays}, which is not among the topics that move: correct the name"
        ));
    }
    plan.groups.iter().find_map(|(group, read)| {
        let stays = read.iter().flatten().find(|topic| !moving.contains_key(*topic))?;
        Some(format!(
            "plan.groups says that {group} reads {stays}, which is not among the topics that move: it could never be seen \
             to have read it; correct the name"
        ))
    })
}

/// What came, shrank or grew among the topics that move, after their partitions were closed: nobody reads it to its end there.
pub(super) fn changed_topics(
    closed: &BTreeMap<TopicName, i32>,
    now: &BTreeMap<TopicName, i32>,
) -> Option<String> {
    let born = now.iter().find_map(|(topic, count)| match closed.get(topic) {
        None => Some(format!("topic {topic} was made")),
        Some(then) if then < count => Some(format!("topic {topic} grew from {then} to {count} partitions")),
        Some(_) => None,
    });
    if let Some(born) = born {
        return Some(format!(
            "{born} on the old cluster after it was closed, and what is written there is read by nobody: find out who did it \
             and move them, then roll back or take away there what nobody wants"
        ));
    }
    let smaller = closed.iter().find(|(topic, then)| now.get(*topic).is_none_or(|count| count < then))?.0;
    Some(format!(
        "topic {smaller} was re-created smaller on the old cluster after it was closed: what was left in it unread is lost, \
         and nothing can be proven of it any more; find out who did it. To go on without it, delete it there, name it in \
         plan.waive_deleted and run `up` again"
    ))
}

/// Where producers will belong.
pub(super) fn next_target(published: &Target, verified: &Verified) -> Target {
    let Incarnation { colour, bootstrap, .. } = &verified.new.incarnation;
    Target {
        generation: published.generation.next(),
        colour: *colour,
        cluster_id: verified.new.identity.cluster_id.clone(),
        bootstrap: bootstrap.clone(),
    }
}

/// The ends that were answered, for every partition that moves; a missing one is named.
fn end_of<'a>(ends: &'a [PartitionEnd], place: &TopicPartition) -> Result<&'a PartitionEnd, String> {
    ends.iter().find(|end| end.place == *place).ok_or_else(|| format!("{place}: its end was not answered"))
}

/// Opens the new generation's segments at the new cluster's ends, and on first contact the current generation's at the
/// old cluster's log starts.
pub(super) fn open_segments(
    chain: &Chain,
    published: &Target,
    target: &Target,
    verified: &Verified,
    old_ends: &[PartitionEnd],
    new_ends: &[PartitionEnd],
) -> Result<Chain, String> {
    let mut chain = chain.clone();
    let refuse = |error: ChainError| error.to_string();
    for place in verified.partitions() {
        let known = chain.segments(&place).iter().any(|segment| segment.generation == published.generation);
        if !known {
            let start = end_of(old_ends, &place)?.start;
            let old = verified.old.identity.cluster_id.clone();
            chain.open(place.clone(), published.generation, published.colour, old, start).map_err(refuse)?;
        }
        let start = start_on(&chain, &place, &verified.new.identity.cluster_id, end_of(new_ends, &place)?)?;
        chain
            .open(place, target.generation, target.colour, target.cluster_id.clone(), start)
            .map_err(refuse)?;
    }
    Ok(chain)
}

/// Where the next segments start on a cluster that holds earlier ones: where the last of these ended. What a straggler wrote
/// there since belongs to the new one, and so does all of one that was given up.
fn after_earlier(segments: &[Segment], cluster: &ClusterId) -> Option<(Generation, Offset)> {
    let earlier = segments.iter().rfind(|segment| segment.cluster_id == *cluster)?;
    let start = match earlier.end {
        SegmentEnd::Closed { end, .. } => end,
        SegmentEnd::Unreadable | SegmentEnd::Open => earlier.start,
    };
    Some((earlier.generation, start))
}

/// Where groups start on a cluster that holds segments of generations up to the published one.
pub(super) fn starts_on(
    chain: &Chain,
    published: Generation,
    cluster: &ClusterId,
) -> Vec<(TopicPartition, Offset)> {
    let start = |(place, segments): (&TopicPartition, &[Segment])| {
        let earlier = segments.partition_point(|segment| segment.generation <= published);
        Some((place.clone(), after_earlier(&segments[..earlier], cluster)?.1))
    };
    chain.iter().filter_map(start).collect()
}

/// Where a segment starts on a cluster: at its end, or, where it holds earlier ones, where the last of these ended.
fn start_on(
    chain: &Chain,
    place: &TopicPartition,
    cluster: &ClusterId,
    end: &PartitionEnd,
) -> Result<Offset, String> {
    let Some((generation, start)) = after_earlier(chain.segments(place), cluster) else {
        return Ok(end.high_watermark);
    };
    if start > end.high_watermark {
        return Err(format!(
            "{place}: generation {generation} ended at {start} on cluster {cluster}, but its log ends at {}: find out who \
             removed records or re-created the topic",
            end.high_watermark
        ));
    }
    Ok(start)
}

/// Where producers will belong after a rollback.
pub(super) fn target_back(redirected: &Redirected) -> Target {
    let Side { incarnation, identity } = &redirected.prepared.verified.old;
    Target {
        generation: redirected.target.generation.next(),
        colour: incarnation.colour,
        cluster_id: identity.cluster_id.clone(),
        bootstrap: incarnation.bootstrap.clone(),
    }
}

/// Closes a generation's segments on one side. A partition that was added after the switch gets its segment here: nobody had
/// read it, and its records count like the others. Gives the chain and the partition counts as they are closed.
pub(super) fn close_segments(
    chain: &Chain,
    left: Generation,
    verified: &Verified,
    side: &Side,
    ends: &[PartitionEnd],
    by: ClosedBy,
) -> Result<(Chain, BTreeMap<TopicName, i32>), String> {
    let mut chain = chain.clone();
    let mut topics = verified.topics.clone();
    let refuse = |error: ChainError| error.to_string();
    for place in verified.partitions() {
        end_of(ends, &place)?;
    }
    for end in ends {
        let place = &end.place;
        let Some(count) = topics.get_mut(&place.topic) else {
            return Err(format!("{place} is not among the topics that move: it was fenced by mistake"));
        };
        *count = (*count).max(place.partition + 1);
        if !chain.segments(place).iter().any(|segment| segment.generation == left) {
            let Side { incarnation, identity } = side;
            chain
                .open(place.clone(), left, incarnation.colour, identity.cluster_id.clone(), end.start)
                .map_err(refuse)?;
        }
        chain.close(place, left, end.high_watermark, by).map_err(refuse)?;
    }
    Ok((chain, topics))
}

/// Why no quiet closes these ends: a transaction is open, and its marker is still to come (L10).
pub(super) fn still_open(ends: &[PartitionEnd]) -> Option<String> {
    ends.iter().find_map(|end| {
        let why = closing::open_transaction(end.stable_end, end.high_watermark)?;
        Some(format!("not closed: {}: {why}", end.place))
    })
}

/// Records between the starts and closed ends of a generation's segments.
pub(super) fn closed_records(chain: &Chain, generation: Generation, verified: &Verified) -> i64 {
    let ends = chain.closed_ends(generation, &verified.partitions()).unwrap_or_default();
    ends.iter()
        .filter_map(|(place, end)| {
            let segment = chain.segments(place).iter().find(|segment| segment.generation == generation)?;
            Some(end.0 - segment.start.0)
        })
        .sum()
}

/// What has to be drained, with the closed ends that must still stand.
pub(super) fn required(chain: &Chain, left: Generation, prepared: &Prepared, read_out: &ReadOut) -> Required {
    let places = prepared.verified.partitions();
    let ends = chain.closed_ends(left, &places).unwrap_or_default();
    let old = &prepared.verified.old.identity.cluster_id;
    let start = |place: &TopicPartition| {
        let segment = chain.segments(place).iter().find(|segment| segment.generation == left)?;
        // The new cluster's was opened by this cutover, at its end.
        if segment.cluster_id != *old {
            return Some((place.clone(), segment.start));
        }
        let begun = prepared.draft.log_starts.iter().find(|(known, _)| known == place)?.1;
        Some((place.clone(), segment.start.max(begun)))
    };
    let starts = places.iter().filter_map(start).collect();
    Required {
        groups: prepared.must_read(),
        partitions: places
            .into_iter()
            .map(|place| {
                let end = ends.get(&place).copied();
                (place, end)
            })
            .collect(),
        starts,
        read_out: read_out.clone(),
    }
}

/// Takes what stands behind a generation's closed ends out of what was seen, and counts it. Either a quiet window closed them
/// and nothing holds them, or a fence was lifted behind our back: what came since belongs to the next segment there.
pub(super) fn leave_behind(
    chain: &Chain,
    left: Generation,
    verified: &Verified,
    seen: &mut Observation,
) -> i64 {
    let mut behind = 0;
    for (place, end) in chain.closed_ends(left, &verified.partitions()).unwrap_or_default() {
        if let Some(Ok(log)) = seen.logs.get_mut(&place) {
            behind += (log.end.0 - end.0).max(0);
            log.end = log.end.min(end);
        }
    }
    behind
}

/// The newest word of each producer over all clusters: the one with the highest heartbeat.
fn newest(by_cluster: &[Vec<MemberState>]) -> BTreeMap<String, &MemberState> {
    let mut newest: BTreeMap<String, &MemberState> = BTreeMap::new();
    for member in by_cluster.iter().flatten().filter(|member| member.kind == MemberKind::Producer) {
        let known = newest.entry(member.key()).or_insert(member);
        if known.heartbeat < member.heartbeat {
            *known = member;
        }
    }
    newest
}

/// How many producers say that they have moved, of how many, and who has not, but for those that nobody waits for.
pub(super) fn convergence(
    by_cluster: &[Vec<MemberState>],
    target: &Target,
    waived: &BTreeSet<InstanceName>,
) -> (usize, usize, Vec<String>) {
    let newest = newest(by_cluster);
    let (moved, mut waiting): (Vec<&MemberState>, Vec<&MemberState>) = newest
        .values()
        .partition(|member| member.generation >= target.generation && member.cluster_id == target.cluster_id);
    waiting.retain(|member| !waived.contains(&member.instance));
    (
        moved.len(),
        moved.len() + waiting.len(),
        waiting.iter().map(|member| member.instance.to_string()).collect(),
    )
}

/// Producers whose newest word says that they are elsewhere than on the cluster where they belong: key and heartbeat.
pub(super) fn not_on(by_cluster: &[Vec<MemberState>], cluster: &ClusterId) -> Vec<(String, u64)> {
    newest(by_cluster)
        .into_iter()
        .filter(|(_, member)| member.cluster_id != *cluster)
        .map(|(key, member)| (key, member.heartbeat))
        .collect()
}

/// Groups that a listing adds to what is required; `true` if there are new ones (L9: a group born late).
pub(super) fn late_groups(
    plan: &Plan,
    draft: &mut Draft,
    listed: &BTreeMap<GroupId, BTreeSet<TopicName>>,
    topics: &BTreeMap<TopicName, i32>,
) -> bool {
    if without(Control::LateGroupsIgnored) {
        return false;
    }
    let before = draft.groups.clone();
    plan.require(&mut draft.groups, listed, topics);
    draft.groups != before
}
