//! One TCP connection to a name server.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_net::DnsMultiplexer;
use hickory_net::NetError;
use hickory_net::client::{Client, ClientHandle as _};
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_proto::op::{DnsRequest, DnsResponse, Message, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType, TSigner};
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::owner::OwnerRecord;

use super::records::{Names, Stored};
use crate::lookup::mnemonic;
use crate::name::from_wire;

/// How often a look that met a change in its middle is begun again.
const LOOKS: usize = 4;

/// TCP, because UDP sends a message again by itself: a change that succeeded would then look refused.
pub(super) struct Connection {
    client: Client<TokioRuntimeProvider>,
    server: SocketAddr,
    what: String,
}

impl Connection {
    /// Connects. Updates are signed with `signer`; questions never are. `limit` bounds the connecting and each message.
    ///
    /// # Errors
    /// Unreachable, and then nothing was done.
    pub(super) async fn open(
        server: SocketAddr,
        signer: Option<&TSigner>,
        limit: Duration,
        what: &str,
    ) -> ProviderResult<Self> {
        let provider = TokioRuntimeProvider::default();
        let (connecting, sender) = TcpClientStream::new(server, None, Some(limit), provider);
        let stream = connecting.await.map_err(|error| {
            let reason = format!("name server {server} cannot be reached over TCP: {error}");
            ProviderError::new(ErrorKind::Unreachable, what, reason).with_outcome(Outcome::NotDone)
        })?;
        let mut multiplexer = DnsMultiplexer::new(stream, sender).with_timeout(limit);
        if let Some(signer) = signer {
            multiplexer = multiplexer.with_signer(signer.clone());
        }
        let (client, background) = Client::from_sender(multiplexer);
        // It ends when the last handle is dropped or the server hangs up.
        tokio::spawn(background);
        Ok(Self { client, server, what: what.to_owned() })
    }

    /// Sends a message and waits for its reply.
    pub(super) async fn send(&self, message: Message) -> Result<DnsResponse, NetError> {
        self.client.send(DnsRequest::from(message)).first_answer().await
    }

    /// The records of one type at a name, from a server that is authoritative for it.
    ///
    /// # Errors
    /// Unreachable, unavailable, or not authoritative.
    pub(super) async fn ask(&self, name: &Name, kind: RecordType) -> ProviderResult<Vec<Record>> {
        let reply = self.client.clone().query(name.clone(), DNSClass::IN, kind).await;
        let asked = format!("{} {kind}", from_wire(name));
        let failed = |kind, reason: String| {
            ProviderError::new(kind, &self.what, reason).with_outcome(Outcome::NotDone)
        };
        let server = self.server;
        let reply = reply.map_err(|error| {
            failed(ErrorKind::Unreachable, format!("{asked}: name server {server} gave no answer: {error}"))
        })?;
        match reply.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain if reply.metadata.authoritative => {}
            code @ (ResponseCode::NoError
            | ResponseCode::NXDomain
            | ResponseCode::Refused
            | ResponseCode::NotAuth) => {
                let said = mnemonic(code);
                return Err(failed(
                    ErrorKind::NotFound,
                    format!(
                        "{asked}: name server {server} is not authoritative for it ({said}); correct `dns.server`, \
                         `dns.visible_at` or `dns.zone`, or let this machine ask"
                    ),
                ));
            }
            code => {
                let said = mnemonic(code);
                return Err(failed(ErrorKind::Unavailable, format!("{asked}: {server} answered {said}")));
            }
        }
        let wanted = |record: &&Record| {
            record.name == *name && (kind == RecordType::ANY || record.record_type() == kind)
        };
        Ok(reply.answers.iter().filter(wanted).cloned().collect())
    }

    /// What the server holds at an endpoint at one moment: the owner record is read before and after the rest, since
    /// every change of kutover's changes it.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub(super) async fn stored(&self, names: &Names) -> ProviderResult<Stored> {
        let mut before = self.ask(&names.owner, RecordType::TXT).await?;
        for _ in 0..LOOKS {
            let mut set = self.ask(&names.endpoint, RecordType::CNAME).await?;
            if set.is_empty() {
                set = self.ask(&names.endpoint, RecordType::A).await?;
                set.extend(self.ask(&names.endpoint, RecordType::AAAA).await?);
            }
            let owner = self.ask(&names.owner, RecordType::TXT).await?;
            if owner.is_empty() && !self.ask(&names.owner, RecordType::CNAME).await?.is_empty() {
                let reason = OwnerRecord::no_room(&from_wire(&names.owner));
                return Err(ProviderError::new(ErrorKind::Refused, &self.what, reason));
            }
            // Several texts come in any order, and none of them is an owner record.
            if owner == before || owner.len() > 1 {
                return Ok(Stored { set, owner });
            }
            before = owner;
        }
        let reason = format!("it changed {LOOKS} times while it was read; find out who writes there");
        Err(ProviderError::new(ErrorKind::Unavailable, &self.what, reason))
    }
}
