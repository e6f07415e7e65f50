//! The embedded cluster's fence as a port.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use kutover_core::error::ProviderResult;
use kutover_core::ports::{FenceKind, FenceSwitch};
use kutover_core::words::TopicName;

use super::EmbeddedCluster;

/// The fence of an embedded cluster. While it is up for any topic, every client whose id does not start with
/// `kutover-` is refused with `TOPIC_AUTHORIZATION_FAILED`, whatever the topic: hooks do not see topics.
#[derive(Clone, Debug)]
pub struct EmbeddedFence {
    cluster: Arc<EmbeddedCluster>,
}

impl EmbeddedFence {
    pub(super) fn new(cluster: Arc<EmbeddedCluster>) -> Self {
        Self { cluster }
    }
}

#[async_trait]
impl FenceSwitch for EmbeddedFence {
    fn kind(&self) -> FenceKind {
        FenceKind::Hook
    }

    async fn raise(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let topics = topics.to_vec();
        let held_until = self
            .cluster
            .change_rules(move |rules| {
                rules.raise_fence(&topics);
                rules.held_until()
            })
            .await?;
        // Requests that a fault holds back were let in before the fence: they are applied before it counts as up.
        if let Some(held_until) = held_until {
            tokio::time::sleep_until(held_until.into()).await;
            self.cluster.change_rules(|_| ()).await?;
        }
        Ok(())
    }

    async fn lift(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let topics = topics.to_vec();
        self.cluster.change_rules(move |rules| rules.lift_fence(&topics)).await
    }

    async fn traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
        self.cluster.change_rules(|rules| rules.fenced().clone()).await
    }
}
