//! Groups of kinds that only a newer cluster has.

use std::time::Duration;

use krafka::consumer::{AutoOffsetReset, GroupProtocol};
use kutover_tests_kafka::clients::{make_topics, write};
use kutover_tests_kafka::world::{TwoClusters, client};

use super::{all, named, plan, refusals};

/// From 4.3.1 the other way: groups of kinds that only a newer cluster has, and a super user.
pub(super) async fn kinds_of_groups(world: &TwoClusters) {
    let kafka = client(&world.green).await;
    make_topics(&kafka, &[("events", 1, &[])]).await;
    write(&kafka, "events", 1, 3).await;
    let modern = kafka.consumer("modern").group_protocol(GroupProtocol::Consumer);
    let modern = modern.auto_offset_reset(AutoOffsetReset::Earliest).build().await.expect("a consumer");
    modern.subscribe(["events"]).await.expect("subscribed");
    let shares = kafka.share_consumer("sharing").build().await.expect("a share consumer");
    shares.subscribe(["events"]).await.expect("subscribed");
    let joined = async {
        let mut read = 0;
        while read < 3 {
            read += modern.poll(Duration::from_millis(200)).await.expect("polled").len();
            let _shared = shares.poll(Duration::from_millis(200)).await.expect("polled");
        }
        modern.commit().await.expect("committed");
    };
    tokio::time::timeout(Duration::from_secs(60), joined).await.expect("they join in time");
    let alone = async |plan_of: &str, expected| {
        let (plan, status) = plan(&world.configuration(&format!("active = \"green\"\n{plan_of}"))).await;
        assert_eq!((refusals(&plan), status), (named(&[expected]), Some(3)), "{plan}");
        plan
    };
    let waived = "waive_history = \"*\"\n";
    let plan = alone(&format!("{waived}waive_super_users = \"*\""), ("share-group", "sharing")).await;
    alone(&format!("{waived}waive_groups = [\"sharing\"]"), ("super-user", "super.users")).await;
    let of = |name: &str| {
        let mut all = plan["groups"].as_array().expect("groups").iter();
        all.find(|group| group["group"] == name).unwrap_or_else(|| panic!("{name} is not in {plan}"))
    };
    assert_eq!(
        (of("modern")["protocol"].as_str(), of("modern")["lag"].as_u64()),
        (Some("consumer"), Some(0))
    );
    let sharing = of("sharing");
    assert_eq!(sharing["protocol"], "share");
    for number in ["lag", "lost", "read", "drain_ms"] {
        assert!(sharing[number].is_null(), "it was not observed, and has no {number}: {sharing}");
    }
    all::leaving_green(world, &kafka).await;
    modern.close().await.expect("closed");
    shares.close().await.expect("closed");
}
