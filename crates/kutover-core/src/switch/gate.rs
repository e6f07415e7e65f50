//! The gate: how many sends are inside one client, and whether more may enter.

use std::sync::atomic::Ordering;

use super::sync::AtomicU64;
use crate::controls::{Control, without};

/// The lowest bit says closed; entries are counted in steps of two above it.
const CLOSED: u64 = 1;
const ONE_ENTRY: u64 = 2;

/// One atomic word per client: a closed bit, and the number of entries in progress.
///
/// The defence against L2: once [`Gate::seal`] has returned, no send is inside the client and none will be until
/// [`Gate::open`], also not through a handle that was loaded long before.
#[derive(Debug)]
pub struct Gate {
    word: AtomicU64,
}

/// One send inside the gate. Leaving is dropping it.
#[derive(Debug)]
#[must_use = "dropping the entry leaves the gate"]
pub struct Entry<'a> {
    gate: &'a Gate,
}

impl Gate {
    /// A closed gate without entries.
    pub fn closed() -> Self {
        Self { word: AtomicU64::new(CLOSED) }
    }

    /// Enters, unless the gate is closed.
    #[inline]
    pub fn enter(&self) -> Option<Entry<'_>> {
        // Acquire: what happened before the gate was opened is visible inside.
        let before = self.word.fetch_add(ONE_ENTRY, Ordering::Acquire);
        if before & CLOSED != 0 {
            // The count was too high for a moment, which only makes a closer wait a little longer.
            self.word.fetch_sub(ONE_ENTRY, Ordering::Release);
            return None;
        }
        Some(Entry { gate: self })
    }

    /// Closes the gate and counts out those inside. `pause` is called between two looks: a send inside never blocks, so that
    /// this is a matter of microseconds, and no deadline ignores it (L2).
    pub fn seal(&self, pause: impl FnMut()) {
        if !without(Control::OpenGate) {
            self.close();
        }
        if !without(Control::EntriesUncounted) {
            self.count_out(pause);
        }
    }

    /// Waits until nobody is inside.
    pub fn count_out(&self, mut pause: impl FnMut()) {
        while self.entries() != 0 {
            pause();
        }
    }

    /// Closes the gate. Those inside stay inside until they are counted out.
    pub fn close(&self) {
        self.word.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Opens the gate.
    pub fn open(&self) {
        self.word.fetch_and(!CLOSED, Ordering::AcqRel);
    }

    /// Whether the gate is closed.
    pub fn is_closed(&self) -> bool {
        self.word.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Entries in progress. Zero on a closed gate means: everything that went in has come out, and what it did in
    /// there is visible.
    pub fn entries(&self) -> u64 {
        self.word.load(Ordering::Acquire) >> 1
    }
}

impl Drop for Entry<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release: what was done inside happens before the closer's look at the count.
        self.gate.word.fetch_sub(ONE_ENTRY, Ordering::Release);
    }
}

#[cfg(all(test, not(feature = "threads")))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    #[test]
    fn a_closed_gate_lets_nobody_in_and_counts_those_inside() {
        let gate = Gate::closed();
        assert!(gate.enter().is_none());
        gate.open();
        let first = gate.enter().unwrap();
        let second = gate.enter().unwrap();
        gate.close();
        assert!(gate.is_closed());
        assert!(gate.enter().is_none());
        assert_eq!(gate.entries(), 2);
        drop(first);
        drop(second);
        assert_eq!(gate.entries(), 0);
        gate.open();
        assert!(!gate.is_closed());
        assert!(gate.enter().is_some());
    }

    /// L2: a seal waits for whoever is inside, and lets nobody in meanwhile.
    #[test]
    fn a_seal_counts_out_those_inside() {
        let gate = Gate::closed();
        gate.open();
        let mut inside = gate.enter();
        gate.seal(|| {
            assert!(gate.enter().is_none());
            inside = None;
        });
        assert!(inside.is_none() && gate.is_closed());
    }

    /// L2: after close and a count of zero nobody is inside, whoever was on the way in.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a gate is about threads; the product spawns none here")]
    fn nobody_is_inside_after_close_and_zero() {
        let gate = Arc::new(Gate::closed());
        let sealed = Arc::new(AtomicBool::new(false));
        let stop = Arc::new(AtomicBool::new(false));
        gate.open();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (gate, sealed, stop) = (gate.clone(), sealed.clone(), stop.clone());
                thread::spawn(move || {
                    while !stop.load(Ordering::Acquire) {
                        if let Some(_entry) = gate.enter() {
                            assert!(!sealed.load(Ordering::Acquire), "inside a sealed gate");
                        }
                    }
                })
            })
            .collect();
        for _ in 0..2_000 {
            gate.seal(thread::yield_now);
            sealed.store(true, Ordering::Release);
            sealed.store(false, Ordering::Release);
            gate.open();
        }
        stop.store(true, Ordering::Release);
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
