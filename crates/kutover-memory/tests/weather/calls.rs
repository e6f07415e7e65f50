//! Port calls and the journal.

use std::time::Duration;

use kutover_core::error::Outcome;
use kutover_core::ports::{ClusterAdmin as _, Journal as _, JournalEntry, NewTopic};
use kutover_core::words::Term;
use kutover_memory::*;
use tokio::time::{Instant, timeout};

use crate::Scene;

fn topic(name: &str) -> NewTopic {
    NewTopic { name: name.into(), partitions: 1, replication: 1, configs: [].into() }
}

fn entry(index: u64) -> JournalEntry {
    JournalEntry { index, term: Term(1), body: index.into() }
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_its_time() {
    let scene = Scene::new().await;
    let slow = CallWeather { before_ms: 700, after_ms: 800, fault: None };
    scene.script.calls.lock().push_back(("blue.create_topic", slow));
    let began = Instant::now();
    scene.blue.create_topic(&topic("u")).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_millis(1500));
    assert_eq!(scene.fired("call-slow"), 1);
}

/// L14: what was sent arrives, though its sender is dead.
#[tokio::test(start_paused = true)]
async fn a_call_lands_although_its_caller_is_gone() {
    let scene = Scene::new().await;
    let slow = CallWeather { before_ms: 700, after_ms: 800, fault: None };
    scene.script.calls.lock().push_back(("blue.raise_fence", slow));
    let topics = ["t".into()];
    assert!(timeout(Duration::from_millis(100), scene.blue.raise_fence(&topics)).await.is_err());
    assert!(scene.blue.fenced().is_empty());
    crate::pass(700).await;
    assert_eq!(scene.blue.fenced(), topics.into());
}

/// L20: an act that was given up as unknown lands after the next ones.
#[tokio::test(start_paused = true)]
async fn an_unknown_act_can_land_later() {
    let scene = Scene::new().await;
    let late = CallWeather { fault: Some(Fault::UnknownLate { after_ms: 5000 }), ..CallWeather::default() };
    scene.script.calls.lock().push_back(("blue.raise_fence", late));
    let topics = ["t".into()];
    assert_eq!(scene.blue.raise_fence(&topics).await.unwrap_err().outcome, Outcome::Unknown);
    scene.blue.lift_fence(&topics).await.unwrap();
    crate::pass(5001).await;
    assert_eq!(scene.blue.fenced(), topics.into());
    assert_eq!(scene.fired("call-unknown-late"), 1);
}

/// The contract's clause 3: what was cut off while being written is dropped by a reader, and its place is free.
#[tokio::test(start_paused = true)]
async fn an_append_that_did_not_return_leaves_what_the_weather_says() {
    for (left, at_once, later) in [
        (UnfinishedAppend::Lost, 1, 1),
        (UnfinishedAppend::Torn, 1, 1),
        (UnfinishedAppend::Whole, 2, 2),
        (UnfinishedAppend::Late { after_ms: 50 }, 1, 2),
    ] {
        let scene = Scene::new().await;
        let journal = &scene.world.journal;
        journal.append(&entry(0)).await.unwrap();
        *scene.script.unfinished.lock() = Some(left);
        let slow = CallWeather { before_ms: 500, ..CallWeather::default() };
        scene.script.calls.lock().push_back(("journal.append", slow));
        assert!(timeout(Duration::from_millis(100), journal.append(&entry(1))).await.is_err());
        assert_eq!(journal.read().await.unwrap().len(), at_once, "{left:?}");
        assert_eq!(journal.is_torn(), left == UnfinishedAppend::Torn);
        crate::pass(60).await;
        assert_eq!(journal.read().await.unwrap().len(), later, "{left:?}");
        journal.append(&entry(later as u64)).await.unwrap();
        assert!(!journal.is_torn(), "the next append takes the place of what was torn");
    }
}
