//! Calls that fail on demand, and a count of all calls.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use parking_lot::Mutex;

/// How a call goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fails with this error; nothing is done.
    Fail(ProviderError),
    /// Fails as unavailable, known not done.
    NotDone,
    /// Done, but the answer is lost: unreachable, outcome unknown.
    UnknownDone,
    /// Not done, and the caller cannot know: unreachable, outcome unknown.
    UnknownNotDone,
    /// Not done, and no answer ever comes.
    Hang,
    /// Done, and no answer ever comes.
    HangDone,
}

impl Fault {
    /// One of each, for tests that go through all of them.
    pub fn all() -> [Self; 6] {
        let refused = ProviderError::new(ErrorKind::NotAuthorised, "fault", "injected by the test");
        [
            Self::Fail(refused),
            Self::NotDone,
            Self::UnknownDone,
            Self::UnknownNotDone,
            Self::Hang,
            Self::HangDone,
        ]
    }
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<String>,
    next: BTreeMap<String, VecDeque<Fault>>,
    always: BTreeMap<String, Fault>,
    numbered: BTreeMap<usize, Fault>,
}

/// Counts the calls of a world and lets chosen ones fail. A call's name is its part's scope and the port's function,
/// as in `dns.compare_and_set`, `green.create_topic` or `journal.append`.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<State>>);

impl Faults {
    /// No faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next call of this name goes wrong so; further ones queue up behind it.
    pub fn inject(&self, call: impl Into<String>, fault: Fault) {
        self.0.lock().next.entry(call.into()).or_default().push_back(fault);
    }

    /// Every call of this name goes wrong so, until [`Faults::clear`].
    pub fn always(&self, call: impl Into<String>, fault: Fault) {
        self.0.lock().always.insert(call.into(), fault);
    }

    /// The call of this number (from 0, over all names, counted from the world's start) goes wrong so.
    pub fn at(&self, number: usize, fault: Fault) {
        self.0.lock().numbered.insert(number, fault);
    }

    /// Takes every fault out. The calls stay counted.
    pub fn clear(&self) {
        let mut state = self.0.lock();
        state.next.clear();
        state.always.clear();
        state.numbered.clear();
    }

    /// The names of all calls so far, in order.
    pub fn calls(&self) -> Vec<String> {
        self.0.lock().calls.clone()
    }

    fn enter(&self, name: &str) -> Option<Fault> {
        let mut state = self.0.lock();
        let number = state.calls.len();
        state.calls.push(name.to_owned());
        if let Some(fault) = state.numbered.remove(&number) {
            return Some(fault);
        }
        state.next.get_mut(name).and_then(VecDeque::pop_front).or_else(|| state.always.get(name).cloned())
    }

    /// Carries out one call, or lets it go wrong.
    pub(crate) async fn run<T>(
        &self,
        name: &str,
        act: impl FnOnce() -> ProviderResult<T> + Send,
    ) -> ProviderResult<T> {
        let unknown = || {
            let error = ProviderError::new(ErrorKind::Unreachable, name, "no answer in time (injected)");
            error.with_outcome(Outcome::Unknown)
        };
        match self.enter(name) {
            None => act(),
            Some(Fault::Fail(error)) => Err(error),
            Some(Fault::NotDone) => Err(ProviderError::new(ErrorKind::Unavailable, name, "busy (injected)")),
            Some(Fault::UnknownNotDone) => Err(unknown()),
            Some(Fault::UnknownDone) => {
                act()?;
                Err(unknown())
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::HangDone) => {
                act()?;
                std::future::pending().await
            }
        }
    }
}
