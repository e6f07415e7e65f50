//! Name servers that take dynamic updates (RFC 2136) signed with TSIG (RFC 8945): BIND, Knot, PowerDNS and others.

mod connection;
mod key;
mod records;
mod reply;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::rr::{RData, RecordType};
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult, Retry};
use kutover_core::ports::{DnsProvider, Published, RecordData};
use kutover_core::words::DnsName;

use crate::lookup::{Resolvers, lookup_addresses};
use crate::name::from_wire;
use crate::published::{check_desired, check_name};
use connection::Connection;
use records::{Names, Stored, nothing, swap};
use reply::Reply;

pub use key::TsigKey;

/// What may stand beside addresses and not beside a CNAME. ANY would be enough if every server answered it in full, which
/// RFC 8482 does not ask of them: Knot gives one record set.
const BESIDE: [RecordType; 9] = [
    RecordType::ANY,
    RecordType::MX,
    RecordType::TXT,
    RecordType::SRV,
    RecordType::NS,
    RecordType::CAA,
    RecordType::HTTPS,
    RecordType::SVCB,
    RecordType::NAPTR,
];

/// What an [`Rfc2136`] is made of.
#[derive(Clone, Debug)]
pub struct Rfc2136Options {
    /// The zone's primary, which is read from and which takes updates, over TCP.
    pub server: SocketAddr,
    /// The zone that every endpoint lies in.
    pub zone: DnsName,
    /// What updates are signed with.
    pub key: TsigKey,
    /// The authoritative servers that must all serve a change before it counts as visible. Empty: those that the zone's
    /// NS records name, at the port of `server`.
    pub visible_at: Vec<SocketAddr>,
    /// How long connecting, and each message, may take.
    pub limit: Duration,
}

/// A zone on a name server that takes dynamic updates; see [`DnsProvider`].
///
/// A compare-and-set is one UPDATE message: its prerequisites are the record set and the owner record exactly as they were
/// read, its changes put the new ones in their place. The server carries it out as one transaction. After a refusal and
/// after a lost reply it reads again, and what stands there is its own if it is what was wanted, attempt's nonce included.
pub struct Rfc2136 {
    options: Rfc2136Options,
}

impl fmt::Debug for Rfc2136 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}

impl Rfc2136 {
    /// Connects to nothing yet.
    pub fn new(mut options: Rfc2136Options) -> Self {
        options.zone = options.zone.normal();
        Self { options }
    }

    /// Whether the server is reached, is the zone's primary and takes the key: an update without a change is sent.
    ///
    /// # Errors
    /// Unreachable, not authorised, or no such zone: with the field that is to be corrected.
    pub async fn check_access(&self) -> ProviderResult<()> {
        let zone = &self.options.zone;
        let what = format!("ask for leave to update {zone}");
        let link = self.connect(&what).await?;
        // The message names no endpoint; the zone stands in for one.
        let names = names(zone, zone, &what)?;
        match self.reply(&link, nothing(&names)).await {
            Reply::Done => Ok(()),
            Reply::Stale => {
                let reason = format!("the server has no zone `{zone}`; correct `dns.server` or `dns.zone`");
                Err(ProviderError::new(ErrorKind::NotFound, what, reason))
            }
            Reply::Refused(kind, reason) => Err(ProviderError::new(kind, what, reason)),
            Reply::Lost(reason) => {
                let reason = format!("no reply came: {reason}");
                Err(ProviderError::new(ErrorKind::Unreachable, what, reason).with_outcome(Outcome::NotDone))
            }
        }
    }

    async fn connect(&self, what: &str) -> ProviderResult<Connection> {
        let Rfc2136Options { server, key, limit, .. } = &self.options;
        Connection::open(*server, Some(&key.signer), *limit, what).await
    }

    async fn reply(&self, link: &Connection, message: hickory_proto::op::Message) -> Reply {
        let Rfc2136Options { key, zone, .. } = &self.options;
        Reply::of(link.send(message).await, key.name().as_str(), zone.as_str())
    }

    /// The names of an endpoint in this zone.
    fn names(&self, endpoint: &DnsName, what: &str) -> ProviderResult<Names> {
        check_name(&self.options.zone, endpoint, what)?;
        names(&self.options.zone, endpoint, what)
    }

    /// The authoritative servers that have to show a change.
    async fn authorities(&self, names: &Names, what: &str) -> ProviderResult<BTreeSet<SocketAddr>> {
        let Rfc2136Options { server, zone, visible_at, limit, .. } = &self.options;
        if !visible_at.is_empty() {
            return Ok(visible_at.iter().copied().collect());
        }
        let link = self.connect(what).await?;
        let mut authorities = BTreeSet::new();
        for record in link.ask(&names.zone, RecordType::NS).await? {
            let RData::NS(host) = &record.data else { continue };
            let host = &host.0;
            let mut addresses = Vec::new();
            if from_wire(host).is_in_zone(zone) {
                for kind in [RecordType::A, RecordType::AAAA] {
                    let found = link.ask(host, kind).await?;
                    addresses.extend(found.iter().filter_map(|record| record.data.ip_addr()));
                }
            } else {
                let found = lookup_addresses(&Resolvers::System, &from_wire(host), *limit).await;
                addresses = found.map(|found| found.addresses).unwrap_or_default();
            }
            if addresses.is_empty() {
                let reason = format!(
                    "name server `{}` of the zone has no address here; mend its NS record, or list the servers to ask \
                     in `dns.visible_at`",
                    from_wire(host)
                );
                return Err(
                    ProviderError::new(ErrorKind::Unreachable, what, reason).with_outcome(Outcome::NotDone)
                );
            }
            authorities.extend(addresses.into_iter().map(|address| SocketAddr::new(address, server.port())));
        }
        if authorities.is_empty() {
            authorities.insert(*server);
        }
        Ok(authorities)
    }

    /// Refuses to put a CNAME where something else stands too. A server drops such a CNAME without a word and deletes
    /// what it was to replace (RFC 2136, 3.4.2.2).
    async fn check_alone(&self, link: &Connection, names: &Names, what: &str) -> ProviderResult<()> {
        let mut others = BTreeSet::new();
        for kind in BESIDE {
            others.extend(link.ask(&names.endpoint, kind).await?.iter().map(|record| record.record_type()));
        }
        others.retain(|kind| !matches!(kind, RecordType::A | RecordType::AAAA) && !kind.is_dnssec());
        if others.is_empty() {
            return Ok(());
        }
        let reason = format!(
            "there are records of type {} too, and nothing can stand beside a CNAME (RFC 1034, 3.6.2); remove them, or \
             lead to addresses",
            others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        );
        Err(ProviderError::new(ErrorKind::Refused, what, reason))
    }

    /// After anything but a plain yes: reads again and says what became of it.
    async fn settle(
        &self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
        reply: Reply,
    ) -> ProviderResult<()> {
        let what = format!("publish {endpoint}");
        let found = self.read(endpoint).await;
        if found.as_ref().is_ok_and(|found| is_own(found, expected, desired)) {
            return Ok(());
        }
        let error = |kind, outcome, reason: String| {
            Err(ProviderError::new(kind, &what, reason).with_outcome(outcome))
        };
        match (reply, found) {
            (Reply::Done, _) => Ok(()),
            (Reply::Stale, Ok(found)) if found == *expected => error(
                ErrorKind::Conflict,
                Outcome::NotDone,
                "the server says that something else stands there, and shows what was expected: either it was changed \
                 and changed back, or a wildcard answers for it; give the name records of its own"
                    .into(),
            ),
            (Reply::Stale, Ok(found)) => error(ErrorKind::Conflict, Outcome::NotDone, conflict(&found, desired)),
            (Reply::Stale, Err(why)) => error(
                ErrorKind::Conflict,
                Outcome::NotDone,
                format!("something else stands there, and whose it is could not be read: {}", why.reason),
            ),
            // The server has dealt with the message: what stands there now is what came of it.
            (Reply::Refused(kind, reason), Ok(found)) if found == *expected => {
                error(kind, Outcome::NotDone, reason)
            }
            (Reply::Refused(kind, reason), _) => error(kind, Outcome::Unknown, reason),
            (Reply::Lost(reason), Ok(found)) if found == *expected => error(
                ErrorKind::Unreachable,
                Outcome::Unknown,
                format!("no reply came ({reason}); it has not happened so far, and may be done again"),
            ),
            (Reply::Lost(reason), Ok(found)) if found != *desired => error(
                ErrorKind::Conflict,
                Outcome::Unknown,
                format!("no reply came ({reason}), and now {}", conflict(&found, desired)),
            ),
            (Reply::Lost(reason), _) => error(
                ErrorKind::Unreachable,
                Outcome::Unknown,
                format!("no reply came ({reason}); read it again to see whether it happened"),
            ),
        }
    }
}

fn names(zone: &DnsName, endpoint: &DnsName, what: &str) -> ProviderResult<Names> {
    Names::new(zone, endpoint).map_err(|reason| ProviderError::new(ErrorKind::Invalid, what, reason))
}

fn published(stored: &Stored, what: &str) -> ProviderResult<Published> {
    stored.published().map_err(|reason| ProviderError::new(ErrorKind::Invalid, what, reason))
}

/// Whether what stands there was put there by this very attempt: nobody else has its nonce, and its term is in there too.
fn is_own(found: &Published, expected: &Published, desired: &Published) -> bool {
    let nonce = |published: &Published| published.owner.as_ref().map(|owner| owner.nonce.clone());
    found == desired && nonce(desired).is_some() && nonce(desired) != nonce(expected)
}

/// Who stands in the way.
fn conflict(found: &Published, desired: &Published) -> String {
    let set = match &found.endpoint {
        None => "no record set".to_owned(),
        Some(set) => match &set.data {
            RecordData::Cname(target) => format!("CNAME {target}, TTL {} s", set.ttl_s),
            RecordData::Addresses(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                format!("{}, TTL {} s", addresses.join(" "), set.ttl_s)
            }
        },
    };
    let Some(owner) = &found.owner else {
        return format!("something else stands there: {set}, no owner record; read it again");
    };
    let newer = desired.owner.as_ref().is_some_and(|ours| ours.term < owner.term);
    format!(
        "something else stands there: {set}; its owner record is deployment {}'s, generation {}, term {}{}, attempt {}; \
         read it again",
        owner.deployment,
        owner.target.generation,
        owner.term,
        if newer { " (newer than ours: another controller has taken over)" } else { "" },
        owner.nonce
    )
}

#[async_trait]
impl DnsProvider for Rfc2136 {
    async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published> {
        let what = format!("read {endpoint}");
        let names = self.names(endpoint, &what)?;
        published(&self.connect(&what).await?.stored(&names).await?, &what)
    }

    async fn compare_and_set(
        &self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        let what = format!("publish {endpoint}");
        let names = self.names(endpoint, &what)?;
        let (expected, desired) = (expected.normal(), desired.normal());
        let refused = |reason: String| ProviderError::new(ErrorKind::Refused, &what, reason);
        check_desired(&self.options.zone, endpoint, &desired).map_err(refused)?;
        let link = self.connect(&what).await?;
        let stored = link.stored(&names).await?;
        // TTLs are compared here, and once more in the owner record's text by the server.
        if published(&stored, &what)? != expected {
            return self.settle(endpoint, &expected, &desired, Reply::Stale).await;
        }
        let new_cname = !stored.is_cname()
            && desired.endpoint.as_ref().is_some_and(|set| matches!(set.data, RecordData::Cname(_)));
        if new_cname {
            self.check_alone(&link, &names, &what).await?;
        }
        let message = swap(&names, &stored, &desired).map_err(refused)?;
        match self.reply(&link, message).await {
            Reply::Done if new_cname => match self.read(endpoint).await {
                Ok(now) if now.endpoint.is_none() => {
                    let reason = "the server took the update and dropped the CNAME, since records of another type \
                                  stand there too; remove them, or lead to addresses";
                    Err(ProviderError::new(ErrorKind::Invalid, what, reason).with_outcome(Outcome::Unknown))
                }
                _ => Ok(()),
            },
            Reply::Done => Ok(()),
            other => self.settle(endpoint, &expected, &desired, other).await,
        }
    }

    async fn is_visible(&self, endpoint: &DnsName, wanted: &Published) -> ProviderResult<bool> {
        let what = format!("check what is served for {endpoint}");
        let names = self.names(endpoint, &what)?;
        let wanted = wanted.normal();
        for authority in self.authorities(&names, &what).await? {
            let link = Connection::open(authority, None, self.options.limit, &what).await?;
            // A secondary that has not got the zone yet says that it is not authoritative.
            let stored = link.stored(&names).await.map_err(|error| error.with_retry(Retry::Later))?;
            if stored.published().as_ref() != Ok(&wanted) {
                tracing::debug!(%authority, %endpoint, "a name server does not serve the change yet");
                return Ok(false);
            }
        }
        Ok(true)
    }
}
