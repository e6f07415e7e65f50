//! Merges small record batches of an embedded cluster's log into large ones.
//!
//! `FakeBroker` looks at every batch of a partition on every fetch. Producers with keys and a short linger write
//! batches of one record, so after half a minute at 5,000 records/s a fetch would look at tens of thousands. Offsets,
//! timestamps, keys, values and headers stay what they are; producer ids go, which only the log's readers of a
//! transaction need (such batches are left alone), for `FakeBroker` keeps its producer state beside the log.
//!
//! The format is Kafka's record batch of version 2 (KIP-98; `DefaultRecordBatch` and `DefaultRecord` in Kafka).

use bytes::{BufMut, Bytes, BytesMut};

/// A merged batch ends at about this many bytes or records: a fetch that begins within it gets it whole.
const MOST_BYTES: usize = 128 * 1024;
const MOST_RECORDS: usize = 1000;

const EPOCH: usize = 12;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const COUNT: usize = 57;
const RECORDS: usize = 61;

/// Merges neighbours where that can be done; whatever is not understood stays as it is.
pub(super) fn merged(batches: &[Bytes]) -> Vec<Bytes> {
    let mut out = Vec::new();
    let mut run: Option<Run> = None;
    for bytes in batches {
        // Large ones are as good as merged; to write them again would only cost time.
        let batch = if bytes.len() <= MOST_BYTES / 4 { Batch::parse(bytes) } else { None };
        if let (Some(open), Some(batch)) = (run.as_mut(), batch.as_ref())
            && open.takes(batch, bytes.len())
            && open.add(batch).is_some()
        {
            continue;
        }
        out.extend(run.take().map(Run::finish));
        match batch.as_ref().and_then(|batch| Run::start(batch, bytes)) {
            Some(started) => run = Some(started),
            None => out.push(bytes.clone()),
        }
    }
    out.extend(run.map(Run::finish));
    out
}

/// A plain batch: not compressed, of no transaction, no control batch, with the producer's own timestamps, and with
/// an offset for every record.
struct Batch<'a> {
    bytes: &'a [u8],
    base_offset: i64,
    epoch: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    count: usize,
}

impl<'a> Batch<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let batch = Self {
            bytes,
            base_offset: i64::from_be_bytes(at(bytes, 0)?),
            epoch: i32::from_be_bytes(at(bytes, EPOCH)?),
            base_timestamp: i64::from_be_bytes(at(bytes, BASE_TIMESTAMP)?),
            max_timestamp: i64::from_be_bytes(at(bytes, MAX_TIMESTAMP)?),
            count: usize::try_from(i32::from_be_bytes(at(bytes, COUNT)?)).ok()?,
        };
        let is_plain = bytes[MAGIC] == 2 && i16::from_be_bytes(at(bytes, ATTRIBUTES)?) == 0;
        let last = i32::from_be_bytes(at(bytes, LAST_OFFSET_DELTA)?);
        (is_plain && batch.count > 0 && usize::try_from(last).ok()? == batch.count - 1).then_some(batch)
    }
}

/// A batch that is being put together.
struct Run {
    /// The first one as it was, should no other follow it.
    first: Bytes,
    first_count: usize,
    base_offset: i64,
    epoch: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    count: usize,
    records: BytesMut,
}

impl Run {
    fn start(batch: &Batch<'_>, bytes: &Bytes) -> Option<Self> {
        let mut run = Self {
            first: bytes.clone(),
            first_count: batch.count,
            base_offset: batch.base_offset,
            epoch: batch.epoch,
            base_timestamp: batch.base_timestamp,
            max_timestamp: batch.max_timestamp,
            count: 0,
            records: BytesMut::new(),
        };
        run.add(batch).map(|()| run)
    }

    /// Whether a batch comes right after what is there, and is small enough.
    fn takes(&self, batch: &Batch<'_>, bytes: usize) -> bool {
        batch.epoch == self.epoch
            && batch.base_offset == self.base_offset + self.count as i64
            && self.count + batch.count <= MOST_RECORDS
            && self.records.len() + bytes <= MOST_BYTES
    }

    /// Adds a batch's records, or nothing if they make no sense.
    fn add(&mut self, batch: &Batch<'_>) -> Option<()> {
        let mut records = BytesMut::new();
        let mut rest = batch.bytes.get(RECORDS..)?;
        let mut body = BytesMut::new();
        for _ in 0..batch.count {
            let length = usize::try_from(take_varint(&mut rest)?).ok()?;
            let (mut record, after) = rest.split_at_checked(length)?;
            rest = after;
            let (attributes, fields) = record.split_first()?;
            record = fields;
            let timestamp = batch.base_timestamp + take_varint(&mut record)?;
            let offset = batch.base_offset + take_varint(&mut record)?;
            body.clear();
            body.put_u8(*attributes);
            put_varint(&mut body, timestamp - self.base_timestamp);
            put_varint(&mut body, offset - self.base_offset);
            body.put_slice(record);
            put_varint(&mut records, i64::try_from(body.len()).ok()?);
            records.put_slice(&body);
        }
        if !rest.is_empty() {
            return None;
        }
        self.records.unsplit(records);
        self.count += batch.count;
        self.max_timestamp = self.max_timestamp.max(batch.max_timestamp);
        Some(())
    }

    fn finish(self) -> Bytes {
        if self.count == self.first_count {
            return self.first;
        }
        let count = i32::try_from(self.count).unwrap_or(i32::MAX);
        let mut out = BytesMut::with_capacity(RECORDS + self.records.len());
        out.put_i64(self.base_offset);
        // The length counts what follows it.
        out.put_i32(i32::try_from(RECORDS - EPOCH + self.records.len()).unwrap_or(i32::MAX));
        out.put_i32(self.epoch);
        out.put_i8(2);
        out.put_u32(0);
        out.put_i16(0);
        out.put_i32(count - 1);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        // No producer: id, epoch and sequence.
        out.put_i64(-1);
        out.put_i16(-1);
        out.put_i32(-1);
        out.put_i32(count);
        out.put_slice(&self.records);
        let crc = crc32c::crc32c(&out[ATTRIBUTES..]);
        out[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        out.freeze()
    }
}

fn at<const N: usize>(bytes: &[u8], index: usize) -> Option<[u8; N]> {
    if bytes.len() < RECORDS {
        return None;
    }
    bytes.get(index..index + N)?.try_into().ok()
}

/// A zigzag varint, as the fields of a record are written.
fn take_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut raw = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
    }
    None
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.put_u8((raw as u8 & 0x7f) | 0x80);
        raw >>= 7;
    }
    out.put_u8(raw as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_go_round() {
        for value in [0, 1, -1, 63, -64, 64, 300, -300, i64::from(i32::MAX), i64::MAX, i64::MIN] {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            let mut bytes = &out[..];
            assert_eq!(take_varint(&mut bytes), Some(value));
            assert!(bytes.is_empty());
        }
    }

    /// A batch of one record: attributes, deltas of zero, null key, one byte of value, no headers.
    fn one(offset: i64, timestamp: i64, attributes: i16) -> Bytes {
        let record = [14, 0, 0, 0, 1, 2, b'v', 0];
        let run = Run {
            first: Bytes::new(),
            first_count: 0,
            base_offset: offset,
            epoch: 3,
            base_timestamp: timestamp,
            max_timestamp: timestamp,
            count: 1,
            records: BytesMut::from(&record[..]),
        };
        let mut out = BytesMut::from(&run.finish()[..]);
        out[ATTRIBUTES..LAST_OFFSET_DELTA].copy_from_slice(&attributes.to_be_bytes());
        out.freeze()
    }

    #[test]
    fn neighbours_are_merged_and_keep_offsets_and_timestamps() {
        let merged = merged(&[one(10, 500, 0), one(11, 400, 0), one(12, 900, 0)]);
        assert_eq!(merged.len(), 1);
        let batch = Batch::parse(&merged[0]).expect("a batch");
        assert_eq!((batch.base_offset, batch.count, batch.epoch), (10, 3, 3));
        assert_eq!((batch.base_timestamp, batch.max_timestamp), (500, 900));
        let crc = u32::from_be_bytes(at(&merged[0], CRC).expect("a checksum"));
        assert_eq!(crc, crc32c::crc32c(&merged[0][ATTRIBUTES..]));
    }

    #[test]
    fn gaps_transactions_and_what_is_not_understood_stay_apart() {
        let transactional = 0x10;
        let garbage = Bytes::from_static(b"no batch");
        let batches = [
            one(0, 1, 0),
            one(5, 1, 0),
            one(6, 1, transactional),
            one(7, 1, 0),
            garbage.clone(),
            one(8, 1, 0),
        ];
        let merged = merged(&batches);
        assert_eq!(merged, batches);
    }
}
