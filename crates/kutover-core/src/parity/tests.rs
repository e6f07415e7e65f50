//! What is made alike, what is refused, what is reported.

use super::*;

const BROKERS: usize = 3;

fn topic(name: &str, partitions: i32, configs: Option<&[(&str, &str)]>) -> TopicDescription {
    let configs =
        configs.map(|set| set.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect());
    TopicDescription {
        name: name.into(),
        id: None,
        partitions,
        replication: 3,
        configs,
        defaults: BTreeMap::new(),
    }
}

fn words(plan: &ParityPlan) -> Vec<String> {
    plan.differences.iter().map(ToString::to_string).collect()
}

#[test]
fn green_gets_what_blue_has() {
    let orders = topic("orders", 12, Some(&[("cleanup.policy", "compact")]));
    let reserved = ["__consumer_offsets", "kutover.control", "kutover.members"];
    let mut old: Vec<_> = reserved.iter().map(|name| topic(name, 50, None)).collect();
    old.push(orders.clone());
    let plan = parity_plan(&old, &[topic("only-new", 1, None)], BROKERS);
    assert_eq!(plan, ParityPlan { create: vec![like(&orders)], differences: vec![] });
    assert_eq!(
        parity_plan(std::slice::from_ref(&orders), std::slice::from_ref(&orders), BROKERS),
        ParityPlan::default()
    );
}

#[test]
fn fewer_partitions_are_added_and_more_are_refused() {
    let (few, many) = (topic("orders", 3, Some(&[])), topic("orders", 12, Some(&[])));
    let plan = parity_plan(std::slice::from_ref(&many), std::slice::from_ref(&few), BROKERS);
    assert_eq!(plan, ParityPlan { create: vec![like(&many)], differences: vec![] });
    let plan = parity_plan(&[few], &[many], BROKERS);
    assert!(plan.create.is_empty());
    assert_eq!(plan.refusals().count(), 1);
    assert!(
        words(&plan)[0].starts_with("topic orders: 3 partitions on the old cluster, 12 on the new cluster"),
        "{plan:?}"
    );
}

/// L6: weaker min.insync.replicas, shorter retention, refusing what the old cluster takes.
#[test]
fn what_keeps_or_takes_less_is_refused() {
    let old = topic(
        "orders",
        1,
        Some(&[("min.insync.replicas", "2"), ("retention.ms", "-1"), ("segment.ms", "9")]),
    );
    let new = topic("orders", 1, Some(&[("min.insync.replicas", "1"), ("retention.ms", "1000")]));
    let plan = parity_plan(std::slice::from_ref(&old), std::slice::from_ref(&new), BROKERS);
    assert_eq!(
        words(&plan),
        [
            "topic orders: min.insync.replicas is `2` on the old cluster and only `1` on the new cluster. Raise it on the new cluster",
            "topic orders: retention.ms is `-1` on the old cluster and only `1000` on the new cluster. Raise it on the new cluster",
            "topic orders: segment.ms is `9` on the old cluster and its default on the new cluster",
        ]
    );
    assert_eq!(plan.refusals().count(), 2);
    assert_eq!(parity_plan(&[new], &[old], BROKERS).refusals().count(), 0, "stronger is no refusal");
}

/// A topic whose cluster has these defaults.
fn by_default(configs: &[(&str, &str)], defaults: &[(&str, &str)]) -> TopicDescription {
    let mut by_name: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, value) in defaults {
        by_name.entry(name.to_string()).or_default().insert(value.to_string());
    }
    TopicDescription { defaults: by_name, ..topic("orders", 1, Some(configs)) }
}

/// L6: what is set on one side only is held against what is in force on the other.
#[test]
fn a_limit_that_only_one_side_sets_is_compared_with_the_others_default() {
    const DEFAULTS: [(&str, &str); 6] = [
        ("cleanup.policy", "delete"),
        ("max.message.bytes", "1048588"),
        ("message.timestamp.after.max.ms", "3600000"),
        ("min.insync.replicas", "1"),
        ("retention.bytes", "-1"),
        ("retention.ms", "604800000"),
    ];
    let bare = by_default(&[], &DEFAULTS);
    // What one side sets; whether it is refused where the old one does, and where the new one does.
    for (config, value, of_old, of_new) in [
        ("max.message.bytes", "10485760", true, false),
        ("max.message.bytes", "1000", false, true),
        ("message.timestamp.after.max.ms", "9223372036854775807", true, false),
        ("min.insync.replicas", "2", true, false),
        ("retention.bytes", "1000", false, true),
        ("retention.ms", "-1", true, false),
        ("retention.ms", "3600000", false, true),
        ("retention.ms", "604800000", false, false),
        ("cleanup.policy", "compact", true, true),
        ("cleanup.policy", "delete", false, false),
        ("segment.ms", "9", false, false),
    ] {
        let set = by_default(&[(config, value)], &DEFAULTS);
        for (old, new, refused) in [(&set, &bare, of_old), (&bare, &set, of_new)] {
            let plan = parity_plan(std::slice::from_ref(old), std::slice::from_ref(new), BROKERS);
            assert_eq!(plan.differences.len(), 1, "it is told all the same: {plan:?}");
            assert_eq!(plan.refusals().count() == 1, refused, "{config}={value}: {plan:?}");
        }
    }
    let short = by_default(&[("retention.ms", "3600000")], &DEFAULTS);
    let plan = parity_plan(&[bare], &[short], BROKERS);
    let expected = "topic orders: retention.ms is `604800000` on the old cluster and only `3600000` on the new cluster. Raise it on \
                    the new cluster";
    assert_eq!(words(&plan), [expected]);
    // Without the default there is nothing to compare with.
    let untold = by_default(&[], &[]);
    let plan = parity_plan(&[by_default(&[("retention.ms", "-1")], &[])], &[untold], BROKERS);
    assert_eq!((plan.differences.len(), plan.refusals().count()), (1, 0), "{plan:?}");
}

/// L6: where a partition is led by a broker with another default, that one holds.
#[test]
fn brokers_that_differ_are_held_against_each_other_one_by_one() {
    let differ = by_default(&[], &[("retention.ms", "3600000"), ("retention.ms", "604800000")]);
    for (value, of_old, of_new) in [("3600000", 0, 1), ("7200000", 1, 1), ("604800000", 1, 0)] {
        let set = by_default(&[("retention.ms", value)], &[]);
        for (old, new, refused) in [(&set, &differ, of_old), (&differ, &set, of_new)] {
            let plan = parity_plan(std::slice::from_ref(old), std::slice::from_ref(new), BROKERS);
            assert_eq!((plan.differences.len(), plan.refusals().count()), (1, refused), "{value}: {plan:?}");
        }
    }
    assert_eq!(differ.in_force("retention.ms"), None, "nobody knows which holds");
}

#[test]
fn another_cleanup_policy_is_refused_however_it_is_written() {
    let with = |policy| by_default(&[("cleanup.policy", policy)], &[]);
    for (old, new, refused) in
        [("compact", "delete", 1), ("delete", "compact,delete", 1), ("compact, delete", "delete,compact", 0)]
    {
        let plan = parity_plan(&[with(old)], &[with(new)], BROKERS);
        assert_eq!(plan.refusals().count(), refused, "{plan:?}");
    }
    let plan = parity_plan(&[with("compact")], &[with("delete")], BROKERS);
    let expected = "topic orders: cleanup.policy is `compact` on the old cluster and `delete` on the new cluster, which would keep \
                    other records. Make it the same on both";
    assert_eq!(words(&plan), [expected]);
}

/// A fence by size that a cutover before has left there is lifted before anybody is pointed there: it is no limit.
#[test]
fn a_fence_that_is_left_over_is_no_limit() {
    let defaults = [("max.message.bytes", "1048588")];
    let fenced = by_default(&[("max.message.bytes", "0")], &defaults);
    let plan = parity_plan(&[by_default(&[], &defaults)], std::slice::from_ref(&fenced), BROKERS);
    assert_eq!(plan.differences, []);
    let large = by_default(&[("max.message.bytes", "10485760")], &defaults);
    let plan = parity_plan(&[large], &[fenced], BROKERS);
    assert!(words(&plan)[0].contains("`10485760` on the old cluster and only `1048588`"), "{plan:?}");
}

/// Also where the topic is only to be made, and whoever makes it would make do with the brokers that are there.
#[test]
fn fewer_replicas_are_refused_before_and_after_the_topic_is_made() {
    let old = topic("orders", 1, Some(&[]));
    let made = TopicDescription { replication: 2, ..old.clone() };
    for (there, brokers) in [(vec![], 2), (vec![made.clone()], 2), (vec![made.clone()], 3)] {
        let plan = parity_plan(std::slice::from_ref(&old), &there, brokers);
        let fewer = Difference::FewerReplicas { topic: "orders".into(), old: 3, new: 2 };
        assert_eq!(plan.differences, [fewer]);
        assert!(plan.create.iter().all(|topic| topic.replication == 2), "as it would be: {plan:?}");
        let refused: Vec<_> = plan.refusals().map(Difference::waiver).collect();
        assert_eq!(refused, [Some("plan.waive_replicas")]);
    }
    assert_eq!(parity_plan(&[made], &[old], 2).differences, [], "more is no harm");
}

#[test]
fn what_kafka_4_forgot_and_what_cannot_be_told_is_reported() {
    let old = topic("orders", 1, Some(&[("message.format.version", "2.8")]));
    for new in [vec![], vec![topic("orders", 1, Some(&[]))]] {
        let plan = parity_plan(std::slice::from_ref(&old), &new, BROKERS);
        assert_eq!(
            words(&plan),
            ["topic orders: message.format.version=`2.8` on the old cluster; Kafka 4 does not know it"]
        );
        assert_eq!(plan.refusals().count(), 0);
    }
    let plan = parity_plan(&[old], &[topic("orders", 1, None)], BROKERS);
    assert_eq!(plan.differences, [Difference::ConfigsUnknown { topic: "orders".into() }]);
}

#[test]
fn only_an_unknown_config_is_left_out() {
    let mut wanted =
        like(&topic("orders", 1, Some(&[("retention.ms", "-7"), ("message.format.version", "2.8")])));
    wanted.configs.insert("message.format".into(), "x".into());
    let refused = |reason: &str| ProviderError::new(ErrorKind::Refused, "create topic orders", reason);
    let unknown = refused("broker error: InvalidConfig - Unknown topic config name: message.format.version");
    assert_eq!(unknown_config(&unknown, &wanted).unwrap().0, "message.format.version");
    let invalid = refused("Invalid value -7 for configuration retention.ms: Value must be at least -1");
    assert_eq!(unknown_config(&invalid, &wanted), None);
    let elsewhere = ProviderError { kind: ErrorKind::Unreachable, ..unknown };
    assert_eq!(unknown_config(&elsewhere, &wanted), None);
}
