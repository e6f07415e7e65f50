//! What became of a call, in the ports' words.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_route53::config::http::HttpResponse;
use aws_sdk_route53::error::{ProvideErrorMetadata, SdkError};
use kutover_core::error::{ErrorKind, Outcome, ProviderError, Retry};

/// What AWS calls a caller that may not do this, or that it does not know.
const NOT_AUTHORISED: [&str; 10] = [
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "NotAuthorized",
    "SignatureDoesNotMatch",
    "UnauthorizedOperation",
    "UnrecognizedClientException",
];
/// What AWS says when it was asked too much or is not able to just now; nothing has been done then.
const LATER: [&str; 11] = [
    "ConditionalRequestConflict",
    "OperationAborted",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestTimeTooSkewed",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
];

/// What AWS says where a request did not come through in time. It says nothing of what was done.
const CUT_OFF: [&str; 2] = ["RequestTimeout", "RequestTimeoutException"];

/// What the SDK's error means. A request that was sent and not answered, or answered with a server's failure, has an
/// unknown outcome.
pub(crate) fn failed<E>(what: &str, error: &SdkError<E, HttpResponse>) -> ProviderError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(reason) = credentials_missing(error) {
        return ProviderError::new(ErrorKind::NotAuthorised, what, reason);
    }
    match error {
        SdkError::ConstructionFailure(_) => ProviderError::new(ErrorKind::Invalid, what, chain(error)),
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or_default();
            let said = unquoted(service.err().message().unwrap_or_default());
            let reason = if said.is_empty() { chain(error) } else { format!("{code}: {said}") };
            of_code(what, code, service.raw().status().as_u16(), &reason)
        }
        // Time-outs, connections that broke, answers that make no sense.
        _ => ProviderError::new(ErrorKind::Unreachable, what, chain(error)),
    }
}

/// What a service says, without the request that it was sent: some quote it where its signature is wrong, and the
/// session's token is in it.
fn unquoted(said: &str) -> &str {
    said.find("The Canonical String").map_or(said, |at| said[..at].trim_end())
}

fn of_code(what: &str, code: &str, status: u16, reason: &str) -> ProviderError {
    if NOT_AUTHORISED.contains(&code) {
        let reason = format!("{reason}; grant what docs/aws.md lists, or give other credentials");
        ProviderError::new(ErrorKind::NotAuthorised, what, reason)
    } else if LATER.contains(&code) {
        ProviderError::new(ErrorKind::Unavailable, what, reason)
    } else if status >= 500 || CUT_OFF.contains(&code) {
        ProviderError::new(ErrorKind::Unavailable, what, reason).with_outcome(Outcome::Unknown)
    } else if code.starts_with("NoSuch") || status == 404 {
        ProviderError::new(ErrorKind::NotFound, what, reason)
    } else {
        ProviderError::new(ErrorKind::Refused, what, reason)
    }
}

/// Whether asking again at once, after a pause, can help.
pub(crate) fn is_passing(error: &ProviderError) -> bool {
    error.retry == Retry::Later && error.kind != ErrorKind::Conflict
}

/// Credentials that are not to be had.
pub(crate) fn no_credentials(what: &str, error: &CredentialsError) -> ProviderError {
    ProviderError::new(ErrorKind::NotAuthorised, what, without_credentials(error))
}

fn without_credentials(error: &CredentialsError) -> String {
    let fix =
        "name a profile in `aws.profile`, set AWS_ACCESS_KEY_ID and its like, or give this machine a role";
    format!("no credentials for AWS ({}); {fix}", chain(error))
}

/// A request without credentials was never sent.
fn credentials_missing(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(credentials) = error.downcast_ref::<CredentialsError>() {
            return Some(without_credentials(credentials));
        }
        next = error.source();
    }
    None
}

/// An error with what caused it; the SDK's own display names only itself.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_not_quoted() {
        let said = "The request signature we calculated does not match the signature you provided.";
        let quotes = format!(
            "{said}\n\nThe Canonical String for this request should have been\n'POST\n/\n\nx-amz-security-token:hunter2'"
        );
        assert_eq!((unquoted(&quotes), unquoted(said)), (said, said));
    }

    /// A server's failure says nothing of what was done; being asked too much does.
    #[test]
    fn what_an_answer_means_is_told_by_its_code() {
        let cases = [
            ("Throttling", 400, ErrorKind::Unavailable, Outcome::NotDone),
            ("PriorRequestNotComplete", 400, ErrorKind::Unavailable, Outcome::NotDone),
            ("SlowDown", 503, ErrorKind::Unavailable, Outcome::NotDone),
            ("InternalFailure", 500, ErrorKind::Unavailable, Outcome::Unknown),
            // Of S3, whose server got no more of the request for a while.
            ("RequestTimeout", 400, ErrorKind::Unavailable, Outcome::Unknown),
            ("AccessDenied", 403, ErrorKind::NotAuthorised, Outcome::NotDone),
            ("NoSuchHostedZone", 404, ErrorKind::NotFound, Outcome::NotDone),
            ("ValidationError", 400, ErrorKind::Refused, Outcome::NotDone),
        ];
        for (code, status, kind, outcome) in cases {
            let error = of_code("publish", code, status, code);
            assert_eq!((error.kind, error.outcome), (kind, outcome), "{code}");
            assert_eq!(is_passing(&error), kind == ErrorKind::Unavailable, "{code}");
        }
    }
}
