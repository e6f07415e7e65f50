//! Transactions as their coordinators list them (KIP-664, from 3.0). Kafka leaves out of a listing, without a word, every
//! transactional id that the principal may not describe: it is whole only where kutover's principal may describe them all.

use krafka::admin::{
    AclResourceType, AdminClient, DescribeTransactionsOptions, ListTransactionsOptions, TransactionListing,
};
use krafka::error::{ErrorCode, KrafkaError};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};

use crate::errors::{code, provider};
use crate::listing;

const WHAT: &str = "list transactions";
/// Where Kafka keeps transactions; there since somebody first began one.
const STATE_TOPIC: &str = "__transaction_state";

/// What every coordinator lists. One that does not answer is an error, and so is what none coordinates just now.
pub(crate) async fn list(
    admin: &AdminClient,
    options: ListTransactionsOptions,
) -> ProviderResult<Vec<TransactionListing>> {
    listing::whole(admin, STATE_TOPIC, WHAT, admin.list_transactions(options)).await
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
    let ids = listing::samples(admin, AclResourceType::TransactionalId).await?;
    let answers = admin
        .describe_transactions(ids, DescribeTransactionsOptions::default())
        .await
        .map_err(|error| provider(WHAT, &error))?;
    answers
        .iter()
        .try_for_each(|(id, answer)| answer.as_ref().map_or_else(|error| told(id, error), |_| Ok(())))
}

/// Whether anybody has ever begun a transaction.
async fn has_begun(admin: &AdminClient) -> ProviderResult<bool> {
    Ok(listing::internal(admin, STATE_TOPIC).await?.is_some())
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
    use super::*;

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
