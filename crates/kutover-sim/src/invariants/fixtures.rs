//! Hand-made observations.

use kutover_core::owner::{OwnerRecord, Target};
use kutover_core::ports::Published;
use kutover_core::words::{Colour, Generation, Offset, Term, TopicName, TopicPartition};

use crate::observed::{Act, Acted, Append, Ending, Group, Handed, Observed, Producer, Reading, Record};

/// A world with one ordered producer of ours, in which nothing has happened.
pub(super) fn ours() -> Observed {
    let producer = Producer {
        name: "p0".into(),
        ordered: true,
        ours: true,
        possibly_duplicated: 0,
        slept_ms: 0,
        moves: Vec::new(),
    };
    Observed { producers: vec![producer], ..Observed::default() }
}

pub(super) fn record(sequence: u64, ending: Ending) -> Record {
    Record { sequence, endings: vec![(4, Some(ending))], ..Record::default() }
}

pub(super) fn append(at_ms: u64, cluster: &str, offset: i64, record: usize) -> Append {
    let place = TopicPartition::new("t0", 0);
    Append { at_ms, cluster: cluster.into(), place, offset: Offset(offset), record }
}

pub(super) fn handed(at_ms: u64, cluster: &str, offset: i64, record: usize) -> Handed {
    let place = TopicPartition::new("t0", 0);
    Handed { at_ms, cluster: cluster.into(), place, offset: Offset(offset), record }
}

pub(super) fn group(name: &str) -> Group {
    let topics = [TopicName::new("t0")].into();
    let (handed, skipped) = (Vec::new(), Vec::new());
    Group { name: name.into(), reading: Reading::Stock, topics, born_ms: 0, handed, skipped }
}

/// One record that a cluster acknowledged at 5 ms and that one group has yet to read.
pub(super) fn one_unread(cluster: &str) -> Observed {
    let mut observed = ours();
    observed.records.push(record(1, Ending::Acknowledged(cluster.into())));
    observed.appends.push(append(5, cluster, 0, 0));
    observed.groups.push(group("g"));
    observed
}

pub(super) fn acted(at_ms: u64, act: Act) -> Acted {
    Acted { at_ms, by: Some(1), act }
}

pub(super) fn made(cluster: &str) -> Acted {
    let colour = if cluster == "g" { Colour::Green } else { Colour::Blue };
    Acted {
        at_ms: 0,
        by: None,
        act: Act::Made(colour, format!("Kafka-{cluster}").as_str().into(), cluster.into(), "first".into()),
    }
}

pub(super) fn owner(generation: u64, cluster: &str, term: u64) -> Published {
    let target = Target {
        generation: Generation(generation),
        colour: Colour::Green,
        cluster_id: cluster.into(),
        bootstrap: vec![],
    };
    let owner = OwnerRecord {
        deployment: "sim".into(),
        term: Term(term),
        nonce: "n".into(),
        target,
        intent: None,
        removal: None,
    };
    Published { endpoint: None, owner: Some(owner) }
}
