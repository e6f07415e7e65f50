//! Calls that fail on demand, and a count of all calls.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::weather::{CallWeather, Weather};

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
    /// The answer is lost, and it is done so many milliseconds later. Wants a world with [`Weather`].
    UnknownLate {
        /// How much later.
        after_ms: u64,
    },
}

impl Fault {
    /// One of each that needs no clock, for tests that go through all of them.
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

    /// The name it is counted under when it fires.
    fn kind(&self) -> &'static str {
        match self {
            Self::Fail(_) => "call-failed",
            Self::NotDone => "call-not-done",
            Self::UnknownDone => "call-unknown-done",
            Self::UnknownNotDone => "call-unknown-not-done",
            Self::Hang => "call-hangs",
            Self::HangDone => "call-done-hangs",
            Self::UnknownLate { .. } => "call-unknown-late",
        }
    }
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<String>,
    next: BTreeMap<String, VecDeque<Fault>>,
    always: BTreeMap<String, Fault>,
    numbered: BTreeMap<usize, Fault>,
    fired: BTreeMap<&'static str, u64>,
    sequence: u64,
}

/// From how many milliseconds on a call, a record, a fence or a change of DNS counts as slow.
pub(crate) const SLOW_MS: u64 = 1000;

/// Counts the calls of a world and lets chosen ones fail. A call's name is its part's scope and the port's function,
/// as in `dns.compare_and_set`, `green.create_topic` or `journal.append`.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
    weather: Option<Arc<dyn Weather>>,
    start: Option<Instant>,
}

impl Faults {
    /// No faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Faults that come with the weather, besides those that are injected.
    pub fn with_weather(weather: Arc<dyn Weather>) -> Self {
        Self { state: Arc::default(), weather: Some(weather), start: Some(Instant::now()) }
    }

    /// How often each kind of fault has fired.
    pub fn fired(&self) -> BTreeMap<&'static str, u64> {
        self.state.lock().fired.clone()
    }

    /// Counts a fault of a kind as fired. The world's own are [`FAULT_KINDS`](crate::FAULT_KINDS); whoever drives it may
    /// add others.
    pub fn fire(&self, kind: &'static str) {
        *self.state.lock().fired.entry(kind).or_default() += 1;
    }

    /// The next call of this name goes wrong so; further ones queue up behind it.
    pub fn inject(&self, call: impl Into<String>, fault: Fault) {
        self.state.lock().next.entry(call.into()).or_default().push_back(fault);
    }

    /// Every call of this name goes wrong so, until [`Faults::clear`].
    pub fn always(&self, call: impl Into<String>, fault: Fault) {
        self.state.lock().always.insert(call.into(), fault);
    }

    /// The call of this number (from 0, over all names, counted from the world's start) goes wrong so.
    pub fn at(&self, number: usize, fault: Fault) {
        self.state.lock().numbered.insert(number, fault);
    }

    /// Takes every fault out. The calls stay counted.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        state.next.clear();
        state.always.clear();
        state.numbered.clear();
    }

    /// The names of all calls so far, in order. With weather none are kept, since a run has millions.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    fn enter(&self, name: &str) -> Option<Fault> {
        let mut state = self.state.lock();
        let number = state.calls.len();
        if self.weather.is_none() {
            state.calls.push(name.to_owned());
        }
        if let Some(fault) = state.numbered.remove(&number) {
            return Some(fault);
        }
        state.next.get_mut(name).and_then(VecDeque::pop_front).or_else(|| state.always.get(name).cloned())
    }

    /// Carries out one call, or lets it go wrong. With weather, a call that was made lands although its caller is gone.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        name: &str,
        act: impl FnOnce() -> ProviderResult<T> + Send + 'static,
    ) -> ProviderResult<T> {
        let call = self.ask(name);
        let (name, fault) = (name.to_owned(), call.fault);
        let given = if call.before_ms == 0 {
            carry_out(name, fault, act).await
        } else {
            let (answer, heard) = oneshot::channel();
            let acting = async move {
                pause(call.before_ms).await;
                let _ = answer.send(carry_out(name, fault, act).await);
            };
            tokio::spawn(acting);
            match heard.await {
                Ok(given) => given,
                // Only a runtime that is shutting down drops the answer.
                Err(_) => std::future::pending().await,
            }
        };
        pause(call.after_ms).await;
        given
    }

    /// Carries out one call that acts at the end of its time, in its caller: dropped, it does nothing.
    pub(crate) async fn run_here<T: Send + 'static>(
        &self,
        name: &str,
        act: impl FnOnce() -> ProviderResult<T> + Send + 'static,
    ) -> ProviderResult<T> {
        let call = self.ask(name);
        pause(call.before_ms + call.after_ms).await;
        carry_out(name.to_owned(), call.fault, act).await
    }

    fn ask(&self, name: &str) -> CallWeather {
        let injected = self.enter(name);
        let mut call = self.weather.as_ref().map(|weather| weather.call(name)).unwrap_or_default();
        call.fault = injected.or(call.fault);
        if let Some(fault) = &call.fault {
            self.fire(fault.kind());
        }
        if call.before_ms + call.after_ms >= SLOW_MS {
            self.fire("call-slow");
        }
        call
    }

    /// The weather, where there is any.
    pub(crate) fn weather(&self) -> Option<&Arc<dyn Weather>> {
        self.weather.as_ref()
    }

    /// Milliseconds since the world was made; always 0 without weather.
    pub fn now_ms(&self) -> u64 {
        self.start.map_or(0, |start| start.elapsed().as_millis() as u64)
    }

    /// The next number of a count that runs through the whole world.
    pub(crate) fn next_sequence(&self) -> u64 {
        let mut state = self.state.lock();
        state.sequence += 1;
        state.sequence
    }
}

/// Waits in virtual time.
pub(crate) async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

async fn carry_out<T: Send + 'static>(
    name: String,
    fault: Option<Fault>,
    act: impl FnOnce() -> ProviderResult<T> + Send + 'static,
) -> ProviderResult<T> {
    let unknown = || {
        let error = ProviderError::new(ErrorKind::Unreachable, &name, "no answer in time (injected)");
        error.with_outcome(Outcome::Unknown)
    };
    match fault {
        None => act(),
        Some(Fault::Fail(error)) => Err(error),
        Some(Fault::NotDone) => Err(ProviderError::new(ErrorKind::Unavailable, &name, "busy (injected)")),
        Some(Fault::UnknownNotDone) => Err(unknown()),
        Some(Fault::UnknownDone) => {
            act()?;
            Err(unknown())
        }
        Some(Fault::UnknownLate { after_ms }) => {
            tokio::spawn(async move {
                pause(after_ms).await;
                // Nobody is left to hear how it went.
                let _ = act();
            });
            Err(unknown())
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::HangDone) => {
            act()?;
            std::future::pending().await
        }
    }
}
