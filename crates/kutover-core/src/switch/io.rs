//! What goes into the switch and what comes out: data, comparable and printable.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::ProviderError;
use crate::owner::{Intent, Target};
use crate::words::{ClusterId, Colour, Generation, Millis};

/// Declares a number that names one thing for as long as the machine lives.
macro_rules! name_number {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);
    )+};
}

name_number! {
    /// One client of one cluster, from its connecting on. Every client has another.
    LaneId;
    /// One flush or purge of one client.
    SealId;
    /// One look at owner record and control topic.
    LookId;
}

/// A client, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    /// The client.
    pub id: LaneId,
    /// The target that it serves.
    pub target: Target,
    /// It was refused by a fence, became fatal, or was purged: nothing is offered to it any more. A way back to
    /// its cluster needs a new client.
    pub tainted: bool,
}

/// What control topic and owner record say of fences and intents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fences {
    /// A rollback under way.
    pub intent: Option<Intent>,
    /// The colours under an announced fence.
    pub fenced: BTreeSet<Colour>,
    /// The generation of the target that was said along with it, zero without one: a fence announced here on that
    /// target's colour was announced after it.
    pub generation: Generation,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time went by: the deadline of the last [`Output::Wait`] may have come.
    Tick,
    /// Owner record or control topic name a target. A failed or empty answer is no input: it moves nobody (L4).
    Target(Target),
    /// What is known of fences, whole.
    Fences(Fences),
    /// [`Output::Connect`] succeeded; the cluster says that this is its id.
    Connected {
        /// The client.
        lane: LaneId,
        /// The cluster's own word.
        cluster_id: ClusterId,
    },
    /// [`Output::Connect`] failed.
    ConnectFailed {
        /// The client that there is not.
        lane: LaneId,
        /// Why.
        error: ProviderError,
    },
    /// [`Output::ReadControl`] is done, or was given up after its bound; what it found came as inputs before this one.
    ControlRead {
        /// Through which client's link.
        lane: LaneId,
    },
    /// [`Output::Flush`] came back.
    Flushed {
        /// Which.
        seal: SealId,
        /// Nothing is outstanding: every report has been counted.
        settled: bool,
        /// Reports came in while it flushed: the cluster lives.
        progress: bool,
    },
    /// [`Output::Purge`] came back: nothing is outstanding.
    Purged {
        /// Which.
        seal: SealId,
    },
    /// [`Output::Look`] is done; what it found came as inputs before this one.
    Looked {
        /// Which.
        look: LookId,
    },
    /// A client refused a record as a fence would, from inside a send or by report. The record is held.
    Refused {
        /// The client.
        lane: LaneId,
    },
    /// A client became fatal for good.
    Fatal {
        /// The client.
        lane: LaneId,
    },
    /// [`Output::Offer`] is done: everything that waited has been taken.
    Offered {
        /// By which client.
        lane: LaneId,
    },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Make a new client of the target's cluster: check the id, load the topics in use, warm it.
    Connect {
        /// The name that the client will have.
        lane: LaneId,
        /// Where to.
        target: Target,
    },
    /// Read the control topic to its end through a link to this client's cluster.
    ReadControl {
        /// The client.
        lane: LaneId,
    },
    /// Close the client's gate and wait until no send is inside. Comes right before a flush.
    CloseGate {
        /// The client.
        lane: LaneId,
    },
    /// Flush the client until the deadline and count its delivery reports.
    Flush {
        /// Names this flush in the answer.
        seal: SealId,
        /// The client.
        lane: LaneId,
        /// When to come back at the latest.
        deadline: Millis,
    },
    /// Purge the client and read the fates.
    Purge {
        /// Names this purge in the answer.
        seal: SealId,
        /// The client.
        lane: LaneId,
    },
    /// Read owner record and control topic now, bounded in time.
    Look {
        /// Names this look in the answer.
        look: LookId,
    },
    /// Nothing is under way that would mend a refusal: the held records go back to their callers with their own
    /// errors. While replaying: the record that was refused goes back and the rest is offered on.
    ReturnHeld,
    /// Judge what came back from the client that was left, then offer what waits, in send order.
    Offer {
        /// The client to offer to.
        lane: LaneId,
        /// The client whose acknowledgements decide (L3).
        left: LaneId,
        /// Whether everything on that client is settled. If not, later records may yet be acknowledged there, and in
        /// `Ordered` what came back is returned.
        settled: bool,
    },
    /// Open the client's gate, under the lock of the parked records and with none left in `Ordered`.
    OpenGate {
        /// The client.
        lane: LaneId,
    },
    /// Drop a client. Nothing is outstanding on it.
    Discard {
        /// The client.
        lane: LaneId,
    },
    /// Give a receipt for a move.
    SendReceipt(SwitchReceipt),
    /// Tell whoever listens.
    Notify(SwitchEvent),
    /// Nothing more to do until an input comes, or this instant.
    Wait(Option<Millis>),
}

/// What the machine knows of a move for its receipt; the driver adds counts and producer ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SwitchReceipt {
    /// The generation it moved to.
    pub generation: Generation,
    /// The cluster it left.
    pub from: ClusterId,
    /// The cluster it is on.
    pub to: ClusterId,
    /// Milliseconds the gate was closed.
    pub sealed_ms: u64,
}

/// What a listener is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SwitchEvent {
    /// The producer serves for the first time.
    Started {
        /// Where.
        target: Target,
    },
    /// A switch begins: a candidate is being connected.
    Preparing {
        /// Where to.
        target: Target,
    },
    /// A candidate could not be connected; it is tried again.
    CandidateFailed {
        /// Where to.
        target: Target,
        /// Why.
        reason: String,
    },
    /// The gate is closed.
    Sealed {
        /// The cluster that is being left.
        cluster_id: ClusterId,
        /// Why.
        cause: SealCause,
    },
    /// The old cluster answered too slowly and was gone back to; it is tried again later.
    WentBack {
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// The flush ran out of time; what was left was purged and its fate read.
    Purged {
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// The producer serves on another client.
    Switched {
        /// The move.
        receipt: SwitchReceipt,
    },
    /// A newer generation leads to the cluster that the producer is on already.
    Adopted {
        /// The generation.
        generation: Generation,
    },
    /// The producer stopped for good.
    Stopped {
        /// Why.
        reason: String,
    },
}

/// Why a gate was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SealCause {
    /// The candidate is ready.
    Target,
    /// A fence refused a record.
    Fence,
    /// The client became fatal.
    Fatal,
}

/// A broken invariant: a fault in the machine or its driver. The switch has stopped and nothing is offered any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the switch broke its invariant `{invariant}` and stopped: {detail}")]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}
