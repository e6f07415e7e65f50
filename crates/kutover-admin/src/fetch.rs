//! Fetches of a few batches as they stand in the log, with what krafka's consumer does not show: whose they are.
//!
//! krafka's consumer hands out records without their producer ids, and needs a client of its own for every position. This
//! is one request over the connections that are there. It looks into krafka's hidden internals, as
//! [`identity`](crate::identity) does; the crate is pinned exactly.

use std::collections::BTreeMap;

use krafka::__private::kafka_metadata;
use krafka::__private::protocol::{
    AbortedTransaction, ApiKey, FetchPartitionRequest, FetchRequest, FetchResponse, FetchTopicRequest,
    RecordBatch, RecordBatchHeader, VersionedDecode, VersionedEncode,
};
use krafka::error::{ErrorCode, KrafkaError};
use kutover_core::words::{Offset, TopicPartition};

use crate::admin::KafkaAdmin;

/// Fetch by topic name: 13 and later go by id.
pub(crate) const NAMED: i16 = 12;
/// The first with record batches and isolation levels (KIP-98).
pub(crate) const FIRST: i16 = 4;
/// How long a broker may hold a fetch. There is always something below the end to answer.
const HOLD_MS: i32 = 10;

/// One partition's part of an answer.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Its batches, undecoded; the last one may be cut off.
    pub(crate) bytes: bytes::Bytes,
    /// Transactions in them that were aborted, by producer and first offset.
    aborted: Vec<AbortedTransaction>,
}

impl KafkaAdmin {
    /// Fetches from one offset, everything up to the high watermark; aborted transactions are named.
    pub(crate) async fn fetch(
        &self,
        place: &TopicPartition,
        from: Offset,
        max_bytes: i32,
        committed_only: bool,
    ) -> Result<Fetched, KrafkaError> {
        let mut partition = FetchPartitionRequest::default();
        partition.partition = place.partition;
        partition.fetch_offset = from.0;
        partition.partition_max_bytes = max_bytes;
        let mut topic = FetchTopicRequest::default();
        topic.topic = place.topic.as_str().to_owned();
        topic.partitions = vec![partition];
        let mut request = FetchRequest::default();
        request.max_wait_ms = HOLD_MS;
        request.min_bytes = 1;
        request.max_bytes = max_bytes;
        request.isolation_level = i8::from(committed_only);
        request.topics = vec![topic];

        let metadata = kafka_metadata(&self.kafka);
        let connection = metadata.get_leader_connection(place.topic.as_str(), place.partition).await?;
        let version = connection.negotiate_api_version(ApiKey::Fetch, NAMED, FIRST).ok_or_else(|| {
            KrafkaError::broker(ErrorCode::UnsupportedVersion, "the broker has no fetch by topic name")
        })?;
        let mut answer = connection
            .send_request(ApiKey::Fetch, version, |buffer| request.encode_versioned(version, buffer))
            .await?;
        let response = FetchResponse::decode_versioned(version, &mut answer)?;
        checked(response.error_code)?;
        let partitions = response.responses.into_iter().flat_map(|topic| topic.partitions);
        let found = partitions.into_iter().find(|found| found.partition == place.partition);
        let Some(found) = found else {
            return Err(KrafkaError::broker(
                ErrorCode::UnknownServerError,
                "the broker left the partition out",
            ));
        };
        checked(found.error_code)?;
        Ok(Fetched { bytes: found.records.unwrap_or_default(), aborted: found.aborted_transactions })
    }
}

fn checked(code: ErrorCode) -> Result<(), KrafkaError> {
    if code.is_ok() { Ok(()) } else { Err(KrafkaError::broker(code, format!("{code:?}"))) }
}

/// What stands in a stretch of a log.
#[derive(Debug)]
pub(crate) struct Stretch {
    /// Its batches that are whole, control batches among them.
    pub(crate) batches: Vec<RecordBatch>,
    /// The first offset that is not in it; `None` if it is empty.
    pub(crate) next: Option<Offset>,
}

impl Fetched {
    /// Decodes the whole batches.
    pub(crate) fn decode(&self) -> Result<Stretch, KrafkaError> {
        let mut stretch = Stretch { batches: Vec::new(), next: None };
        let mut rest = self.bytes.clone();
        while rest.len() >= RecordBatchHeader::SIZE {
            let header = RecordBatchHeader::peek(&rest)?;
            if rest.len() < header.total_size() {
                break;
            }
            let batch = RecordBatch::decode(&mut rest)?;
            stretch.next = Some(Offset(header.last_offset() + 1));
            stretch.batches.push(batch);
        }
        Ok(stretch)
    }

    /// The offsets at which each producer's aborted transactions begin.
    pub(crate) fn aborted(&self) -> BTreeMap<i64, Vec<i64>> {
        let mut by_producer: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for one in &self.aborted {
            by_producer.entry(one.producer_id).or_default().push(one.first_offset);
        }
        by_producer
    }
}

/// Whether a control batch holds an abort marker: version and type are the first four bytes of its record's key.
fn is_abort(batch: &RecordBatch) -> bool {
    let key = batch.records.first().and_then(|record| record.key.as_ref());
    key.and_then(|key| key.get(2..4)).is_some_and(|kind| kind == [0, 0])
}

/// Whether a stretch holds a data record from an offset on and below an end, for a reader that is given committed records
/// only, or every record.
pub(crate) fn holds_data(
    batches: &[RecordBatch],
    aborted: &BTreeMap<i64, Vec<i64>>,
    from: Offset,
    end: Offset,
    committed_only: bool,
) -> bool {
    // By producer: where the aborted transactions begin that have not ended yet.
    let mut begun = if committed_only { aborted.clone() } else { BTreeMap::new() };
    for batch in batches {
        if batch.attributes.is_control_batch {
            if is_abort(batch)
                && let Some(starts) = begun.get_mut(&batch.producer_id)
            {
                starts.retain(|start| *start > batch.base_offset);
            }
            continue;
        }
        let starts = begun.get(&batch.producer_id);
        let is_aborted = batch.attributes.is_transactional
            && starts.is_some_and(|starts| starts.iter().any(|start| *start <= batch.base_offset));
        let mut offsets =
            batch.records.iter().map(|record| batch.base_offset + i64::from(record.offset_delta));
        if !is_aborted && offsets.any(|offset| (from.0..end.0).contains(&offset)) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use krafka::__private::protocol::Record;

    use super::*;

    fn batch(base: i64, producer: i64, records: &[i32], transactional: bool) -> RecordBatch {
        let mut batch = RecordBatch::new();
        (batch.base_offset, batch.producer_id) = (base, producer);
        batch.attributes.is_transactional = transactional;
        for delta in records {
            batch.add_record(Record::new(None, None).with_offset_delta(*delta));
        }
        batch
    }

    fn marker(base: i64, producer: i64, commit: bool) -> RecordBatch {
        let key = vec![0, 0, 0, u8::from(commit)];
        let mut batch = batch(base, producer, &[], true);
        batch.add_record(Record::new(Some(key.into()), None));
        batch.attributes.is_control_batch = true;
        batch
    }

    /// L10: markers are nobody's records, and aborted ones are nobody's who reads committed records only.
    #[test]
    fn only_what_a_reader_is_given_is_data() {
        let log = [
            batch(0, 1, &[0, 1], true),
            marker(2, 1, false),
            batch(3, 1, &[0], true),
            marker(4, 1, true),
            batch(5, 2, &[0], true),
            marker(6, 2, false),
            marker(7, 2, true),
        ];
        let aborted = BTreeMap::from([(1, vec![0]), (2, vec![5])]);
        let data = |from, committed| holds_data(&log, &aborted, Offset(from), Offset(8), committed);
        assert_eq!([0, 3, 4, 5, 6].map(|from| data(from, true)), [true, true, false, false, false]);
        assert_eq!([0, 3, 4, 5, 6].map(|from| data(from, false)), [true, true, true, true, false]);
    }

    /// A batch reaches below the offset that is asked for, and compaction leaves holes in it.
    #[test]
    fn only_what_lies_between_counts() {
        let log = [batch(0, -1, &[0, 1, 5], false)];
        let data = |from, end| holds_data(&log, &BTreeMap::new(), Offset(from), Offset(end), true);
        assert!(data(5, 6) && data(0, 1));
        assert!(!data(2, 5) && !data(6, 9));
    }
}
