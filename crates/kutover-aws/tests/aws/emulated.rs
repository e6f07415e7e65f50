//! The template without what MiniStack does not have.

use std::process::Command;

use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::TargetDescription;
use kutover_aws::Aws;

use crate::fitted::fitted;
use crate::server::{MiniStack, http_get, tool};

/// For brokers of these ids, with commas; what else is to be different, see `emulate.py`.
pub(crate) fn emulated(brokers: &str, different: &[&str]) -> String {
    let mut python = Command::new(tool("python").unwrap());
    fitted(python.args(["-c", include_str!("emulate.py"), brokers]).args(different))
}

/// Registers brokers with a target group, as CloudFormation does by the template's `Targets`, which MiniStack passes over. All
/// targets are healthy there.
pub(crate) async fn register(aws: &Aws, group: &str, addresses: &[&str]) {
    let client = Client::new(aws.config());
    let found = client.describe_target_groups().names(group).send().await.expect("ELB answers");
    let arn = found.target_groups().first().and_then(|group| group.target_group_arn()).expect("a group");
    let targets =
        addresses.iter().map(|&address| TargetDescription::builder().id(address).port(9092).build());
    let request = client.register_targets().target_group_arn(arn).set_targets(Some(targets.collect()));
    request.send().await.expect("they are registered");
}

/// Whether a security group lets anybody in at a port; nobody where there is no such group.
pub(crate) fn lets_in(server: &MiniStack, group: &str, port: u16) -> bool {
    let query = "/?Action=DescribeSecurityGroups&Version=2016-11-15&Filter.1.Name=group-name";
    let groups = http_get(server.address, &format!("{query}&Filter.1.Value.1={group}")).unwrap();
    let inwards = groups.split("<ipPermissions>").nth(1).unwrap_or_default();
    let inwards = inwards.split("</ipPermissions>").next().unwrap_or_default();
    inwards.contains(&format!("<fromPort>{port}</fromPort>"))
}
