//! L16 on real Apache Kafka.

use kutover_clash::{BLUE, GREEN, World, reproduce};
use kutover_lab::Tools;

/// Both stock clients lose acknowledged records on a cluster that gives out the ids that they bring along, and none on
/// one whose ids are separated. The first half is the control of the second.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_records_are_lost_without_separation_and_none_with_it() {
    let tools = Tools::from_env();
    for version in [BLUE, GREEN] {
        if let Err(missing) = tools.ready(version).await {
            return kutover_testkit::skip(
                "acknowledged_records_are_lost_without_separation_and_none_with_it",
                &missing.to_string(),
            );
        }
    }
    let _turn = tools.machine_turn().await.expect("the machine's turn");
    let world = World::start(tools).await.expect("two clusters");
    let halves = reproduce(&world, |_| {}).await.expect("both halves for both clients");
    assert_eq!(halves.len(), 4);
    for half in &halves {
        assert!(half.shows(), "{half}");
        if half.separated {
            assert!(half.id_of_q > half.id_of_p, "{half}");
        } else {
            assert_eq!(half.lost, ["P3", "P4"], "those that green takes for Q's: {half}");
        }
    }
}
