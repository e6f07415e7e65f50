//! Whether a stack's load balancer would pass traffic on. MiniStack registers no targets by a template, and calls each one that
//! is registered healthy: other states are put into its answers.

use std::sync::Arc;

use aws_sdk_cloudformation::types::StackStatus;
use kutover_aws::{CloudFormation, StackOptions};
use kutover_core::error::{ErrorKind, Outcome};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::ClusterProvisioner as _;
use kutover_core::words::Colour;
use kutover_testkit::conformance::provision;

use crate::proxy::{Deed, Proxy};
use crate::server::ministack;
use crate::world::{CLUSTER, Ids, World};

const HEALTH: &str = "Action=DescribeTargetHealth";

/// A state of one of three targets, with the reason that ELB gives.
fn one_is_unhealthy(reply: &str) -> String {
    let health = "unhealthy</State><Reason>Target.FailedHealthChecks</Reason>\
                  <Description>Health checks failed</Description>";
    reply.replacen("<State>healthy</State>", &format!("<State>{health}"), 1)
}

fn one_leaves(reply: &str) -> String {
    reply.replacen("<State>healthy<", "<State>draining<", 1)
}

fn all_leave(reply: &str) -> String {
    reply.replace("<State>healthy<", "<State>draining<")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stack_is_ready_once_all_its_targets_are_healthy() {
    let Some(server) = ministack("a_stack_is_ready_once_all_its_targets_are_healthy").await else { return };
    let world = World::new(server, "Ready").await;
    let proxy = Proxy::before(server.address).await;
    let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
    let made = stacks.provision(Colour::Blue, &provision::request()).await.unwrap();
    let refused = async |parts: &[&str]| {
        let error = stacks.is_ready(&made.id).await.unwrap_err();
        assert_eq!((error.kind, error.outcome), (ErrorKind::Unavailable, Outcome::NotDone), "{error}");
        assert!(error.what.contains(made.id.as_str()), "{error}");
        for part in parts {
            assert!(error.reason.contains(part), "no `{part}` in {error}");
        }
    };
    refused(&["the target group ReadyA-bootstrap has no target; register the brokers"]).await;
    world.register_brokers(Colour::Blue).await;
    provision::what_serves_is_ready(&stacks, Colour::Blue).await;
    let ill = async || proxy.edit_replies(one_is_unhealthy);
    let well = async || proxy.edit_replies(str::to_owned);
    provision::what_does_not_serve_is_not_ready(&stacks, Colour::Blue, ill, well).await;
    proxy.edit_replies(one_is_unhealthy);
    let state = "172.31.0.10:9092 is unhealthy (Target.FailedHealthChecks: Health checks failed); see that";
    refused(&["ReadyA-bootstrap", state, "deregister"]).await;
    proxy.edit_replies(one_leaves);
    stacks.is_ready(&made.id).await.unwrap();
    proxy.edit_replies(all_leave);
    refused(&["no target but such as are being deregistered"]).await;
}

/// The security groups that shut clients out shut health checks out too: nothing could be ready before it is put back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_stack_is_not_asked_for_its_targets() {
    let Some(server) = ministack("an_isolated_stack_is_not_asked_for_its_targets").await else { return };
    let world = World::new(server, "Aside").await;
    let proxy = Proxy::before(server.address).await;
    let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
    let made = stacks.provision(Colour::Blue, &"one".into()).await.unwrap();
    stacks.isolate(&made.id, &"nonce".into()).await.unwrap();
    stacks.is_ready(&made.id).await.unwrap();
    assert_eq!(proxy.seen(HEALTH).len(), 0);
    stacks.put_back(&made.id, &"nonce".into()).await.unwrap();
    stacks.is_ready(&made.id).await.unwrap_err();
    assert_eq!(proxy.seen(HEALTH).len(), 1);
}

/// A hundred resources come in one answer: the target group of this stack is in the second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_group_is_found_among_many_resources() {
    let Some(server) = ministack("a_target_group_is_found_among_many_resources").await else { return };
    let mut world = World::new(server, "Many").await;
    let mut template: serde_json::Value = serde_json::from_str(&world.options.template).unwrap();
    let names: Vec<_> = (0..120).map(|number| format!("Handle{number}")).collect();
    for name in &names {
        template["Resources"][name] =
            serde_json::json!({ "Type": "AWS::CloudFormation::WaitConditionHandle" });
    }
    template["Resources"]["BootstrapTargets"]["DependsOn"] = serde_json::json!(names);
    world.options.template = template.to_string();
    let proxy = Proxy::before(server.address).await;
    let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
    let made = stacks.provision(Colour::Blue, &"one".into()).await.unwrap();
    let error = stacks.is_ready(&made.id).await.unwrap_err();
    assert!(error.reason.contains("ManyA-bootstrap has no target"), "{error}");
    assert_eq!(proxy.seen("Action=ListStackResources").len(), 2);
    world.register_brokers(Colour::Blue).await;
    stacks.is_ready(&made.id).await.unwrap();
}

/// What is not known is not taken for ready: an answer that does not come, a right that is missing, a stack that is gone or
/// another deployment's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_asked_is_not_ready() {
    let Some(server) = ministack("what_cannot_be_asked_is_not_ready").await else { return };
    let world = World::new(server, "Asking").await;
    let proxy = Proxy::before(server.address).await;
    let aws = server.aws(Some(proxy.address)).await;
    let stacks = world.provisioner(&aws);
    let made = stacks.provision(Colour::Blue, &"one".into()).await.unwrap();
    world.register_brokers(Colour::Blue).await;
    for of in ["Action=ListStackResources", HEALTH] {
        proxy.then(Deed::Refuse(403, "AccessDenied"), of);
        let error = stacks.is_ready(&made.id).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotAuthorised, "{error}");
        assert!(error.reason.contains("docs/aws.md"), "{error}");
        // Asked too much, it is asked again.
        proxy.then(Deed::Refuse(400, "Throttling"), of);
        stacks.is_ready(&made.id).await.unwrap();
    }
    let theirs = StackOptions { deployment: "theirs".into(), ..world.options.clone() };
    let error = CloudFormation::new(&aws, theirs, Arc::new(Ids)).is_ready(&made.id).await.unwrap_err();
    assert!(error.kind == ErrorKind::Refused && error.reason.contains("belongs to deployment"), "{error}");
    stacks.destroy(&RemovalMark { incarnation: made.id.clone(), cluster_id: CLUSTER.into() }).await.unwrap();
    assert_eq!(world.status(made.id.as_str()).await, Some(StackStatus::DeleteComplete));
    for id in [made.id, "AskingA".into()] {
        let error = stacks.is_ready(&id).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    }
}
