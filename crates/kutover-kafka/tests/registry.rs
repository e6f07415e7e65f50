//! The contracts of `Registry` and `MemberLink` against an in-process cluster.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control, FakeBroker};
use kutover_core::error::{ErrorKind, Outcome, Retry};
use kutover_core::messages::{ControlBody, ControlMessage, ControlView, MemberKind, MemberState};
use kutover_core::ports::{MemberLink, MemberLinks, ProducerClient, Registry, Token};
use kutover_core::words::{CONTROL_TOPIC, Colour, Generation, MEMBER_CLIENT_ID, MEMBERS_TOPIC, Term};
use kutover_kafka::{
    ClientHooks, KafkaMemberLink, KafkaMemberLinks, KafkaRegistry, read_topic, witness_cluster_id,
};
use support::*;

async fn registry(cluster: &FakeBroker, timeout: Duration) -> KafkaRegistry {
    KafkaRegistry::open(&bootstrap(cluster), &properties(&[]), ClientHooks::default(), timeout)
        .await
        .expect("opens")
}

async fn prepared(cluster: &FakeBroker) -> KafkaRegistry {
    let registry = registry(cluster, BOUND).await;
    registry.prepare().await.expect("prepares");
    registry
}

async fn link(cluster: &FakeBroker, timeout: Duration) -> KafkaMemberLink {
    KafkaMemberLink::open(&bootstrap(cluster), &properties(&[]), ClientHooks::default(), timeout)
        .await
        .expect("opens")
}

async fn next(link: &KafkaMemberLink) -> ControlView {
    tokio::time::timeout(BOUND, link.next_control()).await.expect("a view in time")
}

fn claim(term: u64) -> ControlMessage {
    ControlMessage {
        deployment: "orders".into(),
        term: Term(term),
        body: ControlBody::Claim { nonce: "n".into() },
    }
}

fn fence(term: u64, up: bool) -> ControlMessage {
    ControlMessage {
        deployment: "orders".into(),
        term: Term(term),
        body: ControlBody::Fence { colour: Colour::Blue, up },
    }
}

fn announce(cluster: &FakeBroker, term: u64, generation: u64) -> ControlMessage {
    let mut target = target(cluster, "blue");
    target.generation = Generation(generation);
    ControlMessage { deployment: "orders".into(), term: Term(term), body: ControlBody::Announce { target } }
}

fn member(instance: &str, heartbeat: u64) -> MemberState {
    MemberState {
        kind: MemberKind::Producer,
        instance: instance.into(),
        incarnation: "i".into(),
        heartbeat,
        generation: Generation(1),
        cluster_id: "blue".into(),
        receipts: Vec::new(),
    }
}

/// Writes as somebody else than kutover would.
async fn write_raw(cluster: &FakeBroker, topic: &str, key: &str, payload: &[u8]) {
    let events = Recorder::new();
    let client = connect(&factory(&[]), &target(cluster, "blue"), &[topic], &events).await;
    client.try_send(record(topic, Some(key.as_bytes()), Some(payload)), Token(1)).unwrap();
    assert!(flush(&client, BOUND).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_once_with_one_partition() {
    let cluster = cluster("blue", 3).await;
    let registry = prepared(&cluster).await;
    let ids = [CONTROL_TOPIC, MEMBERS_TOPIC].map(|topic| cluster.topic_id(topic).expect("made"));
    registry.prepare().await.expect("again is harmless");
    assert_eq!(ids, [CONTROL_TOPIC, MEMBERS_TOPIC].map(|topic| cluster.topic_id(topic).expect("kept")));
    assert!(cluster.next_offset(CONTROL_TOPIC, 0).is_some());
    assert!(cluster.next_offset(CONTROL_TOPIC, 1).is_none());
    assert_eq!(registry.control().await.expect("empty"), ControlView::default());
    assert_eq!(registry.members().await.expect("empty"), []);
}

/// A cluster that knows no topic configs still gets its topics.
#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_where_configs_are_unknown() {
    let cluster = cluster("blue", 1).await;
    cluster.on_times(ApiKey::CreateTopics, 1, |_| Control::Error(ErrorCode::InvalidConfig));
    prepared(&cluster).await;
    assert!(cluster.topic_id(CONTROL_TOPIC).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_two_partitions_is_refused_by_name() {
    let cluster = cluster("blue", 1).await;
    cluster.create_topic(MEMBERS_TOPIC, 2);
    let error = registry(&cluster, BOUND).await.prepare().await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.what.contains(MEMBERS_TOPIC), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_controller_says_reaches_a_member() {
    let cluster = cluster("blue", 1).await;
    let registry = prepared(&cluster).await;
    registry.say(&claim(1)).await.unwrap();
    registry.say(&announce(&cluster, 1, 1)).await.unwrap();

    let link = link(&cluster, BOUND).await;
    let view = next(&link).await;
    assert_eq!(view, registry.control().await.unwrap(), "first the view at the end as it stood");
    assert_eq!(view.target.as_ref().map(|target| target.generation), Some(Generation(1)));

    registry.say(&announce(&cluster, 1, 2)).await.unwrap();
    let view = next(&link).await;
    assert_eq!(view.target.as_ref().map(|target| target.generation), Some(Generation(2)));
    assert_eq!(link.control_now().await.unwrap(), view);
    registry.say(&announce(&cluster, 1, 2)).await.unwrap();
    registry.say(&fence(1, true)).await.unwrap();
    assert_eq!(next(&link).await.fenced, [Colour::Blue], "a repetition is no change");
    assert_eq!(registry.control().await.unwrap().fenced, [Colour::Blue]);
}

/// `control_now` reads to the end as it stands at the call: what was said before it is in it.
#[tokio::test(flavor = "multi_thread")]
async fn control_now_holds_all_that_was_said_before() {
    let cluster = cluster("blue", 1).await;
    let registry = prepared(&cluster).await;
    let link = link(&cluster, BOUND).await;
    for generation in 1..=20 {
        registry.say(&announce(&cluster, 1, generation)).await.unwrap();
        let view = link.control_now().await.unwrap();
        assert_eq!(view.target.map(|target| target.generation), Some(Generation(generation)));
        let view = registry.control().await.unwrap();
        assert_eq!(view.target.map(|target| target.generation), Some(Generation(generation)));
    }
}

/// L20: after a claim, an older controller's words count for nothing, on either side.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_term_is_not_heard() {
    let cluster = cluster("blue", 1).await;
    let registry = prepared(&cluster).await;
    registry.say(&claim(2)).await.unwrap();
    registry.say(&announce(&cluster, 2, 1)).await.unwrap();
    registry.say(&announce(&cluster, 1, 9)).await.unwrap();
    registry.say(&fence(1, true)).await.unwrap();
    let link = link(&cluster, BOUND).await;
    for view in [next(&link).await, link.control_now().await.unwrap(), registry.control().await.unwrap()] {
        assert_eq!(view.term, Term(2));
        assert_eq!(view.target.map(|target| target.generation), Some(Generation(1)));
        assert!(view.fenced.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_their_newest_word_until_their_tombstone() {
    let cluster = cluster("blue", 1).await;
    let registry = prepared(&cluster).await;
    let (one, two) = (link(&cluster, BOUND).await, link(&cluster, BOUND).await);
    one.tell(&member("one", 1)).await.unwrap();
    two.tell(&member("two", 1)).await.unwrap();
    one.tell(&member("one", 2)).await.unwrap();
    assert_eq!(registry.members().await.unwrap(), [member("one", 2), member("two", 1)]);
    one.end(&member("one", 3)).await.unwrap();
    assert_eq!(registry.members().await.unwrap(), [member("two", 1)], "read on from where it was");
    let afresh = registry_members_afresh(&cluster).await;
    assert_eq!(afresh, [member("two", 1)], "and read from the start");
}

/// L8: a members topic that was made anew, or cut at its start, is no list of who is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_members_topic_that_lost_messages_is_no_answer() {
    let cluster = cluster("blue", 1).await;
    let known = prepared(&cluster).await;
    let link = link(&cluster, BOUND).await;
    link.tell(&member("orders-1", 1)).await.unwrap();
    assert_eq!(known.members().await.unwrap().len(), 1);
    assert!(cluster.delete_topic(MEMBERS_TOPIC));
    known.prepare().await.unwrap();
    let error = known.members().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");

    link.tell(&member("orders-1", 2)).await.unwrap();
    cluster.with_state(|state| {
        let members = state.topics.get_mut(MEMBERS_TOPIC).unwrap();
        members.partitions[0].log_start_offset = 1;
    });
    let error = registry(&cluster, BOUND).await.members().await.unwrap_err();
    assert!(error.to_string().contains("messages were deleted from it"), "{error}");
}

async fn registry_members_afresh(cluster: &FakeBroker) -> Vec<MemberState> {
    registry(cluster, BOUND).await.members().await.expect("reads")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_makes_no_sense_is_named_by_its_offset() {
    let cluster = cluster("blue", 1).await;
    let registry = prepared(&cluster).await;
    registry.say(&announce(&cluster, 1, 1)).await.unwrap();
    write_raw(&cluster, CONTROL_TOPIC, "target", b"{").await;
    write_raw(&cluster, MEMBERS_TOPIC, "producer/x/y", b"[]").await;
    let link = link(&cluster, BOUND).await;
    for (error, offset) in [
        (registry.control().await.expect_err("no sense"), "offset 1"),
        (link.control_now().await.expect_err("no sense"), "offset 1"),
        (registry.members().await.expect_err("no sense"), "offset 0"),
    ] {
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.reason.contains(offset), "{error}");
    }
    assert!(next(&link).await.target.is_some(), "a member still hears the rest");
}

/// Waiting for a change can be given up and taken up again without missing one.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_control_is_cancel_safe() {
    let cluster = cluster("blue", 1).await;
    let registry = prepared(&cluster).await;
    let link = link(&cluster, BOUND).await;
    assert_eq!(next(&link).await, ControlView::default());
    for generation in 1..=5 {
        let given_up = tokio::time::timeout(Duration::from_millis(1), link.next_control()).await;
        assert!(given_up.is_err(), "nothing was said");
        registry.say(&announce(&cluster, 1, generation)).await.unwrap();
        let view = next(&link).await;
        assert_eq!(view.target.map(|target| target.generation), Some(Generation(generation)));
    }
}

/// A link opens before its topics are there, makes nothing up meanwhile, and hears once they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_waits_for_its_topic() {
    let cluster = cluster("blue", 1).await;
    let links = KafkaMemberLinks::new(BTreeMap::from([(Colour::Blue, properties(&[]))]));
    let link = links.open(&target(&cluster, "blue")).await.unwrap();
    let error = link.control_now().await.expect_err("no topic");
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    let error = registry(&cluster, BOUND).await.control().await.expect_err("no topic");
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    let heard = tokio::spawn(async move { link.next_control().await });
    let registry = prepared(&cluster).await;
    registry.say(&announce(&cluster, 1, 1)).await.unwrap();
    let links = tokio::time::timeout(BOUND, heard).await.expect("hears").unwrap();
    assert!(links.target.is_some() || links == ControlView::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_cluster_is_an_error_in_time_never_a_shorter_answer() {
    let cluster = cluster("blue", 1).await;
    let registry = prepared(&cluster).await;
    registry.say(&claim(1)).await.unwrap();
    let short = Duration::from_millis(300);
    let (registry, link) = (self::registry(&cluster, short).await, link(&cluster, short).await);
    cluster.crash(0);
    let failures = async {
        let control = registry.control().await.expect_err("dead");
        let members = registry.members().await.expect_err("dead");
        let now = link.control_now().await.expect_err("dead");
        let said = registry.say(&claim(2)).await.expect_err("dead");
        let told = link.tell(&member("one", 1)).await.expect_err("dead");
        [control, members, now, said, told]
    };
    for error in tokio::time::timeout(BOUND, failures).await.expect("bounded") {
        assert_eq!((error.kind, error.retry), (ErrorKind::Unreachable, Retry::Later), "{error}");
        assert_eq!(error.outcome, Outcome::Unknown, "{error}");
    }
    let waiting = tokio::time::timeout(short, link.next_control()).await;
    assert!(waiting.is_err(), "nothing is made up");
    cluster.restart(0);
    // What was said while it was dead ended unknown: a loaded machine may still write it now. Nothing else is there.
    let term = next(&link).await.term;
    assert!([Term(1), Term(2)].contains(&term), "{term:?}");
}

/// A fence on members' records must not bind the link: it goes by its own client id.
#[tokio::test(flavor = "multi_thread")]
async fn links_and_registries_go_by_their_own_client_ids() {
    let cluster = cluster("blue", 1).await;
    let registry = prepared(&cluster).await;
    cluster.on(ApiKey::Produce, |request| match request.client_id.as_deref() {
        Some(MEMBER_CLIENT_ID | "kutover-controller") => Control::Pass,
        _ => Control::Error(ErrorCode::TopicAuthorizationFailed),
    });
    registry.say(&claim(1)).await.unwrap();
    link(&cluster, BOUND).await.tell(&member("one", 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_witness_names_the_cluster() {
    let cluster = cluster("the-blue-one", 1).await;
    let id = witness_cluster_id(&bootstrap(&cluster), &properties(&[]), BOUND).await.unwrap();
    assert_eq!(id.as_str(), "the-blue-one");
    let nobody = [std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()];
    let properties = properties(&[]);
    let asking = witness_cluster_id(&nobody, &properties, Duration::from_millis(300));
    let error = tokio::time::timeout(BOUND, asking).await.expect("bounded").expect_err("nobody");
    assert_eq!(error.kind, ErrorKind::Unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_read_whole_or_not_at_all() {
    let cluster = cluster("blue", 3).await;
    cluster.create_topic("orders", 4);
    let client: Arc<dyn ProducerClient> =
        connect(&factory(&[]), &target(&cluster, "blue"), &["orders"], &Recorder::new()).await;
    for number in 0..5000_u64 {
        let (key, payload) = (number.to_string(), number.to_be_bytes());
        client.try_send(record("orders", Some(key.as_bytes()), Some(&payload)), Token(number)).unwrap();
    }
    assert!(flush(&client, BOUND).await);
    let read = |topic: &'static str, timeout| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let servers = bootstrap(&cluster);
        async move {
            let ranges = read_topic(&servers, &properties(&[]), "audit", topic, timeout, move |record| {
                let _ = sender.send(record);
            })
            .await?;
            Ok::<_, kutover_core::error::ProviderError>((ranges, receiver.iter().collect::<Vec<_>>()))
        }
    };
    let (ranges, records) = read("orders", BOUND).await.unwrap();
    assert_eq!(ranges.len(), 4);
    assert_eq!(ranges.values().map(|range| range.end.0 - range.start.0).sum::<i64>(), 5000);
    let mut numbers: Vec<u64> = Vec::new();
    let mut next = BTreeMap::new();
    for record in &records {
        let expected = next.entry(record.partition).or_insert(0);
        assert_eq!(record.offset, *expected, "in order, without a gap");
        *expected += 1;
        numbers.push(u64::from_be_bytes(record.payload.as_deref().unwrap().try_into().unwrap()));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..5000).collect::<Vec<_>>());
    assert_eq!(read("missing", BOUND).await.expect_err("missing").kind, ErrorKind::NotFound);
    cluster.on(ApiKey::Fetch, |request| if request.node_id == 1 { Control::Silence } else { Control::Pass });
    let error = read("orders", Duration::from_secs(1)).await.expect_err("one leader is silent");
    assert!(error.reason.contains("not read to their end"), "{error}");
}
