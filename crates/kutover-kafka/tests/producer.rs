//! The contract of `ProducerFactory` and `ProducerClient`, clause by clause, against an in-process cluster.

mod support;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control};
use kutover_core::error::ErrorKind;
use kutover_core::ports::{Delivery, DeliveryFate, HeadersRef, ProducerFactory, RecordBody, Refusal, Token};
use kutover_core::words::Colour;
use kutover_kafka::{ClientHooks, KafkaProducerFactory, read_topic};
use parking_lot::Mutex;
use rdkafka::message::{Header, Headers, OwnedHeaders};
use support::*;

type Fates = Vec<(u64, DeliveryFate)>;

fn fates(events: &Recorder) -> Fates {
    events
        .reports()
        .into_iter()
        .filter_map(|(token, delivery)| match delivery {
            Delivery::Failed { fate, .. } => Some((token.0, fate)),
            Delivery::Acknowledged { .. } => None,
        })
        .collect()
}

fn acknowledged(events: &Recorder) -> Vec<(u64, i32, i64)> {
    events
        .reports()
        .into_iter()
        .filter_map(|(token, delivery)| match delivery {
            Delivery::Acknowledged { partition, offset, .. } => Some((token.0, partition, offset)),
            Delivery::Failed { .. } => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_warms_the_connections_and_the_producer_id() {
    let cluster = cluster("blue", 3).await;
    cluster.create_topic("orders", 6);
    let events = Recorder::new();
    let client = connect(&factory(&[]), &target(&cluster, "blue"), &["orders"], &events).await;
    assert_eq!(client.cluster_id().as_str(), "blue");
    events.wait("the producer id", |told| told.producer_ids.len() == 1);
    assert_eq!(cluster.request_count(ApiKey::InitProducerId), 1);
    let mut warm: Vec<i32> = cluster.request_nodes(ApiKey::ListOffsets);
    warm.sort_unstable();
    warm.dedup();
    assert_eq!(warm, [0, 1, 2], "every leader has a connection");
    assert_eq!(cluster.request_count(ApiKey::Produce), 0, "and nobody's record paid for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_refused_and_both_are_named() {
    let cluster = cluster("green", 1).await;
    let events = Recorder::new();
    let error = factory(&[]).connect(&target(&cluster, "blue"), &[], events).await.err().expect("refused");
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.reason.contains("blue") && error.reason.contains("green"), "{error}");
    assert_eq!(cluster.request_count(ApiKey::Produce), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_an_id_takes_what_answers() {
    let cluster = cluster("green", 1).await;
    let client = connect(&factory(&[]), &target(&cluster, ""), &[], &Recorder::new()).await;
    assert_eq!(client.cluster_id().as_str(), "green");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_an_error_in_time() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut target = target(&cluster("blue", 1).await, "blue");
    target.bootstrap = vec![nobody.to_string()];
    let factory = factory(&[]).with_connect_timeout(Duration::from_millis(500));
    let connecting = factory.connect(&target, &[], Recorder::new());
    let error = tokio::time::timeout(BOUND, connecting).await.expect("bounded").err().expect("nobody there");
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    assert!(error.what.contains(&nobody.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_colour_without_properties_is_an_error_that_names_it() {
    let mut target = target(&cluster("blue", 1).await, "blue");
    target.colour = Colour::Green;
    let error = factory(&[]).connect(&target, &[], Recorder::new()).await.err().expect("refused");
    assert!(error.reason.contains("green"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_is_not_created_and_does_not_stop_the_switch() {
    let cluster = cluster("blue", 1).await;
    let _client = connect(&factory(&[]), &target(&cluster, "blue"), &["missing"], &Recorder::new()).await;
    assert!(cluster.topic_id("missing").is_none());
}

/// Names that no cluster can have are passed over, and what they stand among is warmed all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_topic_name_does_not_stop_the_switch() {
    let cluster = cluster("blue", 1).await;
    cluster.create_topic("orders", 1);
    let long = "x".repeat(600);
    let topics = ["a\0b", long.as_str(), "", "orders"];
    let _client = connect(&factory(&[]), &target(&cluster, "blue"), &topics, &Recorder::new()).await;
    assert!(cluster.request_count(ApiKey::ListOffsets) > 0);
}

/// Null against empty, keys, headers, explicit partitions and timestamps arrive as they were offered, and the records of
/// one caller stand in their order.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_offered_is_what_stands_in_the_log() {
    let cluster = cluster("blue", 3).await;
    cluster.create_topic("orders", 3);
    let events = Recorder::new();
    let client = connect(&factory(&[]), &target(&cluster, "blue"), &["orders"], &events).await;
    let list = [
        ("a".to_owned(), Some(b"1".to_vec())),
        ("null".to_owned(), None),
        ("empty".to_owned(), Some(Vec::new())),
        ("a".to_owned(), Some(b"2".to_vec())),
    ];
    type Shape = (Option<&'static [u8]>, Option<&'static [u8]>);
    let shapes: [Shape; 4] = [(None, Some(b"x")), (Some(b""), None), (Some(b"k"), Some(b"")), (None, None)];
    for (token, (key, payload)) in shapes.iter().enumerate() {
        let mut record = record("orders", *key, *payload);
        record.partition = Some(2);
        record.timestamp_ms += token as i64;
        record.headers = if token == 0 { HeadersRef::List(&list) } else { HeadersRef::None };
        client.try_send(record, Token(token as u64)).unwrap();
    }
    assert!(flush(&client, BOUND).await);
    assert_eq!(acknowledged(&events), [(0, 2, 0), (1, 2, 1), (2, 2, 2), (3, 2, 3)]);

    let read = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&read);
    let visit = move |record| sink.lock().push(record);
    let ranges =
        read_topic(&bootstrap(&cluster), &properties(&[]), "audit", "orders", BOUND, visit).await.unwrap();
    assert_eq!(ranges[&2].end.0, 4);
    let read = read.lock();
    assert_eq!(read.len(), 4);
    for (at, (found, (key, payload))) in read.iter().zip(shapes).enumerate() {
        assert_eq!((found.partition, found.offset), (2, at as i64));
        assert_eq!(found.key.as_deref(), key);
        assert_eq!(found.payload.as_deref(), payload);
        assert_eq!(found.timestamp_ms, Some(1_700_000_000_000 + at as i64));
        assert_eq!(found.headers, if at == 0 { list.to_vec() } else { Vec::new() });
    }
}

/// A native header object goes through as it is; a refusal leaves it with its owner.
#[tokio::test(flavor = "multi_thread")]
async fn native_headers_are_taken_or_left() {
    let cluster = cluster("blue", 1).await;
    cluster.create_topic("orders", 1);
    let events = Recorder::new();
    let client =
        connect(&factory(&[("queue.buffering.max.messages", "1")]), &target(&cluster, "blue"), &[], &events)
            .await;
    cluster.on(ApiKey::Produce, |_| Control::Silence);
    let headers = || OwnedHeaders::new().insert(Header { key: "h", value: Some("v") });
    let (taken, left) = (Cell::new(Some(headers())), Cell::new(Some(headers())));
    let strange = Cell::new(Some(7));
    let mut offer = record("orders", None, None);
    offer.headers = HeadersRef::Native(&taken);
    client.try_send(offer, Token(1)).unwrap();
    offer.headers = HeadersRef::Native(&left);
    assert_eq!(client.try_send(offer, Token(2)), Err(Refusal::QueueFull));
    assert!(taken.take().is_none());
    assert_eq!(left.take().expect("left").get(0).key, "h");
    offer.headers = HeadersRef::Native(&strange);
    assert!(matches!(client.try_send(offer, Token(3)), Err(Refusal::Refused(_))));
    purge(&client).await;
    assert_eq!(events.reports().len(), 1, "a refused record has no report");
    let Delivery::Failed { record, .. } = &events.reports()[0].1 else { panic!("purged") };
    assert_eq!(record.headers, [("h".to_owned(), Some(b"v".to_vec()))]);
}

/// L3: what reached no broker is known not to be written, and comes back whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_never_sent_is_not_written_and_comes_back_whole() {
    let cluster = cluster("blue", 1).await;
    cluster.create_topic("orders", 1);
    let events = Recorder::new();
    let client = connect(&factory(&[]), &target(&cluster, "blue"), &["orders"], &events).await;
    cluster.crash(0);
    let list = [("h".to_owned(), None), ("i".to_owned(), Some(Vec::new()))];
    let mut offer = record("orders", Some(b""), None);
    offer.headers = HeadersRef::List(&list);
    client.try_send(offer, Token::new(3, 9)).unwrap();
    assert!(!flush(&client, Duration::from_millis(1)).await, "nothing can be delivered");
    assert_eq!(client.outstanding(), 1);
    purge(&client).await;
    assert_eq!(client.outstanding(), 0);
    let reports = events.reports();
    let (token, Delivery::Failed { fate, record, code, .. }) = &reports[0] else { panic!("failed") };
    assert_eq!((token.slot(), token.generation()), (3, 9));
    assert_eq!(*fate, DeliveryFate::NotWritten);
    assert!(code.name.starts_with("Purge"), "{code}");
    let whole =
        RecordBody { topic: "orders".into(), key: Some(Vec::new()), payload: None, headers: list.to_vec() };
    assert_eq!(*record, whole);
}

/// L3: the broker has written it and the answer was lost. Purging does not make it "not written", whether it is in
/// flight or queued for another try.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_answer_was_lost_is_unknown() {
    for lost in [Control::Silence, Control::Disconnect] {
        let cluster = cluster("blue", 1).await;
        cluster.create_topic("orders", 1);
        let events = Recorder::new();
        let client = connect(&factory(&[]), &target(&cluster, "blue"), &["orders"], &events).await;
        let lost = Control::ApplyThen(Box::new(lost));
        cluster.on(ApiKey::Produce, move |_| lost.clone());
        client.try_send(record("orders", None, Some(b"x")), Token(1)).unwrap();
        assert!(cluster.wait_for_requests(ApiKey::Produce, 1, BOUND).await);
        purge(&client).await;
        assert_eq!(fates(&events), [(1, DeliveryFate::Unknown)]);
        assert_eq!(cluster.next_offset("orders", 0), Some(1), "it is in the log");
    }
}

/// The fate is the record's own: behind one that may be written stand others that no broker has seen.
#[tokio::test(flavor = "multi_thread")]
async fn fates_are_told_record_by_record() {
    let cluster = cluster("blue", 1).await;
    cluster.create_topic("orders", 2);
    let events = Recorder::new();
    let client = connect(
        &factory(&[("max.in.flight.requests.per.connection", "1")]),
        &target(&cluster, "blue"),
        &["orders"],
        &events,
    )
    .await;
    cluster.on(ApiKey::Produce, |_| Control::Silence);
    client.try_send(record("orders", None, Some(b"x")), Token(1)).unwrap();
    assert!(cluster.wait_for_requests(ApiKey::Produce, 1, BOUND).await);
    for token in 2..5 {
        client.try_send(record("orders", None, Some(b"y")), Token(token)).unwrap();
    }
    purge(&client).await;
    let mut fates = fates(&events);
    fates.sort_unstable_by_key(|(token, _)| *token);
    let expected: Fates = vec![
        (1, DeliveryFate::Unknown),
        (2, DeliveryFate::NotWritten),
        (3, DeliveryFate::NotWritten),
        (4, DeliveryFate::NotWritten),
    ];
    assert_eq!(fates, expected);
}

/// L1: a flush is over when the last report has been handed over, not when librdkafka's queue is empty.
#[tokio::test(flavor = "multi_thread")]
async fn flush_waits_for_the_last_report() {
    let cluster = cluster("blue", 1).await;
    cluster.create_topic("orders", 1);
    let events = Recorder::new();
    let client = connect(&factory(&[]), &target(&cluster, "blue"), &["orders"], &events).await;
    events.hold();
    for token in 0..100 {
        client.try_send(record("orders", None, Some(b"x")), Token(token)).unwrap();
    }
    assert!(cluster.wait_for_requests(ApiKey::Produce, 1, BOUND).await);
    assert!(!flush(&client, Duration::from_millis(50)).await, "no report was handed over yet");
    let flushing = tokio::spawn({
        let client = Arc::clone(&client);
        async move { flush(&client, BOUND).await }
    });
    events.release();
    assert!(flushing.await.unwrap());
    assert_eq!(events.reports().len(), 100);
    let offsets: Vec<i64> = acknowledged(&events).iter().map(|(_, _, offset)| *offset).collect();
    assert_eq!(offsets, (0..100).collect::<Vec<i64>>(), "in the order of one caller");
}

/// L1: even a client that is dropped too early, by an owner whose callback is slow, hands every report over; rdkafka's own
/// drop gives up after half a second, and the rest vanishes without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_client_still_reports() {
    let cluster = cluster("blue", 1).await;
    cluster.create_topic("orders", 50);
    let events = Recorder::slow(Duration::from_millis(2));
    let client = connect(&factory(&[]), &target(&cluster, "blue"), &["orders"], &events).await;
    cluster.on(ApiKey::Produce, |_| Control::Silence);
    for token in 0..1000 {
        let mut record = record("orders", None, Some(b"x"));
        record.partition = Some(token % 50);
        client.try_send(record, Token(token as u64)).unwrap();
    }
    drop(client);
    events.wait("a report for every record", |told| told.reports.len() == 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_the_cluster_names_its_code() {
    let cluster = cluster("blue", 1).await;
    cluster.create_topic("orders", 1);
    let events = Recorder::new();
    let client = connect(&factory(&[]), &target(&cluster, "blue"), &["orders"], &events).await;
    cluster.on(ApiKey::Produce, |_| Control::Error(ErrorCode::TopicAuthorizationFailed));
    client.try_send(record("orders", None, Some(b"x")), Token(1)).unwrap();
    assert!(flush(&client, BOUND).await);
    let reports = events.reports();
    let Delivery::Failed { code, fate, .. } = &reports[0].1 else { panic!("refused") };
    assert_eq!((code.number, code.name.as_str()), (29, "TopicAuthorizationFailed"));
    assert_eq!(*fate, DeliveryFate::NotWritten);
    // The topic is in error from here on: the refusal comes from inside `try_send`.
    let refused = client.try_send(record("orders", None, Some(b"y")), Token(2));
    let Err(Refusal::Refused(code)) = refused else { panic!("{refused:?}") };
    assert_eq!(code.name, "TopicAuthorizationFailed");
    let refused = client.try_send(record("a\0b", None, None), Token(3));
    assert!(matches!(refused, Err(Refusal::Refused(_))), "{refused:?}");
    let too_large = vec![0; 2_000_000];
    let refused = client.try_send(record("other", None, Some(&too_large)), Token(4));
    let Err(Refusal::Refused(code)) = refused else { panic!("{refused:?}") };
    assert_eq!(code.name, "MessageSizeTooLarge");
    assert_eq!(client.outstanding(), 0);
}

/// L16: when another cluster answers at the addresses of a running client, the client must be made anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_turns_into_another_is_fatal() {
    let cluster = cluster("blue", 1).await;
    cluster.create_topic("orders", 1);
    let events = Recorder::new();
    let pairs = [("topic.metadata.refresh.interval.ms", "100")];
    let _client = connect(&factory(&pairs), &target(&cluster, "blue"), &["orders"], &events).await;
    cluster.with_state(|state| state.cluster_id = "green".into());
    let waiting = tokio::task::spawn_blocking(move || {
        events.wait("the client to die", |told| told.fatal.iter().any(|reason| reason.contains("green")));
    });
    waiting.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_own_hooks_still_work() {
    let cluster = cluster("blue", 1).await;
    let (statistics, logs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, logged) = (Arc::clone(&statistics), Arc::clone(&logs));
    let hooks = ClientHooks {
        on_statistics: Some(Arc::new(move |json| {
            assert!(json.starts_with(b"{"));
            seen.fetch_add(1, Ordering::SeqCst);
        })),
        on_log: Some(Arc::new(move |_, _, _| {
            logged.fetch_add(1, Ordering::SeqCst);
        })),
        ..ClientHooks::default()
    };
    let properties = properties(&[("statistics.interval.ms", "20"), ("debug", "broker")]);
    let factory = KafkaProducerFactory::new(BTreeMap::from([(Colour::Blue, properties)])).with_hooks(hooks);
    let _client = connect(&factory, &target(&cluster, "blue"), &[], &Recorder::new()).await;
    let both = async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while statistics.load(Ordering::SeqCst) == 0 || logs.load(Ordering::SeqCst) == 0 {
            tick.tick().await;
        }
    };
    tokio::time::timeout(BOUND, both).await.expect("both hooks were called");
}

/// L1: a callback that panics does not end the thread that hands over reports.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_users_hook_does_not_stop_the_reports() {
    let cluster = cluster("blue", 1).await;
    cluster.create_topic("orders", 1);
    let called = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&called);
    let hooks = ClientHooks {
        on_statistics: Some(Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            panic!("the service's own fault");
        })),
        ..ClientHooks::default()
    };
    let properties = properties(&[("statistics.interval.ms", "20")]);
    let factory = KafkaProducerFactory::new(BTreeMap::from([(Colour::Blue, properties)])).with_hooks(hooks);
    let client = connect(&factory, &target(&cluster, "blue"), &["orders"], &Recorder::new()).await;
    kutover_testkit::until("a second call", BOUND, || async {
        (called.load(Ordering::SeqCst) > 1).then_some(())
    })
    .await;
    client.try_send(record("orders", None, Some(b"x")), Token(1)).unwrap();
    assert!(flush(&client, BOUND).await);
}

/// Nothing of an older client is used again, least of all its producer id (L16).
#[tokio::test(flavor = "multi_thread")]
async fn a_new_client_is_made_every_time() {
    let cluster = cluster("blue", 1).await;
    let (one, two) = (Recorder::new(), Recorder::new());
    let factory = factory(&[]);
    let first = connect(&factory, &target(&cluster, "blue"), &[], &one).await;
    let second = connect(&factory, &target(&cluster, "blue"), &[], &two).await;
    let mut ids = Vec::new();
    for events in [&one, &two] {
        events.wait("the producer id", |told| {
            assert!(told.producer_ids.len() < 2);
            told.producer_ids.len() == 1
        });
        ids.push(events.told_producer_id());
    }
    assert_ne!(ids[0], ids[1], "each has a producer id of its own");
    drop((first, second));
}
