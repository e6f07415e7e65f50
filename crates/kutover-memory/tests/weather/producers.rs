//! Clients whose records travel by themselves.

use std::sync::Arc;

use kutover_core::decisions::separation::{self, Given};
use kutover_core::ports::{
    ClientEvents, ClusterAdmin as _, Delivery, DeliveryFate, HeadersRef, ProducerClient as _,
    ProducerIds as _, RecordRef, Refusal, Token,
};
use kutover_core::words::Colour;
use kutover_memory::*;
use kutover_testkit::conformance::producer::Collector;

use crate::{Scene, cluster, pass, payloads, place, record};

struct Sender {
    client: Arc<MemoryClient>,
    events: Arc<Collector>,
}

impl Sender {
    async fn new(scene: &Scene, options: ClientOptions) -> Self {
        let events = Arc::new(Collector::default());
        let factory = scene.world.factory().with_options(options);
        let told = Arc::clone(&events) as Arc<dyn ClientEvents>;
        let client = factory.connect_client(&scene.target().await, &["t".into()], told).await.unwrap();
        Self { client, events }
    }

    fn send(&self, number: u32, partition: i32) -> Result<(), Refusal> {
        let payload = number.to_string();
        let record = RecordRef {
            topic: "t",
            partition: Some(partition),
            key: None,
            payload: Some(payload.as_bytes()),
            timestamp_ms: 0,
            headers: HeadersRef::None,
        };
        self.client.try_send(record, Token::new(number, 0))
    }

    /// What was reported of a record: its offset, or its fate.
    fn report(&self, number: u32) -> Result<i64, DeliveryFate> {
        match &self.events.reports()[&Token::new(number, 0)][..] {
            [Delivery::Acknowledged { offset, .. }] => Ok(*offset),
            [Delivery::Failed { fate, record, .. }] => {
                assert_eq!(record.payload.as_deref(), Some(number.to_string().as_bytes()));
                Err(*fate)
            }
            reports => panic!("{reports:?}"),
        }
    }
}

fn singly() -> ClientOptions {
    ClientOptions { batch_records: 1, ..ClientOptions::default() }
}

fn fate(fate: RecordFate) -> RecordWeather {
    RecordWeather { reach_ms: 10, answer_ms: 10, fate }
}

/// L16, as measured on real Kafka: P's third and fourth record on green are acknowledged and thrown away as duplicates
/// of Q's. With the ids of green raised above blue's, all of them arrive.
#[tokio::test(start_paused = true)]
async fn a_producer_that_takes_its_id_along_loses_acknowledged_records() {
    for separated in [false, true] {
        let scene = Scene::new().await;
        let green = cluster(&scene.world, Colour::Green).await;
        let mut p = ForeignProducer::start(&scene.blue, singly());
        if separated {
            let newest = scene.blue.newest().await.unwrap();
            let blue = Given { cluster_id: scene.blue.cluster_id(), from: 0, newest };
            let mark = separation::mark(&green.cluster_id(), &[blue], 0).unwrap();
            while green.pass(mark).await.unwrap().values().any(|id| *id.as_ref().unwrap() < mark) {}
        }
        let mut q = ForeignProducer::start(&green, singly());
        for number in 0..5 {
            q.send(&place(0), record(&format!("Q{number}"))).await.unwrap();
        }
        for number in 0..3 {
            p.send(&place(0), record(&format!("P{number}"))).await.unwrap();
        }
        p.rebootstrap(&green);
        for number in 3..8 {
            p.send(&place(0), record(&format!("P{number}"))).await.unwrap();
        }
        let arrived =
            payloads(&green, 0).into_iter().filter(|text| text.starts_with('P')).collect::<Vec<_>>();
        let lost: Vec<_> = green
            .discarded(0)
            .iter()
            .map(|lost| String::from_utf8(lost.record.payload.clone().unwrap()).unwrap())
            .collect();
        if separated {
            assert_eq!(arrived, ["P3", "P4", "P5", "P6", "P7"]);
            assert!(lost.is_empty());
        } else {
            assert_eq!(arrived, ["P5", "P6", "P7"]);
            assert_eq!(lost, ["P3", "P4"]);
            assert_eq!(scene.fired("clash-discarded"), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_acknowledgement_is_made_good_by_a_repetition() {
    let scene = Scene::new().await;
    let sender = Sender::new(&scene, ClientOptions::default()).await;
    scene.script.records.lock().push_back(fate(RecordFate::AckLost));
    for number in 0..3 {
        sender.send(number, 0).unwrap();
    }
    assert_eq!(sender.client.outstanding(), 3);
    assert!(sender.client.settled(60_000).await);
    assert_eq!((0..3).map(|number| sender.report(number)).collect::<Vec<_>>(), [Ok(0), Ok(1), Ok(2)]);
    assert_eq!(payloads(&scene.blue, 0), ["0", "1", "2"], "once each");
    assert_eq!((scene.fired("record-ack-lost"), scene.fired("retry-deduplicated")), (1, 1));
    assert!(scene.blue.discarded(0).is_empty());
}

/// The client has given it up as unknown, and it lands all the same.
#[tokio::test(start_paused = true)]
async fn an_append_can_land_after_the_client_gave_up() {
    let scene = Scene::new().await;
    let sender = Sender::new(&scene, singly()).await;
    scene.script.records.lock().push_back(fate(RecordFate::LateAppend { after_ms: 60_000 }));
    for number in 0..2 {
        sender.send(number, 0).unwrap();
    }
    pass(100).await;
    sender.client.purge();
    assert_eq!(sender.client.outstanding(), 0);
    assert_eq!(sender.report(0), Err(DeliveryFate::Unknown), "it was tried");
    assert_eq!(sender.report(1), Err(DeliveryFate::NotWritten), "it never was");
    pass(60_000).await;
    assert_eq!(payloads(&scene.blue, 0), ["0"]);
    assert_eq!(scene.fired("record-late-append"), 1);
}

/// Once the partition knows the next epoch, what was given up cannot land behind it.
#[tokio::test(start_paused = true)]
async fn a_late_append_of_an_older_epoch_is_refused() {
    let scene = Scene::new().await;
    let sender = Sender::new(&scene, singly()).await;
    scene.script.records.lock().push_back(fate(RecordFate::LateAppend { after_ms: 60_000 }));
    sender.send(0, 0).unwrap();
    pass(100).await;
    sender.client.purge();
    sender.send(1, 0).unwrap();
    assert!(sender.client.settled(1000).await);
    pass(60_000).await;
    assert_eq!(payloads(&scene.blue, 0), ["1"]);
    assert_eq!(scene.fired("record-late-refused"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_cluster_keeps_records_until_their_time_is_over() {
    let scene = Scene::new().await;
    let sender = Sender::new(&scene, singly()).await;
    scene.blue.kill();
    sender.send(0, 0).unwrap();
    assert!(!sender.client.settled(29_000).await);
    sender.send(1, 0).unwrap();
    pass(2000).await;
    assert_eq!(sender.report(0), Err(DeliveryFate::NotWritten), "no connection, so never tried");
    scene.blue.revive();
    assert!(sender.client.settled(5000).await);
    assert_eq!(sender.report(1), Ok(0));
}

/// A leader's refusal comes by report first, and then from inside `try_send`, for all partitions of the topic.
#[tokio::test(start_paused = true)]
async fn a_fence_refuses_by_report_and_then_at_once() {
    let scene = Scene::new().await;
    *scene.script.fences_ms.lock() = vec![0, 60_000, 60_000];
    let sender = Sender::new(&scene, singly()).await;
    scene.blue.raise_fence(&["t".into()]).await.unwrap();
    let fenced = (0..3).find(|partition| scene.blue.leader_of(&place(*partition)) == Some(0)).unwrap();
    sender.send(0, fenced).unwrap();
    assert!(sender.client.settled(1000).await);
    assert_eq!(sender.report(0), Err(DeliveryFate::NotWritten));
    let other = (fenced + 1) % 3;
    let Err(Refusal::Refused(code)) = sender.send(1, other) else { panic!("taken") };
    assert_eq!(code.number, 29);
    pass(2000).await;
    sender.send(2, other).unwrap();
    assert!(sender.client.settled(1000).await);
    assert_eq!(sender.report(2), Ok(0));
}

#[tokio::test(start_paused = true)]
async fn one_broker_of_three_can_be_lost() {
    let scene = Scene::new().await;
    let sender = Sender::new(&scene, singly()).await;
    let broker = scene.blue.leader_of(&place(0)).unwrap();
    scene.blue.stop_broker(broker, Some(3000));
    for number in 0..3 {
        sender.send(number, number as i32).unwrap();
    }
    pass(1000).await;
    assert_eq!(sender.client.outstanding(), 1, "the other leaders answer");
    assert!(sender.client.settled(10_000).await);
    assert_ne!(scene.blue.leader_of(&place(0)), Some(broker));
    assert_eq!(scene.blue.ends(&["t".into()]).await.unwrap()[0].epoch, Some(1));
}

/// L1: what is queued in a client that is dropped is gone, and nobody is told.
#[tokio::test(start_paused = true)]
async fn a_dropped_client_loses_what_is_queued() {
    let scene = Scene::new().await;
    let Sender { client, events } = Sender::new(&scene, singly()).await;
    let sender = Sender { client, events: Arc::clone(&events) };
    for number in 0..3 {
        sender.send(number, 0).unwrap();
    }
    tokio::task::yield_now().await;
    drop(sender);
    pass(60_000).await;
    assert_eq!(payloads(&scene.blue, 0), ["0"], "one was on its way");
    assert!(events.reports().is_empty());
}

/// What a replica has not got is not acknowledged, and is not lost either.
#[tokio::test(start_paused = true)]
async fn a_held_watermark_acknowledges_nothing() {
    let scene = Scene::new().await;
    let sender = Sender::new(&scene, singly()).await;
    scene.blue.hold_watermark(&place(0));
    sender.send(0, 0).unwrap();
    assert!(!sender.client.settled(12_000).await);
    scene.blue.release_watermark(&place(0));
    assert!(sender.client.settled(6000).await);
    assert_eq!((sender.report(0), payloads(&scene.blue, 0).len()), (Ok(0), 1));
}

/// L15: with the leader's word alone, a replica that is behind and a leader that moves lose what was acknowledged; with
/// all in-sync replicas' word, the client sends it again.
#[tokio::test(start_paused = true)]
async fn a_leaders_word_alone_loses_acknowledged_records() {
    for (acks, there) in [("1", vec![]), ("all", vec!["0"])] {
        let scene = Scene::new().await;
        let options = singly().with_properties(&[("acks".to_owned(), acks.to_owned())].into());
        let sender = Sender::new(&scene, options).await;
        scene.blue.hold_watermark(&place(0));
        sender.send(0, 0).unwrap();
        pass(1000).await;
        scene.blue.move_leader(&place(0), 100);
        assert!(sender.client.settled(20_000).await);
        assert_eq!(sender.report(0), Ok(0));
        assert_eq!(payloads(&scene.blue, 0), there, "acks={acks}");
        assert_eq!(scene.blue.truncated().len(), 1);
    }
}

/// L15: nobody's word is worth nothing.
#[tokio::test(start_paused = true)]
async fn without_acknowledgements_a_refused_record_looks_sent() {
    let scene = Scene::new().await;
    let options = singly().with_properties(&[("acks".to_owned(), "0".to_owned())].into());
    let sender = Sender::new(&scene, options).await;
    scene.blue.raise_fence(&["t".into()]).await.unwrap();
    sender.send(0, 0).unwrap();
    assert!(sender.client.settled(1000).await);
    assert_eq!(sender.report(0), Ok(-1));
    pass(1000).await;
    assert!(payloads(&scene.blue, 0).is_empty());
}

/// L15: without sequences a repetition is another append.
#[tokio::test(start_paused = true)]
async fn without_idempotence_a_repetition_is_a_duplicate() {
    let scene = Scene::new().await;
    let options = ClientOptions { idempotent: false, ..singly() };
    let sender = Sender::new(&scene, options).await;
    scene.script.records.lock().push_back(fate(RecordFate::AckLost));
    sender.send(0, 0).unwrap();
    assert!(sender.client.settled(60_000).await);
    assert_eq!(payloads(&scene.blue, 0), ["0", "0"]);
}

/// The same answers of the weather give the same run, to the millisecond.
#[tokio::test(start_paused = true)]
async fn the_same_weather_gives_the_same_run() {
    async fn run() -> Vec<(u64, u64, String)> {
        let scene = Scene::new().await;
        *scene.script.fences_ms.lock() = vec![20, 700, 1500];
        let fates =
            [RecordFate::AckLost, RecordFate::Acknowledged, RecordFate::LateAppend { after_ms: 9000 }];
        let weather = (0..200_u64).map(|n| RecordWeather {
            reach_ms: n * 37 % 101,
            answer_ms: n * 53 % 97,
            fate: fates[(n * n % 7 % 3) as usize],
        });
        scene.script.records.lock().extend(weather);
        let mut senders = Vec::new();
        for _ in 0..20 {
            senders.push(Sender::new(&scene, ClientOptions::default()).await);
        }
        for number in 0..100 {
            for sender in &senders {
                // A refusal is part of the run too.
                let _ = sender.send(number, number as i32 % 3);
            }
            pass(u64::from(number)).await;
            if number == 60 {
                scene.blue.raise_fence(&["t".into()]).await.unwrap();
            }
        }
        for sender in &senders {
            sender.client.settled(120_000).await;
        }
        let payload = |append: &Append| String::from_utf8(append.record.payload.clone().unwrap()).unwrap();
        scene.blue.appends(0).iter().map(|append| (append.sequence, append.at_ms, payload(append))).collect()
    }
    let first = run().await;
    assert!(first.len() > 100, "{}", first.len());
    assert_eq!(first, run().await);
}
