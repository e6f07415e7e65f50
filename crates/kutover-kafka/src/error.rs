//! librdkafka's errors as the ports' errors.

use kutover_core::error::{ErrorKind, Outcome, ProviderError};
use kutover_core::ports::ErrorCode;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::properties::is_secret;

/// A librdkafka error code as the ports carry it.
pub(crate) fn port_code(code: Code) -> ErrorCode {
    ErrorCode { number: code as i32, name: format!("{code:?}") }
}

/// The kind of a librdkafka error code.
pub(crate) fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::MessageTimedOut
        | Code::TimedOutQueue
        | Code::Resolve
        | Code::NodeUpdate => ErrorKind::Unreachable,
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => ErrorKind::NotAuthorised,
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition => ErrorKind::NotFound,
        Code::UnsupportedVersion | Code::UnsupportedFeature | Code::UnsupportedSASLMechanism => {
            ErrorKind::Unsupported
        }
        Code::InvalidConfig
        | Code::InvalidRequest
        | Code::InvalidArgument
        | Code::PolicyViolation
        | Code::InvalidReplicationFactor => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    }
}

/// A librdkafka error as a port's error. `what` says what was being done, and to what.
pub(crate) fn provider_error(what: impl std::fmt::Display, error: &KafkaError) -> ProviderError {
    if let KafkaError::ClientConfig(_, description, key, _) = error {
        let reason = not_accepted(key, description);
        return ProviderError::new(ErrorKind::Invalid, what, format!("client property `{key}`: {reason}"));
    }
    let kind = error.rdkafka_error_code().map_or(ErrorKind::Invalid, kind_of);
    ProviderError::new(kind, what, error)
}

/// Why librdkafka does not take a property, without the value of a secret one.
pub(crate) fn not_accepted<'a>(property: &str, description: &'a str) -> &'a str {
    if is_secret(property) { "its value is not accepted" } else { description }
}

/// The error of a blocking task that did not end by itself.
pub(crate) fn task_failed(what: impl std::fmt::Display, error: &tokio::task::JoinError) -> ProviderError {
    ProviderError::new(ErrorKind::Unavailable, what, error).with_outcome(Outcome::Unknown)
}
