//! Who watches a world: counts what happens, keeps the ground truth and a hash over all of it.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::observed::{Act, Acted, Observed};

struct State {
    events: u64,
    hash: DefaultHasher,
    lines: Option<Vec<String>>,
    observed: Observed,
}

/// See the [module](self).
pub(crate) struct Witness {
    origin: Instant,
    state: Mutex<State>,
}

impl Witness {
    /// Watches from now on; keeps a line for every event if it is asked to.
    pub(crate) fn new(keep_lines: bool) -> Self {
        let state = State {
            events: 0,
            hash: DefaultHasher::new(),
            lines: keep_lines.then(Vec::new),
            observed: Observed::default(),
        };
        Self { origin: Instant::now(), state: Mutex::new(state) }
    }

    /// Milliseconds since the world began.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// One thing happened.
    pub(crate) fn event(&self, what: fmt::Arguments<'_>) {
        let at_us = self.origin.elapsed().as_micros();
        let mut state = self.state.lock();
        state.events += 1;
        let text;
        let text = match what.as_str() {
            Some(text) => text,
            None => {
                text = what.to_string();
                &text
            }
        };
        (at_us, text).hash(&mut state.hash);
        if let Some(lines) = &mut state.lines {
            lines.push(format!("{:>12.3} {text}", at_us as f64 / 1e6));
        }
    }

    /// An act is an event that is kept.
    pub(crate) fn act(&self, by: Option<usize>, act: Act) {
        match by {
            Some(by) => self.event(format_args!("controller {by}: {act:?}")),
            None => self.event(format_args!("{act:?}")),
        }
        let at_ms = self.now_ms();
        self.state.lock().observed.acts.push(Acted { at_ms, by, act });
    }

    /// What was seen so far.
    pub(crate) fn observed(&self) -> parking_lot::MappedMutexGuard<'_, Observed> {
        MutexGuard::map(self.state.lock(), |state| &mut state.observed)
    }

    /// What was seen, the number of events, their hash and their lines.
    pub(crate) fn take(&self) -> (Observed, u64, u64, Vec<String>) {
        let mut state = self.state.lock();
        let lines = state.lines.take().unwrap_or_default();
        (std::mem::take(&mut state.observed), state.events, state.hash.finish(), lines)
    }
}

/// Notes one event.
macro_rules! note {
    ($witness:expr, $($what:tt)+) => { $witness.event(format_args!($($what)+)) };
}
pub(crate) use note;
