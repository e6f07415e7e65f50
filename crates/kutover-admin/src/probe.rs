//! Asks each leader whether it takes records, without writing one.
//!
//! The question is a small batch whose checksum is wrong: a leader that takes records answers `CORRUPT_MESSAGE`, one
//! behind an ACL `TOPIC_AUTHORIZATION_FAILED`, one behind a size fence `MESSAGE_TOO_LARGE`, and none of them stores
//! it (seen on 3.9.2 and 4.3.1). Each leader gets one request for all its partitions. No client library sends such a
//! batch, so the request goes out over the connections of krafka's pool; an open leader counts it as invalid and logs
//! a line.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{self, StreamExt};
use krafka::__private::kafka_metadata;
use krafka::__private::protocol::{ApiKey, ProduceResponse, RecordBatchBuilder};
use krafka::__private::util::varint::encode_unsigned_varint;
use krafka::Kafka;
use krafka::error::{ErrorCode, KrafkaError};
use kutover_core::error::ProviderResult;
use kutover_core::words::{TopicName, TopicPartition};

use crate::admin::{KafkaAdmin, fenceable};
use crate::errors::provider;

/// Leaders asked at once.
pub(crate) const LEADERS_AT_ONCE: usize = 16;
/// Partitions in one request: about 100 bytes each.
pub(crate) const CHUNK: usize = 1000;
/// Known to every broker from 2.8 on; krafka's brokers for tests know no older one.
const PRODUCE_VERSION: i16 = 9;
/// Where the checksum stands in a record batch of format 2: after the base offset (8), the length (4), the leader epoch
/// (4) and the magic (1).
const CHECKSUM: std::ops::Range<usize> = 17..21;

/// What one leader said to a batch with a wrong checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// Not authorised, or too large although it is tiny: a fence stands here.
    Fenced,
    /// Corrupt: it would have taken a sound one.
    Open,
    /// Something else, or nothing: the reason.
    Unclear(String),
}

impl KafkaAdmin {
    /// Asks the leader of every partition of some topics, as a new ordinary client. Nothing is ever stored. Fenced and
    /// open alike can be proven so.
    ///
    /// # Errors
    /// The topics cannot be read, or the ordinary clients' listener does not answer.
    pub async fn probe(&self, topics: &[TopicName]) -> ProviderResult<BTreeMap<TopicPartition, ProbeAnswer>> {
        let topics = fenceable(topics);
        let described = self.describe_known(&topics).await?;
        let places = described.iter().flat_map(|(name, topic)| {
            (0..crate::topics::count(topic)).map(|partition| TopicPartition::new(name.clone(), partition))
        });
        let mut answers: BTreeMap<TopicPartition, ProbeAnswer> =
            places.map(|place| (place, ProbeAnswer::Unclear("no answer".to_owned()))).collect();
        let client = self.open_probe().await?;
        let names: Vec<&str> = topics.iter().map(TopicName::as_str).collect();
        if names.is_empty() {
            return Ok(answers);
        }
        kafka_metadata(&client)
            .refresh_for_topics(Some(&names))
            .await
            .map_err(|error| provider("read the metadata as an ordinary client", &error))?;
        let asked: Vec<_> = by_leader(&client, &mut answers)
            .into_iter()
            .flat_map(|(leader, places)| {
                places.chunks(CHUNK).map(|some| (leader, some.to_vec())).collect::<Vec<_>>()
            })
            .collect();
        let client = &client;
        let answered: Vec<_> = stream::iter(asked)
            .map(|(leader, places)| async move {
                let answer = ask(client, leader, &places).await;
                (places, answer)
            })
            .buffer_unordered(LEADERS_AT_ONCE)
            .collect()
            .await;
        for (places, answer) in answered {
            match answer {
                Ok(found) => {
                    for (place, answer) in found {
                        // What was not asked is no answer.
                        answers.entry(place).and_modify(|known| *known = answer);
                    }
                }
                Err(error) => {
                    let unclear = ProbeAnswer::Unclear(format!("its leader could not be asked: {error}"));
                    answers.extend(places.into_iter().map(|place| (place, unclear.clone())));
                }
            }
        }
        Ok(answers)
    }
}

/// The partitions of each leader, as an ordinary client is told. One without a leader is unclear.
fn by_leader(
    client: &Kafka,
    answers: &mut BTreeMap<TopicPartition, ProbeAnswer>,
) -> BTreeMap<i32, Vec<TopicPartition>> {
    let metadata = kafka_metadata(client);
    let mut leaders: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
    for (place, answer) in answers {
        match metadata.leader(place.topic.as_str(), place.partition) {
            Some(leader) => leaders.entry(leader).or_default().push(place.clone()),
            None => {
                let reason = match metadata.topic_error(place.topic.as_str()) {
                    Some(code) => format!("an ordinary client is not told its leader: {code:?}"),
                    None => "it has no leader".to_owned(),
                };
                *answer = ProbeAnswer::Unclear(reason);
            }
        }
    }
    leaders
}

/// One request to one leader. Its answers, for the partitions that it answered of those that it was asked about.
pub(crate) async fn ask(
    client: &Kafka,
    leader: i32,
    places: &[TopicPartition],
) -> Result<Vec<(TopicPartition, ProbeAnswer)>, KrafkaError> {
    let connection = kafka_metadata(client).get_broker_connection(leader).await?;
    let batch = corrupt_batch()?;
    let encode = |buffer: &mut BytesMut| {
        encode_produce(buffer, places, &batch);
        Ok(())
    };
    let mut answer = connection.send_request(ApiKey::Produce, PRODUCE_VERSION, encode).await?;
    let answer = ProduceResponse::decode_v9(&mut answer)?;
    let mut found = Vec::new();
    for topic in answer.responses {
        for partition in topic.partition_responses {
            let place = TopicPartition::new(TopicName::new(topic.name.as_str()), partition.index);
            found.push((place, meaning(partition.error_code, partition.base_offset)));
        }
    }
    Ok(found)
}

fn meaning(code: ErrorCode, offset: i64) -> ProbeAnswer {
    match code {
        ErrorCode::TopicAuthorizationFailed | ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            ProbeAnswer::Fenced
        }
        ErrorCode::CorruptMessage => ProbeAnswer::Open,
        ErrorCode::None => ProbeAnswer::Unclear(format!("it took the probe's batch, at offset {offset}")),
        other => ProbeAnswer::Unclear(format!("{other:?}")),
    }
}

/// One record in a batch with a wrong checksum. With a key, because a compacted topic takes nothing without one.
fn corrupt_batch() -> Result<Bytes, KrafkaError> {
    let key = Bytes::from_static(b"kutover-probe");
    let batch = RecordBatchBuilder::new().add_record(Some(key), Some(Bytes::new())).build();
    let mut bytes = BytesMut::from(batch.encode()?.as_ref());
    bytes[CHECKSUM].iter_mut().for_each(|byte| *byte = !*byte);
    Ok(bytes.freeze())
}

/// A Produce request of [`PRODUCE_VERSION`], acks=all: krafka's own type for it cannot be made outside krafka.
/// Lengths are compact ones (KIP-482): one more than the length, as a varint; a byte 0 stands for no tagged fields.
fn encode_produce(buffer: &mut BytesMut, places: &[TopicPartition], batch: &Bytes) {
    const NOTHING: u8 = 0;
    const ALL: i16 = -1;
    const TIMEOUT_MS: i32 = 5000;
    // Names are at most 249 bytes long, the batch about 80, a request has at most `CHUNK` partitions.
    let put_length = |buffer: &mut BytesMut, length: usize| {
        encode_unsigned_varint(u32::try_from(length + 1).unwrap_or(u32::MAX), buffer);
    };
    let mut topics: BTreeMap<&TopicName, Vec<i32>> = BTreeMap::new();
    for place in places {
        topics.entry(&place.topic).or_default().push(place.partition);
    }
    buffer.put_u8(NOTHING); // No transactional id.
    buffer.put_i16(ALL);
    buffer.put_i32(TIMEOUT_MS);
    put_length(buffer, topics.len());
    for (topic, partitions) in topics {
        put_length(buffer, topic.as_str().len());
        buffer.put_slice(topic.as_str().as_bytes());
        put_length(buffer, partitions.len());
        for partition in partitions {
            buffer.put_i32(partition);
            put_length(buffer, batch.len());
            buffer.put_slice(batch);
            buffer.put_u8(NOTHING);
        }
        buffer.put_u8(NOTHING);
    }
    buffer.put_u8(NOTHING);
}

#[cfg(test)]
mod tests {
    use krafka::__private::protocol::RecordBatch;

    use super::*;

    #[test]
    fn the_probes_batch_is_whole_but_for_its_checksum() {
        let corrupt = corrupt_batch().unwrap();
        assert!(RecordBatch::decode(&mut corrupt.clone()).is_err());
        let mut mended = BytesMut::from(corrupt.as_ref());
        mended[CHECKSUM].iter_mut().for_each(|byte| *byte = !*byte);
        let batch = RecordBatch::decode(&mut mended.freeze()).unwrap();
        assert_eq!(batch.records.len(), 1);
    }

    #[test]
    fn only_a_refusal_is_a_fence_and_only_a_corrupt_batch_an_open_leader() {
        let said = |code| meaning(code, 7);
        assert_eq!(said(ErrorCode::TopicAuthorizationFailed), ProbeAnswer::Fenced);
        assert_eq!(said(ErrorCode::MessageTooLarge), ProbeAnswer::Fenced);
        assert_eq!(said(ErrorCode::CorruptMessage), ProbeAnswer::Open);
        for code in [ErrorCode::None, ErrorCode::NotLeaderForPartition, ErrorCode::UnknownTopicOrPartition] {
            assert!(matches!(said(code), ProbeAnswer::Unclear(_)), "{code:?}");
        }
    }
}
