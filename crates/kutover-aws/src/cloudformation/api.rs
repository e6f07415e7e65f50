//! The requests themselves. The SDK's retries are on: each can be made twice.

use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_cloudformation::types::{Capability, OnFailure, Parameter, ResourceStatus, StackEvent, Tag};
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::words::{Colour, Nonce};
use uuid::Uuid;

use super::stack::{OWNER_TAG, REQUEST_TAG, SUFFIX, Seen, Standing};
use super::{CloudFormation, STACK_POLICY};
use crate::failure::{failed, is_passing};

/// For the role that the template names, and for its loops.
pub(super) const CAPABILITIES: [Capability; 2] =
    [Capability::CapabilityNamedIam, Capability::CapabilityAutoExpand];
/// Events per stack that are read at most: a hundred brokers have some two thousand.
const MAX_EVENTS: usize = 10_000;

impl CloudFormation {
    /// A stack by its name or its id. One that is gone is found by its id alone.
    pub(super) async fn find(&self, name: &str, what: &str) -> ProviderResult<Option<Seen>> {
        match self.client.describe_stacks().stack_name(name).send().await {
            Ok(found) => Ok(found.stacks.unwrap_or_default().into_iter().find_map(Seen::new)),
            Err(error) if error.as_service_error().is_some_and(names_no_stack) => Ok(None),
            Err(error) => Err(failed(what, &error)),
        }
    }

    /// A stack by its id. What is no stack's id is not taken for a stack's name.
    pub(super) async fn by_id(&self, id: &str, what: &str) -> ProviderResult<Option<Seen>> {
        if !id.starts_with("arn:") {
            return Ok(None);
        }
        Ok(self.find(id, what).await?.filter(|stack| stack.id == id))
    }

    /// All that has happened to a stack, the newest first.
    pub(super) async fn events(&self, id: &str, what: &str) -> ProviderResult<Vec<StackEvent>> {
        let mut events = Vec::new();
        let mut next = None;
        while events.len() < MAX_EVENTS {
            let request = self.client.describe_stack_events().stack_name(id).set_next_token(next);
            let page = request.send().await.map_err(|error| failed(what, &error))?;
            events.extend(page.stack_events.unwrap_or_default());
            next = page.next_token;
            if next.is_none() {
                break;
            }
        }
        Ok(events)
    }

    /// The physical ids of a stack's resources of one type.
    pub(super) async fn resources(&self, id: &str, kind: &str, what: &str) -> ProviderResult<Vec<String>> {
        let (mut found, mut next) = (Vec::new(), None);
        // It has an end: a stack holds 500 resources at most.
        loop {
            let request = self.client.list_stack_resources().stack_name(id).set_next_token(next);
            let page = request.send().await.map_err(|error| failed(what, &error))?;
            let listed = page.stack_resource_summaries.unwrap_or_default().into_iter();
            let wanted = listed.filter(|resource| {
                let is_there = resource.resource_status() != Some(&ResourceStatus::DeleteComplete);
                is_there && resource.resource_type() == Some(kind)
            });
            found.extend(wanted.filter_map(|resource| resource.physical_resource_id));
            next = page.next_token;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    /// Asks for a stack. Asked again with the same request, CloudFormation knows it for the same by the token.
    pub(super) async fn create(&self, colour: Colour, request: &Nonce, what: &str) -> ProviderResult<()> {
        if self.create_as(colour, request, token(request), what).await? {
            return Ok(());
        }
        // An earlier making had the token, and its stack may be gone since. That there are no two is the name's to see to.
        let found = self.find(&self.stack_name(colour), what).await?;
        if found.is_some_and(|stack| stack.standing() != Standing::Gone) {
            return Ok(());
        }
        let another = format!("{}-{}", token(request), Uuid::new_v4().simple());
        if self.create_as(colour, request, another, what).await? {
            return Ok(());
        }
        let reason = "CloudFormation says that it knows a token which nobody has used yet";
        Err(ProviderError::new(ErrorKind::Unavailable, what, reason).with_outcome(Outcome::Unknown))
    }

    /// Asks for a stack under a token; `false` if that was used for another one.
    async fn create_as(
        &self,
        colour: Colour,
        request: &Nonce,
        token: String,
        what: &str,
    ) -> ProviderResult<bool> {
        let options = &self.options;
        let mut parameters = vec![parameter(SUFFIX, colour.suffix())];
        parameters.extend(options.parameters.iter().map(|(name, value)| parameter(name, value)));
        let tag = |name: &str, value: &str| Tag::builder().key(name).value(value).build();
        let asked = self
            .client
            .create_stack()
            .stack_name(self.stack_name(colour))
            .template_body(&options.template)
            .stack_policy_body(STACK_POLICY)
            .set_role_arn(options.role_arn.clone())
            .set_parameters(Some(parameters))
            .set_capabilities(Some(CAPABILITIES.to_vec()))
            .tags(tag(OWNER_TAG, options.deployment.as_str()))
            .tags(tag(REQUEST_TAG, request.as_str()))
            // What was made stays to be looked at until its events have been read; then it is deleted.
            .on_failure(OnFailure::Rollback)
            .client_request_token(token)
            .send()
            .await;
        match asked {
            Ok(_) => Ok(true),
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_already_exists_exception()) =>
            {
                Ok(true)
            }
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_token_already_exists_exception()) =>
            {
                Ok(false)
            }
            Err(error) => {
                let error = failed(what, &error);
                // It may stand there all the same; the next look says so.
                if error.kind == ErrorKind::Unreachable && is_passing(&error) {
                    tracing::debug!(%error, "looked for");
                    tokio::time::sleep(options.poll).await;
                    return Ok(true);
                }
                Err(error)
            }
        }
    }

    pub(super) async fn protect(&self, id: &str, on: bool, what: &str) -> ProviderResult<()> {
        let request = self.client.update_termination_protection().stack_name(id);
        let asked = request.enable_termination_protection(on).send().await;
        asked.map(drop).map_err(|error| failed(what, &error))
    }

    pub(super) async fn delete(&self, id: &str, what: &str) -> ProviderResult<()> {
        let asked = self
            .client
            .delete_stack()
            .stack_name(id)
            .set_role_arn(self.options.role_arn.clone())
            .send()
            .await;
        asked.map(drop).map_err(|error| failed(what, &error))
    }
}

/// The one way in which it says that there is no such stack.
pub(super) fn names_no_stack(error: &impl ProvideErrorMetadata) -> bool {
    error.code() == Some("ValidationError")
        && error.message().is_some_and(|message| message.contains("does not exist"))
}

pub(super) fn parameter(name: &str, value: &str) -> Parameter {
    Parameter::builder().parameter_key(name).parameter_value(value).build()
}

/// Letters, digits and `-`, at most 128 of them, beginning with a letter. There is room left for what tells two makings apart.
fn token(request: &Nonce) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("kutover-{}", request.as_str().chars().map(legal).take(80).collect::<String>())
}
