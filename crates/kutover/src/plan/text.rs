//! A plan as a person reads it: what it came to last, since that is where the eye is.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use comfy_table::{Table, presets};
use kutover_core::ports::{ConnectorKind, ConnectorState};
use kutover_core::survey::{
    AclsAsked, Assessment, ConfigWhy, GroupReport, GroupStanding, OpenReport, Outcome, Refusal,
};

/// How many things of a kind are named; all of them are in the JSON.
const SHOWN: usize = 20;

/// The whole plan.
pub(super) fn render(plan: &Assessment) -> String {
    let mut text = String::new();
    clusters(plan, &mut text);
    let left = plan.left_fence.iter().map(ToString::to_string);
    let title =
        format!("A fence is left over on {}, which serves; the next start of `up` lifts it", plan.from);
    list(&mut text, &title, left);
    if plan.nothing_to_do {
        let _ = writeln!(text, "{} is active already: there is nothing to do", plan.to);
        return text;
    }
    if plan.clusters.first().is_some_and(|old| old.unreachable.is_some()) {
        let _ =
            write!(text, "\nplan {} → {}: the cluster that serves could not be reached", plan.from, plan.to);
        return text;
    }
    topics(plan, &mut text);
    let raised = plan.raised_retention.iter().map(ToString::to_string);
    list(&mut text, "Retention without limit on both clusters until it is over", raised);
    access(plan, &mut text);
    groups(plan, &mut text);
    producers(plan, &mut text);
    let open = |one: &OpenReport| format!("{}: {}", one.place, one.open);
    list(&mut text, "Open transactions", plan.transactions.iter().map(open));
    history(plan, &mut text);
    estimates(plan, &mut text);
    list(&mut text, "Not known", plan.unknown.iter().map(|one| format!("{}: {}", one.what, one.reason)));
    asked(&plan.acls_asked, &mut text);
    list(&mut text, "To be known", plan.notes.iter().cloned());
    list(&mut text, "Waived", plan.waived.iter().map(|one| one.reason.clone()));
    list(&mut text, "Refused over", plan.refusals.iter().map(Refusal::to_string));
    let _ = write!(
        text,
        "\nplan {} → {}: {}",
        plan.from,
        plan.to,
        match plan.outcome {
            Outcome::Ready => "ready".to_owned(),
            Outcome::Refused => format!("refused, over {} things", plan.refusals.len()),
            Outcome::Unreachable => "not everything could be reached".to_owned(),
        }
    );
    text
}

fn list(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}:");
    for line in lines.iter().take(SHOWN) {
        let _ = writeln!(text, "  - {line}");
    }
    if lines.len() > SHOWN {
        let _ = writeln!(text, "  - and {} more (--json names all)", lines.len() - SHOWN);
    }
}

fn table(text: &mut String, title: &str, header: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let more = rows.len().saturating_sub(SHOWN);
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table.add_rows(rows.into_iter().take(SHOWN));
    let _ = writeln!(text, "\n{title}:\n{}", table.trim_fmt());
    if more > 0 {
        let _ = writeln!(text, "and {more} more (--json names all)");
    }
}

fn or_unknown<T: ToString>(value: Option<T>) -> String {
    value.map_or("not known".to_owned(), |value| value.to_string())
}

fn clusters(plan: &Assessment, text: &mut String) {
    for cluster in &plan.clusters {
        let _ = match &cluster.unreachable {
            Some(reason) => writeln!(text, "{}: {reason}", cluster.colour),
            None => writeln!(
                text,
                "{}: cluster {}, version {}, {} brokers, {} topics",
                cluster.colour,
                or_unknown(cluster.cluster_id.as_deref()),
                or_unknown(cluster.version.as_deref()),
                cluster.brokers.len(),
                cluster.topics
            ),
        };
    }
    for endpoint in &plan.endpoints {
        let _ = match (&endpoint.unreachable, endpoint.ttl_s) {
            (Some(reason), _) => writeln!(text, "{}: {reason}", endpoint.name),
            (None, Some(ttl_s)) => writeln!(text, "{}: TTL {ttl_s} s", endpoint.name),
            (None, None) => writeln!(text, "{}: not published yet", endpoint.name),
        };
    }
}

fn topics(plan: &Assessment, text: &mut String) {
    let partitions: i32 = plan.topics.values().sum();
    let _ = writeln!(text, "\n{} topics move, {partitions} partitions", plan.topics.len());
    let create = plan.create.iter().map(|topic| {
        format!("{}, {} partitions, {} replicas", topic.name, topic.partitions, topic.replication)
    });
    list(text, &format!("To be made on {}", plan.to), create);
    list(text, "Set differently", plan.differences.iter().map(ToString::to_string));
    let configs = plan.configs.iter().map(|one| {
        let old = or_unknown(one.old.as_deref());
        let topics = one.topics.len();
        match one.why {
            ConfigWhy::NotKnown => {
                format!("{}={old} on {topics} topics: {} does not know it", one.config, plan.to)
            }
            ConfigWhy::Default => {
                let less = if one.weaker { ", which takes or keeps less" } else { "" };
                let new = or_unknown(one.new.as_deref());
                format!("{}={old} on {topics} topics by default, {new} on {}{less}", one.config, plan.to)
            }
        }
    });
    list(text, "Configs that would not be the same", configs);
    let one = |values: &std::collections::BTreeSet<String>| match values.is_empty() {
        true => "-".to_owned(),
        false => values.iter().cloned().collect::<Vec<_>>().join(" / "),
    };
    let rows = plan
        .brokers
        .iter()
        .map(|setting| vec![setting.config.to_owned(), one(&setting.old), one(&setting.new)]);
    let (from, to) = (plan.from.to_string(), plan.to.to_string());
    table(text, "Brokers' settings", &["", &from, &to], rows.collect());
}

fn access(plan: &Assessment, text: &mut String) {
    let access = &plan.access;
    list(text, &format!("ACLs that {} will be given", plan.to), access.acls.iter().map(ToString::to_string));
    let users = access.scram_users.iter().map(|(user, mechanisms)| {
        let mechanisms: Vec<&str> = mechanisms.iter().map(String::as_str).collect();
        format!("{user} ({})", mechanisms.join(", "))
    });
    list(text, &format!("SCRAM users that {} lacks", plan.to), users);
    let quotas = access.quotas.iter().map(|one| format!("{} of {}: {}", one.quota, one.entity, one.value));
    list(text, &format!("Quotas that {} will be given", plan.to), quotas);
    list(text, "Access that differs", access.differences.iter().cloned());
}

fn groups(plan: &Assessment, text: &mut String) {
    let protocol = |group: &GroupReport| match (&group.protocol, group.is_streams) {
        (Some(protocol), true) => format!("{protocol:?} (Streams)"),
        (Some(protocol), false) => format!("{protocol:?}"),
        (None, _) => "not known".to_owned(),
    };
    let per_second =
        |count: u64| format!("{:.1}", count as f64 * 1_000.0 / plan.measured_over_ms.max(1) as f64);
    let rows = plan.groups.iter().map(|group| {
        let standing = match group.standing {
            GroupStanding::Required => "must drain",
            GroupStanding::Waived => "waived",
            GroupStanding::Unconcerned => "unconcerned",
        };
        vec![
            group.group.to_string(),
            standing.to_owned(),
            protocol(group),
            or_unknown(group.state.as_deref()),
            or_unknown(group.members),
            or_unknown(group.lag),
            group.read.map_or("not known".to_owned(), per_second),
            group.drain_ms.map_or("not known".to_owned(), seconds),
            or_unknown(group.lost),
        ]
    });
    let header = ["group", "", "protocol", "state", "members", "lag", "records/s", "drained in", "lost"];
    table(text, "Groups", &header, rows.collect());
    let connect = &plan.connect;
    let rows = connect.connectors.iter().map(|(name, one)| {
        let kind = match one.kind {
            ConnectorKind::Source => "source",
            ConnectorKind::Sink => "sink",
        };
        let state = match one.state {
            _ if one.failed => "failed",
            ConnectorState::Running if one.tasks == 0 => "running, no task",
            ConnectorState::Running => "running",
            ConnectorState::Paused => "paused",
            ConnectorState::Stopped => "stopped",
        };
        vec![name.to_string(), kind.to_owned(), state.to_owned()]
    });
    table(text, "Connectors", &["connector", "kind", "state"], rows.collect());
    list(text, "Groups of Connect workers", connect.worker_groups.iter().map(ToString::to_string));
    list(text, "Groups that look like Connect sinks", connect.sink_groups.iter().map(ToString::to_string));
}

fn producers(plan: &Assessment, text: &mut String) {
    let rows = plan.producers.iter().filter(|(_, writers)| !writers.active.is_empty() || writers.silent > 0);
    let rows = rows.map(|(topic, writers)| {
        let transactional = writers.active.iter().filter(|one| one.transactional).count();
        let unnamed = writers.active.iter().any(|one| one.producer_id.is_none());
        let active =
            format!("{}{}", writers.active.len(), if unnamed { " (some without an id)" } else { "" });
        vec![
            topic.to_string(),
            active,
            transactional.to_string(),
            writers.silent.to_string(),
            or_unknown(writers.records),
        ]
    });
    let header = ["topic", "active", "transactional", "silent", "records"];
    table(text, &format!("Producers, over {}", seconds(plan.measured_over_ms)), &header, rows.collect());
    if let Some(members) = plan.members {
        let _ = writeln!(text, "\n{members} producers of the library are registered");
    }
}

/// With the commands, each on a line of its own, to be copied.
fn asked(acls: &[AclsAsked], text: &mut String) {
    for AclsAsked { colour, topics, commands } in acls {
        let topics = topics.iter().map(|one| format!("{}: {}", one.topic, one.reason));
        list(text, &format!("ACLs that {colour} should have on kutover's own topics"), topics);
        let _ = writeln!(text, "  With the principals in place of those in capitals:");
        for command in commands {
            let _ = writeln!(text, "    {command}");
        }
    }
}

fn history(plan: &Assessment, text: &mut String) {
    let lines = plan.history.iter().map(|one| match one.records {
        Some(records) => format!("{} ({records} records now)", one.fate),
        None => one.fate.to_string(),
    });
    list(text, "History", lines);
}

fn estimates(plan: &Assessment, text: &mut String) {
    let estimates = &plan.estimates;
    let lines = [
        format!("waiting out the TTL: {}", estimates.ttl_ms.map_or("not known".to_owned(), seconds)),
        format!("producers move: at most {}", seconds(estimates.converge_ms)),
        format!(
            "drain at the pace that was seen: {}",
            estimates.drain_ms.map_or("not known".to_owned(), seconds)
        ),
        format!("soak: {}", seconds(estimates.soak_ms)),
        format!("separation of producer ids: {}", estimates.separation),
    ];
    list(text, "How long", lines.into_iter());
}

fn seconds(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        10_000..600_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms / 60_000),
    }
}
