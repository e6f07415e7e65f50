//! One look at an endpoint: addresses, then the owner record, in a bounded time and past every cache that is ours.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::owner::OwnerRecord;
use kutover_core::ports::EndpointAnswer;
use kutover_core::words::DnsName;
use parking_lot::Mutex;

use crate::name;

/// How often one DNS question is asked again after a failure.
const ATTEMPTS_AFTER_FIRST: usize = 1;
/// A look has up to this many attempts one after the other (A and AAAA twice each; TXT is asked only if those were
/// quick), and a little is left for the rest.
const ATTEMPTS_PER_LOOK: u32 = 5;

/// Who is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resolvers {
    /// The system's configuration (`/etc/resolv.conf`, `/etc/hosts`), read again after a failed look, because a
    /// producer outlives a change of networks. Search lists are not applied.
    #[default]
    System,
    /// These name servers, over UDP and, for long answers, TCP.
    Servers(Vec<SocketAddr>),
}

impl Resolvers {
    /// A resolver without a cache of its own, whose single questions end in time for a look to end within `limit`.
    pub(crate) fn build(&self, limit: Duration) -> ProviderResult<TokioResolver> {
        let what = "set up the DNS resolver";
        let (config, mut options) = match self {
            Resolvers::System => hickory_resolver::system_conf::read_system_conf().map_err(|error| {
                ProviderError::new(
                    ErrorKind::Unavailable,
                    what,
                    format!("the system's configuration cannot be used ({error}); mend /etc/resolv.conf or name the servers to ask"),
                )
            })?,
            Resolvers::Servers(servers) if servers.is_empty() => {
                return Err(ProviderError::new(
                    ErrorKind::Invalid,
                    what,
                    "the list of name servers is empty; name at least one, or use the system's",
                ));
            }
            Resolvers::Servers(servers) => {
                let servers = servers.iter().map(|server| name_server(*server)).collect();
                let mut options = ResolverOpts::default();
                options.use_hosts_file = ResolveHosts::Never;
                (ResolverConfig::from_name_servers(servers), options)
            }
        };
        options.cache_size = 0;
        options.timeout = limit / ATTEMPTS_PER_LOOK;
        options.attempts = ATTEMPTS_AFTER_FIRST;
        options.edns0 = true;
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| ProviderError::new(ErrorKind::Invalid, what, error))
    }
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.into())
}

/// The addresses behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Where the name leads, in ascending order; at least one.
    pub addresses: Vec<IpAddr>,
    /// The shortest TTL on the way there, in seconds.
    pub ttl_s: u32,
}

/// Why a name led nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The name does not exist, or has no addresses.
    #[error("{0}: no addresses")]
    Empty(DnsName),
    /// Nobody gave a usable answer.
    #[error("{endpoint}: {reason}")]
    Failed {
        /// The name asked for.
        endpoint: DnsName,
        /// What happened.
        reason: String,
    },
}

/// Resolves a name once, past every cache that is ours: what a stock client's own look-up would see.
///
/// # Errors
/// [`LookupError`]; a name that nobody answered for within `limit` is [`LookupError::Failed`].
pub async fn lookup_addresses(
    resolvers: &Resolvers,
    endpoint: &DnsName,
    limit: Duration,
) -> Result<Addresses, LookupError> {
    let failed = |reason: String| LookupError::Failed { endpoint: endpoint.clone(), reason };
    let resolver = resolvers.build(limit).map_err(|error| failed(error.to_string()))?;
    let wire = name::to_wire(endpoint).map_err(failed)?;
    match tokio::time::timeout(limit, addresses(&resolver, &wire)).await {
        Err(_) => Err(failed(out_of_time(limit))),
        Ok(Err(reason)) => Err(failed(reason)),
        Ok(Ok(None)) => Err(LookupError::Empty(endpoint.clone())),
        Ok(Ok(Some(found))) => Ok(found),
    }
}

/// What the watch asks: a seam, so that its timing can be tested without a network.
#[async_trait]
pub(crate) trait Look: Send + Sync + 'static {
    /// Looks once.
    async fn look(&self) -> EndpointAnswer;
}

/// A look through hickory.
pub(crate) struct DnsLook {
    resolvers: Resolvers,
    limit: Duration,
    resolver: Mutex<TokioResolver>,
    endpoint: Name,
    owner: Name,
}

impl DnsLook {
    pub(crate) fn new(endpoint: &DnsName, resolvers: Resolvers, limit: Duration) -> ProviderResult<Self> {
        let wire = |name: &DnsName| {
            name::to_wire(name).map_err(|reason| {
                ProviderError::new(ErrorKind::Invalid, format!("watch endpoint {endpoint}"), reason)
            })
        };
        Ok(Self {
            resolver: Mutex::new(resolvers.build(limit)?),
            endpoint: wire(endpoint)?,
            owner: wire(&OwnerRecord::name_for(endpoint))?,
            resolvers,
            limit,
        })
    }

    async fn ask(&self) -> Result<EndpointAnswer, String> {
        let resolver = self.resolver.lock().clone();
        let Some(found) = addresses(&resolver, &self.endpoint).await? else {
            return Ok(EndpointAnswer::Empty);
        };
        // The owner record is asked for last, so that it is never older than the addresses beside it.
        let texts = question(&resolver, &self.owner, RecordType::TXT)
            .await
            .map_err(|error| describe(&self.owner, RecordType::TXT, &error))?;
        let owner =
            owner_of(&texts).map_err(|reason| format!("{}: {reason}", name::from_wire(&self.owner)))?;
        let ttl_s = texts.iter().map(|record| record.ttl).fold(found.ttl_s, u32::min);
        Ok(EndpointAnswer::Found { addresses: found.addresses, owner, ttl_ms: u64::from(ttl_s) * 1000 })
    }
}

#[async_trait]
impl Look for DnsLook {
    async fn look(&self) -> EndpointAnswer {
        let answer = match tokio::time::timeout(self.limit, self.ask()).await {
            Ok(answer) => answer,
            Err(_) => Err(out_of_time(self.limit)),
        };
        answer.unwrap_or_else(|reason| {
            if self.resolvers == Resolvers::System
                && let Ok(resolver) = self.resolvers.build(self.limit)
            {
                *self.resolver.lock() = resolver;
            }
            EndpointAnswer::Failed(reason)
        })
    }
}

pub(crate) fn out_of_time(limit: Duration) -> String {
    format!("no usable answer within {} ms", limit.as_millis())
}

/// A and AAAA one after the other. One family is enough: there are servers that never answer for the other one
/// (RFC 4074), and addresses are a hint only, whoever connects checks the cluster id. `None` is an empty answer.
async fn addresses(resolver: &TokioResolver, endpoint: &Name) -> Result<Option<Addresses>, String> {
    let mut addresses = BTreeSet::new();
    let mut ttl_s = u32::MAX;
    let mut failure = None;
    for family in [RecordType::A, RecordType::AAAA] {
        let records = match question(resolver, endpoint, family).await {
            Ok(records) => records,
            Err(error) => {
                failure.get_or_insert(describe(endpoint, family, &error));
                continue;
            }
        };
        let found: Vec<IpAddr> = records.iter().filter_map(|record| record.data.ip_addr()).collect();
        if !found.is_empty() {
            // The records of a CNAME chain count too: the answer lives as long as its shortest link.
            ttl_s = records.iter().map(|record| record.ttl).fold(ttl_s, u32::min);
            addresses.extend(found);
        }
    }
    match failure {
        Some(reason) if addresses.is_empty() => Err(reason),
        Some(reason) => {
            tracing::debug!(reason, "one address family did not answer; going by the other");
            Ok(Some(Addresses { addresses: addresses.into_iter().collect(), ttl_s }))
        }
        None if addresses.is_empty() => Ok(None),
        None => Ok(Some(Addresses { addresses: addresses.into_iter().collect(), ttl_s })),
    }
}

/// One DNS question. No records is an answer (NXDOMAIN or NODATA, RFC 2308); anything else without records is not.
pub(crate) async fn question(
    resolver: &TokioResolver,
    name: &Name,
    kind: RecordType,
) -> Result<Vec<Record>, NetError> {
    match resolver.lookup(name.clone(), kind).await {
        Ok(lookup) => Ok(lookup.answers().to_vec()),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) if is_empty_answer(&none) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A referral (name servers, but no SOA) comes from a server that does not know: that is no empty answer.
fn is_empty_answer(none: &NoRecords) -> bool {
    matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
        && (none.ns.is_none() || none.soa.is_some())
}

/// An error of a question in an operator's terms.
pub(crate) fn describe(name: &Name, kind: RecordType, error: &NetError) -> String {
    let name = name::from_wire(name);
    match error {
        NetError::Timeout => format!("{name} {kind}: no name server answered in time"),
        NetError::Dns(DnsError::ResponseCode(code)) => {
            format!("{name} {kind}: the name server answered {}", mnemonic(*code))
        }
        NetError::Dns(DnsError::NoRecordsFound(_)) => {
            format!("{name} {kind}: the name server referred to others instead of answering")
        }
        other => format!("{name} {kind}: {other}"),
    }
}

/// The code as name servers' logs and tools write it.
pub(crate) fn mnemonic(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::Refused => "REFUSED".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::FormErr => "FORMERR".into(),
        other => other.to_string(),
    }
}

/// The owner record among the TXT records at its name.
pub(crate) fn owner_of(records: &[Record]) -> Result<Option<OwnerRecord>, String> {
    let texts: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.data {
            RData::TXT(text) => Some(text),
            _ => None,
        })
        .collect();
    match texts.as_slice() {
        [] => Ok(None),
        [text] => {
            // Read as it stands or not at all: a byte quietly replaced would be another name.
            let text = String::from_utf8(text.txt_data.concat())
                .map_err(|_| "owner record: its text is not UTF-8".to_owned())?;
            OwnerRecord::from_txt(&[text]).map(Some).map_err(|error| error.to_string())
        }
        several => {
            Err(format!("owner record: there are {} TXT records, and only one can be it", several.len()))
        }
    }
}

/// What a server serves as an owner record, for whoever checks visibility.
pub(crate) fn served_owner(records: &[Record]) -> Option<OwnerRecord> {
    owner_of(records).ok().flatten()
}

#[cfg(test)]
mod tests;
