//! When to ask: the producer's watch over an endpoint.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{EndpointAnswer, EndpointWatch};
use kutover_core::words::DnsName;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::lookup::{DnsLook, Look, Resolvers, out_of_time};

/// How a [`ResolverWatch`] paces itself.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchOptions {
    /// The shortest wait after an answer, whatever its TTL (a TTL may be 0).
    pub min_poll: Duration,
    /// The longest wait after an answer, whatever its TTL: a TTL that was lowered meanwhile is found this soon.
    pub max_poll: Duration,
    /// The largest part of a wait that is added to it at random (0.1: up to a tenth), so that many producers do not
    /// ask all at once.
    pub jitter: f64,
    /// The wait after the first failed or empty answer; it doubles with each further one.
    pub min_retry: Duration,
    /// The longest such wait.
    pub max_retry: Duration,
    /// The longest time that one look may take.
    pub look_limit: Duration,
    /// The seed of the jitter; `None` takes one from the system.
    pub seed: Option<u64>,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            min_poll: Duration::from_secs(1),
            max_poll: Duration::from_secs(300),
            jitter: 0.1,
            min_retry: Duration::from_millis(500),
            max_retry: Duration::from_secs(30),
            look_limit: Duration::from_secs(5),
            seed: None,
        }
    }
}

impl WatchOptions {
    fn check(&self) -> Result<(), String> {
        if self.min_poll > self.max_poll {
            return Err(format!("min_poll {:?} is above max_poll {:?}", self.min_poll, self.max_poll));
        }
        if self.min_retry > self.max_retry || self.min_retry.is_zero() {
            return Err(format!(
                "min_retry {:?} has to be above zero and at most max_retry {:?}",
                self.min_retry, self.max_retry
            ));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(format!("jitter {} is not between 0 and 1", self.jitter));
        }
        if self.look_limit.is_zero() {
            return Err("look_limit is zero; no look-up ends at once".into());
        }
        Ok(())
    }
}

/// Watches an endpoint and its owner record through a resolver.
///
/// Each look is a task of its own that ends within [`WatchOptions::look_limit`]. A caller that gives up on `next`
/// half way (in a `select!`, say) therefore loses nothing: the answer waits for the following `next`, unless it has
/// grown stale meanwhile. The deadline of an answer is the watch's own; no cache sits between it and the resolver.
pub struct ResolverWatch {
    inner: Arc<Inner>,
}

impl ResolverWatch {
    /// Watches `endpoint` through `resolvers`. Nothing is asked before the first call.
    ///
    /// # Errors
    /// `Invalid` for a name that is none, an empty list of servers or options that contradict each other;
    /// `Unavailable` if the system's configuration cannot be read.
    pub fn new(endpoint: &DnsName, resolvers: Resolvers, options: WatchOptions) -> ProviderResult<Self> {
        options.check().map_err(|reason| {
            ProviderError::new(ErrorKind::Invalid, format!("watch endpoint {endpoint}"), reason)
        })?;
        let look = DnsLook::new(endpoint, resolvers, options.look_limit)?;
        Ok(Self::over(Box::new(look), options))
    }

    fn over(look: Box<dyn Look>, options: WatchOptions) -> Self {
        let rng = options.seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64);
        let state = State { due: Instant::now(), misses: 0, rng, asked: 0, running: None, unread: None };
        Self { inner: Arc::new(Inner { look, options, state: Mutex::new(state), nearer: Notify::new() }) }
    }
}

impl Drop for ResolverWatch {
    fn drop(&mut self) {
        if let Some(running) = self.inner.state.lock().running.take() {
            running.task.abort();
        }
    }
}

#[async_trait]
impl EndpointWatch for ResolverWatch {
    async fn next(&self) -> EndpointAnswer {
        loop {
            // Listening starts before the look at the state, so that no change falls in between.
            let mut nearer = std::pin::pin!(self.inner.nearer.notified());
            nearer.as_mut().enable();
            match self.inner.step() {
                Step::Have(answer) => return answer,
                Step::Join(question) => {
                    let number = question.number;
                    self.inner.wait_for(question).await;
                    if let Some(answer) = self.inner.take_unread(number) {
                        return answer;
                    }
                }
                Step::Sleep(due) => tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = nearer => {}
                },
            }
        }
    }

    async fn ask_now(&self) -> EndpointAnswer {
        // A question that was put before this call may carry an answer from before it: it is waited for, not used.
        let before = self.inner.state.lock().asked;
        loop {
            let question = self.inner.join_or_start();
            let number = question.number;
            let answer = self.inner.wait_for(question).await;
            if number > before {
                return answer;
            }
        }
    }
}

struct Inner {
    look: Box<dyn Look>,
    options: WatchOptions,
    state: Mutex<State>,
    /// Told when `due` has moved nearer.
    nearer: Notify,
}

struct State {
    /// When `next` asks again.
    due: Instant,
    /// Failed and empty answers since the last real one.
    misses: u32,
    rng: StdRng,
    /// How many questions were ever put; the last one's number.
    asked: u64,
    running: Option<Running>,
    /// An answer for `next` that nobody has fetched yet.
    unread: Option<Unread>,
}

/// The one question in flight.
struct Running {
    question: Question,
    /// Whether `next` waits for it.
    for_next: bool,
    task: AbortHandle,
}

#[derive(Clone)]
struct Question {
    number: u64,
    answer: watch::Receiver<Option<EndpointAnswer>>,
}

struct Unread {
    number: u64,
    answer: EndpointAnswer,
    at: Instant,
}

impl Unread {
    /// The answer, usable for as long as is left of its TTL.
    fn read(self, now: Instant) -> EndpointAnswer {
        match self.answer {
            EndpointAnswer::Found { addresses, owner, ttl_ms } => {
                let age_ms = u64::try_from(now.duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
                EndpointAnswer::Found { addresses, owner, ttl_ms: ttl_ms.saturating_sub(age_ms) }
            }
            other => other,
        }
    }
}

/// What `next` does now.
enum Step {
    Have(EndpointAnswer),
    Join(Question),
    Sleep(Instant),
}

impl Inner {
    fn step(self: &Arc<Self>) -> Step {
        let mut state = self.state.lock();
        let now = Instant::now();
        if now < state.due {
            return match state.unread.take() {
                Some(unread) => Step::Have(unread.read(now)),
                None => Step::Sleep(state.due),
            };
        }
        // What lies unread has outlived its TTL.
        state.unread = None;
        let question = self.running_or_new(&mut state);
        if let Some(running) = &mut state.running {
            running.for_next = true;
        }
        Step::Join(question)
    }

    fn join_or_start(self: &Arc<Self>) -> Question {
        self.running_or_new(&mut self.state.lock())
    }

    fn running_or_new(self: &Arc<Self>, state: &mut State) -> Question {
        if let Some(running) = &state.running {
            return running.question.clone();
        }
        state.asked += 1;
        let number = state.asked;
        let (tell, answer) = watch::channel(None);
        let question = Question { number, answer };
        let inner = Arc::clone(self);
        let task = tokio::spawn(async move {
            let limit = inner.options.look_limit;
            // A look bounds itself; this holds for one that fails to.
            let answer = tokio::time::timeout(limit + limit / 4, inner.look.look())
                .await
                .unwrap_or_else(|_| EndpointAnswer::Failed(out_of_time(limit)));
            inner.finish(number, &answer);
            tell.send_replace(Some(answer));
        });
        state.running =
            Some(Running { question: question.clone(), for_next: false, task: task.abort_handle() });
        question
    }

    async fn wait_for(&self, mut question: Question) -> EndpointAnswer {
        if let Ok(answer) = question.answer.wait_for(Option::is_some).await
            && let Some(answer) = answer.as_ref()
        {
            return answer.clone();
        }
        // The task is gone without a word: a panic in it, or its runtime is shutting down.
        let answer = EndpointAnswer::Failed("the look-up was cut short".into());
        self.finish(question.number, &answer);
        answer
    }

    fn finish(&self, number: u64, answer: &EndpointAnswer) {
        let mut state = self.state.lock();
        let Some(running) = state.running.take_if(|running| running.question.number == number) else {
            return;
        };
        let now = Instant::now();
        if running.for_next {
            state.due = now + state.wait_after(answer, &self.options);
            state.unread = Some(Unread { number, answer: answer.clone(), at: now });
        } else if matches!(answer, EndpointAnswer::Found { .. }) {
            // Somebody asked out of turn: that can bring the next turn nearer (a lowered TTL), never put it off.
            let due = now + state.wait_after(answer, &self.options);
            if due < state.due {
                state.due = due;
                self.nearer.notify_waiters();
            }
            if state.unread.is_some() {
                state.unread = Some(Unread { number, answer: answer.clone(), at: now });
            }
        }
    }

    fn take_unread(&self, number: u64) -> Option<EndpointAnswer> {
        let unread = self.state.lock().unread.take_if(|unread| unread.number == number)?;
        Some(unread.read(Instant::now()))
    }
}

impl State {
    /// How long to wait after an answer: its TTL within bounds, or a back-off, and jitter on top.
    fn wait_after(&mut self, answer: &EndpointAnswer, options: &WatchOptions) -> Duration {
        let wait = match answer {
            EndpointAnswer::Found { ttl_ms, .. } => {
                self.misses = 0;
                Duration::from_millis(*ttl_ms).clamp(options.min_poll, options.max_poll)
            }
            EndpointAnswer::Empty | EndpointAnswer::Failed(_) => {
                let factor = 2_u32.saturating_pow(self.misses);
                self.misses = self.misses.saturating_add(1);
                options.min_retry.saturating_mul(factor).min(options.max_retry)
            }
        };
        wait + wait.mul_f64(self.rng.random_range(0.0..=options.jitter))
    }
}

#[cfg(test)]
mod tests;
