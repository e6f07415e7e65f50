//! What is added and taken away, over ACLs in memory; `tests/apache.rs` does the same on real brokers.

use super::*;

fn topic() -> TopicName {
    TopicName::new("orders")
}

/// krafka's bindings cannot be compared.
fn shown(bindings: &[AclBinding]) -> Vec<String> {
    bindings.iter().map(|binding| format!("{binding:?}")).collect()
}

fn matches(filter: &AclFilter, binding: &AclBinding) -> bool {
    Some(&binding.resource_name) == filter.resource_name.as_ref()
        && binding.pattern_type == filter.pattern_type
        && Some(&binding.principal) == filter.principal.as_ref()
        && Some(&binding.host) == filter.host.as_ref()
        && binding.operation == filter.operation
        && binding.permission_type == filter.permission_type
}

/// Whether readers are let in, as Kafka's authorizer decides it with `allow.everyone.if.no.acl.found=true`.
fn readable(acls: &TopicAcls) -> bool {
    acls.0.is_empty()
        || acls.0.iter().any(|binding| {
            binding.permission_type == AclPermissionType::Allow
                && matches!(binding.operation, AclOperation::Read | AclOperation::All)
                && ["User:*", "User:reader"].contains(&binding.principal.as_str())
        })
}

/// Adds bindings as a cluster does, once each. Gives how many were new.
fn create(acls: &mut TopicAcls, bindings: Vec<AclBinding>) -> usize {
    let before = acls.0.len();
    for binding in bindings {
        if !shown(&acls.0).contains(&format!("{binding:?}")) {
            acls.0.push(binding);
        }
    }
    acls.0.len() - before
}

/// Raises, and lifts again after every possible crash on the way; what was there before must be there after, and
/// readers must be let in at every single step.
fn raise_and_lift(before: Vec<AclBinding>) -> Vec<AclBinding> {
    let start = TopicAcls(before.clone());
    let additions = start.wanted(&topic());
    for done in (0..=additions.len()).filter(|done| done % 2 == 0) {
        let mut acls = TopicAcls(before.clone());
        for addition in &additions[..done] {
            acls.0.push(addition.clone());
            assert!(readable(&acls), "readers are shut out while raising, by {addition:?}");
        }
        // Whoever comes after the crash raises to the end first, or lifts right away.
        let mut whole = TopicAcls(acls.0.clone());
        let rest = whole.wanted(&topic());
        create(&mut whole, rest);
        assert!(whole.has(&topic(), DENY_WRITE, EVERYONE));
        assert!(whole.stands(&topic()));
        let again = whole.wanted(&topic());
        assert_eq!(create(&mut whole, again), 0, "raising again adds nothing");
        for mut acls in [acls, whole] {
            for filter in acls.ours(&topic()) {
                acls.0.retain(|binding| !matches(&filter, binding));
                assert!(readable(&acls), "readers are shut out while lifting, by {filter:?}");
            }
            assert_eq!(shown(&acls.0), shown(&before));
            assert!(acls.ours(&topic()).is_empty(), "lifting again takes nothing away");
        }
    }
    additions
}

/// L17: a topic without ACLs must not become one that shuts consumers out.
#[test]
fn a_topic_without_acls_stays_open_to_readers() {
    let added = raise_and_lift(Vec::new());
    assert!(added.iter().any(|binding| ALLOWANCES[0].is(binding, EVERYONE)));
    // The control: without the allowance the deny shuts readers out.
    assert!(!readable(&TopicAcls(vec![DENY_WRITE.binding(&topic(), EVERYONE)])));
}

#[test]
fn an_allowance_that_was_there_before_stays() {
    let theirs = ALLOWANCES[0].binding(&topic(), EVERYONE);
    let added = raise_and_lift(vec![theirs.clone()]);
    assert_eq!(added.len(), 2, "the deny and its marker alone: {added:?}");
    // Theirs stays also where everything else on the topic is ours.
    let theirs_and_deny = vec![theirs, DENY_WRITE.binding(&topic(), EVERYONE)];
    assert!(
        raise_and_lift(theirs_and_deny).is_empty(),
        "a deny that was there before is nobody's to take away"
    );
}

#[test]
fn a_topic_under_a_prefix_or_the_wildcard_is_opened_to_nobody() {
    let reader = |name: &str, pattern_type| AclBinding {
        resource_name: name.to_owned(),
        pattern_type,
        principal: "User:reader".to_owned(),
        ..ALLOWANCES[0].binding(&topic(), EVERYONE)
    };
    for theirs in [reader("ord", AclPatternType::from_i8(4)), reader("*", literal())] {
        let added = raise_and_lift(vec![theirs]);
        assert_eq!(added.len(), 2, "the deny and its marker alone: {added:?}");
    }
    // One for another topic says nothing about this one.
    let elsewhere = reader("payments", literal());
    assert_eq!(raise_and_lift(vec![elsewhere.clone()]).len(), 6);
    assert!(!TopicAcls(vec![elsewhere]).has_foreign(&topic()));
}

#[test]
fn a_topics_bindings_stay_in_one_request() {
    let topics = (0..100).map(|_| vec![0; 6]);
    let sizes: Vec<usize> = chunks(topics).iter().map(Vec::len).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 600);
    assert!(sizes.iter().all(|size| size % 6 == 0 && *size <= CHUNK), "{sizes:?}");
}

/// The name of LITERAL in krafka is wrong in 0.28.1 and may be mended: its number must stay.
#[test]
fn literal_is_kafkas_number_three() {
    assert_eq!(literal().to_i8(), 3);
    assert_ne!(AclPatternType::from_i8(4), literal());
}

#[test]
fn a_cluster_without_an_authorizer_says_what_to_do() {
    let error =
        explain("raise the fence", &KrafkaError::broker(ErrorCode::SecurityDisabled, "no authorizer"));
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.reason.contains("authorizer.class.name"), "{error}");
}
