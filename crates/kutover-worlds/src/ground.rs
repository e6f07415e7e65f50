//! What producers, controllers and readers share: two clusters, and what the owner record has said so far.

use std::hash::{Hash, Hasher};

use kutover_core::messages::ControlView;
use kutover_core::owner::{Intent, Target};
use kutover_core::words::Colour;

use crate::names::index;

/// A Kafka cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// The log of the one partition: producer and record. Empty where nobody looks at offsets.
    pub(crate) log: Vec<(u8, u8)>,
    /// Whether it refuses records.
    pub(crate) fenced: bool,
    /// Nobody can reach it any more.
    pub(crate) dead: bool,
    /// What its control topic says.
    pub(crate) control: ControlView,
}

impl Hash for Cluster {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let ControlView { deployment, term, claim, target, intent, fenced, chain } = &self.control;
        (deployment, term, claim, target, intent, fenced, chain).hash(hasher);
        (&self.log, self.fenced, self.dead).hash(hasher);
    }
}

/// What the owner record said at one time; a stale resolver still says it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OwnerSaid {
    pub(crate) target: Target,
    pub(crate) intent: Option<Intent>,
}

/// See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ground {
    pub(crate) clusters: [Cluster; 2],
    /// Oldest first. The last one is the truth.
    pub(crate) owner: Vec<OwnerSaid>,
    /// Whether offsets matter, so that logs are kept.
    pub(crate) offsets: bool,
}

impl Ground {
    pub(crate) fn at(&self, colour: Colour) -> &Cluster {
        &self.clusters[index(colour)]
    }

    pub(crate) fn at_mut(&mut self, colour: Colour) -> &mut Cluster {
        &mut self.clusters[index(colour)]
    }

    /// Where producers belong now.
    pub(crate) fn published(&self) -> Option<&Target> {
        self.owner.last().map(|said| &said.target)
    }
}

/// What may still go wrong. Each number is spent once, by whoever it strikes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// Acknowledgements that get lost; the record is in the log or is not.
    pub(crate) lost_acks: u8,
    /// Records whose acknowledgement was lost that are written later than that.
    pub(crate) late_appends: u8,
    /// Records that fail and are known not to be written.
    pub(crate) known_failures: u8,
    /// Connections that do not come about.
    pub(crate) connect_failures: u8,
    /// Connections that lead to the other cluster than the one that was meant.
    pub(crate) wrong_clusters: u8,
    /// Looks at owner record and control topic without an answer.
    pub(crate) look_failures: u8,
    /// Clients that become fatal.
    pub(crate) fatals: u8,
    /// Flushes that run out of time.
    pub(crate) slow_flushes: u8,
}
