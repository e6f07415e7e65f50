//! krafka's errors, put into the ports' words.

use std::fmt;

use krafka::error::{ErrorCode, KrafkaError, ProtocolErrorKind};
use kutover_core::error::{ErrorKind, Outcome, ProviderError, Retry};

/// Whether the cluster has no such call at all.
pub(crate) fn is_unsupported(error: &KrafkaError) -> bool {
    match error {
        KrafkaError::Protocol { kind, .. } => *kind == ProtocolErrorKind::UnknownApiVersion,
        KrafkaError::Broker { code, .. } => *code == ErrorCode::UnsupportedVersion,
        _ => false,
    }
}

/// The broker's own code, where a broker answered.
pub(crate) fn code(error: &KrafkaError) -> Option<ErrorCode> {
    match error {
        KrafkaError::Broker { code, .. } => Some(*code),
        _ => None,
    }
}

/// Says `error` as a port's error about `what`.
pub(crate) fn provider(what: impl fmt::Display, error: &KrafkaError) -> ProviderError {
    if is_unsupported(error) {
        return ProviderError::new(ErrorKind::Unsupported, what, error);
    }
    match error {
        KrafkaError::Network(_) | KrafkaError::Timeout { .. } | KrafkaError::DeliveryTimeout { .. } => {
            ProviderError::new(ErrorKind::Unreachable, what, error)
        }
        KrafkaError::Auth { .. } => ProviderError::new(ErrorKind::NotAuthorised, what, error),
        KrafkaError::Broker { code, .. } => broker(what, *code, error),
        KrafkaError::UnknownTopic { .. } => ProviderError::new(ErrorKind::NotFound, what, error),
        KrafkaError::Config { .. } => ProviderError::new(ErrorKind::Invalid, what, error),
        KrafkaError::Closed { .. } => {
            ProviderError::new(ErrorKind::Unavailable, what, error).with_retry(Retry::Never)
        }
        // An answer that cannot be read says nothing about whether the act was done.
        _ => ProviderError::new(ErrorKind::Invalid, what, error).with_outcome(Outcome::Unknown),
    }
}

fn broker(what: impl fmt::Display, code: ErrorCode, error: &KrafkaError) -> ProviderError {
    match code {
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::TransactionalIdAuthorizationFailed => {
            ProviderError::new(ErrorKind::NotAuthorised, what, error)
        }
        ErrorCode::SecurityDisabled => ProviderError::new(ErrorKind::Unsupported, what, error),
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId | ErrorCode::GroupIdNotFound => {
            ProviderError::new(ErrorKind::NotFound, what, error)
        }
        // The broker gave up waiting: it may have been done all the same.
        ErrorCode::RequestTimedOut => ProviderError::new(ErrorKind::Unreachable, what, error),
        ErrorCode::UnknownServerError => {
            ProviderError::new(ErrorKind::Unavailable, what, error).with_outcome(Outcome::Unknown)
        }
        code if code.is_retriable() => ProviderError::new(ErrorKind::Unavailable, what, error),
        _ => ProviderError::new(ErrorKind::Refused, what, error),
    }
}

/// The reason alone, for a place in an answer that has no room for more.
pub(crate) fn reason(error: &KrafkaError) -> String {
    error.to_string()
}
