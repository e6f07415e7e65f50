//! Tokens for `sasl.mechanism=OAUTHBEARER`: from a [`TokenProvider`] to librdkafka, and a provider that reads a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{AccessToken, TokenProvider};
use serde::Deserialize;
use tokio::runtime::Handle;

use crate::hooks::{ClientHooks, OAuthToken};

/// How long a provider may take. librdkafka asks again ten seconds after a failure.
const BOUND: Duration = Duration::from_secs(10);

impl ClientHooks {
    /// The same with tokens from a provider, which is asked on this runtime, from the clients' own threads.
    #[must_use]
    pub fn with_tokens(mut self, provider: Arc<dyn TokenProvider>, runtime: Handle) -> Self {
        self.oauth_token = Some(Arc::new(move |_| {
            let asked = runtime.block_on(async { tokio::time::timeout(BOUND, provider.token()).await });
            let token = asked
                .map_err(|_| format!("no token within {} s", BOUND.as_secs()))?
                .map_err(|error| error.to_string())?;
            let lifetime_ms = i64::try_from(token.expires_ms).unwrap_or(i64::MAX);
            Ok(OAuthToken { token: token.value, principal_name: token.principal, lifetime_ms })
        }));
        self
    }
}

/// Tokens from a file that somebody else keeps fresh, as Kubernetes does with a projected service account token. The
/// file holds one JSON Web Token (RFC 7519), whose claims `exp` and `sub` are read and whose signature is the broker's
/// business.
#[derive(Clone, Debug)]
pub struct FileTokens {
    path: PathBuf,
}

impl FileTokens {
    /// Tokens from this file, which is read at each call.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

#[async_trait]
impl TokenProvider for FileTokens {
    async fn token(&self) -> ProviderResult<AccessToken> {
        let text = tokio::fs::read_to_string(&self.path).await;
        let text = text.map_err(|error| failed(&self.path, error))?;
        let token = parse(text.trim()).map_err(|reason| failed(&self.path, reason))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        if u128::from(token.expires_ms) <= now {
            return Err(failed(&self.path, "its token has expired; whatever renews the file does not"));
        }
        Ok(token)
    }
}

fn failed(path: &Path, reason: impl std::fmt::Display) -> ProviderError {
    ProviderError::new(ErrorKind::Unavailable, format!("read a token from {}", path.display()), reason)
}

/// The claims that clients need (RFC 7519, 4.1).
#[derive(Deserialize)]
struct Claims {
    exp: f64,
    sub: String,
}

/// Reads a token. The reason of a failure never quotes it.
fn parse(text: &str) -> Result<AccessToken, &'static str> {
    const FORM: &str = "it holds no JSON Web Token (three parts between dots)";
    let mut parts = text.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(FORM);
    };
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).map_err(|_| FORM)?;
    let claims: Claims = serde_json::from_slice(&claims)
        .map_err(|_| "its token does not say when it expires (`exp`) and for whom it is (`sub`)")?;
    if !(0.0..1e14).contains(&claims.exp) {
        return Err("its token's `exp` is no time in seconds since 1970");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    let expires_ms = (claims.exp * 1000.0) as u64;
    Ok(AccessToken { value: text.to_owned(), principal: claims.sub, expires_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", part(r#"{"alg":"none"}"#), part(claims))
    }

    #[test]
    fn claims_are_read_and_no_error_quotes_the_token() {
        let text = jwt(r#"{"exp":1999999999.5,"sub":"kutover","iat":1}"#);
        let token = parse(&text).unwrap();
        assert_eq!(
            token,
            AccessToken { value: text, principal: "kutover".into(), expires_ms: 1_999_999_999_500 }
        );
        for wrong in
            ["", "opaque", "a.b", "a.!.c", &jwt(r#"{"sub":"kutover"}"#), &jwt(r#"{"exp":-1,"sub":""}"#)]
        {
            let reason = parse(wrong).unwrap_err();
            assert!(wrong.is_empty() || !reason.contains(wrong), "{reason}");
        }
    }

    #[test]
    fn a_provider_serves_librdkafkas_threads() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, jwt(r#"{"exp":253370764800,"sub":"kutover"}"#) + "\n").unwrap();
        let tokens = Arc::new(FileTokens::new(&file));
        let hooks = ClientHooks::default().with_tokens(tokens, runtime.handle().clone());
        let token = hooks.token(None).unwrap();
        assert_eq!((token.principal_name.as_str(), token.lifetime_ms), ("kutover", 253_370_764_800_000));
        assert!(!format!("{hooks:?}").contains(&token.token));
        std::fs::remove_file(&file).unwrap();
        let error = hooks.token(None).err().unwrap().to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
    }
}
