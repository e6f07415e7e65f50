//! Each kind of fault is planted in a clean run, and must be found: the audit's own controls.

use super::*;
use crate::traffic::TrafficRecord;

const KEYS: u64 = 3;

/// Two producers with ten records each, blue to the fifth, green from there; two groups that read all of it.
struct Run {
    ledger: Vec<Vec<Fate>>,
    blue: ClusterLog,
    green: ClusterLog,
    blue_again: BTreeMap<i32, i64>,
    groups: Vec<(String, GroupBook)>,
}

fn logged(instance: u16, seq: u64, offset: i64) -> LogRecord {
    let key = (seq % KEYS) as u16;
    LogRecord { partition: i32::from(instance), offset, id: RecordId { instance, seq }, key }
}

fn group(logs: [&ClusterLog; 2]) -> GroupBook {
    let mut book = GroupBook::default();
    for record in logs.into_iter().flat_map(|log| &log.records) {
        book.process(&TrafficRecord { id: record.id, key: record.key, run: 0 });
    }
    book
}

fn clean() -> Run {
    let log = |range: std::ops::Range<u64>| ClusterLog {
        records: (0..2u16)
            .flat_map(|instance| {
                range.clone().zip(0i64..).map(move |(seq, offset)| logged(instance, seq, offset))
            })
            .collect(),
        foreign: 0,
    };
    let (blue, green) = (log(0..5), log(5..10));
    let groups = ["a", "b"].map(|name| (name.to_owned(), group([&blue, &green]))).into();
    Run { ledger: vec![vec![Fate::Acknowledged; 10]; 2], blue, green, blue_again: BTreeMap::new(), groups }
}

fn findings(run: &Run, predicted_duplicates: u64) -> Findings {
    audit(&Evidence {
        ledger: &run.ledger,
        predicted_duplicates,
        blue: &run.blue,
        green: &run.green,
        blue_again: &run.blue_again,
        groups: run.groups.clone(),
    })
}

#[test]
fn a_clean_run_has_no_findings() {
    let found = findings(&clean(), 0);
    let group = |name: &str| GroupFinding {
        group: name.into(),
        processed: 20,
        missed: 0,
        processed_again: 0,
        out_of_order: 0,
    };
    assert_eq!(
        found,
        Findings {
            accepted: 20,
            acknowledged: 20,
            on_green: vec![5, 5],
            groups: vec![group("a"), group("b")],
            ..Findings::default()
        }
    );
}

#[test]
fn an_acknowledged_record_in_no_log_is_lost() {
    let mut run = clean();
    run.green.records.retain(|record| record.id != RecordId { instance: 1, seq: 7 });
    let found = findings(&run, 0);
    assert_eq!((found.lost, found.lost_acknowledged), (1, 1));
}

#[test]
fn a_record_that_nobody_settled_is_lost_only_if_it_is_in_no_log() {
    let mut run = clean();
    run.ledger[0][2] = Fate::Pending;
    run.ledger[0][3] = Fate::Failed;
    assert_eq!(findings(&run, 0).lost, 0);
    run.blue.records.retain(|record| record.id.instance != 0 || !(2..=3).contains(&record.id.seq));
    let found = findings(&run, 0);
    assert_eq!((found.lost, found.lost_acknowledged), (2, 0));
}

#[test]
fn a_returned_record_is_not_lost_but_must_not_contradict_itself() {
    let mut run = clean();
    run.ledger[0][2] = Fate::NotWritten;
    run.ledger[0][3] = Fate::Unknown;
    let found = findings(&run, 0);
    assert_eq!((found.returned, found.lost, found.not_written_but_there), (2, 0, 1));
    run.blue.records.retain(|record| record.id.instance != 0 || !(2..=3).contains(&record.id.seq));
    let found = findings(&run, 0);
    assert_eq!((found.returned, found.lost, found.not_written_but_there), (2, 0, 0));
}

#[test]
fn a_second_copy_is_a_duplicate_and_no_disorder() {
    let mut run = clean();
    run.green.records.push(logged(0, 1, 99));
    let found = findings(&run, 4);
    assert_eq!((found.duplicated, found.out_of_order, found.possibly_duplicated), (1, 0, 4));
}

#[test]
fn a_first_copy_after_a_later_one_of_its_key_is_out_of_order() {
    let mut run = clean();
    // 1 and 4 have the same key; 1 moves to green.
    run.blue.records.retain(|record| record.id != RecordId { instance: 0, seq: 1 });
    run.green.records.push(logged(0, 1, 99));
    assert_eq!(findings(&run, 0).out_of_order, 1);
    // 2 and 3 have other keys than each other: no order is promised between them.
    let mut run = clean();
    let at = |run: &Run, seq| {
        run.blue.records.iter().position(|record| record.id == RecordId { instance: 0, seq }).unwrap()
    };
    let (second, third) = (at(&run, 2), at(&run, 3));
    run.blue.records[second].offset = 3;
    run.blue.records[third].offset = 2;
    assert_eq!(findings(&run, 0).out_of_order, 0);
}

#[test]
fn what_a_group_did_not_process_is_missed_by_that_group_alone() {
    let mut run = clean();
    let mut short = run.blue.clone();
    short.records.pop();
    run.groups[1].1 = group([&short, &run.green]);
    let found = findings(&run, 0);
    assert_eq!((found.groups[0].missed, found.groups[1].missed), (0, 1));
    run.groups[0].1 = group([&run.green, &run.blue]);
    assert!(findings(&run, 0).groups[0].out_of_order > 0, "green before blue is disorder for that group");
}

#[test]
fn a_record_of_nobody_is_foreign() {
    let mut run = clean();
    run.blue.records.push(logged(0, 10, 50));
    run.green.records.push(logged(9, 0, 50));
    run.green.foreign = 2;
    let found = findings(&run, 0);
    assert_eq!((found.foreign, found.lost, found.duplicated), (4, 0, 0));
}

/// After a rollback blue's log is read in two parts; what is in the second comes after green.
#[test]
fn what_follows_on_blue_after_a_rollback_comes_last() {
    let mut run = clean();
    let after: Vec<LogRecord> = run.green.records.extract_if(.., |record| record.id.seq >= 8).collect();
    run.blue
        .records
        .extend(after.into_iter().map(|record| LogRecord { offset: record.offset + 2, ..record }));
    assert_eq!(
        findings(&run, 0).out_of_order,
        4,
        "5 and 6 of each instance come after later ones of their key"
    );
    run.blue_again = [(0, 5), (1, 5)].into();
    assert_eq!(findings(&run, 0).out_of_order, 0);
}
