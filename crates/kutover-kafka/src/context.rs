//! What librdkafka calls back: delivery reports, statistics, logs, errors, token refreshes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use kutover_core::ports::{ClientEvents, Delivery, RecordBody, Token};
use parking_lot::{Condvar, Mutex};
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Headers, Message, Timestamp};
use rdkafka::producer::ProducerContext;
use serde::Deserialize;

use crate::error::port_code;
use crate::fate;
use crate::hooks::ClientHooks;

/// A counter on cache lines of its own: senders count on one, the poll thread on the other.
#[repr(align(128))]
#[derive(Default)]
struct Counter(AtomicUsize);

/// Counts records taken and reports handed over. librdkafka's own queue length counts other events as well, and its
/// flush ends before the last report has been handed over.
#[derive(Default)]
pub(crate) struct Counts {
    taken: Counter,
    reported: Counter,
    waiting: AtomicUsize,
    lock: Mutex<()>,
    settled: Condvar,
}

impl Counts {
    /// Counts a record before it is offered to librdkafka, so that its report can never come first.
    pub(crate) fn take(&self) {
        self.taken.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes back [`Counts::take`] for a record that was refused.
    pub(crate) fn untake(&self) {
        self.taken.0.fetch_sub(1, Ordering::SeqCst);
        self.wake();
    }

    fn report(&self) {
        self.reported.0.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 && self.outstanding() == 0 {
            // Taking the lock makes sure that a waiter is either before its check or already waits.
            drop(self.lock.lock());
            self.settled.notify_all();
        }
    }

    pub(crate) fn outstanding(&self) -> usize {
        // Reports first: a record taken in between can only make the difference larger, never negative.
        let reported = self.reported.0.load(Ordering::SeqCst);
        self.taken.0.load(Ordering::SeqCst).saturating_sub(reported)
    }

    /// Waits until nothing is outstanding; `false` if the deadline came first.
    pub(crate) fn wait_settled(&self, deadline: Instant) -> bool {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.lock.lock();
        while self.outstanding() > 0 && !self.settled.wait_until(&mut guard, deadline).timed_out() {}
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.outstanding() == 0
    }
}

/// The part of librdkafka's statistics that is needed here.
#[derive(Deserialize)]
struct Statistics {
    eos: Option<EosStatistics>,
}

#[derive(Deserialize)]
struct EosStatistics {
    idemp_state: String,
    producer_id: i64,
}

/// The context of a data-path client.
pub(crate) struct DataContext {
    events: Arc<dyn ClientEvents>,
    hooks: ClientHooks,
    /// Whether the user asked for debug lines; this crate's own request for some does not show them.
    show_debug: bool,
    /// Whether the user asked for statistics.
    show_statistics: bool,
    pub(crate) counts: Counts,
    producer_id: Mutex<Option<i64>>,
    producer_id_known: Condvar,
    fatal: AtomicBool,
    last_error: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl DataContext {
    pub(crate) fn new(
        events: Arc<dyn ClientEvents>,
        hooks: ClientHooks,
        show_debug: bool,
        show_statistics: bool,
    ) -> Self {
        Self {
            events,
            hooks,
            show_debug,
            show_statistics,
            counts: Counts::default(),
            producer_id: Mutex::new(None),
            producer_id_known: Condvar::new(),
            fatal: AtomicBool::new(false),
            last_error: Mutex::new(None),
        }
    }

    /// The client's latest error, for the text of a time-out that has none of its own.
    pub(crate) fn last_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.last_error.lock().clone()
    }

    /// Waits until the cluster has given the client a producer id; `None` if the deadline came first or the client died.
    pub(crate) fn wait_producer_id(&self, deadline: Instant) -> Option<i64> {
        let mut known = self.producer_id.lock();
        while known.is_none() && !self.fatal.load(Ordering::SeqCst) {
            if self.producer_id_known.wait_until(&mut known, deadline).timed_out() {
                break;
            }
        }
        *known
    }

    fn learn_producer_id(&self, id: i64) {
        let news = {
            let mut known = self.producer_id.lock();
            let news = *known != Some(id);
            *known = Some(id);
            self.producer_id_known.notify_all();
            news
        };
        if news {
            self.events.producer_id(id);
        }
    }

    fn die(&self, reason: String) {
        if !self.fatal.swap(true, Ordering::SeqCst) {
            drop(self.producer_id.lock());
            self.producer_id_known.notify_all();
            self.events.fatal(reason);
        }
    }

    fn failed(error: &KafkaError, message: &BorrowedMessage<'_>) -> Delivery {
        Delivery::Failed {
            fate: fate::of(message),
            partition: Some(message.partition()).filter(|partition| *partition >= 0),
            code: port_code(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
            record: RecordBody {
                topic: message.topic().to_owned(),
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().map(<[u8]>::to_vec),
                headers: headers_of(message),
            },
        }
    }
}

/// A message's headers, in order.
pub(crate) fn headers_of(message: &BorrowedMessage<'_>) -> Vec<(String, Option<Vec<u8>>)> {
    message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    })
}

/// The producer id in librdkafka's line `Acquired PID{Id:7,Epoch:0}`. Statistics tell the same, but only at the end of
/// their interval; were the line ever to change, they are what is left.
fn acquired_producer_id(text: &str) -> Option<i64> {
    let after = text.split_once("Acquired PID{Id:")?.1;
    after.split_once(',')?.0.parse().ok()
}

impl ClientContext for DataContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        match (level, facility) {
            (RDKafkaLogLevel::Debug, "GETPID") => {
                if let Some(id) = acquired_producer_id(text) {
                    self.learn_producer_id(id);
                }
            }
            // The address now leads to another cluster: what is sent from here on would land there with this cluster's
            // producer id and sequence numbers (L16).
            (RDKafkaLogLevel::Warning, "CLUSTERID") => self.die(format!("another cluster answers: {text}")),
            _ => {}
        }
        if !matches!(level, RDKafkaLogLevel::Debug) || self.show_debug {
            self.hooks.log(level, facility, text);
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(Statistics { eos: Some(eos) }) if eos.idemp_state == "Assigned" => {
                self.learn_producer_id(eos.producer_id);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("librdkafka's statistics do not parse: {error}"),
        }
        if self.show_statistics {
            self.hooks.statistics(statistics);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            *self.last_error.lock() = Some((code, reason.to_owned()));
            if code == RDKafkaErrorCode::Fatal {
                self.die(reason.to_owned());
            }
        }
        self.hooks.error(&error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.hooks.token(config)
    }
}

impl ProducerContext for DataContext {
    /// A [`Token`]'s 64 bits, carried in the message's opaque pointer.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let token = Token(opaque as u64);
        match result {
            Ok(message) => {
                let append_time_ms = match message.timestamp() {
                    Timestamp::LogAppendTime(time) => Some(time),
                    Timestamp::NotAvailable | Timestamp::CreateTime(_) => None,
                };
                self.events.acknowledged(token, message.partition(), message.offset(), append_time_ms);
            }
            Err((error, message)) => self.events.delivered(token, Self::failed(error, message)),
        }
        self.counts.report();
    }
}

/// The context of every other client of this crate.
#[derive(Clone, Default)]
pub(crate) struct LinkContext {
    pub(crate) hooks: ClientHooks,
    /// How often a token was asked for.
    tokens_asked: Arc<AtomicUsize>,
}

impl LinkContext {
    pub(crate) fn new(hooks: ClientHooks) -> Self {
        Self { hooks, tokens_asked: Arc::default() }
    }

    /// The same for another client.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.hooks.clone())
    }

    pub(crate) fn was_asked_for_a_token(&self) -> bool {
        self.tokens_asked.load(Ordering::SeqCst) > 0
    }
}

impl ClientContext for LinkContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(target: "librdkafka", "{level:?} {facility}: {text}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let token = self.hooks.token(config);
        self.tokens_asked.fetch_add(1, Ordering::SeqCst);
        token
    }
}

impl ConsumerContext for LinkContext {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_id_is_read_from_its_log_line() {
        assert_eq!(acquired_producer_id("Acquired PID{Id:4004,Epoch:0}"), Some(4004));
        assert_eq!(
            acquired_producer_id("[thrd:main]: Acquired PID{Id:5,Epoch:1} (previous PID{Id:4,Epoch:0})"),
            Some(5)
        );
        assert_eq!(acquired_producer_id("Acquiring ProducerId"), None);
    }

    #[test]
    fn settled_only_when_every_report_was_handed_over() {
        let counts = Counts::default();
        counts.take();
        counts.take();
        counts.report();
        assert!(!counts.wait_settled(Instant::now()));
        counts.untake();
        assert!(counts.wait_settled(Instant::now()));
    }
}
