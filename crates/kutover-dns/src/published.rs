//! What stands at an endpoint, as every authoritative side here takes it: its one form, and what may not stand there.

use std::net::IpAddr;

use hickory_proto::rr::{RData, Record};
use kutover_core::error::{ErrorKind, ProviderError};
use kutover_core::owner::{OwnerRecord, OwnerRecordError};
use kutover_core::ports::{Published, RecordData, RecordSet};
use kutover_core::words::DnsName;

use crate::name::{from_wire, to_wire};

/// An owner record has to fit into one message over TCP (64 KiB) with room for names and other records.
const MAX_OWNER_BYTES: usize = 60_000;

/// The record set that some answers make up; answers with different TTLs make up none that anybody published.
pub(crate) fn record_set(records: &[Record]) -> Option<RecordSet> {
    let ttl_s = records.first()?.ttl;
    if records.iter().any(|record| record.ttl != ttl_s) {
        return None;
    }
    let cname = records.iter().find_map(|record| match &record.data {
        RData::CNAME(target) => Some(from_wire(&target.0)),
        _ => None,
    });
    let data = match cname {
        Some(target) => RecordData::Cname(target),
        None => {
            let mut addresses: Vec<IpAddr> =
                records.iter().filter_map(|record| record.data.ip_addr()).collect();
            addresses.sort_unstable();
            RecordData::Addresses(addresses)
        }
    };
    Some(RecordSet { ttl_s, data })
}

/// Refuses names that are none of this zone's.
pub(crate) fn check_name(apex: &DnsName, endpoint: &DnsName, what: &str) -> Result<(), ProviderError> {
    to_wire(endpoint).map_err(|reason| ProviderError::new(ErrorKind::Invalid, what, reason))?;
    if !endpoint.normal().is_in_zone(apex) {
        let reason = format!("the server's zone is `{apex}`; choose a name in it");
        return Err(ProviderError::new(ErrorKind::NotFound, what, reason));
    }
    Ok(())
}

/// The error for a text that should be an owner record and is none.
pub(crate) fn invalid_owner(what: &str, error: &OwnerRecordError) -> ProviderError {
    ProviderError::new(
        ErrorKind::Invalid,
        what,
        format!("{error}; somebody else wrote there, mend or remove it"),
    )
}

/// What the servers here cannot be made to hold.
pub(crate) fn check_desired(apex: &DnsName, endpoint: &DnsName, desired: &Published) -> Result<(), String> {
    desired.check(endpoint, Some(apex))?;
    if let Some(RecordSet { data: RecordData::Cname(target), .. }) = &desired.endpoint {
        to_wire(target)?;
    }
    if let Some(owner) = &desired.owner {
        to_wire(&OwnerRecord::name_for(endpoint))?;
        let bytes: usize = owner.to_txt().iter().map(|string| string.len() + 1).sum();
        if bytes > MAX_OWNER_BYTES {
            return Err(format!(
                "the owner record has {bytes} bytes, and at most {MAX_OWNER_BYTES} fit into an answer; name fewer bootstrap servers"
            ));
        }
    }
    Ok(())
}
