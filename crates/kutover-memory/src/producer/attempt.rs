//! One attempt to get a batch to its partition.

use std::sync::Arc;
use std::time::Duration;

use kutover_core::words::TopicPartition;
use tokio::time::Instant;

use super::ClientOptions;
use crate::cluster::{BatchId, MemoryCluster, StoredRecord};
use crate::faults::{SLOW_MS, pause};
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
    let late_ms = match fate {
        RecordFate::NotWritten => {
            faults.fire("record-not-written");
            return Attempt::GivenUp;
        }
        RecordFate::LateAppend { after_ms } => Some(reach_ms + after_ms),
        RecordFate::AckLost | RecordFate::Acknowledged => (reach_ms > patience_ms).then_some(reach_ms),
    };
    if let Some(late_ms) = late_ms {
        let (cluster, place, batch) = (cluster.clone(), place.clone(), batch.clone());
        tokio::spawn(async move {
            pause(late_ms).await;
            land_late(&cluster, &place, &batch);
        });
        pause(patience_ms).await;
        return Attempt::Silence;
    }
    pause(reach_ms).await;
    let landed = cluster.append_batch(place, &batch.id, &batch.records);
    let heard = match landed {
        // The connection broke with the request on it.
        Err((-195, _)) => false,
        Ok(taken) => !taken.held && reach_ms + answer_ms <= patience_ms,
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

fn land_late(cluster: &MemoryCluster, place: &TopicPartition, batch: &Batch) {
    let landed = cluster.append_batch(place, &batch.id, &batch.records);
    cluster.faults().fire(match landed {
        Ok(taken) if !taken.duplicate => "record-late-append",
        _ => "record-late-refused",
    });
}
