//! [`ClusterSurvey`]. The caller makes topics and records; the functions only look.

use std::collections::{BTreeMap, BTreeSet};

use kutover_core::error::{ErrorKind, ProviderResult};
use kutover_core::ports::{ClusterAdmin, ClusterSurvey, NewTopic};
use kutover_core::words::{Offset, TopicName, TopicPartition};

use super::Clause;

const PORT: &str = "ClusterSurvey";

/// Whether a call was answered; what it said is for the other clauses.
fn answered<T>(answer: ProviderResult<T>) -> bool {
    answer.is_ok()
}

/// Clause 1, with a topic that is there. Every call is made, whether the cluster has it or not.
pub async fn looking_changes_nothing(
    survey: &dyn ClusterSurvey,
    admin: &dyn ClusterAdmin,
    topic: &TopicName,
) {
    let clause = Clause::new(PORT, 1, "no call changes anything on the cluster or leaves anything behind");
    let state = async || {
        let topics = clause.ok(admin.topics().await);
        let ends = clause.ok(admin.ends(std::slice::from_ref(topic)).await);
        (topics, clause.ok(admin.groups().await), ends)
    };
    let before = state().await;
    let topics = std::slice::from_ref(topic);
    let place = TopicPartition::new(topic.clone(), 0);
    let configs = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
    let made =
        |name: &str| NewTopic { name: name.into(), partitions: 1, replication: 1, configs: configs.clone() };
    let calls = [
        answered(survey.topic_configs(topics).await),
        answered(survey.broker_configs().await),
        answered(survey.refused_topics(&[made("kutover.never"), made(topic.as_str())]).await),
        answered(survey.describe_groups().await),
        answered(survey.transactional_ids().await),
        answered(survey.sizes(topics).await),
        answered(survey.ages(&BTreeMap::from([(place.clone(), Offset(0))]), 0).await),
    ];
    let after = state().await;
    clause.holds(after == before, (calls, before, after));
}

/// Clause 2, with a topic that is not there, for calls that the cluster has.
pub async fn what_does_not_answer_is_an_error(survey: &dyn ClusterSurvey, missing: &TopicName) {
    let clause = Clause::new(
        PORT,
        2,
        "a thing that was asked for and did not answer is an `Err` in its place, never left out, empty or zero",
    );
    if let Ok(configs) = survey.topic_configs(std::slice::from_ref(missing)).await {
        clause.holds(matches!(configs.get(missing), Some(Err(_))), configs);
    }
    let place = TopicPartition::new(missing.clone(), 0);
    if let Ok(ages) = survey.ages(&BTreeMap::from([(place.clone(), Offset(0))]), 0).await {
        clause.holds(matches!(ages.get(&place), Some(Err(_))), ages);
    }
}

/// Clause 3, for a cluster that cannot list transactions: a version from before 3.0 with a transaction behind it, or an
/// embedded one.
pub async fn a_missing_call_is_unsupported(survey: &dyn ClusterSurvey) {
    let clause =
        Clause::new(PORT, 3, "a call that the cluster does not have is `Unsupported`, never an empty answer");
    let _text = clause.refused(survey.transactional_ids().await, ErrorKind::Unsupported);
}

/// Clause 4. `change` gives a config of the topic another value.
pub async fn configs_are_read_after_the_call(
    survey: &dyn ClusterSurvey,
    topic: &TopicName,
    config: &str,
    change: impl AsyncFn(),
) {
    let clause = Clause::new(PORT, 4, "answers are read after the call, not remembered");
    let value = async || {
        let answers = clause.ok(survey.topic_configs(std::slice::from_ref(topic)).await);
        let configs = answers.get(topic).and_then(|answer| answer.as_ref().ok());
        configs.and_then(|configs| configs.get(config)?.value.clone())
    };
    let before = value().await;
    change().await;
    let after = value().await;
    clause.holds(before.is_some() && after.is_some() && before != after, (before, after));
}

/// Clause 5, with an address that takes connections and one that does not.
pub async fn every_address_is_tried(survey: &dyn ClusterSurvey, open: &str, shut: &str) {
    let clause = Clause::new(
        PORT,
        5,
        "`reach` tries every address by itself; one that takes no connection is an `Err` with the reason",
    );
    let reached = survey.reach(&BTreeSet::from([open.to_owned(), shut.to_owned()])).await;
    let is_told = matches!(reached.get(shut), Some(Err(reason)) if !reason.is_empty());
    clause.holds(reached.get(open) == Some(&Ok(())) && is_told && reached.len() == 2, reached);
}
