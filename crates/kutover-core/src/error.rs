//! What a port says when it could not do what it was asked.
//!
//! Three things are kept apart, because callers decide by them and never by the text: what kind of trouble it is
//! ([`ErrorKind`]), whether asking again can help ([`Retry`]), and whether a mutation may have happened all the same
//! ([`Outcome`]).

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// Nothing answered, or not in time.
    Unreachable,
    /// The other side answered that it is not able to just now.
    Unavailable,
    /// A compare-and-set found something else than what was expected.
    Conflict,
    /// A newer term is in force: another controller has taken over.
    Superseded,
    /// The thing named does not exist.
    NotFound,
    /// The caller may not do this.
    NotAuthorised,
    /// The other side can never do this (an old version, an embedded cluster).
    Unsupported,
    /// The answer or the stored data makes no sense.
    Invalid,
    /// The world is not in the state that a safe act needs; the text names what to change.
    Refused,
}

impl ErrorKind {
    /// Whether it says that nothing answered, or not as it should just now: all that is known of who may be dead.
    pub fn is_silence(self) -> bool {
        matches!(self, ErrorKind::Unreachable | ErrorKind::Unavailable)
    }
}

/// Whether asking again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// The same call may succeed later.
    Later,
    /// Only after something else changes.
    Never,
}

/// Whether a mutation happened. A time-out is [`Outcome::Unknown`], never "did not happen".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did not happen and will not.
    NotDone,
    /// It may have happened, or may still; look it up.
    Unknown,
}

/// A port's error. The text names the thing and, where there is one, the fix; it never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct ProviderError {
    /// What kind of trouble it is.
    pub kind: ErrorKind,
    /// Whether asking again can help.
    pub retry: Retry,
    /// Whether a mutation may have happened all the same.
    pub outcome: Outcome,
    /// What was being done, and to what ("publish record kafka.orders.test").
    pub what: String,
    /// Why it failed and, where there is one, the fix.
    pub reason: String,
}

impl ProviderError {
    /// An error of a kind, with the retry advice and outcome that the kind usually has: unreachable, unavailable and
    /// conflicting things are worth asking again, and only an unreachable one leaves the outcome unknown.
    pub fn new(kind: ErrorKind, what: impl fmt::Display, reason: impl fmt::Display) -> Self {
        let retry = match kind {
            ErrorKind::Unreachable | ErrorKind::Unavailable | ErrorKind::Conflict => Retry::Later,
            ErrorKind::Superseded
            | ErrorKind::NotFound
            | ErrorKind::NotAuthorised
            | ErrorKind::Unsupported
            | ErrorKind::Invalid
            | ErrorKind::Refused => Retry::Never,
        };
        let outcome = if kind == ErrorKind::Unreachable { Outcome::Unknown } else { Outcome::NotDone };
        Self { kind, retry, outcome, what: what.to_string(), reason: reason.to_string() }
    }

    /// The same error, with its outcome said.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// The same error, with its retry advice said.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
}

/// What a port's call gives.
pub type ProviderResult<T> = Result<T, ProviderError>;
