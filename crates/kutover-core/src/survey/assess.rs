//! What would happen, from what was seen.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::access::AccessReport;
use super::configs::{self, BrokerSetting, ConfigDifference, in_force};
use super::connect::{self, ConnectReport};
use super::estimate::{Estimates, estimate};
use super::fence;
use super::groups::{self, GroupReport, left};
use super::own_topics::{self, AclsAsked};
use super::readers;
use super::refusals::{Facets, deletes, gather};
use super::traffic::{OpenReport, TopicWriters, by_topic, open, transactional_ids, unanswered};
use super::{ClusterSeen, Refusal, Survey, Waivers, partitions, required};
use crate::cutover::Plan;
use crate::decisions::history::{self, TopicFate, TopicHistory};
use crate::parity::{AccessPlan, Difference, ParityPlan, access_plan, parity_plan};
use crate::ports::{GroupProtocol, NewTopic};
use crate::words::{Colour, DeploymentName, EndpointKey, GroupId, TopicName};

/// What a plan came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A cutover can begin.
    Ready,
    /// A cutover would lose something, or could not end, unless it is mended or waived.
    Refused,
    /// A cluster or the DNS did not answer.
    Unreachable,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterReport {
    /// Its colour.
    pub colour: Colour,
    /// Kafka's own id of it; `None` if it did not answer.
    pub cluster_id: Option<String>,
    /// Its version as far as it can be told.
    pub version: Option<String>,
    /// The addresses that it advertises.
    pub brokers: BTreeSet<String>,
    /// Its topics, reserved ones left out.
    pub topics: usize,
    /// Why it did not answer.
    pub unreachable: Option<String>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointReport {
    /// Its name.
    pub name: EndpointKey,
    /// Its TTL in seconds; `None` if it has no record, or did not answer.
    pub ttl_s: Option<u32>,
    /// The generation in its owner record; `None` for a deployment that kutover has not seen.
    pub generation: Option<u64>,
    /// Why it did not answer.
    pub unreachable: Option<String>,
}

/// What becomes of one topic's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicHistoryReport {
    /// The topic and its fate.
    #[serde(flatten)]
    pub fate: TopicFate,
    /// Records that are there now; `None` if a partition did not answer.
    pub records: Option<u64>,
}

/// Something that was asked and not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// What.
    pub what: String,
    /// Why not.
    pub reason: String,
}

/// The plan, as it is written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Assessment {
    /// The form of the rest.
    pub schema: &'static str,
    /// The deployment.
    pub deployment: DeploymentName,
    /// What it came to.
    pub outcome: Outcome,
    /// The colour that serves.
    pub from: Colour,
    /// The colour that is to serve.
    pub to: Colour,
    /// Whether that colour serves already.
    pub nothing_to_do: bool,
    /// What it is refused over.
    pub refusals: Vec<Refusal>,
    /// What it would be refused over if it had not been waived.
    pub waived: Vec<Refusal>,
    /// What is refused over nothing, and should be known.
    pub notes: Vec<String>,
    /// What was not answered.
    pub unknown: Vec<Unknown>,
    /// DNS.
    pub endpoints: Vec<EndpointReport>,
    /// The clusters: the one that serves first.
    pub clusters: Vec<ClusterReport>,
    /// Topics that move, with their partitions.
    pub topics: BTreeMap<TopicName, i32>,
    /// Topics to be made on the new cluster, or to be given more partitions.
    pub create: Vec<NewTopic>,
    /// What differs although it is set on both clusters.
    pub differences: Vec<Difference>,
    /// What differs by default, or is not known to the new cluster.
    pub configs: Vec<ConfigDifference>,
    /// Who may do what.
    pub access: AccessReport,
    /// ACLs that the clusters are asked to have, on kutover's own topics.
    pub acls_asked: Vec<AclsAsked>,
    /// Brokers' settings that matter.
    pub brokers: Vec<BrokerSetting>,
    /// The old cluster's groups.
    pub groups: Vec<GroupReport>,
    /// Who writes, by topic.
    pub producers: BTreeMap<TopicName, TopicWriters>,
    /// Producers of the library that are registered; `None` if that was not answered.
    pub members: Option<usize>,
    /// Transactions that stand open.
    pub transactions: Vec<OpenReport>,
    /// Kafka Connect.
    pub connect: ConnectReport,
    /// Topics whose retention is without limit on both clusters while the cutover runs.
    pub raised_retention: BTreeSet<TopicName>,
    /// Topics of the cluster that serves on which a fence is left over, or a part of one: the next start lifts it.
    pub left_fence: BTreeSet<TopicName>,
    /// What becomes of each topic's history.
    pub history: Vec<TopicHistoryReport>,
    /// How long it would take. Rates are from the two looks.
    pub estimates: Estimates,
    /// Milliseconds between the two looks that rates were measured by.
    pub measured_over_ms: u64,
}

/// The form of an [`Assessment`] as JSON.
const SCHEMA: &str = "kutover.plan/1";

/// Judges what was seen against what is wanted.
pub fn assess(survey: &Survey, plan: &Plan, waivers: &Waivers) -> Assessment {
    let mut assessment = blank(survey, plan);
    let Ok(old) = &survey.old else { return assessment };
    let new = survey.new.as_ref().and_then(|new| new.as_ref().ok());
    let moving = plan.moving(&old.topics);
    assessment.unknown.extend(unknown(survey, old, new));
    assessment.topics = moving.clone();
    assessment.producers = by_topic(&survey.traffic);
    assessment.connect = connect::report(old);
    assessment.brokers = configs::broker_settings(old, new);
    assessment.left_fence = left_fence(survey, old);
    if assessment.nothing_to_do {
        return assessment;
    }
    let (mut parity, mut access) = (ParityPlan::default(), AccessPlan::default());
    if let Some(new) = new {
        let wanted: Vec<_> =
            old.topics.iter().filter(|topic| moving.contains_key(&topic.name)).cloned().collect();
        parity = parity_plan(&wanted, &new.topics, new.identity.brokers.len());
        assessment.configs = configs::differences(old, new, &moving, &survey.refused_configs);
        if let (Ok(ours), Ok(theirs)) = (&old.access, &new.access) {
            access = access_plan(ours, theirs);
        }
    }
    let required = required(plan, &old.groups, &moving);
    let unread = groups::unread(&survey.traffic, &drainable(old, &required), &partitions(&moving));
    assessment.groups = groups::report(old, plan, &moving, &required, &survey.traffic, &unread);
    assessment.transactions = open(survey, longest_transaction_ms(old));
    assessment.history = histories(survey, plan, old, &moving);
    assessment.raised_retention = plan.raising(&moving);
    assessment.raised_retention.retain(|topic| deletes(old, topic));
    assessment.estimates = estimate(survey, plan, &assessment.groups, (old, new));
    let fates: Vec<TopicFate> = assessment.history.iter().map(|one| one.fate.clone()).collect();
    let facets = Facets {
        survey,
        plan,
        waivers,
        old,
        new,
        moving: &moving,
        required: &required,
        unread: &unread,
        parity: &parity,
        access: &access,
        configs: &assessment.configs,
        fates: &fates,
        transactions: &assessment.transactions,
    };
    let (found, of_rollback) = (gather(&facets), fence::of_rollback(&facets));
    assessment.notes.extend(of_rollback);
    assessment.notes.extend(readers::missing(&facets));
    (assessment.refusals, assessment.waived) = (found.refusals, found.waived);
    assessment.acls_asked = own_topics::asked(survey.from, (old, new), &access.grant.acls, waivers);
    (assessment.create, assessment.differences) = (parity.create, parity.differences);
    assessment.access = AccessReport::of(access);
    if assessment.outcome == Outcome::Ready && !assessment.refusals.is_empty() {
        assessment.outcome = Outcome::Refused;
    }
    assessment
}

/// What can be said before any cluster is looked into.
fn blank(survey: &Survey, plan: &Plan) -> Assessment {
    let mut clusters = vec![cluster(survey.from, &survey.old)];
    clusters.extend(survey.new.as_ref().map(|new| cluster(survey.from.other(), new)));
    let endpoint = |(name, seen): (&EndpointKey, &Result<super::EndpointSeen, String>)| {
        let answered = seen.as_ref().ok();
        EndpointReport {
            name: name.clone(),
            ttl_s: answered.and_then(|seen| seen.record.as_ref()).map(|(_, ttl_s)| *ttl_s),
            generation: answered.and_then(|seen| seen.owner.as_ref()).map(|owner| owner.target.generation.0),
            unreachable: seen.as_ref().err().cloned(),
        }
    };
    let endpoints: Vec<EndpointReport> = survey.endpoints.iter().map(endpoint).collect();
    let is_silent = clusters.iter().any(|cluster| cluster.unreachable.is_some())
        || endpoints.iter().any(|endpoint| endpoint.unreachable.is_some());
    Assessment {
        schema: SCHEMA,
        deployment: plan.deployment.clone(),
        outcome: if is_silent { Outcome::Unreachable } else { Outcome::Ready },
        from: survey.from,
        to: plan.to,
        nothing_to_do: survey.from == plan.to,
        refusals: Vec::new(),
        waived: Vec::new(),
        notes: Vec::new(),
        unknown: Vec::new(),
        endpoints,
        clusters,
        topics: BTreeMap::new(),
        create: Vec::new(),
        differences: Vec::new(),
        configs: Vec::new(),
        access: AccessReport::default(),
        acls_asked: Vec::new(),
        brokers: Vec::new(),
        groups: Vec::new(),
        producers: BTreeMap::new(),
        members: survey.traffic.members.as_ref().and_then(|members| members.as_ref().ok().copied()),
        transactions: Vec::new(),
        connect: ConnectReport::default(),
        raised_retention: BTreeSet::new(),
        left_fence: BTreeSet::new(),
        history: Vec::new(),
        estimates: Estimates::default(),
        measured_over_ms: survey.traffic.over_ms,
    }
}

fn cluster(colour: Colour, seen: &Result<ClusterSeen, String>) -> ClusterReport {
    match seen {
        Ok(seen) => ClusterReport {
            colour,
            cluster_id: Some(seen.identity.cluster_id.to_string()),
            version: seen.identity.version.clone(),
            brokers: seen.identity.brokers.clone(),
            topics: seen
                .topics
                .iter()
                .filter(|topic| !crate::words::is_reserved_topic(topic.name.as_str()))
                .count(),
            unreachable: None,
        },
        Err(reason) => ClusterReport {
            colour,
            cluster_id: None,
            version: None,
            brokers: BTreeSet::new(),
            topics: 0,
            unreachable: Some(reason.clone()),
        },
    }
}

fn unknown(survey: &Survey, old: &ClusterSeen, new: Option<&ClusterSeen>) -> Vec<Unknown> {
    let mut found = Vec::new();
    let mut put = |what: String, reason: &str| found.push(Unknown { what, reason: reason.to_owned() });
    for (colour, seen) in [(survey.from, Some(old)), (survey.from.other(), new)] {
        let Some(seen) = seen else { continue };
        let parts = [
            ("which groups there are", seen.groups.as_ref().err()),
            ("groups", seen.described.as_ref().err()),
            ("configs of topics", seen.topic_configs.as_ref().err()),
            ("configs of brokers", seen.brokers.as_ref().err()),
            ("ACLs, quotas and SCRAM users", seen.access.as_ref().err()),
            ("fences that are left over", seen.fence.as_ref().err()),
        ];
        for (what, reason) in parts {
            if let Some(reason) = reason {
                put(format!("{what} of {colour}"), reason);
            }
        }
        for (what, reason) in configs::unanswered(colour, seen) {
            put(what, &reason);
        }
        if seen.access.as_ref().is_ok_and(|access| access.auto_creates_topics.is_none()) {
            put(format!("whether {colour} makes topics by itself"), "it has no call for that");
        }
    }
    if new.is_none() {
        put(format!("everything of {}", survey.from.other()), "there is no cluster behind this colour yet");
    }
    if let Some(reason) = unanswered(&survey.traffic) {
        put("who writes".into(), &reason);
    }
    let traffic = &survey.traffic;
    if let Some(Err(reason)) = transactional_ids(traffic) {
        put("transactional ids".into(), &reason);
    }
    if let Some(Err(reason)) = &traffic.sizes {
        put("sizes of partitions".into(), reason);
    }
    if let Some(Err(reason)) = &traffic.members {
        put("the library's producers".into(), reason);
    }
    if let (Err(reason), Some(_)) = (&survey.refused_configs, new) {
        put("which configs the new cluster refuses".into(), reason);
    }
    found
}

/// A fence on the cluster that serves is meant only while a rollback closes it, which its owner record says.
fn left_fence(survey: &Survey, old: &ClusterSeen) -> BTreeSet<TopicName> {
    let mut owners = survey.endpoints.values().filter_map(|seen| seen.as_ref().ok()?.owner.as_ref());
    match owners.any(|owner| owner.intent.is_some()) {
        true => BTreeSet::new(),
        false => old.fence.clone().unwrap_or_default(),
    }
}

/// Groups whose offsets say how far they are; a share group has none.
fn drainable(
    old: &ClusterSeen,
    required: &BTreeMap<GroupId, BTreeSet<TopicName>>,
) -> BTreeMap<GroupId, BTreeSet<TopicName>> {
    let shares = |group: &GroupId| {
        old.description(group).is_some_and(|description| description.protocol == GroupProtocol::Share)
    };
    required
        .iter()
        .filter(|(group, _)| !shares(group))
        .map(|(group, topics)| (group.clone(), topics.clone()))
        .collect()
}

/// Kafka's default of `transaction.max.timeout.ms`.
const LONGEST_TRANSACTION_MS: u64 = 900_000;

/// The longest time-out that a transaction can have on a cluster.
fn longest_transaction_ms(old: &ClusterSeen) -> u64 {
    let set = configs::values(&old.brokers, "transaction.max.timeout.ms");
    set.iter().filter_map(|value| value.parse().ok()).max().unwrap_or(LONGEST_TRANSACTION_MS)
}

fn histories(
    survey: &Survey,
    plan: &Plan,
    old: &ClusterSeen,
    moving: &BTreeMap<TopicName, i32>,
) -> Vec<TopicHistoryReport> {
    let records = |topic: &TopicName| {
        let mut places = partitions(&[(topic.clone(), *moving.get(topic)?)].into()).into_iter();
        places.try_fold(0, |sum: u64, place| {
            let answered = survey.traffic.now.logs.get(&place)?.is_ok();
            answered.then(|| sum.saturating_add(left(&survey.traffic, &place)))
        })
    };
    // An empty topic may have records by the time of the switch: how many there are now does not count.
    let topics: Vec<TopicHistory> = moving
        .keys()
        .map(|topic| TopicHistory {
            topic: topic.clone(),
            cleanup_policy: in_force(old, topic, "cleanup.policy"),
            retention_ms: in_force(old, topic, "retention.ms").and_then(|value| value.parse().ok()),
            records: None,
        })
        .collect();
    let fates = history::judge(&topics, &plan.history());
    fates.into_iter().map(|fate| TopicHistoryReport { records: records(&fate.topic), fate }).collect()
}
