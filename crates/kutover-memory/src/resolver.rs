//! A resolver with a cache of its own, and a producer's watch through it.
//!
//! Endpoint and owner record are two names, so they are two entries of the cache, fetched at different times: for up to
//! a TTL they may speak of different generations (L4).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kutover_core::owner::OwnerRecord;
use kutover_core::ports::{EndpointAnswer, EndpointWatch, Published, RecordData};
use kutover_core::words::DnsName;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::dns::MemoryDns;
use crate::faults::{Faults, pause};
use crate::weather::AnswerFate;

/// How a resolver keeps answers, and how a watch paces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolverOptions {
    /// The shortest time an answer is kept, whatever its TTL says. Above 0 it is a resolver that breaks the rules.
    pub min_ttl_ms: u64,
    /// For how long "no such name" is kept.
    pub negative_ttl_ms: u64,
    /// The shortest wait of a watch after an answer.
    pub min_poll_ms: u64,
    /// The wait of a watch after the first failed or empty answer; it doubles up to `max_retry_ms`.
    pub min_retry_ms: u64,
    /// The longest such wait.
    pub max_retry_ms: u64,
    /// After how long a question is given up.
    pub patience_ms: u64,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self {
            min_ttl_ms: 0,
            negative_ttl_ms: 0,
            min_poll_ms: 1000,
            min_retry_ms: 500,
            max_retry_ms: 30_000,
            patience_ms: 5000,
        }
    }
}

/// One name's answer, both parts of which are kept although one is used: what stood there, as of which change.
#[derive(Clone, Debug)]
struct Kept {
    published: Result<Published, &'static str>,
    change: usize,
    until: Instant,
}

/// A recursive resolver: what the hosts that use it share.
#[derive(Clone, Debug)]
pub struct MemoryResolver {
    dns: MemoryDns,
    name: Arc<str>,
    options: ResolverOptions,
    cache: Arc<Mutex<BTreeMap<DnsName, Kept>>>,
}

/// A part of what stands at an endpoint, as a resolver gave it.
struct Part {
    published: Result<Published, &'static str>,
    change: usize,
    left_ms: u64,
}

impl MemoryResolver {
    /// An empty cache in front of the authoritative side. Its name is what [`Weather`](crate::Weather) knows it by.
    pub fn new(dns: &MemoryDns, name: &str, options: ResolverOptions) -> Self {
        Self { dns: dns.clone(), name: name.into(), options, cache: Arc::default() }
    }

    /// A producer's watch over an endpoint through this resolver.
    pub fn watch(&self, endpoint: &DnsName) -> MemoryResolverWatch {
        let pace = tokio::sync::Mutex::default();
        MemoryResolverWatch { resolver: self.clone(), endpoint: endpoint.clone(), pace }
    }

    /// Forgets everything: the resolver starts anew.
    pub fn forget(&self) {
        self.cache.lock().clear();
    }

    fn faults(&self) -> &Faults {
        self.dns.faults()
    }

    /// Asks for an endpoint: its addresses and its owner record, each from the cache where it still holds.
    pub async fn look_up(&self, endpoint: &DnsName) -> EndpointAnswer {
        let both = async {
            let record = self.part(endpoint, endpoint.clone()).await?;
            let owner = self.part(endpoint, OwnerRecord::name_for(endpoint)).await?;
            Ok::<_, String>((record, owner))
        };
        match tokio::time::timeout(Duration::from_millis(self.options.patience_ms), both).await {
            Err(_) => EndpointAnswer::Failed("no resolver answered in time".into()),
            Ok(Err(reason)) => EndpointAnswer::Failed(reason),
            Ok(Ok((record, owner))) => self.put_together(record, owner),
        }
    }

    fn put_together(&self, record: Part, owner: Part) -> EndpointAnswer {
        if record.change != owner.change {
            self.faults().fire("dns-parts-disagree");
        }
        let ttl_ms = record.left_ms.min(owner.left_ms);
        let owner = match owner.published {
            Ok(published) => published.owner,
            Err(reason) => return EndpointAnswer::Failed(reason.into()),
        };
        // The addresses are in order even where the owner record is not.
        let set = record.published.ok().and_then(|published| published.endpoint);
        match set.map(|set| set.data) {
            Some(RecordData::Addresses(addresses)) if !addresses.is_empty() => {
                EndpointAnswer::Found { addresses, owner, ttl_ms }
            }
            Some(RecordData::Cname(name)) => EndpointAnswer::Failed(format!("no addresses at {name}")),
            _ => EndpointAnswer::Empty,
        }
    }

    /// One of the two names.
    async fn part(&self, endpoint: &DnsName, name: DnsName) -> Result<Part, String> {
        let kept = self.cache.lock().get(&name).cloned();
        let now = Instant::now();
        if let Some(kept) = kept.clone().filter(|kept| kept.until > now) {
            return Ok(kept.part(now));
        }
        let answer = self.faults().weather().map(|weather| weather.answer(&self.name, &name));
        let answer = answer.unwrap_or_default();
        pause(answer.delay_ms).await;
        let (change, published) = match answer.fate {
            AnswerFate::Fresh => self.dns.served(endpoint),
            AnswerFate::Old => match kept {
                Some(kept) => {
                    self.faults().fire("dns-old");
                    (kept.change, kept.published)
                }
                None => self.dns.served(endpoint),
            },
            AnswerFate::Dead => {
                self.faults().fire("dns-dead");
                return std::future::pending().await;
            }
            AnswerFate::ServFail => {
                self.faults().fire("dns-servfail");
                return Err("SERVFAIL".into());
            }
            AnswerFate::Empty => {
                self.faults().fire("dns-empty");
                (self.dns.served(endpoint).0, Ok(Published::default()))
            }
        };
        let now = Instant::now();
        let set = published.as_ref().ok().and_then(|published| published.endpoint.as_ref());
        let ttl_ms = set.map_or(self.options.negative_ttl_ms, |set| u64::from(set.ttl_s) * 1000);
        if ttl_ms < self.options.min_ttl_ms {
            self.faults().fire("dns-min-ttl");
        }
        let until = now + Duration::from_millis(ttl_ms.max(self.options.min_ttl_ms));
        let kept = Kept { published, change, until };
        self.cache.lock().insert(name, kept.clone());
        Ok(kept.part(now))
    }
}

impl Kept {
    fn part(self, now: Instant) -> Part {
        let left_ms = (self.until - now).as_millis() as u64;
        Part { published: self.published, change: self.change, left_ms }
    }
}

#[derive(Debug, Default)]
struct Pace {
    due: Option<Instant>,
    misses: u32,
}

/// A producer's watch. There is no cache of its own in front of the resolver's.
#[derive(Debug)]
pub struct MemoryResolverWatch {
    resolver: MemoryResolver,
    endpoint: DnsName,
    pace: tokio::sync::Mutex<Pace>,
}

#[async_trait]
impl EndpointWatch for MemoryResolverWatch {
    async fn next(&self) -> EndpointAnswer {
        let mut pace = self.pace.lock().await;
        if let Some(due) = pace.due {
            tokio::time::sleep_until(due).await;
        }
        let answer = self.resolver.look_up(&self.endpoint).await;
        let options = &self.resolver.options;
        let wait_ms = if let EndpointAnswer::Found { ttl_ms, .. } = &answer {
            pace.misses = 0;
            (*ttl_ms).max(options.min_poll_ms)
        } else {
            let doubled = options.min_retry_ms << pace.misses.min(16);
            pace.misses += 1;
            doubled.min(options.max_retry_ms)
        };
        pace.due = Some(Instant::now() + Duration::from_millis(wait_ms));
        answer
    }

    async fn ask_now(&self) -> EndpointAnswer {
        self.resolver.look_up(&self.endpoint).await
    }
}
