//! [`ClusterAdmin`]. Every function works on a topic of its own, which the caller names.

use std::collections::{BTreeMap, BTreeSet};

use kutover_core::error::{ErrorKind, Retry};
use kutover_core::ports::{
    AclRule, ClusterAdmin, FenceProof, NewAccess, NewTopic, PartitionEnd, QuotaEntity, Registry,
};
use kutover_core::words::{CONTROL_TOPIC, GroupId, Offset, TopicName, TopicPartition};

use super::Clause;

const PORT: &str = "ClusterAdmin";

fn topic(name: &TopicName, partitions: i32) -> NewTopic {
    NewTopic { name: name.clone(), partitions, replication: 1, configs: BTreeMap::new() }
}

/// Clause 1.
pub async fn a_cluster_knows_itself(cluster: &dyn ClusterAdmin) {
    let clause = Clause::new(PORT, 1, "`identity` asks the cluster itself each time");
    let (first, second) = (clause.ok(cluster.identity().await), clause.ok(cluster.identity().await));
    clause.holds(first == second, (&first, &second));
    clause.holds(!first.cluster_id.as_str().is_empty() && !first.brokers.is_empty(), first);
}

/// Clause 2.
pub async fn topics_are_made_once_and_grow(cluster: &dyn ClusterAdmin, name: &TopicName) {
    let clause = Clause::new(
        PORT,
        2,
        "`create_topic` is repeatable, adds partitions where there are fewer, and never takes any",
    );
    for (asked, expected) in [(2, 2), (2, 2), (4, 4), (1, 4)] {
        clause.ok(cluster.create_topic(&topic(name, asked)).await);
        let found = clause.ok(cluster.topics().await);
        let partitions = found.iter().find(|found| found.name == *name).map(|found| found.partitions);
        clause.holds(partitions == Some(expected), (asked, partitions));
        let ends = clause.ok(cluster.ends(std::slice::from_ref(name)).await);
        let places: BTreeSet<_> = ends.iter().map(|end| end.place.partition).collect();
        clause.holds(places == (0..expected).collect(), places);
    }
    for _ in 0..2 {
        clause.ok(cluster.delete_topics(std::slice::from_ref(name)).await);
    }
    let left = clause.ok(cluster.topics().await);
    clause.holds(left.iter().all(|left| left.name != *name), "deleted, but still there");
}

/// Clause 2, with a config that this cluster does not know. For clusters that have configs at all.
pub async fn an_unknown_config_is_named(cluster: &dyn ClusterAdmin, name: &TopicName, config: &str) {
    let clause = Clause::new(
        PORT,
        2,
        "a config that the cluster does not know is `Refused`, names the config, and creates nothing",
    );
    let mut wanted = topic(name, 1);
    wanted.configs.insert(config.to_owned(), "1".into());
    let text = clause.refused(cluster.create_topic(&wanted).await, ErrorKind::Refused);
    clause.holds(text.contains(config), text);
    let topics = clause.ok(cluster.topics().await);
    clause.holds(topics.iter().all(|topic| topic.name != *name), "the topic was made");
}

/// `ends`: what is not there is an error that names it, never left out.
pub async fn ends_of_a_missing_topic_are_an_error(cluster: &dyn ClusterAdmin, missing: &TopicName) {
    let clause = Clause::new(PORT, 0, "`ends`: a partition without an answer is an error that names it");
    match cluster.ends(std::slice::from_ref(missing)).await {
        Ok(ends) => clause.holds(false, ends),
        Err(error) => clause.holds(error.to_string().contains(missing.as_str()), error),
    }
}

/// Clause 3: the second call finds the commits that the first one made, and gives them back untouched.
pub async fn start_offsets_leave_commits_alone(
    cluster: &dyn ClusterAdmin,
    group: &GroupId,
    name: &TopicName,
) {
    let clause = Clause::new(
        PORT,
        3,
        "`set_start_offsets` never moves a group's commit, and gives back the partitions where there is one",
    );
    clause.ok(cluster.create_topic(&topic(name, 2)).await);
    let place = |partition| TopicPartition { topic: name.clone(), partition };
    let kept = clause.ok(cluster.set_start_offsets(group, &[(place(0), Offset(0))].into()).await);
    clause.holds(kept.is_empty(), kept);
    let both = [(place(0), Offset(0)), (place(1), Offset(0))].into();
    let kept = clause.ok(cluster.set_start_offsets(group, &both).await);
    clause.holds(kept == [place(0)], kept);
    let kept = clause.ok(cluster.set_start_offsets(group, &both).await);
    clause.holds(kept == [place(0), place(1)], kept);
}

/// Clauses 4 and 5, for clusters that have a fence.
pub async fn a_fence_is_proven_while_it_stands(cluster: &dyn ClusterAdmin, name: &TopicName) -> FenceProof {
    let raised = Clause::new(
        PORT,
        4,
        "`raise_fence` and `lift_fence` are repeatable, and `lift_fence` takes away all of it",
    );
    let proven =
        Clause::new(PORT, 5, "`prove_fence` is `Ok` only if every leader refused, and writes nothing");
    raised.ok(cluster.create_topic(&topic(name, 2)).await);
    let topics = std::slice::from_ref(name);
    let before = proven.ok(cluster.ends(topics).await);
    unproven(proven, cluster, name).await;
    for _ in 0..2 {
        raised.ok(cluster.raise_fence(topics).await);
    }
    let first = proven.ok(cluster.prove_fence(topics).await);
    let second = proven.ok(cluster.prove_fence(topics).await);
    proven.holds(first == second, (&first, &second));
    proven.holds(first.ends.len() == 2 && first.topics.keys().eq([name]), &first);
    for _ in 0..2 {
        raised.ok(cluster.lift_fence(topics).await);
    }
    unproven(raised, cluster, name).await;
    let after = proven.ok(cluster.ends(topics).await);
    proven.holds(before == after, (before, after));
    first
}

/// Clause 4, for clusters that can be given a fence which shuts readers out as well: `cluster` has one.
pub async fn a_fence_that_shuts_readers_out_is_taken_away(cluster: &dyn ClusterAdmin, name: &TopicName) {
    let clause = Clause::new(
        PORT,
        4,
        "a fence that shuts out an ordinary client which could read before is taken away again, and `raise_fence` is `Refused` and \
         names the topic",
    );
    clause.ok(cluster.create_topic(&topic(name, 2)).await);
    let topics = std::slice::from_ref(name);
    for _ in 0..2 {
        clause.ok(cluster.prove_open(topics).await);
        let text = clause.refused(cluster.raise_fence(topics).await, ErrorKind::Refused);
        clause.holds(text.contains(name.as_str()), text);
    }
    clause.ok(cluster.prove_open(topics).await);
}

async fn unproven(clause: Clause, cluster: &dyn ClusterAdmin, name: &TopicName) {
    match cluster.prove_fence(std::slice::from_ref(name)).await {
        Ok(proof) => clause.holds(false, proof),
        Err(error) => clause.holds(error.to_string().contains(name.as_str()), error),
    }
}

/// Clause 5, for clusters that have a fence, and transactions. `begin` opens a transaction, writes its first record to the
/// partition, of a topic that is there by then, and gives its offset; `end` ends it, markers and all.
pub async fn a_fence_is_not_proven_over_an_open_transaction<T>(
    cluster: &dyn ClusterAdmin,
    place: &TopicPartition,
    begin: impl AsyncFn() -> (T, Offset),
    end: impl AsyncFn(T),
) {
    let clause = Clause::new(
        PORT,
        5,
        "`prove_fence` is `Ok` only if no transaction is open: its marker passes the fence, and stands before the proven end",
    );
    clause.ok(cluster.create_topic(&topic(&place.topic, place.partition + 1)).await);
    let topics = std::slice::from_ref(&place.topic);
    let there = |ends: Vec<PartitionEnd>| ends.into_iter().find(|end| end.place == *place);
    let (transaction, since) = begin().await;
    clause.ok(cluster.raise_fence(topics).await);
    let open = there(clause.ok(cluster.ends(topics).await));
    let shows = |end: &PartitionEnd| end.stable_end == since && since < end.high_watermark;
    clause.holds(open.as_ref().is_some_and(shows), &open);
    match cluster.prove_fence(topics).await {
        Ok(proof) => clause.holds(false, proof),
        Err(error) => {
            let names = error.to_string().contains(&place.to_string());
            clause.holds(names && error.retry == Retry::Later, error);
        }
    }
    end(transaction).await;
    let proven = there(clause.ok(cluster.prove_fence(topics).await).ends);
    clause.ok(cluster.lift_fence(topics).await);
    let behind = |end: &PartitionEnd| {
        end.stable_end == end.high_watermark
            && open.as_ref().is_some_and(|open| end.high_watermark > open.high_watermark)
    };
    clause.holds(proven.as_ref().is_some_and(behind), (&open, &proven));
}

/// Clause 6, for clusters that have a fence.
pub async fn an_open_cluster_is_proven_open(cluster: &dyn ClusterAdmin, name: &TopicName) {
    let clause = Clause::new(
        PORT,
        6,
        "`prove_open` is `Ok` only if every leader would take a record, and writes nothing",
    );
    clause.ok(cluster.create_topic(&topic(name, 2)).await);
    let topics = std::slice::from_ref(name);
    let before = clause.ok(cluster.ends(topics).await);
    clause.ok(cluster.prove_open(topics).await);
    clause.ok(cluster.raise_fence(topics).await);
    let fenced = cluster.prove_open(topics).await;
    clause.ok(cluster.lift_fence(topics).await);
    match fenced {
        Ok(()) => clause.holds(false, "`Ok` under a fence"),
        Err(error) => clause.holds(error.to_string().contains(name.as_str()), error),
    }
    clause.ok(cluster.prove_open(topics).await);
    let after = clause.ok(cluster.ends(topics).await);
    clause.holds(before == after, (before, after));
}

/// Clause 7, for clusters that have a fence: the control topic takes messages although its fence was asked for.
pub async fn reserved_topics_are_never_fenced(
    cluster: &dyn ClusterAdmin,
    registry: &dyn Registry,
    name: &TopicName,
) {
    let clause = Clause::new(PORT, 7, "kutover's own topics are never fenced, whatever is asked");
    clause.ok(registry.prepare().await);
    clause.ok(cluster.create_topic(&topic(name, 1)).await);
    let topics = [TopicName::new(CONTROL_TOPIC), name.clone()];
    clause.ok(cluster.raise_fence(&topics).await);
    let proof = clause.ok(cluster.prove_fence(&topics).await);
    clause.holds(proof.topics.keys().eq([name]), proof);
    let said = registry.say(&super::registry::claim(1)).await;
    clause.ok(cluster.lift_fence(&topics).await);
    clause.ok(said);
}

/// A rule about writing to topic `kutover-conformance`.
pub fn rule(principal: &str, permission: &str) -> AclRule {
    AclRule {
        resource: "topic".into(),
        name: "kutover-conformance".into(),
        pattern: "prefixed".into(),
        principal: principal.into(),
        host: "*".into(),
        operation: "write".into(),
        permission: permission.into(),
    }
}

/// Clause 8.
pub async fn the_fence_is_no_access(cluster: &dyn ClusterAdmin, name: &TopicName) {
    let clause =
        Clause::new(PORT, 8, "`access` tells each part whole; the fence's own rules are no part of it");
    clause.ok(cluster.create_topic(&topic(name, 1)).await);
    let before = clause.ok(cluster.access().await);
    clause.ok(cluster.raise_fence(std::slice::from_ref(name)).await);
    let under = cluster.access().await;
    clause.ok(cluster.lift_fence(std::slice::from_ref(name)).await);
    let under = clause.ok(under);
    clause.holds(under == before, under);
}

/// Clause 9. Parts that the cluster does not have are left out.
pub async fn what_is_granted_stays(cluster: &dyn ClusterAdmin) {
    let clause = Clause::new(PORT, 9, "`grant` adds what it is given, is repeatable, and takes nothing away");
    let found = clause.ok(cluster.access().await);
    let quota = |user: &str| {
        let entity = QuotaEntity::from([("user".to_owned(), Some(user.to_owned()))]);
        (entity, BTreeMap::from([("producer_byte_rate".to_owned(), 1_048_576.0)]))
    };
    for user in ["kutover-one", "kutover-two"] {
        let wanted = NewAccess {
            acls: found.acls.iter().map(|_| rule(&format!("User:{user}"), "allow")).collect(),
            quotas: found.quotas.iter().map(|_| quota(user)).collect(),
            scram_users: found
                .scram_users
                .iter()
                .map(|_| (user.to_owned(), ["SCRAM-SHA-512".to_owned()].into()))
                .collect(),
        };
        for _ in 0..2 {
            let left = clause.ok(cluster.grant(&wanted).await);
            clause.holds(left == wanted.scram_users, left);
        }
    }
    let now = clause.ok(cluster.access().await);
    for user in ["kutover-one", "kutover-two"] {
        let has_rule =
            now.acls.as_ref().is_none_or(|acls| acls.contains(&rule(&format!("User:{user}"), "allow")));
        let (entity, value) = quota(user);
        let has_quota = now.quotas.as_ref().is_none_or(|quotas| quotas.get(&entity) == Some(&value));
        clause.holds(has_rule && has_quota, &now);
    }
    let had = found.acls.unwrap_or_default();
    clause.holds(had.is_subset(now.acls.as_ref().unwrap_or(&had)), &now);
}

/// Clause 10, for clusters that tell their topics' configs.
pub async fn configs_are_set_and_taken_away(cluster: &dyn ClusterAdmin, name: &TopicName) {
    let clause =
        Clause::new(PORT, 10, "`alter_configs` sets and takes away exactly what it is given, repeatably");
    let own = [("retention.ms".to_owned(), "1000".to_owned()), ("segment.ms".to_owned(), "9000".to_owned())];
    let wanted = NewTopic { configs: own.into(), ..topic(name, 1) };
    clause.ok(cluster.create_topic(&wanted).await);
    let change = |value: Option<&str>, bytes: Option<&str>| {
        let set = [("retention.ms", value), ("retention.bytes", bytes)];
        let set = set.map(|(config, value)| (config.to_owned(), value.map(str::to_owned)));
        [(name.clone(), BTreeMap::from(set))].into()
    };
    for (value, bytes) in [(Some("-1"), Some("-1")), (None, Some("7")), (Some("1000"), None)] {
        for _ in 0..2 {
            clause.ok(cluster.alter_configs(&change(value, bytes)).await);
            let found = clause.ok(cluster.topics().await);
            let found = found.into_iter().find(|found| found.name == *name);
            let told = found.and_then(|found| found.configs).unwrap_or_default();
            let mut expected = BTreeMap::from([("segment.ms".to_owned(), "9000".to_owned())]);
            expected.extend(value.map(|value| ("retention.ms".to_owned(), value.to_owned())));
            expected.extend(bytes.map(|bytes| ("retention.bytes".to_owned(), bytes.to_owned())));
            clause.holds(told == expected, told);
        }
    }
    clause.ok(cluster.delete_topics(std::slice::from_ref(name)).await);
}

/// Clause 11, for clusters that have a fence.
pub async fn what_is_left_of_a_fence_is_named(cluster: &dyn ClusterAdmin, name: &TopicName) {
    let clause = Clause::new(PORT, 11, "`fence_traces` names the topics on which anything of a fence stands");
    clause.ok(cluster.create_topic(&topic(name, 1)).await);
    let topics = std::slice::from_ref(name);
    let before = clause.ok(cluster.fence_traces().await);
    clause.holds(!before.contains(name), before);
    clause.ok(cluster.raise_fence(topics).await);
    let under = cluster.fence_traces().await;
    clause.ok(cluster.lift_fence(topics).await);
    let under = clause.ok(under);
    clause.holds(under.contains(name), under);
    let after = clause.ok(cluster.fence_traces().await);
    clause.holds(!after.contains(name), after);
}

/// Every clause that needs nothing but a cluster with a fence. `prefix` begins the names of all topics and groups.
pub async fn check_all(cluster: &dyn ClusterAdmin, registry: &dyn Registry, prefix: &str) {
    let name = |tail: &str| TopicName::new(format!("{prefix}-{tail}"));
    a_cluster_knows_itself(cluster).await;
    topics_are_made_once_and_grow(cluster, &name("made")).await;
    ends_of_a_missing_topic_are_an_error(cluster, &name("missing")).await;
    start_offsets_leave_commits_alone(cluster, &GroupId::new(format!("{prefix}-group")), &name("starts"))
        .await;
    a_fence_is_proven_while_it_stands(cluster, &name("fenced")).await;
    an_open_cluster_is_proven_open(cluster, &name("open")).await;
    reserved_topics_are_never_fenced(cluster, registry, &name("reserved")).await;
    the_fence_is_no_access(cluster, &name("access")).await;
    what_is_granted_stays(cluster).await;
    configs_are_set_and_taken_away(cluster, &name("configs")).await;
    what_is_left_of_a_fence_is_named(cluster, &name("traces")).await;
}
