//! [`LagSource`]. The caller makes topics, records and commits; the functions only ask.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use kutover_core::drain::{GroupProgress, LogRange, Tail};
use kutover_core::error::ProviderResult;
use kutover_core::ports::{LagBatch, LagQuery, LagSource};
use kutover_core::words::{GroupId, Offset, TopicPartition};

use super::Clause;

const PORT: &str = "LagSource";

/// What a stream came to: every answer, with how often it came.
#[derive(Debug, Default)]
pub struct Answers {
    /// Log ranges.
    pub logs: BTreeMap<TopicPartition, Vec<Result<LogRange, String>>>,
    /// Progress.
    pub groups: BTreeMap<(GroupId, TopicPartition), Vec<Result<GroupProgress, String>>>,
}

/// Reads a stream to its end.
///
/// # Errors
/// The stream's own.
pub async fn collect(source: &dyn LagSource, query: LagQuery) -> ProviderResult<Answers> {
    let mut answers = Answers::default();
    let mut stream = source.lag(query);
    while let Some(batch) = stream.next().await {
        match batch? {
            LagBatch::Logs(logs) => {
                for (place, range) in logs {
                    answers.logs.entry(place).or_default().push(range);
                }
            }
            LagBatch::Group(group, places) => {
                for (place, progress) in places {
                    answers.groups.entry((group.clone(), place)).or_default().push(progress);
                }
            }
        }
    }
    Ok(answers)
}

/// Clause 1, with partitions that are there. The query names every partition of the groups' topics.
pub async fn everything_is_answered_once(source: &dyn LagSource, query: &LagQuery) {
    let clause =
        Clause::new(PORT, 1, "each partition, and each (group, partition of its topics), comes exactly once");
    let answers = clause.ok(collect(source, query.clone()).await);
    let logs: BTreeSet<_> = query.partitions.iter().collect();
    clause.holds(answers.logs.keys().collect::<BTreeSet<_>>() == logs, &answers.logs);
    let pairs: BTreeSet<_> = query
        .groups
        .iter()
        .flat_map(|(group, topics)| {
            let places = query.partitions.iter().filter(|place| topics.contains(&place.topic));
            places.map(|place| (group.clone(), place.clone()))
        })
        .collect();
    clause.holds(answers.groups.keys().cloned().collect::<BTreeSet<_>>() == pairs, &answers.groups);
    clause.holds(answers.logs.values().all(|given| given.len() == 1), &answers.logs);
    clause.holds(answers.groups.values().all(|given| given.len() == 1), &answers.groups);
    clause.holds(answers.logs.values().flatten().all(Result::is_ok), &answers.logs);
}

/// Clause 2, with a partition that is not there.
pub async fn what_does_not_answer_is_an_error(source: &dyn LagSource, missing: &TopicPartition) {
    let clause = Clause::new(
        PORT,
        2,
        "a partition that did not answer is an `Err` in its place, never a zero and never left out",
    );
    let query = LagQuery { partitions: vec![missing.clone()], ..LagQuery::default() };
    // A stream that ends with an error has left nobody in the dark either.
    let Ok(answers) = collect(source, query).await else { return };
    let given = answers.logs.get(missing).map(Vec::as_slice);
    clause.holds(matches!(given, Some([Err(_)])), given);
}

/// Clause 2, with a group that has no commit there.
pub async fn no_commit_is_not_zero(source: &dyn LagSource, group: &GroupId, place: &TopicPartition) {
    let clause = Clause::new(PORT, 2, "a group without a commit has none, never a zero");
    let query = LagQuery {
        groups: [(group.clone(), [place.topic.clone()].into())].into(),
        partitions: vec![place.clone()],
        ..LagQuery::default()
    };
    let answers = clause.ok(collect(source, query).await);
    let given = answers.groups.get(&(group.clone(), place.clone())).map(Vec::as_slice);
    clause.holds(matches!(given, Some([Ok(GroupProgress { committed: None, .. })])), given);
}

/// Clause 2. `silence` has nobody answer for the group any more (L9).
pub async fn a_silent_group_is_an_error(
    source: &dyn LagSource,
    group: &GroupId,
    place: &TopicPartition,
    silence: impl AsyncFnOnce(),
) {
    let clause = Clause::new(
        PORT,
        2,
        "a group that did not answer is an `Err` in its place, never a zero and never left out",
    );
    let query = LagQuery {
        groups: [(group.clone(), [place.topic.clone()].into())].into(),
        partitions: vec![place.clone()],
        ..LagQuery::default()
    };
    clause.ok(collect(source, query.clone()).await);
    silence().await;
    // A stream that ends with an error has left nobody in the dark either.
    let Ok(answers) = collect(source, query).await else { return };
    let given = answers.groups.get(&(group.clone(), place.clone())).map(Vec::as_slice);
    clause.holds(matches!(given, Some([Err(_)])), given);
}

/// Clause 4. The group has no commit there that counts; `commit` has it stand somewhere else, `end` being the log's.
pub async fn a_commit_beyond_the_end_is_told(
    source: &dyn LagSource,
    group: &GroupId,
    place: &TopicPartition,
    commit: impl AsyncFn(Offset),
) {
    let clause = Clause::new(PORT, 4, "a commit that lies beyond the log's end is told to, and no other is");
    for read_tails in [false, true] {
        let query = LagQuery {
            groups: [(group.clone(), [place.topic.clone()].into())].into(),
            partitions: vec![place.clone()],
            read_tails,
            ..LagQuery::default()
        };
        for (beyond, is_told) in [(0, false), (1, true)] {
            let end = clause.ok(collect(source, query.clone()).await).logs[place][0].clone();
            let committed = Offset(end.expect("its log answers").end.0 + beyond);
            commit(committed).await;
            let answers = clause.ok(collect(source, query.clone()).await);
            let given = answers.groups.get(&(group.clone(), place.clone())).map(Vec::as_slice);
            let Some([Ok(GroupProgress { committed: Some(at), tail })]) = given else {
                return clause.holds(false, given);
            };
            clause.holds((*at, *tail == Tail::Beyond) == (committed, is_told), given);
        }
    }
}

/// Clause 3. `append` adds one record to the partition.
pub async fn ranges_are_read_after_the_call(
    source: &dyn LagSource,
    place: &TopicPartition,
    append: impl AsyncFn(),
) {
    let clause = Clause::new(PORT, 3, "log ranges are read after the call, not remembered");
    let query = LagQuery { partitions: vec![place.clone()], ..LagQuery::default() };
    let end = async || {
        let answers = clause.ok(collect(source, query.clone()).await);
        answers.logs.get(place).and_then(|given| given[0].clone().ok()).map(|range| range.end.0)
    };
    let before = end().await;
    append().await;
    let after = end().await;
    clause.holds(before.is_some() && after == before.map(|end| end + 1), (before, after));
}
