//! From questions on the wire to the zone's answers.

use std::sync::Arc;

use async_trait::async_trait;
use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use super::faults::{Fault, Shared};
use crate::name;

/// The largest UDP answer: more is cut into fragments on some paths, so it goes over TCP (DNS flag day 2020).
const MAX_UDP_BYTES: u16 = 1232;
/// The smallest that a question can ask for (RFC 6891, 6.2.3).
const MIN_UDP_BYTES: u16 = 512;

pub(super) struct Handler {
    pub(super) shared: Arc<Shared>,
}

/// What goes into one answer.
#[derive(Default)]
struct Reply {
    code: ResponseCode,
    records: Vec<Record>,
    soa: Option<Record>,
}

impl Handler {
    /// The answer to a request, or `None` for silence.
    fn reply(&self, request: &Request) -> Option<Reply> {
        let failed = |code| Some(Reply { code, ..Reply::default() });
        if request.metadata.message_type != MessageType::Query {
            return None;
        }
        if request.metadata.op_code != OpCode::Query {
            return failed(ResponseCode::NotImp);
        }
        let [query] = request.queries.queries() else {
            return failed(ResponseCode::FormErr);
        };
        if query.query_class() != DNSClass::IN {
            return failed(ResponseCode::Refused);
        }
        self.answer(query.original())
    }

    fn answer(&self, query: &Query) -> Option<Reply> {
        let name = name::from_wire(query.name());
        let kind = query.query_type();
        self.shared.count(&name, kind);
        let fault = self.shared.fault_for(&name, kind);
        let zones = self.shared.zones.read();
        let zone = zones.served();
        let (code, records) = match fault {
            None => {
                let answer = zone.answer(&name, kind);
                (answer.code, answer.records)
            }
            Some(Fault::ServFail) => (ResponseCode::ServFail, Vec::new()),
            Some(Fault::NoData) => (ResponseCode::NoError, Vec::new()),
            Some(Fault::NxDomain) => (ResponseCode::NXDomain, Vec::new()),
            Some(Fault::Silence) => return None,
        };
        let is_empty = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
            && records.iter().all(|record| record.record_type() != kind);
        Some(Reply { code, records, soa: is_empty.then(|| zone.soa()).flatten() })
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut handle: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let not_sent = |metadata| ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() });
        let Some(reply) = self.reply(request) else {
            return not_sent(metadata);
        };
        metadata.response_code = reply.code;
        metadata.authoritative = matches!(reply.code, ResponseCode::NoError | ResponseCode::NXDomain);
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload().clamp(MIN_UDP_BYTES, MAX_UDP_BYTES));
            edns
        });
        let response = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(
            metadata,
            &reply.records,
            &[],
            reply.soa.as_ref(),
            &[],
        );
        match handle.send_response(response).await {
            Ok(sent) => sent,
            Err(error) => {
                // The asker has gone away; it asks again if it cares.
                tracing::debug!(%error, "a DNS answer could not be sent");
                not_sent(metadata)
            }
        }
    }
}
