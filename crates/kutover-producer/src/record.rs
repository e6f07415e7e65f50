//! Records on their way between rdkafka's types and the ports'.

use std::cell::Cell;
use std::fmt;

use kutover_core::ports::{DeliveryFate, ErrorCode, HeaderList, RecordBody};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, OwnedHeaders, OwnedMessage, Timestamp, ToBytes};
use rdkafka::producer::FutureRecord;
use rdkafka::types::RDKafkaRespErr;

use crate::slab::Failed;

/// What is known of a record that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It stands in no cluster and will not.
    NotWritten,
    /// It may stand in a cluster, or may still come to: sending it again can duplicate it.
    Unknown,
}

impl From<DeliveryFate> for Fate {
    fn from(fate: DeliveryFate) -> Self {
        match fate {
            DeliveryFate::NotWritten => Fate::NotWritten,
            DeliveryFate::Unknown => Fate::Unknown,
        }
    }
}

/// A record that goes back to its caller, whole, with what is known of it.
pub struct SendError(Box<Inner>);

struct Inner {
    error: KafkaError,
    fate: Fate,
    message: OwnedMessage,
}

impl SendError {
    pub(crate) fn new(error: KafkaError, fate: Fate, message: OwnedMessage) -> Self {
        Self(Box::new(Inner { error, fate, message }))
    }

    /// Why, in librdkafka's terms.
    pub fn error(&self) -> &KafkaError {
        &self.0.error
    }

    /// What is known of the record.
    pub fn fate(&self) -> Fate {
        self.0.fate
    }

    /// The record: key, payload, headers, timestamp and the caller's own choice of partition (negative for none).
    pub fn message(&self) -> &OwnedMessage {
        &self.0.message
    }

    /// Error and record, as rdkafka's `FutureProducer` returns them.
    pub fn into_parts(self) -> (KafkaError, OwnedMessage) {
        (self.0.error, self.0.message)
    }
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The record's content is the user's and stays out of logs.
        f.debug_struct("SendError")
            .field("error", &self.0.error)
            .field("fate", &self.0.fate)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = match self.0.fate {
            Fate::NotWritten => "the record was not written",
            Fate::Unknown => "the record may have been written",
        };
        write!(f, "{}: {fate}", self.0.error)
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0.error)
    }
}

impl From<Failed> for SendError {
    fn from(failed: Failed) -> Self {
        let Failed { code, fate, body, partition, timestamp_ms } = failed;
        let headers = owned_headers(&body.headers);
        let message = OwnedMessage::new(
            body.payload,
            body.key,
            body.topic,
            Timestamp::CreateTime(timestamp_ms),
            partition.unwrap_or(-1),
            0,
            headers,
        );
        SendError::new(KafkaError::MessageProduction(native_code(&code)), fate.into(), message)
    }
}

pub(crate) fn native_code(code: &ErrorCode) -> RDKafkaErrorCode {
    RDKafkaRespErr::try_from(code.number).map_or(RDKafkaErrorCode::Unknown, RDKafkaErrorCode::from)
}

pub(crate) fn port_code(code: RDKafkaErrorCode) -> ErrorCode {
    ErrorCode { number: code as i32, name: format!("{code:?}") }
}

/// An owned copy of a caller's record, as rdkafka's `FutureProducer` gives one back.
pub(crate) fn owned_message<K, P>(record: FutureRecord<'_, K, P>) -> OwnedMessage
where
    K: ToBytes + ?Sized,
    P: ToBytes + ?Sized,
{
    OwnedMessage::new(
        record.payload.map(|payload| payload.to_bytes().to_vec()),
        record.key.map(|key| key.to_bytes().to_vec()),
        record.topic.to_owned(),
        record.timestamp.map_or(Timestamp::NotAvailable, Timestamp::CreateTime),
        record.partition.unwrap_or(-1),
        0,
        record.headers,
    )
}

fn owned_headers(list: &HeaderList) -> Option<OwnedHeaders> {
    (!list.is_empty()).then(|| {
        list.iter().fold(OwnedHeaders::new_with_capacity(list.len()), |headers, (key, value)| {
            headers.insert(Header { key, value: value.as_ref() })
        })
    })
}

/// A caller's record while it is being accepted: borrowed, its headers in a cell that the client empties.
pub(crate) struct Borrowed<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) payload: Option<&'a [u8]>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) headers: Cell<Option<OwnedHeaders>>,
    pub(crate) has_headers: bool,
}

impl Borrowed<'_> {
    /// A copy of its own, for a record that waits.
    pub(crate) fn copy(&self) -> RecordBody {
        let native = self.headers.take();
        let headers = native.as_ref().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        self.headers.set(native);
        RecordBody {
            topic: self.topic.to_owned(),
            key: self.key.map(<[u8]>::to_vec),
            payload: self.payload.map(<[u8]>::to_vec),
            headers,
        }
    }
}

/// A record's size in memory, in bytes.
pub(crate) fn size_of(body: &RecordBody) -> usize {
    let headers: usize =
        body.headers.iter().map(|(key, value)| 48 + key.len() + value.as_ref().map_or(0, Vec::len)).sum();
    let bytes = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
    128 + body.topic.len() + bytes(&body.key) + bytes(&body.payload) + headers
}
