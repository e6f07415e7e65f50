//! Whether a listing is whole. Kafka leaves out of one, without a word, what the principal that asks may not describe: so it is
//! asked for what ACLs speak of, by name, and then says that it may not be told. And of groups and transactions each broker
//! lists those that it coordinates: what a partition without a leader keeps nobody lists.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use krafka::admin::{
    AclBinding, AclFilter, AclResourceType, AdminClient, DescribeAclsOptions, DescribeTopicsOptions,
    ListTopicsOptions, TopicDescription,
};
use krafka::error::KrafkaError;
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

/// Who leads each partition, in which epoch.
type Leaders = BTreeMap<i32, (Option<i32>, Option<i32>)>;

fn leaders(topic: &TopicDescription) -> Leaders {
    topic.partitions.iter().map(|part| (part.partition, (part.leader, part.leader_epoch))).collect()
}

/// What every broker lists of what is kept in a topic of Kafka's own.
///
/// # Errors
/// One does not answer, or something may be coordinated by a broker that was not asked, or by none (L9).
pub(crate) async fn whole<T>(
    admin: &AdminClient,
    topic: &str,
    what: &str,
    ask: impl Future<Output = Result<HashMap<i32, Result<Vec<T>, KrafkaError>>, KrafkaError>>,
) -> ProviderResult<Vec<T>> {
    let before = meet_coordinators(admin, topic).await?;
    let brokers = ask.await.map_err(|error| provider(what, &error))?;
    let asked = brokers.keys().copied().collect();
    let mut all = Vec::new();
    for (broker, answer) in brokers {
        all.extend(answer.map_err(|error| provider(format!("{what} of broker {broker}"), &error))?);
    }
    are_all_coordinators(admin, topic, what, &asked, before).await?;
    Ok(all)
}

/// Has krafka look anew which brokers there are, since it asks those that it remembers. Where the topic in which Kafka keeps
/// what they list has just been made, it is waited for its leaders first. Gives them, if there is such a topic.
async fn meet_coordinators(admin: &AdminClient, topic: &str) -> ProviderResult<Option<Leaders>> {
    let deadline = Instant::now() + SETTLE;
    let is_led = |found: &TopicDescription| found.partitions.iter().all(|part| part.leader.is_some());
    let found = loop {
        let found = internal(admin, topic).await?;
        if found.as_ref().is_none_or(is_led) || Instant::now() >= deadline {
            break found;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let listed = admin.list_topics(ListTopicsOptions::default()).await;
    listed.map_err(|error| provider("read the cluster's brokers", &error))?;
    Ok(found.as_ref().map(leaders))
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
        Err(denied) if denied.kind == ErrorKind::NotAuthorised => {
            let reason = "whether all is listed that is kept there cannot be told: grant kutover's principal Describe on it";
            Err(ProviderError::new(denied.kind, what, reason))
        }
        Err(error) => Err(error),
    }
}

/// Whether the brokers that were asked are all that coordinate what is kept in a topic of Kafka's own, and have done so since
/// `before`.
///
/// # Errors
/// `Unavailable`: something may be coordinated by a broker that was not asked, or by none.
async fn are_all_coordinators(
    admin: &AdminClient,
    topic: &str,
    what: &str,
    asked: &BTreeSet<i32>,
    before: Option<Leaders>,
) -> ProviderResult<()> {
    // Before there is anything to keep there is no such topic.
    let Some(found) = internal(admin, topic).await? else { return Ok(()) };
    match left_out(before.as_ref(), &leaders(&found), asked) {
        Some(reason) => {
            let reason = format!("{topic}, partition {reason}");
            Err(ProviderError::new(ErrorKind::Unavailable, what, reason))
        }
        None => Ok(()),
    }
}

/// Why a listing may lack what a partition keeps. What moves while brokers list what they coordinate is listed by one that has it
/// no more, or not yet.
fn left_out(before: Option<&Leaders>, now: &Leaders, asked: &BTreeSet<i32>) -> Option<String> {
    now.iter().find_map(|(number, led)| match led.0 {
        None => Some(format!("{number} has no leader: until it has, nobody lists what it keeps")),
        Some(leader) if !asked.contains(&leader) => {
            Some(format!("{number} is led by broker {leader}, which was not asked"))
        }
        Some(_) if before.is_some_and(|before| before.get(number) != Some(led)) => {
            Some(format!("{number} changed its leader while brokers were asked"))
        }
        Some(_) => None,
    })
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

    /// L9: who is not asked, or leads only since the others were, may know of more.
    #[test]
    fn a_listing_is_whole_if_who_led_all_along_was_asked() {
        let led = |parts: &[(Option<i32>, i32)]| -> Leaders {
            let parts = parts.iter().map(|(leader, epoch)| (*leader, Some(*epoch)));
            (0..).zip(parts).collect()
        };
        let before = led(&[(Some(1), 4), (Some(2), 7)]);
        let why = |now: &Leaders, asked: &[i32]| {
            left_out(Some(&before), now, &asked.iter().copied().collect()).unwrap_or_default()
        };
        assert_eq!(why(&before, &[1, 2]), "");
        assert_eq!(left_out(None, &before, &[1, 2].into()), None, "it has just been made");
        assert!(why(&before, &[1]).contains("led by broker 2, which was not asked"));
        assert!(why(&led(&[(Some(1), 4), (None, 8)]), &[1, 2]).contains("1 has no leader"));
        // Broker 1 had it for a while and gave it back, or another one has it now that had listed before.
        for now in [led(&[(Some(1), 4), (Some(2), 9)]), led(&[(Some(1), 4), (Some(1), 8)])] {
            assert!(why(&now, &[1, 2]).contains("1 changed its leader"), "{now:?}");
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
