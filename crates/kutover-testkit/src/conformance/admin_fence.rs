//! The fence of a [`ClusterAdmin`], and its proofs. Every function works on topics of its own, which the caller names.

use kutover_core::error::{ErrorKind, ProviderResult, Retry};
use kutover_core::ports::{AclRule, ClusterAdmin, FenceProof, NewAccess, PartitionEnd, Registry};
use kutover_core::words::{CONTROL_TOPIC, GroupId, MEMBERS_TOPIC, Offset, TopicName, TopicPartition};

use super::Clause;
use super::admin::{rule, topic};

const PORT: &str = "ClusterAdmin";
/// Kafka's own topic of commits.
const COMMITS_TOPIC: &str = "__consumer_offsets";

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

/// Clause 7, for clusters that have a fence: the control topic takes messages, and Kafka's own one commits of a group that has
/// none, although their fence was asked for.
pub async fn reserved_topics_are_never_fenced(
    cluster: &dyn ClusterAdmin,
    registry: &dyn Registry,
    member: &GroupId,
    name: &TopicName,
) {
    let clause = Clause::new(PORT, 7, "kutover's own topics and Kafka's internal ones are never fenced");
    clause.ok(registry.prepare().await);
    clause.ok(cluster.create_topic(&topic(name, 1)).await);
    let reserved = [CONTROL_TOPIC, MEMBERS_TOPIC, COMMITS_TOPIC].map(TopicName::new);
    let topics: Vec<TopicName> = reserved.into_iter().chain([name.clone()]).collect();
    clause.ok(cluster.raise_fence(&topics).await);
    let proof = clause.ok(cluster.prove_fence(&topics).await);
    clause.holds(proof.topics.keys().eq([name]), proof);
    let said = registry.say(&super::registry::claim(1)).await;
    let start = [(TopicPartition { topic: name.clone(), partition: 0 }, Offset(0))].into();
    let committed = cluster.set_start_offsets(member, &start).await;
    clause.ok(cluster.lift_fence(&topics).await);
    clause.ok(said);
    clause.ok(committed);
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

/// Clauses 4 and 11, for clusters whose fence knows topics: neither the fence of another topic nor anybody's rules go with it,
/// and a rule that only looks like a fence is none.
pub async fn a_lift_takes_nothing_else(cluster: &dyn ClusterAdmin, name: &TopicName, beside: &TopicName) {
    let clause =
        Clause::new(PORT, 4, "`lift_fence` takes away all that `raise_fence` added and nothing else");
    let traces = Clause::new(PORT, 11, "what only looks like a fence is not named by `fence_traces`");
    for wanted in [name, beside] {
        clause.ok(cluster.create_topic(&topic(wanted, 1)).await);
    }
    if clause.ok(cluster.access().await).acls.is_some() {
        let about = |who: &str, permission: &str, operation: &str| AclRule {
            resource: "topic".into(),
            operation: operation.into(),
            name: name.to_string(),
            pattern: "literal".into(),
            ..rule(who, permission)
        };
        // The second one lets everybody else in: a topic of which rules speak is hidden from whoever is not among them.
        let acls = [about("User:kutover-other", "deny", "write"), about("User:*", "allow", "all")].into();
        clause.ok(cluster.grant(&NewAccess { acls, ..NewAccess::default() }).await);
    }
    let found = traces.ok(cluster.fence_traces().await);
    traces.holds(!found.contains(name), found);
    let before = clause.ok(cluster.access().await);
    clause.ok(cluster.raise_fence(&[name.clone(), beside.clone()]).await);
    clause.ok(cluster.lift_fence(std::slice::from_ref(name)).await);
    let left = cluster.prove_fence(std::slice::from_ref(beside)).await;
    clause.ok(cluster.lift_fence(std::slice::from_ref(beside)).await);
    clause.ok(left);
    let after = clause.ok(cluster.access().await);
    clause.holds(before == after, (before, after));
}

/// Clause 4, for clusters that have a fence. `reads` says whether an ordinary client can read the topic.
pub async fn readers_keep_reading_under_the_fence(
    cluster: &dyn ClusterAdmin,
    name: &TopicName,
    reads: impl AsyncFn(&TopicName) -> bool,
) {
    let clause = Clause::new(PORT, 4, "readers keep reading under the fence");
    clause.ok(cluster.create_topic(&topic(name, 1)).await);
    clause.ok(cluster.raise_fence(std::slice::from_ref(name)).await);
    let can_read = reads(name).await;
    clause.ok(cluster.lift_fence(std::slice::from_ref(name)).await);
    clause.holds(can_read, "they cannot");
}

/// Clauses 5 and 6, for clusters that have a fence. `hole` has the leader of this partition, of several, take records whatever
/// the fence says, from before it is raised.
pub async fn every_leader_is_asked(
    cluster: &dyn ClusterAdmin,
    place: &TopicPartition,
    hole: impl AsyncFnOnce(),
) {
    let fenced = Clause::new(PORT, 5, "`prove_fence` is `Ok` only if every leader refused");
    let open = Clause::new(PORT, 6, "`prove_open` is `Ok` only if every leader would take a record");
    fenced.ok(cluster.create_topic(&topic(&place.topic, place.partition + 2)).await);
    let topics = std::slice::from_ref(&place.topic);
    hole().await;
    fenced.ok(cluster.raise_fence(topics).await);
    let proofs = (cluster.prove_fence(topics).await, cluster.prove_open(topics).await);
    fenced.ok(cluster.lift_fence(topics).await);
    names(fenced, place, proofs.0);
    open.holds(proofs.1.is_err(), "`Ok`, although all leaders but one refuse");
}

/// Clauses 5 and 6, for clusters that have a fence. `silence` has the leader of this partition answer nobody any more, `speak`
/// undoes it.
pub async fn a_silent_leader_proves_nothing(
    cluster: &dyn ClusterAdmin,
    place: &TopicPartition,
    (silence, speak): (impl AsyncFn(), impl AsyncFn()),
) {
    let fenced =
        Clause::new(PORT, 5, "`prove_fence`: a leader that is silent is an error that names the partition");
    let open = Clause::new(PORT, 6, "`prove_open` is `Ok` only if every leader would take a record");
    fenced.ok(cluster.create_topic(&topic(&place.topic, place.partition + 1)).await);
    let topics = std::slice::from_ref(&place.topic);
    silence().await;
    names(open, place, cluster.prove_open(topics).await);
    speak().await;
    fenced.ok(cluster.raise_fence(topics).await);
    silence().await;
    names(fenced, place, cluster.prove_fence(topics).await);
    speak().await;
    fenced.ok(cluster.prove_fence(topics).await);
    fenced.ok(cluster.lift_fence(topics).await);
}

/// Clause 6. `shut` keeps ordinary clients out, and not the controller.
pub async fn an_ordinary_client_proves_it_open(
    cluster: &dyn ClusterAdmin,
    name: &TopicName,
    shut: impl AsyncFnOnce(),
) {
    let clause = Clause::new(PORT, 6, "`prove_open` is done as an ordinary client");
    clause.ok(cluster.create_topic(&topic(name, 1)).await);
    let topics = std::slice::from_ref(name);
    clause.ok(cluster.prove_open(topics).await);
    shut().await;
    clause.ok(cluster.ends(topics).await);
    let given = cluster.prove_open(topics).await;
    clause.holds(given.is_err(), "`Ok`, although ordinary clients are shut out");
}

fn names<T: std::fmt::Debug>(clause: Clause, place: &TopicPartition, proof: ProviderResult<T>) {
    match proof {
        Ok(proof) => clause.holds(false, proof),
        Err(error) => clause.holds(error.to_string().contains(&place.to_string()), error),
    }
}
