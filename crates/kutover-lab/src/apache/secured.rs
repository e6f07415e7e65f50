//! A cluster that lets in nobody without TLS and a name: what its brokers are told, and how the lab itself gets in.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use krafka::auth::{AuthConfig, TlsConfig};
use serde::{Deserialize, Serialize};

/// A certificate with its key, both PEM; the key unencrypted, as PKCS#8.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// The certificate, and after it those that lead to the authority's.
    pub chain_pem: String,
    /// The key. A secret.
    pub key_pem: String,
}

/// Makes the certificate that brokers on these addresses show to clients and to each other.
type Issue = Arc<dyn Fn(&[IpAddr]) -> Identity + Send + Sync>;

/// What a cluster demands of everybody: `SASL_SSL` where clients are sent to (PLAIN, SCRAM and OAUTHBEARER, whose tokens need
/// no signature), TLS on the listeners [`TlsAlone`], and ACLs that let in only whom they name.
#[derive(Clone)]
pub struct Secured {
    /// Makes the brokers' certificate. It is for both uses, server and client.
    pub issue: Issue,
    /// The authority's certificate, PEM. Brokers believe those that it vouches for.
    pub ca_pem: String,
    /// Whether clients need a certificate too (mutual TLS).
    pub wants_client_certificate: bool,
    /// The one super user, and its password: for whoever sets the cluster up, by PLAIN. Brokers use it among themselves.
    pub super_user: (String, String),
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured")
            .field("wants_client_certificate", &self.wants_client_certificate)
            .field("super_user", &self.super_user.0)
            .finish_non_exhaustive()
    }
}

/// The same of one cluster, as another process must know it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SavedSecurity {
    identity: Identity,
    ca_pem: String,
    wants_client_certificate: bool,
    super_user: (String, String),
}

/// A listener of a secured cluster that takes clients without SASL (`SSL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsAlone {
    /// Mutual TLS: who shows no certificate is sent away, and the principal is the certificate's subject.
    Mutual,
    /// Clients show no certificate: all of them are `User:ANONYMOUS`.
    OneWay,
}

impl TlsAlone {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Mutual, Self::OneWay];

    /// Its name in a broker's configuration.
    pub(crate) fn listener(self) -> &'static str {
        match self {
            Self::Mutual => "MUTUAL",
            Self::OneWay => "ONEWAY",
        }
    }

    fn client_auth(self) -> &'static str {
        match self {
            Self::Mutual => "required",
            Self::OneWay => "none",
        }
    }
}

const KEYSTORE: &str = "keystore.pem";
const TRUSTSTORE: &str = "truststore.pem";
/// The listeners that take names and passwords.
const LISTENERS: [&str; 2] = ["clients", "internal"];
const MECHANISMS: &str = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER";

impl Secured {
    /// For brokers on these addresses.
    pub(crate) fn on(&self, addresses: &[IpAddr]) -> SavedSecurity {
        SavedSecurity {
            identity: (self.issue)(addresses),
            ca_pem: self.ca_pem.clone(),
            wants_client_certificate: self.wants_client_certificate,
            super_user: self.super_user.clone(),
        }
    }
}

impl SavedSecurity {
    /// Writes what brokers read from files.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let Identity { chain_pem, key_pem } = &self.identity;
        fs::write(dir.join(KEYSTORE), format!("{key_pem}\n{chain_pem}\n"))?;
        fs::write(dir.join(TRUSTSTORE), &self.ca_pem)
    }

    pub(crate) fn super_user(&self) -> &str {
        &self.super_user.0
    }

    /// How the lab's own client gets in.
    pub(crate) fn auth(&self) -> AuthConfig {
        let (user, password) = &self.super_user;
        let Identity { chain_pem, key_pem } = &self.identity;
        let tls = TlsConfig::new()
            .with_ca_cert_pem(self.ca_pem.as_bytes().to_vec())
            .with_client_cert_pem(chain_pem.as_bytes().to_vec(), key_pem.as_bytes().to_vec());
        AuthConfig::sasl_plain(user, password).with_tls(tls)
    }

    /// What a broker's `server.properties` says of it (Kafka's documentation, "Security"; PEM stores are KIP-651).
    pub(crate) fn properties(&self, dir: &Path) -> BTreeMap<String, String> {
        let (user, password) = &self.super_user;
        let mut set = BTreeMap::new();
        let mut put = |key: &str, value: &str| set.insert(key.to_owned(), value.to_owned());
        for (store, file) in [("keystore", KEYSTORE), ("truststore", TRUSTSTORE)] {
            put(&format!("ssl.{store}.type"), "PEM");
            put(&format!("ssl.{store}.location"), &dir.join(file).display().to_string());
        }
        put("sasl.mechanism.inter.broker.protocol", "PLAIN");
        put("allow.everyone.if.no.acl.found", "false");
        const MODULE: &str = "org.apache.kafka.common.security";
        let plain = format!(
            "{MODULE}.plain.PlainLoginModule required username=\"{user}\" password=\"{password}\" \
             user_{user}=\"{password}\";"
        );
        let scram = format!("{MODULE}.scram.ScramLoginModule required;");
        let tokens = format!("{MODULE}.oauthbearer.OAuthBearerLoginModule required;");
        for listener in LISTENERS {
            let at = format!("listener.name.{listener}");
            let wanted = if self.wants_client_certificate { "required" } else { "none" };
            put(&format!("{at}.ssl.client.auth"), wanted);
            put(&format!("{at}.sasl.enabled.mechanisms"), MECHANISMS);
            put(&format!("{at}.plain.sasl.jaas.config"), &plain);
            put(&format!("{at}.scram-sha-256.sasl.jaas.config"), &scram);
            put(&format!("{at}.scram-sha-512.sasl.jaas.config"), &scram);
            put(&format!("{at}.oauthbearer.sasl.jaas.config"), &tokens);
        }
        for alone in TlsAlone::ALL {
            let at = format!("listener.name.{}", alone.listener().to_ascii_lowercase());
            put(&format!("{at}.ssl.client.auth"), alone.client_auth());
        }
        set
    }
}
