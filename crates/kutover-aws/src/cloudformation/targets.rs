//! Whether a load balancer would pass traffic on to a cluster: what it says of the targets of the stack's target groups.
//!
//! It is no proof that clients are served: a network load balancer without a healthy target sends them to all there are. It
//! is what a person looks at before a switch, and waits for.

use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::{TargetHealthDescription, TargetHealthStateEnum as Health};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};

use crate::connect::Aws;
use crate::failure::failed;

/// What CloudFormation calls a target group. Its physical id is its ARN.
pub(super) const TARGET_GROUP: &str = "AWS::ElasticLoadBalancingV2::TargetGroup";
/// So many targets that are not healthy are named.
const NAMED: usize = 5;

/// The load balancers of an account and region.
pub(super) struct LoadBalancers {
    client: Client,
}

impl LoadBalancers {
    pub(super) fn new(aws: &Aws) -> Self {
        Self { client: Client::new(aws.config()) }
    }

    /// An error unless all targets of a target group are healthy. All of them come in one answer.
    pub(super) async fn check_targets(&self, group: &str, what: &str) -> ProviderResult<()> {
        let asked = self.client.describe_target_health().target_group_arn(group).send().await;
        let found = asked.map_err(|error| failed(what, &error))?;
        match fault(group, &found.target_health_descriptions.unwrap_or_default()) {
            None => Ok(()),
            Some(reason) => Err(ProviderError::new(ErrorKind::Unavailable, what, reason)),
        }
    }
}

/// Why a target group is not fit to take traffic, and what to do about it. A target that is being deregistered counts neither
/// for it nor against it: somebody takes it away on purpose.
fn fault(group: &str, targets: &[TargetHealthDescription]) -> Option<String> {
    let name = name(group);
    let stays = |target: &&TargetHealthDescription| health(target) != Some(&Health::Draining);
    let staying: Vec<_> = targets.iter().filter(stays).collect();
    if staying.is_empty() {
        let all = if targets.is_empty() { "" } else { " but such as are being deregistered" };
        return Some(format!(
            "the target group {name} has no target{all}; register the brokers of the stack with it"
        ));
    }
    let mut ill: Vec<_> = staying
        .iter()
        .filter(|target| health(target) != Some(&Health::Healthy))
        .map(|target| described(target))
        .collect();
    if ill.is_empty() {
        return None;
    }
    if let Some(more) = ill.len().checked_sub(NAMED).filter(|more| *more > 0) {
        ill.truncate(NAMED);
        ill.push(format!("and {more} more"));
    }
    Some(format!(
        "the target group {name} has targets that are not healthy: {}; see that these brokers run and that the load balancer \
         reaches them, or deregister them",
        ill.join(", ")
    ))
}

fn health(target: &TargetHealthDescription) -> Option<&Health> {
    target.target_health()?.state()
}

/// `10.0.0.10:9092 is unhealthy (Target.FailedHealthChecks: Health checks failed)`.
fn described(target: &TargetHealthDescription) -> String {
    let id = target.target().and_then(|target| target.id()).unwrap_or("a target without an id");
    let port = target.target().and_then(|target| target.port());
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let state = health(target).map_or("of unknown health", Health::as_str);
    let told = target.target_health();
    let why = [
        told.and_then(|told| told.reason()).map(|reason| reason.as_str()),
        told.and_then(|told| told.description()),
    ];
    let why: Vec<_> = why.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(": ")) };
    format!("{id}{port} is {state}{why}")
}

/// `KafkaB-bootstrap` of `arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/KafkaB-bootstrap/1f6c`.
fn name(arn: &str) -> &str {
    arn.split('/').nth(1).unwrap_or(arn)
}

#[cfg(test)]
mod tests {
    use aws_sdk_elasticloadbalancingv2::types::{TargetDescription, TargetHealth, TargetHealthReasonEnum};

    use super::*;

    const GROUP: &str = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/KafkaB-bootstrap/1f6c";

    fn target(id: &str, state: &str, reason: &str, description: &str) -> TargetHealthDescription {
        let mut health = TargetHealth::builder().state(Health::from(state));
        if !reason.is_empty() {
            health = health.reason(TargetHealthReasonEnum::from(reason)).description(description);
        }
        let target = TargetDescription::builder().id(id).port(9092).build();
        TargetHealthDescription::builder().target(target).target_health(health.build()).build()
    }

    /// Each state that there is, beside a healthy target.
    #[test]
    fn every_state_but_healthy_and_draining_is_waited_for() {
        let healthy = target("10.0.0.10", "healthy", "", "");
        assert_eq!(fault(GROUP, std::slice::from_ref(&healthy)), None);
        assert_eq!(fault(GROUP, &[target("10.0.0.11", "draining", "", ""), healthy.clone()]), None);
        for (state, reason, description) in [
            ("initial", "Elb.InitialHealthChecking", "Initial health checks in progress"),
            ("unhealthy", "Target.FailedHealthChecks", "Health checks failed"),
            ("unhealthy.draining", "Target.FailedHealthChecks", "Health checks failed"),
            ("unused", "Target.NotInUse", "Target is in an Availability Zone that is not enabled"),
            ("unavailable", "Elb.InternalError", "Unable to determine the health"),
            // One that AWS adds one day.
            ("meditating", "Target.Meditates", "It meditates"),
        ] {
            let said = fault(GROUP, &[healthy.clone(), target("10.0.0.11", state, reason, description)]);
            let wanted = format!(
                "the target group KafkaB-bootstrap has targets that are not healthy: 10.0.0.11:9092 is {state} \
                 ({reason}: {description}); see that"
            );
            assert!(said.as_ref().is_some_and(|said| said.starts_with(&wanted)), "{said:?}");
        }
    }

    #[test]
    fn a_group_that_nobody_stays_in_says_how_to_fill_it() {
        let empty =
            "the target group KafkaB-bootstrap has no target; register the brokers of the stack with it";
        assert_eq!(fault(GROUP, &[]).as_deref(), Some(empty));
        let left = fault(GROUP, &[target("10.0.0.10", "draining", "Target.DeregistrationInProgress", "")]);
        assert!(left.unwrap().contains("has no target but such as are being deregistered; register"));
    }

    #[test]
    fn of_many_some_are_named() {
        let of = |count: usize| {
            let ids = (0..count).map(|n| target(&format!("10.0.0.{n}"), "initial", "", ""));
            fault(GROUP, &ids.collect::<Vec<_>>()).unwrap()
        };
        assert!(of(5).contains("10.0.0.4:9092 is initial; see"), "{}", of(5));
        assert!(of(7).contains("10.0.0.4:9092 is initial, and 2 more; see"), "{}", of(7));
    }

    /// What says nothing of a target says nothing good of it.
    #[test]
    fn a_target_without_health_is_not_healthy() {
        let silent = TargetHealthDescription::builder().build();
        let said = fault("not-an-arn", &[silent]).unwrap();
        assert!(said.contains("group not-an-arn has") && said.contains("is of unknown health;"), "{said}");
    }
}
