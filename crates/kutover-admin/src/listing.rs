//! Whether a listing is whole. Kafka leaves out of one, without a word, what the principal that asks may not describe: so it is
//! asked for what ACLs speak of, by name, and then says that it may not be told. And of groups and transactions each broker
//! lists those that it coordinates: what a partition without a leader keeps nobody lists.

use std::collections::BTreeSet;
use std::time::Duration;

use krafka::admin::{
    AclBinding, AclFilter, AclResourceType, AdminClient, DescribeAclsOptions, DescribeTopicsOptions,
    ListTopicsOptions, PartitionDescription, TopicDescription,
};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use tokio::time::Instant;

use crate::errors::provider;
use crate::fence::literal;

/// How long the leaders of a new topic may take, and how often is looked.
const SETTLE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A name that nobody has given to anything.
const NOBODYS: &str = "kutover-asks-for-nobody";

/// One name for each set of ACLs that a resource of this type can be under: each that an ACL names, one behind each prefix, and
/// one besides.
///
/// # Errors
/// The ACLs cannot be read.
pub(crate) async fn samples(admin: &AdminClient, of: AclResourceType) -> ProviderResult<BTreeSet<String>> {
    let filter = AclFilter::all().resource_type(of);
    match admin.describe_acls(filter, DescribeAclsOptions::default()).await {
        Ok(rules) => Ok(names(&rules)),
        Err(error) => match provider(format!("read the ACLs of {of:?}"), &error) {
            // Without an authorizer there are none.
            error if error.kind == ErrorKind::Unsupported => Ok(names(&[])),
            error => Err(error),
        },
    }
}

fn names(rules: &[AclBinding]) -> BTreeSet<String> {
    let one = |rule: &AclBinding| match rule.pattern_type == literal() {
        true => rule.resource_name.clone(),
        false => format!("{}{NOBODYS}", rule.resource_name),
    };
    rules.iter().map(one).filter(|name| name != "*").chain([NOBODYS.to_owned()]).collect()
}

/// Has krafka look anew which brokers there are, since it asks those that it remembers. Where the topic in which Kafka keeps
/// what they list has just been made, it is waited for its leaders first.
pub(crate) async fn meet_coordinators(admin: &AdminClient, topic: &str) -> ProviderResult<()> {
    let deadline = Instant::now() + SETTLE;
    let is_led = |found: TopicDescription| found.partitions.iter().all(|part| part.leader.is_some());
    while !internal(admin, topic).await?.is_none_or(is_led) && Instant::now() < deadline {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let listed = admin.list_topics(ListTopicsOptions::default()).await;
    listed.map(drop).map_err(|error| provider("read the cluster's brokers", &error))
}

/// One of Kafka's own topics, if it is there.
pub(crate) async fn internal(admin: &AdminClient, topic: &str) -> ProviderResult<Option<TopicDescription>> {
    let what = format!("describe topic {topic}");
    let mut answers = admin
        .describe_topics([topic], DescribeTopicsOptions::default())
        .await
        .map_err(|error| provider(&what, &error))?;
    let left_out = || ProviderError::new(ErrorKind::Invalid, &what, "the cluster left it out");
    match answers.remove(topic).ok_or_else(left_out)?.map_err(|error| provider(&what, &error)) {
        Ok(found) => Ok(Some(found)),
        Err(missing) if missing.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the brokers that were asked are all that coordinate what is kept in a topic of Kafka's own.
///
/// # Errors
/// `Unavailable`: something may be coordinated by a broker that was not asked, or by none.
pub(crate) async fn are_all_coordinators(
    admin: &AdminClient,
    topic: &str,
    what: &str,
    asked: &BTreeSet<i32>,
) -> ProviderResult<()> {
    // Before there is anything to keep there is no such topic.
    let Some(found) = internal(admin, topic).await? else { return Ok(()) };
    match found.partitions.iter().find_map(|partition| left_out(partition, asked)) {
        Some(reason) => {
            let reason = format!("{topic}, partition {reason}");
            Err(ProviderError::new(ErrorKind::Unavailable, what, reason))
        }
        None => Ok(()),
    }
}

/// Why a listing lacks what a partition keeps.
fn left_out(partition: &PartitionDescription, asked: &BTreeSet<i32>) -> Option<String> {
    let number = partition.partition;
    match partition.leader {
        Some(leader) if asked.contains(&leader) => None,
        Some(leader) => Some(format!("{number} is led by broker {leader}, which was not asked")),
        None => Some(format!("{number} has no leader: until it has, nobody lists what it keeps")),
    }
}

#[cfg(test)]
mod tests {
    use krafka::admin::{AclOperation, AclPatternType, AclPermissionType};

    use super::*;

    fn rule(name: &str, pattern: i8) -> AclBinding {
        AclBinding {
            resource_type: AclResourceType::TransactionalId,
            resource_name: name.to_owned(),
            pattern_type: AclPatternType::from_i8(pattern),
            principal: "User:pay".to_owned(),
            host: "*".to_owned(),
            operation: AclOperation::Describe,
            permission_type: AclPermissionType::Allow,
        }
    }

    /// Kafka numbers LITERAL 3 and PREFIXED 4.
    #[test]
    fn each_acl_is_tried_and_what_none_names_too() {
        let asked = names(&[rule("pay", 3), rule("pay", 3), rule("bill-", 4), rule("*", 3)]);
        let expected = ["bill-kutover-asks-for-nobody", "kutover-asks-for-nobody", "pay"];
        assert_eq!(asked, expected.map(str::to_owned).into());
    }
}
