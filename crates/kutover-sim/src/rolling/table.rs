//! The comparison for people: Markdown tables, as they stand in docs/rolling.md.

use std::fmt;

use super::{Comparison, Cost, Options, compare};

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, what: &str, of: &dyn Fn(&Cost) -> String| {
            let cells: Vec<String> = self.costs.iter().map(of).collect();
            writeln!(f, "| {what} | {} |", cells.join(" | "))
        };
        row(f, "", &|cost| cost.strategy.into())?;
        writeln!(f, "|---|---:|---:|---:|")?;
        row(f, "copied between brokers", &|cost| tib(cost.copied_mib))?;
        row(f, "replicas copied", &|cost| cost.replicas_moved.to_string())?;
        row(f, "times that data is rebalanced", &|cost| cost.rebalances.to_string())?;
        row(f, "leader changes", &|cost| cost.leader_changes.to_string())?;
        row(f, "clients told \"not the leader\"", &|cost| cost.metadata_refreshes.to_string())?;
        row(f, "groups that get another coordinator", &|cost| cost.coordinator_changes.to_string())?;
        row(f, "producers and groups that change cluster", &|cost| cost.clients_moved.to_string())?;
        row(f, "hours", &|cost| hours(cost.minutes))?;
        row(f, "share of it with fewer brokers", &|cost| percent(cost.short_of_brokers_permille))?;
        row(f, "partition time with a replica missing", &|cost| percent(cost.reduced_permille))?;
        row(f, "partition time with a copy under way", &|cost| percent(cost.in_motion_permille))?;
        row(f, "the fullest disk at its fullest", &|cost| percent(cost.fullest_permille))?;
        row(f, "broker-hours beyond the cluster's own", &|cost| cost.extra_broker_hours.to_string())
    }
}

/// The hours of each way at several throttles.
///
/// # Errors
/// As [`compare`].
pub fn hours_by_throttle(options: &Options, throttles: &[u64]) -> Result<String, String> {
    let mut table =
        String::from("| throttle | away and back | in place | blue/green |\n|---:|---:|---:|---:|\n");
    for throttle_mib_s in throttles.iter().copied() {
        let costs = compare(&Options { throttle_mib_s, ..options.clone() })?.costs;
        let cells: Vec<String> = costs.iter().map(|cost| hours(cost.minutes)).collect();
        table += &format!("| {throttle_mib_s} MiB/s | {} |\n", cells.join(" | "));
    }
    Ok(table)
}

fn tib(mib: u64) -> String {
    let tenths = mib * 10 / (1024 * 1024);
    format!("{}.{} TiB", tenths / 10, tenths % 10)
}

fn hours(minutes: u64) -> String {
    let tenths = (minutes + 3) / 6;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn percent(permille: u64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}
