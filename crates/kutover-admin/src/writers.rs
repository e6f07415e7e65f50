//! Who writes to a cluster: what its leaders know of producers (KIP-664, from 2.8), and what the last records say.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use krafka::admin::{
    DescribeProducersOptions, DescribeTransactionsOptions, ListTransactionsOptions, OffsetSpec,
};
use krafka::error::{KrafkaError, ProtocolErrorKind};
use kutover_core::decisions::stragglers::{LastRecord, PartitionWriters, ProducerState, Sign};
use kutover_core::drain::{Coordinated, OpenTransaction};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::ProducerSurvey;
use kutover_core::words::{Offset, TopicName, TopicPartition};

use crate::admin::KafkaAdmin;
use crate::errors::{is_unsupported, provider, reason};
use crate::groups::place_of;
use crate::lag::offset;
use crate::topics::count;
use crate::transactions;

/// States in which a coordinator still has to end a transaction.
const UNDER_WAY: [&str; 4] = ["Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"];
/// How much one fetch of last records may bring.
const FETCH_BYTES: i32 = 256 * 1024;
/// Fetches for the last records of one partition. What lies behind them is not looked at.
const FETCHES: usize = 16;

#[async_trait]
impl ProducerSurvey for KafkaAdmin {
    async fn writers(
        &self,
        places: &[TopicPartition],
    ) -> ProviderResult<BTreeMap<TopicPartition, Result<PartitionWriters, String>>> {
        let known = self.known(places).await?;
        let listed: Vec<TopicPartition> = known.iter().cloned().collect();
        let before = self.list(&listed, OffsetSpec::Latest, false).await?;
        let mut producers = self
            .admin
            .describe_producers(known.iter().map(place_of), DescribeProducersOptions::default())
            .await
            .map_err(|error| provider("describe producers", &error))?;
        let after = self.list(&listed, OffsetSpec::Latest, false).await?;
        let mut answers = BTreeMap::new();
        for place in places {
            if !known.contains(place) {
                answers.insert(place.clone(), Err("the cluster knows no such partition".to_owned()));
                continue;
            }
            let found = match producers.remove(&place_of(place)) {
                Some(Err(error)) if is_unsupported(&error) => {
                    return Err(provider("describe producers", &error));
                }
                Some(Err(error)) => Err(reason(&error)),
                Some(Ok(found)) => Ok(found.iter().map(state).collect()),
                None => Err("no answer".to_owned()),
            };
            let writers = found.and_then(|producers| {
                let (end_before, end) = (offset(&before, place)?, offset(&after, place)?);
                Ok(PartitionWriters { end_before, end, producers })
            });
            answers.insert(place.clone(), writers);
        }
        Ok(answers)
    }

    async fn last_records(&self, place: &TopicPartition, at_most: usize) -> ProviderResult<Vec<LastRecord>> {
        let what = format!("read the last records of {place}");
        let one = std::slice::from_ref(place);
        let (starts, ends) = tokio::try_join!(
            self.list(one, OffsetSpec::Earliest, false),
            self.list(one, OffsetSpec::Latest, false),
        )?;
        let unknown = |why| ProviderError::new(ErrorKind::Unavailable, &what, why);
        let (start, end) = (offset(&starts, place).map_err(unknown)?, offset(&ends, place).map_err(unknown)?);
        // Markers take up offsets too: twice as far back, and further where even that is not enough.
        let mut back = i64::try_from(at_most).unwrap_or(i64::MAX).saturating_mul(2).max(1);
        loop {
            let from = Offset(start.0.max(end.0.saturating_sub(back)));
            let walk = self.read_between(place, from, end);
            let mut found = match tokio::time::timeout(self.config.timeouts.tail, walk).await {
                Ok(found) => found.map_err(|error| provider(&what, &error))?,
                Err(_) => return Err(ProviderError::new(ErrorKind::Unreachable, &what, "no answer in time")),
            };
            if found.len() >= at_most || from <= start || back >= 1 << 16 {
                found.drain(..found.len().saturating_sub(at_most));
                return Ok(found);
            }
            back *= 8;
        }
    }

    async fn open_transactions(
        &self,
        places: &[TopicPartition],
    ) -> ProviderResult<BTreeMap<TopicPartition, Result<Vec<OpenTransaction>, String>>> {
        let writers = self.writers(places).await?;
        let open = |writers: &PartitionWriters| -> Vec<OpenTransaction> {
            let open = writers.producers.iter().filter_map(|(id, state)| {
                Some(OpenTransaction {
                    producer_id: *id,
                    epoch: state.epoch,
                    coordinator_epoch: state.coordinator_epoch,
                    since: state.open_since?,
                    last_write_ms: state.last_timestamp_ms,
                    coordinator: Coordinated::Forgotten,
                })
            });
            open.collect()
        };
        let mut answers: BTreeMap<_, _> = writers
            .into_iter()
            .map(|(place, answer)| (place, answer.map(|writers| open(&writers))))
            .collect();
        let ids: BTreeSet<i64> = answers.values().flatten().flatten().map(|open| open.producer_id).collect();
        let coordinators = self.ask_coordinators(&ids).await;
        for open in answers.values_mut().flatten().flatten() {
            open.coordinator = match &coordinators {
                Ok((known, others)) => known.get(&open.producer_id).unwrap_or(others).clone(),
                Err(reason) => Coordinated::Unknown { reason: reason.clone() },
            };
        }
        Ok(answers)
    }
}

impl KafkaAdmin {
    /// What coordinators say of the transactions of some producers that are under way (KIP-664, from 3.0), and of those that
    /// they do not list. One that did not answer may be any of theirs, so that nothing is said then.
    async fn ask_coordinators(
        &self,
        ids: &BTreeSet<i64>,
    ) -> Result<(BTreeMap<i64, Coordinated>, Coordinated), String> {
        if ids.is_empty() {
            return Ok((BTreeMap::new(), Coordinated::Forgotten));
        }
        let options = ListTransactionsOptions::default()
            .states(UNDER_WAY.map(str::to_owned).to_vec())
            .producer_ids(ids.iter().copied().collect::<Vec<_>>());
        let listed = transactions::list(&self.admin, options).await.map_err(|error| error.to_string())?;
        let names = listed.iter().map(|one| one.transactional_id.as_str());
        let described = self
            .admin
            .describe_transactions(names, DescribeTransactionsOptions::default())
            .await
            .map_err(|error| reason(&error))?;
        let said = listed.into_iter().map(|one| {
            let ends_by_ms = match described.get(&one.transactional_id) {
                Some(Ok(known)) if known.start_time_ms >= 0 => {
                    let timeout = i64::try_from(known.timeout.as_millis()).unwrap_or(i64::MAX);
                    Some(known.start_time_ms.saturating_add(timeout))
                }
                _ => None,
            };
            let known =
                Coordinated::Known { transactional_id: one.transactional_id, state: one.state, ends_by_ms };
            (one.producer_id, known)
        });
        let said: BTreeMap<i64, Coordinated> = said.collect();
        if ids.iter().all(|id| said.contains_key(id)) {
            return Ok((said, Coordinated::Forgotten));
        }
        // What its coordinator may not tell us it has not forgotten.
        let others = match transactions::all_are_told(&self.admin).await {
            Ok(()) => Coordinated::Forgotten,
            Err(error) => Coordinated::Unknown { reason: error.to_string() },
        };
        Ok((said, others))
    }

    /// Those of the partitions that the cluster has: one that it has not would be waited for.
    async fn known(&self, places: &[TopicPartition]) -> ProviderResult<BTreeSet<TopicPartition>> {
        let topics: BTreeSet<TopicName> = places.iter().map(|place| place.topic.clone()).collect();
        let topics: Vec<TopicName> = topics.into_iter().collect();
        let counts: BTreeMap<TopicName, i32> = self.describe_there(&topics).await?;
        let there = |place: &&TopicPartition| {
            counts.get(&place.topic).is_some_and(|count| (0..*count).contains(&place.partition))
        };
        Ok(places.iter().filter(there).cloned().collect())
    }

    /// The partition counts of those of the topics that are there.
    async fn describe_there(&self, topics: &[TopicName]) -> ProviderResult<BTreeMap<TopicName, i32>> {
        match self.describe(topics).await {
            Ok(described) => Ok(described.iter().map(|(name, topic)| (name.clone(), count(topic))).collect()),
            Err(error) if error.kind == ErrorKind::NotFound && topics.len() > 1 => {
                let mut counts = BTreeMap::new();
                for topic in topics {
                    match self.describe(std::slice::from_ref(topic)).await {
                        Ok(described) => {
                            counts.extend(described.iter().map(|(name, topic)| (name.clone(), count(topic))));
                        }
                        Err(error) if error.kind == ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(counts)
            }
            Err(error) if error.kind == ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }

    /// The data records between two offsets, in order.
    async fn read_between(
        &self,
        place: &TopicPartition,
        from: Offset,
        end: Offset,
    ) -> Result<Vec<LastRecord>, KrafkaError> {
        let (mut at, mut found) = (from, Vec::new());
        for _ in 0..FETCHES {
            if at >= end {
                break;
            }
            let stretch = match self.fetch(place, at, FETCH_BYTES, false).await?.decode() {
                // From before record batches: nothing in it says whose it is.
                Err(KrafkaError::Protocol { kind: ProtocolErrorKind::UnsupportedMagic, .. }) => break,
                decoded => decoded?,
            };
            for batch in stretch.batches.iter().filter(|batch| !batch.attributes.is_control_batch) {
                for record in &batch.records {
                    let offset = Offset(batch.base_offset + i64::from(record.offset_delta));
                    if offset < at || offset >= end {
                        continue;
                    }
                    let headers: Vec<(String, Option<&[u8]>)> = record
                        .headers
                        .iter()
                        .map(|header| {
                            (String::from_utf8_lossy(&header.key).into_owned(), header.value.as_deref())
                        })
                        .collect();
                    let headers = headers.iter().map(|(name, value)| (name.as_str(), *value));
                    found.push(LastRecord {
                        offset,
                        timestamp_ms: batch.base_timestamp + record.timestamp_delta,
                        producer_id: (batch.producer_id >= 0).then_some(batch.producer_id),
                        sign: Sign::of(record.key.as_deref(), headers),
                    });
                }
            }
            match stretch.next {
                Some(next) if next > at => at = next,
                _ => break,
            }
        }
        Ok(found)
    }
}

fn state(known: &krafka::admin::ProducerState) -> (i64, ProducerState) {
    let state = ProducerState {
        epoch: known.producer_epoch,
        last_sequence: known.last_sequence,
        last_timestamp_ms: known.last_timestamp,
        // Until its first marker a transactional producer has no coordinator epoch.
        transactional: known.coordinator_epoch >= 0 || known.current_transaction_start_offset.is_some(),
        coordinator_epoch: known.coordinator_epoch,
        open_since: known.current_transaction_start_offset.map(Offset),
    };
    (known.producer_id, state)
}
