//! Who writes to the old cluster, by topic.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Survey, Traffic};
use crate::decisions::stragglers::{Look, Straggler, stragglers};
use crate::drain::{Coordinated, OpenTransaction};
use crate::words::{TopicName, TopicPartition};

/// A producer that wrote between the two looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActiveProducer {
    /// Its producer id; `None` for those that have none (no idempotence), of which there may be several.
    pub producer_id: Option<i64>,
    /// Whether it uses transactions.
    pub transactional: bool,
    /// Records between the looks, on all topics.
    pub records: u64,
}

/// Who writes to one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TopicWriters {
    /// Producers that wrote to it between the looks.
    pub active: Vec<ActiveProducer>,
    /// Producer ids that its partitions know and that wrote nothing: dead, asleep, or about to wake.
    pub silent: usize,
    /// Records that the topic took between the looks; `None` if a partition did not answer.
    pub records: Option<u64>,
}

/// A transaction that stands open in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenReport {
    /// Where.
    pub place: TopicPartition,
    /// What is known of it.
    #[serde(flatten)]
    pub open: OpenTransaction,
    /// Whether it never ends by itself.
    pub hangs: bool,
}

/// The transactions that stand open in both looks. One that its coordinator has forgotten hangs: it was open before and
/// after the coordinator was asked, and not over in between. Where coordinators cannot be asked, one hangs in which nothing
/// was written for longer than any transaction may take.
pub(super) fn open(survey: &Survey, longest_ms: u64) -> Vec<OpenReport> {
    let traffic = &survey.traffic;
    let mut found = Vec::new();
    for (place, answer) in &traffic.open {
        for open in answer.iter().flatten() {
            if !stands(&traffic.first, place, open) || !stands(&traffic.second, place, open) {
                continue;
            }
            let age_ms = u64::try_from(survey.now_ms.saturating_sub(open.last_write_ms)).unwrap_or(0);
            let hangs = match open.coordinator {
                Coordinated::Forgotten => true,
                Coordinated::Known { .. } => false,
                Coordinated::Unknown { .. } => age_ms > longest_ms,
            };
            found.push(OpenReport { place: place.clone(), open: open.clone(), hangs });
        }
    }
    found
}

fn stands(look: &Look, place: &TopicPartition, open: &OpenTransaction) -> bool {
    let Some(Ok(writers)) = look.partitions.get(place) else { return false };
    let seen = writers.producers.get(&open.producer_id);
    seen.is_some_and(|seen| seen.open_since == Some(open.since) && seen.epoch == open.epoch)
}

pub(super) fn by_topic(traffic: &Traffic) -> BTreeMap<TopicName, TopicWriters> {
    let report = stragglers(&traffic.first, &traffic.second, &Default::default());
    let mut topics: BTreeMap<TopicName, TopicWriters> = BTreeMap::new();
    let ends = |topic: &TopicName| {
        let grown = traffic.second.partitions.iter().filter(|(place, _)| place.topic == *topic).map(
            |(place, now)| {
                let before = traffic.first.partitions.get(place)?.as_ref().ok()?.end.0;
                u64::try_from(now.as_ref().ok()?.end.0 - before).ok()
            },
        );
        grown.sum::<Option<u64>>()
    };
    for place in traffic.second.partitions.keys() {
        topics
            .entry(place.topic.clone())
            .or_insert_with(|| TopicWriters { records: ends(&place.topic), ..TopicWriters::default() });
    }
    for (straggler, is_active) in
        report.writing.iter().map(|one| (one, true)).chain(report.silent.iter().map(|one| (one, false)))
    {
        for topic in topics_of(straggler) {
            let writers = topics.entry(topic.clone()).or_default();
            if is_active {
                writers.active.push(ActiveProducer {
                    producer_id: straggler.producer_id,
                    transactional: straggler.producer_id.is_some_and(|id| is_transactional(traffic, id)),
                    records: straggler.records,
                });
            } else {
                writers.silent += 1;
            }
        }
    }
    topics
}

fn topics_of(straggler: &Straggler) -> Vec<&TopicName> {
    let mut topics: Vec<&TopicName> = straggler.places.iter().map(|place| &place.topic).collect();
    topics.dedup();
    topics
}

/// Whether any partition says that a producer id uses transactions.
fn is_transactional(traffic: &Traffic, id: i64) -> bool {
    let answered = traffic.second.partitions.values().filter_map(|answer| answer.as_ref().ok());
    answered.filter_map(|writers| writers.producers.get(&id)).any(|state| state.transactional)
}

/// Every producer id that uses transactions, with the topics that it wrote to.
pub(super) fn transactional(traffic: &Traffic) -> BTreeMap<i64, Vec<TopicName>> {
    let mut found: BTreeMap<i64, Vec<TopicName>> = BTreeMap::new();
    for (place, answer) in &traffic.second.partitions {
        let Ok(writers) = answer else { continue };
        for id in writers.producers.iter().filter(|(_, state)| state.transactional).map(|(id, _)| *id) {
            let topics = found.entry(id).or_default();
            if !topics.contains(&place.topic) {
                topics.push(place.topic.clone());
            }
        }
    }
    found
}

/// The transactional ids that coordinators list, with their states; `None` if they were not asked. Kafka leaves out without a
/// word those that a principal may not describe: where partitions know transactional producers, no id at all is no answer,
/// unless one of them is known to be forgotten.
pub(super) fn transactional_ids(traffic: &Traffic) -> Option<Result<&BTreeMap<String, String>, String>> {
    let mut open = traffic.open.values().flatten().flatten();
    let is_whole =
        transactional(traffic).is_empty() || open.any(|one| one.coordinator == Coordinated::Forgotten);
    match traffic.transactional_ids.as_ref()? {
        Ok(ids) if ids.is_empty() && !is_whole => {
            let reason = "coordinators list none, and partitions show some: grant kutover's principal Describe on \
                          transactional ids `*`";
            Some(Err(reason.to_owned()))
        }
        told => Some(told.as_ref().map_err(Clone::clone)),
    }
}

/// Why writers are not known, for the first partition that did not answer.
pub(super) fn unanswered(traffic: &Traffic) -> Option<String> {
    let writers =
        traffic.second.partitions.iter().filter_map(|(place, answer)| Some((place, answer.as_ref().err()?)));
    let silent =
        writers.chain(traffic.open.iter().filter_map(|(place, open)| Some((place, open.as_ref().err()?))));
    let (mut count, mut first) = (0, None);
    for (place, reason) in silent {
        count += 1;
        first.get_or_insert_with(|| format!("{place}: {reason}"));
    }
    first.map(|first| if count > 1 { format!("{first} (and {} more)", count - 1) } else { first })
}
