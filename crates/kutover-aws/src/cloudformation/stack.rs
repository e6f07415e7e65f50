//! A stack as CloudFormation shows it, and what may be done with it: no requests, no clock.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::primitives::DateTime;
use aws_sdk_cloudformation::types::{Stack, StackStatus};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{Incarnation, RecordData};
use kutover_core::words::{Colour, DnsName, IncarnationId, Nonce};

/// The tag that says whose a stack is.
pub(super) const OWNER_TAG: &str = "kutover:deployment";
/// The tag that says which request made a stack.
pub(super) const REQUEST_TAG: &str = "kutover:request";
/// The template's parameters that kutover sets by itself.
pub(super) const SUFFIX: &str = "Suffix";
pub(super) const ISOLATION: &str = "Isolation";

/// What a stack's status means for kutover (CloudFormation User Guide, "Stack status codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It serves, and can be changed. A stack that went back to how it was before an update does too.
    Serving,
    /// It serves, and something is being changed.
    Changing,
    /// It is being made, or a failed making is being undone.
    Coming,
    /// What a failed making has left behind: nothing that serves.
    Remains,
    /// It is being removed.
    Going,
    /// It is gone; its id names it for ever.
    Gone,
    /// Nothing but a person gets it out of there.
    Stuck,
}

/// A stack as it stands.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: StackStatus,
    pub(super) reason: Option<String>,
    pub(super) is_protected: bool,
    /// When it was changed last, if ever.
    pub(super) updated: Option<DateTime>,
    /// By whom it was made; `None` for one that kutover did not make.
    pub(super) deployment: Option<String>,
    /// For which request; `None` too for one of a version that did not write it down.
    request: Option<String>,
    pub(super) parameters: BTreeMap<String, String>,
    outputs: BTreeMap<String, String>,
}

impl Seen {
    pub(super) fn new(stack: Stack) -> Option<Self> {
        let text = |text: Option<String>| text.unwrap_or_default();
        let tags = stack.tags.unwrap_or_default();
        let tag = |name: &str| {
            let found = tags.iter().find(|tag| tag.key() == Some(name));
            found.and_then(|tag| tag.value()).map(str::to_owned)
        };
        Some(Self {
            id: stack.stack_id?,
            name: text(stack.stack_name),
            status: stack.stack_status?,
            reason: stack.stack_status_reason.filter(|reason| !reason.is_empty()),
            is_protected: stack.enable_termination_protection.unwrap_or_default(),
            updated: stack.last_updated_time,
            deployment: tag(OWNER_TAG),
            request: tag(REQUEST_TAG),
            parameters: stack
                .parameters
                .unwrap_or_default()
                .into_iter()
                .map(|parameter| (text(parameter.parameter_key), text(parameter.parameter_value)))
                .collect(),
            outputs: stack
                .outputs
                .unwrap_or_default()
                .into_iter()
                .map(|output| (text(output.output_key), text(output.output_value)))
                .collect(),
        })
    }

    /// The nonce of the isolation in force; empty where there is none.
    pub(super) fn isolation(&self) -> &str {
        self.parameters.get(ISOLATION).map_or("", String::as_str)
    }

    /// The colour that it stands behind.
    fn colour(&self) -> Option<Colour> {
        let suffix = self.parameters.get(SUFFIX)?;
        Colour::BOTH.into_iter().find(|colour| colour.suffix() == suffix)
    }

    pub(super) fn standing(&self) -> Standing {
        use StackStatus as S;
        match self.status {
            S::CreateComplete
            | S::UpdateComplete
            | S::UpdateRollbackComplete
            | S::ImportComplete
            | S::ImportRollbackComplete => Standing::Serving,
            S::UpdateInProgress
            | S::UpdateCompleteCleanupInProgress
            | S::UpdateRollbackInProgress
            | S::UpdateRollbackCompleteCleanupInProgress
            | S::ImportInProgress
            | S::ImportRollbackInProgress => Standing::Changing,
            S::CreateInProgress | S::RollbackInProgress => Standing::Coming,
            S::CreateFailed | S::RollbackComplete | S::RollbackFailed => Standing::Remains,
            S::DeleteInProgress => Standing::Going,
            S::DeleteComplete => Standing::Gone,
            _ => Standing::Stuck,
        }
    }

    /// Refuses a stack that is not this deployment's.
    pub(super) fn check_owner(&self, deployment: &str, what: &str) -> ProviderResult<()> {
        let whose = match &self.deployment {
            Some(owner) if owner == deployment => return Ok(()),
            Some(owner) => format!("belongs to deployment {owner}"),
            None => format!("was not made by kutover (it has no tag `{OWNER_TAG}`)"),
        };
        let reason = format!("the stack {} {whose}; choose another `stack`", self.id);
        Err(ProviderError::new(ErrorKind::Refused, what, reason))
    }

    /// Whether this request made it.
    pub(super) fn is_of(&self, request: &Nonce) -> bool {
        self.request.as_deref() == Some(request.as_str())
    }

    /// Refuses what stands there of another request: it was there before, and whoever makes nothing must not take it away.
    pub(super) fn check_request(&self, request: &Nonce, what: &str) -> ProviderResult<()> {
        if self.is_of(request) {
            return Ok(());
        }
        let whose = match &self.request {
            Some(other) => format!("was made for request {other}"),
            None => format!("does not say for which request it was made (it has no tag `{REQUEST_TAG}`)"),
        };
        let reason = format!("the stack {} {whose}, not for {request}; remove it first", self.id);
        Err(ProviderError::new(ErrorKind::Refused, what, reason))
    }

    /// Something is there, and it is not known yet what will be.
    pub(super) fn coming(&self, what: &str) -> ProviderError {
        let reason = format!(
            "the stack {} is being made ({}); ask again when that has ended",
            self.id,
            self.status.as_str()
        );
        ProviderError::new(ErrorKind::Unavailable, what, reason)
    }

    /// Whether a cluster may live there that nobody has begun to remove.
    pub(super) fn may_serve(&self) -> bool {
        match self.standing() {
            Standing::Serving | Standing::Changing => true,
            Standing::Stuck => self.status != StackStatus::DeleteFailed,
            Standing::Coming | Standing::Remains | Standing::Going | Standing::Gone => false,
        }
    }

    /// What to do about a stack that only a person gets out of there.
    pub(super) fn stuck(&self, what: &str) -> ProviderError {
        let fix = match self.status {
            StackStatus::UpdateRollbackFailed => "continue its update rollback",
            StackStatus::DeleteFailed => "remove what it could not, and delete it again",
            StackStatus::ReviewInProgress => "delete it: it holds a change set that was never carried out",
            _ => "see to it in CloudFormation",
        };
        let reason = self.reason.as_deref().map_or_else(String::new, |reason| format!(" ({reason})"));
        let reason = format!("the stack {} is in {}{reason}; {fix}", self.id, self.status.as_str());
        ProviderError::new(ErrorKind::Refused, what, reason)
    }

    /// What clients and controller find there.
    pub(super) fn incarnation(&self, what: &str) -> ProviderResult<Incarnation> {
        let colour = self.colour().ok_or_else(|| {
            let reason = format!("the stack {} has no parameter `{SUFFIX}` of `A` or `B`", self.id);
            ProviderError::new(ErrorKind::Invalid, what, reason)
        })?;
        let output = |name: &str| {
            self.outputs.get(name).filter(|value| !value.is_empty()).ok_or_else(|| {
                let reason =
                    format!("the stack {} has no output `{name}`; its template must give it", self.id);
                ProviderError::new(ErrorKind::Invalid, what, reason)
            })
        };
        let servers = |name: &str| -> ProviderResult<Vec<String>> {
            Ok(output(name)?.split(',').map(|server| server.trim().to_owned()).collect())
        };
        Ok(Incarnation {
            id: IncarnationId::new(&self.id),
            colour,
            bootstrap: servers("Bootstrap")?,
            controller_bootstrap: servers("ControllerBootstrap")?,
            endpoint: RecordData::Cname(DnsName::new(output("EndpointName")?).normal()),
        })
    }
}

impl Seen {
    /// Refuses a stack whose load balancer has another hosted zone than aliases are made with: one that is made so leads nowhere.
    /// A template need not say which it has.
    pub(super) fn check_alias_zone(&self, alias_zone_id: Option<&str>, what: &str) -> ProviderResult<()> {
        match (self.outputs.get("EndpointZoneId"), alias_zone_id) {
            (Some(its), Some(ours)) if its != ours => {
                let reason = format!(
                    "the load balancer of the stack {} has the hosted zone {its} (output `EndpointZoneId`), and \
                     `dns.alias_zone_id` is {ours}: correct it, or leave it out for CNAMEs",
                    self.id
                );
                Err(ProviderError::new(ErrorKind::Refused, what, reason))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_cloudformation::types::Output;

    fn seen(status: &str) -> Seen {
        let stack = Stack::builder().stack_id("arn:1").stack_status(StackStatus::from(status));
        Seen::new(stack.stack_status_reason("because").build()).unwrap()
    }

    /// By its last word: what has failed to be undone needs a person, what was undone serves or is in the way.
    #[test]
    fn every_status_has_its_meaning() {
        for (status, standing) in [
            ("CREATE_COMPLETE", Standing::Serving),
            ("UPDATE_COMPLETE", Standing::Serving),
            ("UPDATE_ROLLBACK_COMPLETE", Standing::Serving),
            ("IMPORT_ROLLBACK_COMPLETE", Standing::Serving),
            ("UPDATE_IN_PROGRESS", Standing::Changing),
            ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", Standing::Changing),
            ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", Standing::Changing),
            ("CREATE_IN_PROGRESS", Standing::Coming),
            ("ROLLBACK_IN_PROGRESS", Standing::Coming),
            ("CREATE_FAILED", Standing::Remains),
            ("ROLLBACK_COMPLETE", Standing::Remains),
            ("ROLLBACK_FAILED", Standing::Remains),
            ("DELETE_IN_PROGRESS", Standing::Going),
            ("DELETE_COMPLETE", Standing::Gone),
            ("DELETE_FAILED", Standing::Stuck),
            ("UPDATE_FAILED", Standing::Stuck),
            ("UPDATE_ROLLBACK_FAILED", Standing::Stuck),
            ("REVIEW_IN_PROGRESS", Standing::Stuck),
            // One that AWS adds one day.
            ("REFURBISHED", Standing::Stuck),
        ] {
            assert_eq!(seen(status).standing(), standing, "{status}");
        }
    }

    /// L13: before such a stack is removed, the cluster there must give the id that the mark names.
    #[test]
    fn what_got_stuck_in_an_update_may_still_serve() {
        for (status, may_serve) in [
            ("CREATE_COMPLETE", true),
            ("UPDATE_ROLLBACK_FAILED", true),
            ("UPDATE_FAILED", true),
            ("DELETE_FAILED", false),
            ("ROLLBACK_COMPLETE", false),
        ] {
            assert_eq!(seen(status).may_serve(), may_serve, "{status}");
        }
    }

    #[test]
    fn what_is_stuck_says_how_it_gets_out() {
        for (status, fix) in [
            ("UPDATE_ROLLBACK_FAILED", "continue its update rollback"),
            ("DELETE_FAILED", "remove what it could not"),
            ("REVIEW_IN_PROGRESS", "delete it"),
            ("UPDATE_FAILED", "see to it in CloudFormation"),
        ] {
            let error = seen(status).stuck("isolate");
            let told = [status, "(because)", fix].iter().all(|part| error.reason.contains(part));
            assert!(error.kind == ErrorKind::Refused && told, "{error}");
        }
    }

    /// An alias with another zone than its target's leads nowhere, and Route 53 in emulation takes it.
    #[test]
    fn a_stack_of_another_alias_zone_is_refused() {
        let of = |outputs: Vec<Output>| {
            let stack = Stack::builder().stack_id("arn:1").stack_status(StackStatus::CreateComplete);
            Seen::new(stack.set_outputs(Some(outputs)).build()).unwrap()
        };
        let said = of(vec![Output::builder().output_key("EndpointZoneId").output_value("Z1").build()]);
        let error = said.check_alias_zone(Some("Z2"), "describe").unwrap_err();
        let told = ["`EndpointZoneId`", "Z1", "`dns.alias_zone_id` is Z2"]
            .iter()
            .all(|word| error.reason.contains(word));
        assert!(error.kind == ErrorKind::Refused && told, "{error}");
        said.check_alias_zone(Some("Z1"), "describe").unwrap();
        said.check_alias_zone(None, "describe").unwrap();
        of(vec![]).check_alias_zone(Some("Z2"), "describe").unwrap();
    }

    /// Whoever made it, and whatever its template: only what is this deployment's and gives what is needed is used.
    #[test]
    fn what_is_not_ours_or_says_too_little_is_refused() {
        let error = seen("CREATE_COMPLETE").check_owner("Kafka", "destroy").unwrap_err();
        assert!(error.reason.contains("was not made by kutover"), "{error}");
        let error = seen("CREATE_COMPLETE").incarnation("describe").unwrap_err();
        assert!(
            error.kind == ErrorKind::Invalid && error.reason.contains("no parameter `Suffix`"),
            "{error}"
        );
    }
}
