//! Switches of a real producer between two embedded clusters, counted in both logs.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kutover_core::messages::ControlBody;
use kutover_core::words::Colour;
use kutover_dns::{Fault as DnsFault, Scope};
use kutover_lab::embedded::{ApiKey, Fault, Harm};
use kutover_producer::{
    BlueGreenProducer, BuildError, Fate, FutureRecord, Header, Order, OwnedHeaders, ProducerEvent, Report,
    Waiver,
};
use rdkafka::message::Message;
use support::{BOUND, TOPIC, World, on_generation, report_until, until};

/// Sends numbered records of several keys, awaiting each window, until told to stop. Gives each record's fate.
struct Load {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<BTreeMap<String, Result<(), Fate>>>,
}

impl Load {
    fn start(producer: &BlueGreenProducer) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (producer, stopped) = (producer.clone(), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut fates = BTreeMap::new();
            let mut number = 0_u64;
            while !stopped.load(Ordering::SeqCst) {
                let mut window = Vec::new();
                for _ in 0..50 {
                    let (key, payload) = (format!("k{}", number % 7), format!("k{}:{number:08}", number % 7));
                    number += 1;
                    let future = loop {
                        let record = FutureRecord::to(TOPIC).key(&key).payload(&payload);
                        match producer.send_result(record) {
                            Ok(future) => break future,
                            Err(_) => tokio::task::yield_now().await,
                        }
                    };
                    window.push((payload, future));
                }
                for (payload, future) in window {
                    let fate = future.await.map(drop).map_err(|error| error.fate());
                    fates.insert(payload, fate);
                }
            }
            fates
        });
        Self { stop, task }
    }

    async fn stop(self) -> BTreeMap<String, Result<(), Fate>> {
        self.stop.store(true, Ordering::SeqCst);
        tokio::time::timeout(BOUND, self.task).await.expect("the load ends").expect("it does not panic")
    }
}

/// Sets each record's fate against both logs: nothing acknowledged is missing, nothing not written is there, nothing is
/// there twice, and each key's numbers go up along blue and then green.
fn audit(fates: &BTreeMap<String, Result<(), Fate>>, logged: &[String]) {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    for payload in logged {
        *times.entry(payload).or_default() += 1;
        let (key, number) = payload.split_once(':').expect("key and number");
        let before = last.insert(key, number);
        assert!(before.is_none_or(|before| before < number), "{key}: {before:?} before {number}");
    }
    for (payload, fate) in fates {
        let times = times.get(payload.as_str()).copied().unwrap_or(0);
        match fate {
            Ok(()) => assert_eq!(times, 1, "acknowledged record {payload}"),
            Err(Fate::NotWritten) => assert_eq!(times, 0, "record {payload}, returned as not written"),
            Err(Fate::Unknown) => assert!(times <= 1, "record {payload} of unknown fate"),
        }
    }
}

/// L1, L2, G1, G3: a switch under load, there and back and there again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switches_under_load_lose_nothing_and_keep_order() {
    let world = World::start(4).await;
    let producer = world.producer().await;
    let load = Load::start(&producer);
    report_until(&producer, "traffic on blue", |report| report.acknowledged > 500).await;
    world.announce(2, Colour::Green).await;
    report_until(&producer, "the switch", |report| report.switches.len() == 1).await;
    let so_far = producer.report().acknowledged;
    report_until(&producer, "traffic on green", |report| report.acknowledged > so_far + 500).await;
    let fates = load.stop().await;
    assert!(fates.values().all(Result::is_ok), "every cluster answered");
    let logged = world.payloads().await;
    assert_eq!(logged.len(), fates.len());
    audit(&fates, &logged);
    assert!(!world.read(Colour::Green).await.is_empty());

    let report = producer.report();
    assert_eq!(report.possibly_duplicated, 0);
    assert_eq!(report.cluster_id, world.green.cluster_id());
    let member = until("the receipt", || async {
        world.member(Colour::Green).await.filter(|member| !member.receipts.is_empty())
    })
    .await;
    let receipt = &member.receipts[0];
    assert_eq!((&receipt.from, &receipt.to), (&world.blue.cluster_id(), &world.green.cluster_id()));
    assert_eq!(receipt.acknowledged, world.read(Colour::Blue).await.len() as u64);
    assert!(!receipt.producer_ids.is_empty());
    producer.close().await;
    for colour in Colour::BOTH {
        assert!(
            world.member(colour).await.is_none(),
            "a tombstone says that it ended, and is not late on {colour}"
        );
    }
}

/// Key, payload, headers, timestamp and the caller's own partition survive a hand-over; null and empty stay apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_survives_a_hand_over() {
    let world = World::start(4).await;
    let producer = world.producer().await;
    // Blue refuses what arrives, so every record goes through the park.
    world.fence(Colour::Blue).await;
    let headers = OwnedHeaders::new()
        .insert(Header { key: "a", value: Some("1") })
        .insert(Header { key: "a", value: Some("") })
        .insert(Header { key: "b", value: None::<&str> });
    let full = FutureRecord::to(TOPIC).key("k").payload("p").partition(3).timestamp(1_234).headers(headers);
    let nulls: FutureRecord<'_, str, str> = FutureRecord::to(TOPIC).partition(2).timestamp(5);
    let empties = FutureRecord::to(TOPIC).key("").payload("").partition(1);
    let futures = [
        producer.send_result(full).expect("accepted"),
        producer.send_result(nulls).expect("accepted"),
        producer.send_result(empties).expect("accepted"),
    ];
    until("the seal", || async { (producer.in_flight_count() == 3).then_some(()) }).await;
    world.announce(2, Colour::Green).await;
    for future in futures {
        tokio::time::timeout(BOUND, future).await.expect("in time").expect("handed over");
    }
    assert!(world.read(Colour::Blue).await.is_empty());
    let mut logged = world.read(Colour::Green).await;
    logged.sort_by_key(|record| record.partition);
    let [empties, nulls, full] = &logged[..] else { panic!("{logged:?}") };
    assert_eq!((empties.key.as_deref(), empties.payload.as_deref()), (Some(&[][..]), Some(&[][..])));
    assert!(empties.timestamp_ms.is_some_and(|time| time > 1_600_000_000_000), "stamped at acceptance");
    assert_eq!((nulls.partition, &nulls.key, &nulls.payload), (2, &None, &None));
    assert_eq!(nulls.timestamp_ms, Some(5));
    assert_eq!((full.partition, full.timestamp_ms), (3, Some(1_234)));
    let header =
        |key: &str, value: Option<&str>| (key.to_owned(), value.map(|text| text.as_bytes().to_vec()));
    assert_eq!(full.headers, [header("a", Some("1")), header("a", Some("")), header("b", None)]);
}

/// L3, L8: a fence in the middle of the load. What blue refused goes to green, in order, and nothing is returned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_under_load_hands_its_refusals_over() {
    let world = World::start(4).await;
    let producer = world.producer().await;
    let load = Load::start(&producer);
    report_until(&producer, "traffic on blue", |report| report.acknowledged > 300).await;
    world.fence(Colour::Blue).await;
    world.announce(2, Colour::Green).await;
    report_until(&producer, "the switch", |report| report.switches.len() == 1).await;
    let so_far = producer.report().acknowledged;
    report_until(&producer, "traffic on green", |report| report.acknowledged > so_far + 300).await;
    let fates = load.stop().await;
    audit(&fates, &world.payloads().await);
    assert!(fates.values().all(Result::is_ok), "the fence's refusals say `not written`");
}

/// A refusal that no fence or intent explains goes back to the caller, with the cluster's own error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unexplained_refusal_is_returned() {
    let world = World::start(1).await;
    let producer = world.producer().await;
    world.blue.inject(Fault::new(
        ApiKey::Produce,
        Harm::Error(kutover_lab::embedded::ErrorCode::TopicAuthorizationFailed),
    ));
    let sent = producer.send(FutureRecord::to(TOPIC).key("k").payload("p"), Duration::from_secs(5));
    let error = tokio::time::timeout(BOUND, sent).await.expect("in time").expect_err("refused");
    assert_eq!(error.fate(), Fate::NotWritten);
    assert_eq!(
        error.error().rdkafka_error_code(),
        Some(rdkafka::types::RDKafkaErrorCode::TopicAuthorizationFailed)
    );
    assert_eq!(error.message().payload(), Some(&b"p"[..]));
    assert!(producer.report().switches.is_empty());
}

/// The old cluster dies in the middle of the seal: its rest is purged, unknown records are returned as unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_dies_in_the_seal_loses_nothing() {
    let world = World::start(2).await;
    let policy = kutover_producer::SwitchPolicy { purge_ms: 1_500, seal_ms: 700, ..Default::default() };
    let producer = world.builder().policy(policy).build().await.expect("it starts");
    for number in 0..20 {
        let payload = format!("k:{number:08}");
        producer.send(FutureRecord::to(TOPIC).key("k").payload(&payload), BOUND).await.expect("blue answers");
    }
    // From here on blue takes records and never says so.
    world.blue.inject(Fault::new(ApiKey::Produce, Harm::Silence));
    let payloads: Vec<String> = (20..40).map(|number| format!("k:{number:08}")).collect();
    let futures: Vec<_> = payloads
        .iter()
        .map(|payload| {
            producer.send_result(FutureRecord::to(TOPIC).key("k").payload(payload)).expect("accepted")
        })
        .collect();
    world.announce(2, Colour::Green).await;
    let mut fates: BTreeMap<String, Result<(), Fate>> =
        (0..20).map(|n| (format!("k:{n:08}"), Ok(()))).collect();
    for (payload, future) in payloads.into_iter().zip(futures) {
        let fate = tokio::time::timeout(BOUND, future).await.expect("each record ends");
        fates.insert(payload, fate.map(drop).map_err(|error| error.fate()));
    }
    on_generation(&producer, 2).await;
    audit(&fates, &world.payloads().await);
    let report = producer.report();
    assert_eq!(report.acknowledged + report.returned_not_written + report.returned_unknown, report.accepted);
}

/// A dropped future changes nothing for its record; one that must be returned goes to a counted event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_futures_are_settled_all_the_same() {
    let world = World::start(1).await;
    let producer = world.producer().await;
    world.fence(Colour::Blue).await;
    for number in 0..10 {
        drop(producer.send_result(FutureRecord::to(TOPIC).key("k").payload(&format!("k:{number:08}"))));
    }
    world.announce(2, Colour::Green).await;
    on_generation(&producer, 2).await;
    assert_eq!(world.payloads().await.len(), 10);

    let sent = producer.send(FutureRecord::to("no-such-topic").key("k").payload("again"), BOUND);
    let error = tokio::time::timeout(BOUND, sent).await.expect("in time").expect_err("no such topic");
    assert_eq!(error.fate(), Fate::NotWritten);
}

/// G1: what comes back when nobody waits for it any more is told by an event, and counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_to_nobody_is_told_and_counted() {
    let world = World::start(1).await;
    let producer =
        world.builder().close_timeout(Duration::from_millis(100)).build().await.expect("it starts");
    let (mut events, told) = (producer.events(), producer.clone());
    world.fence(Colour::Blue).await;
    let target = told.report();
    drop(producer.send_result(FutureRecord::to(TOPIC).key("k").payload("nowhere to go")).expect("accepted"));
    producer.close().await;
    let returned = async {
        loop {
            let event = events.next().await.expect("it is told before the end");
            if let ProducerEvent::Returned(error) = &*event {
                return error.message().payload().map(<[u8]>::to_vec);
            }
        }
    };
    let payload = tokio::time::timeout(BOUND, returned).await.expect("an event comes");
    assert_eq!(payload.as_deref(), Some(&b"nowhere to go"[..]));
    let report = told.report();
    assert_eq!((report.returned_unclaimed, report.acknowledged), (1, 0));
    // Where it was stays told.
    let place = |report: &Report| (report.generation, report.colour, report.cluster_id.clone());
    assert_eq!(place(&report), place(&target));
}

/// A synchronous flush on a runtime's only thread covers parked records and cannot deadlock.
#[tokio::test]
async fn a_synchronous_flush_covers_parked_records() {
    let world = World::start(1).await;
    let producer = world.producer().await;
    world.fence(Colour::Blue).await;
    let future = producer.send_result(FutureRecord::to(TOPIC).key("k").payload("k:1")).expect("accepted");
    assert!(producer.flush(Duration::from_millis(200)).is_err(), "nowhere to go yet");
    assert_eq!(producer.in_flight_count(), 1);
    world.announce(2, Colour::Green).await;
    producer.flush(BOUND).expect("the parked record is settled");
    assert!(future.await.is_ok());
    assert_eq!(world.payloads().await, ["k:1"]);
}

/// What may be parked is bounded: `send_result` gives the record back, `send` waits for room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_park_makes_senders_wait() {
    let world = World::start(1).await;
    let producer = world.builder().park_bytes(2_000).build().await.expect("it starts");
    // Who starts while the members topic is slow starts without it, and hears of no fence yet.
    until("the registration", || world.member(Colour::Blue)).await;
    world.fence(Colour::Blue).await;
    let text = "x".repeat(500);
    let mut parked = Vec::new();
    // Blue takes records until its first refusal has closed the gate; from then on they are parked.
    let (error, back) = loop {
        match producer.send_result(FutureRecord::to(TOPIC).key("k").payload(&text)) {
            Ok(future) => parked.push(future),
            Err(refused) => break refused,
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(error.rdkafka_error_code(), Some(rdkafka::types::RDKafkaErrorCode::QueueFull));
    assert_eq!(back.payload.map(String::as_str), Some(text.as_str()));
    let waiting = producer.send(FutureRecord::to(TOPIC).key("k").payload(&text), Duration::from_millis(50));
    let error = tokio::time::timeout(BOUND, waiting).await.expect("in time").expect_err("no room in time");
    assert_eq!(error.fate(), Fate::NotWritten);
    let waiting = producer.send(FutureRecord::to(TOPIC).key("k").payload(&text), BOUND);
    let (sent, ()) = tokio::join!(waiting, world.announce(2, Colour::Green));
    sent.expect("room came with green");
    let count = parked.len() + 1;
    for future in parked {
        tokio::time::timeout(BOUND, future).await.expect("in time").expect("handed over");
    }
    assert_eq!(world.read(Colour::Green).await.len(), count);
}

/// Sends from inside the waker that tells of an end, as an executor that polls at once does.
struct SendsAtOnce {
    producer: BlueGreenProducer,
    sent: AtomicBool,
}

impl std::task::Wake for SendsAtOnce {
    fn wake(self: Arc<Self>) {
        let sent = self.producer.send_result(FutureRecord::to(TOPIC).key("k").payload("from the waker"));
        assert!(sent.is_ok());
        self.sent.store(true, Ordering::SeqCst);
    }
}

/// Green refuses a record for its size while blue's fence is announced: that is no fence of green's, the record goes back
/// to its caller, and its waker may send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_green_cannot_take_goes_back_and_its_waker_may_send() {
    let world = World::start(1).await;
    let small = [("client.id", "app"), ("message.max.bytes", "1000")];
    let producer = world.builder().cluster(Colour::Green, small).build().await.expect("it starts");
    world.fence(Colour::Blue).await;
    let large = "x".repeat(5_000);
    let record = FutureRecord::to(TOPIC).key("k").payload(&large);
    let mut future = std::pin::pin!(producer.send_result(record).expect("accepted"));
    let sender = Arc::new(SendsAtOnce { producer: producer.clone(), sent: AtomicBool::new(false) });
    let waker = std::task::Waker::from(Arc::clone(&sender));
    assert!(future.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    world.announce(2, Colour::Green).await;
    until("the waker", || async { sender.sent.load(Ordering::SeqCst).then_some(()) }).await;
    let error = tokio::time::timeout(BOUND, future).await.expect("in time").expect_err("too large for green");
    assert_eq!(error.fate(), Fate::NotWritten);
    assert_eq!(
        error.error().rdkafka_error_code(),
        Some(rdkafka::types::RDKafkaErrorCode::MessageSizeTooLarge)
    );
    on_generation(&producer, 2).await;
    assert_eq!(world.payloads().await, ["from the waker"]);
}

/// No control topic at all: the owner record alone moves the producer, and no answer but a newer one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dns_alone_moves_a_producer_without_links() {
    let world = World::start(1).await;
    let producer = world.builder().without_links().build().await.expect("it starts");
    let mut events = producer.events();
    // What control says is not read.
    world.say(Colour::Blue, ControlBody::Announce { target: world.target(9, Colour::Green) }).await;
    let load = Load::start(&producer);
    for fault in [DnsFault::ServFail, DnsFault::NoData, DnsFault::NxDomain] {
        world.dns.faults().set(Scope::Everything, fault);
        let trouble = async {
            while !matches!(&*events.next().await.expect("the producer lives"), ProducerEvent::DnsTrouble(_))
            {
            }
        };
        tokio::time::timeout(BOUND, trouble).await.expect("the trouble is told");
        assert_eq!(producer.report().generation.0, 1);
    }
    world.dns.faults().heal();
    world.publish(3, Colour::Green).await;
    report_until(&producer, "generation 3", |report| report.generation.0 == 3).await;
    // An older answer, as a stale secondary gives it, more than once.
    world.publish(2, Colour::Blue).await;
    let asked = || world.dns.faults().queries().total();
    let before = asked();
    until("the stale answer", || async { (asked() > before + 9).then_some(()) }).await;
    assert_eq!(producer.report().generation.0, 3);
    world.publish(4, Colour::Blue).await;
    report_until(&producer, "generation 4", |report| report.generation.0 == 4).await;
    let fates = load.stop().await;
    assert!(fates.values().all(Result::is_ok));
    let report = producer.report();
    assert_eq!(report.switches.len(), 2);
    assert!(!report.receipt_told);
    assert_eq!(world.payloads().await.len(), fates.len());
    assert!(world.member(Colour::Green).await.is_none() && world.member(Colour::Blue).await.is_none());
}

/// L5: green that has blue's cluster id is refused, and the producer says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_id_is_refused() {
    let world = World::start(1).await;
    let producer = world.producer().await;
    let mut events = producer.events();
    let mut target = world.target(2, Colour::Green);
    target.bootstrap = world.target(1, Colour::Blue).bootstrap;
    world.say(Colour::Blue, ControlBody::Announce { target }).await;
    let refused = async {
        loop {
            let event = events.next().await.expect("the producer lives");
            if let ProducerEvent::Switch(kutover_producer::SwitchEvent::CandidateFailed { reason, .. }) =
                &*event
            {
                return reason.clone();
            }
        }
    };
    let reason = tokio::time::timeout(BOUND, refused).await.expect("the refusal is told");
    assert!(reason.contains(world.blue.cluster_id().as_str()), "{reason}");
    producer.send(FutureRecord::to(TOPIC).key("k").payload("p"), BOUND).await.expect("blue serves on");
}

/// `Overlap`: nobody waits, nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlap_loses_nothing() {
    let world = World::start(4).await;
    let producer = world.builder().order(Order::Overlap).build().await.expect("it starts");
    let load = Load::start(&producer);
    report_until(&producer, "traffic on blue", |report| report.acknowledged > 300).await;
    world.announce(2, Colour::Green).await;
    report_until(&producer, "the switch", |report| report.switches.len() == 1).await;
    let fates = load.stop().await;
    let logged = world.payloads().await;
    assert!(fates.values().all(Result::is_ok));
    assert_eq!(logged.len(), fates.len());
}

/// The last clone is dropped with records queued: they are delivered all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_producer_settles_what_was_accepted() {
    let world = World::start(1).await;
    let producer = world.producer().await;
    let futures: Vec<_> = (0..100)
        .map(|number| {
            let payload = format!("k:{number:08}");
            producer.send_result(FutureRecord::to(TOPIC).key("k").payload(&payload)).expect("accepted")
        })
        .collect();
    drop(producer);
    for future in futures {
        tokio::time::timeout(BOUND, future).await.expect("in time").expect("delivered");
    }
    assert_eq!(world.read(Colour::Blue).await.len(), 100);
}

/// What is missing or wrong is named.
#[tokio::test]
async fn a_builder_names_what_is_wrong() {
    let missing = BlueGreenProducer::builder().build().await.expect_err("no deployment");
    assert_eq!(missing.to_string(), "`deployment` is missing: name the deployment, as its owner record does");
    let world = World::start(1).await;
    let weak = world.builder().cluster(Colour::Green, [("acks", "1")]);
    let Err(BuildError::Property(Colour::Green, error)) = weak.clone().build().await else {
        panic!("weak acks are refused (L15)")
    };
    assert_eq!(error.property, "acks");
    let waived = weak.cluster(Colour::Blue, [("acks", "1")]).waive(Waiver::WeakAcks).build().await;
    waived.expect("waived by name").close().await;
    let short = kutover_producer::SwitchPolicy { start_ms: 300, ..Default::default() };
    let other = world.builder().deployment("payments").policy(short).build().await;
    assert!(
        matches!(other, Err(BuildError::NotStarted { .. })),
        "another deployment's owner record moves nobody"
    );
}
