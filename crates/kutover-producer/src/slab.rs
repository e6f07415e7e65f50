//! The slab of completions: one slot per record that was accepted and whose fate its caller does not know yet.
//!
//! Nothing here allocates per record or takes a lock on the way of a record that is simply acknowledged: slots come in
//! chunks and are used again, the free list is two stacks of indices, and a slot's state is one atomic word. The slot's index and
//! generation are the [`Token`] that travels through the client.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use kutover_core::ports::{DeliveryFate, ErrorCode, RecordBody, Token};
use parking_lot::Mutex;

const CHUNK: usize = 1024;
const CHUNKS: usize = 4096;

// The lower half of a slot's state word; the upper is its generation.
const FREE: u64 = 0;
const PENDING: u64 = 1;
const DONE: u64 = 1 << 1;
/// The future has left a waker.
const WAKER: u64 = 1 << 2;
/// The future was dropped: the report frees the slot.
const DETACHED: u64 = 1 << 3;
/// Done, and the record goes back.
const FAILED: u64 = 1 << 4;
const BITS: u64 = 0xFFFF_FFFF;

/// No partition of the caller's own choice.
const NO_PARTITION: i32 = -1;
/// No time of the broker's own.
const NO_TIME: i64 = i64::MIN;

/// A record's slot. Aligned, so that neighbours do not share cache lines.
#[repr(align(128))]
pub(crate) struct Slot {
    state: AtomicU64,
    next: AtomicU32,
    pub(crate) topic: AtomicU32,
    pub(crate) sequence: AtomicU64,
    partition: AtomicI32,
    ack_partition: AtomicI32,
    /// Milliseconds since the Unix epoch; the record keeps it over a hand-over.
    pub(crate) timestamp_ms: AtomicI64,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub(crate) accepted_ms: AtomicI64,
    ack_offset: AtomicI64,
    ack_time_ms: AtomicI64,
    /// It may stand in a cluster that was left: once unknown, always unknown.
    pub(crate) maybe_written: AtomicBool,
    pub(crate) cold: Mutex<Cold>,
}

const _: () = assert!(size_of::<Slot>() == 128, "a slot has outgrown its cache lines");

/// What only waiting and failing records need.
#[derive(Default)]
pub(crate) struct Cold {
    waker: Option<Waker>,
    /// Apart, so that a slot stays within one cache line (pair): most records never need it.
    pub(crate) held: Option<Box<Held>>,
}

/// A record that neither its caller nor a client has.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) body: Option<RecordBody>,
    /// Why it came back.
    pub(crate) code: Option<ErrorCode>,
    /// Since when it waits.
    pub(crate) parked_at: Option<Instant>,
    failure: Option<Box<Failed>>,
}

impl Cold {
    pub(crate) fn held(&mut self) -> &mut Held {
        self.held.get_or_insert_default()
    }
}

/// A record that goes back to its caller.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) code: ErrorCode,
    pub(crate) fate: DeliveryFate,
    pub(crate) body: RecordBody,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp_ms: i64,
}

/// Where an acknowledged record stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// The broker's own time, where it stamped the record.
    pub(crate) append_time_ms: Option<i64>,
    pub(crate) timestamp_ms: i64,
}

/// What became of a record.
pub(crate) type Outcome = Result<Acked, Box<Failed>>;

impl Slot {
    fn new() -> Self {
        Self {
            state: AtomicU64::new(FREE),
            next: AtomicU32::new(0),
            topic: AtomicU32::new(0),
            sequence: AtomicU64::new(0),
            partition: AtomicI32::new(NO_PARTITION),
            ack_partition: AtomicI32::new(0),
            timestamp_ms: AtomicI64::new(0),
            accepted_ms: AtomicI64::new(0),
            ack_offset: AtomicI64::new(0),
            ack_time_ms: AtomicI64::new(NO_TIME),
            maybe_written: AtomicBool::new(false),
            cold: Mutex::default(),
        }
    }

    /// The caller's own choice of partition.
    pub(crate) fn partition(&self) -> Option<i32> {
        Some(self.partition.load(Ordering::Relaxed)).filter(|partition| *partition != NO_PARTITION)
    }

    fn take_outcome(&self, state: u64) -> Outcome {
        if state & FAILED != 0
            && let Some(failed) = self.cold.lock().held.take().and_then(|held| held.failure)
        {
            return Err(failed);
        }
        let time = self.ack_time_ms.load(Ordering::Relaxed);
        Ok(Acked {
            partition: self.ack_partition.load(Ordering::Relaxed),
            offset: self.ack_offset.load(Ordering::Relaxed),
            append_time_ms: (time != NO_TIME).then_some(time),
            timestamp_ms: self.timestamp_ms.load(Ordering::Relaxed),
        })
    }
}

/// An index stack without locks: the head's upper half counts pops, so that a head that was away and came back is
/// told apart (the ABA problem). Zero is empty, indices are stored one higher.
#[repr(align(128))]
struct Stack(AtomicU64);

/// See the [module](self).
pub(crate) struct Slab {
    chunks: Box<[OnceLock<Box<[Slot]>>]>,
    /// Senders take from here...
    ready: Stack,
    /// ...and whoever is done with a slot puts it here, so that both sides do not fight for one cache line.
    freed: Stack,
    fresh: AtomicU32,
}

impl Slab {
    pub(crate) fn new() -> Self {
        Self {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            ready: Stack(AtomicU64::new(0)),
            freed: Stack(AtomicU64::new(0)),
            fresh: AtomicU32::new(0),
        }
    }

    /// A slot for a record; `None` if millions of records are under way already.
    #[inline]
    pub(crate) fn take(&self, partition: Option<i32>) -> Option<Token> {
        let index = self.pop()?;
        let slot = self.slot(index);
        slot.partition.store(partition.unwrap_or(NO_PARTITION), Ordering::Relaxed);
        slot.ack_time_ms.store(NO_TIME, Ordering::Relaxed);
        let generation = slot.state.load(Ordering::Relaxed) >> 32;
        slot.state.store(generation << 32 | PENDING, Ordering::Release);
        Some(Token(generation << 32 | u64::from(index)))
    }

    fn slot(&self, index: u32) -> &Slot {
        let index = index as usize;
        let chunk = self.chunks[index / CHUNK].get_or_init(|| (0..CHUNK).map(|_| Slot::new()).collect());
        &chunk[index % CHUNK]
    }

    /// The slot of a token, if the token's record is still in it.
    #[inline]
    pub(crate) fn get(&self, token: Token) -> Option<&Slot> {
        let slot = self.slot(token.slot());
        let state = slot.state.load(Ordering::Acquire);
        let current = state >> 32 == token.0 >> 32 && state & BITS & PENDING != 0;
        current.then_some(slot)
    }

    fn pop(&self) -> Option<u32> {
        loop {
            let head = self.ready.0.load(Ordering::Acquire);
            let top = head & BITS;
            if top == 0 {
                let chain = self.freed.0.swap(0, Ordering::AcqRel) & BITS;
                if chain == 0 {
                    return self.fresh();
                }
                let index = index_of(chain);
                self.put_ready(self.slot(index).next.load(Ordering::Relaxed));
                return Some(index);
            }
            let index = index_of(top);
            let next = u64::from(self.slot(index).next.load(Ordering::Relaxed));
            let popped = ((head >> 32).wrapping_add(1) & BITS) << 32 | next;
            if self.ready.0.compare_exchange_weak(head, popped, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Some(index);
            }
        }
    }

    fn fresh(&self) -> Option<u32> {
        let limit = (CHUNK * CHUNKS) as u32;
        self.fresh
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| (next < limit).then_some(next + 1))
            .ok()
    }

    /// Puts a whole chain (its first index, one higher) onto the senders' stack.
    fn put_ready(&self, chain: u32) {
        if chain == 0 {
            return;
        }
        let mut last = None;
        loop {
            let head = self.ready.0.load(Ordering::Acquire);
            if head & BITS != 0 {
                // Another sender was quicker: ours goes on top of its chain.
                let last = *last.get_or_insert_with(|| self.last_of(chain));
                self.slot(last).next.store((head & BITS) as u32, Ordering::Relaxed);
            } else if let Some(last) = last {
                self.slot(last).next.store(0, Ordering::Relaxed);
            }
            let pushed = ((head >> 32).wrapping_add(1) & BITS) << 32 | u64::from(chain);
            if self.ready.0.compare_exchange_weak(head, pushed, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    fn last_of(&self, chain: u32) -> u32 {
        let mut index = chain - 1;
        loop {
            match self.slot(index).next.load(Ordering::Relaxed) {
                0 => return index,
                next => index = next - 1,
            }
        }
    }

    /// Gives a slot back; its generation moves on, so that nothing late can touch its next record.
    fn free(&self, index: u32) {
        let slot = self.slot(index);
        let generation = (slot.state.load(Ordering::Relaxed) >> 32).wrapping_add(1) & BITS;
        slot.state.store(generation << 32 | FREE, Ordering::Release);
        let mut head = self.freed.0.load(Ordering::Relaxed);
        loop {
            slot.next.store((head & BITS) as u32, Ordering::Relaxed);
            let pushed = u64::from(index) + 1;
            match self.freed.0.compare_exchange_weak(head, pushed, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Gives back the slot of a record that was not accepted after all.
    pub(crate) fn cancel(&self, token: Token) {
        if let Some(slot) = self.get(token) {
            self.clean(slot);
            self.free(token.slot());
        }
    }

    fn clean(&self, slot: &Slot) {
        if slot.maybe_written.swap(false, Ordering::Relaxed) {
            *slot.cold.lock() = Cold::default();
        }
    }

    /// A record was acknowledged.
    #[inline]
    pub(crate) fn acknowledge(&self, token: Token, partition: i32, offset: i64, append_time_ms: Option<i64>) {
        let Some(slot) = self.get(token) else { return };
        slot.ack_partition.store(partition, Ordering::Relaxed);
        slot.ack_offset.store(offset, Ordering::Relaxed);
        if let Some(time) = append_time_ms {
            slot.ack_time_ms.store(time, Ordering::Relaxed);
        }
        let _ = self.finish(slot, token, DONE);
    }

    /// A record goes back to its caller. Gives it back here if the caller has gone.
    pub(crate) fn fail(&self, token: Token, failed: Box<Failed>) -> Option<Box<Failed>> {
        let slot = self.get(token)?;
        {
            let mut cold = slot.cold.lock();
            *cold.held() = Held { failure: Some(failed), ..Held::default() };
        }
        self.finish(slot, token, DONE | FAILED)
    }

    /// Marks a slot done and wakes its future, or frees it where that was dropped.
    fn finish(&self, slot: &Slot, token: Token, bits: u64) -> Option<Box<Failed>> {
        let mut state = slot.state.load(Ordering::Acquire);
        loop {
            let done = state & !BITS | bits;
            match slot.state.compare_exchange_weak(state, done, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) if state & DETACHED != 0 => {
                    let failed = slot.take_outcome(bits).err();
                    self.clean(slot);
                    self.free(token.slot());
                    return failed;
                }
                Ok(_) => {
                    if state & WAKER != 0 {
                        // In a statement of its own: a waker that polls at once must not find the lock taken.
                        let waker = slot.cold.lock().waker.take();
                        if let Some(waker) = waker {
                            waker.wake();
                        }
                    }
                    return None;
                }
                Err(now) => state = now,
            }
        }
    }

    /// The future's look at its slot. Ready frees the slot: it must not be polled again.
    pub(crate) fn poll(&self, token: Token, context: &mut Context<'_>) -> Poll<Outcome> {
        let slot = self.slot(token.slot());
        let mut state = slot.state.load(Ordering::Acquire);
        if state & DONE == 0 {
            slot.cold.lock().waker = Some(context.waker().clone());
            loop {
                if state & DONE != 0 {
                    slot.cold.lock().waker = None;
                    break;
                }
                let waiting = state | WAKER;
                match slot.state.compare_exchange_weak(state, waiting, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return Poll::Pending,
                    Err(now) => state = now,
                }
            }
        }
        Poll::Ready(self.release(slot, token, state))
    }

    fn release(&self, slot: &Slot, token: Token, state: u64) -> Outcome {
        let outcome = slot.take_outcome(state);
        slot.maybe_written.store(false, Ordering::Relaxed);
        self.free(token.slot());
        outcome
    }

    /// The future was dropped before it was ready. Gives the record if it had failed already.
    pub(crate) fn detach(&self, token: Token) -> Option<Box<Failed>> {
        let slot = self.slot(token.slot());
        let mut state = slot.state.load(Ordering::Acquire);
        loop {
            if state & DONE != 0 {
                return self.release(slot, token, state).err();
            }
            let detached = state | DETACHED;
            match slot.state.compare_exchange_weak(state, detached, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return None,
                Err(now) => state = now,
            }
        }
    }
}

fn index_of(stored: u64) -> u32 {
    (stored - 1) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::task::Waker;
    use std::thread;

    use super::*;

    fn poll(slab: &Slab, token: Token) -> Poll<Outcome> {
        slab.poll(token, &mut Context::from_waker(Waker::noop()))
    }

    fn failed() -> Box<Failed> {
        let code = ErrorCode { number: -192, name: "MessageTimedOut".into() };
        let (fate, body) = (DeliveryFate::NotWritten, RecordBody::default());
        Box::new(Failed { code, fate, body, partition: None, timestamp_ms: 0 })
    }

    #[test]
    fn a_slot_is_used_again_under_another_token() {
        let slab = Slab::new();
        let first = slab.take(Some(3)).unwrap();
        assert_eq!(slab.get(first).unwrap().partition(), Some(3));
        assert!(poll(&slab, first).is_pending());
        slab.acknowledge(first, 3, 42, None);
        let Poll::Ready(Ok(acked)) = poll(&slab, first) else { panic!("it was acknowledged") };
        assert_eq!((acked.partition, acked.offset), (3, 42));
        let second = slab.take(None).unwrap();
        assert_eq!(second.slot(), first.slot());
        assert_ne!(second, first);
        assert!(slab.get(first).is_none(), "a late report of the first does not touch the second");
        slab.acknowledge(first, 0, 0, None);
        assert!(poll(&slab, second).is_pending());
        assert_eq!(slab.get(second).unwrap().partition(), None);
    }

    /// A waker that runs its task at once polls the very slot that wakes it.
    #[test]
    fn a_waker_that_polls_at_once_finds_no_lock_taken() {
        struct PollsAtOnce(Arc<Slab>, Token);
        impl std::task::Wake for PollsAtOnce {
            fn wake(self: Arc<Self>) {
                let slot = self.0.slot(self.1.slot());
                assert!(slot.cold.try_lock().is_some(), "the slot is locked while it wakes");
                assert!(poll(&self.0, self.1).is_ready());
            }
        }
        let slab = Arc::new(Slab::new());
        let token = slab.take(None).unwrap();
        let waker = Waker::from(Arc::new(PollsAtOnce(Arc::clone(&slab), token)));
        assert!(slab.poll(token, &mut Context::from_waker(&waker)).is_pending());
        assert!(slab.fail(token, failed()).is_none());
        assert!(slab.get(token).is_none(), "it was polled and is free");
    }

    /// A dropped future leaves its slot to the report; a failure that nobody waits for is handed out.
    #[test]
    fn a_detached_slot_is_freed_by_its_report() {
        let slab = Slab::new();
        let token = slab.take(None).unwrap();
        assert!(slab.detach(token).is_none());
        assert!(slab.get(token).is_some(), "the record still is under way");
        assert!(slab.fail(token, failed()).is_some());
        assert!(slab.get(token).is_none());
        let again = slab.take(None).unwrap();
        assert!(slab.fail(again, failed()).is_none());
        assert!(slab.detach(again).is_some(), "it had failed before the future was dropped");
    }

    /// Senders take, clients' threads complete, futures free: no slot is ever in two hands.
    #[test]
    fn slots_are_never_shared() {
        let slab = Arc::new(Slab::new());
        let threads: Vec<_> = (0..3_i64)
            .map(|thread| {
                let slab = Arc::clone(&slab);
                thread::spawn(move || {
                    for round in 0..3_000_i64 {
                        let tokens: Vec<_> = (0..7).map(|_| slab.take(None).unwrap()).collect();
                        assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), 7);
                        let mark = thread * 1_000_000 + round;
                        for token in &tokens {
                            slab.get(*token).unwrap().timestamp_ms.store(mark, Ordering::SeqCst);
                        }
                        for token in tokens {
                            slab.acknowledge(token, 0, mark, None);
                            let Poll::Ready(Ok(acked)) = poll(&slab, token) else { panic!("acknowledged") };
                            assert_eq!((acked.offset, acked.timestamp_ms), (mark, mark));
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        // A thread that is set aside with the free list in its hands makes the others take fresh ones, a few each time.
        let taken = 3 * 3_000 * 7;
        assert!(slab.fresh.load(Ordering::SeqCst) < taken / 10, "slots are used again");
    }
}
