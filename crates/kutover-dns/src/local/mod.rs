//! A small authoritative server for one machine.

mod faults;
mod handler;
mod kept;
mod zone;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::rr::{Name, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use hickory_server::Server;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::owner::OwnerRecord;
use kutover_core::ports::{DnsProvider, Published};
use kutover_core::words::DnsName;
use parking_lot::Mutex;
use tokio::net::{TcpListener, UdpSocket};

pub use faults::{Fault, Faults, Lost, QueryCounts, Scope};

use crate::lookup::{Resolvers, describe, question, served_owner};
use crate::name::to_wire;
use crate::published::{check_name, invalid_owner, record_set};
use faults::Shared;
use handler::Handler;
use kept::ZoneFile;
use zone::Zone;

/// How long a TCP connection may be idle.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// How many answers may wait on one TCP connection.
const TCP_BACKLOG: usize = 32;
/// How long one check of what is served may take.
const VISIBLE_LIMIT: Duration = Duration::from_secs(5);
/// How often a port is looked for that is free for both UDP and TCP.
const PORT_ATTEMPTS: usize = 16;
/// Zones that resolvers answer for themselves, so that a server is never asked (RFC 6761).
const UNASKED_ZONES: [&str; 3] = ["localhost", "invalid", "onion"];

/// An authoritative DNS server on a loopback address, over UDP and TCP, for one zone; see
/// [`DnsProvider`] for how it is changed and [`Faults`] for how it is made to misbehave.
///
/// It answers SOA and NS at the zone's apex, A, AAAA or CNAME at endpoints (a CNAME within the zone with what it leads
/// to), and the owner record as TXT at `_kutover.<endpoint>`, with the record set's TTL. What is published
/// ends with it, or is kept in a file ([`start_kept`](Self::start_kept)). It ends when the last handle is dropped;
/// [`stop`](Self::stop) also waits until its port is free again.
pub struct LocalServer {
    address: SocketAddr,
    zone: DnsName,
    shared: Arc<Shared>,
    /// Asks this server, for [`DnsProvider::is_visible`].
    resolver: TokioResolver,
    server: Mutex<Option<Server<Handler>>>,
}

impl fmt::Debug for LocalServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalServer")
            .field("address", &self.address)
            .field("zone", &self.zone)
            .finish_non_exhaustive()
    }
}

impl LocalServer {
    /// Starts a server for `zone` on a loopback address; port 0 takes a free one.
    ///
    /// # Errors
    /// `Refused` for an address that is not loopback, is in use or may not be bound; `Invalid` for a zone that is no
    /// name or that resolvers never ask for. The text names the address and the fix.
    pub async fn start(address: SocketAddr, zone: DnsName) -> ProviderResult<Arc<Self>> {
        Self::start_with(address, zone, None).await
    }

    /// Starts a server as [`start`](Self::start) does, whose zone is kept in a file: what a compare-and-set has said
    /// `Ok` to is durable, and there again when a server is started on the same file. One server at a time may use it,
    /// which the caller sees to.
    ///
    /// # Errors
    /// As `start`; `Invalid` for a file that is damaged or holds another zone, and otherwise why it cannot be read. The
    /// text names the file.
    pub async fn start_kept(address: SocketAddr, zone: DnsName, path: &Path) -> ProviderResult<Arc<Self>> {
        Self::start_with(address, zone, Some(ZoneFile::new(path))).await
    }

    /// What a kept zone has published, by endpoint, whether it is served just now or not; nothing where there is no file
    /// yet. The file is only read.
    ///
    /// # Errors
    /// As [`start_kept`](Self::start_kept) for the file.
    pub fn kept(zone: &DnsName, path: &Path) -> ProviderResult<BTreeMap<DnsName, Published>> {
        let zone = ZoneFile::new(path).load(&zone.normal(), IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        Ok(zone.published().clone())
    }

    async fn start_with(
        address: SocketAddr,
        zone: DnsName,
        kept: Option<ZoneFile>,
    ) -> ProviderResult<Arc<Self>> {
        let what = format!("start a DNS server for `{zone}` on {address}");
        let invalid = |reason: String| ProviderError::new(ErrorKind::Invalid, &what, reason);
        let zone = zone.normal();
        to_wire(&zone).map_err(invalid)?;
        if let Some(top) = zone.as_str().rsplit('.').next().filter(|top| UNASKED_ZONES.contains(top)) {
            return Err(invalid(format!(
                "resolvers never ask a server for names in `{top}` (RFC 6761); use a zone in `test`"
            )));
        }
        if !address.ip().is_loopback() {
            let reason = "it serves this machine alone; choose a loopback address such as 127.0.0.1";
            return Err(ProviderError::new(ErrorKind::Refused, &what, reason));
        }
        let (udp, tcp, address) = bind(address).await.map_err(|error| {
            ProviderError::new(ErrorKind::Refused, &what, bind_reason(address, &error))
                .with_outcome(Outcome::NotDone)
        })?;
        let resolver = Resolvers::Servers(vec![address]).build(VISIBLE_LIMIT)?;
        let content = match &kept {
            Some(file) => file.load(&zone, address.ip())?,
            None => Zone::new(zone.clone(), address.ip()),
        };
        let shared = Arc::new(Shared::new(content, kept));
        let mut server = Server::new(Handler { shared: Arc::clone(&shared) });
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, TCP_BACKLOG);
        tracing::debug!(%address, %zone, "DNS server started");
        Ok(Arc::new(Self { address, zone, shared, resolver, server: Mutex::new(Some(server)) }))
    }

    /// Where it listens, over UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The zone that it is authoritative for.
    pub fn zone(&self) -> &DnsName {
        &self.zone
    }

    /// This server as the one that is asked.
    pub fn resolvers(&self) -> Resolvers {
        Resolvers::Servers(vec![self.address])
    }

    /// The knobs for making it misbehave.
    pub fn faults(&self) -> Faults {
        Faults { shared: Arc::clone(&self.shared) }
    }

    /// Ends it and waits until its port is free. What is stored can still be read.
    pub async fn stop(&self) {
        let server = self.server.lock().take();
        if let Some(mut server) = server
            && let Err(error) = server.shutdown_gracefully().await
        {
            tracing::warn!(%error, address = %self.address, "the DNS server ended with an error");
        }
    }

    async fn swap(
        &self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        if !self.shared.zones.read().are_kept() {
            return self.shared.zones.write().compare_and_set(endpoint, expected, desired);
        }
        // Files block, so they are kept off the async workers; once begun it goes through, whoever waits for it.
        let shared = Arc::clone(&self.shared);
        let (name, expected, desired) = (endpoint.clone(), expected.clone(), desired.clone());
        let swapped = tokio::task::spawn_blocking(move || {
            shared.zones.write().compare_and_set(&name, &expected, &desired)
        });
        swapped.await.unwrap_or_else(|error| {
            let what = format!("publish {endpoint}");
            Err(ProviderError::new(ErrorKind::Unavailable, what, error).with_outcome(Outcome::Unknown))
        })
    }

    /// What is served for one question, for `is_visible`.
    async fn served(&self, name: &Name, kind: RecordType, what: &str) -> ProviderResult<Vec<Record>> {
        question(&self.resolver, name, kind).await.map_err(|error| {
            let kind_of_error = match error {
                NetError::Dns(DnsError::ResponseCode(_)) => ErrorKind::Unavailable,
                _ => ErrorKind::Unreachable,
            };
            ProviderError::new(kind_of_error, what, describe(name, kind, &error))
                .with_outcome(Outcome::NotDone)
        })
    }

    async fn serves(&self, endpoint: &DnsName, published: &Published, what: &str) -> ProviderResult<bool> {
        let invalid = |reason: String| ProviderError::new(ErrorKind::Invalid, what, reason);
        let name = to_wire(endpoint).map_err(invalid)?;
        let owner = to_wire(&OwnerRecord::name_for(endpoint)).map_err(invalid)?;
        let mut found = Vec::new();
        // A CNAME shows in the answers about addresses too, with what it leads to, so it is asked for first.
        for kind in [RecordType::CNAME, RecordType::A, RecordType::AAAA] {
            found.extend(self.served(&name, kind, what).await?);
            if found.iter().any(|record| record.record_type() == RecordType::CNAME) {
                break;
            }
        }
        let texts = self.served(&owner, RecordType::TXT, what).await?;
        let owner_is_served = match &published.owner {
            None => texts.is_empty(),
            wanted => *wanted == served_owner(&texts),
        };
        Ok(owner_is_served && record_set(&found) == published.normal().endpoint)
    }
}

#[async_trait]
impl DnsProvider for LocalServer {
    async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published> {
        let what = format!("read {endpoint}");
        let zones = self.shared.zones.read();
        check_name(zones.stored.apex(), endpoint, &what)?;
        zones.check_kept(&what)?;
        zones.stored.read(endpoint).map_err(|error| invalid_owner(&what, &error))
    }

    async fn compare_and_set(
        &self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        let lost = self.shared.next_loss();
        let result = match lost {
            Some(Lost::Request) => Ok(()),
            // Comparing and setting are one step under the write lock: of racing callers exactly one gets through.
            None | Some(Lost::Reply) => self.swap(endpoint, expected, desired).await,
        };
        match lost {
            None => result,
            Some(_) => Err(ProviderError::new(
                ErrorKind::Unreachable,
                format!("publish {endpoint}"),
                "no reply came; read it again to see whether it happened",
            )),
        }
    }

    async fn is_visible(&self, endpoint: &DnsName, published: &Published) -> ProviderResult<bool> {
        let what = format!("check what is served for {endpoint}");
        check_name(self.shared.zones.read().stored.apex(), endpoint, &what)?;
        match tokio::time::timeout(VISIBLE_LIMIT, self.serves(endpoint, published, &what)).await {
            Ok(result) => result,
            Err(_) => {
                let reason = format!("{} did not answer within {VISIBLE_LIMIT:?}", self.address);
                Err(ProviderError::new(ErrorKind::Unreachable, what, reason).with_outcome(Outcome::NotDone))
            }
        }
    }
}

/// UDP and TCP on the same port.
async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener, SocketAddr)> {
    let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let tcp = TcpListener::bind(address).await?;
        let bound = tcp.local_addr()?;
        match UdpSocket::bind(bound).await {
            Ok(udp) => return Ok((udp, tcp, bound)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

fn bind_reason(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "{address} is in use by another program; end that one, or choose another port (0: any free one)"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("{address} may not be bound by this user; choose a port from 1024 up (0: any free one)")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine does not have {}; use 127.0.0.1, or add the address", address.ip())
        }
        _ => format!("{address} cannot be bound: {error}"),
    }
}
