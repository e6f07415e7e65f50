//! The names that the worlds use.

use kutover_core::owner::Target;
use kutover_core::ports::{ClusterIdentity, Incarnation, RecordData};
use kutover_core::words::{ClusterId, Colour, DnsName, Generation, TopicPartition};

/// The one topic.
pub(crate) const TOPIC: &str = "t";

/// The one partition.
pub(crate) fn place() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

/// A colour's place in an array.
pub(crate) fn index(colour: Colour) -> usize {
    match colour {
        Colour::Blue => 0,
        Colour::Green => 1,
    }
}

/// The id that a colour's cluster has.
pub(crate) fn cluster_id(colour: Colour) -> ClusterId {
    colour.as_str().into()
}

/// A target.
pub(crate) fn target(generation: u64, colour: Colour) -> Target {
    Target {
        generation: Generation(generation),
        colour,
        cluster_id: cluster_id(colour),
        bootstrap: vec![colour.as_str().into()],
    }
}

/// Who a colour's cluster is.
pub(crate) fn identity(colour: Colour) -> ClusterIdentity {
    ClusterIdentity {
        cluster_id: cluster_id(colour),
        brokers: [colour.as_str().into()].into(),
        version: None,
    }
}

/// A colour's infrastructure: the first one, or the one that was made when it was gone.
pub(crate) fn incarnation(colour: Colour, number: u8) -> Incarnation {
    Incarnation {
        id: format!("{colour}-{number}").as_str().into(),
        colour,
        bootstrap: vec![colour.as_str().into()],
        controller_bootstrap: vec![colour.as_str().into()],
        endpoint: RecordData::Cname(DnsName::new(colour.as_str())),
    }
}
