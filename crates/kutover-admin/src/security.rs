//! librdkafka's security properties, put into krafka's words.

use std::collections::BTreeMap;
use std::sync::Arc;

use krafka::KrafkaError;
use krafka::auth::{AuthConfig, OAuthBearerToken, TlsConfig};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::TokenProvider;

/// Security properties that are understood, under librdkafka's names
/// (<https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md>).
const UNDERSTOOD: &[&str] = &[
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.pem",
    "ssl.key.password",
    "ssl.endpoint.identification.algorithm",
    "enable.ssl.certificate.verification",
];

/// What else librdkafka knows and what to write instead, by the beginning of its name.
const INSTEAD: &[(&str, &str)] = &[
    (
        "ssl.keystore.",
        "give certificate and key as PEM, with `ssl.certificate.location` and `ssl.key.location`",
    ),
    ("ssl.ca.certificate.stores", "give the authority's certificate as PEM, with `ssl.ca.location`"),
    ("sasl.oauthbearer.", "tokens come from a provider; leave it out"),
    ("sasl.kerberos.", "it cannot do Kerberos; use another mechanism"),
];

fn is_about_security(name: &str) -> bool {
    ["security.", "sasl.", "ssl.", "enable.ssl.", "enable.sasl."].iter().any(|start| name.starts_with(start))
}

fn refuse(name: &str, reason: impl std::fmt::Display) -> ProviderError {
    ProviderError::new(ErrorKind::Invalid, format!("client property `{name}`"), reason)
}

/// The properties with their lookup by name.
struct Properties<'a>(&'a BTreeMap<String, String>);

impl<'a> Properties<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str)
    }

    fn need(&self, name: &str, by: &str) -> ProviderResult<&'a str> {
        self.get(name).ok_or_else(|| refuse(name, format!("is missing; {by} needs it")))
    }
}

/// Checks that the admin client can do what these properties say about security, without connecting.
///
/// # Errors
/// `Invalid`: the property by name, what is wrong with it and the fix; never a value that may be a secret.
pub fn check_security(
    properties: &BTreeMap<String, String>,
    tokens: Option<&Arc<dyn TokenProvider>>,
) -> ProviderResult<()> {
    auth(properties, tokens).map(drop)
}

/// The principal that a password or the lack of one makes. Of a certificate or a token the brokers' own rules make a name.
pub(crate) fn principal(properties: &BTreeMap<String, String>) -> Option<String> {
    let properties = Properties(properties);
    match properties.get("security.protocol").map(str::to_ascii_lowercase).as_deref() {
        None | Some("plaintext") => Some("User:ANONYMOUS".to_owned()),
        Some("ssl") => None,
        Some(_) => properties.get("sasl.username").map(|name| format!("User:{name}")),
    }
}

/// Reads the security part of client properties. `None` is plaintext.
pub(crate) fn auth(
    properties: &BTreeMap<String, String>,
    tokens: Option<&Arc<dyn TokenProvider>>,
) -> ProviderResult<Option<AuthConfig>> {
    for name in properties.keys().filter(|name| is_about_security(name)) {
        if !UNDERSTOOD.contains(&name.as_str()) {
            let fix = match INSTEAD.iter().find(|(start, _)| name.starts_with(start)) {
                Some((_, fix)) => (*fix).to_owned(),
                None => format!("it knows `{}`", UNDERSTOOD.join("`, `")),
            };
            return Err(refuse(name, format!("the admin client does not know it; {fix}")));
        }
    }
    let properties = Properties(properties);
    let protocol = properties.get("security.protocol").unwrap_or("plaintext").to_ascii_lowercase();
    let auth = match protocol.as_str() {
        "plaintext" => return Ok(None),
        "ssl" => AuthConfig::ssl(tls(&properties)?),
        "sasl_plaintext" => sasl(&properties, tokens)?,
        "sasl_ssl" => sasl(&properties, tokens)?.with_tls(tls(&properties)?),
        other => {
            let choices = "write `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`";
            return Err(refuse("security.protocol", format!("`{other}` is no protocol; {choices}")));
        }
    };
    Ok(Some(auth))
}

fn sasl(properties: &Properties<'_>, tokens: Option<&Arc<dyn TokenProvider>>) -> ProviderResult<AuthConfig> {
    const CHOICES: &str = "`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`";
    let mechanism = properties
        .get("sasl.mechanism")
        .or_else(|| properties.get("sasl.mechanisms"))
        .ok_or_else(|| refuse("sasl.mechanism", format!("is missing; write {CHOICES}")))?;
    let build: fn(String, String) -> AuthConfig = match mechanism.to_ascii_uppercase().as_str() {
        "PLAIN" => AuthConfig::sasl_plain,
        "SCRAM-SHA-256" => AuthConfig::sasl_scram_sha256,
        "SCRAM-SHA-512" => AuthConfig::sasl_scram_sha512,
        "OAUTHBEARER" => {
            let missing = || refuse("sasl.mechanism", "OAUTHBEARER needs tokens, and no provider is given");
            return Ok(with_tokens(Arc::clone(tokens.ok_or_else(missing)?)));
        }
        other => {
            let reason = format!("the admin client cannot do `{other}`; write {CHOICES}");
            return Err(refuse("sasl.mechanism", reason));
        }
    };
    let username = properties.need("sasl.username", mechanism)?;
    let password = properties.need("sasl.password", mechanism)?;
    Ok(build(username.to_owned(), password.to_owned()))
}

/// krafka asks again with every connection, and keeps a token no longer than it lasts.
fn with_tokens(provider: Arc<dyn TokenProvider>) -> AuthConfig {
    AuthConfig::sasl_oauthbearer_provider(move || {
        let provider = Arc::clone(&provider);
        async move {
            let token = provider.token().await.map_err(|error| KrafkaError::auth(error.to_string()))?;
            let expires_ms = i64::try_from(token.expires_ms).unwrap_or(i64::MAX);
            Ok(OAuthBearerToken::new(token.value).with_lifetime_ms(expires_ms))
        }
    })
}

fn tls(properties: &Properties<'_>) -> ProviderResult<TlsConfig> {
    let verify = "enable.ssl.certificate.verification";
    let mut tls = match properties.get(verify) {
        None | Some("true") => TlsConfig::new(),
        Some("false") => TlsConfig::insecure(),
        Some(other) => return Err(refuse(verify, format!("`{other}` is neither `true` nor `false`"))),
    };
    let endpoint = "ssl.endpoint.identification.algorithm";
    if let Some(other) = properties.get(endpoint).filter(|value| *value != "https") {
        return Err(refuse(endpoint, format!("the admin client can only do `https`, not `{other}`")));
    }
    tls = match (properties.get("ssl.ca.location"), properties.get("ssl.ca.pem")) {
        // What librdkafka does with `probe`, and OpenSSL with nothing: whom this machine trusts.
        (None | Some("probe"), None) => tls.with_native_roots(),
        (Some(path), _) => tls.with_ca_cert(path),
        (None, Some(pem)) => tls.with_ca_cert_pem(pem.as_bytes().to_vec()),
    };
    if let Some(cert) = properties.get("ssl.certificate.location") {
        tls = tls.with_client_cert(cert, properties.need("ssl.key.location", "ssl.certificate.location")?);
    } else if let Some(cert) = properties.get("ssl.certificate.pem") {
        let key = properties.need("ssl.key.pem", "ssl.certificate.pem")?;
        tls = tls.with_client_cert_pem(cert.as_bytes().to_vec(), key.as_bytes().to_vec());
    } else if let Some(key) =
        ["ssl.key.location", "ssl.key.pem"].iter().find(|key| properties.get(key).is_some())
    {
        let reason =
            "is of no use without a certificate; give `ssl.certificate.location` or `ssl.certificate.pem`";
        return Err(refuse(key, reason));
    }
    if let Some(password) = properties.get("ssl.key.password") {
        tls = tls.with_client_key_password(password);
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> ProviderResult<Option<AuthConfig>> {
        auth(&pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(), None)
    }

    #[test]
    fn reads_what_librdkafka_reads() {
        assert!(read(&[("acks", "all")]).unwrap().is_none());
        assert!(read(&[("security.protocol", "PLAINTEXT"), ("sasl.username", "u")]).unwrap().is_none());
        let scram = read(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanisms", "SCRAM-SHA-512"),
            ("sasl.username", "u"),
            ("sasl.password", "p"),
            ("ssl.ca.location", "/etc/ca.pem"),
        ])
        .unwrap()
        .unwrap();
        assert!(scram.requires_tls() && scram.requires_sasl());
        assert_eq!(scram.tls_config().unwrap().ca_cert_path(), Some("/etc/ca.pem"));
    }

    #[test]
    fn certificates_come_from_files_or_texts_and_else_from_the_machine() {
        let ssl = ("security.protocol", "ssl");
        let tls = |pairs: &[(&str, &str)]| read(pairs).unwrap().unwrap().tls_config().unwrap().clone();
        assert!(
            tls(&[ssl]).use_native_roots() && tls(&[ssl, ("ssl.ca.location", "probe")]).use_native_roots()
        );
        assert!(!tls(&[ssl, ("ssl.ca.pem", "a certificate")]).use_native_roots());
        let files = [("ssl.certificate.location", "/etc/me.pem"), ("ssl.key.location", "/etc/me.key")];
        let found = tls(&[ssl, files[0], files[1], ("ssl.key.password", "hunter2")]);
        assert_eq!(
            (found.client_cert_path(), found.client_key_path()),
            (Some("/etc/me.pem"), Some("/etc/me.key"))
        );
        assert!(!format!("{found:?}").contains("hunter2"));
        for half in [files[0], files[1], ("ssl.certificate.pem", "hunter2"), ("ssl.key.pem", "hunter2")] {
            let error = read(&[ssl, half]).unwrap_err().to_string();
            assert!(error.contains("ssl.key.") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn tokens_need_a_provider() {
        #[derive(Debug)]
        struct Tokens;

        #[async_trait::async_trait]
        impl TokenProvider for Tokens {
            async fn token(&self) -> ProviderResult<kutover_core::ports::AccessToken> {
                Err(ProviderError::new(ErrorKind::Unavailable, "find a token", "there is none"))
            }
        }

        let pairs = [("security.protocol", "sasl_ssl"), ("sasl.mechanism", "OAUTHBEARER")];
        let error = read(&pairs).unwrap_err();
        assert!(error.to_string().contains("no provider"), "{error}");
        let properties = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let provider: Arc<dyn TokenProvider> = Arc::new(Tokens);
        assert!(auth(&properties, Some(&provider)).unwrap().unwrap().requires_sasl());
    }

    #[test]
    fn an_unknown_security_property_is_named() {
        let error = read(&[("ssl.keystore.location", "/a.p12")]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("ssl.keystore.location") && text.contains("`ssl.certificate.location`"),
            "{text}"
        );
        let error = read(&[("security.protocol", "tls")]).unwrap_err();
        assert!(error.to_string().contains("`tls`"), "{error}");
        let error = read(&[("security.protocol", "sasl_ssl"), ("sasl.mechanism", "GSSAPI")]).unwrap_err();
        assert!(error.to_string().contains("GSSAPI"), "{error}");
        let error =
            read(&[("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "PLAIN")]).unwrap_err();
        assert!(error.to_string().contains("sasl.username"), "{error}");
    }

    #[test]
    fn no_secret_is_shown() {
        let properties = BTreeMap::from([("sasl.password".to_string(), "hunter2".to_string())]);
        let config = crate::AdminConfig {
            probe_properties: Some(properties.clone()),
            properties,
            ..crate::AdminConfig::default()
        };
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
