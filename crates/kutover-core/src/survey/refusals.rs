//! What a plan is refused over, gathered from the decisions that the cutover rests on.

use std::collections::{BTreeMap, BTreeSet};

use super::configs::{ConfigDifference, in_force, values, will_be};
use super::groups::{keeps_up, left};
use super::readers::{self, streams};
use super::{
    ClusterSeen, Code, OpenReport, Refusal, Survey, Traffic, Waiver, Waivers, connect, fence, traffic,
};
use crate::cutover::{Plan, decide};
use crate::decisions::history::{Fate, Needed, TopicFate};
use crate::decisions::retention::{self, Bounds, Limits, Seen, TopicPace, Unread, Verdict};
use crate::parity::{AccessPlan, ParityPlan};
use crate::words::{GroupId, TopicName, TopicPartition};

/// What is unread, by group and partition.
pub(super) type UnreadBy = BTreeMap<(GroupId, TopicPartition), Result<Unread, String>>;

/// All that the parts of a plan are judged by.
pub(super) struct Facets<'a> {
    pub(super) survey: &'a Survey,
    pub(super) plan: &'a Plan,
    pub(super) waivers: &'a Waivers,
    pub(super) old: &'a ClusterSeen,
    pub(super) new: Option<&'a ClusterSeen>,
    pub(super) moving: &'a BTreeMap<TopicName, i32>,
    pub(super) required: &'a BTreeMap<GroupId, BTreeSet<TopicName>>,
    pub(super) unread: &'a UnreadBy,
    pub(super) parity: &'a ParityPlan,
    pub(super) access: &'a AccessPlan,
    pub(super) configs: &'a [ConfigDifference],
    pub(super) fates: &'a [TopicFate],
    pub(super) transactions: &'a [OpenReport],
}

/// Refusals, and those that were waived.
#[derive(Default)]
pub(super) struct Found {
    pub(super) refusals: Vec<Refusal>,
    pub(super) waived: Vec<Refusal>,
}

impl Found {
    pub(super) fn put(
        &mut self,
        is_waived: bool,
        code: Code,
        subject: &str,
        reason: String,
        waiver: Option<Waiver>,
    ) {
        let refusal = Refusal { code, subject: subject.to_owned(), reason, waiver };
        if is_waived { self.waived.push(refusal) } else { self.refusals.push(refusal) }
    }
}

pub(super) fn gather(facets: &Facets<'_>) -> Found {
    let mut found = Found::default();
    identities(facets, &mut found);
    if let Some(reason) = decide::nothing_moves(facets.plan, &facets.old.topics) {
        found.put(false, Code::NothingMoves, "plan", reason, None);
    }
    brokers(facets, &mut found);
    parity(facets, &mut found);
    access(facets, &mut found);
    readers::refusals(facets, &mut found);
    transactions(facets, &mut found);
    retention(facets, &mut found);
    commits(facets, &mut found);
    fence::refusals(facets, &mut found);
    history(facets, &mut found);
    connect::refusals(facets, &mut found);
    found
}

/// L5: as the cutover's Verifying has it.
fn identities(facets: &Facets<'_>, found: &mut Found) {
    let Facets { survey, plan, old, new, .. } = facets;
    let distinct =
        |new: &ClusterSeen| decide::distinct(&old.identity, &new.identity).and_then(|()| led_apart(old, new));
    if let Some(Err(reason)) = new.map(distinct) {
        found.put(false, Code::SameCluster, old.identity.cluster_id.as_str(), reason, None);
    }
    let owners =
        survey.endpoints.iter().filter_map(|(name, seen)| Some((name, seen.as_ref().ok()?.owner.as_ref()?)));
    for (name, owner) in owners {
        if owner.deployment != plan.deployment {
            let reason = format!(
                "the owner record of {name} is that of deployment {}, not {}: correct `deployment` or `endpoints`",
                owner.deployment, plan.deployment
            );
            found.put(false, Code::WrongCluster, &name.to_string(), reason, None);
        } else if let Err(reason) = decide::is_published(&owner.target, &old.identity) {
            found.put(false, Code::WrongCluster, &name.to_string(), reason, None);
        }
    }
}

/// Where clients come by another path than the controller, its brokers' addresses say nothing of where they are sent.
fn led_apart(old: &ClusterSeen, new: &ClusterSeen) -> Result<(), String> {
    let shared = old.reach.keys().filter(|address| new.reach.contains_key(*address));
    let shared: Vec<&str> = shared.map(String::as_str).collect();
    if shared.is_empty() {
        return Ok(());
    }
    Err(format!(
        "both clusters send clients to the broker {}: set advertised.listeners of the new one to its own addresses",
        shared.join(", ")
    ))
}

fn brokers(facets: &Facets<'_>, found: &mut Found) {
    let from = facets.survey.from;
    let sides = [(from, Some(facets.old)), (from.other(), facets.new)];
    for (colour, cluster) in sides {
        let silent = cluster.into_iter().flat_map(|cluster| &cluster.reach);
        for (address, reason) in
            silent.filter_map(|(address, answer)| Some((address, answer.as_ref().err()?)))
        {
            let reason = format!(
                "{colour} sends its clients to {address}, which takes no connection from here ({reason}): start the \
                 broker, or correct its advertised.listeners"
            );
            let waiver = Some(Waiver::list("plan.waive_unreachable", address));
            let waived = facets.waivers.unreachable.include(address);
            found.put(waived, Code::UnreachableBroker, address, reason, waiver);
        }
    }
}

/// L6.
fn parity(facets: &Facets<'_>, found: &mut Found) {
    for difference in facets.parity.refusals() {
        let topic = difference.topic();
        let waiver = difference.waiver().map(|field| Waiver::list(field, topic.as_str()));
        let waived = waiver.is_some() && facets.plan.waived_replicas.includes(topic);
        found.put(waived, Code::Parity, topic.as_str(), difference.to_string(), waiver);
    }
    for (topic, reason) in &facets.survey.refused_topics {
        let reason = format!(
            "the new cluster would not make topic {topic} like the old one ({reason}): change that on the old cluster, or what the \
             new one takes"
        );
        found.put(false, Code::Parity, topic.as_str(), reason, None);
    }
    // What is set on topics is made like it; brokers' defaults are not.
    for difference in facets.configs.iter().filter(|one| one.is_weaker_default()) {
        let ConfigDifference { config, old, new, topics, .. } = difference;
        let (old, new) = (old.as_deref().unwrap_or_default(), new.as_deref().unwrap_or_default());
        let reason = format!(
            "{} topics have {config}=`{old}` by the old cluster's default, and would have only `{new}` by the new one's: \
             give the new brokers the same default, or set it on the topics",
            topics.len()
        );
        found.put(false, Code::Parity, config, reason, None);
    }
}

/// What was not told of who may do what is not nothing.
fn untold_access(facets: &Facets<'_>, found: &mut Found) {
    let (from, to) = (facets.survey.from, facets.survey.from.other());
    for (colour, cluster) in [(from, Some(facets.old)), (to, facets.new)] {
        let Some(Err(reason)) = cluster.map(|cluster| &cluster.access) else { continue };
        let reason = format!(
            "who may do what on {colour} was not answered ({reason}): what {to} would have to be given, and whether it makes topics \
             by itself, is not known. Let kutover's principal describe the cluster and its configs"
        );
        found.put(false, Code::Access, colour.as_str(), reason, None);
    }
    if facets
        .new
        .is_some_and(|new| new.access.as_ref().is_ok_and(|access| access.auto_creates_topics.is_none()))
    {
        const NAME: &str = "auto.create.topics.enable";
        let reason = format!(
            "{to} does not tell {NAME}: if it makes topics because a client asks for them, they have nobody's partitions and \
             configs. See to it on its brokers, then say that it makes none"
        );
        let waiver = Some(Waiver::value("plan.waive_auto_create", "true"));
        found.put(facets.waivers.auto_create, Code::Access, NAME, reason, waiver);
    }
}

/// Who may do what: as the cutover's Preparing has it.
fn access(facets: &Facets<'_>, found: &mut Found) {
    let to = facets.survey.from.other();
    untold_access(facets, found);
    for difference in facets.access.refusals() {
        found.put(false, Code::Access, to.as_str(), difference.to_string(), None);
    }
    let told = facets.waivers.passwords.get(&to);
    let users = &facets.access.grant.scram_users;
    let untold = users.iter().filter(|(user, _)| !told.is_some_and(|told| told.contains(*user)));
    for (user, mechanisms) in untold {
        let mechanisms = mechanisms.iter().cloned().collect::<Vec<_>>().join(" and ");
        let reason = format!(
            "SCRAM user {user} ({mechanisms}) is not on {to}, and nobody can copy a password: make it there, give its password in \
             clusters.{to}.scram_users, or delete it on the old cluster if nobody uses it"
        );
        found.put(false, Code::ScramUser, user, reason, None);
    }
}

fn transactions(facets: &Facets<'_>, found: &mut Found) {
    let waivers = &facets.waivers.transactions;
    let of_streams = streams(facets);
    match traffic::transactional_ids(&facets.survey.traffic) {
        None => {}
        Some(Ok(ids)) => {
            // A Streams application's own ids begin with its name.
            let theirs = |id: &str| of_streams.iter().any(|group| id.starts_with(&format!("{group}-")));
            for (id, state) in ids.iter().filter(|(id, _)| !theirs(id)) {
                let reason = format!(
                    "transactional id {id} ({state}) is not the library's: its producer would have to be moved by hand, \
                     between two transactions"
                );
                let waiver = Some(Waiver::list("plan.waive_transactions", id));
                found.put(waivers.include(id), Code::Transactions, id, reason, waiver);
            }
        }
        Some(Err(reason)) => {
            let seen = traffic::transactional(&facets.survey.traffic);
            let seen = match seen.len() {
                0 => "no partition shows any just now".to_owned(),
                count => format!("{count} producer ids use transactions: {}", named(&seen)),
            };
            let reason = format!("transactional producers cannot be listed ({reason}); {seen}");
            let waiver = Some(Waiver::value("plan.waive_transactions", "\"*\""));
            found.put(waivers.include("*"), Code::Transactions, "transactions", reason, waiver);
        }
    }
    for OpenReport { place, open, .. } in facets.transactions.iter().filter(|open| open.hangs) {
        let command = open.abort_command(place);
        let reason =
            format!("{place}: {open}; whoever reads committed records stays before it. End it: {command}");
        found.put(false, Code::HangingTransaction, &place.to_string(), reason, None);
    }
}

fn named(seen: &BTreeMap<i64, Vec<TopicName>>) -> String {
    const SHOWN: usize = 5;
    let one = |(id, topics): (&i64, &Vec<TopicName>)| {
        let topics: Vec<&str> = topics.iter().map(TopicName::as_str).collect();
        format!("{id} on {}", topics.join(", "))
    };
    seen.iter().take(SHOWN).map(one).collect::<Vec<_>>().join("; ")
}

/// L11.
fn retention(facets: &Facets<'_>, found: &mut Found) {
    let Facets { survey, plan, waivers, moving, old, new, .. } = facets;
    let from = survey.from;
    let limits = |told: &dyn Fn(&str) -> Option<String>| {
        let number = |config| told(config)?.parse().ok();
        let not_told = || "its retention was not answered".to_owned();
        Ok(Limits {
            ms: number("retention.ms").ok_or_else(not_told)?,
            bytes: number("retention.bytes").ok_or_else(not_told)?,
        })
    };
    let bounds = Bounds { old: from, converge_ms: plan.timings.converge_ms };
    let mut behind: BTreeMap<&TopicName, Vec<&Result<Unread, String>>> = BTreeMap::new();
    for ((_, place), answer) in facets.unread {
        if !answer.as_ref().is_ok_and(|unread| keeps_up(&survey.traffic, unread)) {
            behind.entry(&place.topic).or_default().push(answer);
        }
    }
    for (topic, partitions) in *moving {
        // Without a cluster there is nothing to compare with yet.
        let forever = Ok(Limits { ms: -1, bytes: -1 });
        let ours = limits(&|config| in_force(old, topic, config));
        let there =
            |new: &ClusterSeen| limits(&|config| will_be(old, new, &survey.refused_configs, topic, config));
        let theirs = new.map_or(forever, there);
        let by_size =
            [&ours, &theirs].iter().any(|limits| limits.as_ref().is_ok_and(|limits| limits.bytes >= 0));
        let unread = behind.get(topic).into_iter().flatten();
        let pace = TopicPace {
            topic: topic.clone(),
            deletes: deletes(old, topic),
            old: ours,
            new: theirs,
            written: written(&survey.traffic, topic, *partitions),
            unread: unread.map(|answer| weighed(&survey.traffic, answer, by_size)).collect(),
        };
        let raised = plan.raised_retention.includes(topic);
        for verdict in retention::judge(&pace, &bounds) {
            // Without limit it is enough, whatever it was and however long it takes; a group that has stopped has stopped.
            if raised && matches!(verdict, Verdict::Raise { .. } | Verdict::Unknown { .. }) {
                continue;
            }
            let subject = match &verdict {
                Verdict::Stopped { group, .. } => group.to_string(),
                _ => topic.to_string(),
            };
            let waiver = Waiver::list("plan.waive_retention", topic.as_str());
            let waived = waivers.retention.includes(topic);
            found.put(waived, Code::Retention, &subject, verdict.to_string(), Some(waiver));
        }
    }
}

/// L9: the last proof asks for the commits of groups that have left by then, and a group without members loses them. One
/// that never committed is not drained.
fn commits(facets: &Facets<'_>, found: &mut Found) {
    const NAME: &str = "offsets.retention.minutes";
    let Facets { survey, plan, old, required, .. } = facets;
    let told = values(&old.brokers, NAME);
    let Some(minutes) = told.iter().filter_map(|value| value.parse::<u64>().ok()).min() else { return };
    if required.is_empty() || plan.timings.soak_ms < minutes.saturating_mul(60_000) {
        return;
    }
    let reason = format!(
        "{} forgets what a group has committed {minutes} minutes after its last member has left ({NAME}), and the soak takes {} \
         s: nothing would prove any more that it has read everything. Raise it on its brokers, or lower plan.soak",
        survey.from,
        plan.timings.soak_ms / 1_000
    );
    found.put(false, Code::Retention, NAME, reason, None);
}

/// Whether a topic loses records by age or size at all.
pub(super) fn deletes(cluster: &ClusterSeen, topic: &TopicName) -> bool {
    in_force(cluster, topic, "cleanup.policy").is_none_or(|policy| policy.contains("delete"))
}

/// What is unread, if all is known that retention is judged by.
fn weighed(traffic: &Traffic, answer: &Result<Unread, String>, by_size: bool) -> Result<Unread, String> {
    let unread = answer.clone()?;
    if let Some(Err(reason)) = traffic.ages.get(&unread.place) {
        return Err(format!("how old the oldest unread record of {} is ({reason})", unread.place));
    }
    let sized = |sizes: &BTreeMap<TopicPartition, Result<u64, String>>| {
        sizes.get(&unread.place).is_some_and(Result::is_ok)
    };
    let has_size = traffic.sizes.as_ref().is_some_and(|sizes| sizes.as_ref().is_ok_and(sized));
    if by_size && !has_size {
        return Err(format!("how large {} is", unread.place));
    }
    Ok(unread)
}

/// Bytes that a topic's busiest partition took between the looks.
fn written(traffic: &Traffic, topic: &TopicName, partitions: i32) -> Seen {
    let amount = (0..partitions).map(|partition| {
        let place = TopicPartition::new(topic.clone(), partition);
        let end =
            |seen: &crate::drain::Observation| seen.logs.get(&place)?.as_ref().ok().map(|range| range.end.0);
        let grown = end(&traffic.now).zip(end(&traffic.before)).map_or(0, |(now, before)| now - before);
        let size = traffic.sizes.as_ref().and_then(|sizes| sizes.as_ref().ok()?.get(&place)?.as_ref().ok());
        let each = size.map_or(0, |size| size / left(traffic, &place).max(1));
        u64::try_from(grown).unwrap_or(0).saturating_mul(each)
    });
    Seen { amount: amount.max().unwrap_or(0), over_ms: traffic.over_ms }
}

/// L18.
fn history(facets: &Facets<'_>, found: &mut Found) {
    for topic in facets.plan.left_behind(&facets.old.topics) {
        let reason = format!(
            "topic {topic} is not in plan.topics and would die with the old cluster, neither fenced nor drained: add it \
             there, or name it"
        );
        let waiver = Some(Waiver::list("plan.waive_history", topic.as_str()));
        found.put(false, Code::History, topic.as_str(), reason, waiver);
    }
    for one in facets.fates.iter().filter(|_| facets.plan.remove_old) {
        let (needed, is_waived) = match &one.fate {
            Fate::Dies { needed, .. } => (needed, false),
            Fate::Waived { needed } => (needed, true),
            Fate::Expired => continue,
        };
        let code = if *needed == Needed::Schemas { Code::Schemas } else { Code::History };
        let waiver = Some(Waiver::list("plan.waive_history", one.topic.as_str()));
        found.put(is_waived, code, one.topic.as_str(), one.to_string(), waiver);
    }
}
