//! What a stack's events say: how far it is, and why it failed. No requests, no clock.

use std::collections::BTreeSet;

use aws_sdk_cloudformation::types::StackEvent;

/// How far the newest operation is: how much is done, and what happened last.
pub(super) fn progress(newest_first: &[StackEvent], stack_id: &str) -> Option<String> {
    let mut steps = newest_operation(newest_first, stack_id)
        .iter()
        .filter(|event| event.physical_resource_id() != Some(stack_id))
        .peekable();
    let last = text(steps.peek()?);
    let done: BTreeSet<_> = steps
        .filter(|event| status(event).ends_with("_COMPLETE"))
        .filter_map(StackEvent::logical_resource_id)
        .collect();
    Some(format!("{} of its resources are done, the last event is {last}", done.len()))
}

fn text(event: &StackEvent) -> String {
    let status = status(event);
    let name = event.logical_resource_id().unwrap_or_default();
    let reason = event.resource_status_reason().filter(|reason| !reason.is_empty());
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{name} {status}{reason}")
}

fn status(event: &StackEvent) -> &str {
    event.resource_status().map_or("", |status| status.as_str())
}

/// The events of the newest operation. An operation ends where another begins; a rollback belongs to the operation that it
/// undoes.
pub(super) fn newest_operation<'a>(newest_first: &'a [StackEvent], stack_id: &str) -> &'a [StackEvent] {
    let begins = |event: &StackEvent| {
        let begun = ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"];
        event.physical_resource_id() == Some(stack_id) && begun.contains(&status(event))
    };
    let begun = newest_first.iter().position(begins).map_or(newest_first.len(), |place| place + 1);
    &newest_first[..begun]
}

/// The first resource that failed in the newest operation, with its own reason. Those that fail after it are mostly
/// cancelled because of it.
pub(super) fn first_failure(newest_first: &[StackEvent], stack_id: &str) -> Option<String> {
    let failed = newest_operation(newest_first, stack_id).iter().rev().find(|event| {
        let cancelled =
            event.resource_status_reason().is_some_and(|reason| reason.to_lowercase().contains("cancelled"));
        event.physical_resource_id() != Some(stack_id) && status(event).ends_with("_FAILED") && !cancelled
    })?;
    let kind = failed.resource_type().unwrap_or_default();
    Some(format!("{kind} {}", text(failed)))
}

/// The same of the operation before it.
pub(super) fn first_failure_before(newest_first: &[StackEvent], stack_id: &str) -> Option<String> {
    let newest = newest_operation(newest_first, stack_id).len();
    first_failure(&newest_first[newest..], stack_id)
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::types::ResourceStatus;

    use super::*;

    const STACK: &str = "arn:aws:cloudformation:eu-west-1:1:stack/KafkaA/1f6c";

    fn event(number: usize, name: &str, status: &str, reason: &str) -> StackEvent {
        let event = StackEvent::builder().event_id(number.to_string()).logical_resource_id(name);
        let event = event.resource_status(ResourceStatus::from(status)).resource_type("AWS::EC2::Instance");
        let event = event.physical_resource_id(if name == "KafkaA" { STACK } else { name });
        if reason.is_empty() { event.build() } else { event.resource_status_reason(reason).build() }
    }

    fn newest_first(events: &[(&str, &str, &str)]) -> Vec<StackEvent> {
        let made = events.iter().enumerate();
        made.rev().map(|(number, (name, status, reason))| event(number, name, status, reason)).collect()
    }

    #[test]
    fn the_first_failure_is_told_and_not_what_it_cancelled() {
        let events = newest_first(&[
            ("KafkaA", "CREATE_IN_PROGRESS", "User Initiated"),
            ("Broker0", "CREATE_IN_PROGRESS", ""),
            ("Broker1", "CREATE_FAILED", "insufficient capacity"),
            ("Broker0", "CREATE_FAILED", "Resource creation cancelled"),
            ("Balancer", "CREATE_FAILED", "Access denied"),
            ("KafkaA", "ROLLBACK_IN_PROGRESS", "The following resource(s) failed"),
            ("KafkaA", "ROLLBACK_COMPLETE", ""),
        ]);
        let said = first_failure(&events, STACK).unwrap();
        assert_eq!(said, "AWS::EC2::Instance Broker1 CREATE_FAILED: insufficient capacity");
    }

    /// An update that failed long ago does not explain a removal that fails today.
    #[test]
    fn an_earlier_operations_failure_is_not_this_ones() {
        let events = newest_first(&[
            ("KafkaA", "UPDATE_IN_PROGRESS", ""),
            ("Broker0", "UPDATE_FAILED", "old"),
            ("KafkaA", "UPDATE_ROLLBACK_COMPLETE", ""),
            ("KafkaA", "DELETE_IN_PROGRESS", ""),
            ("ClientGroup", "DELETE_FAILED", "has a dependent object"),
        ]);
        assert!(first_failure(&events, STACK).unwrap().contains("dependent object"));
        assert_eq!(first_failure(&events[1..2], STACK), None);
        assert_eq!(newest_operation(&events, STACK).len(), 2);
    }

    /// Why what is being removed was not kept.
    #[test]
    fn a_making_that_failed_is_told_of_while_its_remains_are_removed() {
        let events = newest_first(&[
            ("KafkaA", "CREATE_IN_PROGRESS", ""),
            ("Serving0", "CREATE_FAILED", "timed out"),
            ("KafkaA", "ROLLBACK_COMPLETE", ""),
            ("KafkaA", "DELETE_IN_PROGRESS", ""),
            ("ClientGroup", "DELETE_FAILED", "has a dependent object"),
        ]);
        assert!(first_failure_before(&events, STACK).unwrap().contains("Serving0 CREATE_FAILED: timed out"));
        assert_eq!(first_failure_before(&events[..2], STACK), None);
    }

    #[test]
    fn what_is_under_way_says_how_far_it_is() {
        let events = newest_first(&[
            ("Broker0", "UPDATE_COMPLETE", "of another operation"),
            ("KafkaA", "CREATE_IN_PROGRESS", ""),
            ("Balancer", "CREATE_IN_PROGRESS", ""),
            ("Balancer", "CREATE_IN_PROGRESS", "Resource creation Initiated"),
            ("Balancer", "CREATE_COMPLETE", ""),
            ("Broker0", "CREATE_IN_PROGRESS", "Resource creation Initiated"),
        ]);
        assert_eq!(
            progress(&events, STACK).unwrap(),
            "1 of its resources are done, the last event is Broker0 CREATE_IN_PROGRESS: Resource creation Initiated"
        );
        assert_eq!(progress(&events[4..], STACK), None);
    }
}
