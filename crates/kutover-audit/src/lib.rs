//! Traffic whose every record is accounted for, and the audit that counts what became of it: `kutover demo` runs it, and
//! so do tests of the program on clusters of their own.
//!
//! Producers send numbered records and note in a ledger what they were told of each. Groups of stock clients read them.
//! The audit sets the ledger against both clusters' logs, and the logs against what each group processed.

mod audit;
mod consumers;
mod traffic;

use kutover_core::words::Colour;

pub use audit::{ClusterLog, Evidence, Findings, Follower, GroupFinding, LogRecord, audit, ends_of};
pub use consumers::{GroupBook, Positions, ReaderSet};
pub use traffic::{
    Completion, Deployment, Fate, HeldUp, KutoverSender, Ledger, RecordId, Refused, Sender, SenderAccount,
    StallMicros, TOPIC, Totals, Traffic, TrafficPlan, TrafficRecord, over_all, producer_name,
    producer_properties,
};

/// A colour's place in pairs: blue's, then green's.
pub fn place(colour: Colour) -> usize {
    match colour {
        Colour::Blue => 0,
        Colour::Green => 1,
    }
}
