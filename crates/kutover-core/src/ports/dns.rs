//! DNS: the authoritative side, where the controller publishes, and the producer's side, which only looks.

use std::net::IpAddr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::ProviderResult;
use crate::owner::OwnerRecord;
use crate::words::DnsName;

/// What an endpoint's record set points at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type", content = "values")]
pub enum RecordData {
    /// A and AAAA: addresses, in ascending order.
    Addresses(Vec<IpAddr>),
    /// CNAME: another name, such as a load balancer's.
    Cname(DnsName),
}

/// An endpoint's record set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordSet {
    /// Time to live, in seconds.
    pub ttl_s: u32,
    /// What it points at.
    pub data: RecordData,
}

/// What the authoritative side holds for one endpoint: the record set and the owner record beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Published {
    /// The endpoint's own record set.
    pub endpoint: Option<RecordSet>,
    /// The owner record at `_kutover.<endpoint>`.
    pub owner: Option<OwnerRecord>,
}

/// The highest TTL there is, in seconds (RFC 2181, 8).
const MAX_TTL_S: u32 = i32::MAX.unsigned_abs();
/// The TTL of an owner record without a record set beside it, in seconds.
const PLAIN_TTL_S: u32 = 60;

impl Published {
    /// The owner record's TTL, in seconds.
    pub fn owner_ttl_s(&self) -> u32 {
        self.endpoint.as_ref().map_or(PLAIN_TTL_S, |set| set.ttl_s)
    }

    /// The one form that these are compared in: addresses ascending and once each, names in their normal spelling.
    #[must_use]
    pub fn normal(&self) -> Self {
        let mut published = self.clone();
        if let Some(set) = &mut published.endpoint {
            match &mut set.data {
                RecordData::Addresses(addresses) => {
                    addresses.sort_unstable();
                    addresses.dedup();
                }
                RecordData::Cname(target) => *target = target.normal(),
            }
        }
        published
    }

    /// What no DNS server should be made to hold at an endpoint, whatever it would take by itself. `apex` is its zone's;
    /// `None` where the provider answers with addresses in a CNAME's place (an alias), which may stand anywhere.
    ///
    /// # Errors
    /// What is wrong and, where there is one, the fix.
    pub fn check(&self, endpoint: &DnsName, apex: Option<&DnsName>) -> Result<(), String> {
        let endpoint = endpoint.normal();
        if OwnerRecord::endpoint_of(&endpoint).is_some() {
            return Err(format!("`{endpoint}` is the place of an owner record, not an endpoint"));
        }
        let Some(set) = &self.endpoint else { return Ok(()) };
        if set.ttl_s > MAX_TTL_S {
            return Err(format!("a TTL of {} s is above {MAX_TTL_S} s (RFC 2181, 8)", set.ttl_s));
        }
        match &set.data {
            RecordData::Addresses(addresses) if addresses.is_empty() => {
                Err("a record set without addresses is none; give one, or no record set".into())
            }
            RecordData::Cname(_) if apex.is_some_and(|apex| endpoint == apex.normal()) => {
                Err("a zone's apex cannot be a CNAME (RFC 1034, 3.6.2); use addresses".into())
            }
            RecordData::Cname(target) if target.normal() == endpoint => {
                Err("a CNAME to itself leads nowhere".into())
            }
            RecordData::Addresses(_) | RecordData::Cname(_) => Ok(()),
        }
    }
}

/// The authoritative side of DNS.
///
/// # Contract
///
/// 1. `read` gives what is stored, not what a cache or a resolver says. An owner record that cannot be parsed is an
///    error of kind `Invalid`, never an absent one. Where a CNAME stands in its place none can be put: that is `Refused`,
///    by `compare_and_set` too.
/// 2. `compare_and_set` swaps record set and owner record together or not at all. Of several racing callers with the
///    same expectation exactly one gets `Ok`; the others get `Conflict`, `NotDone`.
/// 3. `Ok` means stored, not visible.
/// 4. An error with `Unknown` may have happened: read again and look at the owner record's nonce.
/// 5. `is_visible` is true once every authoritative server answers with the set. It says nothing of resolvers.
/// 6. The owner record's TTL is the record set's, or 1 s less where the provider needs distinct ones.
#[async_trait]
pub trait DnsProvider: Send + Sync {
    /// What stands at an endpoint now.
    ///
    /// # Errors
    /// Unreachable, not authorised, no such zone, or an owner record that makes no sense.
    async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published>;

    /// Replaces what stands at an endpoint, if it is exactly `expected`.
    ///
    /// # Errors
    /// `Conflict` if something else stands there; `Unknown` outcomes as the contract says.
    async fn compare_and_set(
        &self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()>;

    /// Whether all authoritative servers serve `published`.
    ///
    /// # Errors
    /// Unreachable.
    async fn is_visible(&self, endpoint: &DnsName, published: &Published) -> ProviderResult<bool>;
}

/// One look at an endpoint from a producer's side. Failed and empty answers are kept apart from each other and from
/// a real one, because neither may move anybody (L4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointAnswer {
    /// The name leads somewhere.
    Found {
        /// Where, in ascending order.
        addresses: Vec<IpAddr>,
        /// The owner record, where there is one and it makes sense.
        owner: Option<OwnerRecord>,
        /// For how many milliseconds the answer may be used.
        ttl_ms: u64,
    },
    /// The name exists without addresses, or does not exist.
    Empty,
    /// Nobody gave a usable answer (SERVFAIL, a time-out, a malformed owner record): the reason.
    Failed(String),
}

/// The producer's side of DNS.
///
/// # Contract
///
/// 1. `next` returns the first answer at once and each later one when its TTL (plus jitter) has run out; a failed or
///    empty one is followed by a retry with back-off. There is never more than one question in flight.
/// 2. `ask_now` asks past every cache that is ours.
/// 3. Neither ever fails: trouble is an [`EndpointAnswer`]. Both are cancel-safe.
#[async_trait]
pub trait EndpointWatch: Send + Sync {
    /// Waits for the next answer.
    async fn next(&self) -> EndpointAnswer;

    /// Asks at once.
    async fn ask_now(&self) -> EndpointAnswer;
}
