//! Between record sets as Route 53 holds them and what the port speaks of: no requests, no clock.

use std::net::IpAddr;

use aws_sdk_route53::error::BuildError;
use aws_sdk_route53::types::error::InvalidChangeBatch;
use aws_sdk_route53::types::{
    AliasTarget, Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet, RrType,
};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::owner::OwnerRecord;
use kutover_core::ports::{Published, RecordData, RecordSet};
use kutover_core::words::DnsName;

/// The TTL of an alias to a load balancer, in seconds (Developer Guide, "Choosing between alias and non-alias records").
pub(super) const ALIAS_TTL_S: u32 = 60;
/// How long a TXT value may be, quotes included (Developer Guide, "TXT record type").
const MAX_TXT_CHARS: usize = 4_000;
/// How many values a record set may have (Developer Guide, Quotas).
const MAX_ADDRESSES: usize = 400;

/// The record sets at an endpoint and at its owner record's name, as they stand.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    /// A, AAAA and CNAME at the endpoint.
    endpoint: Vec<ResourceRecordSet>,
    /// TXT at the owner record's name, or the CNAME that keeps it from there.
    owner: Vec<ResourceRecordSet>,
    /// The types of what else stands at the endpoint.
    others: Vec<RrType>,
}

/// What is wrong, in what kind of way.
struct Problem(ErrorKind, String);

fn refused<T>(reason: String) -> Result<T, Problem> {
    Err(Problem(ErrorKind::Refused, reason))
}

impl Stored {
    /// Sorts out a listing. `endpoint` is in its normal spelling.
    pub(super) fn new(sets: Vec<ResourceRecordSet>, endpoint: &DnsName) -> Self {
        let mut stored = Self { endpoint: Vec::new(), owner: Vec::new(), others: Vec::new() };
        let owner = OwnerRecord::name_for(endpoint);
        for set in sets {
            let name = DnsName::new(set.name()).normal();
            match set.r#type() {
                RrType::A | RrType::Aaaa | RrType::Cname if name == *endpoint => stored.endpoint.push(set),
                RrType::Txt | RrType::Cname if name == owner => stored.owner.push(set),
                other if name == *endpoint => stored.others.push(other.clone()),
                _ => {}
            }
        }
        stored
    }

    /// What they say.
    ///
    /// # Errors
    /// `Refused` for sets that kutover does not steer, with advice; `Invalid` for a TXT that is no owner record.
    pub(super) fn published(&self, what: &str) -> ProviderResult<Published> {
        let published = self.endpoint().and_then(|endpoint| Ok(Published { endpoint, owner: self.owner()? }));
        published.map_err(|Problem(kind, reason)| ProviderError::new(kind, what, reason))
    }

    fn endpoint(&self) -> Result<Option<RecordSet>, Problem> {
        self.endpoint.iter().try_for_each(is_plain)?;
        let aliases: Vec<_> = self.endpoint.iter().filter_map(ResourceRecordSet::alias_target).collect();
        if let Some(alias) = aliases.first() {
            let target = DnsName::new(alias.dns_name()).normal();
            let agree = aliases.len() == self.endpoint.len()
                && aliases.iter().all(|alias| DnsName::new(alias.dns_name()).normal() == target);
            if !agree {
                return refused(
                    "its A and AAAA records lead to different places; make both lead to one".into(),
                );
            }
            if !is_load_balancer(&target) {
                return refused(format!(
                    "it is an alias of `{target}`, which is no load balancer, so that its TTL cannot be known; replace it by a CNAME"
                ));
            }
            return Ok(Some(RecordSet { ttl_s: ALIAS_TTL_S, data: RecordData::Cname(target) }));
        }
        let Some(ttl) = self.endpoint.iter().filter_map(ResourceRecordSet::ttl).max() else {
            return Ok(None);
        };
        // Of two, the longer is the one to be waited out.
        let ttl_s =
            u32::try_from(ttl).map_err(|_| Problem(ErrorKind::Invalid, format!("its TTL is {ttl}")))?;
        let values: Vec<_> = self.endpoint.iter().flat_map(values).collect();
        if self.endpoint.iter().any(|set| *set.r#type() == RrType::Cname) {
            let [target] = values.as_slice() else {
                return Err(Problem(
                    ErrorKind::Invalid,
                    format!("its CNAME leads to {} names", values.len()),
                ));
            };
            let data = RecordData::Cname(DnsName::new(*target).normal());
            return Ok(Some(RecordSet { ttl_s, data }));
        }
        let mut addresses: Vec<IpAddr> = Vec::new();
        for value in values {
            let address = value.parse();
            addresses
                .push(address.map_err(|_| Problem(ErrorKind::Invalid, format!("`{value}` is no address")))?);
        }
        addresses.sort_unstable();
        Ok(Some(RecordSet { ttl_s, data: RecordData::Addresses(addresses) }))
    }

    fn owner(&self) -> Result<Option<OwnerRecord>, Problem> {
        if let Some(cname) = self.owner.iter().find(|set| *set.r#type() == RrType::Cname) {
            return refused(OwnerRecord::no_room(&DnsName::new(cname.name()).normal()));
        }
        self.owner.iter().try_for_each(is_plain)?;
        let values: Vec<_> = self.owner.iter().flat_map(values).collect();
        let invalid = |reason: String| {
            Problem(ErrorKind::Invalid, format!("{reason}; somebody else wrote there, mend or remove it"))
        };
        match values.as_slice() {
            [] => Ok(None),
            [value] => {
                OwnerRecord::from_txt(&strings(value)).map(Some).map_err(|error| invalid(error.to_string()))
            }
            values => Err(invalid(format!("owner record: there are {} TXT values", values.len()))),
        }
    }

    /// Whether a CNAME has its name for itself.
    pub(super) fn check_room(
        &self,
        endpoint: &DnsName,
        desired: &Published,
        aliases: bool,
        what: &str,
    ) -> ProviderResult<()> {
        let Some(RecordData::Cname(target)) = desired.endpoint.as_ref().map(|set| &set.data) else {
            return Ok(());
        };
        match self.others.first() {
            Some(other) if !(aliases && is_load_balancer(target)) => {
                let reason = format!(
                    "{} records stand at `{endpoint}` too, and a CNAME must be alone (RFC 1034, 3.6.2); move them, or \
                     point at a load balancer by an alias (`dns.alias_zone_id`)",
                    other.as_str()
                );
                Err(ProviderError::new(ErrorKind::Refused, what, reason))
            }
            _ => Ok(()),
        }
    }

    /// The batch that puts `desired` in the place of exactly these; `None` if there is nothing on either side.
    pub(super) fn batch(
        &self,
        endpoint: &DnsName,
        desired: &Published,
        alias_zone: Option<&str>,
        what: &str,
    ) -> ProviderResult<Option<ChangeBatch>> {
        let build = || -> Result<Option<ChangeBatch>, BuildError> {
            let deleted =
                self.endpoint.iter().chain(&self.owner).map(|set| (ChangeAction::Delete, set.clone()));
            let mut changes: Vec<_> = deleted.collect();
            for set in self.created(endpoint, desired, alias_zone)? {
                changes.push((ChangeAction::Create, set));
            }
            let changes = changes
                .into_iter()
                .map(|(action, set)| Change::builder().action(action).resource_record_set(set).build())
                .collect::<Result<Vec<_>, _>>()?;
            if changes.is_empty() {
                return Ok(None);
            }
            ChangeBatch::builder().set_changes(Some(changes)).comment(comment(desired)).build().map(Some)
        };
        build().map_err(|error| ProviderError::new(ErrorKind::Invalid, what, error))
    }

    fn created(
        &self,
        endpoint: &DnsName,
        desired: &Published,
        alias_zone: Option<&str>,
    ) -> Result<Vec<ResourceRecordSet>, BuildError> {
        let mut created = Vec::new();
        let plain = |name: &DnsName, kind: RrType, ttl_s: u32, values: Vec<String>| {
            let records = values.into_iter().map(|value| ResourceRecord::builder().value(value).build());
            let records = records.collect::<Result<Vec<_>, _>>()?;
            let set = ResourceRecordSet::builder().name(format!("{}.", name.normal())).r#type(kind);
            set.ttl(ttl_s.into()).set_resource_records(Some(records)).build()
        };
        match desired.endpoint.as_ref().map(|set| (set.ttl_s, &set.data)) {
            None => {}
            Some((_, RecordData::Cname(target))) if alias_zone.is_some() && is_load_balancer(target) => {
                for kind in self.alias_types() {
                    let alias = AliasTarget::builder().set_hosted_zone_id(alias_zone.map(str::to_owned));
                    // Not by the target's health: an unhealthy target without an alternative is answered all the same.
                    let alias = alias.dns_name(format!("{target}.")).evaluate_target_health(false).build()?;
                    let set =
                        ResourceRecordSet::builder().name(format!("{}.", endpoint.normal())).r#type(kind);
                    created.push(set.alias_target(alias).build()?);
                }
            }
            Some((ttl_s, RecordData::Cname(target))) => {
                created.push(plain(endpoint, RrType::Cname, ttl_s, vec![format!("{target}.")])?);
            }
            Some((ttl_s, RecordData::Addresses(addresses))) => {
                for (kind, is_v4) in [(RrType::A, true), (RrType::Aaaa, false)] {
                    let of_kind = addresses.iter().filter(|address| address.is_ipv4() == is_v4);
                    let values: Vec<_> = of_kind.map(ToString::to_string).collect();
                    if !values.is_empty() {
                        created.push(plain(endpoint, kind, ttl_s, values)?);
                    }
                }
            }
        }
        if let Some(owner) = &desired.owner {
            let value = quoted(&owner.to_txt());
            created.push(plain(
                &OwnerRecord::name_for(endpoint),
                RrType::Txt,
                desired.owner_ttl_s(),
                vec![value],
            )?);
        }
        Ok(created)
    }

    /// A alone, and AAAA too where one stands already: a dual-stack balancer stays one.
    fn alias_types(&self) -> Vec<RrType> {
        let is_dual = |set: &ResourceRecordSet| *set.r#type() == RrType::Aaaa && set.alias_target().is_some();
        if self.endpoint.iter().any(is_dual) { vec![RrType::A, RrType::Aaaa] } else { vec![RrType::A] }
    }
}

/// Where a record set is to be an alias, and has another TTL than an alias can have: what is wrong, and the fix. `stands` says
/// that it stands there like that.
pub(super) fn alias_fault(set: &RecordSet, stands: bool) -> Option<String> {
    let RecordData::Cname(target) = &set.data else { return None };
    if set.ttl_s == ALIAS_TTL_S || !is_load_balancer(target) {
        return None;
    }
    let fix = match stands {
        true => format!("set the record's own TTL to {ALIAS_TTL_S} s"),
        false => format!("set `dns.ttl_s` to {ALIAS_TTL_S} and leave `plan.ttl` out"),
    };
    Some(format!(
        "an alias has the load balancer's own TTL of {ALIAS_TTL_S} s, not {} s; {fix}, or leave `dns.alias_zone_id` out for a \
         CNAME",
        set.ttl_s
    ))
}

/// What Route 53 would refuse, or take and should not.
pub(super) fn check(
    endpoint: &DnsName,
    apex: &DnsName,
    expected: &Published,
    desired: &Published,
    aliases: bool,
) -> Result<(), String> {
    let alias = desired
        .endpoint
        .as_ref()
        .filter(|set| matches!(&set.data, RecordData::Cname(target) if aliases && is_load_balancer(target)));
    desired.check(endpoint, alias.is_none().then_some(apex))?;
    let stands = |set: &RecordSet| expected.endpoint.as_ref().is_some_and(|there| there.ttl_s == set.ttl_s);
    if let Some(fault) = alias.and_then(|set| alias_fault(set, stands(set))) {
        return Err(fault);
    }
    if let Some(RecordSet { data: RecordData::Addresses(addresses), .. }) = &desired.endpoint
        && addresses.len() > MAX_ADDRESSES
    {
        return Err(format!(
            "{} addresses are more than the {MAX_ADDRESSES} of a record set",
            addresses.len()
        ));
    }
    let owner_chars = desired.owner.as_ref().map_or(0, |owner| quoted(&owner.to_txt()).len());
    if owner_chars > MAX_TXT_CHARS {
        return Err(format!(
            "the owner record has {owner_chars} characters, and Route 53 takes {MAX_TXT_CHARS}; name fewer bootstrap servers"
        ));
    }
    Ok(())
}

/// One that is answered as it stands, whoever asks.
fn is_plain(set: &ResourceRecordSet) -> Result<(), Problem> {
    let name = DnsName::new(set.name()).normal();
    let kind = set.r#type().as_str();
    let advice = "a client would flap between colours, and kutover could not tell where it is; replace it by one plain \
                  record set, and choose cohorts on the producers' side";
    if let Some(id) = set.set_identifier() {
        return refused(format!(
            "{kind} at `{name}` is one of several record sets (weighted, by latency, multi-value or the like; this one is \
             `{id}`): {advice}"
        ));
    }
    if set.traffic_policy_instance_id().is_some() {
        return refused(format!("{kind} at `{name}` belongs to a traffic policy: {advice}"));
    }
    if set.alias_target().is_none() && set.ttl().is_none() {
        return refused(format!("{kind} at `{name}` has no TTL; give it one"));
    }
    Ok(())
}

fn values(set: &ResourceRecordSet) -> impl Iterator<Item = &str> {
    set.resource_records().iter().map(ResourceRecord::value)
}

/// Whether it is the name of an Elastic Load Balancing balancer, as AWS gives them (in China they end in `.cn`).
fn is_load_balancer(name: &DnsName) -> bool {
    let name = name.as_str();
    name.trim_end_matches(".cn").ends_with(".amazonaws.com") && name.split('.').any(|label| label == "elb")
}

/// A TXT value is written as strings in double quotes. An owner record's hold neither quotes nor backslashes.
fn quoted(strings: &[String]) -> String {
    strings.iter().map(|string| format!("\"{string}\"")).collect::<Vec<_>>().join(" ")
}

/// The strings of a TXT value; one without quotes is one string.
fn strings(value: &str) -> Vec<&str> {
    if value.contains('"') { value.split('"').skip(1).step_by(2).collect() } else { vec![value] }
}

/// For the account's own audit trail.
fn comment(desired: &Published) -> String {
    match &desired.owner {
        Some(owner) => format!(
            "kutover: deployment {}, generation {}, term {}",
            owner.deployment, owner.target.generation, owner.term
        ),
        None => "kutover".into(),
    }
    .chars()
    .take(256)
    .collect()
}

/// Route 53's own words; it puts them in one of two places.
pub(super) fn messages(batch: &InvalidChangeBatch) -> String {
    let all = batch.messages().iter().map(String::as_str).chain(batch.message());
    all.filter(|message| !message.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Somebody else was there first, and who.
pub(super) fn conflict(what: &str, found: &Published, desired: &Published) -> ProviderError {
    let term = |published: &Published| published.owner.as_ref().map(|owner| owner.term);
    let reason = match &found.owner {
        None => "something else stands there now, without an owner record".to_owned(),
        Some(owner) if term(desired).is_some_and(|ours| ours < owner.term) => format!(
            "term {} of deployment {} is in force there (generation {}), a newer one than this",
            owner.term, owner.deployment, owner.target.generation
        ),
        Some(owner) => format!(
            "something else stands there now: deployment {}, generation {}, term {}, written by attempt {}",
            owner.deployment, owner.target.generation, owner.term, owner.nonce
        ),
    };
    ProviderError::new(ErrorKind::Conflict, what, format!("{reason}; read it again"))
}
