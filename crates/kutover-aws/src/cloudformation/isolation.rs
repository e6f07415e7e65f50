//! Isolation: the parameter that takes the clients' way in out of the security groups.
//!
//! It is set by change sets, since these are a compare-and-set: one that was made before somebody else changed the stack
//! cannot be carried out any more. So a late put-back of an older controller undoes nothing.

use aws_sdk_cloudformation::error::ProvideErrorMetadata as _;
use aws_sdk_cloudformation::types::{ChangeSetStatus, ChangeSetType, Parameter, StackStatus, TemplateStage};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::words::IncarnationId;
use uuid::Uuid;

use super::CloudFormation;
use super::api::{CAPABILITIES, names_no_stack, parameter};
use super::stack::{ISOLATION, Seen, Standing};
use crate::failure::failed;

/// How often it is tried anew after somebody else got in between.
const ATTEMPTS: u32 = 5;

/// A change set by its stack's name and its own, which is never given twice. AWS matches a policy's resources against what a
/// request names: by an ARN of its own alone, it is no longer one of the stacks that the policy allows.
struct ChangeSet {
    stack: String,
    name: String,
}

/// What became of a change set that was asked for.
enum Prepared {
    /// It can be carried out.
    Ready(ChangeSet),
    /// Somebody else changes the stack.
    Overtaken,
    /// The stack would stay as it is.
    NoChange,
}

impl CloudFormation {
    /// Sets the nonce of the isolation in force to `to`, unless what is in force forbids it.
    pub(super) async fn set_isolation(
        &self,
        incarnation: &IncarnationId,
        what: &str,
        to: &str,
        may_replace: impl Fn(&str) -> bool,
    ) -> ProviderResult<()> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                // Whoever got in between may not be done yet.
                tokio::time::sleep(self.options.poll).await;
            }
            let Some(stack) = self.by_id(incarnation.as_str(), what).await? else {
                return self.not_there(to, what);
            };
            stack.check_owner(self.options.deployment.as_str(), what)?;
            let stack = self.settled(&stack.id, what).await?;
            match stack.standing() {
                Standing::Serving => {}
                Standing::Stuck => return Err(stack.stuck(what)),
                _ => return self.not_there(to, what),
            }
            if stack.isolation() == to || !may_replace(stack.isolation()) {
                return Ok(());
            }
            let prepared = self.prepare(&stack, to, what).await?;
            if matches!(prepared, Prepared::Overtaken) {
                continue;
            }
            // From here on nobody else's change can go unnoticed; so what was seen is looked at once more.
            let again = self.by_id(&stack.id, what).await?;
            let is_same = again.is_some_and(|again| {
                // Not changed otherwise either: the change set brings the template that was there then.
                again.isolation() == stack.isolation()
                    && again.updated == stack.updated
                    && again.standing() == Standing::Serving
            });
            let change_set = match prepared {
                Prepared::Ready(change_set) if is_same => change_set,
                Prepared::NoChange if is_same => return Err(without_effect(&stack, what)),
                Prepared::Ready(change_set) => {
                    self.discard(&change_set).await;
                    continue;
                }
                Prepared::NoChange | Prepared::Overtaken => continue,
            };
            if self.carry_out(&change_set, what).await? {
                return self.carried_out(&stack, to, what).await;
            }
        }
        let reason = "somebody else changes the stack at the same time, again and again";
        Err(ProviderError::new(ErrorKind::Unavailable, what, reason))
    }

    /// Waits for what a change set has made of the stack as it was before.
    async fn carried_out(&self, before: &Seen, to: &str, what: &str) -> ProviderResult<()> {
        let shows = |seen: &Seen| {
            // What lets clients in that were to be shut out, after an update that went well, is another update, or a late
            // look at an earlier one.
            let is_open = !to.is_empty() && seen.isolation().is_empty();
            let may_be_it = seen.status != StackStatus::UpdateComplete || !is_open;
            seen.isolation() == to || (seen.updated != before.updated && may_be_it)
        };
        let changed = self.settled_after(&before.id, what, shows).await?;
        // Another change may have followed it already; one that was undone says so.
        if changed.isolation() != to && changed.status != StackStatus::UpdateComplete {
            let reason = self.failure(&changed, what).await;
            return Err(ProviderError::new(ErrorKind::Refused, what, reason));
        }
        Ok(())
    }

    /// Clients reach nothing of a stack that is gone, and nothing of it can be put back.
    fn not_there(&self, to: &str, what: &str) -> ProviderResult<()> {
        if to.is_empty() {
            return Ok(());
        }
        Err(ProviderError::new(ErrorKind::NotFound, what, "no stack of that id serves"))
    }

    /// The template that the stack was made or changed with last, as it was given.
    async fn template_of(&self, stack: &Seen, what: &str) -> ProviderResult<String> {
        let request =
            self.client.get_template().stack_name(&stack.id).template_stage(TemplateStage::Original);
        let found = request.send().await.map_err(|error| failed(what, &error))?;
        found
            .template_body
            .ok_or_else(|| ProviderError::new(ErrorKind::Invalid, what, "the stack has no template"))
    }

    /// Makes a change set and waits until it can be carried out, or it is clear why not.
    ///
    /// It brings the stack's own template along: where a template is to be transformed (`AWS::LanguageExtensions`, as in
    /// kutover's), "the previous one" is what came out of the transform then, and new values of parameters need not reach
    /// all of it (CloudFormation API Reference, CreateChangeSet, `UsePreviousTemplate`).
    async fn prepare(&self, stack: &Seen, to: &str, what: &str) -> ProviderResult<Prepared> {
        let template = self.template_of(stack, what).await?;
        let kept = stack.parameters.keys().filter(|name| *name != ISOLATION);
        let mut parameters: Vec<_> = kept
            .map(|name| Parameter::builder().parameter_key(name).use_previous_value(true).build())
            .collect();
        parameters.push(parameter(ISOLATION, to));
        let change_set =
            ChangeSet { stack: stack.name.clone(), name: format!("kutover-{}", Uuid::new_v4().simple()) };
        let made = self
            .client
            .create_change_set()
            .stack_name(&stack.id)
            .change_set_name(&change_set.name)
            .change_set_type(ChangeSetType::Update)
            .template_body(template)
            .set_parameters(Some(parameters))
            .set_capabilities(Some(CAPABILITIES.to_vec()))
            .set_role_arn(self.options.role_arn.clone())
            .send()
            .await;
        match made {
            Ok(_) => self.prepared(change_set, what).await,
            // Its name is new: it is this one, whose reply got lost before the SDK asked again.
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_already_exists_exception()) =>
            {
                self.prepared(change_set, what).await
            }
            // "... is in UPDATE_IN_PROGRESS state and can not be updated".
            Err(error)
                if error
                    .as_service_error()
                    .and_then(|error| error.message())
                    .is_some_and(|said| said.contains("_IN_PROGRESS")) =>
            {
                Ok(Prepared::Overtaken)
            }
            Err(error) => Err(failed(what, &error)),
        }
    }

    /// Waits until a change set is made.
    async fn prepared(&self, change_set: ChangeSet, what: &str) -> ProviderResult<Prepared> {
        loop {
            let look = self.client.describe_change_set().stack_name(&change_set.stack);
            let seen = match look.change_set_name(&change_set.name).send().await {
                Ok(seen) => seen,
                // Another one was carried out, which removes the rest, or the stack is gone.
                Err(error)
                    if error.as_service_error().is_some_and(|error| {
                        error.is_change_set_not_found_exception() || names_no_stack(error)
                    }) =>
                {
                    return Ok(Prepared::Overtaken);
                }
                Err(error) => return Err(failed(what, &error)),
            };
            match seen.status {
                Some(ChangeSetStatus::CreateComplete) => return Ok(Prepared::Ready(change_set)),
                Some(ChangeSetStatus::CreatePending | ChangeSetStatus::CreateInProgress) => {
                    tokio::time::sleep(self.options.poll).await;
                }
                _ => {
                    let reason = seen.status_reason.unwrap_or_default();
                    self.discard(&change_set).await;
                    if reason.contains("didn't contain changes") || reason.contains("No updates") {
                        return Ok(Prepared::NoChange);
                    }
                    return Err(ProviderError::new(ErrorKind::Refused, what, reason));
                }
            }
        }
    }

    /// Whether it was begun; `false` if the stack has been changed since it was made.
    async fn carry_out(&self, change_set: &ChangeSet, what: &str) -> ProviderResult<bool> {
        let carry_out = self.client.execute_change_set().stack_name(&change_set.stack);
        match carry_out.change_set_name(&change_set.name).send().await {
            Ok(_) => Ok(true),
            Err(error)
                if error.as_service_error().is_some_and(|error| {
                    error.is_invalid_change_set_status_exception()
                        || error.is_change_set_not_found_exception()
                        || names_no_stack(error)
                }) =>
            {
                Ok(false)
            }
            Err(error) => Err(failed(what, &error)),
        }
    }

    /// One that is left behind does no harm: the next change makes it obsolete.
    async fn discard(&self, change_set: &ChangeSet) {
        let discard = self.client.delete_change_set().stack_name(&change_set.stack);
        let _ = discard.change_set_name(&change_set.name).send().await;
    }
}

/// What a change of the parameter leaves as it is shuts nobody out.
fn without_effect(stack: &Seen, what: &str) -> ProviderError {
    let reason = format!(
        "the parameter `{ISOLATION}` changes nothing in the stack {}: its template must take the clients' way in away while \
         it is set",
        stack.id
    );
    ProviderError::new(ErrorKind::Refused, what, reason)
}
