//! Where the endpoints' records are kept.

use std::net::SocketAddr;

use kutover_core::words::DnsName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aws::Route53Config;
use super::names;
use super::properties::PropertyValue;
use super::provisioner::refuse;
use super::schema;

/// Where the endpoints' records are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct DnsConfig {
    /// What keeps them.
    pub kind: DnsKind,
    /// The zone that every endpoint lies in; where hosted zones are named by their ids, these decide.
    pub zone: DnsName,
    /// The records' time to live in ordinary times, in seconds: how long a client may go on using an old answer.
    pub ttl_s: u32,
}

/// What keeps the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsKind {
    /// kutover's own authoritative server, run by the controller.
    Local {
        /// Where it listens, UDP and TCP. Port 0 takes a free one.
        listen: SocketAddr,
    },
    /// A name server that takes dynamic updates (RFC 2136) signed with TSIG: BIND, Knot, PowerDNS.
    Rfc2136(Rfc2136Config),
    /// Route 53.
    Route53(Route53Config),
}

/// A name server that takes dynamic updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rfc2136Config {
    /// The zone's primary, which takes updates over TCP.
    pub server: SocketAddr,
    /// The name of the TSIG key, for HMAC-SHA256.
    pub key_name: DnsName,
    /// The key's secret in base64.
    pub secret: PropertyValue,
    /// The authoritative servers that must all serve a change. Empty: those of the zone's NS records.
    pub visible_at: Vec<SocketAddr>,
}

schema::as_in_the_file!(DnsConfig, Raw);

/// Where the endpoints' records are kept.
// The table as it stands in the file, all kinds in one: so an error can name a field that belongs to another kind.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Dns")]
#[serde(deny_unknown_fields)]
struct Raw {
    /// What keeps them.
    kind: Kind,
    /// The zone that every endpoint lies in. With `zone_ids`, those decide.
    #[serde(deserialize_with = "names::dns_name")]
    #[schemars(with = "String")]
    zone: DnsName,
    /// Time to live in ordinary times, in seconds, 1 to 86400: how long a client may go on using an old answer.
    #[schemars(range(min = 1, max = 86_400))]
    ttl_s: u32,
    /// `local`: where that server listens, UDP and TCP, as in `127.0.0.1:5353`. Port 0 takes a free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    listen: Option<SocketAddr>,
    /// `rfc2136`: address and port of the zone's primary, which takes updates over TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    server: Option<SocketAddr>,
    /// `rfc2136`: the name of the TSIG key, for HMAC-SHA256.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "names::some_dns_name")]
    #[schemars(with = "Option<String>")]
    key_name: Option<DnsName>,
    /// `rfc2136`: the key's secret in base64. Never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<PropertyValue>,
    /// `rfc2136`: the authoritative servers that must all serve a change, address and port each. Default: those of the
    /// zone's NS records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    visible_at: Option<Vec<SocketAddr>>,
    /// `route53`: the hosted zones by their ids, no two of one name. Default: the one of the name `zone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone_ids: Option<Vec<String>>,
    /// `route53`: the load balancers' own hosted zone (`CanonicalHostedZoneID`), to point at them by aliases. Default: by
    /// CNAMEs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alias_zone_id: Option<String>,
}

/// What keeps the records.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DnsKind")]
#[serde(rename_all = "kebab-case")]
enum Kind {
    /// kutover's own authoritative server on this machine.
    Local,
    /// A zone on a name server that takes dynamic updates: BIND, Knot, PowerDNS.
    Rfc2136,
    /// A hosted zone in Route 53.
    Route53,
}

impl TryFrom<Raw> for DnsConfig {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let (zone, ttl_s) = (raw.zone.clone(), raw.ttl_s);
        let kind = match raw.kind {
            Kind::Local => raw.into_local()?,
            Kind::Rfc2136 => raw.into_rfc2136()?,
            Kind::Route53 => raw.into_route53()?,
        };
        Ok(Self { kind, zone, ttl_s })
    }
}

impl Raw {
    fn into_local(self) -> Result<DnsKind, String> {
        refuse(
            "local",
            &[
                ("server", self.server.is_some()),
                ("key_name", self.key_name.is_some()),
                ("secret", self.secret.is_some()),
                ("visible_at", self.visible_at.is_some()),
                ("zone_ids", self.zone_ids.is_some()),
                ("alias_zone_id", self.alias_zone_id.is_some()),
            ],
        )?;
        let listen = self.listen.ok_or("`listen` is missing; write listen = \"127.0.0.1:5353\"")?;
        Ok(DnsKind::Local { listen })
    }

    fn into_rfc2136(self) -> Result<DnsKind, String> {
        refuse(
            "rfc2136",
            &[
                ("listen", self.listen.is_some()),
                ("zone_ids", self.zone_ids.is_some()),
                ("alias_zone_id", self.alias_zone_id.is_some()),
            ],
        )?;
        Ok(DnsKind::Rfc2136(Rfc2136Config {
            server: self
                .server
                .ok_or("`server` is missing; name the zone's primary, as in \"10.0.0.53:53\"")?,
            key_name: self
                .key_name
                .ok_or("`key_name` is missing; name the TSIG key that may update the zone")?,
            secret: self.secret.ok_or("`secret` is missing; write secret = { file = \"tsig.secret\" }")?,
            visible_at: self.visible_at.unwrap_or_default(),
        }))
    }

    fn into_route53(self) -> Result<DnsKind, String> {
        refuse(
            "route53",
            &[
                ("listen", self.listen.is_some()),
                ("server", self.server.is_some()),
                ("key_name", self.key_name.is_some()),
                ("secret", self.secret.is_some()),
                ("visible_at", self.visible_at.is_some()),
            ],
        )?;
        let zone_ids = self.zone_ids.unwrap_or_default();
        Ok(DnsKind::Route53(Route53Config { zone_ids, alias_zone_id: self.alias_zone_id }))
    }
}

impl From<DnsConfig> for Raw {
    fn from(config: DnsConfig) -> Self {
        let DnsConfig { kind, zone, ttl_s } = config;
        let none = Self {
            kind: Kind::Local,
            zone,
            ttl_s,
            listen: None,
            server: None,
            key_name: None,
            secret: None,
            visible_at: None,
            zone_ids: None,
            alias_zone_id: None,
        };
        match kind {
            DnsKind::Local { listen } => Self { listen: Some(listen), ..none },
            DnsKind::Rfc2136(Rfc2136Config { server, key_name, secret, visible_at }) => Self {
                kind: Kind::Rfc2136,
                server: Some(server),
                key_name: Some(key_name),
                secret: Some(secret),
                visible_at: (!visible_at.is_empty()).then_some(visible_at),
                ..none
            },
            DnsKind::Route53(Route53Config { zone_ids, alias_zone_id }) => Self {
                kind: Kind::Route53,
                zone_ids: (!zone_ids.is_empty()).then_some(zone_ids),
                alias_zone_id,
                ..none
            },
        }
    }
}
