//! A refusal says that the probe may not write. That nobody may is said by what refuses: it is asked for beside the leaders.

#![allow(unreachable_pub)]

use krafka::Kafka;
use krafka::admin::{
    AclBinding, AclFilter, AclOperation, AclPatternType, AclPermissionType, AclResourceType, ConfigOp,
    ConfigResource, CreateAclsOptions, DeleteAclsOptions, IncrementalAlterConfigsOptions,
};
use kutover_admin::{AdminConfig, FenceWith, KafkaAdmin, ProbeAnswer};
use kutover_core::error::ErrorKind;
use kutover_core::ports::{ClusterAdmin as _, Incarnation};
use kutover_core::words::TopicName;
use kutover_testkit::until;

use super::support::*;

/// Whom a cluster without TLS takes every client for, and the probe too.
const PROBES_PRINCIPAL: &str = "User:ANONYMOUS";

/// L8: the fence is taken away while the probe's principal may not write anyway. Every leader refuses the probe and takes the
/// records of others: nothing is proven.
pub async fn is_no_proof(cluster: &Incarnation, fence: FenceWith) {
    let own_path = cluster.controller_bootstrap.join(",");
    let config = AdminConfig {
        client_bootstrap: cluster.bootstrap.clone(),
        fence: fence.clone(),
        ..config(&own_path)
    };
    let admin = KafkaAdmin::connect(config).await.expect("connect");
    let kafka = ordinary(&cluster.bootstrap.join(",")).await;
    let topics = [make_topic(&admin, "probe-alone", 2).await];
    deny_the_probe(&kafka, &topics[0]).await;
    for _ in 0..2 {
        admin.raise_fence(&topics).await.expect("raised, and again where it was taken away");
        until("the proof", BOUND, async || admin.prove_fence(&topics).await.ok()).await;
        take_away(&kafka, &topics[0], &fence).await;
        until("that nothing is left", BOUND, async || {
            let has_deny = acls(&kafka, &topics[0]).await.iter().any(denies_everyone);
            let is_left = match fence {
                FenceWith::Acl => has_deny,
                _ => admin.fence_traces().await.expect("traces").contains(&topics[0]),
            };
            (!is_left).then_some(())
        })
        .await;
        let answers = admin.probe(&topics).await.expect("probed");
        assert!(
            answers.values().all(|answer| *answer == ProbeAnswer::Fenced),
            "the probe is refused: {answers:?}"
        );
        let error = admin.prove_fence(&topics).await.expect_err("the probe alone is refused");
        assert!(error.kind == ErrorKind::Refused && error.reason.contains("taken the fence away"), "{error}");
    }
    admin.lift_fence(&topics).await.expect("lifted");
    let gone = AclFilter::for_resource(AclResourceType::Topic, topics[0].as_str());
    delete(&kafka, gone.pattern_type(AclPatternType::from_i8(3))).await;
    admin.prove_open(&topics).await.expect("every leader takes records again");
    admin.delete_topics(&topics).await.expect("deleted");
}

fn denies_everyone(rule: &AclBinding) -> bool {
    rule.permission_type == AclPermissionType::Deny && rule.principal == "User:*"
}

/// Everybody may do everything with a topic, except that the probe's principal may not write.
async fn deny_the_probe(kafka: &Kafka, topic: &TopicName) {
    let literal = AclPatternType::from_i8(3); // krafka's own number for it is MATCH to a broker.
    let all = AclBinding {
        operation: AclOperation::All,
        ..AclBinding::allow_read_topic(topic.as_str(), "User:*").with_pattern_type(literal)
    };
    let probes = AclBinding {
        principal: PROBES_PRINCIPAL.to_owned(),
        operation: AclOperation::Write,
        permission_type: AclPermissionType::Deny,
        ..all.clone()
    };
    let made =
        kafka.admin().create_acls(vec![all, probes], CreateAclsOptions::default()).await.expect("an answer");
    assert!(made.iter().all(|(_, result)| result.is_ok()), "{made:?}");
    let known = async || (acls(kafka, topic).await.len() == 2).then_some(());
    until("the broker's knowing of the ACLs", BOUND, known).await;
}

/// Takes away what refuses everybody, as somebody does who knows nothing of kutover.
async fn take_away(kafka: &Kafka, topic: &TopicName, fence: &FenceWith) {
    if let FenceWith::Acl = fence {
        let denies = AclFilter::for_resource(AclResourceType::Topic, topic.as_str());
        let denies = denies.pattern_type(AclPatternType::from_i8(3)).principal("User:*");
        return delete(kafka, denies.permission_type(AclPermissionType::Deny)).await;
    }
    let unset = vec![ConfigOp::Delete { name: "max.message.bytes".into() }];
    let change = [(ConfigResource::topic(topic.as_str()), unset)];
    let options = IncrementalAlterConfigsOptions::default();
    let altered = kafka.admin().incremental_alter_configs(change, options).await.expect("an answer");
    assert!(altered.values().all(Result::is_ok), "{altered:?}");
}

async fn delete(kafka: &Kafka, filter: AclFilter) {
    let gone =
        kafka.admin().delete_acls(vec![filter], DeleteAclsOptions::default()).await.expect("an answer");
    assert!(gone.iter().all(|(_, answer)| answer.is_ok()), "{gone:?}");
}
