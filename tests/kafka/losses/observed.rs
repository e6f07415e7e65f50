//! What is seen of a real cluster, and what is decided from it.

use std::collections::{BTreeMap, BTreeSet};

use krafka::Record;
use kutover_admin::{AdminConfig, FenceWith};
use kutover_controller::driver::observe;
use kutover_core::controls::Control;
use kutover_core::decisions::stragglers::{Look, stragglers};
use kutover_core::drain::{self, DrainVerdict, Observation, Required, Tail};
use kutover_core::ports::{ClusterAdmin as _, LagQuery, ProducerSurvey as _};
use kutover_core::words::{GroupId, Offset, TopicName, TopicPartition};
use kutover_testkit::until;
use kutover_tests_kafka::clients::{BOUND, commit, delete_before, make_topics, write};

use super::{Stage, admin, stopped};

fn reads(group: &str, topic: &str) -> BTreeMap<GroupId, BTreeSet<TopicName>> {
    [(group.into(), [topic.into()].into())].into()
}

/// One group's progress on partition 0 of a topic, as the controller looks at it.
async fn look(stage: &Stage, group: &str, topic: &str) -> Observation {
    let partitions = vec![TopicPartition::new(topic, 0)];
    let query = LagQuery { groups: reads(group, topic), partitions, read_tails: true, ..LagQuery::default() };
    observe(&stage.admin, &stage.admin, query).await.expect("it answers")
}

fn judge(group: &str, topic: &str, closed: Option<Offset>, seen: &Observation) -> DrainVerdict {
    let partitions = vec![(TopicPartition::new(topic, 0), closed)];
    drain::prove(&Required { groups: reads(group, topic), partitions, ..Required::default() }, seen)
}

/// L10: what a group "lags" by a transaction's marker is nothing to wait for.
pub(super) async fn a_marker_is_no_record(stage: &Stage) {
    make_topics(&stage.kafka, &[("ledger", 1, &[])]).await;
    let producer = stage.kafka.producer().metrics_push(false).build_transactional("ledger-writer").await;
    let producer = producer.expect("a transactional producer");
    producer.begin().expect("begin");
    for n in 0..3 {
        let _stored =
            producer.send(Record::new("ledger", format!("{n}")).partition(0)).await.expect("stored");
    }
    producer.commit().await.expect("commit");
    commit(&stage.kafka, "billing", "ledger", 1, 3).await;
    let key = (GroupId::new("billing"), TopicPartition::new("ledger", 0));
    let marked = async || {
        let seen = look(stage, "billing", "ledger").await;
        let progress = seen.progress[&key].as_ref().expect("it answers");
        (progress.tail == Tail::NoData).then_some(seen)
    };
    // It is written a moment after the commit is answered.
    let seen = until("the commit's marker", BOUND, marked).await;
    assert_eq!(seen.logs[&key.1].as_ref().expect("it answers").end, Offset(4), "three records and a marker");
    let verdict = judge("billing", "ledger", None, &seen);
    stopped(verdict.is_drained(), Control::TailUnread, format!("the drain waits for ever: {verdict:?}"));
}

/// L11: records that retention deleted before a group had read them are a loss, not an end.
pub(super) async fn what_retention_took_is_not_read(stage: &Stage) {
    make_topics(&stage.kafka, &[("eaten", 1, &[])]).await;
    write(&stage.kafka, "eaten", 1, 10).await;
    commit(&stage.kafka, "slow", "eaten", 1, 2).await;
    delete_before(&stage.kafka, "eaten", 10).await;
    let verdict = judge("slow", "eaten", None, &look(stage, "slow", "eaten").await);
    let told = verdict.broken_end().unwrap_or_default();
    let said = told.contains("8 records");
    stopped(said, Control::RetentionIgnored, format!("8 records count as read: {verdict:?}"));
}

/// L12: somebody takes the fence away behind our back and writes; the group has even read it.
pub(super) async fn records_behind_a_closed_end_are_seen(stage: &Stage) {
    make_topics(&stage.kafka, &[("closed", 1, &[])]).await;
    write(&stage.kafka, "closed", 1, 3).await;
    let topics = [TopicName::new("closed")];
    stage.admin.raise_fence(&topics).await.expect("raised");
    let proof = stage.admin.prove_fence(&topics).await.expect("proven");
    let end = proof.ends[0].high_watermark;
    commit(&stage.kafka, "reader", "closed", 1, end.0).await;
    let whole = judge("reader", "closed", Some(end), &look(stage, "reader", "closed").await);
    assert!(whole.is_drained(), "{whole:?}");
    stage.admin.lift_fence(&topics).await.expect("lifted");
    stage.admin.prove_open(&topics).await.expect("open");
    write(&stage.kafka, "closed", 1, 1).await;
    commit(&stage.kafka, "reader", "closed", 1, end.0 + 1).await;
    let verdict = judge("reader", "closed", Some(end), &look(stage, "reader", "closed").await);
    let seen = verdict.broken_end().is_some();
    stopped(seen, Control::PastEndIgnored, format!("a record behind {end} is nobody's: {verdict:?}"));
}

/// L8: a stock producer that no receipt claims is named with what it wrote between two looks.
pub(super) async fn who_writes_is_named(stage: &Stage) {
    make_topics(&stage.kafka, &[("tills", 1, &[])]).await;
    let places = [TopicPartition::new("tills", 0)];
    let looked = async |at_ms| {
        let partitions = stage.admin.writers(&places).await.expect("it answers");
        Look { at_ms, partitions }
    };
    let before = looked(0).await;
    write(&stage.kafka, "tills", 1, 5).await;
    let report = stragglers(&before, &looked(1_000).await, &BTreeSet::new());
    let named = matches!(report.writing.as_slice(), [one] if one.producer_id.is_some() && one.records == 5);
    stopped(named, Control::StragglersIgnored, format!("5 records of nobody's: {report:?}"));
}

/// L17: a transaction is open, and its marker could never be written under a size fence.
pub(super) async fn no_size_fence_over_an_open_transaction(stage: &Stage) {
    make_topics(&stage.kafka, &[("payments", 1, &[])]).await;
    let by_size = AdminConfig { fence: FenceWith::Size, ..AdminConfig::default() };
    let by_size = admin(&stage.world.blue, by_size).await;
    let producer = stage.kafka.producer().metrics_push(false).build_transactional("payments-writer").await;
    let producer = producer.expect("a transactional producer");
    producer.begin().expect("begin");
    let _stored = producer.send(Record::new("payments", "open").partition(0)).await.expect("stored");
    let raised = by_size.raise_fence(&[TopicName::new("payments")]).await;
    let why = raised.as_ref().map_or_else(ToString::to_string, |kind| format!("a {kind:?} fence stands"));
    let refused = raised.is_err() && why.contains("payments-writer is open");
    stopped(refused, Control::AnyFence, format!("an open transaction can never end: {why}"));
    producer.commit().await.expect("commit");
}
