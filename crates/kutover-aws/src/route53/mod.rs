//! [`DnsProvider`] over Route 53.
//!
//! A compare-and-set is one change batch, which Route 53 carries out whole or not at all: it deletes exactly the record
//! sets that stand there, the owner record among them, and creates the new ones. Whoever else has changed any of them
//! makes the deletion fail. The SDK's own retries are off: it would retry a change whose reply got lost, be refused
//! since that change had succeeded, and report the refusal. What became of a change is looked up here instead.

mod records;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_route53::Client;
use aws_sdk_route53::config::http::HttpResponse;
use aws_sdk_route53::config::retry::RetryConfig;
use aws_sdk_route53::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_route53::operation::change_resource_record_sets::ChangeResourceRecordSetsError;
use aws_sdk_route53::types::{ChangeBatch, ChangeStatus, ResourceRecordSet, RrType};
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::owner::OwnerRecord;
use kutover_core::ports::{DnsProvider, Published, RecordSet};
use kutover_core::words::{DnsName, EndpointKey, ZoneId};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::connect::Aws;
use crate::failure::{failed, is_passing};
use crate::pace::Pace;
use records::Stored;

/// Five requests a second per account, for all of its tools together (Route 53 Developer Guide, Quotas).
const GAP: Duration = Duration::from_millis(200);
/// How often a request is made that is throttled or whose fate is not known.
const ATTEMPTS: u32 = 5;
/// The first pause between two of them; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The pause between two questions about one change: INSYNC takes up to a minute, and other tools share the quota.
const SYNC_POLL: Duration = Duration::from_secs(1);
/// Record sets per page: more than stand at an endpoint and below it, unless it is a zone's apex.
const PAGE: i32 = 100;

/// Which hosted zones, and how load balancers are pointed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route53Options {
    /// The zone that the endpoints lie in. Its hosted zone is looked up by this name, unless `zone_ids` names some.
    pub zone: DnsName,
    /// The hosted zones by their ids, where the name alone is not enough: endpoints in several zones, or one of several zones
    /// of the same name. An endpoint is kept in the one with the longest name that it lies in. No two may have one name: for one
    /// endpoint in each of them there is [`Route53::pinned`].
    pub zone_ids: Vec<String>,
    /// The hosted zone of the load balancers (`CanonicalHostedZoneID`). With it, a name of a load balancer is stored as
    /// an alias instead of a CNAME; an alias may stand at a zone's apex, and its TTL is always 60 s.
    pub alias_zone_id: Option<String>,
    /// The shortest time between two requests. Default 200 ms, which is Route 53's quota.
    pub gap: Duration,
}

impl Route53Options {
    /// Looks the hosted zone up by name, stores CNAMEs, and keeps to Route 53's quota.
    pub fn new(zone: DnsName) -> Self {
        Self { zone, zone_ids: Vec::new(), alias_zone_id: None, gap: GAP }
    }

    /// What keeps the record set that stands at an endpoint from being taken up, and the fix: it is to be an alias, and has
    /// another TTL than an alias can have.
    pub fn fault_of(&self, stands: &RecordSet) -> Option<String> {
        self.alias_zone_id.as_ref().and_then(|_| records::alias_fault(stands, true))
    }
}

/// The authoritative side of DNS in Route 53. Use one for all endpoints, with those that it was asked for by
/// [`Route53::pinned`]: they keep the quota across their calls.
#[derive(Debug)]
pub struct Route53 {
    client: Client,
    options: Route53Options,
    pace: Arc<Pace>,
    zones: OnceCell<Vec<HostedZone>>,
    /// The only zone, where the caller has named it.
    pinned: Option<ZoneId>,
    /// The last change of ours at each endpoint, whose progress can be asked for.
    changes: Mutex<BTreeMap<DnsName, Change>>,
}

#[derive(Clone, Debug)]
struct HostedZone {
    id: String,
    apex: DnsName,
}

#[derive(Clone, Debug)]
struct Change {
    id: String,
    published: Published,
    /// When its progress may be asked for again.
    next_look: Option<Instant>,
}

impl Route53 {
    /// A provider for some hosted zones; they are looked up with the first call.
    pub fn new(aws: &Aws, options: Route53Options) -> Self {
        let config =
            aws_sdk_route53::config::Builder::from(aws.config()).retry_config(RetryConfig::disabled());
        Self {
            client: Client::from_conf(config.build()),
            pace: Arc::new(Pace::new(options.gap)),
            options,
            pinned: None,
            zones: OnceCell::new(),
            changes: Mutex::default(),
        }
    }

    /// The same for one hosted zone alone, whatever others there are of its name.
    #[must_use]
    pub fn pinned(&self, zone: &ZoneId) -> Self {
        Self {
            client: self.client.clone(),
            pace: Arc::clone(&self.pace),
            options: Route53Options { zone_ids: vec![zone.as_str().to_owned()], ..self.options.clone() },
            pinned: Some(zone.clone()),
            zones: OnceCell::new(),
            changes: Mutex::default(),
        }
    }

    /// An endpoint as people are told of it.
    fn shown(&self, endpoint: &DnsName) -> EndpointKey {
        EndpointKey { name: endpoint.clone(), zone: self.pinned.clone() }
    }

    /// Asks something that changes nothing, again while that can help.
    async fn ask<T, E, F>(&self, what: &str, send: impl Fn() -> F) -> ProviderResult<T>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            self.pace.turn().await;
            match send().await.map_err(|error| failed(what, &error)) {
                Err(error) if is_passing(&error) => tracing::debug!(%error, "asked again after {pause:?}"),
                done => return done.map_err(|error| error.with_outcome(Outcome::NotDone)),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.pace.turn().await;
        send().await.map_err(|error| failed(what, &error).with_outcome(Outcome::NotDone))
    }

    /// The hosted zone that holds an endpoint.
    async fn zone_of(&self, endpoint: &DnsName, what: &str) -> ProviderResult<&HostedZone> {
        let zones = self.zones.get_or_try_init(|| self.find_zones()).await?;
        let holds = |zone: &&HostedZone| endpoint.normal().is_in_zone(&zone.apex);
        zones.iter().filter(holds).max_by_key(|zone| zone.apex.as_str().len()).ok_or_else(|| {
            let names: Vec<_> = zones.iter().map(|zone| format!("`{}`", zone.apex)).collect();
            let reason =
                format!("it lies in none of {}; correct it, or {}", names.join(", "), self.id_field());
            ProviderError::new(ErrorKind::NotFound, what, reason)
        })
    }

    async fn find_zones(&self) -> ProviderResult<Vec<HostedZone>> {
        if self.options.zone_ids.is_empty() {
            return self.zone_by_name().await.map(|zone| vec![zone]);
        }
        let mut zones = Vec::new();
        for id in &self.options.zone_ids {
            let what = format!("look up hosted zone {id}");
            let found = self.ask(&what, || self.client.get_hosted_zone().id(id).send()).await;
            let found = found.map_err(|error| self.none_of_that_id(error))?;
            let Some(zone) = found.hosted_zone else {
                return Err(ProviderError::new(ErrorKind::Invalid, what, "the answer holds no zone"));
            };
            let apex = DnsName::new(zone.name).normal();
            if let Some(twin) = zones.iter().find(|known: &&HostedZone| known.apex == apex) {
                return Err(ProviderError::new(ErrorKind::Refused, what, twins(&twin.id, id, &apex)));
            }
            zones.push(HostedZone { id: id.clone(), apex });
        }
        Ok(zones)
    }

    /// Says where the id stands that AWS knows nothing of.
    fn none_of_that_id(&self, error: ProviderError) -> ProviderError {
        if error.kind != ErrorKind::NotFound {
            return error;
        }
        ProviderError { reason: format!("{}; correct {}", error.reason, self.id_field()), ..error }
    }

    /// The field that ids of hosted zones stand in.
    fn id_field(&self) -> &'static str {
        if self.pinned.is_some() { "its `zone_id`" } else { "`dns.zone_ids`" }
    }

    async fn zone_by_name(&self) -> ProviderResult<HostedZone> {
        let zone = &self.options.zone;
        let what = format!("look up the hosted zone of `{zone}`");
        let ask = || self.client.list_hosted_zones_by_name().dns_name(zone.as_str()).send();
        let found = self.ask(&what, ask).await?;
        let mut ids: Vec<String> = found
            .hosted_zones
            .into_iter()
            .filter(|found| DnsName::new(found.name()).normal() == zone.normal())
            .map(|found| found.id().trim_start_matches("/hostedzone/").to_owned())
            .collect();
        match (ids.pop(), ids.as_slice()) {
            (Some(id), []) => Ok(HostedZone { id, apex: zone.normal() }),
            (Some(last), others) => {
                let ids = [others, &[last]].concat().join(", ");
                let reason = format!(
                    "there are several ({ids}); name the one that is meant in `dns.zone_ids`, or each endpoint's `zone_id`"
                );
                Err(ProviderError::new(ErrorKind::Refused, what, reason))
            }
            (None, _) => {
                let reason = "this account has none of that name; make it, or correct `dns.zone`";
                Err(ProviderError::new(ErrorKind::NotFound, what, reason))
            }
        }
    }

    /// All record sets at an endpoint and at its owner record's name. One page in all but odd cases, so that both are
    /// of one moment.
    async fn stored(&self, zone: &HostedZone, endpoint: &DnsName, what: &str) -> ProviderResult<Stored> {
        let endpoint = endpoint.normal();
        let owner = OwnerRecord::name_for(&endpoint);
        let list = |from: DnsName| {
            let request = self.client.list_resource_record_sets().hosted_zone_id(&zone.id).max_items(PAGE);
            request.start_record_name(format!("{from}.")).start_record_type(RrType::A)
        };
        let page = self.ask(what, || list(endpoint.clone()).send()).await?;
        // Names are in the order of their labels from the right, so what is below the endpoint follows it at once.
        let below = |set: &ResourceRecordSet| {
            let name = DnsName::new(set.name()).normal();
            name.is_in_zone(&endpoint)
        };
        let is_cut = page.is_truncated && page.resource_record_sets.last().is_some_and(below);
        let mut sets = page.resource_record_sets;
        if is_cut && !sets.iter().any(|set| DnsName::new(set.name()).normal() == owner) {
            sets.extend(self.ask(what, || list(owner.clone()).send()).await?.resource_record_sets);
        }
        Ok(Stored::new(sets, &endpoint))
    }

    /// One change batch, once. The change's id.
    async fn change(&self, zone: &HostedZone, batch: ChangeBatch, what: &str) -> ProviderResult<String> {
        self.pace.turn().await;
        let request = self.client.change_resource_record_sets().hosted_zone_id(&zone.id).change_batch(batch);
        match request.send().await {
            Ok(reply) => reply.change_info.map(|info| info.id).ok_or_else(|| {
                let error = ProviderError::new(ErrorKind::Invalid, what, "the answer names no change");
                error.with_outcome(Outcome::Unknown)
            }),
            Err(error) => Err(match error.as_service_error() {
                // As a whole, and nothing was done: something that it names is not as it says, or must not be.
                Some(ChangeResourceRecordSetsError::InvalidChangeBatch(batch)) => {
                    ProviderError::new(ErrorKind::Refused, what, records::messages(batch))
                }
                _ => failed(what, &error),
            }),
        }
    }

    /// Swaps what stands at an endpoint; see the module.
    async fn swap(
        &self,
        zone: &HostedZone,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<Option<String>> {
        let what = format!("publish {}", self.shown(endpoint));
        let mut tried: Option<(Stored, ProviderError)> = None;
        // Whether an attempt may yet land.
        let mut fate = Outcome::NotDone;
        let mut pause = FIRST_PAUSE;
        for _ in 0..ATTEMPTS {
            let stored =
                self.stored(zone, endpoint, &what).await.map_err(|error| error.with_outcome(fate))?;
            let found = stored.published(&what).map_err(|error| error.with_outcome(fate))?;
            match &tried {
                // The owner record's nonce is ours, and the term: the change whose reply got lost was made.
                Some(_) if found == *desired => return Ok(None),
                // An attempt of ours may have landed before what stands there now; none can any more.
                _ if found != *expected => {
                    return Err(records::conflict(&what, &found, desired).with_outcome(fate));
                }
                // Nothing has changed, and still it was refused: it is the change itself that Route 53 does not like.
                Some((before, error)) if error.kind == ErrorKind::Refused && *before == stored => {
                    return Err(error.clone().with_outcome(fate));
                }
                _ => {}
            }
            stored.check_room(endpoint, desired, self.options.alias_zone_id.is_some(), &what)?;
            let Some(batch) =
                stored.batch(endpoint, desired, self.options.alias_zone_id.as_deref(), &what)?
            else {
                return Ok(None);
            };
            let error = match self.change(zone, batch, &what).await {
                Ok(id) => return Ok(Some(id)),
                Err(error) => error,
            };
            if error.outcome == Outcome::Unknown {
                fate = Outcome::Unknown;
            }
            if error.kind != ErrorKind::Refused && !is_passing(&error) {
                return Err(error.with_outcome(fate));
            }
            tracing::debug!(%error, "read again to see what became of it");
            tried = Some((stored, error));
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        let reason = "it was not answered, or too busy, each time; read it again";
        let error =
            tried.map_or_else(|| ProviderError::new(ErrorKind::Unavailable, &what, reason), |tried| tried.1);
        Err(error.with_outcome(fate))
    }

    /// The change that put `published` at an endpoint, if it stands there. A controller before this one may have made
    /// it, and its id died with that: then the same records are put in their own place, which is a change that can be
    /// asked for and that comes after it.
    async fn change_of(&self, endpoint: &DnsName, published: &Published) -> ProviderResult<Option<Change>> {
        let known =
            || self.changes.lock().get(endpoint).filter(|change| change.published == *published).cloned();
        if let Some(change) = known() {
            return Ok(Some(change));
        }
        match self.compare_and_set(endpoint, published, published).await {
            Ok(()) => Ok(known()),
            Err(error) if error.kind == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A name alone says of neither which is meant.
fn twins(one: &str, other: &str, apex: &DnsName) -> String {
    format!(
        "hosted zones {one} and {other} are both named `{apex}`, and a name alone does not say which of them keeps it. If clients \
         ask both, as with a private and a public zone, give the endpoint once for each, with its `zone_id`; otherwise name one \
         of the two in `dns.zone_ids`"
    )
}

#[async_trait]
impl DnsProvider for Route53 {
    async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published> {
        let what = format!("read {}", self.shown(endpoint));
        let zone = self.zone_of(endpoint, &what).await?;
        self.stored(zone, endpoint, &what).await?.published(&what)
    }

    async fn compare_and_set(
        &self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        let what = format!("publish {}", self.shown(endpoint));
        let zone = self.zone_of(endpoint, &what).await?;
        let (expected, desired) = (expected.normal(), desired.normal());
        records::check(endpoint, &zone.apex, &expected, &desired, self.options.alias_zone_id.is_some())
            .map_err(|reason| ProviderError::new(ErrorKind::Refused, &what, reason))?;
        let id = self.swap(zone, endpoint, &expected, &desired).await?;
        let mut changes = self.changes.lock();
        match id {
            Some(id) => changes.insert(endpoint.clone(), Change { id, published: desired, next_look: None }),
            None => changes.remove(endpoint),
        };
        Ok(())
    }

    async fn is_visible(&self, endpoint: &DnsName, published: &Published) -> ProviderResult<bool> {
        let what = format!("check what is served for {}", self.shown(endpoint));
        let published = published.normal();
        let Some(change) = self.change_of(endpoint, &published).await? else {
            return Ok(self.read(endpoint).await? == published && published == Published::default());
        };
        if let Some(next_look) = change.next_look {
            tokio::time::sleep_until(next_look).await;
        }
        let answer = self.ask(&what, || self.client.get_change().id(&change.id).send()).await?;
        if answer.change_info.is_some_and(|info| info.status == ChangeStatus::Insync) {
            // Its successor may be under way.
            return Ok(self.read(endpoint).await? == published);
        }
        if let Some(asked) = self.changes.lock().get_mut(endpoint).filter(|kept| kept.id == change.id) {
            asked.next_look = Some(Instant::now() + SYNC_POLL);
        }
        Ok(false)
    }
}
