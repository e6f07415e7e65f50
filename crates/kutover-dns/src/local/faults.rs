//! How a [`LocalServer`](super::LocalServer) is made to misbehave, and what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use hickory_proto::rr::RecordType;
use kutover_core::error::ProviderResult;
use kutover_core::ports::Published;
use kutover_core::words::DnsName;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::kept::ZoneFile;
use super::zone::Zone;

/// A wrong answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// SERVFAIL.
    ServFail,
    /// The name exists, and has nothing of the kind (RFC 2308, 2.2).
    NoData,
    /// The name does not exist.
    NxDomain,
    /// No answer at all.
    Silence,
}

/// Which questions a [`Fault`] meets. If several do, the first in this order counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Questions for one name, of any type. The owner record has a name of its own.
    Name(DnsName),
    /// AAAA alone, as servers get it wrong that know IPv4 only (RFC 4074).
    Ipv6,
    /// A and AAAA.
    Addresses,
    /// TXT.
    Owner,
    /// All of them.
    Everything,
}

/// What gets lost of a compare-and-set. The caller sees the same in both cases: unreachable, outcome unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lost {
    /// The request: nothing changes.
    Request,
    /// The reply: the change is made if it could be.
    Reply,
}

/// How many questions have come in, answered or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryCounts {
    /// For A or AAAA.
    pub addresses: u64,
    /// For TXT.
    pub owner: u64,
    /// For anything else.
    pub other: u64,
    /// By name, whatever the type.
    pub by_name: BTreeMap<DnsName, u64>,
}

impl QueryCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.addresses + self.owner + self.other
    }
}

/// The server's state: what is stored, what is served, and what goes wrong.
pub(super) struct Shared {
    pub(super) zones: RwLock<Zones>,
    faults: Mutex<BTreeMap<Scope, Fault>>,
    losses: Mutex<VecDeque<Lost>>,
    counts: watch::Sender<QueryCounts>,
}

/// The zone as it is stored and, while it is frozen, as it is served.
pub(super) struct Zones {
    pub(super) stored: Zone,
    frozen: Option<Zone>,
    /// Where the stored one is kept, if it is.
    kept: Option<ZoneFile>,
}

impl Zones {
    pub(super) fn served(&self) -> &Zone {
        self.frozen.as_ref().unwrap_or(&self.stored)
    }

    /// Compares, sets and, where the zone is kept, makes it durable before anybody can see it.
    pub(super) fn compare_and_set(
        &mut self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        let mut next = self.stored.clone();
        self.check_kept(&format!("publish {endpoint}"))?;
        next.compare_and_set(endpoint, expected, desired)?;
        if let Some(file) = &mut self.kept {
            file.store(&next)?;
        }
        self.stored = next;
        Ok(())
    }

    /// Whether what is stored here is known to be what is kept.
    pub(super) fn check_kept(&self, what: &str) -> ProviderResult<()> {
        self.kept.as_ref().map_or(Ok(()), |file| file.check(what))
    }

    pub(super) fn are_kept(&self) -> bool {
        self.kept.is_some()
    }
}

impl Shared {
    pub(super) fn new(zone: Zone, kept: Option<ZoneFile>) -> Self {
        Self {
            zones: RwLock::new(Zones { stored: zone, frozen: None, kept }),
            faults: Mutex::default(),
            losses: Mutex::default(),
            counts: watch::Sender::default(),
        }
    }

    pub(super) fn count(&self, name: &DnsName, kind: RecordType) {
        self.counts.send_modify(|counts| {
            match kind {
                RecordType::A | RecordType::AAAA => counts.addresses += 1,
                RecordType::TXT => counts.owner += 1,
                _ => counts.other += 1,
            }
            *counts.by_name.entry(name.clone()).or_default() += 1;
        });
    }

    pub(super) fn fault_for(&self, name: &DnsName, kind: RecordType) -> Option<Fault> {
        let of_kind = match kind {
            RecordType::A | RecordType::AAAA => Some(Scope::Addresses),
            RecordType::TXT => Some(Scope::Owner),
            _ => None,
        };
        let faults = self.faults.lock();
        let ipv6 = (kind == RecordType::AAAA).then_some(Scope::Ipv6);
        let scopes = [Some(Scope::Name(name.clone())), ipv6, of_kind, Some(Scope::Everything)];
        scopes.into_iter().flatten().find_map(|scope| faults.get(&scope).copied())
    }

    pub(super) fn next_loss(&self) -> Option<Lost> {
        self.losses.lock().pop_front()
    }
}

/// The knobs of one server. Clones turn the same ones.
#[derive(Clone)]
pub struct Faults {
    pub(super) shared: Arc<Shared>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("set", &*self.shared.faults.lock()).finish_non_exhaustive()
    }
}

impl Faults {
    /// Answers questions within `scope` wrongly from now on.
    pub fn set(&self, scope: Scope, fault: Fault) {
        self.shared.faults.lock().insert(normal_scope(scope), fault);
    }

    /// Answers questions within `scope` as they should be again; other scopes' faults stay.
    pub fn clear(&self, scope: Scope) {
        self.shared.faults.lock().remove(&normal_scope(scope));
    }

    /// Serves what is stored now until [`thaw`](Self::thaw), whatever is stored meanwhile: a change that becomes
    /// visible late, or a stale answer.
    pub fn freeze(&self) {
        let mut zones = self.shared.zones.write();
        zones.frozen = Some(zones.stored.clone());
    }

    /// Serves what is stored again.
    pub fn thaw(&self) {
        self.shared.zones.write().frozen = None;
    }

    /// Puts any text in the place of an endpoint's owner record, as somebody else might write it.
    pub fn put_owner_text(&self, endpoint: &DnsName, strings: &[&str]) {
        let strings = strings.iter().map(|&string| string.to_owned()).collect();
        self.shared.zones.write().stored.put_foreign_owner(endpoint, Some(strings));
    }

    /// Takes such a text away; the owner record that was published is there again.
    pub fn remove_owner_text(&self, endpoint: &DnsName) {
        self.shared.zones.write().stored.put_foreign_owner(endpoint, None);
    }

    /// Loses a part of the next compare-and-set. Called twice, it loses a part of the next two.
    pub fn lose_next(&self, part: Lost) {
        self.shared.losses.lock().push_back(part);
    }

    /// Ends all faults: answers, frozen answers, losses to come. Texts put in an owner record's place stay.
    pub fn heal(&self) {
        self.shared.faults.lock().clear();
        self.shared.losses.lock().clear();
        self.thaw();
    }

    /// How many questions have come in. `is_visible` asks too.
    pub fn queries(&self) -> QueryCounts {
        self.shared.counts.borrow().clone()
    }

    /// Waits until the counts are as wanted, and gives them.
    pub async fn queried(&self, wanted: impl FnMut(&QueryCounts) -> bool) -> QueryCounts {
        let mut counts = self.shared.counts.subscribe();
        match counts.wait_for(wanted).await {
            Ok(counts) => counts.clone(),
            // The sender lives in `self`, so it cannot be gone.
            Err(_) => self.queries(),
        }
    }
}

fn normal_scope(scope: Scope) -> Scope {
    match scope {
        Scope::Name(name) => Scope::Name(name.normal()),
        other => other,
    }
}
