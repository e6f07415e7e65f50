//! [`ProducerIds`].

use std::collections::BTreeMap;

use kutover_core::error::ErrorKind;
use kutover_core::ports::{NewestIds, ProducerIds};
use kutover_core::words::{TopicName, TopicPartition};

use super::Clause;

const PORT: &str = "ProducerIds";

/// How far the mark lies above all brokers: whoever is to pass it must use up the block it is in, and one more.
const AHEAD: u64 = 1_500;
/// Calls of `pass` after which a mark that near must be passed.
const CALLS: usize = 50;

fn known(clause: Clause, newest: &NewestIds) -> BTreeMap<i32, u64> {
    let all = newest.iter().map(|(broker, id)| id.as_ref().ok().map(|id| (*broker, *id)));
    let all: Option<BTreeMap<i32, u64>> = all.collect();
    clause.holds(all.as_ref().is_some_and(|all| !all.is_empty()), newest);
    all.unwrap_or_default()
}

/// Clause 1, with all brokers in service.
pub async fn every_broker_says_where_it_stands(ids: &dyn ProducerIds, brokers: usize) {
    let clause = Clause::new(PORT, 1, "`newest` asks every broker of the cluster for a new id");
    let newest = known(clause, &clause.ok(ids.newest().await));
    clause.holds(newest.len() == brokers, &newest);
}

/// Clause 1, where a broker can be made silent without the cluster giving it up. `silence` says which one it was.
pub async fn a_silent_broker_is_an_error(ids: &dyn ProducerIds, silence: impl AsyncFnOnce() -> i32) {
    let clause = Clause::new(PORT, 1, "a broker without an answer is an `Err` in its place, never left out");
    let silent = silence().await;
    let newest = clause.ok(ids.newest().await);
    clause.holds(newest.get(&silent).is_some_and(Result::is_err), &newest);
}

/// Clause 2.
pub async fn no_id_is_given_out_twice(ids: &dyn ProducerIds) {
    let clause =
        Clause::new(PORT, 2, "each `newest` of a broker is above all that came from that broker before");
    let mut before = known(clause, &clause.ok(ids.newest().await));
    for _ in 0..3 {
        let now = known(clause, &clause.ok(ids.newest().await));
        let above = now.iter().all(|(broker, id)| before.get(broker).is_none_or(|earlier| id > earlier));
        clause.holds(above, (&before, &now));
        before = now;
    }
}

/// Clause 3.
pub async fn a_mark_is_passed_by_every_broker(ids: &dyn ProducerIds) {
    let clause = Clause::new(PORT, 3, "`pass` uses up the ids of every broker that is below the mark");
    let start = known(clause, &clause.ok(ids.newest().await));
    let mark = start.values().max().copied().unwrap_or_default() + AHEAD;
    for _ in 0..CALLS {
        let reached = known(clause, &clause.ok(ids.pass(mark).await));
        if reached.values().all(|id| *id >= mark) {
            break;
        }
    }
    let newest = known(clause, &clause.ok(ids.newest().await));
    clause.holds(newest.values().all(|id| *id >= mark), (mark, &newest));
}

/// Clause 4. `write` has an idempotent producer write a record to the topic, which is there and empty, and gives its id.
/// `missing` is not there.
pub async fn who_wrote_is_live(
    ids: &dyn ProducerIds,
    topic: &TopicName,
    write: impl AsyncFnOnce() -> u64,
    missing: &TopicName,
) {
    let clause =
        Clause::new(PORT, 4, "`live` gives every id that a partition of the topics knows a writer by");
    let before = clause.ok(ids.live(std::slice::from_ref(topic)).await);
    clause.holds(before.is_empty(), &before);
    let writer = write().await;
    let live = clause.ok(ids.live(std::slice::from_ref(topic)).await);
    clause.holds(live.contains(&writer), (writer, &live));
    let text = clause.refused(ids.live(std::slice::from_ref(missing)).await, ErrorKind::NotFound);
    clause.holds(text.contains(missing.as_str()), text);
}

/// Clause 4, for clusters that cannot tell who wrote. `empty` is a topic that never held a record; `written` is a partition of
/// another one that did.
pub async fn unknown_writers_are_not_nobody(
    ids: &dyn ProducerIds,
    empty: &TopicName,
    written: &TopicPartition,
) {
    let clause = Clause::new(
        PORT,
        4,
        "where a cluster cannot tell, only partitions that never held a record count as known to no writer",
    );
    let nobody = clause.ok(ids.live(std::slice::from_ref(empty)).await);
    clause.holds(nobody.is_empty(), nobody);
    let text = clause.refused(ids.live(std::slice::from_ref(&written.topic)).await, ErrorKind::Unsupported);
    clause.holds(text.contains(&written.to_string()), text);
}

/// Every clause that needs nothing but the cluster itself, with all its brokers in service.
pub async fn check_all(ids: &dyn ProducerIds, brokers: usize) {
    every_broker_says_where_it_stands(ids, brokers).await;
    no_id_is_given_out_twice(ids).await;
    a_mark_is_passed_by_every_broker(ids).await;
}
