//! [`ClusterProvisioner`] over CloudFormation: one stack per colour, of one template.
//!
//! A stack's id names one incarnation for ever, also when it is gone and another has its name; what is isolated and
//! destroyed is named by it. That all of a stack is there says that its brokers serve, since the template waits for each
//! of them to say so. Whether the load balancer still finds them healthy is asked of it, right before a switch.

mod api;
mod events;
mod isolation;
mod parameters;
mod stack;
mod targets;
mod template;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::StackStatus;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner, Incarnation};
use kutover_core::words::{ClusterId, Colour, DeploymentName, IncarnationId, Nonce};
use tokio::time::Instant;

use crate::connect::Aws;
pub use parameters::{TemplateFault, template_faults};
use stack::{Seen, Standing};
use targets::{LoadBalancers, TARGET_GROUP};
pub use template::{STACK_POLICY, template};

/// The pause between two looks at a stack: its steps take minutes.
const POLL: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks a cluster for its id. A stack does not know it: it is Kafka's own.
#[async_trait]
pub trait ClusterIds: Send + Sync {
    /// The id of the Kafka cluster behind an incarnation.
    ///
    /// # Errors
    /// It does not answer.
    async fn cluster_id(&self, incarnation: &Incarnation) -> ProviderResult<ClusterId>;
}

/// What stacks are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackOptions {
    /// The deployment: stacks of another one are left alone.
    pub deployment: DeploymentName,
    /// The stacks' name; the colour's suffix is appended, as in `KafkaA`.
    pub name: String,
    /// The template's parameters, without `Suffix` and `Isolation`, which kutover sets.
    pub parameters: BTreeMap<String, String>,
    /// The template's text. Its outputs are `Bootstrap`, `ControllerBootstrap` and `EndpointName`. Default: [`template`].
    pub template: String,
    /// The role with which CloudFormation makes and removes what the template names. Default: the caller's own rights.
    pub role_arn: Option<String>,
    /// The hosted zone that aliases of load balancers are made with, if any: a stack whose output `EndpointZoneId` is another one
    /// is refused.
    pub alias_zone_id: Option<String>,
    /// The pause between two looks at a stack. Default 5 s.
    pub poll: Duration,
    /// How long a call waits for a stack before it says how far that is, and is asked again. Default 20 s.
    pub patience: Duration,
}

impl StackOptions {
    /// Stacks of kutover's own template.
    pub fn new(deployment: DeploymentName, name: impl Into<String>) -> Self {
        let (name, parameters) = (name.into(), BTreeMap::new());
        let (role_arn, alias_zone_id) = (None, None);
        let (template, poll, patience) = (template(), POLL, PATIENCE);
        Self { deployment, name, parameters, template, role_arn, alias_zone_id, poll, patience }
    }
}

/// Makes, describes, isolates and removes clusters as CloudFormation stacks.
pub struct CloudFormation {
    client: Client,
    balancers: LoadBalancers,
    options: StackOptions,
    ids: Arc<dyn ClusterIds>,
}

impl fmt::Debug for CloudFormation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudFormation").field("stack", &self.options.name).finish_non_exhaustive()
    }
}

impl CloudFormation {
    /// A provisioner; nothing is asked yet.
    pub fn new(aws: &Aws, options: StackOptions, ids: Arc<dyn ClusterIds>) -> Self {
        Self { client: Client::new(aws.config()), balancers: LoadBalancers::new(aws), options, ids }
    }

    /// What clients and controller find in a stack that is used.
    fn incarnation(&self, stack: &Seen, what: &str) -> ProviderResult<Incarnation> {
        stack.check_alias_zone(self.options.alias_zone_id.as_deref(), what)?;
        stack.incarnation(what)
    }

    fn stack_name(&self, colour: Colour) -> String {
        format!("{}{}", self.options.name, colour.suffix())
    }

    /// The stack of that name, if there is one, and it is this deployment's.
    async fn ours(&self, name: &str, what: &str) -> ProviderResult<Option<Seen>> {
        let found = self.find(name, what).await?.filter(|stack| stack.standing() != Standing::Gone);
        if let Some(stack) = &found {
            stack.check_owner(self.options.deployment.as_str(), what)?;
        }
        Ok(found)
    }

    /// Looks until nothing is under way any more, for as long as is waited for.
    ///
    /// # Errors
    /// It is still under way, with how far it is: whoever asks again goes on from there.
    async fn settled(&self, id: &str, what: &str) -> ProviderResult<Seen> {
        self.settled_after(id, what, |_| true).await
    }

    /// The same after something was begun, which is known by `shows`. A look right after it may still show what was there
    /// before: nothing follows from that.
    async fn settled_after(
        &self,
        id: &str,
        what: &str,
        shows: impl Fn(&Seen) -> bool,
    ) -> ProviderResult<Seen> {
        let begun = Instant::now();
        loop {
            let stack = self.find(id, what).await?;
            let stack = stack.ok_or_else(|| {
                ProviderError::new(ErrorKind::NotFound, what, format!("the stack {id} is not there any more"))
            })?;
            let moves = matches!(stack.standing(), Standing::Changing | Standing::Coming | Standing::Going);
            if !moves && shows(&stack) {
                return Ok(stack);
            }
            if begun.elapsed() >= self.options.patience {
                let error = self.under_way(&stack, what).await;
                if moves {
                    return Err(error);
                }
                let reason = format!("CloudFormation does not show yet what it has begun: {}", error.reason);
                return Err(ProviderError { reason, ..error });
            }
            tokio::time::sleep(self.options.poll).await;
        }
    }

    async fn under_way(&self, stack: &Seen, what: &str) -> ProviderError {
        let told = match self.events(&stack.id, what).await {
            Ok(events) => events::progress(&events, &stack.id),
            Err(error) => Some(format!("its events cannot be read: {error}")),
        };
        let told = told.map_or_else(String::new, |told| format!(": {told}"));
        let reason = format!("it is in {}{told}", stack.status.as_str());
        ProviderError::new(ErrorKind::Unavailable, what, reason).with_outcome(Outcome::Unknown)
    }

    /// Why the stack's last operation failed: what the first resource that failed says itself.
    async fn failure(&self, stack: &Seen, what: &str) -> String {
        match self.events(&stack.id, what).await {
            Ok(events) => events::first_failure(&events, &stack.id),
            Err(error) => Some(format!("its events cannot be read: {error}")),
        }
        .or_else(|| stack.reason.clone())
        .unwrap_or_else(|| format!("it is in {}", stack.status.as_str()))
    }

    /// Why a stack that is being removed was not kept, where that is a failure.
    async fn failure_before(&self, stack: &Seen, what: &str) -> String {
        match self.events(&stack.id, what).await {
            Ok(events) => events::first_failure_before(&events, &stack.id),
            Err(error) => Some(format!("its events cannot be read: {error}")),
        }
        .unwrap_or_else(|| "somebody has it removed".to_owned())
    }

    /// Removes a stack for good and returns when it is gone.
    async fn remove(&self, id: &str, what: &str) -> ProviderResult<()> {
        self.delete(id, what).await?;
        // One that could not be removed before either may look the same again, with nothing to tell the two looks apart.
        let ended =
            |seen: &Seen| seen.standing() == Standing::Gone || seen.status == StackStatus::DeleteFailed;
        let left = self.settled_after(id, what, ended).await?;
        if left.standing() == Standing::Gone {
            return Ok(());
        }
        let reason = self.failure(&left, what).await;
        let error = left.stuck(what);
        Err(ProviderError { reason: format!("{}: {reason}", error.reason), ..error })
    }
}

/// What became of what a request has made, with its reason.
fn removed(reason: &str, what: &str) -> ProviderError {
    let reason = format!("{reason}; what had been made was removed again");
    ProviderError::new(ErrorKind::Refused, what, reason)
}

/// Why it is still to be removed, before what became of that.
fn left_behind(reason: &str, error: ProviderError) -> ProviderError {
    let reason = format!("{reason}; what had been made is not removed yet: {}", error.reason);
    ProviderError { reason, ..error }
}

#[async_trait]
impl ClusterProvisioner for CloudFormation {
    async fn provision(&self, colour: Colour, request: &Nonce) -> ProviderResult<Incarnation> {
        let name = self.stack_name(colour);
        let what = format!("make the stack {name}");
        if let Some(fault) = template_faults(&self.options.template, &self.options.parameters).first() {
            return Err(ProviderError::new(ErrorKind::Refused, what, fault.to_string()));
        }
        loop {
            let Some(stack) = self.ours(&name, &what).await? else {
                self.create(colour, request, &what).await?;
                continue;
            };
            match stack.standing() {
                Standing::Serving => {
                    if !stack.is_protected {
                        self.protect(&stack.id, true, &what).await?;
                    }
                    stack.check_request(request, &what)?;
                    return self.incarnation(&stack, &what);
                }
                Standing::Coming | Standing::Changing => {
                    stack.check_request(request, &what)?;
                    self.settled(&stack.id, &what).await?;
                }
                // What this request made and lost is not made a second time behind the back of whoever removes it. What an
                // earlier request has left is cleared away.
                Standing::Going => {
                    let left = self.settled(&stack.id, &what).await?;
                    if stack.is_of(request) {
                        let reason = self.failure_before(&stack, &what).await;
                        if left.standing() == Standing::Stuck {
                            return Err(left_behind(&reason, left.stuck(&what)));
                        }
                        return Err(removed(&reason, &what));
                    }
                }
                Standing::Remains => {
                    let reason = self.failure(&stack, &what).await;
                    self.remove(&stack.id, &what).await.map_err(|error| left_behind(&reason, error))?;
                    if stack.is_of(request) {
                        return Err(removed(&reason, &what));
                    }
                }
                Standing::Stuck => return Err(stack.stuck(&what)),
                // Not among ours.
                Standing::Gone => {}
            }
        }
    }

    async fn describe(&self, colour: Colour) -> ProviderResult<Option<Incarnation>> {
        let name = self.stack_name(colour);
        let what = format!("describe the stack {name}");
        let Some(stack) = self.ours(&name, &what).await? else { return Ok(None) };
        match stack.standing() {
            Standing::Serving | Standing::Changing => self.incarnation(&stack, &what).map(Some),
            // Whoever takes back what it has begun must not take it for nothing: it would come up behind their back.
            Standing::Coming => Err(stack.coming(&what)),
            Standing::Stuck if stack.may_serve() => Err(stack.stuck(&what)),
            // Nothing serves there any more.
            Standing::Remains | Standing::Going | Standing::Gone | Standing::Stuck => Ok(None),
        }
    }

    async fn isolate(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        let what = format!("isolate {incarnation}");
        self.set_isolation(incarnation, &what, nonce.as_str(), |_| true).await
    }

    async fn put_back(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        let what = format!("put {incarnation} back");
        self.set_isolation(incarnation, &what, "", |standing| standing == nonce.as_str()).await
    }

    async fn destroy(&self, mark: &RemovalMark) -> ProviderResult<()> {
        let id = mark.incarnation.as_str();
        let what = format!("destroy {id}");
        let Some(stack) = self.by_id(id, &what).await? else { return Ok(()) };
        stack.check_owner(self.options.deployment.as_str(), &what)?;
        if stack.standing() == Standing::Gone {
            return Ok(());
        }
        let stack = self.settled(&stack.id, &what).await?;
        // What is being removed already was begun under this mark, after the proof; nothing in it need answer any more. All
        // else may serve, also where an update of it could not be undone.
        if stack.may_serve() {
            let there = stack.incarnation(&what)?;
            let found = self.ids.cluster_id(&there).await.map_err(|error| {
                let fix = "if it is dead, delete its stack by hand";
                ProviderError { reason: format!("{}; {fix}", error.reason), ..error }
                    .with_outcome(Outcome::NotDone)
            })?;
            if found != mark.cluster_id {
                let reason = format!(
                    "the mark of removal names cluster {}, but the cluster there is {found}",
                    mark.cluster_id
                );
                return Err(ProviderError::new(ErrorKind::Refused, what, reason));
            }
        }
        if stack.is_protected {
            self.protect(&stack.id, false, &what).await?;
        }
        self.remove(&stack.id, &what).await
    }

    async fn is_ready(&self, incarnation: &IncarnationId) -> ProviderResult<()> {
        let what = format!("look whether {incarnation} is ready");
        let found = self.by_id(incarnation.as_str(), &what).await?;
        let Some(stack) = found.filter(Seen::may_serve) else {
            return Err(ProviderError::new(ErrorKind::NotFound, what, "no stack of that id serves"));
        };
        stack.check_owner(self.options.deployment.as_str(), &what)?;
        // What shuts clients out shuts health checks out too, until it is put back right before the switch.
        if !stack.isolation().is_empty() {
            return Ok(());
        }
        // None in a template of somebody's own: then nothing is known here of who is served.
        for group in self.resources(&stack.id, TARGET_GROUP, &what).await? {
            self.balancers.check_targets(&group, &what).await?;
        }
        Ok(())
    }
}
