//! The user's own callbacks, passed through to every client.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

type OnStatistics = Arc<dyn Fn(&[u8]) + Send + Sync>;
type OnLog = Arc<dyn Fn(RDKafkaLogLevel, &str, &str) + Send + Sync>;
type OnError = Arc<dyn Fn(&KafkaError, &str) + Send + Sync>;
type OAuthRefresh = Arc<dyn Fn(Option<&str>) -> Result<OAuthToken, String> + Send + Sync>;

/// Callbacks that a user of rdkafka would have put into a `ClientContext`. They are called from the client's own
/// threads, by every client that follows a switch too, and must not block. One that panics is told of as an error in
/// `tracing`, and the client goes on.
#[derive(Clone, Default)]
pub struct ClientHooks {
    /// Takes librdkafka's statistics, as the JSON it writes, every `statistics.interval.ms`.
    pub on_statistics: Option<OnStatistics>,
    /// Takes log lines: level, facility, text. Without it they go to `tracing` under the target `librdkafka`.
    pub on_log: Option<OnLog>,
    /// Takes errors of the client as a whole: the error and librdkafka's text.
    pub on_error: Option<OnError>,
    /// Gives a token for `sasl.mechanisms=OAUTHBEARER`; its argument is `sasl.oauthbearer.config`. Set by
    /// [`ClientHooks::with_tokens`] for a provider that the admin client is served by, too.
    pub oauth_token: Option<OAuthRefresh>,
}

impl fmt::Debug for ClientHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHooks")
            .field("on_statistics", &self.on_statistics.is_some())
            .field("on_log", &self.on_log.is_some())
            .field("on_error", &self.on_error.is_some())
            .field("oauth_token", &self.oauth_token.is_some())
            .finish()
    }
}

impl ClientHooks {
    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        if let Some(hook) = &self.on_log {
            guarded("on_log", || hook(level, facility, text));
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => tracing::error!(target: "librdkafka", "{facility}: {text}"),
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", "{facility}: {text}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", "{facility}: {text}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", "{facility}: {text}"),
        }
    }

    pub(crate) fn statistics(&self, statistics: &[u8]) {
        if let Some(hook) = &self.on_statistics {
            guarded("on_statistics", || hook(statistics));
        }
    }

    pub(crate) fn error(&self, error: &KafkaError, text: &str) {
        match &self.on_error {
            Some(hook) => {
                guarded("on_error", || hook(error, text));
            }
            None => tracing::debug!(target: "librdkafka", "{error}: {text}"),
        }
    }

    pub(crate) fn token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        match &self.oauth_token {
            Some(hook) => match guarded("oauth_token", || hook(config)) {
                Some(token) => token.map_err(Into::into),
                None => Err("no token: what was to give one panicked".into()),
            },
            None => Err("no token: give ClientHooks::with_tokens a provider".into()),
        }
    }
}

/// Calls the user's code. Its panic must not end the thread that it runs on: that thread hands over every delivery report, and
/// without them no send and no switch ever ends.
fn guarded<T>(hook: &str, call: impl FnOnce() -> T) -> Option<T> {
    let called = catch_unwind(AssertUnwindSafe(call));
    if called.is_err() {
        tracing::error!(hook, "the service's own callback panicked; the client goes on without it this time");
    }
    called.ok()
}

#[cfg(test)]
mod tests {
    use rdkafka::error::RDKafkaErrorCode;

    use super::*;

    /// Each of them runs on the thread that hands over reports.
    #[test]
    fn a_callback_that_panics_takes_nothing_along() {
        let hooks = ClientHooks {
            on_statistics: Some(Arc::new(|_| panic!("on_statistics"))),
            on_log: Some(Arc::new(|_, _, _| panic!("on_log"))),
            on_error: Some(Arc::new(|_, _| panic!("on_error"))),
            oauth_token: Some(Arc::new(|_| panic!("oauth_token"))),
        };
        hooks.statistics(b"{}");
        hooks.log(RDKafkaLogLevel::Info, "facility", "text");
        hooks.error(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "text");
        assert!(hooks.token(None).is_err());
    }
}
