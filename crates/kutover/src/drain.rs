//! `drain`: how far groups have read the cluster that is left. It only looks, also while a controller runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::CellAlignment;
use kutover_admin::KafkaAdmin;
use kutover_controller::config::Config;
use kutover_controller::driver::observe;
use kutover_core::cutover::{Progress, Record};
use kutover_core::drain::{DrainTable, Required, Row, table};
use kutover_core::ports::{ClusterAdmin as _, GroupListing, Incarnation, LagQuery};
use kutover_core::survey::partitions;
use kutover_core::words::{ClusterId, Colour};
use serde::Serialize;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::journal;
use crate::report::plain_table;
use crate::wire::look_at;

/// Reasons that a person is shown of each group.
const REASONS_SHOWN: usize = 5;

/// What `drain --json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct DrainReport {
    schema: &'static str,
    deployment: String,
    colour: Colour,
    cluster_id: ClusterId,
    /// Whether every required group has read every partition to its end.
    pub(crate) drained: bool,
    /// Whether the ends are final, as the journal says: otherwise producers may still move them.
    closed: bool,
    /// Whether the cluster could list its groups; otherwise only those count that the plan names.
    groups_listed: bool,
    /// Whether there is a group that must read it at all.
    somebody_reads: bool,
    apart_ms: u64,
    table: DrainTable,
}

/// Takes two looks at a cluster.
///
/// # Errors
/// The cluster does not answer, or the journal is damaged.
pub(crate) async fn look(
    config: &Config,
    colour: Option<Colour>,
    every_s: u32,
) -> Result<DrainReport, Failure> {
    let plan = config.cutover_plan();
    let colour = colour.unwrap_or(plan.to.other());
    let (there, admin) = look_at(config, colour).await?;
    let identity = admin.identity().await.map_err(anyhow::Error::from)?;
    let (required, groups_listed) = required(config, &there, &admin).await?;
    let query = query(config, &required);
    let first = observe(&admin, &admin, query.clone()).await.map_err(anyhow::Error::from)?;
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(every_s.into())).await;
    let second = observe(&admin, &admin, query).await.map_err(anyhow::Error::from)?;
    let apart_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let table = table(&required, &first, &second, apart_ms);
    let somebody_reads = !required.groups.is_empty();
    Ok(DrainReport {
        schema: "kutover.drain/1",
        deployment: config.deployment.to_string(),
        colour,
        cluster_id: identity.cluster_id,
        drained: is_drained(&table, groups_listed, somebody_reads),
        closed: !required.partitions.is_empty() && required.partitions.iter().all(|(_, end)| end.is_some()),
        groups_listed,
        somebody_reads,
        apart_ms,
        table,
    })
}

/// Who is not known cannot be waited for: where no group is known, and nobody can tell which there are, nothing is proven.
fn is_drained(table: &DrainTable, groups_listed: bool, somebody_reads: bool) -> bool {
    table.is_drained() && (groups_listed || somebody_reads)
}

/// What is to be observed of it.
pub(crate) fn query(config: &Config, required: &Required) -> LagQuery {
    LagQuery {
        groups: required.groups.clone(),
        partitions: required.partitions.iter().map(|(place, _)| place.clone()).collect(),
        read_tails: true,
        read_uncommitted: config.plan.read_uncommitted.clone(),
    }
}

/// What has to be drained: as the journal has it for a cutover that has left this cluster, and what has been born since;
/// before that, what a cutover would ask for.
///
/// # Errors
/// The cluster does not answer, or the journal is damaged.
pub(crate) async fn required(
    config: &Config,
    there: &Incarnation,
    admin: &KafkaAdmin,
) -> Result<(Required, bool), Failure> {
    let plan = config.cutover_plan();
    let topics = admin.topics().await.map_err(anyhow::Error::from)?;
    let moving = plan.moving(&topics);
    let mut required = journalled(config, there).await?.unwrap_or_else(|| Required {
        partitions: partitions(&moving).into_iter().map(|place| (place, None)).collect(),
        ..Required::default()
    });
    let listing = admin.groups().await.map_err(anyhow::Error::from)?;
    let (listed, complete) = match listing {
        GroupListing::Listed(groups) => (groups, true),
        GroupListing::Unsupported => (BTreeMap::new(), false),
    };
    plan.require(&mut required.groups, &listed, &moving);
    Ok((required, complete))
}

/// Where the cutover stands, as the journal says; `None` before the first.
///
/// # Errors
/// The journal is damaged, or cannot be read.
pub(crate) async fn progress(config: &Config) -> Result<Option<Progress>, Failure> {
    Ok(checkpoints(config).await?.next())
}

/// Where cutovers have stood, as the journal says: the newest first.
///
/// # Errors
/// The journal is damaged, or cannot be read.
pub(crate) async fn checkpoints(config: &Config) -> Result<impl Iterator<Item = Progress>, Failure> {
    let entries = journal::peek(config).await?;
    Ok(entries.into_iter().rev().filter_map(|entry| match serde_json::from_value::<Record>(entry.body) {
        Ok(Record::Checkpoint { progress }) => Some(*progress),
        _ => None,
    }))
}

async fn journalled(config: &Config, there: &Incarnation) -> Result<Option<Required>, Failure> {
    let to_drain = progress(config).await?.as_ref().and_then(Progress::to_drain);
    Ok(to_drain.filter(|(old, _)| old.id == there.id).map(|(_, required)| required))
}

impl DrainReport {
    /// For a person.
    pub(crate) fn text(&self) -> String {
        let mut table =
            plain_table(&["group", "partitions", "drained", "unread", "reads/s", "zero in", "lost"]);
        for index in 1..7 {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for row in &self.table.rows {
            table.add_row(cells(row));
        }
        let mut text =
            format!("{} of {} (cluster {})\n{table}", self.colour, self.deployment, self.cluster_id);
        for why in self.table.rows.iter().flat_map(|row| row.why.iter().take(REASONS_SHOWN)) {
            let _ = write!(text, "\n  {why}");
        }
        let more = |row: &Row| row.why.len().saturating_sub(REASONS_SHOWN);
        let more: usize = self.table.rows.iter().map(more).sum();
        if more > 0 {
            let _ = write!(text, "\n  and {more} more (--json names all)");
        }
        match (self.groups_listed, self.somebody_reads) {
            (false, true) => {
                text.push_str("\nthis cluster cannot list its groups: only those that the plan names are shown");
            }
            (false, false) => text.push_str(
                "\nthis cluster cannot list its groups, and the plan names none: who reads it is not known; name them in \
                 plan.groups",
            ),
            (true, false) => text.push_str("\nno group reads what moves: there is nobody to wait for"),
            (true, true) => {}
        }
        if !self.closed {
            text.push_str("\nthe ends are not closed: producers may still move them");
        }
        let verdict = if self.drained { "drained" } else { "not drained" };
        let _ = write!(text, "\n{verdict} ({} pairs of group and partition)", self.table.pairs);
        text
    }
}

fn cells(row: &Row) -> [String; 7] {
    let name = row.group.as_ref().map_or("(the partitions themselves)".to_owned(), ToString::to_string);
    let unread = if row.unknown > 0 { format!("{} + ?", row.unread) } else { row.unread.to_string() };
    [
        name,
        row.partitions.to_string(),
        row.drained.to_string(),
        unread,
        row.per_s.map_or("?".to_owned(), |per_s| per_s.to_string()),
        row.zero.to_string(),
        row.lost.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use kutover_core::drain::Estimate;

    use super::*;

    fn report(groups_listed: bool, somebody_reads: bool) -> DrainReport {
        let table = DrainTable { pairs: 0, rows: vec![] };
        DrainReport {
            schema: "kutover.drain/1",
            deployment: "orders".into(),
            colour: Colour::Blue,
            cluster_id: "cluster-blue".into(),
            drained: is_drained(&table, groups_listed, somebody_reads),
            closed: false,
            groups_listed,
            somebody_reads,
            apart_ms: 1_000,
            table,
        }
    }

    /// A person sees the first of each group; the JSON has them all.
    #[test]
    fn reasons_are_shown_up_to_five_and_all_are_in_the_json() {
        let mut report = report(true, true);
        report.table.rows.push(Row {
            group: Some("billing".into()),
            partitions: 7,
            drained: 0,
            unread: 70,
            lost: 3,
            unknown: 0,
            per_s: Some(0),
            zero: Estimate::Never,
            why: (0..7).map(|partition| format!("partition {partition} is unread")).collect(),
        });
        let text = report.text();
        assert!(text.contains("partition 4 is") && !text.contains("partition 5 is"), "{text}");
        assert!(text.contains("\n  and 2 more (--json names all)"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["table"]["rows"][0]["why"].as_array().map(Vec::len), Some(7), "{json}");
    }

    /// L9: where groups cannot be listed and none is named, nobody is known to have read anything.
    #[test]
    fn nobody_known_is_not_drained() {
        let unknown = report(false, false);
        assert!(!unknown.drained);
        let text = unknown.text();
        assert!(
            text.contains("name them in plan.groups") && text.contains("\nnot drained (0 pairs"),
            "{text}"
        );
        let nobody = report(true, false);
        assert!(nobody.drained && nobody.text().contains("no group reads what moves"), "{}", nobody.text());
        assert!(report(false, true).drained, "those that are named have read it");
    }
}
