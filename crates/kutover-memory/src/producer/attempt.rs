//! One attempt to get a batch to its partition.

use std::sync::Arc;
use std::time::Duration;

use kutover_core::words::TopicPartition;
use tokio::time::Instant;

use super::{Acks, ClientOptions};
use crate::cluster::{BatchId, MemoryCluster, StoredRecord};
use crate::faults::{Faults, SLOW_MS, pause};
use crate::weather::{RecordFate, RecordWeather, Weather};

/// What a client knows after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Acknowledged; the first record's offset, as the leader said it.
    Acknowledged(i64),
    /// The leader refused it for good.
    Refused(i32, &'static str),
    /// It is known not to be there, and may be tried again.
    Again,
    /// No answer: it may be there, or may still come there.
    Silence,
    /// The client gave it up before it was ever sent.
    GivenUp,
}

/// A batch, ready to be sent as often as need be: the same records under the same sequence.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) id: BatchId,
    pub(super) records: Arc<[Arc<StoredRecord>]>,
}

/// Tries once. It takes no longer than the request time-out, nor beyond the deadline; what is on its way then still
/// lands.
pub(super) async fn attempt(
    cluster: &MemoryCluster,
    weather: &dyn Weather,
    place: &TopicPartition,
    batch: &Batch,
    options: &ClientOptions,
    deadline: Instant,
) -> Attempt {
    let RecordWeather { reach_ms, answer_ms, fate } = weather.record(&cluster.cluster_id(), place);
    let faults = cluster.faults();
    let given_up = (Instant::now() + Duration::from_millis(options.request_timeout_ms)).min(deadline);
    let patience_ms = given_up.saturating_duration_since(Instant::now()).as_millis() as u64;
    if reach_ms + answer_ms >= SLOW_MS {
        faults.fire("record-slow");
    }
    if options.acks == Acks::None {
        if fate != RecordFate::NotWritten {
            let more_ms = if let RecordFate::LateAppend { after_ms } = fate { after_ms } else { 0 };
            land(cluster, place, batch, reach_ms + more_ms, |_, _| ());
        }
        return Attempt::Acknowledged(-1);
    }
    let late_ms = match fate {
        RecordFate::NotWritten => {
            faults.fire("record-not-written");
            return Attempt::GivenUp;
        }
        RecordFate::LateAppend { after_ms } => Some(reach_ms + after_ms),
        RecordFate::AckLost | RecordFate::Acknowledged => (reach_ms > patience_ms).then_some(reach_ms),
    };
    if let Some(late_ms) = late_ms {
        land(cluster, place, batch, late_ms, |faults, new| {
            faults.fire(if new { "record-late-append" } else { "record-late-refused" });
        });
        pause(patience_ms).await;
        return Attempt::Silence;
    }
    pause(reach_ms).await;
    let landed = cluster.append_batch(place, &batch.id, &batch.records);
    let heard = match landed {
        // The connection broke with the request on it.
        Err((-195, _)) => false,
        Ok(taken) => (!taken.held || options.acks == Acks::Leader) && reach_ms + answer_ms <= patience_ms,
        Err(_) => reach_ms + answer_ms <= patience_ms,
    };
    if fate == RecordFate::AckLost {
        faults.fire("record-ack-lost");
    }
    if fate == RecordFate::AckLost || !heard {
        pause(patience_ms.saturating_sub(reach_ms)).await;
        return Attempt::Silence;
    }
    pause(answer_ms).await;
    match landed {
        Ok(taken) => Attempt::Acknowledged(taken.offset),
        Err((5, _)) => Attempt::Again,
        Err((number, name)) => Attempt::Refused(number, name),
    }
}

/// Lets a batch land although nobody waits for it, and says whether it was new.
fn land(
    cluster: &MemoryCluster,
    place: &TopicPartition,
    batch: &Batch,
    after_ms: u64,
    landed: impl FnOnce(&Faults, bool) + Send + 'static,
) {
    let (cluster, place, batch) = (cluster.clone(), place.clone(), batch.clone());
    tokio::spawn(async move {
        pause(after_ms).await;
        let taken = cluster.append_batch(&place, &batch.id, &batch.records);
        landed(cluster.faults(), taken.is_ok_and(|taken| !taken.duplicate));
    });
}
