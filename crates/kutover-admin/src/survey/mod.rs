//! Looks at a cluster without touching it: what a plan asks besides topics, groups' commits and ends.

mod ages;
mod clients;
mod configs;
mod reach;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use kutover_core::error::ProviderResult;
use kutover_core::ports::{ClusterSurvey, ConfigMap, GroupDescription, Item, NewTopic, RefusedTopics};
use kutover_core::words::{GroupId, Offset, TopicName, TopicPartition};

use crate::admin::KafkaAdmin;

#[async_trait]
impl ClusterSurvey for KafkaAdmin {
    async fn topic_configs(
        &self,
        topics: &[TopicName],
    ) -> ProviderResult<BTreeMap<TopicName, Item<ConfigMap>>> {
        self.read_topic_configs(topics).await
    }

    async fn broker_configs(&self) -> ProviderResult<BTreeMap<i32, Item<ConfigMap>>> {
        self.read_broker_configs().await
    }

    async fn refused_topics(&self, topics: &[NewTopic]) -> ProviderResult<RefusedTopics> {
        self.try_topics(topics).await
    }

    async fn describe_groups(&self) -> ProviderResult<BTreeMap<GroupId, Item<GroupDescription>>> {
        self.read_descriptions().await
    }

    async fn transactional_ids(&self) -> ProviderResult<BTreeMap<String, String>> {
        self.read_transactional_ids().await
    }

    async fn sizes(&self, topics: &[TopicName]) -> ProviderResult<BTreeMap<TopicPartition, Item<u64>>> {
        self.read_sizes(topics).await
    }

    async fn ages(
        &self,
        at: &BTreeMap<TopicPartition, Offset>,
        now_ms: i64,
    ) -> ProviderResult<BTreeMap<TopicPartition, Item<u64>>> {
        Ok(self.read_ages(at, now_ms).await)
    }

    async fn client_addresses(&self) -> Option<BTreeSet<String>> {
        self.read_client_addresses().await
    }

    async fn reach(&self, addresses: &BTreeSet<String>) -> BTreeMap<String, Item<()>> {
        self.try_addresses(addresses).await
    }
}
