//! What a zone holds, how it is changed, and what it answers: no sockets, no clock.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{CNAME, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use kutover_core::controls::{Control, without};
use kutover_core::error::{ErrorKind, ProviderError};
use kutover_core::owner::{OwnerRecord, OwnerRecordError};
use kutover_core::ports::{Published, RecordData, RecordSet};
use kutover_core::words::DnsName;

use crate::name::to_wire;
use crate::published::{check_desired, check_name, invalid_owner};

/// The SOA minimum, in seconds: for how long resolvers may keep "there is nothing" (RFC 2308, 4). Short, so that a
/// name that was asked for too early is found soon.
const NEGATIVE_TTL_S: u32 = 1;
/// The TTL of the zone's own records, in seconds.
const PLAIN_TTL_S: u32 = 60;
/// How many CNAMEs are followed inside the zone.
const MAX_CNAMES: usize = 8;

/// A zone's content. Every name in it is in its normal spelling.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    apex: DnsName,
    server: IpAddr,
    serial: u32,
    published: BTreeMap<DnsName, Published>,
    /// Texts put in an owner record's place, by endpoint: a fault.
    foreign_owner: BTreeMap<DnsName, Vec<String>>,
}

/// The answer to one question.
pub(super) struct ZoneAnswer {
    pub(super) code: ResponseCode,
    pub(super) records: Vec<Record>,
}

impl Zone {
    pub(super) fn new(apex: DnsName, server: IpAddr) -> Self {
        Self { apex, server, serial: 1, published: BTreeMap::new(), foreign_owner: BTreeMap::new() }
    }

    /// A zone as it was kept.
    pub(super) fn restored(
        apex: DnsName,
        server: IpAddr,
        serial: u32,
        published: BTreeMap<DnsName, Published>,
    ) -> Self {
        Self { serial, published, ..Self::new(apex, server) }
    }

    pub(super) fn apex(&self) -> &DnsName {
        &self.apex
    }

    pub(super) fn serial(&self) -> u32 {
        self.serial
    }

    pub(super) fn published(&self) -> &BTreeMap<DnsName, Published> {
        &self.published
    }

    /// What is stored at an endpoint.
    ///
    /// # Errors
    /// The text that stands there is no owner record.
    pub(super) fn read(&self, endpoint: &DnsName) -> Result<Published, OwnerRecordError> {
        let endpoint = endpoint.normal();
        if let Some(strings) = self.foreign_owner.get(&endpoint) {
            OwnerRecord::from_txt(strings)?;
        }
        Ok(self.published.get(&endpoint).cloned().unwrap_or_default())
    }

    /// Swaps what stands at an endpoint, if it is exactly `expected`.
    pub(super) fn compare_and_set(
        &mut self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> Result<(), ProviderError> {
        let what = format!("publish {endpoint}");
        check_name(&self.apex, endpoint, &what)?;
        let desired = desired.normal();
        check_desired(&self.apex, endpoint, &desired)
            .map_err(|reason| ProviderError::new(ErrorKind::Refused, &what, reason))?;
        let found = self.read(endpoint).map_err(|error| invalid_owner(&what, &error))?;
        if found != expected.normal() && !without(Control::BlindSwap) {
            let holder = found.owner.as_ref().map_or_else(
                || "no owner record".to_owned(),
                |owner| format!("generation {}, term {}", owner.target.generation, owner.term),
            );
            let reason = format!("something else stands there now ({holder}); read it again");
            return Err(ProviderError::new(ErrorKind::Conflict, &what, reason));
        }
        if desired == Published::default() {
            self.published.remove(&endpoint.normal());
        } else {
            self.published.insert(endpoint.normal(), desired);
        }
        self.serial = self.serial.wrapping_add(1);
        Ok(())
    }

    pub(super) fn put_foreign_owner(&mut self, endpoint: &DnsName, strings: Option<Vec<String>>) {
        match strings {
            Some(strings) => self.foreign_owner.insert(endpoint.normal(), strings),
            None => self.foreign_owner.remove(&endpoint.normal()),
        };
        self.serial = self.serial.wrapping_add(1);
    }

    /// Answers a question as an authoritative server does (RFC 1034, 4.3.2).
    pub(super) fn answer(&self, name: &DnsName, kind: RecordType) -> ZoneAnswer {
        let mut node = name.normal();
        if !node.is_in_zone(&self.apex) {
            return ZoneAnswer { code: ResponseCode::Refused, records: Vec::new() };
        }
        let mut records = Vec::new();
        for _ in 0..MAX_CNAMES {
            let Some((cname, target)) = self.cname_at(&node).filter(|_| kind != RecordType::CNAME) else {
                break;
            };
            records.push(cname);
            if !target.is_in_zone(&self.apex) {
                return ZoneAnswer { code: ResponseCode::NoError, records };
            }
            node = target;
        }
        let code = if self.exists(&node) { ResponseCode::NoError } else { ResponseCode::NXDomain };
        records.extend(self.records_at(&node, kind));
        ZoneAnswer { code, records }
    }

    /// The SOA, for answers about it and beside empty ones (RFC 2308, 3).
    pub(super) fn soa(&self) -> Option<Record> {
        let apex = to_wire(&self.apex).ok()?;
        let server = to_wire(&self.server_name()).ok()?;
        let contact = to_wire(&DnsName::new(format!("hostmaster.{}", self.apex))).ok()?;
        let soa = SOA::new(server, contact, self.serial, 3600, 600, 86_400, NEGATIVE_TTL_S);
        Some(Record::from_rdata(apex, NEGATIVE_TTL_S, RData::SOA(soa)))
    }

    fn server_name(&self) -> DnsName {
        DnsName::new(format!("ns.{}", self.apex))
    }

    fn cname_at(&self, node: &DnsName) -> Option<(Record, DnsName)> {
        let set = self.published.get(node)?.endpoint.as_ref()?;
        let RecordData::Cname(target) = &set.data else { return None };
        let record = record(node, set.ttl_s, RData::CNAME(CNAME(to_wire(target).ok()?)))?;
        Some((record, target.clone()))
    }

    fn records_at(&self, node: &DnsName, kind: RecordType) -> Vec<Record> {
        let found = match kind {
            RecordType::A | RecordType::AAAA => self.address_records(node, kind),
            RecordType::CNAME => self.cname_at(node).map(|(record, _)| record).into_iter().collect(),
            RecordType::TXT => self.owner_record(node).into_iter().collect(),
            RecordType::SOA if *node == self.apex => self.soa().into_iter().collect(),
            RecordType::NS if *node == self.apex => to_wire(&self.server_name())
                .ok()
                .and_then(|server| record(node, PLAIN_TTL_S, RData::NS(NS(server))))
                .into_iter()
                .collect(),
            _ => Vec::new(),
        };
        found.into_iter().filter(|record| record.record_type() == kind).collect()
    }

    fn address_records(&self, node: &DnsName, kind: RecordType) -> Vec<Record> {
        let (ttl_s, addresses) = match self.published.get(node).and_then(|at| at.endpoint.as_ref()) {
            Some(RecordSet { ttl_s, data: RecordData::Addresses(addresses) }) => (*ttl_s, addresses.clone()),
            None if *node == self.server_name() => (PLAIN_TTL_S, vec![self.server]),
            _ => return Vec::new(),
        };
        let of_kind = addresses.into_iter().filter(|address| address.is_ipv4() == (kind == RecordType::A));
        of_kind.filter_map(|address| record(node, ttl_s, RData::from(address))).collect()
    }

    fn owner_record(&self, node: &DnsName) -> Option<Record> {
        let endpoint = OwnerRecord::endpoint_of(node)?;
        let published = self.published.get(&endpoint);
        let strings = match self.foreign_owner.get(&endpoint) {
            Some(strings) => strings.clone(),
            None => published?.owner.as_ref()?.to_txt(),
        };
        let ttl_s = published.map_or(PLAIN_TTL_S, Published::owner_ttl_s);
        record(node, ttl_s, RData::TXT(TXT::new(strings)))
    }

    /// Whether a name is there, if only as a step to one below it (RFC 8020).
    fn exists(&self, node: &DnsName) -> bool {
        *node == self.apex
            || *node == self.server_name()
            || self.names().any(|name| name == *node || name.is_below(node))
    }

    fn names(&self) -> impl Iterator<Item = DnsName> {
        let endpoints =
            self.published.iter().filter(|(_, at)| at.endpoint.is_some()).map(|(name, _)| name.clone());
        let owned = self.published.iter().filter(|(_, at)| at.owner.is_some()).map(|(name, _)| name);
        endpoints.chain(owned.chain(self.foreign_owner.keys()).map(OwnerRecord::name_for))
    }
}

fn record(node: &DnsName, ttl_s: u32, data: RData) -> Option<Record> {
    let name: Name = to_wire(node).ok()?;
    Some(Record::from_rdata(name, ttl_s, data))
}
