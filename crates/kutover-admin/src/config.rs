//! What an admin client is told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kutover_core::ports::TokenProvider;

use crate::access::ScramPasswords;
use crate::fence::FenceWith;

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a TCP and TLS connection to one broker.
    pub connect: Duration,
    /// For one request's answer. Not below `connect`.
    pub request: Duration,
    /// For one call as a whole, look-ups and retries included. What did not answer by then is an error.
    pub call: Duration,
    /// For a fence to take hold at every leader and for the ends behind it to stand still.
    pub proof: Duration,
    /// For reading one partition's tail. What was not read by then counts as not read.
    pub tail: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(10),
            call: Duration::from_secs(20),
            proof: Duration::from_secs(15),
            tail: Duration::from_secs(10),
        }
    }
}

/// How to reach one cluster.
#[derive(Clone, Default)]
pub struct AdminConfig {
    /// `host:port` of bootstrap servers, by the controller's own path where it has one.
    pub bootstrap: Vec<String>,
    /// `host:port` of the bootstrap servers that ordinary clients use: the fence is probed where they write.
    /// Empty means `bootstrap`.
    pub client_bootstrap: Vec<String>,
    /// Client properties under librdkafka's names. Those about security are obeyed, and one of them that is not
    /// understood is an error; all others are for producers and consumers, and are passed over.
    pub properties: BTreeMap<String, String>,
    /// The security properties of the fence's probe, an ordinary client that must be no super user. `None` means
    /// `properties`.
    pub probe_properties: Option<BTreeMap<String, String>>,
    /// Where tokens come from for `sasl.mechanism=OAUTHBEARER`.
    pub tokens: Option<Arc<dyn TokenProvider>>,
    /// Where those of the probe come from. `None` means `tokens`.
    pub probe_tokens: Option<Arc<dyn TokenProvider>>,
    /// Passwords of SCRAM users that the cluster may have to be given.
    pub scram_passwords: ScramPasswords,
    /// What makes the cluster refuse records.
    pub fence: FenceWith,
    /// How long things may take.
    pub timeouts: Timeouts,
}

impl AdminConfig {
    /// The probe's own security properties, or everybody's.
    pub(crate) fn of_the_probe(&self) -> &BTreeMap<String, String> {
        self.probe_properties.as_ref().unwrap_or(&self.properties)
    }

    /// The probe's own source of tokens, or everybody's.
    pub(crate) fn tokens_of_the_probe(&self) -> Option<&Arc<dyn TokenProvider>> {
        self.probe_tokens.as_ref().or(self.tokens.as_ref())
    }
}

impl fmt::Debug for AdminConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Property values can be secrets: names only.
        f.debug_struct("AdminConfig")
            .field("bootstrap", &self.bootstrap)
            .field("client_bootstrap", &self.client_bootstrap)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .field("probe_properties", &self.probe_properties.as_ref().map(|p| p.keys().collect::<Vec<_>>()))
            .field("tokens", &self.tokens)
            .field("probe_tokens", &self.probe_tokens)
            .field("scram_passwords", &self.scram_passwords)
            .field("fence", &self.fence)
            .field("timeouts", &self.timeouts)
            .finish()
    }
}
