//! Each kind of refusal, as many at once as a world can have: those of one plan that exclude none of the others, then the
//! rest.

use std::collections::BTreeSet;

use krafka::Kafka;
use krafka::admin::{AclBinding, AclPermissionType, AclResourceType};
use kutover_core::words::Colour;
use kutover_tests_kafka::clients::{add_rule, commit, remove_rules};
use kutover_tests_kafka::world::{TwoClusters, client};
use serde_json::Value;

use super::{REFUSED, hang, named, plan, refusals};

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// What a plan to leave 3.9.2 is refused over at once.
const LEAVING_BLUE: [&str; 17] = [
    "access",
    "connect",
    "hanging-transaction",
    "history",
    "nothing-moves",
    "parity",
    "retention",
    "same-cluster",
    "schemas",
    "scram-user",
    "streams",
    "super-user",
    "transactions",
    "unknown-group",
    "unreachable-broker",
    "unread-topic",
    "wrong-cluster",
];

/// And what excludes one of these: 3.9.2 has no share groups; where groups are not listed nobody knows which topics are not
/// read; and a fence by size, which transactions pass, does not look at who is a super user.
const LEAVING_GREEN: [&str; 3] = ["fence", "share-group", "unknown-groups"];

fn codes(plan: &Value) -> BTreeSet<&str> {
    let all = plan["refusals"].as_array().expect("refusals");
    all.iter().filter_map(|refusal| refusal["code"].as_str()).collect()
}

/// Workers that are not there.
fn no_workers() -> String {
    let table =
        |(colour, port)| format!("[clusters.{colour}.connect]\nurl = \"http://127.0.0.1:{port}\"\n\n");
    [(Colour::Blue, 1), (Colour::Green, 2)].map(table).concat()
}

/// The plan to leave green, while it has a share group.
pub(super) async fn leaving_green(world: &TwoClusters, kafka: &Kafka) {
    let pays = kafka.producer().metrics_push(false).build_transactional("pay").await.expect("a producer");
    pays.close().await.expect("closed");
    commit(kafka, "hidden", "events", 1, 0).await;
    let rule = AclBinding {
        resource_type: AclResourceType::Group,
        ..AclBinding::allow_read_topic("hidden", "User:alice")
    };
    add_rule(kafka, rule).await;
    let tables = format!("{}[clusters.green]\nfence = {{ kind = \"size\" }}\n\n", no_workers());
    let (plan, status) = plan(&world.configuration_with(&tables, "active = \"green\"")).await;
    let found = codes(&plan);
    assert!(LEAVING_GREEN.iter().all(|code| found.contains(code)) && status == Some(3), "{plan}");
    remove_rules(kafka, "hidden").await;
}

/// The plan to leave blue, which is spoilt already: whatever else there can be comes to it.
pub(super) async fn leaving_blue(world: &TwoClusters, kafka: &Kafka) {
    hang(kafka, &world.blue.bootstrap[0], true, ("pay", 1)).await;
    commit(kafka, "ahead", "orders", 1, 1_000_000).await;
    let rule = AclBinding {
        // Of a group: a topic of which an ACL speaks would have to be told to kutover too.
        resource_type: AclResourceType::Group,
        permission_type: AclPermissionType::Deny,
        ..AclBinding::allow_read_topic("private", "User:mallory")
    };
    add_rule(&client(&world.green).await, rule).await;
    // Both lead their clients to one broker, and nobody is there.
    let to_nowhere = |colour| {
        let cluster = if colour == Colour::Blue { &world.blue } else { &world.green };
        let advertised = format!("CLIENTS://{NOWHERE},INTERNAL://{}", cluster.controller_bootstrap[0]);
        ("advertised.listeners", advertised)
    };
    let of_blue = [to_nowhere(Colour::Blue), ("super.users", "User:batch".to_owned())];
    let of_green = [to_nowhere(Colour::Green)];
    tokio::join!(world.restart(Colour::Blue, &of_blue), world.restart(Colour::Green, &of_green));

    let path = world.configuration_with(&no_workers(), "raise_retention = [\"missing\"]");
    Colour::BOTH.into_iter().for_each(|colour| world.by_two_ways(&path, colour));
    let text = std::fs::read_to_string(&path).expect("read");
    // Where `up` was run before, for another deployment.
    let text = text.replace("orders.journal", "up.journal").replace("\"orders\"", "\"others\"");
    std::fs::write(&path, text).expect("written");
    let (plan, status) = plan(&path).await;
    assert_eq!((codes(&plan), status), (LEAVING_BLUE.into(), Some(3)), "{plan}");
    let found = refusals(&plan);
    let listed: Vec<_> = REFUSED.into_iter().filter(|(_, subject)| *subject != "transactions").collect();
    assert!(found.is_superset(&named(&listed)), "{plan}");
    let more = [
        ("access", "green"),
        ("connect", "workers of blue"),
        ("connect", "workers of green"),
        ("nothing-moves", "plan"),
        ("super-user", "super.users"),
        ("unknown-group", "ahead"),
        ("unreachable-broker", NOWHERE),
        ("wrong-cluster", "kafka.orders.test"),
    ];
    assert!(found.is_superset(&named(&more)), "{plan}");
}
