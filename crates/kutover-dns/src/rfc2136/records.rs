//! Record sets as a name server holds them, and the one message that swaps them: no sockets, no clock.

use hickory_proto::op::{Message, OpCode, Query, UpdateMessage as _};
use hickory_proto::rr::rdata::{CNAME, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use kutover_core::owner::OwnerRecord;
use kutover_core::ports::{Published, RecordData};
use kutover_core::words::DnsName;

use crate::lookup::owner_of;
use crate::name::to_wire;
use crate::published::record_set;

/// The types that a record set can have.
const SET_TYPES: [RecordType; 3] = [RecordType::CNAME, RecordType::A, RecordType::AAAA];

/// The names of one endpoint on the wire.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) zone: Name,
    pub(super) endpoint: Name,
    pub(super) owner: Name,
}

impl Names {
    /// # Errors
    /// Text that says which name is none.
    pub(super) fn new(zone: &DnsName, endpoint: &DnsName) -> Result<Self, String> {
        Ok(Self {
            zone: to_wire(zone)?,
            endpoint: to_wire(endpoint)?,
            owner: to_wire(&OwnerRecord::name_for(endpoint))?,
        })
    }
}

/// What a name server holds at an endpoint, record by record.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    /// CNAME, or A and AAAA, at the endpoint.
    pub(super) set: Vec<Record>,
    /// TXT at the owner record's name.
    pub(super) owner: Vec<Record>,
}

impl Stored {
    /// The same in kutover's words.
    ///
    /// # Errors
    /// Text that says what makes no sense, and what to do about it.
    pub(super) fn published(&self) -> Result<Published, String> {
        let endpoint = record_set(&self.set);
        if endpoint.is_none() && !self.set.is_empty() {
            return Err("its A and AAAA records have different TTLs; give them one".into());
        }
        let owner = owner_of(&self.owner)
            .map_err(|reason| format!("{reason}; somebody else wrote there, mend or remove it"))?;
        Ok(Published { endpoint, owner })
    }

    pub(super) fn is_cname(&self) -> bool {
        self.has(RecordType::CNAME)
    }

    fn has(&self, kind: RecordType) -> bool {
        self.set.iter().any(|record| record.record_type() == kind)
    }
}

/// The UPDATE message (RFC 2136) that puts `desired` in the place of exactly what was found. Prerequisites and changes
/// are one transaction (3.4), so of several such messages for the same found records one succeeds.
///
/// A prerequisite compares names, types and data but no TTLs (3.2.5). The owner record's text therefore says the TTL
/// too, in a field that readers pass over ([`OwnerRecord::from_txt`]): a change of the TTL alone changes what later
/// prerequisites compare.
///
/// # Errors
/// Text that says which name in `desired` is none.
pub(super) fn swap(names: &Names, found: &Stored, desired: &Published) -> Result<Message, String> {
    let mut message = update(names);
    for record in found.set.iter().chain(&found.owner) {
        // 2.4.2: the record set exists and is exactly this.
        let mut exists = record.clone();
        exists.ttl = 0;
        message.add_pre_requisite(exists);
    }
    for (name, kind) in absent(names, found) {
        // 2.4.3: there is no such record set.
        message.add_pre_requisite(bare(name, kind, DNSClass::NONE));
    }
    // Only what is there is deleted: a key may be allowed less than every type.
    for kind in SET_TYPES.into_iter().filter(|kind| found.has(*kind)) {
        message.add_update(bare(&names.endpoint, kind, DNSClass::ANY));
    }
    if !found.owner.is_empty() {
        message.add_update(bare(&names.owner, RecordType::TXT, DNSClass::ANY));
    }
    for record in records(names, desired)? {
        message.add_update(record);
    }
    Ok(message)
}

/// A message that changes nothing and that a server takes only from who may update the zone: it asks for the SOA.
pub(super) fn nothing(names: &Names) -> Message {
    let mut message = update(names);
    // 2.4.1: there is such a record set, whatever it says.
    message.add_pre_requisite(bare(&names.zone, RecordType::SOA, DNSClass::ANY));
    message
}

fn update(names: &Names) -> Message {
    let mut zone = Query::query(names.zone.clone(), RecordType::SOA);
    zone.set_query_class(DNSClass::IN);
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    message.add_zone(zone);
    message
}

/// A record without data and TTL, which stands for a whole record set.
fn bare(name: &Name, kind: RecordType, class: DNSClass) -> Record {
    let mut record = Record::update0(name.clone(), 0, kind);
    record.dns_class = class;
    record
}

/// The record sets that must not be there for `found` to be all. Beside a CNAME nothing can stand (RFC 2181, 10.1).
fn absent<'a>(names: &'a Names, found: &Stored) -> Vec<(&'a Name, RecordType)> {
    let mut absent = Vec::new();
    if !found.is_cname() {
        // A CNAME is not there where addresses are.
        let is_empty = found.set.is_empty();
        let possible = SET_TYPES.into_iter().filter(|kind| is_empty || *kind != RecordType::CNAME);
        absent.extend(possible.filter(|kind| !found.has(*kind)).map(|kind| (&names.endpoint, kind)));
    }
    if found.owner.is_empty() {
        // Beside a CNAME the server would drop the text, and say that all went well (RFC 2136, 3.4.2.2).
        absent.extend([RecordType::TXT, RecordType::CNAME].map(|kind| (&names.owner, kind)));
    }
    absent
}

/// The records of what is to be published.
fn records(names: &Names, desired: &Published) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    if let Some(set) = &desired.endpoint {
        let mut add = |data| records.push(Record::from_rdata(names.endpoint.clone(), set.ttl_s, data));
        match &set.data {
            RecordData::Cname(target) => add(RData::CNAME(CNAME(to_wire(target)?))),
            RecordData::Addresses(addresses) => {
                addresses.iter().for_each(|address| add(RData::from(*address)));
            }
        }
    }
    if let Some(owner) = &desired.owner {
        let ttl_s = desired.owner_ttl_s();
        let mut strings = owner.to_txt();
        strings.push(format!(";ttl={ttl_s}"));
        records.push(Record::from_rdata(names.owner.clone(), ttl_s, RData::TXT(TXT::new(strings))));
    }
    Ok(records)
}

#[cfg(test)]
mod tests;
