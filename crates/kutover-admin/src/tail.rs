//! Reads what stands between a commit and the end of the log, to see whether any of it is data (L10).

use std::collections::HashMap;
use std::sync::Arc;

use krafka::error::{KrafkaError, ProtocolErrorKind};
use kutover_core::drain::{LogRange, Tail};
use kutover_core::words::{Offset, TopicPartition};
use tokio::sync::{Mutex, OnceCell, Semaphore};
use tokio::time::Instant;

use crate::admin::KafkaAdmin;
use crate::errors::reason;
use crate::fetch::holds_data;

/// Tails read at once: requests over the connections that are there.
const TAILS_AT_ONCE: usize = 64;
/// How much one fetch may bring: one batch is enough to know that there is data.
const FETCH_BYTES: i32 = 64 * 1024;

/// Up to where a tail tells what is there, and what it comes to if no data stands before that.
///
/// What is open may yet be committed, and where it is not known how a group reads, it may have been given it already: behind
/// the last stable offset nothing that is seen here says what is there. What stands before it is there to be read, however
/// long the transaction behind it stays open.
fn readable(from: Offset, end: Offset, stable: Option<Offset>, uncommitted: bool) -> (Offset, Tail) {
    match stable {
        _ if uncommitted => (end, Tail::NoData),
        Some(stable) if stable >= end => (end, Tail::NoData),
        Some(stable) => (stable, Tail::Open),
        None => (from, Tail::Open),
    }
}

type Answer = Arc<OnceCell<Result<Tail, String>>>;

/// Reads tails; groups that stand at the same place, and are given the same records, share one reading.
pub(crate) struct TailReader<'a> {
    admin: &'a KafkaAdmin,
    stable_ends: HashMap<TopicPartition, Offset>,
    at_once: Semaphore,
    read: Mutex<HashMap<(TopicPartition, Offset, bool), Answer>>,
}

impl<'a> TailReader<'a> {
    pub(crate) fn new(admin: &'a KafkaAdmin, stable_ends: HashMap<TopicPartition, Offset>) -> Self {
        let at_once = Semaphore::new(TAILS_AT_ONCE);
        Self { admin, stable_ends, at_once, read: Mutex::default() }
    }

    /// What stands between a commit (or the start, without one) and the end. `NotRead` where there is nothing to
    /// read or the end was not reached in time. A group that is known to read uncommitted records is given open and aborted
    /// ones like all others.
    pub(crate) async fn read(
        &self,
        place: &TopicPartition,
        committed: Option<Offset>,
        range: LogRange,
        uncommitted: bool,
    ) -> Result<Tail, String> {
        let from = committed.unwrap_or(range.start);
        if from < range.start || from >= range.end {
            return Ok(Tail::NotRead);
        }
        let stable = self.stable_ends.get(place).copied();
        let (until, then) = readable(from, range.end, stable, uncommitted);
        if until <= from {
            return Ok(then);
        }
        let key = (place.clone(), from, uncommitted);
        let cell = Arc::clone(self.read.lock().await.entry(key).or_default());
        let seen = cell.get_or_init(|| self.look(place, from, until, !uncommitted)).await.clone()?;
        Ok(if seen == Tail::NoData { then } else { seen })
    }

    async fn look(
        &self,
        place: &TopicPartition,
        from: Offset,
        end: Offset,
        committed_only: bool,
    ) -> Result<Tail, String> {
        let Ok(_permit) = self.at_once.acquire().await else { return Ok(Tail::NotRead) };
        let budget = self.admin.config.timeouts.tail;
        let walk = self.walk(place, from, end, committed_only, Instant::now() + budget);
        match tokio::time::timeout(budget, walk).await {
            Ok(answer) => answer.map_err(|error| reason(&error)),
            Err(_) => Ok(Tail::NotRead),
        }
    }

    async fn walk(
        &self,
        place: &TopicPartition,
        from: Offset,
        end: Offset,
        committed_only: bool,
        deadline: Instant,
    ) -> Result<Tail, KrafkaError> {
        let mut at = from;
        while at < end {
            let fetched = self.admin.fetch(place, at, FETCH_BYTES, committed_only).await?;
            let stretch = match fetched.decode() {
                // Formats from before record batches have no markers: whatever stands there is data.
                Err(KrafkaError::Protocol { kind: ProtocolErrorKind::UnsupportedMagic, .. }) => {
                    return Ok(Tail::Data);
                }
                decoded => decoded?,
            };
            if holds_data(&stretch.batches, &fetched.aborted(), at, end, committed_only) {
                return Ok(Tail::Data);
            }
            at = stretch.next.map_or(at, |next| at.max(next));
            if Instant::now() >= deadline {
                return Ok(Tail::NotRead);
            }
        }
        Ok(Tail::NoData)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L10, L11: an open transaction is not drained, and hides nothing that stands before it.
    #[test]
    fn a_tail_is_read_up_to_where_nothing_is_open() {
        let (from, end) = (Offset(40), Offset(100));
        for (stable, uncommitted, expected) in [
            (Some(100), false, (100, Tail::NoData)),
            (Some(90), false, (90, Tail::Open)),
            (Some(40), false, (40, Tail::Open)),
            (Some(30), false, (30, Tail::Open)),
            (None, false, (40, Tail::Open)),
            (Some(90), true, (100, Tail::NoData)),
            (None, true, (100, Tail::NoData)),
        ] {
            let (until, then) = readable(from, end, stable.map(Offset), uncommitted);
            assert_eq!((until.0, then), expected, "{stable:?} {uncommitted}");
        }
    }
}
