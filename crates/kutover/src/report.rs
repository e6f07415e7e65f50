//! The report: one JSON object for machines, a short table for people.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Table, presets};
use kutover_audit::{Findings, StallMicros};
use serde::Serialize;

use crate::cli::{HandOverChoice, Strategy};

/// The report's schema. A field may be added under it; one that goes or changes its meaning raises the number.
pub(crate) const SCHEMA: &str = "kutover.report/1";

/// A whole run. Counts are records, times are milliseconds since the run began unless the name says otherwise.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// `kutover`, `recipe` or `dns-only`.
    pub strategy: String,
    /// What the clusters were.
    pub kafka: String,
    /// How a producer treated records that were sent while it moved.
    pub hand_over: String,
    /// How it ended: `complete`, `aborted`, ...; for the other strategies what the recipe's own checks came to.
    pub outcome: String,
    /// Why, where it did not end well.
    pub reason: Option<String>,
    /// Seed of the traffic.
    pub seed: u64,
    /// How long the run took.
    pub took_ms: u64,
    /// Records that the producers took, per second of traffic.
    pub records_per_s: u64,
    /// What the audit counted, field by field.
    #[serde(flatten)]
    pub findings: Findings,
    /// How long a rollback took from its beginning until producers were led back; `None` without one.
    pub barrier_ms: Option<u64>,
    /// The cluster that the run began on.
    pub blue: ClusterReport,
    /// The other one.
    pub green: ClusterReport,
    /// The producers.
    pub producers: Vec<ProducerReport>,
    /// What happened, in order.
    pub timeline: Vec<TimelineEntry>,
}

/// One cluster.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ClusterReport {
    /// Kafka's own id of it; `None` if it never served.
    pub cluster_id: Option<String>,
    /// Its version.
    pub version: String,
    /// Records of the traffic that stand in its log.
    pub records: u64,
    /// Whether it was removed.
    pub removed: bool,
    /// How its segments' ends became final (`fence`, `quiet`, or `mixed` where partitions differ); `None` while they are
    /// open.
    pub closed_by: Option<String>,
}

/// One producer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProducerReport {
    /// Its name.
    pub instance: String,
    /// How long after the new target was published it had moved; `None` if it never did.
    pub switched_after_ms: Option<u64>,
    /// Records of its own in green's log, as the audit found them.
    pub records_on_green: u64,
    /// How long sends stalled: until a client took the record, over all sends of the run.
    pub stall_us: StallMicros,
    /// Its receipt for the move; `None` if it gave none.
    pub receipt: Option<serde_json::Value>,
    /// Where its records went in the end, as far as it knows.
    pub on: Option<String>,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TimelineEntry {
    /// When.
    pub at_ms: u64,
    /// The state that the cutover was in.
    pub state: String,
    /// What it was.
    pub event: String,
}

impl Report {
    /// Whether the run ended as it was asked to: kutover's must be complete, or rolled back if that was asked for, lose
    /// nothing, write nothing twice that its books do not tell of, have groups miss nothing, have said `NotWritten` of no
    /// record that was written and, where the hand-over is ordered, have kept each key's order; the other two only have to
    /// have been carried out.
    pub(crate) fn is_success(&self, strategy: Strategy, rollback: bool) -> bool {
        match strategy {
            Strategy::Kutover => {
                self.outcome == if rollback { "rolled-back" } else { "complete" }
                    && self.reason.is_none()
                    && self.findings.lost == 0
                    && self.findings.foreign == 0
                    && self.findings.duplicated <= self.findings.possibly_duplicated
                    && self.findings.groups.iter().all(|group| group.missed == 0)
                    && self.findings.not_written_but_there == 0
                    && (self.hand_over != HandOverChoice::Ordered.as_str() || self.findings.out_of_order == 0)
            }
            Strategy::Recipe | Strategy::DnsOnly => self.reason.is_none(),
        }
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let mut totals =
            plain_table(&["strategy", "outcome", "accepted", "lost", "duplicated", "out of order"]);
        totals.add_row(vec![
            Cell::new(&self.strategy),
            Cell::new(&self.outcome),
            number(self.findings.accepted),
            number(self.findings.lost),
            number(self.findings.duplicated),
            number(self.findings.out_of_order),
        ]);
        let mut clusters = plain_table(&["cluster", "version", "id", "records", "removed"]);
        for (name, cluster) in [("blue", &self.blue), ("green", &self.green)] {
            clusters.add_row(vec![
                Cell::new(name),
                Cell::new(&cluster.version),
                Cell::new(cluster.cluster_id.as_deref().unwrap_or("-")),
                number(cluster.records),
                Cell::new(if cluster.removed { "yes" } else { "no" }),
            ]);
        }
        let mut groups = plain_table(&["group", "processed", "missed", "again"]);
        for group in &self.findings.groups {
            groups.add_row(vec![
                Cell::new(&group.group),
                number(group.processed),
                number(group.missed),
                number(group.processed_again),
            ]);
        }
        let mut producers = plain_table(&["producer", "moved after", "stall p50", "p99", "p99.9", "max"]);
        for producer in &self.producers {
            let stall = producer.stall_us;
            let mut row = vec![
                Cell::new(&producer.instance),
                right(producer.switched_after_ms.map_or_else(|| "never".into(), |ms| format!("{ms} ms"))),
            ];
            row.extend([stall.p50, stall.p99, stall.p999, stall.max].map(|us| right(micros(us))));
            producers.add_row(row);
        }
        [totals, clusters, groups, producers].iter().fold(String::new(), |mut text, table| {
            let _ = writeln!(text, "{table}");
            text
        })
    }
}

pub(crate) fn plain_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table.remove_style(comfy_table::TableComponent::HorizontalLines);
    table.remove_style(comfy_table::TableComponent::MiddleIntersections);
    table
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn number(count: u64) -> Cell {
    right(group_digits(count))
}

/// `1234567` as `1,234,567`.
pub(crate) fn group_digits(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn micros(us: u64) -> String {
    if us < 1_000 { format!("{us} µs") } else { format!("{:.1} ms", us as f64 / 1_000.0) }
}

#[cfg(test)]
pub(crate) mod tests {
    use kutover_audit::GroupFinding;
    use serde_json::Value;

    use super::*;

    pub(crate) fn sample() -> Report {
        let cluster = |id: &str, removed| ClusterReport {
            cluster_id: Some(id.into()),
            version: "embedded".into(),
            records: 5,
            removed,
            closed_by: None,
        };
        Report {
            schema: SCHEMA,
            strategy: "kutover".into(),
            kafka: "embedded".into(),
            hand_over: "ordered".into(),
            outcome: "complete".into(),
            reason: None,
            seed: 7,
            took_ms: 12_000,
            records_per_s: 0,
            findings: Findings::default(),
            barrier_ms: None,
            blue: cluster("b", true),
            green: cluster("g", false),
            producers: vec![ProducerReport {
                instance: "producer-0".into(),
                switched_after_ms: Some(312),
                records_on_green: 0,
                stall_us: StallMicros { p50: 2, p99: 40, p999: 900, max: 12_345 },
                receipt: Some(serde_json::json!({ "generation": 2 })),
                on: None,
            }],
            timeline: vec![TimelineEntry { at_ms: 1, state: "planned".into(), event: "planned".into() }],
        }
    }

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    fn has(value: &Value, wanted: &[&str]) {
        let there = keys(value);
        for key in wanted {
            assert!(there.contains(key), "`{key}` is missing in {there:?}");
        }
    }

    #[test]
    fn the_json_has_every_promised_field() {
        let mut report = sample();
        let group =
            GroupFinding { group: "a".into(), processed: 9, missed: 1, processed_again: 0, out_of_order: 0 };
        report.findings = Findings { accepted: 10, lost: 1, groups: vec![group], ..Findings::default() };
        let json: Value = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        has(
            &json,
            &[
                "schema",
                "strategy",
                "kafka",
                "outcome",
                "seed",
                "accepted",
                "acknowledged",
                "returned",
                "lost",
                "duplicated",
                "possibly_duplicated",
                "out_of_order",
                "blue",
                "green",
                "groups",
                "producers",
                "timeline",
            ],
        );
        assert_eq!((&json["schema"], &json["lost"]), (&"kutover.report/1".into(), &1.into()));
        for colour in ["blue", "green"] {
            has(&json[colour], &["cluster_id", "version", "records", "removed"]);
        }
        has(&json["groups"][0], &["group", "processed", "missed"]);
        has(
            &json["producers"][0],
            &["instance", "switched_after_ms", "records_on_green", "stall_us", "receipt"],
        );
        has(&json["producers"][0]["stall_us"], &["p50", "p99", "p999", "max"]);
        has(&json["timeline"][0], &["at_ms", "state", "event"]);
    }

    #[test]
    fn a_loss_or_an_unfinished_run_is_no_success() {
        let mut report = sample();
        assert!(report.is_success(Strategy::Kutover, false));
        assert!(!report.is_success(Strategy::Kutover, true), "the way back was asked for");
        report.findings.duplicated = 1;
        assert!(!report.is_success(Strategy::Kutover, false), "a copy that no book tells of");
        report.findings.possibly_duplicated = 1;
        assert!(report.is_success(Strategy::Kutover, false));
        report.findings.lost = 1;
        assert!(!report.is_success(Strategy::Kutover, false));
        assert!(
            report.is_success(Strategy::Recipe, false),
            "a recipe that was carried out and lost records was carried out"
        );
        report.findings.lost = 0;
        let missing =
            GroupFinding { group: "a".into(), processed: 9, missed: 1, processed_again: 0, out_of_order: 0 };
        report.findings.groups.push(missing);
        assert!(!report.is_success(Strategy::Kutover, false), "a group that missed a record");
        report.findings.groups.clear();
        report.findings.not_written_but_there = 1;
        assert!(
            !report.is_success(Strategy::Kutover, false),
            "a record that was said not to be there is there"
        );
        report.findings.not_written_but_there = 0;
        report.findings.out_of_order = 1;
        assert!(!report.is_success(Strategy::Kutover, false), "order was promised");
        report.hand_over = "overlap".into();
        assert!(report.is_success(Strategy::Kutover, false), "`Overlap` promises no order");
        report.findings.out_of_order = 0;
        report.outcome = "aborted".into();
        assert!(!report.is_success(Strategy::Kutover, false));
        report.reason = Some("the record could not be changed".into());
        assert!(!report.is_success(Strategy::DnsOnly, false));
    }

    #[test]
    fn people_can_read_the_table() {
        let mut report = sample();
        report.findings.accepted = 1_234_567;
        let table = report.table();
        for text in ["1,234,567", "producer-0", "312 ms", "900 µs", "12.3 ms", "complete"] {
            assert!(table.contains(text), "{text}: {table}");
        }
        assert_eq!([0, 999, 1_000].map(group_digits), ["0", "999", "1,000"]);
    }
}
