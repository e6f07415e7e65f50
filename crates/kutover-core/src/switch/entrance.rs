//! The entrance: the client in use behind its gate, and the records that wait while the gate is closed.
//!
//! Everything that senders, clients' callbacks and the switch's thread must agree on about a record's way in is here and in
//! [`Gate`], without the records themselves, so that every interleaving can be gone through (feature `threads`).

use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::gate::Gate;
use super::hand_over::{Failure, HandOver, Returned, Sequence};
use super::sync::{ArcSwapOption, AtomicU64, Mutex, MutexGuard};
use crate::ports::Token;
use crate::words::Millis;

/// A client that is entered through a gate of its own.
pub trait Gated {
    /// Its gate.
    fn gate(&self) -> &Gate;
}

/// Why a record was not let in; its caller still has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// There is no room for another parked record: later there may be.
    Full,
    /// The producer has ended.
    Ended,
}

/// A counter on cache lines of its own: senders write it while clients' threads read what lies beside it.
#[repr(align(128))]
struct Apart(AtomicU64);

/// The records that wait, and whether more may join them.
#[derive(Debug)]
pub struct Parking {
    /// The order of the records that wait.
    pub hand_over: HandOver,
    /// Takes no new records for now; senders wait.
    pub shut: bool,
    ended: bool,
}

/// The way into one producer.
pub struct Entrance<L> {
    /// The client in use. Its own gate says whether it may be used.
    current: ArcSwapOption<L>,
    sequence: Apart,
    parking: Mutex<Parking>,
}

/// The [`Parking`] under its lock. Gates are opened through it alone, so that no record is parked behind an open gate.
#[must_use = "the lock is held for as long as this lives"]
pub struct Parked<'a, L> {
    current: &'a ArcSwapOption<L>,
    parking: MutexGuard<'a, Parking>,
}

impl<L: Gated> std::fmt::Debug for Entrance<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entrance").field("sequence", &self.sequences()).finish_non_exhaustive()
    }
}

impl<L> std::fmt::Debug for Parked<'_, L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Parked").field(&*self.parking).finish()
    }
}

impl<L: Gated> Entrance<L> {
    /// An entrance without a client: what comes is parked.
    pub fn new(hand_over: HandOver) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            sequence: Apart(AtomicU64::new(0)),
            parking: Mutex::new(Parking { hand_over, shut: false, ended: false }),
        }
    }

    /// Lets a record in, to the client in use or to those that wait.
    ///
    /// With an open gate it is `send`, which runs inside it and must not block. Otherwise the record is copied with `copy`, which
    /// also says its size, and put away with `put_away`, which says under which token it waits and until when; that runs under
    /// the lock.
    ///
    /// # Errors
    /// [`TurnedAway`], and then the record has no place in the send order.
    #[inline]
    pub fn pass<R, B>(
        &self,
        send: impl FnOnce(&L, Sequence) -> R,
        copy: impl Fn() -> (B, usize),
        put_away: impl FnOnce(Sequence, B) -> (Token, Millis),
    ) -> Result<Option<R>, TurnedAway> {
        loop {
            let current = self.current.load();
            if let Some(client) = current.as_ref()
                && let Some(_entry) = client.gate().enter()
            {
                return Ok(Some(send(client, self.next_sequence())));
            }
            drop(current);
            let (body, bytes) = copy();
            let mut parked = self.lock();
            if parked.ended {
                return Err(TurnedAway::Ended);
            }
            // Opening happens under the same lock, so a gate that is closed here stays closed until this record is parked.
            if parked.is_open() {
                continue;
            }
            if parked.shut || !parked.hand_over.has_room(bytes) {
                return Err(TurnedAway::Full);
            }
            let sequence = self.next_sequence();
            let (token, expires) = put_away(sequence, body);
            let fits = parked.hand_over.park(sequence, token, bytes, expires);
            debug_assert!(fits.is_ok(), "room was there a line above");
            return Ok(None);
        }
    }

    /// Takes in a record that came back, for the hand-over to judge, if it still does: that is asked under the lock under
    /// which it judges. `false`: nobody would look at it any more.
    pub fn hold(&self, failure: Failure, maybe_written: bool, still: impl FnOnce() -> bool) -> bool {
        let mut parked = self.lock();
        let holds = !parked.ended && still();
        if holds {
            if maybe_written {
                parked.hand_over.remember_unknown(failure.token);
            }
            parked.hand_over.failed(failure);
        }
        holds
    }

    /// The records that wait, and with them the right to open a gate.
    pub fn lock(&self) -> Parked<'_, L> {
        // No invariant of the hand-over spans a panic of its callers.
        let parking = self.parking.lock().unwrap_or_else(PoisonError::into_inner);
        Parked { current: &self.current, parking }
    }

    /// The client in use.
    pub fn current(&self) -> Option<Arc<L>> {
        self.current.load_full()
    }

    /// Lets go of the client in use, whose gate is closed: a send that still holds it is turned away there and loads anew.
    pub fn forget_current(&self) {
        self.current.store(None);
    }

    /// How many records have got a place in the send order.
    pub fn sequences(&self) -> u64 {
        self.sequence.0.load(Ordering::SeqCst)
    }

    fn next_sequence(&self) -> Sequence {
        Sequence(self.sequence.0.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

impl<L: Gated> Parked<'_, L> {
    /// Makes a client the one in use and opens its gate.
    pub fn open(&mut self, client: &Arc<L>) {
        self.current.store(Some(Arc::clone(client)));
        client.gate().open();
        self.parking.shut = false;
    }

    /// Takes nothing more, and gives what waits.
    pub fn end(&mut self) -> Vec<Returned> {
        self.parking.ended = true;
        self.parking.hand_over.abandon()
    }

    fn is_open(&self) -> bool {
        self.current.load().as_ref().is_some_and(|client| !client.gate().is_closed())
    }
}

impl<L> Deref for Parked<'_, L> {
    type Target = Parking;

    fn deref(&self) -> &Parking {
        &self.parking
    }
}

impl<L> DerefMut for Parked<'_, L> {
    fn deref_mut(&mut self) -> &mut Parking {
        &mut self.parking
    }
}

#[cfg(all(test, not(feature = "threads")))]
mod tests;
