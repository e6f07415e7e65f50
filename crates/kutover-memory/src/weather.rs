//! Weather: what goes wrong by itself, and how long things take, in virtual time.
//!
//! The world asks and the implementor draws: one seed in one place decides all of it. Without weather there is no clock
//! in the world at all. With it, all waiting is `tokio::time`, so that a runtime with a paused clock runs hours in
//! moments; tasks are spawned, so the world must be made and used inside one `current_thread` runtime, and the same
//! answers give the same run.

use std::fmt::Debug;

use kutover_core::words::{ClusterId, DnsName, TopicPartition};

use crate::faults::Fault;

/// What decides. Every method has a calm default: nothing takes time and nothing goes wrong.
///
/// Methods are called with locks of the world held: they must not call into it.
pub trait Weather: Send + Sync + Debug {
    /// Asked for every call of a port, by the name that [`Faults`](crate::Faults) counts it under.
    fn call(&self, name: &str) -> CallWeather {
        let _ = name;
        CallWeather::default()
    }

    /// Asked for every attempt of a client to get a batch of records to a partition.
    fn record(&self, cluster: &ClusterId, place: &TopicPartition) -> RecordWeather {
        let _ = (cluster, place);
        RecordWeather::default()
    }

    /// How many milliseconds a broker takes to obey a fence that was raised or lifted.
    fn fence_ms(&self, cluster: &ClusterId, broker: i32) -> u64 {
        let _ = (cluster, broker);
        0
    }

    /// How many milliseconds a change of DNS takes until the authoritative side answers with it.
    fn visible_ms(&self, endpoint: &DnsName) -> u64 {
        let _ = endpoint;
        0
    }

    /// Asked each time a resolver has to go and ask for a name: the endpoint, or its owner record's name.
    fn answer(&self, resolver: &str, name: &DnsName) -> AnswerWeather {
        let _ = (resolver, name);
        AnswerWeather::default()
    }

    /// What stays of a journal entry whose writer died, or gave up, before `append` had returned.
    fn unfinished_append(&self) -> UnfinishedAppend {
        UnfinishedAppend::Lost
    }
}

/// Every kind of fault that the world counts by itself when it fires ([`MemoryWorld::fired`](crate::MemoryWorld::fired)),
/// so that a run can be asked which of them it never tried.
pub const FAULT_KINDS: [&str; 43] = [
    "broker-stops",
    "call-done-hangs",
    "call-failed",
    "call-hangs",
    "call-not-done",
    "call-slow",
    "call-unknown-done",
    "call-unknown-late",
    "call-unknown-not-done",
    "clash-discarded",
    "cluster-dies",
    "coordinator-silent",
    "dns-dead",
    "dns-empty",
    "dns-min-ttl",
    "dns-old",
    "dns-parts-disagree",
    "dns-servfail",
    "dns-visible-late",
    "fence-leaks",
    "fence-spreads",
    "foreign-rebootstraps",
    "group-expires",
    "groups-unlisted",
    "journal-late",
    "journal-lost",
    "journal-torn",
    "journal-unheard",
    "leader-moves",
    "log-truncated",
    "partition-silent",
    "readers-shut-out",
    "record-ack-lost",
    "record-late-append",
    "record-late-refused",
    "record-not-written",
    "record-slow",
    "retention",
    "retry-deduplicated",
    "topic-auto-created",
    "topic-recreated",
    "transaction-wedged",
    "watermark-held",
];

/// Nothing takes time and nothing goes wrong, but there is a clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct CalmWeather;

impl Weather for CalmWeather {}

/// How one call of a port goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallWeather {
    /// Milliseconds until it acts. A caller that is dropped meanwhile does not stop it: it is on its way.
    pub before_ms: u64,
    /// Milliseconds from the act to the answer.
    pub after_ms: u64,
    /// What goes wrong with it.
    pub fault: Option<Fault>,
}

/// How one attempt to produce goes. A slow one takes many milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordWeather {
    /// Milliseconds until it reaches the leader.
    pub reach_ms: u64,
    /// Milliseconds from the leader to the answer.
    pub answer_ms: u64,
    /// What becomes of it.
    pub fate: RecordFate,
}

/// What becomes of an attempt to produce, if the leader does not refuse it anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordFate {
    /// Appended and acknowledged.
    #[default]
    Acknowledged,
    /// Appended, and the acknowledgement is lost: the client tries again under the same sequence until its delivery
    /// time-out.
    AckLost,
    /// Held up on its way: it lands so many milliseconds after `reach_ms`, whatever the client has done by then.
    LateAppend {
        /// How much later it lands.
        after_ms: u64,
    },
    /// It never leaves the client, which gives it up.
    NotWritten,
}

/// How a resolver fares with one question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerWeather {
    /// Milliseconds until there is an answer.
    pub delay_ms: u64,
    /// What the answer is.
    pub fate: AnswerFate,
}

/// What a resolver answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerFate {
    /// What the authoritative side answers with now.
    #[default]
    Fresh,
    /// What the resolver had, although its time to live is over; if it had nothing, as [`AnswerFate::Fresh`].
    Old,
    /// Nothing, ever: the question times out.
    Dead,
    /// The name does not exist, it says.
    Empty,
    /// SERVFAIL.
    ServFail,
}

/// What stays of an append that did not return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnfinishedAppend {
    /// The whole entry.
    Whole,
    /// The whole entry, so many milliseconds later: a write that the disk was slow with.
    Late {
        /// How much later.
        after_ms: u64,
    },
    /// A part of it, which a reader drops.
    Torn,
    /// Nothing.
    Lost,
}
