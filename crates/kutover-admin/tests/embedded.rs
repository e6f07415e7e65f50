//! krafka's admin client on the embedded cluster: what it can tell, and what it says where the cluster cannot.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control, FakeBroker};
use kutover_admin::{AdminConfig, FenceWith, KafkaAdmin, ProbeAnswer};
use kutover_core::drain::{self, Observation, Required, Tail};
use kutover_core::error::{ErrorKind, ProviderResult, Retry};
use kutover_core::ports::{Access, ClusterAdmin, FenceKind, FenceSwitch, GroupListing, NewTopic};
use kutover_core::words::{Offset, TopicName, TopicPartition};
use kutover_lab::embedded::{EmbeddedCluster, EmbeddedOptions, Fault, Harm, Who};
use kutover_testkit::conformance;
use support::*;

/// An embedded cluster with its fence, and the admin client on it.
async fn world(brokers: usize) -> (Arc<EmbeddedCluster>, KafkaAdmin) {
    let options = EmbeddedOptions { brokers, ..EmbeddedOptions::default() };
    let cluster = EmbeddedCluster::start(options).await.expect("it starts");
    let fence: Arc<dyn FenceSwitch> = Arc::new(cluster.fence());
    let config = AdminConfig { fence: FenceWith::Switch(fence), ..config(&cluster.bootstrap_servers()) };
    let admin = KafkaAdmin::connect(config).await.expect("it answers");
    (cluster, admin)
}

#[tokio::test]
async fn keeps_the_ports_contracts() {
    let (cluster, admin) = world(3).await;
    conformance::admin::a_cluster_knows_itself(&admin).await;
    conformance::admin::ends_of_a_missing_topic_are_an_error(&admin, &"missing".into()).await;
    let billing = "billing".into();
    conformance::admin::start_offsets_leave_commits_alone(&admin, &admin, &billing, &"starts".into()).await;
    let proof = conformance::admin::a_fence_is_proven_while_it_stands(&admin, &"fenced".into()).await;
    assert_eq!(proof.kind, FenceKind::Hook);
    conformance::admin::the_fence_is_no_access(&admin, &"access".into()).await;
    conformance::admin::what_is_granted_stays(&admin).await;
    let topic = make_topic(&admin, "orders", 2).await;
    let places = [TopicPartition::new(topic.clone(), 0), TopicPartition::new(topic.clone(), 1)];
    conformance::lag::everything_is_answered_once(&admin, &query("billing", &places, true)).await;
    conformance::lag::what_does_not_answer_is_an_error(&admin, &TopicPartition::new("missing", 0)).await;
    conformance::lag::no_commit_is_not_zero(&admin, &"nobody".into(), &places[0]).await;
    let producer = producer(&ordinary(&cluster.bootstrap_servers()).await).await;
    let append = async || write(&producer, &places[0], 1).await.expect("written");
    conformance::lag::ranges_are_read_after_the_call(&admin, &places[0], append).await;
    let (kafka, to) = (ordinary(&cluster.bootstrap_servers()).await, &places[0]);
    let commit = async |offset: Offset| commit(&kafka, "beyond", to, offset.0).await;
    conformance::lag::a_commit_beyond_the_end_is_told(&admin, &"beyond".into(), to, commit).await;
    let change = async || cluster.set_cluster_id(&"another".into());
    conformance::admin::a_changed_cluster_is_noticed(&admin, change).await;
}

#[tokio::test]
async fn says_what_the_cluster_cannot_tell() {
    let (cluster, admin) = world(2).await;
    let identity = admin.identity().await.expect("identity");
    assert_eq!(identity.cluster_id, cluster.cluster_id());
    assert_eq!(identity.brokers, cluster.brokers().iter().map(ToString::to_string).collect());
    assert_eq!(identity.version, None);
    cluster.set_cluster_id(&"another".into());
    assert_eq!(admin.identity().await.expect("asked anew").cluster_id.as_str(), "another");

    let topic = make_topic(&admin, "orders", 2).await;
    let found = admin.topics().await.expect("topics");
    let [described] = found.as_slice() else { panic!("one topic: {found:?}") };
    assert_eq!((&described.name, described.partitions, &described.configs), (&topic, 2, &None));
    assert!(described.id.is_some());
    let more = NewTopic { name: topic.clone(), partitions: 3, replication: 1, configs: BTreeMap::new() };
    let error = admin.create_topic(&more).await.expect_err("no CreatePartitions there");
    assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
    assert_eq!(admin.groups().await.expect("groups"), GroupListing::Unsupported);
    assert_eq!(admin.access().await.expect("access"), Access::default());
    let ends = admin.ends(&[topic]).await.expect("ends");
    assert!(ends.iter().all(|end| end.leader_end.is_none() && end.epoch.is_some()), "{ends:?}");

    let acl = KafkaAdmin::connect(config(&cluster.bootstrap_servers())).await.expect("connect");
    let error = acl.raise_fence(&["orders".into()]).await.expect_err("no ACLs there");
    assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
}

/// L9: what does not answer is never zero. The control is the same question without the fault.
#[tokio::test]
async fn an_unanswered_partition_or_group_is_an_error() {
    let (cluster, admin) = world(2).await;
    let topic = make_topic(&admin, "orders", 2).await;
    let places = [TopicPartition::new(topic.clone(), 0), TopicPartition::new(topic.clone(), 1)];
    admin.set_start_offsets(&"billing".into(), &at(&places, 0)).await.expect("set");
    let required = Required {
        groups: [("billing".into(), [topic].into())].into(),
        partitions: places.iter().map(|place| (place.clone(), None)).collect(),
        ..Required::default()
    };
    let observe = async || {
        let seen = lag(&admin, query("billing", &places, false)).await;
        let observed =
            Observation { logs: seen.logs.clone(), progress: seen.groups.clone(), ..Observation::default() };
        (drain::prove(&required, &observed).is_drained(), seen)
    };
    let (drained, seen) = observe().await;
    assert!(drained, "the control: nothing written, nothing unread: {seen:?}");

    let struck = |api, harm| Fault::new(api, harm).against(Who::Everyone);
    let refused = Harm::Error(ErrorCode::UnknownServerError);
    cluster.inject(struck(ApiKey::ListOffsets, refused.clone()).on_broker(0));
    let (drained, seen) = observe().await;
    assert!(!drained && seen.logs.len() == 2 && seen.logs.values().any(Result::is_err), "{seen:?}");
    assert!(
        seen.logs.values().any(Result::is_ok),
        "the other broker's partition is not dragged along: {seen:?}"
    );
    assert!(admin.ends(&["orders".into()]).await.is_err());
    cluster.clear_faults();

    for harm in [refused, Harm::Silence] {
        cluster.inject(struck(ApiKey::OffsetFetch, harm));
        let (drained, seen) = observe().await;
        assert!(!drained && seen.groups.len() == 2 && seen.groups.values().all(Result::is_err), "{seen:?}");
        let starts = admin.set_start_offsets(&"billing".into(), &at(&places, 0)).await;
        assert!(starts.is_err(), "a commit that may be there is not overwritten");
        cluster.clear_faults();
        cluster.cut_connections();
    }
    assert!(observe().await.0);
}

/// L10: offsets that nobody ever commits.
#[tokio::test]
async fn a_tail_of_markers_holds_no_data() {
    let (cluster, admin) = world(1).await;
    let kafka = ordinary(&cluster.bootstrap_servers()).await;
    let topic = make_topic(&admin, "ledger", 1).await;
    let place = TopicPartition::new(topic.clone(), 0);
    let transactional = kafka.producer().build_transactional("ledger-writer").await.expect("a producer");
    transactional.begin().expect("begin");
    for n in 0..10 {
        write_open(&transactional, &topic, &format!("{n}")).await;
    }
    transactional.commit().await.expect("commit");
    for (committed, tail) in [(9, Tail::Data), (10, Tail::NoData), (11, Tail::NotRead)] {
        commit(&kafka, "billing", &place, committed).await;
        let seen = lag(&admin, query("billing", std::slice::from_ref(&place), true)).await;
        assert_eq!(seen.logs[&place].as_ref().expect("range").end, Offset(11));
        let answer = progress(&seen, "billing", &place).expect("answered");
        assert_eq!((answer.committed, answer.tail), (Some(Offset(committed)), tail));
    }
    // Open: the end cannot be reached, so nothing is said of the tail.
    commit(&kafka, "billing", &place, 10).await;
    transactional.begin().expect("begin");
    write_open(&transactional, &topic, "open").await;
    let seen = lag(&admin, query("billing", std::slice::from_ref(&place), true)).await;
    assert_eq!(progress(&seen, "billing", &place).expect("answered").tail, Tail::Open);
    // Before it stands a record that the group could have read.
    commit(&kafka, "billing", &place, 9).await;
    let seen = lag(&admin, query("billing", std::slice::from_ref(&place), true)).await;
    assert_eq!(progress(&seen, "billing", &place).expect("answered").tail, Tail::Data);
}

/// L10: a marker passes the fence, and the proof waits for it.
#[tokio::test]
async fn a_fence_is_not_proven_over_an_open_transaction() {
    let (cluster, admin) = world(1).await;
    let kafka = ordinary(&cluster.bootstrap_servers()).await;
    let place = TopicPartition::new("ledger", 0);
    let transactional = kafka.producer().build_transactional("ledger-writer").await.expect("a producer");
    for commit in [true, false] {
        let begin = async || ((), begin_in(&transactional, &place).await);
        let end = async |()| {
            let ended = if commit { transactional.commit().await } else { transactional.abort().await };
            ended.expect("it ends");
        };
        conformance::admin::a_fence_is_not_proven_over_an_open_transaction(&admin, &place, begin, end).await;
    }
}

#[tokio::test]
async fn a_topic_that_the_query_names_no_partition_of_is_looked_up() {
    let (_cluster, admin) = world(1).await;
    let topic = make_topic(&admin, "orders", 3).await;
    let mut unnamed = query("billing", &[TopicPartition::new(topic, 0)], false);
    unnamed.partitions.clear();
    let seen = lag(&admin, unnamed).await;
    assert_eq!((seen.logs.len(), seen.groups.len()), (0, 3), "{seen:?}");
}

/// A fence that does nothing: what stands at the leaders is the test's to say.
struct NoFence;

#[async_trait]
impl FenceSwitch for NoFence {
    fn kind(&self) -> FenceKind {
        FenceKind::Hook
    }

    async fn raise(&self, _topics: &[TopicName]) -> ProviderResult<()> {
        Ok(())
    }

    async fn lift(&self, _topics: &[TopicName]) -> ProviderResult<()> {
        Ok(())
    }
}

/// A fence of an embedded cluster that shuts readers out as well, once it takes hold.
struct ShutsOut {
    cluster: Arc<EmbeddedCluster>,
    takes_hold: AtomicBool,
}

impl ShutsOut {
    async fn admin(takes_hold: bool) -> (Arc<EmbeddedCluster>, Arc<Self>, KafkaAdmin) {
        let cluster = EmbeddedCluster::start(EmbeddedOptions::default()).await.expect("it starts");
        let takes_hold = AtomicBool::new(takes_hold);
        let fence = Arc::new(Self { cluster: Arc::clone(&cluster), takes_hold });
        let switch: Arc<dyn FenceSwitch> = fence.clone();
        let config = AdminConfig { fence: FenceWith::Switch(switch), ..config(&cluster.bootstrap_servers()) };
        (cluster, fence, KafkaAdmin::connect(config).await.expect("it answers"))
    }
}

/// Nobody may read.
fn no_reading() -> Fault {
    Fault::new(ApiKey::Fetch, Harm::Error(ErrorCode::TopicAuthorizationFailed)).against(Who::Everyone)
}

#[async_trait]
impl FenceSwitch for ShutsOut {
    fn kind(&self) -> FenceKind {
        FenceKind::Hook
    }

    async fn raise(&self, topics: &[TopicName]) -> ProviderResult<()> {
        if self.takes_hold.load(Ordering::SeqCst) {
            self.cluster.inject(no_reading());
            self.cluster.fence().raise(topics).await?;
        }
        Ok(())
    }

    async fn lift(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.cluster.clear_faults();
        self.cluster.fence().lift(topics).await
    }
}

/// L17: whom it shuts out is named, and the cluster is as it was.
#[tokio::test]
async fn a_fence_that_shuts_readers_out_is_taken_away() {
    let (cluster, _fence, admin) = ShutsOut::admin(true).await;
    conformance::admin::a_fence_that_shuts_readers_out_is_taken_away(&admin, &"orders".into()).await;
    let error = admin.raise_fence(&["orders".into()]).await.expect_err("it does harm");
    assert!(error.reason.starts_with("User:ANONYMOUS could read topic orders before"), "{error}");
    assert!(error.reason.contains("lifted again") && error.retry == Retry::Later, "{error}");
    assert!(cluster.fenced_topics().is_empty());
    let kafka = ordinary(&cluster.bootstrap_servers()).await;
    write(&producer(&kafka).await, &TopicPartition::new("orders", 0), 1).await.expect("it takes records");
    assert_eq!(read(&reader(&kafka, &"orders".into()).await, 1).await, 1);
}

/// L17: a fence that takes hold behind its command is no fence yet, and what could be read before it is not forgotten.
#[tokio::test]
async fn a_fence_that_takes_hold_late_is_looked_at_then() {
    let (cluster, fence, admin) = ShutsOut::admin(false).await;
    let topics = [make_topic(&admin, "orders", 2).await];
    let error = admin.raise_fence(&topics).await.expect_err("nothing is refused yet");
    assert!(error.reason.contains("takes records") && error.retry == Retry::Later, "{error}");
    fence.takes_hold.store(true, Ordering::SeqCst);
    fence.raise(&topics).await.expect("it takes hold");
    let error = admin.raise_fence(&topics).await.expect_err("it does harm");
    assert!(error.reason.contains("lifted again"), "{error}");
    assert!(cluster.fenced_topics().is_empty());
}

/// Of a topic that the probe may not read, its refusals say nothing.
#[tokio::test]
async fn where_the_probe_may_not_read_no_reader_is_proven() {
    let (cluster, admin) = world(2).await;
    let topics = [make_topic(&admin, "orders", 2).await];
    cluster.inject(no_reading());
    admin.raise_fence(&topics).await.expect("raised");
    admin.prove_fence(&topics).await.expect("proven");
}

/// One of two leaders is fenced, the other does something else: the other one's partition is named.
#[tokio::test]
async fn a_leader_that_does_not_refuse_is_named() {
    let fake = FakeBroker::start_cluster(2).await.expect("it starts");
    fake.create_topic("orders", 2);
    fake.set_leader("orders", 0, 0);
    fake.set_leader("orders", 1, 1);
    let config =
        AdminConfig { fence: FenceWith::Switch(Arc::new(NoFence)), ..config(&fake.bootstrap_servers()) };
    let admin = KafkaAdmin::connect(config).await.expect("it answers");
    let topics = ["orders".into()];
    let fenced = Control::Error(ErrorCode::TopicAuthorizationFailed);
    let others = [
        (Control::Error(ErrorCode::CorruptMessage), true),
        (Control::Error(ErrorCode::NotEnoughReplicas), false),
        (Control::Silence, false),
        // The fake checks no checksum, so this one is stored: the worst case is no proof either.
        (Control::Pass, false),
    ];
    for (other, is_open) in others {
        fake.clear_hooks();
        let (fenced, answer) = (fenced.clone(), other.clone());
        fake.on(
            ApiKey::Produce,
            move |request| if request.node_id == 0 { fenced.clone() } else { answer.clone() },
        );
        let answers = admin.probe(&topics).await.expect("probed");
        assert_eq!(answers[&TopicPartition::new("orders", 0)], ProbeAnswer::Fenced, "{other:?}");
        let at_other = &answers[&TopicPartition::new("orders", 1)];
        assert_eq!(*at_other == ProbeAnswer::Open, is_open, "{other:?}: {at_other:?}");
        assert_ne!(*at_other, ProbeAnswer::Fenced, "{other:?}");
        let error = admin.prove_fence(&topics).await.expect_err("one leader of two is no fence");
        assert!(error.to_string().contains("topic orders, partition 1"), "{error}");
    }
    fake.clear_hooks();
    fake.on(ApiKey::Produce, move |_| fenced.clone());
    let proof = admin.prove_fence(&topics).await.expect("the control: every leader refuses");
    assert_eq!(proof.ends.len(), 2);
    let probes = fake.requests().into_iter().filter(|request| request.api_key == ApiKey::Produce);
    assert!(probes.map(|request| request.client_id).all(|id| id.as_deref() == Some("kutover-probe")));
}
