//! The switch: one producer's move from one cluster to the other, in four parts.
//!
//! - [`Gate`]: one atomic word per client. The only thing on the send path.
//! - [`Entrance`]: the client in use and the records that wait, under the one lock under which gates open.
//! - [`HandOver`]: which records wait, in send order, and what becomes of those that failed.
//! - [`Switch`]: the machine. It sees aggregates only; records stay with the driver under their [`Token`].
//!
//! [`AckMarks`] is what the delivery path leaves behind for the hand-over: the highest acknowledged send sequence of
//! each partition of one client.
//!
//! [`Token`]: crate::ports::Token

mod ack_marks;
mod candidate;
mod entrance;
mod fences;
mod gate;
mod hand_over;
mod io;
mod machine;
mod moves;
mod patience;
mod policy;
mod situation;
mod sync;

pub use ack_marks::{AckMarks, AnyLater, Highest, TopicKey};
pub use entrance::{Entrance, Gated, Parked, Parking, TurnedAway};
pub use gate::{Entry, Gate};
pub use hand_over::{Counts, Failure, HandOver, Offer, ParkFull, ReturnReason, Returned, Sequence};
pub use io::{
    Fences, Input, Lane, LaneId, LookId, Output, SealCause, SealId, SwitchEvent, SwitchReceipt, Violation,
};
pub use machine::{Candidate, Seal, Start, State, Switch};
pub use patience::Patience;
pub use policy::{Order, SwitchPolicy, UnknownPolicy};

#[cfg(test)]
mod tests;
#[cfg(all(test, feature = "threads"))]
mod threads;
