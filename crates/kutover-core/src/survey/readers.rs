//! Who reads the old cluster, and what a plan is refused over because of them.

use std::collections::BTreeSet;

use super::groups::{is_streams, read_topics};
use super::refusals::{Facets, Found};
use super::{Code, Waiver};
use crate::drain::{GroupProgress, NotDrained, Remaining, Tail};
use crate::ports::{GroupListing, GroupProtocol};
use crate::words::{GroupId, TopicName};

pub(super) fn refusals(facets: &Facets<'_>, found: &mut Found) {
    let is_known = listed(facets, found);
    let Facets { old, plan, required, waivers, .. } = facets;
    let known: BTreeSet<&GroupId> = old.known_groups().collect();
    for group in known {
        // Where nothing is told of any group, nothing is told of each.
        let answer = match &old.described {
            Ok(described) => described.get(group).map(Result::as_ref),
            Err(reason) => Some(Err(reason)),
        };
        let Some(answer) = answer else { continue }; // It is gone since it was listed.
        let waive_group = Some(Waiver::list("plan.waive_groups", group.as_str()));
        let is_waived = plan.waived_groups.contains(group);
        let description = match answer {
            Ok(description) => description,
            Err(reason) => {
                if is_waived || required.contains_key(group) {
                    let reason = format!("group {group}: what it is was not answered ({reason})");
                    found.put(is_waived, Code::UnknownGroup, group.as_str(), reason, waive_group);
                }
                continue;
            }
        };
        if description.protocol == GroupProtocol::Share {
            let reason = format!(
                "group {group} is a share group: it has no offsets, so nobody can prove that it has read everything. Let \
                 it read the old cluster to its end by hand"
            );
            found.put(is_waived, Code::ShareGroup, group.as_str(), reason, waive_group);
        }
    }
    for group in streams(facets) {
        let reason = format!(
            "group {group} is a Streams application: its state and its repartition topics stay behind. Drain and reset it \
             by hand, then say so"
        );
        let waiver = Some(Waiver::list("plan.waive_streams", group.as_str()));
        found.put(waivers.streams.include(group.as_str()), Code::Streams, group.as_str(), reason, waiver);
    }
    beyond(facets, found);
    if is_known {
        unread_topics(facets, found);
    }
}

/// What is said of groups that the plan names and that are not there: a slip of the pen is found before the drain waits for it. It is
/// no refusal, since a group may yet come.
pub(super) fn missing(facets: &Facets<'_>) -> Vec<String> {
    let Facets { old, plan, required, .. } = facets;
    let missing = plan.groups.keys().filter(|group| required.contains_key(*group) && old.lacks(group));
    let note = |group: &GroupId| {
        format!(
            "group {group} is in plan.groups, and the old cluster has no group of that name: the drain will wait until it has \
             read what is there. Correct the name if it is another"
        )
    };
    missing.map(note).collect()
}

/// L9: a group of which nobody knows what it has read would hold the drain once everybody has moved.
fn beyond(facets: &Facets<'_>, found: &mut Found) {
    let mut named = BTreeSet::new();
    for ((group, place), progress) in &facets.survey.traffic.now.progress {
        let Ok(GroupProgress { committed: Some(committed), tail: Tail::Beyond }) = progress else { continue };
        let is_required = facets.required.get(group).is_some_and(|topics| topics.contains(&place.topic));
        if is_required && named.insert(group) {
            let why = NotDrained::Beyond { committed: *committed };
            let reason = Remaining { group: Some(group.clone()), place: place.clone(), why }.to_string();
            let waiver = Some(Waiver::list("plan.waive_groups", group.as_str()));
            found.put(false, Code::UnknownGroup, group.as_str(), reason, waiver);
        }
    }
}

/// Whether it is known who reads the old cluster: its groups were listed, or the plan names them.
fn listed(facets: &Facets<'_>, found: &mut Found) -> bool {
    let Facets { old, plan, .. } = facets;
    match &old.groups {
        Ok(GroupListing::Unsupported) if plan.remove_old && plan.groups.is_empty() => {
            let reason = "the old cluster cannot list its groups, and the plan names none: name them in plan.groups (who is \
                          not known cannot be waited for)";
            let waiver = Some(Waiver::value("plan.remove_old", "false"));
            found.put(false, Code::UnknownGroups, "groups", reason.into(), waiver);
            false
        }
        Ok(_) => true,
        Err(reason) => {
            let reason = format!(
                "the old cluster's groups were not listed ({reason}): the cutover would wait until they are. See to the broker \
                 that does not answer, or let kutover's user describe the group that is named"
            );
            found.put(false, Code::UnknownGroups, "groups", reason, None);
            false
        }
    }
}

/// Every Streams application among the groups.
pub(super) fn streams<'a>(facets: &Facets<'a>) -> BTreeSet<&'a GroupId> {
    let Facets { old, moving, .. } = facets;
    old.known_groups().filter(|group| is_streams(group, old.description(group), moving)).collect()
}

/// L9: a topic that nobody must read is missed by no drain.
fn unread_topics(facets: &Facets<'_>, found: &mut Found) {
    let Facets { old, moving, required, waivers, plan, .. } = facets;
    if !plan.remove_old {
        return;
    }
    let readers = old.known_groups().chain(required.keys());
    let readers = readers.filter(|group| !plan.waived_groups.contains(group));
    let read: BTreeSet<TopicName> =
        readers.flat_map(|group| read_topics(old, group, moving, required)).collect();
    let of_streams = streams(facets);
    let internal = |topic: &TopicName| {
        of_streams.iter().any(|group| {
            let only = [(topic.clone(), 1)].into();
            is_streams(group, None, &only)
        })
    };
    for topic in moving.keys() {
        if read.contains(topic) || *topic == plan.schemas_topic || internal(topic) {
            continue;
        }
        let reason = format!(
            "topic {topic}: no group reads it, so nobody is waited for before its records go with the old cluster: name \
             its readers in plan.groups"
        );
        let waiver = Some(Waiver::list("plan.waive_unread", topic.as_str()));
        found.put(waivers.unread.includes(topic), Code::UnreadTopic, topic.as_str(), reason, waiver);
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, places};
    use super::*;
    use crate::words::Offset;

    /// Where groups cannot be listed, nobody knows whether it is there.
    #[test]
    fn a_group_that_the_plan_alone_knows_is_noted() {
        let mut world = World::sound();
        world.plan.groups = [("biling".into(), Some(["orders".into()].into()))].into();
        let noted = |world: &World| {
            let notes = world.assess().notes;
            notes.iter().filter(|note| note.starts_with("group biling is in plan.groups")).count()
        };
        assert_eq!(noted(&world), 1);
        world.blue().groups = Ok(GroupListing::Unsupported);
        assert_eq!(noted(&world), 0);
        world = World::sound();
        world.plan.groups = [("billing".into(), Some(["orders".into()].into()))].into();
        assert_eq!(world.assess().notes, World::sound().assess().notes);
    }

    /// L9: it is named once, although each of its partitions tells of it.
    #[test]
    fn a_group_whose_commits_lie_beyond_the_log_is_refused() {
        let mut world = World::sound();
        for place in places() {
            let beyond = GroupProgress { committed: Some(Offset(1_000)), tail: Tail::Beyond };
            world.survey.traffic.now.progress.insert(("billing".into(), place), Ok(beyond));
        }
        let unknown = |world: &World| -> Vec<String> {
            let refusals = world.assess().refusals.into_iter();
            refusals.filter(|one| one.code == Code::UnknownGroup).map(|one| one.to_string()).collect()
        };
        let [text] = &unknown(&world)[..] else { panic!("{:?}", unknown(&world)) };
        assert!(text.contains("its commit 1000 lies beyond the end of the log"), "{text}");
        assert!(text.contains("plan.waive_groups = [\"billing\"]"), "{text}");
        world.plan.waived_groups = ["billing".into()].into();
        assert_eq!(unknown(&world), [""; 0]);
    }
}
