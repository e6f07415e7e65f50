//! Requests by hand, for what no client does: a transaction that its coordinator knows nothing of.
//!
//! The forms are those of Kafka's protocol guide: InitProducerId v0, Produce v7, record batches of magic 2.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long a broker may take to answer.
const BOUND: Duration = Duration::from_secs(20);

/// A connection to one broker.
#[derive(Debug)]
pub struct RawBroker(TcpStream);

impl RawBroker {
    /// Connects.
    ///
    /// # Errors
    /// The connection's.
    pub fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(BOUND))?;
        Ok(Self(stream))
    }

    fn ask(&mut self, api: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut request = Vec::new();
        request.extend(api.to_be_bytes());
        request.extend(version.to_be_bytes());
        request.extend(1_i32.to_be_bytes());
        put_text(&mut request, "raw");
        request.extend(body);
        self.0.write_all(&len(request.len()).to_be_bytes())?;
        self.0.write_all(&request)?;
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap_or(0)];
        self.0.read_exact(&mut answer)?;
        Ok(answer.split_off(4)) // The correlation id.
    }

    /// A producer id with its epoch, for a transactional id. The broker must be its coordinator.
    ///
    /// # Errors
    /// The broker's, or the connection's.
    pub fn init_producer_id(&mut self, transactional_id: &str) -> io::Result<(i64, i16)> {
        let mut body = Vec::new();
        put_text(&mut body, transactional_id);
        body.extend(60_000_i32.to_be_bytes());
        let answer = self.ask(22, 0, &body)?;
        // throttle_time_ms, error_code, producer_id, producer_epoch
        refused(i16_at(&answer, 4))?;
        let id = answer[6..14].try_into().map(i64::from_be_bytes).map_err(io::Error::other)?;
        Ok((id, i16_at(&answer, 14)))
    }

    /// Writes one record as part of a transaction, without telling the coordinator first.
    ///
    /// # Errors
    /// The broker's, or the connection's.
    pub fn write_unannounced(
        &mut self,
        (topic, partition): (&str, i32),
        transactional_id: &str,
        (producer_id, epoch): (i64, i16),
        timestamp_ms: i64,
    ) -> io::Result<()> {
        let batch = batch(producer_id, epoch, timestamp_ms);
        let mut body = Vec::new();
        put_text(&mut body, transactional_id);
        body.extend((-1_i16).to_be_bytes());
        body.extend(10_000_i32.to_be_bytes());
        body.extend(1_i32.to_be_bytes());
        put_text(&mut body, topic);
        body.extend(1_i32.to_be_bytes());
        body.extend(partition.to_be_bytes());
        body.extend(len(batch.len()).to_be_bytes());
        body.extend(batch);
        let answer = self.ask(0, 7, &body)?;
        // An array of one topic: its name; an array of one partition: its index, then error_code.
        refused(i16_at(&answer, 4 + 2 + topic.len() + 4 + 4))
    }
}

fn batch(producer_id: i64, epoch: i16, timestamp_ms: i64) -> Vec<u8> {
    // Length, attributes, timestamp delta, offset delta, no key (-1), a value of one byte, no headers: zigzag varints.
    let record = [14, 0, 0, 0, 1, 2, b'x', 0];
    let mut after_crc = Vec::new();
    after_crc.extend(0x10_i16.to_be_bytes()); // Transactional, uncompressed.
    after_crc.extend(0_i32.to_be_bytes());
    after_crc.extend(timestamp_ms.to_be_bytes());
    after_crc.extend(timestamp_ms.to_be_bytes());
    after_crc.extend(producer_id.to_be_bytes());
    after_crc.extend(epoch.to_be_bytes());
    after_crc.extend(0_i32.to_be_bytes());
    after_crc.extend(1_i32.to_be_bytes());
    after_crc.extend(record);
    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes());
    batch.extend(len(4 + 1 + 4 + after_crc.len()).to_be_bytes());
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c::crc32c(&after_crc).to_be_bytes());
    batch.extend(after_crc);
    batch
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    to.extend(i16::try_from(text.len()).unwrap_or(i16::MAX).to_be_bytes());
    to.extend(text.as_bytes());
}

fn len(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn refused(code: i16) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::other(format!("the broker answered with error {code}"))),
    }
}
