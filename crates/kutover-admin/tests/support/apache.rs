//! What must hold on a real Kafka cluster with an authorizer and `allow.everyone.if.no.acl.found=true`.

#![allow(unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};

use krafka::Kafka;
use krafka::admin::{
    AclBinding, AclFilter, AclOperation, AclPatternType, AclPermissionType, AclResourceType,
    CreateAclsOptions, DeleteAclsOptions,
};
use krafka::consumer::{AutoOffsetReset, IsolationLevel};
use krafka::error::{ErrorCode, KrafkaError};
use krafka::producer::TransactionalProducer;
use kutover_admin::{AdminConfig, FenceWith, KafkaAdmin, ProbeAnswer, Timeouts};
use kutover_core::decisions::separation::BLOCK;
use kutover_core::drain::Tail;
use kutover_core::error::ErrorKind;
use kutover_core::parity::{create_with_known_configs, parity_plan};
use kutover_core::ports::{ClusterAdmin, FenceKind, GroupListing, Incarnation, NewTopic, ProducerIds as _};
use kutover_core::words::{Offset, TopicName, TopicPartition};

use kutover_core::ports::ClusterProvisioner as _;
use kutover_lab::LabProvisioner;
use kutover_testkit::{conformance, until};

use super::held::HeldPath;
use super::support::*;

/// Kafka's keys of the APIs by which topics' configs are changed (KIP-339) and told.
const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
const DESCRIBE_CONFIGS: i16 = 32;

/// The controller comes by its own path, the probe by the ordinary clients'.
fn config_of(cluster: &Incarnation) -> AdminConfig {
    AdminConfig {
        client_bootstrap: cluster.bootstrap.clone(),
        ..config(&cluster.controller_bootstrap.join(","))
    }
}

/// The ports' contracts, clause by clause.
pub async fn contracts(cluster: &Incarnation) {
    let admin = KafkaAdmin::connect(config_of(cluster)).await.expect("connect");
    conformance::admin::a_cluster_knows_itself(&admin).await;
    conformance::admin::topics_are_made_once_and_grow(&admin, &"made".into()).await;
    conformance::admin::an_unknown_config_is_named(&admin, &"odd".into(), "no.such.config").await;
    conformance::admin::ends_of_a_missing_topic_are_an_error(&admin, &"missing".into()).await;
    let starter = "starter".into();
    conformance::admin::start_offsets_leave_commits_alone(&admin, &admin, &starter, &"starts".into()).await;
    let proof = conformance::admin::a_fence_is_proven_while_it_stands(&admin, &"fenced".into()).await;
    assert!(proof.ends.iter().all(|end| end.leader_end.is_some()), "{proof:?}");
    conformance::admin::the_fence_is_no_access(&admin, &"access".into()).await;
    conformance::admin::a_lift_takes_nothing_else(&admin, &"lifted".into(), &"beside".into()).await;
    conformance::admin::what_is_granted_stays(&admin).await;
    conformance::admin::configs_are_set_and_taken_away(&admin, &"configured".into()).await;
    conformance::admin::what_is_left_of_a_fence_is_named(&admin, &"traced".into()).await;
    let access = admin.access().await.expect("access");
    assert_eq!(access.auto_creates_topics, Some(false), "{access:?}");
    let places = [TopicPartition::new("starts", 0), TopicPartition::new("starts", 1)];
    conformance::lag::everything_is_answered_once(&admin, &query("starter", &places, true)).await;
    conformance::lag::what_does_not_answer_is_an_error(&admin, &TopicPartition::new("missing", 0)).await;
    conformance::lag::no_commit_is_not_zero(&admin, &"nobody".into(), &places[0]).await;
    let kafka = ordinary(&cluster.bootstrap.join(",")).await;
    let producer = producer(&kafka).await;
    let append = async || write(&producer, &places[0], 1).await.expect("written");
    conformance::lag::ranges_are_read_after_the_call(&admin, &places[0], append).await;
    let to = async |offset: Offset| commit(&kafka, "beyond", &places[0], offset.0).await;
    conformance::lag::a_commit_beyond_the_end_is_told(&admin, &"beyond".into(), &places[0], to).await;
    admin.delete_topics(&["starts".into(), "fenced".into()]).await.expect("deleted");
}

/// L16: where ids stand, and who wrote under which.
pub async fn producer_ids(cluster: &Incarnation) {
    let admin = KafkaAdmin::connect(config_of(cluster)).await.expect("connect");
    conformance::producer_ids::check_all(&admin, 1).await;
    let place = TopicPartition::new(make_topic(&admin, "written", 2).await, 1);
    let write = async || {
        // On one broker, a producer gets the next id.
        let before = admin.newest().await.expect("ids");
        let producer = producer(&ordinary(&cluster.bootstrap.join(",")).await).await;
        write(&producer, &place, 1).await.expect("written");
        before.values().next().cloned().expect("one broker").expect("an id") + 1
    };
    conformance::producer_ids::who_wrote_is_live(&admin, &place.topic, write, &"missing".into()).await;
    admin.delete_topics(std::slice::from_ref(&place.topic)).await.expect("deleted");
}

/// L16: three brokers stand at different places, and all pass a mark.
pub async fn every_broker_passes_a_mark(cluster: &Incarnation) {
    let admin = KafkaAdmin::connect(config_of(cluster)).await.expect("connect");
    let newest = admin.newest().await.expect("ids");
    let blocks: BTreeSet<u64> = newest.values().map(|id| id.as_ref().expect("an id") / BLOCK).collect();
    assert_eq!(blocks.len(), 3, "each has a block of its own: {newest:?}");
    conformance::producer_ids::check_all(&admin, 3).await;
}

/// Isolated, the controller's path still answers for ends and lag, and the ordinary clients' one answers nobody.
pub async fn isolated(cluster: &Incarnation, lab: &LabProvisioner) {
    let admin = KafkaAdmin::connect(config_of(cluster)).await.expect("connect");
    let topic = make_topic(&admin, "isolated", 1).await;
    let topics = [topic.clone()];
    admin.raise_fence(&topics).await.expect("raised");
    let proof = admin.prove_fence(&topics).await.expect("proven");
    lab.isolate(&cluster.id, &"i1".into()).await.expect("isolated");
    assert_eq!(admin.ends(&topics).await.expect("ends"), proof.ends);
    let seen = lag(&admin, query("billing", &[TopicPartition::new(topic, 0)], true)).await;
    assert!(seen.logs.values().all(Result::is_ok) && seen.groups.values().all(Result::is_ok), "{seen:?}");
    let error = admin.prove_fence(&topics).await.expect_err("nobody can be asked");
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    lab.put_back(&cluster.id, &"i1".into()).await.expect("put back");
    admin.prove_fence(&topics).await.expect("proven again");
    admin.lift_fence(&topics).await.expect("lifted");
}

/// Topics with configs, parity's way of making them, more partitions, deletion.
pub async fn topics(cluster: &Incarnation, gone_config_is_known: bool) {
    let admin = KafkaAdmin::connect(config_of(cluster)).await.expect("connect");
    let identity = admin.identity().await.expect("identity");
    assert!(!identity.cluster_id.as_str().is_empty());
    assert_eq!(
        identity.brokers,
        cluster.controller_bootstrap.iter().cloned().collect(),
        "as its own path sees them"
    );

    let configs = BTreeMap::from([
        ("message.downconversion.enable".to_owned(), "false".to_owned()),
        ("retention.ms".to_owned(), "3600000".to_owned()),
    ]);
    let wanted = NewTopic { name: "parity".into(), partitions: 2, replication: 3, configs };
    let left_out = create_with_known_configs(&admin, &wanted).await.expect("made without what is not known");
    assert_eq!(left_out.contains_key("message.downconversion.enable"), !gone_config_is_known, "{left_out:?}");

    let mut unknown = wanted.clone();
    unknown.name = "never-made".into();
    unknown.configs.insert("no.such.config".into(), "1".into());
    let error = admin.create_topic(&unknown).await.expect_err("an unknown config is refused");
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    let names =
        |error: &str| error.contains("no.such.config") || error.contains("message.downconversion.enable");
    assert!(names(&error.reason), "it names the config: {error}");

    let bare = make_topic(&admin, "bare", 1).await;
    let found = admin.topics().await.expect("topics");
    admin.delete_topics(&[bare]).await.expect("deleted");
    assert!(found.iter().all(|topic| topic.name != unknown.name), "nothing was made");
    let parity = found.iter().find(|topic| topic.name == wanted.name).expect("it is there");
    assert_eq!((parity.partitions, parity.replication), (2, 1), "replicas are as many as there are brokers");
    assert!(parity.id.is_some());
    let set = parity.configs.as_ref().expect("real Kafka tells configs");
    assert_eq!(set.get("retention.ms").map(String::as_str), Some("3600000"));
    assert_eq!(set.len(), if gone_config_is_known { 2 } else { 1 }, "defaults are not among them: {set:?}");
    let has_default =
        |config: &str, value: &str| parity.defaults.get(config) == Some(&[value.to_owned()].into());
    assert!(has_default("max.message.bytes", "1048588"), "{parity:?}");
    assert!(has_default("retention.ms", "604800000"), "below what is set: {parity:?}");
    assert!(parity_plan(&found, &found, identity.brokers.len()).create.is_empty());

    let more = NewTopic { partitions: 4, ..wanted.clone() };
    admin.create_topic(&more).await.expect("partitions are added");
    admin.create_topic(&wanted).await.expect("a topic with more partitions is no error");
    let ends = admin.ends(std::slice::from_ref(&wanted.name)).await.expect("ends");
    assert_eq!(ends.len(), 4);
    for end in ends {
        assert_eq!((end.start, end.high_watermark, end.leader_end), (Offset(0), Offset(0), Some(Offset(0))));
        assert!(end.epoch.is_some());
    }
    admin.delete_topics(std::slice::from_ref(&wanted.name)).await.expect("deleted");
    admin.delete_topics(&[wanted.name]).await.expect("a topic that is not there is no error");
}

/// L10 and L9: commits, tails, groups.
pub async fn groups(cluster: &Incarnation) {
    let admin = KafkaAdmin::connect(config_of(cluster)).await.expect("connect");
    let kafka = ordinary(&cluster.bootstrap.join(",")).await;
    let topic = make_topic(&admin, "ledger", 2).await;
    let places = [TopicPartition::new(topic.clone(), 0), TopicPartition::new(topic.clone(), 1)];
    let transactional = kafka.producer().build_transactional("ledger-writer").await.expect("a producer");
    transactional.begin().expect("begin");
    for n in 0..10 {
        write_open(&transactional, &topic, &format!("{n}")).await;
    }
    transactional.commit().await.expect("commit");

    // No commit there yet: set. One there: left alone.
    let group = "billing".into();
    assert!(admin.set_start_offsets(&group, &at(&places, 10)).await.expect("set").is_empty());
    let again = admin.set_start_offsets(&group, &at(&places, 0)).await.expect("left alone");
    assert_eq!(again, places);
    let GroupListing::Listed(listed) = admin.groups().await.expect("groups") else {
        panic!("real Kafka lists")
    };
    assert_eq!(listed.get(&group), Some(&[topic.clone()].into()), "{listed:?}");

    // Ten records and a marker: a commit at 10 is all there is to read, one at 9 is not.
    let seen = lag(&admin, query("billing", &places, true)).await;
    assert_eq!(seen.logs[&places[0]].as_ref().expect("range").end, Offset(11));
    let at_ten = progress(&seen, "billing", &places[0]).expect("answered");
    assert_eq!((at_ten.committed, at_ten.tail), (Some(Offset(10)), Tail::NoData));
    commit(&kafka, "billing", &places[0], 9).await;
    let seen = lag(&admin, query("billing", &places, true)).await;
    assert_eq!(progress(&seen, "billing", &places[0]).expect("answered").tail, Tail::Data);
    // A group that nobody knows has no commit, and its tail tells that there is data.
    let seen = lag(&admin, query("nobody", &places, true)).await;
    let nobody = progress(&seen, "nobody", &places[0]).expect("answered");
    assert_eq!((nobody.committed, nobody.tail), (None, Tail::Data));
    let empty = progress(&seen, "nobody", &places[1]).expect("answered");
    assert_eq!((empty.committed, empty.tail), (None, Tail::NotRead));

    // An open transaction: what stands in the tail cannot be told yet.
    transactional.begin().expect("begin");
    write_open(&transactional, &topic, "open").await;
    commit(&kafka, "billing", &places[0], 10).await;
    let seen = lag(&admin, query("billing", &places, true)).await;
    assert_eq!(progress(&seen, "billing", &places[0]).expect("answered").tail, Tail::Open);
    // What stands before it is there to be read.
    commit(&kafka, "billing", &places[0], 9).await;
    let seen = lag(&admin, query("billing", &places, true)).await;
    assert_eq!(progress(&seen, "billing", &places[0]).expect("answered").tail, Tail::Data);
    commit(&kafka, "billing", &places[0], 10).await;
    // Aborted, it is no data. The marker is written a moment after the call.
    transactional.abort().await.expect("abort");
    let settled = async {
        while progress(&lag(&admin, query("billing", &places, true)).await, "billing", &places[0])
            .expect("answered")
            .tail
            != Tail::NoData
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, settled).await.expect("an aborted record is no data");
    admin.delete_topics(&[topic]).await.expect("deleted");
}

/// The fence from end to end: refused, proven, read under, lifted whole.
pub async fn fence(cluster: &Incarnation) {
    let admin = KafkaAdmin::connect(config_of(cluster)).await.expect("connect");
    let kafka = ordinary(&cluster.bootstrap.join(",")).await;
    let topic = make_topic(&admin, "orders", 3).await;
    let topics = [topic.clone(), "kutover.control".into(), "__consumer_offsets".into()];
    let places: Vec<_> = (0..3).map(|partition| TopicPartition::new(topic.clone(), partition)).collect();
    let sender = producer(&kafka).await;
    for place in &places {
        write(&sender, place, 5).await.expect("an open cluster takes records");
    }
    let consumer = reader(&kafka, &topic).await;
    assert_eq!(read(&consumer, 5).await, 5);

    // Open: the probe says so, and nothing is proven.
    let open = admin.probe(&topics).await.expect("probed");
    assert!(open.len() == 3 && open.values().all(|answer| *answer == ProbeAnswer::Open), "{open:?}");
    let error = admin.prove_fence(&topics).await.expect_err("no fence, no proof");
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    write(&sender, &places[0], 1).await.expect("a probe does no harm");

    for _ in 0..2 {
        assert_eq!(admin.raise_fence(&topics).await.expect("raised, again too"), FenceKind::Acl);
    }
    let proof = admin.prove_fence(&topics).await.expect("proven");
    assert_eq!(proof.topics.keys().collect::<Vec<_>>(), [&topic], "reserved topics are never fenced");
    let ends: Vec<i64> = proof.ends.iter().map(|end| end.high_watermark.0).collect();
    assert_eq!(ends, [6, 5, 5], "the probes stored nothing");
    assert!(proof.ends.iter().all(|end| end.leader_end == Some(end.high_watermark)), "{proof:?}");
    for place in &places {
        assert!(is_refused(&write(&producer(&kafka).await, place, 1).await), "{place} is fenced");
        assert!(is_refused(&write(&sender, place, 1).await), "for a producer from before too");
    }
    // L17: readers from before and new ones read on.
    assert_eq!(read(&consumer, 1).await, 1);
    assert_eq!(read(&reader(&ordinary(&cluster.bootstrap.join(",")).await, &topic).await, 6).await, 6);
    assert_eq!(admin.prove_fence(&topics).await.expect("proven again").ends, proof.ends);

    for _ in 0..2 {
        admin.lift_fence(&topics).await.expect("lifted, again too");
    }
    assert!(acls(&kafka, &topic).await.is_empty(), "nothing is left behind");
    let opened = async {
        while admin.probe(&topics).await.expect("probed").values().any(|answer| *answer != ProbeAnswer::Open)
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, opened).await.expect("every leader takes records again");
    write(&producer(&kafka).await, &places[0], 1).await.expect("it takes records again");
    assert_eq!(read(&consumer, 1).await, 1);
    admin.delete_topics(&[topic]).await.expect("deleted");
}

/// L10: a transaction is open when the fence rises, and its marker passes it: nothing is proven before, and all of it is in
/// what is proven after.
pub async fn fence_over_a_transaction(cluster: &Incarnation) {
    let admin = KafkaAdmin::connect(config_of(cluster)).await.expect("connect");
    let kafka = ordinary(&cluster.bootstrap.join(",")).await;
    let place = TopicPartition::new("payments", 1);
    let topics = [place.topic.clone()];
    let transactional = kafka.producer().build_transactional("payments-writer").await.expect("a producer");
    for commit in [true, false] {
        let begin = async || ((), begin_in(&transactional, &place).await);
        let end = async |()| {
            let ended = if commit { transactional.commit().await } else { transactional.abort().await };
            ended.expect("the coordinator ends it, fence or not");
            // The marker is written a moment after that.
            let marked = async || {
                let ends = admin.ends(&topics).await.expect("ends");
                ends.iter().all(|end| end.stable_end == end.high_watermark).then_some(())
            };
            until("the marker", BOUND, marked).await;
        };
        conformance::admin::a_fence_is_not_proven_over_an_open_transaction(&admin, &place, begin, end).await;
        admin.prove_open(&topics).await.expect("every leader takes records again");
    }
    admin.delete_topics(&topics).await.expect("deleted");
}

/// What was there before stays, and a fence that a dead process half raised is taken away.
pub async fn fence_beside_acls(cluster: &Incarnation) {
    let admin = KafkaAdmin::connect(config_of(cluster)).await.expect("connect");
    let kafka = ordinary(&cluster.bootstrap.join(",")).await;
    let topic = make_topic(&admin, "audited", 1).await;
    // krafka's own number for LITERAL is MATCH to a broker; 3 is LITERAL.
    let read =
        AclBinding::allow_read_topic(topic.as_str(), "User:*").with_pattern_type(AclPatternType::from_i8(3));
    let all = AclBinding { operation: AclOperation::All, ..read.clone() };
    let theirs = vec![read, all];
    let made = kafka.admin().create_acls(theirs, CreateAclsOptions::default()).await.expect("made");
    assert!(made.iter().all(|(_, result)| result.is_ok()), "{made:?}");
    let known = async {
        while acls(&kafka, &topic).await.len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, known).await.expect("the broker knows of them");
    let topics = [topic.clone()];
    admin.raise_fence(&topics).await.expect("raised");
    // Another process finds it by its traces alone.
    let another = KafkaAdmin::connect(config_of(cluster)).await.expect("connect");
    assert_eq!(another.fence_traces().await.expect("traces"), [topic.clone()].into());
    admin.prove_fence(&topics).await.expect("proven");
    another.lift_fence(&topics).await.expect("lifted");
    let left = acls(&kafka, &topic).await;
    assert_eq!(left.len(), 2, "what was there before stays: {left:?}");
    assert!(admin.fence_traces().await.expect("traces").is_empty());
    admin.delete_topics(&topics).await.expect("deleted");
    half_lifted(cluster, &admin, &kafka).await;
}

/// An allowance that a half-lifted fence left behind is found and taken away, also where another kind of fence is in use by
/// now; what is somebody else's stays, however much it looks like it.
async fn half_lifted(cluster: &Incarnation, admin: &KafkaAdmin, kafka: &Kafka) {
    let (left, theirs) = (make_topic(admin, "half-lifted", 1).await, make_topic(admin, "denied", 1).await);
    admin.raise_fence(std::slice::from_ref(&left)).await.expect("raised");
    let literal = AclPatternType::from_i8(3);
    // A controller that is no super user may alter configs and add partitions under its own fence, and leaves nothing behind.
    let before = acls(kafka, &left).await;
    let raised = BTreeMap::from([("retention.ms".to_owned(), Some("-1".to_owned()))]);
    admin.alter_configs(&[(left.clone(), raised)].into()).await.expect("altered under the fence");
    let grown = NewTopic { name: left.clone(), partitions: 2, replication: 1, configs: BTreeMap::new() };
    admin.create_topic(&grown).await.expect("raised to two partitions under the fence");
    let forgotten = async {
        while acls(kafka, &left).await.len() > before.len() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, forgotten).await.expect("what was lent is taken back");
    let denies = AclFilter::for_resource(AclResourceType::Topic, left.as_str()).pattern_type(literal);
    let denies = denies.permission_type(AclPermissionType::Deny);
    let gone =
        kafka.admin().delete_acls(vec![denies], DeleteAclsOptions::default()).await.expect("an answer");
    assert!(gone.iter().all(|(_, answer)| answer.is_ok()), "{gone:?}");
    let allow = AclBinding {
        operation: AclOperation::All,
        ..AclBinding::allow_read_topic(theirs.as_str(), "User:*").with_pattern_type(literal)
    };
    let deny = AclBinding {
        operation: AclOperation::Write,
        permission_type: AclPermissionType::Deny,
        ..allow.clone()
    };
    let made =
        kafka.admin().create_acls(vec![allow, deny], CreateAclsOptions::default()).await.expect("made");
    assert!(made.iter().all(|(_, result)| result.is_ok()), "{made:?}");
    let known = async {
        while acls(kafka, &theirs).await.len() < 2 || acls(kafka, &left).await.len() > 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, known).await.expect("the broker knows of them");
    let sized = AdminConfig { fence: FenceWith::Size, ..config_of(cluster) };
    let sized = KafkaAdmin::connect(sized).await.expect("connect");
    assert_eq!(sized.fence_traces().await.expect("traces"), [left.clone()].into());
    let both = [left.clone(), theirs.clone()];
    sized.lift_fence(&both).await.expect("lifted");
    assert!(sized.fence_traces().await.expect("traces").is_empty());
    assert_eq!((acls(kafka, &left).await.len(), acls(kafka, &theirs).await.len()), (0, 2));
    sized.prove_open(&both[..1]).await.expect("every leader takes records");
    admin.delete_topics(&both).await.expect("deleted");
}

/// L17: a size fence binds everybody and is lifted whole; it is not raised where a transaction could be left open.
/// Comes before anybody on the cluster has used transactions.
pub async fn size_fence(cluster: &Incarnation) {
    let config = AdminConfig { fence: FenceWith::Size, ..config_of(cluster) };
    let admin = KafkaAdmin::connect(config).await.expect("connect");
    let kafka = ordinary(&cluster.bootstrap.join(",")).await;
    let topic = make_topic(&admin, "sized", 2).await;
    let topics = [topic.clone(), "kutover.control".into()];
    let place = TopicPartition::new(topic.clone(), 0);
    write(&producer(&kafka).await, &place, 3).await.expect("an open cluster takes records");
    admin.prove_open(&topics).await.expect("every leader takes records");

    for _ in 0..2 {
        assert_eq!(admin.raise_fence(&topics).await.expect("raised, again too"), FenceKind::Size);
    }
    let proof = admin.prove_fence(&topics).await.expect("proven");
    let ends: Vec<i64> = proof.ends.iter().map(|end| end.high_watermark.0).collect();
    assert_eq!((proof.kind, ends), (FenceKind::Size, vec![3, 0]));
    let refused = write(&producer(&kafka).await, &place, 1).await.expect_err("nothing fits");
    assert!(matches!(refused, KrafkaError::Broker { code: ErrorCode::MessageTooLarge, .. }), "{refused}");
    assert_eq!(read(&reader(&kafka, &topic).await, 3).await, 3, "readers read on");
    let another = KafkaAdmin::connect(AdminConfig { fence: FenceWith::Size, ..config_of(cluster) }).await;
    let another = another.expect("connect");
    assert_eq!(another.fence_traces().await.expect("traces"), [topic.clone()].into());
    another.lift_fence(&topics).await.expect("lifted");
    admin.prove_open(&topics).await.expect("every leader takes records again");
    assert!(admin.fence_traces().await.expect("traces").is_empty());
    write(&producer(&kafka).await, &place, 1).await.expect("it takes records again");

    let own = NewTopic {
        name: "own-limit".into(),
        partitions: 1,
        replication: 1,
        configs: [("max.message.bytes".to_owned(), "2000000".to_owned())].into(),
    };
    admin.create_topic(&own).await.expect("made");
    let error = admin.raise_fence(std::slice::from_ref(&own.name)).await.expect_err("it would not come back");
    assert!(error.kind == ErrorKind::Refused && error.reason.contains("2000000"), "{error}");

    // Open, its marker could never be written; ended, its producer can begin another.
    let transactional = begun_meanwhile(cluster, &kafka, &topic).await;
    let error = admin.raise_fence(&topics).await.expect_err("a transaction is open");
    assert!(error.kind == ErrorKind::Refused && error.reason.contains("sized-writer is open"), "{error}");
    assert!(admin.fence_traces().await.expect("traces").is_empty(), "nothing was raised");
    transactional.commit().await.expect("commit");
    // With the one that was open when the cluster was asked for its topic: what stands behind its marker is given out.
    let strict = kafka.consumer_without_group().auto_offset_reset(AutoOffsetReset::Earliest);
    let strict = strict.isolation_level(IsolationLevel::ReadCommitted).metrics_push(false).build().await;
    let strict = strict.expect("a consumer");
    strict.assign(topic.as_str(), vec![0]).await.expect("it is assigned");
    assert_eq!(read(&strict, 5).await, 5, "its marker is written");
    let error = admin.raise_fence(&topics).await.expect_err("it can begin another");
    assert!(error.kind == ErrorKind::Refused && error.reason.contains("sized-writer"), "{error}");
    let hidden = hide_transactional_id(&kafka, "sized-writer").await;
    let error = admin.raise_fence(&topics).await.expect_err("what is not told is not nothing");
    assert!(error.kind == ErrorKind::Refused && error.reason.contains("may not describe"), "{error}");
    show_transactional_id(&kafka, hidden).await;
    admin.delete_topics(&[topic, own.name]).await.expect("deleted");
}

/// The fence is raised while the cluster's first transaction begins, between the look at transactions and the change of
/// the topic: it is taken away again, whatever brokers tell of the change, or do not. Gives the transaction, which is open still.
async fn begun_meanwhile(cluster: &Incarnation, kafka: &Kafka, topic: &TopicName) -> TransactionalProducer {
    let [broker] = cluster.controller_bootstrap.as_slice() else { panic!("{cluster:?}") };
    let broker = broker.parse().expect("an address");
    let path = HeldPath::open(broker, INCREMENTAL_ALTER_CONFIGS, DESCRIBE_CONFIGS).await;
    let patient = Timeouts { request: BOUND, call: BOUND, ..timeouts() };
    let config = AdminConfig {
        bootstrap: vec![path.address().to_string()],
        fence: FenceWith::Size,
        timeouts: patient,
        ..config_of(cluster)
    };
    let admin = KafkaAdmin::connect(config).await.expect("connect");
    let topics = [topic.clone()];
    let begin = async {
        path.has_come().await;
        let producer = kafka.producer().build_transactional("sized-writer").await.expect("a producer");
        producer.begin().expect("begin");
        write_open(&producer, topic, "open").await;
        path.let_all_pass();
        producer
    };
    let (raised, producer) = tokio::join!(admin.raise_fence(&topics), begin);
    let error = raised.expect_err("a transaction has begun");
    assert!(error.kind == ErrorKind::Refused && error.reason.contains("sized-writer is open"), "{error}");
    admin.prove_open(&topics).await.expect("every leader takes records again");
    producer
}
