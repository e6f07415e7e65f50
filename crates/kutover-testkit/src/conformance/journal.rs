//! [`Journal`]. Every function appends behind what is there.

use std::sync::Arc;

use kutover_core::error::{ErrorKind, ProviderResult};
use kutover_core::ports::{Journal, JournalEntry};
use kutover_core::words::Term;

use super::Clause;

const PORT: &str = "Journal";

async fn next(clause: Clause, journal: &dyn Journal) -> JournalEntry {
    let entries = clause.ok(journal.read().await);
    let term = entries.iter().map(|entry| entry.term).max().unwrap_or(Term(1));
    let index = entries.len() as u64;
    JournalEntry { index, term, body: serde_json::json!({ "entry": index, "text": "grün\n\"x\"" }) }
}

/// Clause 3.
pub async fn entries_are_read_in_order(journal: &dyn Journal) {
    let clause = Clause::new(PORT, 3, "`read` gives every entry in order");
    let mut expected = clause.ok(journal.read().await);
    for _ in 0..3 {
        let entry = next(clause, journal).await;
        clause.ok(journal.append(&entry).await);
        expected.push(entry);
    }
    let found = clause.ok(journal.read().await);
    clause.holds(found == expected, found);
}

/// Clause 1.
pub async fn only_the_next_index_is_taken(journal: &dyn Journal) {
    let clause =
        Clause::new(PORT, 1, "`append` succeeds only if the journal has exactly `entry.index` entries");
    let entry = next(clause, journal).await;
    clause.ok(journal.append(&entry).await);
    for index in [0, entry.index, entry.index + 2] {
        let wrong = JournalEntry { index, ..entry.clone() };
        clause.refused(journal.append(&wrong).await, ErrorKind::Conflict);
    }
    let held = clause.ok(journal.read().await).len() as u64;
    clause.holds(held == entry.index + 1, held);
}

/// Clause 1.
pub async fn a_lower_term_is_superseded(journal: &dyn Journal) {
    let clause = Clause::new(PORT, 1, "`append` succeeds only if the journal has no entry of a higher term");
    let entry = next(clause, journal).await;
    let raised = JournalEntry { term: entry.term.next(), ..entry.clone() };
    clause.ok(journal.append(&raised).await);
    let late = JournalEntry { index: entry.index + 1, ..entry };
    clause.refused(journal.append(&late).await, ErrorKind::Superseded);
    let held = clause.ok(journal.read().await).len() as u64;
    clause.holds(held == late.index, held);
}

/// Clause 1.
pub async fn append_has_one_winner(journal: Arc<dyn Journal>) {
    let clause = Clause::new(PORT, 1, "of several racing appends of the same index one succeeds");
    let entry = next(clause, &*journal).await;
    let racers: Vec<_> = (0..8)
        .map(|number| {
            let journal = Arc::clone(&journal);
            let entry = JournalEntry { body: serde_json::json!(number), ..entry.clone() };
            tokio::spawn(async move { (number, journal.append(&entry).await) })
        })
        .collect();
    let mut winners = Vec::new();
    for racer in racers {
        match racer.await {
            Ok((number, Ok(()))) => winners.push(number),
            Ok((_, lost)) => drop(clause.refused(lost, ErrorKind::Conflict)),
            Err(panicked) => clause.holds(false, panicked),
        }
    }
    clause.holds(winners.len() == 1, &winners);
    let found = clause.ok(journal.read().await);
    let stands = found.last().map(|entry| entry.body.clone());
    clause.holds(stands == Some(serde_json::json!(winners[0])), stands);
}

/// Clause 2, as far as a process can see it: a journal that is opened anew has what was appended. `open` opens it; the
/// one it gave before has been dropped.
pub async fn appended_entries_survive<J: Journal>(open: impl AsyncFn() -> J) {
    let clause = Clause::new(PORT, 2, "`Ok` means durable");
    let journal = open().await;
    entries_are_read_in_order(&journal).await;
    let before = clause.ok(journal.read().await);
    drop(journal);
    let after = clause.ok(open().await.read().await);
    clause.holds(after == before, after);
}

/// Clause 3. `tear` leaves the beginning of one more entry behind the last, as a power cut in the middle of an append does.
pub async fn a_torn_tail_is_dropped<J: Journal>(open: impl AsyncFn() -> J, tear: impl AsyncFn()) {
    let clause = Clause::new(PORT, 3, "an entry that was cut off at the very end is dropped");
    let journal = open().await;
    clause.ok(journal.append(&next(clause, &journal).await).await);
    let before = clause.ok(journal.read().await);
    drop(journal);
    tear().await;
    let journal = open().await;
    let after = clause.ok(journal.read().await);
    clause.holds(after == before, after);
    entries_are_read_in_order(&journal).await;
}

/// Clause 3. `damage` spoils the journal's first entry.
pub async fn damage_is_named<J: Journal>(open: impl AsyncFn() -> ProviderResult<J>, damage: impl AsyncFn()) {
    let clause = Clause::new(PORT, 3, "damage before the end is `Invalid` and names the entry");
    let journal = clause.ok(open().await);
    entries_are_read_in_order(&journal).await;
    drop(journal);
    damage().await;
    // Some say it when they are opened.
    let read = match open().await {
        Ok(journal) => journal.read().await,
        Err(error) => Err(error),
    };
    match read {
        Ok(entries) => clause.holds(false, entries),
        Err(error) => {
            let named = error.to_string().contains("entry 0");
            clause.holds(error.kind == ErrorKind::Invalid && named, error);
        }
    }
}

/// Every clause that needs nothing but the journal.
pub async fn check_all(journal: Arc<dyn Journal>) {
    entries_are_read_in_order(&*journal).await;
    only_the_next_index_is_taken(&*journal).await;
    a_lower_term_is_superseded(&*journal).await;
    append_has_one_winner(journal).await;
}
