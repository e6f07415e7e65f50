//! The cluster that one run is measured on.

use std::sync::Arc;

use anyhow::{Result, ensure};
use kutover_lab::embedded::{EmbeddedCluster, EmbeddedOptions};

/// The topic that is written to.
pub(crate) const TOPIC: &str = "bench";
/// The deployment that a run's cluster belongs to.
pub(crate) const DEPLOYMENT: &str = "bench";
const BROKERS: usize = 3;
const PARTITIONS: i32 = 6;

/// A fresh embedded cluster with one topic. It keeps every record in memory, hence one for each run.
pub(crate) struct World {
    pub(crate) cluster: Arc<EmbeddedCluster>,
}

impl World {
    pub(crate) async fn start() -> Result<Self> {
        let options = EmbeddedOptions { brokers: BROKERS, ..EmbeddedOptions::default() };
        let cluster = EmbeddedCluster::start(options).await?;
        ensure!(cluster.fake().create_topic(TOPIC, PARTITIONS), "topic {TOPIC} was there already");
        Ok(Self { cluster })
    }

    pub(crate) fn bootstrap(&self) -> Vec<String> {
        self.cluster.brokers().iter().map(ToString::to_string).collect()
    }

    /// Records in the topic's logs.
    pub(crate) fn stored(&self) -> u64 {
        (0..PARTITIONS)
            .filter_map(|partition| self.cluster.fake().next_offset(TOPIC, partition))
            .filter_map(|offset| u64::try_from(offset).ok())
            .sum()
    }
}
