//! Looks at both clusters for a plan: asks the ports, twice where a pace is wanted, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kutover_core::cutover::{FencePolicy, Plan};
use kutover_core::decisions::stragglers::{Look, PartitionWriters};
use kutover_core::drain::{Observation, OpenTransaction};
use kutover_core::error::{ErrorKind, ProviderResult};
use kutover_core::parity::parity_plan;
use kutover_core::ports::{
    ClusterSurvey, ConnectAdmin, Item, LagQuery, NewTopic, ProducerSurvey, RefusedTopics,
};
use kutover_core::survey::{ClusterSeen, ConnectSeen, EndpointSeen, Survey, Traffic, partitions, required};
use kutover_core::words::{Colour, EndpointKey, GroupId, MEMBERS_TOPIC, Offset, TopicName, TopicPartition};
use tokio::time::Instant;

use crate::driver::{ClusterLinks, observe};

/// The connections to one cluster that a plan looks through.
#[derive(Clone)]
pub struct SurveyLinks {
    /// Those that a controller has.
    pub links: ClusterLinks,
    /// What is asked besides.
    pub look: Arc<dyn ClusterSurvey>,
    /// Its Connect workers, where connectors are to move along.
    pub workers: Option<Arc<dyn ConnectAdmin>>,
}

/// How a plan looks.
#[derive(Clone, Debug)]
pub struct Watch {
    /// For how long groups and producers are watched, to tell their pace.
    pub time: Duration,
    /// Groups that read uncommitted records.
    pub read_uncommitted: BTreeSet<GroupId>,
}

/// What is looked at.
pub struct SurveyRequest<'a> {
    /// What is wanted.
    pub plan: &'a Plan,
    /// The colour that serves.
    pub from: Colour,
    /// What was seen in DNS.
    pub endpoints: BTreeMap<EndpointKey, Item<EndpointSeen>>,
    /// The cluster that serves; `Err` says why there is no connection.
    pub old: Item<SurveyLinks>,
    /// The other one; `None` if there is nothing behind its colour.
    pub new: Option<Item<SurveyLinks>>,
    /// How.
    pub watch: &'a Watch,
}

/// Looks at everything. What does not answer is an `Err` in its place; this itself never fails.
pub async fn survey(request: SurveyRequest<'_>) -> Survey {
    let SurveyRequest { plan, from, endpoints, old, new, watch } = request;
    // Ages are told by records' timestamps, which are wall clocks.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    let look_new = async {
        match &new {
            Some(links) => Some(look_at(links).await),
            None => None,
        }
    };
    let (seen_old, seen_new) = tokio::join!(look_at(&old), look_new);
    let (mut traffic, mut refused, mut takes) = (Traffic::default(), Ok(RefusedTopics::default()), None);
    if let (Ok(links), Ok(seen)) = (&old, &seen_old) {
        if let (Some(Ok(there)), Some(Ok(seen_there))) = (&new, &seen_new) {
            let brokers = seen_there.identity.brokers.len();
            refused = told(there.look.refused_topics(&to_be_made(plan, seen, brokers)).await);
        }
        let look = watch_traffic(links, plan, seen, watch, now_ms);
        (traffic, takes) = tokio::join!(look, takes_records(links, plan, from, seen));
    }
    let (old, new, takes_records) = (seen_old, seen_new, takes);
    let (refused_configs, refused_topics) = match refused {
        Ok(refused) => (Ok(refused.configs), refused.topics),
        Err(reason) => (Err(reason), BTreeMap::new()),
    };
    Survey { from, endpoints, old, new, traffic, takes_records, refused_configs, refused_topics, now_ms }
}

/// Asks as the client that is to prove the fence, where there is to be one. What carries one already is not asked: it is
/// left over, or a rollback's.
async fn takes_records(
    SurveyLinks { links, .. }: &SurveyLinks,
    plan: &Plan,
    from: Colour,
    seen: &ClusterSeen,
) -> Option<Item<()>> {
    if plan.fence == FencePolicy::Waived || plan.to == from {
        return None;
    }
    let is_fenced = |topic: &TopicName| seen.fence.as_ref().is_ok_and(|fenced| fenced.contains(topic));
    let open: Vec<TopicName> =
        plan.moving(&seen.topics).into_keys().filter(|topic| !is_fenced(topic)).collect();
    match links.admin.prove_open(&open).await {
        Err(error) if error.kind == ErrorKind::Refused => Some(Err(error.to_string())),
        // A leader that takes nothing from anybody, or does not answer, says nothing of who asks.
        Err(_) => None,
        Ok(()) => Some(Ok(())),
    }
}

fn told<T>(answer: ProviderResult<T>) -> Item<T> {
    answer.map_err(|error| error.to_string())
}

/// A cluster that does not say who it is, or what topics it has, cannot be looked at. Where brokers do not answer at the
/// addresses that clients are sent to, they are named all the same: that may be why.
async fn look_at(links: &Item<SurveyLinks>) -> Item<ClusterSeen> {
    let SurveyLinks { links: ClusterLinks { admin, .. }, look, workers } =
        links.as_ref().map_err(Clone::clone)?;
    let identity = told(admin.identity().await)?;
    let reach = async {
        let addresses = look.client_addresses().await;
        look.reach(addresses.as_ref().unwrap_or(&identity.brokers)).await
    };
    let (topics, groups, reach) = tokio::join!(admin.topics(), admin.groups(), reach);
    let topics = told(topics).map_err(|reason| with_silent(reason, &reach))?;
    let names: Vec<TopicName> = topics.iter().map(|topic| topic.name.clone()).collect();
    let connect = async {
        match workers {
            Some(workers) => Some(told(connect_seen(&**workers).await)),
            None => None,
        }
    };
    let (described, topic_configs, brokers, access, fence, connect) = tokio::join!(
        look.describe_groups(),
        look.topic_configs(&names),
        look.broker_configs(),
        admin.access(),
        admin.fence_traces(),
        connect,
    );
    Ok(ClusterSeen {
        topics,
        groups: told(groups),
        described: told(described),
        topic_configs: told(topic_configs),
        brokers: told(brokers),
        access: told(access),
        fence: match fence {
            // What cannot be asked for one has hardly been given one.
            Err(error) if error.kind == ErrorKind::Unsupported => Ok(BTreeSet::new()),
            fence => told(fence),
        },
        reach,
        connect,
        identity,
    })
}

/// What went wrong, with the addresses that take no connection.
fn with_silent(reason: String, reach: &BTreeMap<String, Item<()>>) -> String {
    let silent: Vec<&str> =
        reach.iter().filter(|(_, answer)| answer.is_err()).map(|(address, _)| address.as_str()).collect();
    if silent.is_empty() {
        return reason;
    }
    format!("{reason}; clients are sent to {}, which takes no connection from here", silent.join(", "))
}

async fn connect_seen(workers: &dyn ConnectAdmin) -> ProviderResult<ConnectSeen> {
    let cluster_id = workers.kafka_cluster_id().await?;
    Ok(ConnectSeen { cluster_id, connectors: workers.connectors().await? })
}

/// The topics that move, as a new cluster of so many brokers would be asked to make them.
fn to_be_made(plan: &Plan, seen: &ClusterSeen, brokers: usize) -> Vec<NewTopic> {
    let moving = plan.moving(&seen.topics);
    let wanted: Vec<_> =
        seen.topics.iter().filter(|topic| moving.contains_key(&topic.name)).cloned().collect();
    parity_plan(&wanted, &[], brokers).create
}

async fn watch_traffic(
    SurveyLinks { links, look, .. }: &SurveyLinks,
    plan: &Plan,
    seen: &ClusterSeen,
    watch: &Watch,
    now_ms: i64,
) -> Traffic {
    let moving = plan.moving(&seen.topics);
    let (places, topics) = (partitions(&moving), moving.keys().cloned().collect::<Vec<_>>());
    let groups = required(plan, &seen.groups, &moving);
    let query = |read_tails| LagQuery {
        groups: groups.clone(),
        partitions: places.clone(),
        read_tails,
        read_uncommitted: watch.read_uncommitted.clone(),
    };
    let began = Instant::now();
    let (first, before) = tokio::join!(
        who_writes(&*links.survey, &places, 0),
        observe(&*links.lag, &*links.survey, query(false)),
    );
    // Coordinators answer between the looks: what is open in both was open then.
    let (open, transactional_ids, sizes, members) = tokio::join!(
        open_transactions(&*links.survey, &first),
        look.transactional_ids(),
        look.sizes(&topics),
        members(links, seen),
    );
    tokio::time::sleep_until(began + watch.time).await;
    let over_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (second, now) = tokio::join!(
        who_writes(&*links.survey, &places, over_ms),
        observe(&*links.lag, &*links.survey, query(true)),
    );
    let (before, now) = (or_silent(before, &places), or_silent(now, &places));
    let later_ms = now_ms.saturating_add(i64::try_from(over_ms).unwrap_or(0));
    let oldest = oldest_unread(&now);
    let ages = match look.ages(&oldest, later_ms).await {
        Ok(ages) => ages,
        Err(error) => oldest.into_keys().map(|place| (place, Err(error.to_string()))).collect(),
    };
    Traffic {
        first,
        second,
        transactional_ids: Some(told(transactional_ids)),
        open,
        before,
        now,
        over_ms,
        sizes: Some(told(sizes)),
        ages,
        members: Some(members),
    }
}

async fn who_writes(survey: &dyn ProducerSurvey, places: &[TopicPartition], at_ms: u64) -> Look {
    let partitions = match survey.writers(places).await {
        Ok(partitions) => partitions,
        Err(error) => places.iter().map(|place| (place.clone(), Err(error.to_string()))).collect(),
    };
    Look { at_ms, partitions }
}

/// What coordinators say of the transactions that a look has found open.
async fn open_transactions(
    survey: &dyn ProducerSurvey,
    look: &Look,
) -> BTreeMap<TopicPartition, Item<Vec<OpenTransaction>>> {
    let has_one = |writers: &PartitionWriters| writers.producers.values().any(|one| one.open_since.is_some());
    let open = look.partitions.iter().filter(|(_, answer)| answer.as_ref().is_ok_and(has_one));
    let open: Vec<TopicPartition> = open.map(|(place, _)| place.clone()).collect();
    if open.is_empty() {
        return BTreeMap::new();
    }
    match survey.open_transactions(&open).await {
        Ok(found) => found,
        Err(error) => open.into_iter().map(|place| (place, Err(error.to_string()))).collect(),
    }
}

/// An observation that failed as a whole is one in which nobody answered.
fn or_silent(seen: ProviderResult<Observation>, places: &[TopicPartition]) -> Observation {
    let silent = |error: &dyn fmt::Display| Observation {
        logs: places.iter().map(|place| (place.clone(), Err(error.to_string()))).collect(),
        ..Observation::default()
    };
    seen.unwrap_or_else(|error| silent(&error))
}

/// Where the oldest unread record of each partition stands.
fn oldest_unread(seen: &Observation) -> BTreeMap<TopicPartition, Offset> {
    let mut oldest: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    for ((_, place), progress) in &seen.progress {
        let (Ok(progress), Some(Ok(range))) = (progress, seen.logs.get(place)) else { continue };
        let from = progress.committed.unwrap_or(range.start).max(range.start);
        if from < range.end {
            let known = oldest.entry(place.clone()).or_insert(from);
            *known = from.min(*known);
        }
    }
    oldest
}

/// Producers of the library that are registered on a cluster.
async fn members(links: &ClusterLinks, seen: &ClusterSeen) -> Item<usize> {
    if !seen.topics.iter().any(|topic| topic.name.as_str() == MEMBERS_TOPIC) {
        return Ok(0);
    }
    told(links.registry.members().await).map(|members| members.len())
}
