//! [`ProducerSurvey`]. The caller makes topics and records; the functions only ask.

use std::collections::BTreeSet;

use kutover_core::decisions::stragglers::{PartitionWriters, Sign};
use kutover_core::ports::ProducerSurvey;
use kutover_core::words::{Offset, TopicPartition};

use super::Clause;

const PORT: &str = "ProducerSurvey";

async fn look(survey: &dyn ProducerSurvey, place: &TopicPartition, clause: Clause) -> PartitionWriters {
    let mut answers = clause.ok(survey.writers(std::slice::from_ref(place)).await);
    match answers.remove(place) {
        Some(Ok(writers)) => writers,
        other => panic!("{PORT}, clause {}: {place} did not answer: {other:?}", clause.number),
    }
}

/// Clause 1, and the end of clause 5, with partitions that are there and one that is not.
pub async fn every_partition_has_its_answer(
    survey: &dyn ProducerSurvey,
    there: &[TopicPartition],
    missing: &TopicPartition,
) {
    let clause = Clause::new(PORT, 1, "`writers` answers each partition that it was asked for, and no other");
    let asked: Vec<TopicPartition> = there.iter().chain([missing]).cloned().collect();
    let answers = clause.ok(survey.writers(&asked).await);
    clause.holds(answers.keys().collect::<BTreeSet<_>>() == asked.iter().collect(), &answers);
    clause.holds(there.iter().all(|place| answers[place].is_ok()), &answers);
    clause.holds(answers[missing].is_err(), &answers[missing]);
    let open = Clause::new(PORT, 5, "a partition that did not answer is an `Err` in its place");
    let answers = open.ok(survey.open_transactions(&asked).await);
    open.holds(answers.get(missing).is_some_and(Result::is_err), &answers);
    open.holds(there.iter().all(|place| answers.get(place).is_some_and(Result::is_ok)), &answers);
}

/// Clauses 2 and 3. `append` has a producer with an id add one record to the partition, and waits until it is acknowledged.
pub async fn what_was_acknowledged_shows(
    survey: &dyn ProducerSurvey,
    place: &TopicPartition,
    append: impl AsyncFn(),
) {
    let clause = Clause::new(PORT, 2, "what was acknowledged before the call is in the answer");
    let around = Clause::new(PORT, 3, "the end is read before the producers and again after them");
    let sequences = |writers: &PartitionWriters| -> i64 {
        writers.producers.values().map(|state| i64::from(state.last_sequence) + 1).sum()
    };
    append().await;
    let before = look(survey, place, clause).await;
    append().await;
    let after = look(survey, place, clause).await;
    clause.holds(after.end > before.end, (&before, &after));
    clause.holds(sequences(&after) > sequences(&before), (&before, &after));
    around.holds(after.end_before <= after.end && after.end_before > before.end_before, (&before, &after));
}

/// Clause 4. `append` adds one record to the partition, of which `sign` is what it says of its producer.
pub async fn the_last_records_come_last(
    survey: &dyn ProducerSurvey,
    place: &TopicPartition,
    sign: &Sign,
    append: impl AsyncFn(),
) {
    let clause = Clause::new(
        PORT,
        4,
        "`last_records` gives the newest records, the newest last and no more than asked for",
    );
    for _ in 0..3 {
        append().await;
    }
    let last = clause.ok(survey.last_records(place, 2).await);
    clause.holds(last.len() == 2 && last[0].offset < last[1].offset, &last);
    clause.holds(last.iter().all(|record| record.sign == *sign), &last);
    append().await;
    let newest = clause.ok(survey.last_records(place, 1).await);
    clause.holds(newest.len() == 1 && newest[0].offset > last[1].offset, (&last, &newest));
}

/// Clause 4, with a partition that nothing was ever written to.
pub async fn an_empty_partition_has_no_last_record(survey: &dyn ProducerSurvey, empty: &TopicPartition) {
    let clause = Clause::new(PORT, 4, "an empty partition has no last records");
    let last = clause.ok(survey.last_records(empty, 5).await);
    clause.holds(last.is_empty(), last);
}

/// Clause 5, and of clause 4 that markers are no records. `begin` opens a transaction, writes its first record to the partition and gives its offset; `end` ends it,
/// markers and all.
pub async fn an_open_transaction_is_named_until_it_ends<T>(
    survey: &dyn ProducerSurvey,
    place: &TopicPartition,
    begin: impl AsyncFn() -> (T, Offset),
    end: impl AsyncFn(T),
) {
    let clause = Clause::new(
        PORT,
        5,
        "`open_transactions` names every transaction that is open, with the offset where it begins, and none that has ended",
    );
    let open = async || {
        let mut answers = clause.ok(survey.open_transactions(std::slice::from_ref(place)).await);
        match answers.remove(place) {
            Some(Ok(open)) => open.iter().map(|open| open.since).collect::<Vec<_>>(),
            other => panic!("{PORT}, clause 5: {place} did not answer: {other:?}"),
        }
    };
    clause.holds(open().await.is_empty(), "a transaction before there was one");
    let (transaction, since) = begin().await;
    let named = open().await;
    clause.holds(named == [since], (since, named));
    end(transaction).await;
    let left = open().await;
    clause.holds(left.is_empty(), left);
    let records = Clause::new(PORT, 4, "markers are not among the `last_records`");
    let last = records.ok(survey.last_records(place, 1).await);
    records.holds(matches!(&last[..], [record] if record.offset == since), (since, last));
}
