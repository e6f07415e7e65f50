//! The hand-over: which records wait, in send order, and what becomes of those that failed (L3).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ack_marks::{Highest, TopicKey};
use super::policy::{Order, UnknownPolicy};
use crate::controls::{Control, without};
use crate::ports::{DeliveryFate, Token};
use crate::words::Millis;

/// The send sequence of one producer, from 1: the order of acceptance, not of callbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(pub u64);

/// A record that came back from a client while a hand-over was under way, by report or by a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// The record.
    pub token: Token,
    /// Its place in the send order.
    pub sequence: Sequence,
    /// Its topic.
    pub topic: TopicKey,
    /// Its partition on the cluster that it came back from; a refusal has none.
    pub partition: Option<i32>,
    /// What is known of it.
    pub fate: DeliveryFate,
    /// Its size in memory, in bytes.
    pub bytes: usize,
    /// When its delivery timeout ends.
    pub expires: Millis,
}

/// A record to offer next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Offer {
    /// The record.
    pub token: Token,
    /// Its place in the send order.
    pub sequence: Sequence,
    /// It may stand in a cluster that was left: its slot has to remember that before it is offered.
    pub maybe_written: bool,
}

/// Why a record goes back to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReturnReason {
    /// A later record of its partition (of its topic, where the partition is not known) was acknowledged.
    OutOfOrder,
    /// It may or may not have been written, and the policy is to return such records.
    FateUnknown,
    /// Its delivery timeout ended while it waited.
    Expired,
    /// The cluster that it was offered to refused it, for a reason that no switch mends.
    Refused,
    /// The producer stops for good while it waits.
    Stopped,
}

/// A record that goes back to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Returned {
    /// The record.
    pub token: Token,
    /// Whether it may stand in some cluster: once unknown, always unknown.
    pub fate: DeliveryFate,
    /// Why it goes back.
    pub reason: ReturnReason,
}

/// There is no room for another parked record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{parked_bytes} bytes are parked already, {limit_bytes} at most")]
pub struct ParkFull {
    /// Bytes parked now.
    pub parked_bytes: usize,
    /// The bound.
    pub limit_bytes: usize,
}

/// What a hand-over has done, counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    /// Records of unknown fate that are sent again: the bound on duplicates.
    pub possibly_duplicated: u64,
    /// Records that went back to their callers.
    pub returned: u64,
    /// Records that were known not to be written and are offered to the next cluster.
    pub offered_again: u64,
    /// Records that were parked.
    pub parked: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    token: Token,
    bytes: usize,
    expires: Millis,
    maybe_written: bool,
}

/// The order of the records that wait while a producer moves. It costs nothing while no hand-over is under way: it only ever sees records that wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HandOver {
    order: Order,
    unknown: UnknownPolicy,
    limit_bytes: usize,
    waiting_bytes: usize,
    /// Came back, not judged yet: judging needs every report of the client that they came back from.
    failed: BTreeMap<Sequence, Failure>,
    /// To be offered, in send order.
    waiting: BTreeMap<Sequence, Waiting>,
    /// Records that may stand in a cluster that was left, whatever becomes of them now.
    maybe_written: BTreeSet<Token>,
    counts: Counts,
}

impl HandOver {
    /// A hand-over that parks at most so many bytes.
    pub fn new(order: Order, unknown: UnknownPolicy, limit_bytes: usize) -> Self {
        Self {
            order,
            unknown,
            limit_bytes,
            waiting_bytes: 0,
            failed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            maybe_written: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    /// Parks a record that was accepted while the gate was closed.
    ///
    /// # Errors
    /// [`ParkFull`]: the caller waits, or gets its record back. One record always fits, however large.
    pub fn park(
        &mut self,
        sequence: Sequence,
        token: Token,
        bytes: usize,
        expires: Millis,
    ) -> Result<(), ParkFull> {
        if !self.has_room(bytes) {
            return Err(ParkFull { parked_bytes: self.waiting_bytes, limit_bytes: self.limit_bytes });
        }
        self.counts.parked += 1;
        self.waiting_bytes += bytes;
        self.waiting.insert(sequence, Waiting { token, bytes, expires, maybe_written: false });
        Ok(())
    }

    /// Whether a record of so many bytes can be parked now.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.waiting_bytes == 0 || self.waiting_bytes.saturating_add(bytes) <= self.limit_bytes
    }

    /// Takes in a record that came back. It is never refused for want of room: it was accepted already.
    pub fn failed(&mut self, mut failure: Failure) {
        if without(Control::PurgedNotWritten) {
            failure.fate = DeliveryFate::NotWritten;
        }
        self.waiting_bytes += failure.bytes;
        self.failed.insert(failure.sequence, failure);
    }

    /// Judges what came back, once every record of the client that it came back from is settled. Known-not-written
    /// records are to be offered again, in `Ordered` only if no later one of their place was acknowledged; unknown ones go by
    /// policy. Gives what has to be returned.
    pub fn settle(&mut self, acknowledged: &impl Highest) -> Vec<Returned> {
        let mut returned = Vec::new();
        for (sequence, failure) in std::mem::take(&mut self.failed) {
            if failure.fate == DeliveryFate::Unknown {
                self.maybe_written.insert(failure.token);
            }
            let maybe_written = self.maybe_written.contains(&failure.token);
            let verdict = self.judge(&failure, acknowledged);
            match verdict {
                Some(reason) => {
                    self.waiting_bytes -= failure.bytes;
                    returned.push(self.give_back(failure.token, reason));
                }
                None => {
                    match failure.fate {
                        DeliveryFate::NotWritten => self.counts.offered_again += 1,
                        DeliveryFate::Unknown => self.counts.possibly_duplicated += 1,
                    }
                    let Failure { token, bytes, expires, .. } = failure;
                    self.waiting.insert(sequence, Waiting { token, bytes, expires, maybe_written });
                }
            }
        }
        returned
    }

    fn judge(&self, failure: &Failure, acknowledged: &impl Highest) -> Option<ReturnReason> {
        if failure.fate == DeliveryFate::Unknown && self.unknown == UnknownPolicy::Return {
            return Some(ReturnReason::FateUnknown);
        }
        if self.order == Order::Overlap || without(Control::IgnoreLaterAcks) {
            return None;
        }
        let highest = match failure.partition {
            Some(partition) => acknowledged.in_partition(failure.topic, partition),
            None => acknowledged.in_topic(failure.topic),
        };
        highest.is_some_and(|later| later > failure.sequence).then_some(ReturnReason::OutOfOrder)
    }

    fn give_back(&mut self, token: Token, reason: ReturnReason) -> Returned {
        self.counts.returned += 1;
        let unknown = self.maybe_written.remove(&token);
        let fate = if unknown { DeliveryFate::Unknown } else { DeliveryFate::NotWritten };
        Returned { token, fate, reason }
    }

    /// The record to offer next: the lowest send sequence that waits.
    pub fn next_offer(&self) -> Option<Offer> {
        self.waiting.first_key_value().map(|(sequence, waiting)| Offer {
            token: waiting.token,
            sequence: *sequence,
            maybe_written: waiting.maybe_written,
        })
    }

    /// The client took the record that [`HandOver::next_offer`] named.
    pub fn took(&mut self, offer: Offer) {
        if let Some(waiting) = self.waiting.remove(&offer.sequence) {
            self.waiting_bytes -= waiting.bytes;
            self.maybe_written.remove(&waiting.token);
        }
    }

    /// The record that [`HandOver::next_offer`] named is refused for a reason of its own (not a fence): it goes back.
    pub fn refused(&mut self, offer: Offer) -> Option<Returned> {
        let waiting = self.waiting.remove(&offer.sequence)?;
        self.waiting_bytes -= waiting.bytes;
        Some(self.give_back(waiting.token, ReturnReason::Refused))
    }

    /// A record that comes back carries from an earlier hop that it may stand in a cluster that was left.
    pub fn remember_unknown(&mut self, token: Token) {
        self.maybe_written.insert(token);
    }

    /// Takes out what came back and was not judged: nothing is under way that would mend what refused it.
    pub fn release(&mut self) -> Vec<Returned> {
        let failed = std::mem::take(&mut self.failed);
        let mut returned = Vec::with_capacity(failed.len());
        for failure in failed.into_values() {
            if failure.fate == DeliveryFate::Unknown {
                self.maybe_written.insert(failure.token);
            }
            self.waiting_bytes -= failure.bytes;
            returned.push(self.give_back(failure.token, ReturnReason::Refused));
        }
        returned
    }

    /// Takes out what has outlived its delivery timeout.
    pub fn expire(&mut self, now: Millis) -> Vec<Returned> {
        self.take_out(ReturnReason::Expired, |expires| expires <= now)
    }

    /// Takes out everything, for a producer that stops for good.
    pub fn abandon(&mut self) -> Vec<Returned> {
        self.take_out(ReturnReason::Stopped, |_| true)
    }

    fn take_out(&mut self, reason: ReturnReason, which: impl Fn(Millis) -> bool) -> Vec<Returned> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let unknown = &mut self.maybe_written;
        self.failed.retain(|_, failure| {
            let take = which(failure.expires);
            if take {
                if failure.fate == DeliveryFate::Unknown {
                    unknown.insert(failure.token);
                }
                bytes += failure.bytes;
                taken.push(failure.token);
            }
            !take
        });
        self.waiting.retain(|_, waiting| {
            let take = which(waiting.expires);
            if take {
                bytes += waiting.bytes;
                taken.push(waiting.token);
            }
            !take
        });
        self.waiting_bytes -= bytes;
        taken.into_iter().map(|token| self.give_back(token, reason)).collect()
    }

    /// When the next waiting record's delivery timeout ends.
    pub fn next_expiry(&self) -> Option<Millis> {
        let failed = self.failed.values().map(|failure| failure.expires);
        failed.chain(self.waiting.values().map(|waiting| waiting.expires)).min()
    }

    /// Records that wait, judged or not.
    pub fn len(&self) -> usize {
        self.failed.len() + self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// What has been done since the last [`HandOver::reset_counts`].
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Starts counting anew, for the next switch.
    pub fn reset_counts(&mut self) {
        self.counts = Counts::default();
    }
}

#[cfg(test)]
mod tests;
