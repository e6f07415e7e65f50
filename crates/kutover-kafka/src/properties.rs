//! The client properties of a colour.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kutover_core::decisions::acks::{WeakAcks, weak_acks};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use crate::error::not_accepted;

/// A safety that a user gives up by name (L15, L16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Waiver {
    /// `acks` below `all`, or `enable.idempotence=false`: a broker's failure can then lose acknowledged records.
    WeakAcks,
    /// `metadata.recovery.strategy` other than `none`: the client may wander to another cluster by itself, where its
    /// acknowledged records can vanish as somebody else's duplicates (L16).
    Rebootstrap,
}

impl Waiver {
    /// The name under which a configuration waives it.
    pub fn as_str(self) -> &'static str {
        match self {
            Waiver::WeakAcks => "weak-acks",
            Waiver::Rebootstrap => "rebootstrap",
        }
    }
}

/// Why a property is not accepted. Never holds a value that could be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("client property `{property}`: {reason}")]
pub struct PropertyError {
    /// The property's name.
    pub property: String,
    /// What is wrong, and the fix.
    pub reason: String,
}

/// Whether librdkafka is built with TLS, and with the SASL mechanisms that need its cryptography.
pub(crate) const HAS_TLS: bool = cfg!(feature = "tls");
const BUILD_TLS: &str = "`--features tls` (libssl-dev and pkg-config are needed)";

/// librdkafka's properties for the clients of one colour, but for `bootstrap.servers`: a target names those.
///
/// `Debug` hides the values of passwords, keys and everything under `sasl.`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientProperties {
    map: BTreeMap<String, String>,
}

/// Whether a property's value must not be shown.
pub(crate) fn is_secret(property: &str) -> bool {
    property.starts_with("sasl.")
        || property.starts_with("ssl.key")
        || property.starts_with("https.")
        || ["password", "secret", "token", "private", "credential"].iter().any(|word| property.contains(word))
}

/// Whether a client names itself by a token.
pub(crate) fn takes_tokens(config: &ClientConfig) -> bool {
    SASL_MECHANISM.iter().filter_map(|name| config.get(name)).any(is_token_mechanism)
}

fn is_token_mechanism(mechanism: &str) -> bool {
    mechanism.eq_ignore_ascii_case("OAUTHBEARER")
}

/// Both spellings that librdkafka knows.
const SASL_MECHANISM: [&str; 2] = ["sasl.mechanism", "sasl.mechanisms"];

/// The first property that needs librdkafka to be built with TLS. Its own errors for these either hide behind another
/// value or come only when a client is made.
fn needs_tls(map: &BTreeMap<String, String>) -> Option<(&str, &str)> {
    map.iter().map(|(name, value)| (name.as_str(), value.as_str())).find(|(name, value)| {
        let value = value.to_ascii_uppercase();
        match *name {
            "security.protocol" => matches!(value.as_str(), "SSL" | "SASL_SSL"),
            name if SASL_MECHANISM.contains(&name) => value.starts_with("SCRAM-") || value == "OAUTHBEARER",
            name => name.starts_with("ssl.") || name.starts_with("enable.ssl."),
        }
    })
}

impl fmt::Debug for ClientProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self
            .map
            .iter()
            .map(|(key, value)| (key.as_str(), if is_secret(key) { "<hidden>" } else { value.as_str() }));
        f.debug_map().entries(shown).finish()
    }
}

/// Properties that kutover sets itself or that would break its promises, each with the reason.
const NOT_TO_BE_SET: [(&str, &str); 5] = [
    ("bootstrap.servers", "leave it out: a deployment's target names each colour's bootstrap servers"),
    ("metadata.broker.list", "leave it out: a deployment's target names each colour's bootstrap servers"),
    ("transactional.id", "a transaction cannot move between clusters; use a producer without transactions"),
    ("enable.gapless.guarantee", "a single refusal would make the client fatal for good; leave it out"),
    ("delivery.report.only.error", "every record's report is counted; leave it out"),
];

/// Properties that only a producer knows, or that are the producer's own business: a reader is made without them.
const PRODUCER_ONLY: [&str; 26] = [
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "linger.ms",
    "queue.buffering.max.ms",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "queue.buffering.backpressure.threshold",
    "batch.size",
    "batch.num.messages",
    "compression.codec",
    "compression.type",
    "compression.level",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "message.send.max.retries",
    "retries",
    "partitioner",
    "sticky.partitioning.linger.ms",
    "queuing.strategy",
    "request.timeout.ms",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "statistics.interval.ms",
    "debug",
    "allow.auto.create.topics",
];

impl ClientProperties {
    /// Takes over properties after checking them.
    ///
    /// # Errors
    /// A property that librdkafka does not know, one that kutover sets itself, or one that gives up a safety.
    pub fn new(map: BTreeMap<String, String>) -> Result<Self, PropertyError> {
        Self::with_waivers(map, &BTreeSet::new())
    }

    /// Takes over properties after checking them, with some safeties given up by name.
    ///
    /// # Errors
    /// As for [`ClientProperties::new`], but for what is waived.
    pub fn with_waivers(
        map: BTreeMap<String, String>,
        waivers: &BTreeSet<Waiver>,
    ) -> Result<Self, PropertyError> {
        let refuse =
            |property: &str, reason: String| Err(PropertyError { property: property.to_owned(), reason });
        for (property, reason) in NOT_TO_BE_SET {
            if map.contains_key(property) {
                return refuse(property, reason.to_owned());
            }
        }
        if let Some(WeakAcks { property, why }) = weak_acks(&map)
            && !waivers.contains(&Waiver::WeakAcks)
        {
            return refuse(property, waive(why, Waiver::WeakAcks));
        }
        if map.get("metadata.recovery.strategy").is_some_and(|strategy| strategy != "none")
            && !waivers.contains(&Waiver::Rebootstrap)
        {
            let reason = waive("the client could wander to another cluster by itself", Waiver::Rebootstrap);
            return refuse("metadata.recovery.strategy", reason);
        }
        if let Some((property, value)) = needs_tls(&map).filter(|_| !HAS_TLS) {
            // A protocol and a mechanism are no secrets; an `ssl.` property's value may be.
            let asked = if property.contains("ssl.") { String::new() } else { format!("`{value}` ") };
            let reason =
                format!("{asked}needs TLS, and this program is built without it; build it with {BUILD_TLS}");
            return refuse(property, reason);
        }
        let properties = Self { map };
        if let Err(error) = properties.producer_config(&[]).create_native_config() {
            let rdkafka::error::KafkaError::ClientConfig(_, description, property, _) = &error else {
                return refuse("(all)", error.to_string());
            };
            return refuse(property, not_accepted(property, description).to_owned());
        }
        Ok(properties)
    }

    /// Whether its clients name themselves by tokens, for which a provider has to be given.
    pub fn takes_tokens(&self) -> bool {
        SASL_MECHANISM.iter().filter_map(|name| self.get(name)).any(is_token_mechanism)
    }

    /// A property's value.
    pub fn get(&self, property: &str) -> Option<&str> {
        self.map.get(property).map(String::as_str)
    }

    /// Whether clients are idempotent, and so have a producer id to warm.
    pub(crate) fn is_idempotent(&self) -> bool {
        match self.get("enable.idempotence") {
            Some(on) => on == "true",
            None => self.has_strong_acks(),
        }
    }

    fn has_strong_acks(&self) -> bool {
        ["acks", "request.required.acks"]
            .iter()
            .filter_map(|property| self.get(property))
            .all(|acks| acks == "all" || acks == "-1")
    }

    /// The configuration of a data-path client.
    pub(crate) fn producer_config(&self, bootstrap: &[String]) -> ClientConfig {
        let mut config = self.base_config(bootstrap);
        if self.has_strong_acks() {
            config.set("acks", "all");
        }
        config.set("enable.idempotence", if self.is_idempotent() { "true" } else { "false" });
        config.set("statistics.interval.ms", "1000");
        // An auto-created topic has nobody's partitions and configs (L6).
        config.set("allow.auto.create.topics", "false");
        config.extend(self.map.clone());
        // The log line that tells the producer id comes at once; statistics tell it up to an interval later.
        let debug = self.get("debug").map_or("eos".to_owned(), |contexts| format!("{contexts},eos"));
        config.set("debug", debug);
        config.set_log_level(RDKafkaLogLevel::Debug);
        config
    }

    /// The configuration of a reader, which joins no group and commits nothing.
    ///
    /// A record ends a fetch's wait at once. The wait matters to questions alone: the broker answers them behind the
    /// fetch that waits on the same connection. A short one answers sooner and costs as many more idle requests.
    pub(crate) fn reader_config(
        &self,
        bootstrap: &[String],
        client_id: &str,
        fetch_wait_ms: u32,
    ) -> ClientConfig {
        let mut config = self.link_config(bootstrap, client_id);
        // librdkafka needs a group's name to assign partitions by hand; no group of that name ever comes to be.
        config.set("group.id", "kutover-reader");
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("enable.partition.eof", "true");
        config.set("auto.offset.reset", "earliest");
        config.set("fetch.wait.max.ms", fetch_wait_ms.to_string());
        config.set("fetch.error.backoff.ms", "50");
        config
    }

    /// The configuration of a writer to kutover's own topics. One request in flight keeps the order without
    /// idempotence, and so without the half second that a producer id costs.
    pub(crate) fn writer_config(
        &self,
        bootstrap: &[String],
        client_id: &str,
        timeout_ms: u128,
    ) -> ClientConfig {
        let mut config = self.link_config(bootstrap, client_id);
        config.set("acks", "all");
        config.set("enable.idempotence", "false");
        config.set("max.in.flight.requests.per.connection", "1");
        config.set("linger.ms", "0");
        config.set("message.timeout.ms", timeout_ms.to_string());
        config.set("allow.auto.create.topics", "false");
        config
    }

    /// The configuration of any client that is not the data path: security and network properties are the user's.
    pub(crate) fn link_config(&self, bootstrap: &[String], client_id: &str) -> ClientConfig {
        let mut config = self.base_config(bootstrap);
        for (property, value) in &self.map {
            if !PRODUCER_ONLY.contains(&property.as_str()) {
                config.set(property, value);
            }
        }
        config.set("client.id", client_id);
        config.set("metadata.recovery.strategy", "none");
        config
    }

    fn base_config(&self, bootstrap: &[String]) -> ClientConfig {
        let mut config = ClientConfig::new();
        if !bootstrap.is_empty() {
            config.set("bootstrap.servers", bootstrap.join(","));
        }
        config.set("metadata.recovery.strategy", "none");
        // librdkafka's default of 10 s keeps time-outs from firing for as long.
        config.set("reconnect.backoff.max.ms", "1000");
        config
    }
}

fn waive(why: &str, waiver: Waiver) -> String {
    format!("{why}; leave it out (a producer's builder may waive it by the name `{}`)", waiver.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn secrets_are_not_shown() {
        let pairs = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.username", "ann"),
            ("sasl.password", "hunter2"),
            ("ssl.key.password", "hunter3"),
        ];
        let shown = format!("{:?}", ClientProperties { map: map(&pairs) });
        assert!(shown.contains("sasl_plaintext"), "{shown}");
        assert!(!shown.contains("hunter") && !shown.contains("ann"), "{shown}");
    }

    /// L15 and L16: a safety is given up by name or not at all.
    #[test]
    fn weak_properties_are_refused_unless_waived() {
        for (property, value, waiver) in [
            ("acks", "1", Waiver::WeakAcks),
            ("request.required.acks", "0", Waiver::WeakAcks),
            ("enable.idempotence", "false", Waiver::WeakAcks),
            ("metadata.recovery.strategy", "rebootstrap", Waiver::Rebootstrap),
        ] {
            let error = ClientProperties::new(map(&[(property, value)])).unwrap_err();
            assert_eq!(error.property, property);
            assert!(error.reason.contains(waiver.as_str()), "{error}");
            let waived = ClientProperties::with_waivers(map(&[(property, value)]), &BTreeSet::from([waiver]));
            assert_eq!(waived.unwrap().producer_config(&[]).get(property), Some(value));
        }
        assert!(ClientProperties::new(map(&[("acks", "all"), ("enable.idempotence", "true")])).is_ok());
    }

    #[test]
    fn what_breaks_a_promise_or_is_unknown_is_refused_by_name() {
        for (property, value) in [
            ("bootstrap.servers", "here:9092"),
            ("transactional.id", "t"),
            ("enable.gapless.guarantee", "true"),
            ("delivery.report.only.error", "true"),
            ("linger.millis", "5"),
            ("linger.ms", "soon"),
        ] {
            let error = ClientProperties::new(map(&[(property, value)])).unwrap_err();
            assert_eq!(error.property, property, "{error}");
            assert_eq!(error.to_string().matches("client property").count(), 1, "{error}");
        }
    }

    /// A configuration that asks for TLS of a program without it is told so, whatever librdkafka would say.
    #[test]
    fn what_needs_tls_is_named_where_it_is_missing() {
        for (property, value) in [
            ("security.protocol", "SASL_SSL"),
            ("security.protocol", "ssl"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.mechanisms", "OAUTHBEARER"),
            ("ssl.ca.location", "/etc/ssl/certs/ca-certificates.crt"),
        ] {
            let made = ClientProperties::new(map(&[(property, value)]));
            if HAS_TLS {
                assert!(made.is_ok(), "{property}={value}: {made:?}");
                continue;
            }
            let error = made.unwrap_err();
            assert_eq!(error.property, property);
            assert!(error.reason.contains("--features tls"), "{error}");
            assert!(!error.reason.contains("/etc/ssl"), "{error}");
        }
        let plain = [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "PLAIN")];
        assert!(ClientProperties::new(map(&plain)).is_ok());
    }

    #[test]
    fn a_client_is_strong_and_stays_where_it_is_by_default() {
        let properties = ClientProperties::new(map(&[("debug", "broker")])).unwrap();
        let config = properties.producer_config(&["a:1".into(), "b:2".into()]);
        assert_eq!(config.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(config.get("acks"), Some("all"));
        assert_eq!(config.get("enable.idempotence"), Some("true"));
        assert_eq!(config.get("metadata.recovery.strategy"), Some("none"));
        assert_eq!(config.get("debug"), Some("broker,eos"));
        assert_eq!(properties.reader_config(&[], "me", 50).get("debug"), None);
    }
}
