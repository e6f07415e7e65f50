//! A fence that shuts readers out as well, on a real Kafka cluster with an authorizer.

#![allow(unreachable_pub)]

use std::sync::Arc;

use async_trait::async_trait;
use krafka::Kafka;
use krafka::admin::{
    AclBinding, AclFilter, AclOperation, AclPatternType, AclPermissionType, AclResourceType,
    CreateAclsOptions, DeleteAclsOptions,
};
use kutover_admin::{AdminConfig, FenceWith, KafkaAdmin};
use kutover_core::error::ProviderResult;
use kutover_core::ports::{ClusterAdmin as _, FenceKind, FenceSwitch, Incarnation};
use kutover_core::words::TopicName;
use kutover_testkit::conformance::admin::a_fence_that_shuts_readers_out_is_taken_away;

use super::support::*;

/// Denies everybody to write, and to read.
struct DeniesReadingToo(Kafka);

#[async_trait]
impl FenceSwitch for DeniesReadingToo {
    fn kind(&self) -> FenceKind {
        FenceKind::Exec
    }

    async fn raise(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let denied = |topic: &TopicName, operation| AclBinding {
            operation,
            permission_type: AclPermissionType::Deny,
            ..AclBinding::allow_read_topic(topic.as_str(), "User:*")
                .with_pattern_type(AclPatternType::from_i8(3))
        };
        let both =
            |topic| [AclOperation::Write, AclOperation::Read].map(|operation| denied(topic, operation));
        let rules = topics.iter().flat_map(both).collect::<Vec<_>>();
        let made = self.0.admin().create_acls(rules, CreateAclsOptions::default()).await.expect("made");
        assert!(made.iter().all(|(_, result)| result.is_ok()), "{made:?}");
        Ok(())
    }

    async fn lift(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let denies = |topic: &TopicName| {
            AclFilter::for_resource(AclResourceType::Topic, topic.as_str())
                .pattern_type(AclPatternType::from_i8(3))
                .permission_type(AclPermissionType::Deny)
        };
        let filters = topics.iter().map(denies).collect::<Vec<_>>();
        let gone =
            self.0.admin().delete_acls(filters, DeleteAclsOptions::default()).await.expect("an answer");
        assert!(gone.iter().all(|(_, answer)| answer.is_ok()), "{gone:?}");
        Ok(())
    }
}

/// L17: it is noticed and taken away.
pub async fn is_taken_away(cluster: &Incarnation) {
    let own_path = cluster.controller_bootstrap.join(",");
    let switch: Arc<dyn FenceSwitch> = Arc::new(DeniesReadingToo(ordinary(&own_path).await));
    let config = AdminConfig {
        client_bootstrap: cluster.bootstrap.clone(),
        fence: FenceWith::Switch(switch),
        ..config(&own_path)
    };
    let admin = KafkaAdmin::connect(config).await.expect("connect");
    let topic = TopicName::new("shut-out");
    a_fence_that_shuts_readers_out_is_taken_away(&admin, &topic).await;
    let kafka = ordinary(&cluster.bootstrap.join(",")).await;
    assert!(acls(&kafka, &topic).await.is_empty(), "nothing is left behind");
    admin.delete_topics(&[topic]).await.expect("deleted");
}
