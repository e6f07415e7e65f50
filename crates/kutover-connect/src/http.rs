//! Calls over HTTP: what is asked, and what a status means.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Method, Request, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// How long one request may take. A worker may forward it to another one, or find a rebalance under way.
const LIMIT: Duration = Duration::from_secs(10);
/// What needs no escaping in a path (RFC 3986, 2.3).
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where workers are, and how they are asked.
#[derive(Clone, Default)]
pub struct ConnectOptions {
    /// A worker's REST interface, `http://` or `https://`.
    pub url: String,
    /// User and password (RFC 7617), where the workers ask for them. Never shown.
    pub credentials: Option<(String, String)>,
    /// PEM certificates to check the workers' own against; `None`: the well-known roots.
    pub ca_file: Option<PathBuf>,
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What was answered.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Answered {
    /// The body of a call that was carried out.
    ///
    /// # Errors
    /// What the status says, with the workers' own words: of calls that carry no config.
    pub(crate) fn ok(self, what: &str) -> ProviderResult<Value> {
        if self.status.is_success() { Ok(self.body) } else { Err(self.error(what)) }
    }

    pub(crate) fn error(&self, what: &str) -> ProviderError {
        let said = self.body["message"].as_str().unwrap_or("without a word");
        ProviderError::new(self.kind(), what, format!("{} ({said})", self.status))
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::NotAuthorised,
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => ErrorKind::Unsupported,
            // A rebalance, or another change that is under way.
            StatusCode::CONFLICT => ErrorKind::Unavailable,
            status if status.is_server_error() => ErrorKind::Unavailable,
            _ => ErrorKind::Refused,
        }
    }
}

/// One Connect cluster's REST interface.
pub(crate) struct Http {
    agent: Agent,
    base: String,
    authorization: Option<String>,
}

impl Http {
    pub(crate) fn new(options: &ConnectOptions) -> ProviderResult<Self> {
        let mut config = Agent::config_builder()
            .timeout_global(Some(LIMIT))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None);
        if let Some(path) = &options.ca_file {
            let what = format!("read certificates from {}", path.display());
            let wrong = |reason: String| ProviderError::new(ErrorKind::Invalid, &what, reason);
            let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let mut roots = Vec::new();
            for item in parse_pem(&pem) {
                if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(error.to_string()))? {
                    roots.push(certificate);
                }
            }
            if roots.is_empty() {
                return Err(wrong("there is none".into()));
            }
            let roots = RootCerts::new_with_certs(&roots);
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        let basic = |(user, password): &(String, String)| {
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            format!("Basic {pair}")
        };
        Ok(Self {
            agent: config.build().into(),
            base: options.url.trim_end_matches('/').to_owned(),
            authorization: options.credentials.as_ref().map(basic),
        })
    }

    /// One request. An answer of any status is an answer.
    ///
    /// # Errors
    /// Nothing answered: the outcome is unknown.
    pub(crate) async fn call(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> ProviderResult<Answered> {
        let url = format!("{}{path}", self.base);
        let unreachable = |error: &dyn fmt::Display| {
            ProviderError::new(ErrorKind::Unreachable, what, format!("{}: {error}", self.base))
        };
        let has_body = !matches!(method, Method::GET | Method::DELETE);
        let mut request =
            Request::builder().method(method).uri(url).header("Content-Type", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let agent = self.agent.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let mut response = match body {
                Some(body) => agent.run(request.body(body.to_string())?)?,
                None if has_body => agent.run(request.body(String::new())?)?,
                None => agent.run(request.body(())?)?,
            };
            let text = response.body_mut().read_to_string()?;
            Ok::<_, ureq::Error>((response.status(), text))
        });
        let (status, text) = match asked.await {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => return Err(unreachable(&error)),
            Err(error) => return Err(unreachable(&error)),
        };
        // Some answers are empty, and a proxy's may be no JSON: the status says what there is to know.
        Ok(Answered { status, body: serde_json::from_str(&text).unwrap_or_default() })
    }
}

/// `/connectors/NAME` with whatever follows.
pub(crate) fn path(name: &str, rest: &str) -> String {
    format!("/connectors/{}{rest}", utf8_percent_encode(name, PATH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_a_path() {
        assert_eq!(path("a b/../c?d", "/stop"), "/connectors/a%20b%2F..%2Fc%3Fd/stop");
        assert_eq!(path("orders-sink_1.v2", ""), "/connectors/orders-sink_1.v2");
    }

    #[test]
    fn credentials_are_not_shown() {
        let options = ConnectOptions {
            url: "http://127.0.0.1:8083".into(),
            credentials: Some(("kutover".into(), "hunter2".into())),
            ca_file: None,
        };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
