//! Producer ids on the embedded cluster, which gives out one after the other and does not say who wrote.

mod support;

use krafka::error::ErrorCode;
use krafka::testing::ApiKey;
use kutover_admin::KafkaAdmin;
use kutover_core::error::ErrorKind;
use kutover_core::ports::ProducerIds as _;
use kutover_core::words::TopicPartition;
use kutover_lab::embedded::{EmbeddedCluster, EmbeddedOptions, Fault, Harm, Who};
use kutover_testkit::conformance::producer_ids;
use support::*;

#[tokio::test]
async fn every_broker_is_asked_and_every_broker_passes() {
    let cluster = EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("it starts");
    let admin = KafkaAdmin::connect(config(&cluster.bootstrap_servers())).await.expect("it answers");
    producer_ids::check_all(&admin, cluster.brokers().len()).await;
    let silence = async || {
        let loading = Harm::Error(ErrorCode::CoordinatorLoadInProgress);
        cluster.inject(Fault::new(ApiKey::InitProducerId, loading).on_broker(1).against(Who::Everyone));
        1
    };
    producer_ids::a_silent_broker_is_an_error(&admin, silence).await;
    let passed = admin.pass(1).await.expect("the others answer");
    assert!(passed[&1].is_err() && passed[&0].is_ok(), "{passed:?}");
}

/// A principal that may not is told so, and no broker counts as silent for it.
#[tokio::test]
async fn who_may_not_is_told_so() {
    let cluster = EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("it starts");
    let admin = KafkaAdmin::connect(config(&cluster.bootstrap_servers())).await.expect("it answers");
    let refused = Harm::Error(ErrorCode::ClusterAuthorizationFailed);
    cluster.inject(Fault::new(ApiKey::InitProducerId, refused).against(Who::Everyone));
    let error = admin.newest().await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::NotAuthorised, "{error}");
}

/// Unknown is never zero: only what was never written to is known to have no writer.
#[tokio::test]
async fn writers_are_unknown_where_the_cluster_cannot_tell() {
    let cluster = EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("it starts");
    let admin = KafkaAdmin::connect(config(&cluster.bootstrap_servers())).await.expect("it answers");
    let empty = make_topic(&admin, "empty", 2).await;
    let place = TopicPartition::new(make_topic(&admin, "orders", 2).await, 1);
    let producer = producer(&ordinary(&cluster.bootstrap_servers()).await).await;
    write(&producer, &place, 1).await.expect("written");
    producer_ids::unknown_writers_are_not_nobody(&admin, &empty, &place).await;
}
