//! What several producers of one process count, as a recorder sees it. A program of its own: a recorder is the process's.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kutover_producer::FutureRecord;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use support::{BOUND, TOPIC, World};

/// Counters by name and labels.
#[derive(Clone, Default)]
struct Counters(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Counters {
    fn of(&self, name: &str) -> Arc<AtomicU64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(name.to_owned()).or_default())
    }

    fn acknowledged(&self, instance: &str) -> u64 {
        let name = format!("kutover_producer_acknowledged_total deployment=orders instance={instance}");
        self.of(&name).load(Ordering::SeqCst)
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<String> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Counter::from_arc(self.of(&format!("{} {}", key.name(), labels.join(" "))))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Each by its own name; and one that is made anew goes on where the one before it ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_of_one_process_count_apart() {
    let counters = Counters::default();
    assert!(metrics::set_global_recorder(counters.clone()).is_ok(), "nobody else records here");
    let world = World::start(1).await;
    let send = async |instance: &str, records: usize| {
        let producer = world.builder().instance(instance).build().await.expect("it starts");
        for _ in 0..records {
            producer.send(FutureRecord::to(TOPIC).key("k").payload("v"), BOUND).await.expect("written");
        }
        producer
    };
    let both = (send("a", 10).await, send("b", 20).await);
    both.0.close().await;
    both.1.close().await;
    send("a", 5).await.close().await;
    assert_eq!((counters.acknowledged("a"), counters.acknowledged("b")), (15, 20));
}
