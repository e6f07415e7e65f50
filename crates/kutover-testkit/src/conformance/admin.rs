//! [`ClusterAdmin`], but for its fence. Every function works on a topic of its own, which the caller names.

use std::collections::{BTreeMap, BTreeSet};

use kutover_core::error::ErrorKind;
use kutover_core::ports::{
    Access, AclRule, ClusterAdmin, LagQuery, LagSource, NewAccess, NewTopic, QuotaEntity, Registry,
};
use kutover_core::words::{GroupId, Offset, TopicName, TopicPartition};

use super::{Clause, lag};

pub use super::admin_fence::*;

const PORT: &str = "ClusterAdmin";

pub(super) fn topic(name: &TopicName, partitions: i32) -> NewTopic {
    NewTopic { name: name.clone(), partitions, replication: 1, configs: BTreeMap::new() }
}

/// Clause 1.
pub async fn a_cluster_knows_itself(cluster: &dyn ClusterAdmin) {
    let clause = Clause::new(PORT, 1, "`identity` asks the cluster itself each time");
    let (first, second) = (clause.ok(cluster.identity().await), clause.ok(cluster.identity().await));
    clause.holds(first == second, (&first, &second));
    clause.holds(!first.cluster_id.as_str().is_empty() && !first.brokers.is_empty(), first);
}

/// Clause 1. `change` has the cluster say something else of itself, as another one behind the same servers does.
pub async fn a_changed_cluster_is_noticed(cluster: &dyn ClusterAdmin, change: impl AsyncFnOnce()) {
    let clause = Clause::new(PORT, 1, "`identity` asks the cluster itself each time");
    let before = clause.ok(cluster.identity().await);
    change().await;
    let after = clause.ok(cluster.identity().await);
    clause.holds(before != after, after);
}

/// Clause 2.
pub async fn topics_are_made_once_and_grow(cluster: &dyn ClusterAdmin, name: &TopicName) {
    let clause = Clause::new(
        PORT,
        2,
        "`create_topic` is repeatable, adds partitions where there are fewer, and never takes any",
    );
    let mut first_id = None;
    for (asked, expected) in [(2, 2), (2, 2), (4, 4), (1, 4)] {
        clause.ok(cluster.create_topic(&topic(name, asked)).await);
        let found = clause.ok(cluster.topics().await);
        let found = found.into_iter().find(|found| found.name == *name);
        let partitions = found.as_ref().map(|found| found.partitions);
        clause.holds(partitions == Some(expected), (asked, partitions));
        // Another id is another topic, without the records of the one that was there.
        let id = found.and_then(|found| found.id);
        let first_id = first_id.get_or_insert_with(|| id.clone());
        clause.holds(*first_id == id, (first_id, id));
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

/// Clause 3. The offsets that are asked for differ, so that a commit that was moved shows.
pub async fn start_offsets_leave_commits_alone(
    cluster: &dyn ClusterAdmin,
    source: &dyn LagSource,
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
    let query = LagQuery {
        groups: [(group.clone(), [name.clone()].into())].into(),
        partitions: vec![place(0), place(1)],
        ..LagQuery::default()
    };
    let committed = async || {
        let answers = clause.ok(lag::collect(source, query.clone()).await);
        let of = |partition| {
            let given = answers.groups.get(&(group.clone(), place(partition)))?;
            given.first()?.as_ref().ok()?.committed
        };
        [of(0), of(1)]
    };
    let (zero, other) = (Some(Offset(0)), Some(Offset(5)));
    for (wanted, left_alone, stand) in [
        (vec![(place(0), Offset(0))], vec![], [zero, None]),
        (vec![(place(0), Offset(3)), (place(1), Offset(5))], vec![place(0)], [zero, other]),
        (vec![(place(0), Offset(0)), (place(1), Offset(7))], vec![place(0), place(1)], [zero, other]),
    ] {
        let wanted = wanted.into_iter().collect();
        let kept = clause.ok(cluster.set_start_offsets(group, &wanted).await);
        clause.holds(kept == left_alone, (&wanted, kept));
        let found = committed().await;
        clause.holds(found == stand, (&wanted, found));
    }
}

/// A rule about reading in groups behind `kutover-conformance`.
pub fn rule(principal: &str, permission: &str) -> AclRule {
    AclRule {
        // A topic of which rules speak would be hidden from whoever is not among them.
        resource: "group".into(),
        name: "kutover-conformance".into(),
        pattern: "prefixed".into(),
        principal: principal.into(),
        host: "*".into(),
        operation: "read".into(),
        permission: permission.into(),
    }
}

/// Clause 8. `expected` is all that stands there.
pub async fn access_is_told_whole(cluster: &dyn ClusterAdmin, expected: &Access) {
    let clause =
        Clause::new(PORT, 8, "`access` tells each part whole, or that the cluster has no such thing");
    let found = clause.ok(cluster.access().await);
    clause.holds(found == *expected, found);
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

/// Every clause that needs nothing but a cluster with a fence that knows topics. `prefix` begins the names of all topics and
/// groups; `source` and `registry` are of the same cluster.
pub async fn check_all(
    cluster: &dyn ClusterAdmin,
    source: &dyn LagSource,
    registry: &dyn Registry,
    prefix: &str,
) {
    let name = |tail: &str| TopicName::new(format!("{prefix}-{tail}"));
    a_cluster_knows_itself(cluster).await;
    topics_are_made_once_and_grow(cluster, &name("made")).await;
    ends_of_a_missing_topic_are_an_error(cluster, &name("missing")).await;
    let group = GroupId::new(format!("{prefix}-group"));
    start_offsets_leave_commits_alone(cluster, source, &group, &name("starts")).await;
    a_fence_is_proven_while_it_stands(cluster, &name("fenced")).await;
    an_open_cluster_is_proven_open(cluster, &name("open")).await;
    a_lift_takes_nothing_else(cluster, &name("lifted"), &name("beside")).await;
    let member = GroupId::new(format!("{prefix}-member"));
    reserved_topics_are_never_fenced(cluster, registry, &member, &name("reserved")).await;
    the_fence_is_no_access(cluster, &name("access")).await;
    what_is_granted_stays(cluster).await;
    configs_are_set_and_taken_away(cluster, &name("configs")).await;
    what_is_left_of_a_fence_is_named(cluster, &name("traces")).await;
}
