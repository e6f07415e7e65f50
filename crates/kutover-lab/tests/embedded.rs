//! The embedded world as stock clients see it.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kutover_core::error::{ErrorKind, Outcome};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner, FenceKind, Incarnation, RecordData};
use kutover_core::words::{ClusterId, Colour};
use kutover_lab::embedded::{ApiKey, EmbeddedCluster, Fault, Harm};
use kutover_lab::{ClusterSpec, LabOptions, LabProvisioner};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use support::{BOUND, client, code, create_orders, is_served, is_shut_out, producer, read, send};

struct World {
    lab: LabProvisioner,
    blue: Incarnation,
    cluster: Arc<EmbeddedCluster>,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = LabOptions::new(dir.path(), ClusterSpec::embedded(), ClusterSpec::embedded());
    let lab = LabProvisioner::new(options).await.expect("a world");
    let blue = lab.provision(Colour::Blue, &"r1".into()).await.expect("blue");
    let cluster = lab.embedded(Colour::Blue).expect("embedded");
    World { lab, blue, cluster, _dir: dir }
}

#[tokio::test]
async fn a_stock_client_creates_writes_commits_and_reads_through_the_forwarder() {
    let world = world().await;
    let place = world.lab.place(Colour::Blue);
    assert_eq!(world.blue.bootstrap, [place.to_string()]);
    assert_eq!(world.blue.endpoint, RecordData::Addresses(vec![place.ip()]));
    assert_eq!(world.cluster.cluster_id().as_str().len(), 22);

    create_orders(&world.blue.bootstrap, 6, 1).await;

    let producer = producer(&world.blue.bootstrap, "app");
    let mut sent = BTreeSet::new();
    for number in 0..50 {
        let text = format!("record {number}");
        send(&producer, &text).await.expect("acknowledged");
        sent.insert(text);
    }
    let values = read(&world.blue.bootstrap, 50).await;
    assert_eq!(values, sent);
    let committed: i64 = (0..6)
        .filter_map(|partition| world.cluster.fake().committed_offset("readers", "orders", partition))
        .sum();
    assert_eq!(committed, 50);
}

#[tokio::test]
async fn an_unknown_topic_is_not_created() {
    let world = world().await;
    let producer = producer(&world.blue.bootstrap, "app");
    assert!(send(&producer, "lost?").await.is_err());
    assert!(world.cluster.fake().topic_id("orders").is_none());
}

#[tokio::test]
async fn the_fence_refuses_ordinary_clients_and_neither_members_nor_readers() {
    let world = world().await;
    world.cluster.fake().create_topic("orders", 3);
    let ordinary = producer(&world.blue.bootstrap, "app");
    send(&ordinary, "before").await.expect("unfenced");

    let fence = world.lab.fence(Colour::Blue).expect("a fence");
    assert_eq!(fence.kind(), FenceKind::Hook);
    fence.raise(&["orders".into()]).await.expect("raise");
    fence.raise(&["orders".into()]).await.expect("raise again");
    let refused = send(&ordinary, "under the fence").await.expect_err("refused");
    assert_eq!(code(&refused), Some(RDKafkaErrorCode::TopicAuthorizationFailed));
    let member = producer(&world.blue.bootstrap, "kutover-member-1");
    send(&member, "receipt").await.expect("a member may write");
    let values = read(&world.blue.bootstrap, 2).await;
    assert_eq!(values, BTreeSet::from(["before".to_owned(), "receipt".to_owned()]));

    fence.lift(&["orders".into()]).await.expect("lift");
    // A new client: librdkafka keeps the topic in error in the old one for a while.
    send(&producer(&world.blue.bootstrap, "app"), "after").await.expect("lifted");
}

#[tokio::test]
async fn a_probe_tells_the_fence_and_stores_nothing() {
    let world = world().await;
    world.cluster.fake().create_topic("orders", 1);
    let probe = producer(&world.blue.controller_bootstrap, "kutover-probe");
    let unfenced = send(&probe, "probe").await.expect_err("never stored");
    // A corrupt batch, as every leader says of the probe's; librdkafka tries such a one again until its time is up.
    assert_ne!(code(&unfenced), Some(RDKafkaErrorCode::TopicAuthorizationFailed));
    world.lab.fence(Colour::Blue).expect("a fence").raise(&["orders".into()]).await.expect("raise");
    let probe = producer(&world.blue.controller_bootstrap, "kutover-probe");
    let fenced = send(&probe, "probe").await.expect_err("never stored");
    assert_eq!(code(&fenced), Some(RDKafkaErrorCode::TopicAuthorizationFailed));
    assert_eq!(world.cluster.fake().next_offset("orders", 0), Some(0));
}

#[tokio::test]
async fn a_record_held_back_by_a_fault_is_in_before_the_fence_counts_as_up() {
    let world = world().await;
    world.cluster.fake().create_topic("orders", 1);
    world.cluster.inject(Fault::new(ApiKey::Produce, Harm::Delay(Duration::from_millis(700))).times(1));
    let ordinary = producer(&world.blue.bootstrap, "app");
    let sending = tokio::spawn(async move { send(&ordinary, "slow").await });
    let cluster = Arc::clone(&world.cluster);
    tokio::time::timeout(BOUND, async {
        while cluster.faults_struck() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the record arrives");
    world.lab.fence(Colour::Blue).expect("a fence").raise(&["orders".into()]).await.expect("raise");
    let end = world.cluster.fake().next_offset("orders", 0);
    assert_eq!(end, Some(1), "nothing can come after the fence");
    sending.await.expect("no panic").expect("acknowledged");
}

#[tokio::test]
async fn isolation_cuts_clients_and_keeps_the_controllers_path() {
    let world = world().await;
    world.cluster.fake().create_topic("orders", 3);
    let app = producer(&world.blue.bootstrap, "app");
    send(&app, "before").await.expect("served");
    let controller = producer(&world.blue.controller_bootstrap, "kutover-controller");
    send(&controller, "before").await.expect("served");

    let (id, nonce) = (&world.blue.id, "i1".into());
    world.lab.isolate(id, &nonce).await.expect("isolate");
    world.lab.isolate(id, &nonce).await.expect("isolate again");
    assert!(send(&app, "isolated").await.is_err());
    assert!(is_shut_out(&world.blue.bootstrap, "app").await, "the forwarder is closed");
    assert!(
        is_shut_out(&world.blue.controller_bootstrap, "app").await,
        "an open path does not help a client"
    );
    assert!(is_shut_out(&world.blue.controller_bootstrap, "kutover-member").await);
    send(&controller, "isolated").await.expect("the controller's client of before is served");
    assert!(is_served(&world.blue.controller_bootstrap, "kutover-controller-2").await);

    world.lab.put_back(id, &"i0".into()).await.expect("a late put-back is no error");
    assert!(is_shut_out(&world.blue.bootstrap, "app").await, "and undoes nothing");
    world.lab.put_back(id, &nonce).await.expect("put back");
    assert!(is_served(&world.blue.bootstrap, "app").await);
    send(&producer(&world.blue.bootstrap, "app"), "after").await.expect("served again");
}

#[tokio::test]
async fn a_killed_broker_hands_its_partitions_over_and_nothing_is_lost_or_doubled() {
    let world = world().await;
    world.cluster.fake().create_topic("orders", 3);
    let app = producer(&world.blue.bootstrap, "app");
    for number in 0..3 {
        send(&app, &format!("{number}")).await.expect("served");
    }
    // The answer to a record is lost as well: it is sent again to the new leader, which knows it.
    world.cluster.inject(Fault::new(ApiKey::Produce, Harm::ApplyThenDisconnect).times(1));
    world.cluster.kill_broker(0);
    for number in 3..30 {
        send(&app, &format!("{number}")).await.expect("the others took over");
    }
    world.cluster.restart_broker(0);
    let values = read(&world.blue.bootstrap, 30).await;
    assert_eq!(values.len(), 30);
    assert_eq!(world.cluster.fake().all_records("orders").expect("log").len(), 30, "no duplicate");
}

#[tokio::test]
async fn krafka_reads_offsets_of_a_group() {
    let world = world().await;
    world.cluster.fake().create_topic("orders", 1);
    send(&producer(&world.blue.bootstrap, "app"), "one").await.expect("served");
    let bootstrap = world.blue.bootstrap.clone();
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer =
            client(&bootstrap, "reader").set("group.id", "g").create().expect("consumer");
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset("orders", 0, Offset::Offset(1)).expect("offset");
        consumer.commit(&offsets, CommitMode::Sync).expect("commit");
        assert_eq!(consumer.fetch_watermarks("orders", 0, BOUND).expect("ends"), (0, 1));
    })
    .await
    .expect("no panic");
    let kafka = krafka::Kafka::builder(world.blue.controller_bootstrap.join(","))
        .client_id("kutover-controller")
        .connect()
        .await
        .expect("krafka connects");
    let consumer = kafka.consumer("g").build().await.expect("consumer");
    let committed = consumer.committed(&[("orders", 0)]).await.expect("committed");
    assert_eq!(committed.values().map(|position| position.offset).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn provision_is_keyed_by_request_and_destroy_by_the_proven_cluster() {
    let world = world().await;
    let again = world.lab.provision(Colour::Blue, &"r1".into()).await.expect("the same");
    assert_eq!(again, world.blue);
    assert_eq!(world.lab.describe(Colour::Blue).await.expect("described"), Some(world.blue.clone()));
    assert_eq!(world.lab.describe(Colour::Green).await.expect("described"), None);
    let other = world.lab.provision(Colour::Blue, &"r2".into()).await.expect_err("never a second");
    assert_eq!(other.kind, ErrorKind::Refused);

    let mut mark = RemovalMark { incarnation: world.blue.id.clone(), cluster_id: ClusterId::new("another") };
    let refused = world.lab.destroy(&mark).await.expect_err("another cluster");
    assert_eq!((refused.kind, refused.outcome), (ErrorKind::Refused, Outcome::NotDone));
    assert!(is_served(&world.blue.bootstrap, "app").await, "still there");

    mark.cluster_id = world.cluster.cluster_id();
    world.lab.destroy(&mark).await.expect("destroy");
    world.lab.destroy(&mark).await.expect("gone already");
    assert_eq!(world.lab.describe(Colour::Blue).await.expect("described"), None);
    let gone = world.lab.provision(Colour::Blue, &"r1".into()).await.expect_err("not a second time");
    assert_eq!(gone.kind, ErrorKind::Refused);
    world.lab.provision(Colour::Blue, &"r3".into()).await.expect("a new request makes a new one");
}

#[tokio::test]
async fn two_colours_differ_by_address_and_cluster() {
    let world = world().await;
    let green = world.lab.provision(Colour::Green, &"r2".into()).await.expect("green");
    assert_ne!(green.bootstrap, world.blue.bootstrap);
    let clusters = Colour::BOTH.map(|colour| world.lab.embedded(colour).expect("embedded").cluster_id());
    assert_ne!(clusters[0], clusters[1]);
}

/// One batch per record, so that the cluster merges them; each record of another shape.
#[tokio::test]
async fn merged_batches_read_as_they_were_written() {
    const COUNT: usize = 1500;
    let world = world().await;
    world.cluster.fake().create_topic("orders", 1);
    let producer: FutureProducer = client(&world.blue.bootstrap, "app")
        .set("batch.num.messages", "1")
        .set("linger.ms", "0")
        .create()
        .expect("producer");
    let mut sending = Vec::new();
    for number in 0..COUNT {
        let (key, value, timestamp) = shape(number);
        let headers = OwnedHeaders::new().insert(Header { key: "n", value: Some(&number.to_string()) });
        let mut record = FutureRecord::<str, str>::to("orders").timestamp(timestamp).headers(headers);
        record.key = key.as_deref();
        record.payload = value.as_deref();
        sending.push(producer.send_result(record).map_err(|(error, _)| error).expect("queued"));
    }
    for sent in sending {
        sent.await.expect("a report").expect("acknowledged");
    }
    let batches = || world.cluster.fake().with_state(|state| state.topics["orders"].partitions[0].log.len());
    kutover_testkit::until("merged batches", BOUND, async || (batches() <= COUNT / 2).then_some(())).await;

    let bootstrap = world.blue.bootstrap.clone();
    tokio::task::spawn_blocking(move || {
        let mut config = client(&bootstrap, "reader");
        let consumer: BaseConsumer =
            config.set("group.id", "g").set("check.crcs", "true").create().expect("consumer");
        let mut from = TopicPartitionList::new();
        // From within a merged batch: what stands before is left out.
        from.add_partition_offset("orders", 0, Offset::Offset(7)).expect("offset");
        consumer.assign(&from).expect("assign");
        for number in 7..COUNT {
            let message = consumer.poll(BOUND).expect("a record in time").expect("a record");
            let (key, value, timestamp) = shape(number);
            assert_eq!(message.offset(), i64::try_from(number).expect("small"));
            assert_eq!(message.key(), key.as_deref().map(str::as_bytes), "record {number}");
            assert_eq!(message.payload(), value.as_deref().map(str::as_bytes), "record {number}");
            assert_eq!(message.timestamp().to_millis(), Some(timestamp));
            let header = message.headers().expect("headers").get(0);
            assert_eq!(header.value, Some(number.to_string().as_bytes()));
        }
    })
    .await
    .expect("no panic");
}

/// Key, value and timestamp: null and empty ones, and timestamps that go back.
fn shape(number: usize) -> (Option<String>, Option<String>, i64) {
    let key = (!number.is_multiple_of(3)).then(|| "k".repeat(number % 4));
    let value = (!number.is_multiple_of(5)).then(|| "v".repeat(number % 7));
    let forth_and_back = if number.is_multiple_of(2) { 50_000 } else { 0 };
    (key, value, 1_700_000_000_000 + forth_and_back - number as i64)
}
