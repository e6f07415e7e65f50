//! librdkafka's security properties, put into krafka's words.

use std::collections::BTreeMap;

use krafka::auth::{AuthConfig, TlsConfig};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};

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
    "ssl.endpoint.identification.algorithm",
    "enable.ssl.certificate.verification",
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

/// Reads the security part of client properties. `None` is plaintext.
pub(crate) fn auth(properties: &BTreeMap<String, String>) -> ProviderResult<Option<AuthConfig>> {
    for name in properties.keys().filter(|name| is_about_security(name)) {
        if !UNDERSTOOD.contains(&name.as_str()) {
            let known = UNDERSTOOD.join("`, `");
            return Err(refuse(name, format!("the admin client does not know it; it knows `{known}`")));
        }
    }
    let properties = Properties(properties);
    let protocol = properties.get("security.protocol").unwrap_or("plaintext").to_ascii_lowercase();
    let auth = match protocol.as_str() {
        "plaintext" => return Ok(None),
        "ssl" => AuthConfig::ssl(tls(&properties)?),
        "sasl_plaintext" => sasl(&properties)?,
        "sasl_ssl" => sasl(&properties)?.with_tls(tls(&properties)?),
        other => {
            let choices = "write `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`";
            return Err(refuse("security.protocol", format!("`{other}` is no protocol; {choices}")));
        }
    };
    Ok(Some(auth))
}

fn sasl(properties: &Properties<'_>) -> ProviderResult<AuthConfig> {
    let mechanism =
        properties.get("sasl.mechanism").or_else(|| properties.get("sasl.mechanisms")).ok_or_else(|| {
            refuse("sasl.mechanism", "is missing; write `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`")
        })?;
    let build: fn(String, String) -> AuthConfig = match mechanism.to_ascii_uppercase().as_str() {
        "PLAIN" => AuthConfig::sasl_plain,
        "SCRAM-SHA-256" => AuthConfig::sasl_scram_sha256,
        "SCRAM-SHA-512" => AuthConfig::sasl_scram_sha512,
        other => {
            let choices = "it can `PLAIN`, `SCRAM-SHA-256` and `SCRAM-SHA-512`";
            return Err(refuse("sasl.mechanism", format!("the admin client cannot do `{other}`; {choices}")));
        }
    };
    let username = properties.need("sasl.username", mechanism)?;
    let password = properties.need("sasl.password", mechanism)?;
    Ok(build(username.to_owned(), password.to_owned()))
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
    if let Some(path) = properties.get("ssl.ca.location") {
        tls = tls.with_ca_cert(path);
    } else if let Some(pem) = properties.get("ssl.ca.pem") {
        tls = tls.with_ca_cert_pem(pem.as_bytes().to_vec());
    }
    if let Some(cert) = properties.get("ssl.certificate.location") {
        tls = tls.with_client_cert(cert, properties.need("ssl.key.location", "ssl.certificate.location")?);
    } else if let Some(cert) = properties.get("ssl.certificate.pem") {
        let key = properties.need("ssl.key.pem", "ssl.certificate.pem")?;
        tls = tls.with_client_cert_pem(cert.as_bytes().to_vec(), key.as_bytes().to_vec());
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> ProviderResult<Option<AuthConfig>> {
        auth(&pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
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
    fn an_unknown_security_property_is_named() {
        let error = read(&[("ssl.keystore.location", "/a.p12")]).unwrap_err();
        assert!(error.to_string().contains("ssl.keystore.location"), "{error}");
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
