//! Logs, fences, groups, transactions.

use futures_util::StreamExt as _;
use kutover_core::drain::{GroupProgress, Tail};
use kutover_core::error::ErrorKind;
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{
    ClusterAdmin as _, ClusterProvisioner as _, GroupListing, LagBatch, LagQuery, LagSource as _,
};
use kutover_core::words::{Colour, GroupId, Offset};
use kutover_memory::*;

use crate::{Scene, pass, payloads, place, record};

async fn progress(cluster: &MemoryCluster, group: &GroupId) -> Result<GroupProgress, String> {
    let groups = [(group.clone(), ["t".into()].into())].into();
    let query = LagQuery { groups, partitions: vec![], read_tails: true, ..LagQuery::default() };
    let batches: Vec<_> = cluster.lag(query).collect().await;
    let found = batches.into_iter().find_map(|batch| match batch.unwrap() {
        LagBatch::Group(_, mut answers) => Some(answers.remove(0).1),
        LagBatch::Logs(_) => None,
    });
    found.unwrap()
}

/// L12, L17: for a while one leader refuses and another takes, and a proof says so.
#[tokio::test(start_paused = true)]
async fn a_fence_spreads_broker_by_broker() {
    let scene = Scene::new().await;
    *scene.script.fences_ms.lock() = vec![0, 300, 900];
    let topics = ["t".into()];
    scene.blue.raise_fence(&topics).await.unwrap();
    let refusing = || (0..3).filter(|p| scene.blue.produce(&place(*p), record("x")).is_err()).count();
    assert_eq!(refusing(), 1);
    assert_eq!(scene.blue.prove_fence(&topics).await.unwrap_err().kind, ErrorKind::Refused);
    pass(300).await;
    assert_eq!(refusing(), 2);
    pass(600).await;
    assert_eq!(refusing(), 3);
    scene.blue.prove_fence(&topics).await.unwrap();
    scene.blue.lift_fence(&topics).await.unwrap();
    assert_eq!(refusing(), 2, "lifting spreads too");
    pass(900).await;
    assert_eq!(refusing(), 0);
    scene.blue.prove_open(&topics).await.unwrap();
}

/// L9: an expired group is not listed and has no commit, as if it had never been there.
#[tokio::test(start_paused = true)]
async fn a_groups_offsets_expire_unless_it_has_members() {
    let scene = Scene::new().await;
    let (idle, live) = (GroupId::new("idle"), GroupId::new("live"));
    scene.blue.produce(&place(0), record("x")).unwrap();
    for group in [&idle, &live] {
        scene.blue.read_all(group);
    }
    scene.blue.set_live(&live, true);
    pass(10_000).await;
    scene.blue.expire_offsets(5000);
    let GroupListing::Listed(groups) = scene.blue.groups().await.unwrap() else { panic!("not listed") };
    assert_eq!(groups.into_keys().collect::<Vec<_>>(), [live]);
    assert_eq!(progress(&scene.blue, &idle).await.unwrap().committed, None);
    scene.blue.set_coordinator(&idle, false);
    assert!(progress(&scene.blue, &idle).await.is_err(), "unknown is never zero");
    scene.blue.set_groups_answer(false);
    assert_eq!(scene.blue.groups().await.unwrap_err().kind, ErrorKind::Unavailable);
}

/// L7, found by the simulator: start offsets that were kept at the last look before the switch, old as they were, expired
/// right after it, and the group began at the end of the new cluster.
#[tokio::test(start_paused = true)]
async fn start_offsets_that_are_set_again_are_young_again() {
    let scene = Scene::new().await;
    let (group, starts) = (GroupId::new("late"), [(place(0), Offset(0))].into());
    scene.blue.set_start_offsets(&group, &starts).await.unwrap();
    pass(10_000).await;
    assert_eq!(scene.blue.set_start_offsets(&group, &starts).await.unwrap(), [place(0)]);
    scene.blue.expire_offsets(5000);
    assert_eq!(scene.blue.committed(&group, &place(0)), Some(Offset(0)));
    pass(10_000).await;
    let elsewhere = [(place(0), Offset(7))].into();
    assert_eq!(scene.blue.set_start_offsets(&group, &elsewhere).await.unwrap(), [place(0)]);
    scene.blue.expire_offsets(5000);
    assert_eq!(scene.blue.committed(&group, &place(0)), None, "a commit of the group's own is left alone");
}

/// Only what took effect is counted: a broker that is late, a leak that let something through, a death that nobody asked for.
#[tokio::test(start_paused = true)]
async fn a_fence_and_a_removal_as_usual_count_as_no_faults() {
    let scene = Scene::new().await;
    *scene.script.fences_ms.lock() = vec![5, 5, 5];
    scene.blue.leak(place(1));
    scene.blue.produce(&place(1), record("x")).unwrap();
    scene.blue.raise_fence(&["t".into()]).await.unwrap();
    assert_eq!((scene.fired("fence-spreads"), scene.fired("fence-leaks")), (0, 0));
    pass(5).await;
    scene.blue.produce(&place(1), record("y")).unwrap();
    assert_eq!(scene.fired("fence-leaks"), 1);
    *scene.script.fences_ms.lock() = vec![5, 1000, 5];
    scene.blue.lift_fence(&["t".into()]).await.unwrap();
    assert_eq!(scene.fired("fence-spreads"), 1);
    let provisioner = &scene.world.provisioner;
    let there = provisioner.describe(Colour::Blue).await.unwrap().unwrap();
    let mark = RemovalMark { incarnation: there.id, cluster_id: scene.blue.cluster_id() };
    provisioner.destroy(&mark).await.unwrap();
    assert_eq!(scene.fired("cluster-dies"), 0);
}

/// As KRaft has it, where fences and elections stand in one log.
#[tokio::test(start_paused = true)]
async fn a_broker_that_is_elected_knows_of_the_fence() {
    let scene = Scene::new().await;
    *scene.script.fences_ms.lock() = vec![900, 900, 900];
    scene.blue.raise_fence(&["t".into()]).await.unwrap();
    scene.blue.produce(&place(0), record("before")).unwrap();
    scene.blue.move_leader(&place(0), 1);
    pass(1).await;
    assert_eq!(scene.blue.produce(&place(0), record("x")).unwrap_err().0, 29);
}

/// L10: markers and aborted records take offsets that nobody commits; an open transaction may yet become data.
#[tokio::test(start_paused = true)]
async fn transactions_show_in_what_readers_get() {
    let scene = Scene::new().await;
    let group = GroupId::new("billing");
    let reader = scene.blue.reader(&group, Isolation::ReadCommitted);
    scene.blue.produce(&place(0), record("plain")).unwrap();
    let aborted = scene.blue.begin();
    aborted.produce(&place(0), record("aborted")).unwrap();
    let hanging = scene.blue.begin();
    hanging.produce(&place(0), record("open")).unwrap();
    aborted.abort();
    let fetched = reader.fetch(&place(0), Offset(0), 100, 0).await.unwrap();
    assert_eq!((fetched.records.len(), fetched.next), (1, Offset(2)));
    assert_eq!((fetched.last_stable, fetched.high_watermark), (Offset(2), Offset(4)));
    reader.commit(&place(0), fetched.next).await.unwrap();
    assert_eq!(progress(&scene.blue, &group).await.unwrap().tail, Tail::Open, "it may yet be committed");
    scene.blue.abort_transaction(hanging.id());
    assert_eq!(progress(&scene.blue, &group).await.unwrap().tail, Tail::NoData);
    let uncommitted = scene.blue.reader(&group, Isolation::ReadUncommitted);
    let fetched = uncommitted.fetch(&place(0), Offset(0), 100, 0).await.unwrap();
    assert_eq!(fetched.records.len(), 3, "a reader of everything is given what was aborted");
}

/// L17: under a fence by size the coordinator says yes, and the last stable offset stands still for good.
#[tokio::test(start_paused = true)]
async fn a_size_fence_wedges_an_open_transaction() {
    let scene = Scene::new().await;
    scene.blue.configure(|options| options.fence_style = FenceStyle::MessageSize);
    let open = scene.blue.begin();
    open.produce(&place(0), record("x")).unwrap();
    let (id, topics) = (open.id(), ["t".into()]);
    scene.blue.raise_fence(&topics).await.unwrap();
    open.commit();
    scene.blue.lift_fence(&topics).await.unwrap();
    assert_eq!(scene.blue.transaction(id), Some(TransactionState::Wedged { commit: true }));
    let reader = scene.blue.reader(&"billing".into(), Isolation::ReadCommitted);
    assert_eq!(reader.fetch(&place(0), Offset(0), 100, 0).await.unwrap().next, Offset(0));
    scene.blue.restart_coordinator();
    assert_eq!(reader.fetch(&place(0), Offset(0), 100, 0).await.unwrap().next, Offset(2));
    assert_eq!(scene.fired("transaction-wedged"), 1);
}

/// L17: the deny makes a topic without ACLs one with ACLs, and consumers are shut out.
#[tokio::test(start_paused = true)]
async fn a_deny_without_an_allowance_shuts_readers_out() {
    let scene = Scene::new().await;
    scene.blue.configure(|options| options.fence_style = FenceStyle::ReadersShutOut);
    let reader = scene.blue.reader(&"billing".into(), Isolation::ReadUncommitted);
    reader.fetch(&place(0), Offset(0), 1, 0).await.unwrap();
    scene.blue.raise_fence(&["t".into()]).await.unwrap();
    let error = reader.fetch(&place(0), Offset(0), 1, 0).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotAuthorised);
}

/// L11, L12: the truth keeps what retention and re-creation take away.
#[tokio::test(start_paused = true)]
async fn the_truth_outlives_the_log() {
    let scene = Scene::new().await;
    scene.blue.produce(&place(0), record("old")).unwrap();
    pass(10_000).await;
    scene.blue.produce(&place(0), record("new")).unwrap();
    scene.blue.retain_ms(&place(0), 5000);
    assert_eq!(payloads(&scene.blue, 0), ["new"]);
    let reader = scene.blue.reader(&"slow".into(), Isolation::ReadUncommitted);
    let fetched = reader.fetch(&place(0), Offset(0), 1, 0).await.unwrap();
    assert!(fetched.out_of_range && fetched.start == Offset(1));
    let before = scene.blue.topics().await.unwrap()[0].id.clone();
    scene.blue.recreate_topic("t");
    assert_ne!(scene.blue.topics().await.unwrap()[0].id, before);
    assert!(payloads(&scene.blue, 0).is_empty());
    let truth = scene.blue.appends(0);
    assert_eq!(
        truth.iter().map(|append| (append.at_ms, append.offset.0)).collect::<Vec<_>>(),
        [(0, 0), (10_000, 1)]
    );
    assert!(truth.iter().all(|append| Some(&append.topic_id) == before.as_ref()));
}

#[tokio::test(start_paused = true)]
async fn a_reader_waits_for_what_comes() {
    let scene = Scene::new().await;
    let reader = scene.blue.reader(&"billing".into(), Isolation::ReadUncommitted);
    let at = place(0);
    let waiting = reader.fetch(&at, Offset(0), 10, 60_000);
    let writing = async {
        pass(700).await;
        scene.blue.produce(&place(0), record("x")).unwrap();
    };
    let (fetched, ()) = tokio::join!(waiting, writing);
    assert_eq!(fetched.unwrap().records.len(), 1);
    assert_eq!(scene.world.faults.now_ms(), 700);
    assert!(reader.fetch(&place(0), Offset(1), 10, 300).await.unwrap().records.is_empty());
    assert_eq!(scene.world.faults.now_ms(), 1000);
    reader.commit(&place(0), Offset(1)).await.unwrap();
    assert_eq!(reader.committed(&place(0)).await.unwrap(), Some(Offset(1)));
}

/// The true end: what a replica lacks is in the leader's log and in no reader's hands.
#[tokio::test(start_paused = true)]
async fn a_held_watermark_differs_from_the_leaders_end() {
    let scene = Scene::new().await;
    scene.blue.produce(&place(0), record("x")).unwrap();
    scene.blue.hold_watermark(&place(0));
    scene.blue.produce(&place(0), record("y")).unwrap();
    let end = scene.blue.ends(&["t".into()]).await.unwrap().remove(0);
    assert_eq!((end.high_watermark, end.leader_end), (Offset(1), Some(Offset(2))));
    scene.blue.release_watermark(&place(0));
    assert_eq!(scene.blue.ends(&["t".into()]).await.unwrap()[0].high_watermark, Offset(2));
}
