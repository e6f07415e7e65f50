//! Steps in an operator's words.

use kutover_core::owner::Target;

use crate::ground::Ground;
use crate::producer::{Act, Producer};

/// A target, short.
pub(crate) fn at(target: &Target) -> String {
    format!("g{} on {}", target.generation, target.colour)
}

/// What happens to a producer.
pub(crate) fn act(producer: &Producer, act: &Act, ground: &Ground) -> String {
    let heard = |nth: &usize| {
        let stale = if nth + 1 == ground.owner.len() { "" } else { "stale, " };
        format!("{stale}{}", at(&ground.owner[*nth].target))
    };
    let on =
        |lane| producer.colour_of(lane).map_or_else(|| "a client".to_owned(), |colour| colour.to_string());
    match act {
        Act::Send { refused: false } => format!("is given record {}", producer.records.len()),
        Act::Send { refused: true } => {
            format!("is given record {}; its client refuses it", producer.records.len())
        }
        Act::Deliver(lane) => match producer.oldest(*lane) {
            Some(record) => format!("record {record} reaches {}, and the report comes back", on(*lane)),
            None => "nothing is delivered".into(),
        },
        Act::FailKnown(lane) => format!("the oldest record on {} fails, known not to be written", on(*lane)),
        Act::LoseAck { lane, written: true } => {
            format!("the oldest record is written on {}; its acknowledgement is lost", on(*lane))
        }
        Act::LoseAck { lane, written: false } => {
            format!("the oldest record on {} gets no answer; it may yet be written", on(*lane))
        }
        Act::LateAppend(nth) => format!("{} after all", producer.late_append(*nth)),
        Act::Connect { to: Some(colour), .. } => format!("a client connects, to {colour}"),
        Act::Connect { to: None, .. } => "a client does not get a connection".into(),
        Act::ReadControl { .. } => "has read the control topic".into(),
        Act::Flush { settled: true, .. } => "the flush is done: nothing is outstanding".into(),
        Act::Flush { settled: false, .. } => "the flush runs out of time".into(),
        Act::Purge { written: true, .. } => "purges its client; the oldest record was written".into(),
        Act::Purge { written: false, .. } => "purges its client; the oldest record was not written".into(),
        Act::Look { heard: Some(nth), .. } => format!("has looked: the owner record says {}", heard(nth)),
        Act::Look { heard: None, .. } => "has looked, without an answer".into(),
        Act::Replay => "offers the next record that waits".into(),
        Act::Hear(nth) => format!("hears of {}", heard(nth)),
        Act::Control => "reads its cluster's control topic".into(),
        Act::Fatal(lane) => format!("its client on {} becomes fatal", on(*lane)),
        Act::Tick => "looks at the clock".into(),
    }
}
