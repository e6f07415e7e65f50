//! Transactions as their coordinators list them (KIP-664, from 3.0). Kafka leaves out of a listing, without a word, every
//! transactional id that the principal may not describe: it is whole only where kutover's principal may describe them all.

use std::collections::BTreeSet;

use krafka::admin::{
    AclBinding, AclFilter, AclResourceType, AdminClient, DescribeAclsOptions, DescribeTopicsOptions,
    DescribeTransactionsOptions, ListTransactionsOptions, TransactionListing,
};
use krafka::error::{ErrorCode, KrafkaError};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};

use crate::errors::{code, provider};
use crate::fence::literal;

const WHAT: &str = "list transactions";
/// Where Kafka keeps transactions; there since somebody first began one.
const STATE_TOPIC: &str = "__transaction_state";
/// A transactional id that nobody has.
const NOBODYS: &str = "kutover-asks-for-nobody";

/// What every coordinator lists. One that does not answer is an error.
pub(crate) async fn list(
    admin: &AdminClient,
    options: ListTransactionsOptions,
) -> ProviderResult<Vec<TransactionListing>> {
    let brokers = admin.list_transactions(options).await.map_err(|error| provider(WHAT, &error))?;
    let mut all = Vec::new();
    for (broker, answer) in brokers {
        all.extend(answer.map_err(|error| provider(format!("{WHAT} of broker {broker}"), &error))?);
    }
    Ok(all)
}

/// Every transactional id that there is, or why they are not known. Where coordinators cannot be asked (before 3.0), nobody has
/// ever begun a transaction if there is no topic for them.
pub(crate) async fn list_all(admin: &AdminClient) -> ProviderResult<Vec<TransactionListing>> {
    match list(admin, ListTransactionsOptions::default()).await {
        Ok(all) => {
            all_are_told(admin).await?;
            Ok(all)
        }
        Err(error) if error.kind == ErrorKind::Unsupported => match has_begun(admin).await? {
            false => Ok(Vec::new()),
            true => {
                let reason = "its version cannot list transactions, and somebody has begun one";
                Err(ProviderError::new(ErrorKind::Unsupported, WHAT, reason))
            }
        },
        Err(error) => Err(error),
    }
}

/// Whether a listing leaves nothing out: that kutover's principal may describe one id under each ACL that there is, and one
/// that none names.
///
/// # Errors
/// `NotAuthorised` with an id that it may not describe; or it was not answered.
pub(crate) async fn all_are_told(admin: &AdminClient) -> ProviderResult<()> {
    // Who asks for a coordinator before anybody has begun a transaction makes its topic.
    if !has_begun(admin).await? {
        return Ok(());
    }
    let filter = AclFilter::all().resource_type(AclResourceType::TransactionalId);
    let rules = match admin.describe_acls(filter, DescribeAclsOptions::default()).await {
        Ok(rules) => rules,
        Err(error) => match provider("read the ACLs of transactional ids", &error) {
            // Without an authorizer there are none.
            error if error.kind == ErrorKind::Unsupported => Vec::new(),
            error => return Err(error),
        },
    };
    let answers = admin
        .describe_transactions(samples(&rules), DescribeTransactionsOptions::default())
        .await
        .map_err(|error| provider(WHAT, &error))?;
    answers
        .iter()
        .try_for_each(|(id, answer)| answer.as_ref().map_or_else(|error| told(id, error), |_| Ok(())))
}

/// Whether anybody has ever begun a transaction.
async fn has_begun(admin: &AdminClient) -> ProviderResult<bool> {
    let what = format!("describe topic {STATE_TOPIC}");
    let mut answers = admin
        .describe_topics([STATE_TOPIC], DescribeTopicsOptions::default())
        .await
        .map_err(|error| provider(&what, &error))?;
    let left_out = || ProviderError::new(ErrorKind::Invalid, &what, "the cluster left it out");
    match answers.remove(STATE_TOPIC).ok_or_else(left_out)?.map_err(|error| provider(&what, &error)) {
        Ok(_) => Ok(true),
        Err(missing) if missing.kind == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// One id for each set of ACLs that an id can be under: each that an ACL names, one behind each prefix, and one besides.
fn samples(rules: &[AclBinding]) -> BTreeSet<String> {
    let one = |rule: &AclBinding| match rule.pattern_type == literal() {
        true => rule.resource_name.clone(),
        false => format!("{}{NOBODYS}", rule.resource_name),
    };
    rules.iter().map(one).filter(|id| id != "*").chain([NOBODYS.to_owned()]).collect()
}

/// What it means that an id was not described. That nobody has it is told to whoever may know.
fn told(id: &str, error: &KrafkaError) -> ProviderResult<()> {
    match code(error) {
        Some(ErrorCode::TransactionalIdNotFound) => Ok(()),
        Some(ErrorCode::TransactionalIdAuthorizationFailed) => {
            let reason = format!(
                "kutover's principal may not describe transactional id `{id}`, and Kafka leaves out without a word what it \
                 may not: grant it Describe on transactional ids `*` (docs/security.md)"
            );
            Err(ProviderError::new(ErrorKind::NotAuthorised, WHAT, reason))
        }
        _ => Err(provider(format!("{WHAT}, of which `{id}`"), error)),
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
        let asked = samples(&[rule("pay", 3), rule("pay", 3), rule("bill-", 4), rule("*", 3)]);
        let expected = ["bill-kutover-asks-for-nobody", "kutover-asks-for-nobody", "pay"];
        assert_eq!(asked, expected.map(str::to_owned).into());
    }

    /// A listing without an id that kutover may not describe is not whole; one of an id that nobody has is.
    #[test]
    fn what_may_not_be_described_is_hidden_and_not_absent() {
        let said = |code| told("pay", &KrafkaError::broker(code, "no"));
        assert_eq!(said(ErrorCode::TransactionalIdNotFound), Ok(()));
        let hidden = said(ErrorCode::TransactionalIdAuthorizationFailed).unwrap_err();
        assert_eq!(hidden.kind, ErrorKind::NotAuthorised);
        let text = hidden.to_string();
        assert!(text.contains("`pay`") && text.contains("grant it Describe on transactional ids"), "{text}");
        let silent = said(ErrorCode::CoordinatorLoadInProgress).unwrap_err();
        assert_eq!(silent.kind, ErrorKind::Unavailable, "no answer is not one: {silent}");
    }
}
