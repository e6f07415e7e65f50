//! The audit: what the producers said, against what stands in the logs, against what the groups processed.
//!
//! It trusts nothing of kutover's. The logs are read by stock clients from their start, the groups are stock clients,
//! and this file is a pure function over plain data.

mod reader;

use std::collections::{BTreeMap, HashMap, HashSet};

pub use reader::{ClusterLog, Follower, LogRecord, ends_of};
use serde::Serialize;

use crate::consumers::GroupBook;
use crate::traffic::{Fate, RecordId};

/// All that the audit looks at.
pub struct Evidence<'a> {
    /// The producers' ledger, by instance and sequence number.
    pub ledger: &'a [Vec<Fate>],
    /// How many duplicates the producers said there may be.
    pub predicted_duplicates: u64,
    /// The old cluster's log, from its start to its end.
    pub blue: &'a ClusterLog,
    /// The new cluster's log, from its start to its end.
    pub green: &'a ClusterLog,
    /// By partition: the offset from which the old log goes on after the new one, if the cutover was rolled back.
    pub blue_again: &'a BTreeMap<i32, i64>,
    /// Each group's name with what it processed.
    pub groups: Vec<(String, GroupBook)>,
}

/// What one group did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupFinding {
    /// The group.
    pub group: String,
    /// Distinct records that it processed.
    pub processed: u64,
    /// Records that stand in a log and that it did not process.
    pub missed: u64,
    /// Records that it processed more than once.
    pub processed_again: u64,
    /// Records that it processed after a later one of their key.
    pub out_of_order: u64,
}

/// What the audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Records that a producer took.
    pub accepted: u64,
    /// Of these, the ones it said were acknowledged.
    pub acknowledged: u64,
    /// Of these, the ones it handed back with their fate.
    pub returned: u64,
    /// Of these, the ones whose delivery report failed in a stock client: nobody got them back, some stand in a log.
    pub failed: u64,
    /// Accepted, not handed back, and in no log.
    pub lost: u64,
    /// Of the lost ones, those that were acknowledged.
    pub lost_acknowledged: u64,
    /// Copies in the logs beyond the first of each record.
    pub duplicated: u64,
    /// What the producers' own books admit to.
    pub possibly_duplicated: u64,
    /// First copies that stand after a later record of their key, the old log read before the new one.
    pub out_of_order: u64,
    /// Records handed back as not written that stand in a log: a promise broken.
    pub not_written_but_there: u64,
    /// Records in a log that no producer of this run accepted.
    pub foreign: u64,
    /// By producer: records of its own in the new cluster's log.
    #[serde(skip)]
    pub on_green: Vec<u64>,
    /// What each group did.
    pub groups: Vec<GroupFinding>,
}

/// Compares what was said with what is there.
pub fn audit(evidence: &Evidence<'_>) -> Findings {
    let mut findings = Findings { possibly_duplicated: evidence.predicted_duplicates, ..Findings::default() };
    let logged = read_logs(evidence, &mut findings);
    for (instance, fates) in (0u16..).zip(evidence.ledger) {
        for (seq, fate) in (0u64..).zip(fates) {
            weigh(*fate, logged.contains(&RecordId { instance, seq }), &mut findings);
        }
    }
    findings.on_green = vec![0; evidence.ledger.len()];
    for record in &evidence.green.records {
        if let Some(count) = findings.on_green.get_mut(usize::from(record.id.instance)) {
            *count += 1;
        }
    }
    findings.groups = evidence.groups.iter().map(|(name, book)| judge_group(name, book, &logged)).collect();
    findings
}

/// Counts one ledger entry.
fn weigh(fate: Fate, logged: bool, findings: &mut Findings) {
    findings.accepted += 1;
    findings.acknowledged += u64::from(fate == Fate::Acknowledged);
    findings.returned += u64::from(fate.is_returned());
    findings.failed += u64::from(fate == Fate::Failed);
    if logged {
        findings.not_written_but_there += u64::from(fate == Fate::NotWritten);
    } else if !fate.is_returned() {
        findings.lost += 1;
        findings.lost_acknowledged += u64::from(fate == Fate::Acknowledged);
    }
}

/// Reads the old log and then the new one, and what follows on the old one after a rollback, as a reader that wants order
/// does; gives the distinct records.
fn read_logs(evidence: &Evidence<'_>, findings: &mut Findings) -> HashSet<RecordId> {
    let mut logged = HashSet::new();
    let mut newest: HashMap<(u16, u16), u64> = HashMap::new();
    findings.foreign += evidence.blue.foreign + evidence.green.foreign;
    let again = |record: &LogRecord| {
        evidence.blue_again.get(&record.partition).is_some_and(|from| record.offset >= *from)
    };
    let before = evidence.blue.records.iter().filter(|record| !again(record)).collect();
    let after = evidence.blue.records.iter().filter(|record| again(record)).collect();
    for mut records in [before, evidence.green.records.iter().collect::<Vec<_>>(), after] {
        records.sort_by_key(|record| (record.partition, record.offset));
        for record in records {
            let accepted = evidence.ledger.get(usize::from(record.id.instance)).map_or(0, Vec::len);
            if record.id.seq >= accepted as u64 {
                findings.foreign += 1;
                continue;
            }
            if !logged.insert(record.id) {
                findings.duplicated += 1;
                continue;
            }
            let newest = newest.entry((record.id.instance, record.key)).or_insert(record.id.seq);
            if record.id.seq < *newest {
                findings.out_of_order += 1;
            } else {
                *newest = record.id.seq;
            }
        }
    }
    logged
}

fn judge_group(name: &str, book: &GroupBook, logged: &HashSet<RecordId>) -> GroupFinding {
    GroupFinding {
        group: name.to_owned(),
        processed: book.processed,
        missed: logged.iter().filter(|id| !book.has(**id)).count() as u64,
        processed_again: book.again,
        out_of_order: book.out_of_order,
    }
}

#[cfg(test)]
mod tests;
