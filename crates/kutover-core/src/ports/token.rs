//! Who a client is, where it says so by a token.

use std::fmt;

use async_trait::async_trait;

use crate::error::ProviderResult;

/// A bearer token for `SASL/OAUTHBEARER` (RFC 7628, KIP-255). `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The token as it goes over the wire. A secret.
    pub value: String,
    /// Whom it names; clients show it in their logs.
    pub principal: String,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("principal", &self.principal)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

/// Where tokens come from. One provider serves both clients of a colour, the data path's and the admin's; they ask
/// again before what they have expires, from threads of their own.
///
/// # Contract
///
/// 1. `Ok` is a token that can be used now: it is not empty, and it expires in the future. One that has expired is an
///    error, never handed out.
/// 2. Each call looks anew: a token that was renewed in the meantime is what comes.
/// 3. Neither the provider's `Debug` nor the text of an error contains a token.
#[async_trait]
pub trait TokenProvider: fmt::Debug + Send + Sync {
    /// The token to use now.
    ///
    /// # Errors
    /// There is none, or only one that has expired; the text names where it was looked for.
    async fn token(&self) -> ProviderResult<AccessToken>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        let token = AccessToken { value: "eyJhbGci".into(), principal: "kutover".into(), expires_ms: 7 };
        let shown = format!("{token:?}");
        assert!(shown.contains("kutover") && !shown.contains("eyJhbGci"), "{shown}");
    }
}
