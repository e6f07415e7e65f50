//! What fails while a producer is sealed, with `Overlap`, which sends records of unknown fate again; and what waits too long.

mod support;

use kutover_core::words::Colour;
use kutover_lab::embedded::{ApiKey, ErrorCode, Fault, Harm};
use kutover_producer::{Fate, FutureRecord, Order, Report, SwitchPolicy};
use rdkafka::types::RDKafkaErrorCode;
use support::{BOUND, TOPIC, World, on_generation, until};

const SENT: usize = 20;

/// Blue writes everything and never says so; the producer moves to green. Gives each record's fate, what the producer says
/// of it, and how many records stand on blue and green.
async fn fates_of_unanswered(green: Option<Fault>) -> (Vec<Result<(), Fate>>, Report, [usize; 2]) {
    let world = World::start(2).await;
    let policy = SwitchPolicy { purge_ms: 1_500, seal_ms: 700, ..SwitchPolicy::default() };
    let producer = world.builder().policy(policy).order(Order::Overlap).build().await.expect("it starts");
    world.blue.inject(Fault::new(ApiKey::Produce, Harm::ApplyThenDisconnect));
    let futures: Vec<_> = (0..SENT)
        .map(|number| {
            let payload = format!("k:{number:08}");
            producer.send_result(FutureRecord::to(TOPIC).key("k").payload(&payload)).expect("accepted")
        })
        .collect();
    until("blue has written them all", || async {
        (world.read(Colour::Blue).await.len() == SENT).then_some(())
    })
    .await;
    green.into_iter().for_each(|fault| world.green.inject(fault));
    world.announce(2, Colour::Green).await;
    let mut fates = Vec::new();
    for future in futures {
        let fate = tokio::time::timeout(BOUND, future).await.expect("each record ends");
        fates.push(fate.map(drop).map_err(|returned| returned.fate()));
    }
    on_generation(&producer, 2).await;
    world.green.clear_faults();
    let there = [world.read(Colour::Blue).await.len(), world.read(Colour::Green).await.len()];
    (fates, producer.report(), there)
}

/// L3, G2: they are handed over, stand twice, and every one of them was counted as possibly so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_in_the_seal_is_sent_again_and_counted() {
    let (fates, report, there) = fates_of_unanswered(None).await;
    assert!(fates.iter().all(Result::is_ok), "{fates:?}");
    assert_eq!((report.possibly_duplicated, there), (SENT as u64, [SENT, SENT]));
}

/// G1: green refuses them, but they stand on blue, so that none may come back as not written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_unknown_once_is_never_returned_as_not_written() {
    let refusal = Fault::new(ApiKey::Produce, Harm::Error(ErrorCode::InvalidRecord));
    let (fates, report, there) = fates_of_unanswered(Some(refusal)).await;
    assert!(fates.iter().all(|fate| *fate == Err(Fate::Unknown)), "{fates:?}");
    assert_eq!((report.returned_not_written, report.returned_unknown, there), (0, SENT as u64, [SENT, 0]));
}

/// G1, G7: a fence is announced and nobody says where to go: what waits behind it comes back when its delivery timeout has
/// ended, as not written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_longer_than_its_delivery_timeout_comes_back() {
    let world = World::start(1).await;
    let timeout = [("message.timeout.ms", "2000"), ("linger.ms", "1")];
    let builder = world.builder().cluster(Colour::Blue, timeout).cluster(Colour::Green, timeout);
    let producer = builder.build().await.expect("it starts");
    // Who starts while the members topic is slow starts without it, and hears of no fence yet.
    until("the registration", || world.member(Colour::Blue)).await;
    let first = producer.send(FutureRecord::to(TOPIC).key("k").payload("before"), BOUND);
    first.await.expect("blue answers");
    world.fence(Colour::Blue).await;
    let futures: Vec<_> = (0..3)
        .map(|_| producer.send_result(FutureRecord::to(TOPIC).key("k").payload("p")).expect("accepted"))
        .collect();
    for future in futures {
        let ended = tokio::time::timeout(BOUND, future).await.expect("each record ends");
        let returned = ended.expect_err("nobody took it");
        let code = returned.error().rdkafka_error_code();
        assert_eq!((returned.fate(), code), (Fate::NotWritten, Some(RDKafkaErrorCode::MessageTimedOut)));
    }
}
