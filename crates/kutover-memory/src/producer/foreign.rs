//! A producer outside the library: a stock client that follows the name to another cluster and takes its id along.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kutover_core::ports::DeliveryFate;
use kutover_core::words::{ClusterId, Offset, TopicPartition};
use tokio::time::Instant;

use super::ClientOptions;
use super::attempt::{Attempt, Batch, attempt};
use crate::cluster::{BatchId, MemoryCluster, StoredRecord};
use crate::faults::pause;
use crate::weather::{CalmWeather, Weather};

/// A stock idempotent producer that sends one record at a time. What it believes and what is so may differ:
/// [`MemoryCluster::discarded`] tells.
#[derive(Debug)]
pub struct ForeignProducer {
    cluster: MemoryCluster,
    options: ClientOptions,
    producer_id: i64,
    epoch: i16,
    next: BTreeMap<TopicPartition, i32>,
}

impl ForeignProducer {
    /// Starts on a cluster, which gives it its id.
    pub fn start(cluster: &MemoryCluster, options: ClientOptions) -> Self {
        let producer_id = cluster.init_producer_id();
        Self { cluster: cluster.clone(), options, producer_id, epoch: 0, next: BTreeMap::new() }
    }

    /// Goes to another cluster by itself, as stock clients do when all brokers they know are gone and the name leads
    /// elsewhere (`metadata.recovery.strategy=rebootstrap`): id, epoch and sequences go with it (L16).
    pub fn rebootstrap(&mut self, cluster: &MemoryCluster) {
        self.cluster.faults().fire("foreign-rebootstraps");
        self.cluster = cluster.clone();
    }

    /// Its id, whichever cluster that is from.
    pub fn producer_id(&self) -> i64 {
        self.producer_id
    }

    /// The cluster it is on.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster.cluster_id()
    }

    /// Whether its cluster answers it at all: if not, a stock client looks the name up again.
    pub fn is_connected(&self) -> bool {
        self.cluster.client_reaches()
    }

    /// Sends a record and waits for its report, in virtual time. `Ok` is an acknowledgement, and what it says need not
    /// be true.
    ///
    /// # Errors
    /// What the client knows of a record that was not acknowledged.
    pub async fn send(
        &mut self,
        place: &TopicPartition,
        record: StoredRecord,
    ) -> Result<Offset, DeliveryFate> {
        let deadline = Instant::now() + Duration::from_millis(self.options.delivery_timeout_ms);
        let records: Arc<[Arc<StoredRecord>]> = Arc::new([Arc::new(record)]);
        let mut maybe = false;
        while Instant::now() < deadline {
            let first = self.next.get(place).copied().unwrap_or(0);
            let id = BatchId { producer_id: self.producer_id, epoch: self.epoch, first };
            let batch = Batch { id, records: Arc::clone(&records) };
            let weather = self.cluster.faults().weather().cloned();
            let weather = weather.unwrap_or_else(|| Arc::new(CalmWeather) as Arc<dyn Weather>);
            let mut given = Attempt::Again;
            if self.cluster.leader_reachable(place) {
                given = attempt(&self.cluster, &*weather, place, &batch, &self.options, deadline).await;
            }
            match given {
                Attempt::Acknowledged(offset) => {
                    self.next.insert(place.clone(), first + 1);
                    return Ok(Offset(offset));
                }
                Attempt::Silence => maybe = true,
                Attempt::Again => pause(self.options.retry_ms).await,
                // Sequences are missing: it begins anew in a later epoch, which the cluster would have to tell it of.
                Attempt::Refused(45, _) => {
                    self.epoch += 1;
                    self.next.clear();
                }
                // Somebody else is in a later epoch of the id: it asks for another one.
                Attempt::Refused(47, _) => {
                    self.producer_id = self.cluster.init_producer_id();
                    self.epoch = 0;
                    self.next.clear();
                }
                Attempt::Refused(..) | Attempt::GivenUp => break,
            }
        }
        if maybe {
            self.epoch += 1;
            self.next.clear();
        }
        Err(if maybe { DeliveryFate::Unknown } else { DeliveryFate::NotWritten })
    }
}
