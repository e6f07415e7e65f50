//! What a server's reply to an update means.

use hickory_net::NetError;
use hickory_proto::op::{DnsResponse, ResponseCode};
use kutover_core::error::ErrorKind;

use super::key::FUDGE_S;
use crate::lookup::mnemonic;

/// What is known after an update was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It was carried out.
    Done,
    /// A prerequisite did not hold.
    Stale,
    /// The server would not: the kind of trouble, why, and the fix.
    Refused(ErrorKind, String),
    /// Nobody said: it may have been carried out.
    Lost(String),
}

impl Reply {
    /// Reads a reply whose signature is checked already: a message that is not signed with the key is an error.
    pub(super) fn of(reply: Result<DnsResponse, NetError>, key: &str, zone: &str) -> Self {
        let code = match reply {
            Ok(reply) => reply.metadata.response_code,
            // Servers differ in what they call a key that they do not know, a wrong secret and no key at all, and some
            // of it misleads (NOTAUTH, REFUSED, FORMERR). What it has in common is that nobody signed it.
            Err(NetError::Proto(error)) => {
                // What the library says of it is for whoever mends the library.
                tracing::debug!(%error, "the reply is not signed with the key");
                return Self::Refused(
                    ErrorKind::NotAuthorised,
                    format!(
                        "not authorised: the reply is not signed with the key. Either the server knows no key \
                         `{key}` for HMAC-SHA256 (`dns.key_name`), or `dns.secret` is not its secret, or the clocks \
                         are more than {FUDGE_S} s apart"
                    ),
                );
            }
            Err(error) => return Self::Lost(error.to_string()),
        };
        let said = mnemonic(code);
        match code {
            ResponseCode::NoError => Self::Done,
            ResponseCode::NXRRSet
            | ResponseCode::YXRRSet
            | ResponseCode::NXDomain
            | ResponseCode::YXDomain => Self::Stale,
            ResponseCode::Refused => Self::Refused(
                ErrorKind::NotAuthorised,
                format!(
                    "not authorised ({said}): let the key `{key}` (`dns.key_name`) change A, AAAA, CNAME and TXT records \
                     in `{zone}`"
                ),
            ),
            ResponseCode::NotAuth | ResponseCode::NotZone => Self::Refused(
                ErrorKind::NotFound,
                format!(
                    "the server is not the primary of `{zone}` ({said}); correct `dns.server` or `dns.zone`"
                ),
            ),
            ResponseCode::NotImp => Self::Refused(
                ErrorKind::Unsupported,
                format!(
                    "the server takes no dynamic updates ({said}); switch them on, or name one that does"
                ),
            ),
            ResponseCode::FormErr => Self::Refused(
                ErrorKind::Invalid,
                format!("the server could not read the update ({said}); see its log"),
            ),
            _ => Self::Refused(ErrorKind::Unavailable, format!("the server answered {said}; see its log")),
        }
    }
}
