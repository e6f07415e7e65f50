//! What stands at an endpoint, as every authoritative side here takes it: its one form, and what may not stand there.

use std::net::IpAddr;

use hickory_proto::rr::{RData, Record};
use kutover_core::error::{ErrorKind, ProviderError};
use kutover_core::owner::{OwnerRecord, OwnerRecordError};
use kutover_core::ports::{Published, RecordData, RecordSet};
use kutover_core::words::DnsName;

use crate::name::{from_wire, is_in_zone, normal, to_wire};

/// The label under which owner records stand.
pub(crate) const OWNER_LABEL: &str = "_kutover.";
/// The TTL of an owner record without a record set beside it, and of a local zone's own records, in seconds.
pub(crate) const PLAIN_TTL_S: u32 = 60;
/// The highest TTL there is (RFC 2181, 8).
const MAX_TTL_S: u32 = i32::MAX.unsigned_abs();
/// An owner record has to fit into one message over TCP (64 KiB) with room for names and other records.
const MAX_OWNER_BYTES: usize = 60_000;

/// The TTL of the owner record that is published, in seconds.
pub(crate) fn owner_ttl_s(published: &Published) -> u32 {
    published.endpoint.as_ref().map_or(PLAIN_TTL_S, |set| set.ttl_s)
}

/// The one form of a record set: addresses ascending and once each, names in normal spelling.
pub(crate) fn normal_published(published: &Published) -> Published {
    let mut published = published.clone();
    if let Some(set) = &mut published.endpoint {
        match &mut set.data {
            RecordData::Addresses(addresses) => {
                addresses.sort_unstable();
                addresses.dedup();
            }
            RecordData::Cname(target) => *target = normal(target),
        }
    }
    published
}

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
    if !is_in_zone(&normal(endpoint), apex) {
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

/// What no DNS server should be made to hold.
pub(crate) fn check_desired(apex: &DnsName, endpoint: &DnsName, desired: &Published) -> Result<(), String> {
    let endpoint = normal(endpoint);
    if endpoint.as_str().starts_with(OWNER_LABEL) {
        return Err(format!("`{endpoint}` is the place of an owner record, not an endpoint"));
    }
    if let Some(set) = &desired.endpoint {
        if set.ttl_s > MAX_TTL_S {
            return Err(format!("a TTL of {} s is above {MAX_TTL_S} s (RFC 2181, 8)", set.ttl_s));
        }
        match &set.data {
            RecordData::Addresses(addresses) if addresses.is_empty() => {
                return Err("a record set without addresses is none; give one, or no record set".into());
            }
            RecordData::Cname(_) if endpoint == *apex => {
                return Err("a zone's apex cannot be a CNAME (RFC 1034, 3.6.2); use addresses".into());
            }
            RecordData::Cname(target) if *target == endpoint => {
                return Err("a CNAME to itself leads nowhere".into());
            }
            RecordData::Cname(target) => {
                to_wire(target)?;
            }
            RecordData::Addresses(_) => {}
        }
    }
    if let Some(owner) = &desired.owner {
        to_wire(&OwnerRecord::name_for(&endpoint))?;
        let bytes: usize = owner.to_txt().iter().map(|string| string.len() + 1).sum();
        if bytes > MAX_OWNER_BYTES {
            return Err(format!(
                "the owner record has {bytes} bytes, and at most {MAX_OWNER_BYTES} fit into an answer; name fewer bootstrap servers"
            ));
        }
    }
    Ok(())
}
