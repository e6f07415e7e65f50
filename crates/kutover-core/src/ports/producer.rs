//! The data path: a client per cluster, made anew for every cluster.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::ProviderResult;
use crate::owner::Target;
use crate::words::ClusterId;

/// Names one accepted record: a slot of the driver's slab and the slot's generation, so that a late report about a
/// slot's former record is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

impl Token {
    /// Puts a token together.
    pub fn new(slot: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(slot))
    }

    /// The slot's index.
    pub fn slot(self) -> u32 {
        (self.0 & u64::from(u32::MAX)) as u32
    }

    /// The slot's generation.
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Headers in order; a `None` value is null.
pub type HeaderList = Vec<(String, Option<Vec<u8>>)>;

/// A record's headers as they are offered. A client library's own header object goes through untouched, because
/// taking it apart and putting it together again would cost an allocation per header and send.
#[derive(Clone, Copy, Default)]
pub enum HeadersRef<'a> {
    /// No headers.
    #[default]
    None,
    /// A plain list, as a record that came back from a client carries it.
    List(&'a [(String, Option<Vec<u8>>)]),
    /// `Cell<Option<H>>` where `H` is the client library's own header type (`rdkafka::message::OwnedHeaders`). The
    /// client takes the value out when it takes the record and leaves it in when it refuses. A client that does not know `H`
    /// refuses the record.
    Native(&'a dyn Any),
}

impl fmt::Debug for HeadersRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeadersRef::None => f.write_str("None"),
            HeadersRef::List(list) => f.debug_tuple("List").field(&list.len()).finish(),
            HeadersRef::Native(_) => f.write_str("Native"),
        }
    }
}

/// A record as it is offered: borrowed, with null and empty kept apart.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The caller's own choice of partition.
    pub partition: Option<i32>,
    /// The key; `None` is null, `Some(&[])` is empty.
    pub key: Option<&'a [u8]>,
    /// The payload; `None` is null, `Some(&[])` is empty.
    pub payload: Option<&'a [u8]>,
    /// Milliseconds since the Unix epoch, stamped at acceptance where the caller gave none.
    pub timestamp_ms: i64,
    /// Headers.
    pub headers: HeadersRef<'a>,
}

/// A record that came back from a client, owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordBody {
    /// The topic.
    pub topic: String,
    /// The key; null and empty are kept apart.
    pub key: Option<Vec<u8>>,
    /// The payload; null and empty are kept apart.
    pub payload: Option<Vec<u8>>,
    /// Headers.
    pub headers: HeaderList,
}

/// What is known of a record that was not acknowledged, from librdkafka's message status alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryFate {
    /// It was not written and will not be.
    NotWritten,
    /// It may have been written, or may still be.
    Unknown,
}

/// A client's error code. Decide by the number, show the name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ErrorCode {
    /// Kafka's number of the error; librdkafka's own (local) ones are negative.
    pub number: i32,
    /// Its Kafka name ("TopicAuthorizationFailed").
    pub name: String,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.number)
    }
}

/// A delivery report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The cluster acknowledged it.
    Acknowledged {
        /// Where it stands.
        partition: i32,
        /// At which offset; negative where the cluster did not say (`acks=0`).
        offset: i64,
        /// Milliseconds since the Unix epoch, where the broker stamped the record itself (`LogAppendTime`).
        append_time_ms: Option<i64>,
    },
    /// It was not acknowledged; the record comes back whole.
    Failed {
        /// What is known of it.
        fate: DeliveryFate,
        /// The partition it was meant for, where one was chosen.
        partition: Option<i32>,
        /// The client's error code.
        code: ErrorCode,
        /// The record.
        record: RecordBody,
    },
}

/// Why a client did not take a record. Nothing was queued, and there will be no report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The local queue is full: offer it again later.
    QueueFull,
    /// The cluster or the client refuses it (`TopicAuthorizationFailed` under a fence, `MessageSizeTooLarge`).
    Refused(ErrorCode),
    /// The client is dead for good: the reason.
    Fatal(String),
}

/// What a client tells its owner. Called from the client's own threads, from several of them at once if it likes; must
/// not block.
pub trait ClientEvents: Send + Sync {
    /// A delivery report. Comes exactly once for each record that `try_send` took.
    fn delivered(&self, token: Token, delivery: Delivery);

    /// An acknowledgement: the common case of [`ClientEvents::delivered`], without a value to build.
    fn acknowledged(&self, token: Token, partition: i32, offset: i64, append_time_ms: Option<i64>) {
        self.delivered(token, Delivery::Acknowledged { partition, offset, append_time_ms });
    }

    /// The client became fatal for good: it must be rebuilt.
    fn fatal(&self, reason: String);

    /// The producer id that the cluster gave the client, when it becomes known.
    fn producer_id(&self, id: i64);
}

/// A client of one cluster.
///
/// # Contract
///
/// 1. `try_send` never blocks and never does I/O of its own. `Ok` means that exactly one report will follow. Records
///    of one caller keep their order per partition.
/// 2. `flush` blocks its thread until every report has been handed to [`ClientEvents`], or the deadline; `true` if
///    nothing is outstanding. It must not be called from a callback.
/// 3. `purge` makes every outstanding record fail with its fate; it returns when all reports have been handed over.
/// 4. Dropping it without both loses records (L1).
pub trait ProducerClient: Send + Sync {
    /// Offers a record.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was queued.
    fn try_send(&self, record: RecordRef<'_>, token: Token) -> Result<(), Refusal>;

    /// Waits until nothing is outstanding, `timeout_ms` at most.
    fn flush(&self, timeout_ms: u64) -> bool;

    /// Gives up on what is outstanding.
    fn purge(&self);

    /// Records taken whose report has not been handed over.
    fn outstanding(&self) -> usize;

    /// The id that the cluster gives itself now.
    fn cluster_id(&self) -> ClusterId;
}

/// Makes clients.
///
/// # Contract
///
/// 1. `connect` returns a client that has spoken with the cluster: its id is known and is the target's (an empty
///    cluster id in the target names none), metadata of `topics` is loaded, connections and the producer id are warm.
/// 2. A cluster with another id is an error of kind `Refused` that names both.
/// 3. Every call makes a new client; nothing of an older one is used again.
#[async_trait]
pub trait ProducerFactory: Send + Sync {
    /// Connects to the target's cluster.
    ///
    /// # Errors
    /// Unreachable, not authorised, or another cluster than the target's.
    async fn connect(
        &self,
        target: &Target,
        topics: &[String],
        events: Arc<dyn ClientEvents>,
    ) -> ProviderResult<Arc<dyn ProducerClient>>;
}
