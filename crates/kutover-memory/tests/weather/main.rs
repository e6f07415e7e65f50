//! What the world does by itself when it has weather.

mod calls;
mod clusters;
mod names;
mod producers;

use std::collections::VecDeque;
use std::sync::Arc;

use kutover_core::owner::Target;
use kutover_core::ports::ClusterProvisioner as _;
use kutover_core::words::{ClusterId, Colour, DnsName, Generation, TopicPartition};
use kutover_memory::*;
use parking_lot::Mutex;

/// Answers from lists, then calmly.
#[derive(Debug, Default)]
struct Script {
    calls: Mutex<VecDeque<(&'static str, CallWeather)>>,
    records: Mutex<VecDeque<RecordWeather>>,
    answers: Mutex<VecDeque<(DnsName, AnswerWeather)>>,
    fences_ms: Mutex<Vec<u64>>,
    visible_ms: Mutex<u64>,
    unfinished: Mutex<Option<UnfinishedAppend>>,
}

impl Weather for Script {
    fn call(&self, name: &str) -> CallWeather {
        let mut calls = self.calls.lock();
        let next = calls.iter().position(|(of, _)| *of == name);
        next.and_then(|next| calls.remove(next)).map(|(_, call)| call).unwrap_or_default()
    }

    fn record(&self, _: &ClusterId, _: &TopicPartition) -> RecordWeather {
        self.records.lock().pop_front().unwrap_or(RecordWeather {
            reach_ms: 1,
            answer_ms: 1,
            ..Default::default()
        })
    }

    fn fence_ms(&self, _: &ClusterId, broker: i32) -> u64 {
        self.fences_ms.lock().get(broker as usize).copied().unwrap_or(0)
    }

    fn visible_ms(&self, _: &DnsName) -> u64 {
        *self.visible_ms.lock()
    }

    fn answer(&self, _: &str, name: &DnsName) -> AnswerWeather {
        let mut answers = self.answers.lock();
        let next = answers.iter().position(|(of, _)| of == name);
        next.and_then(|next| answers.remove(next)).map(|(_, answer)| answer).unwrap_or_default()
    }

    fn unfinished_append(&self) -> UnfinishedAppend {
        self.unfinished.lock().unwrap_or(UnfinishedAppend::Lost)
    }
}

struct Scene {
    world: MemoryWorld,
    script: Arc<Script>,
    blue: MemoryCluster,
}

impl Scene {
    async fn new() -> Self {
        let script = Arc::new(Script::default());
        let world = MemoryWorld::with_weather(Arc::clone(&script) as Arc<dyn Weather>);
        let blue = cluster(&world, Colour::Blue).await;
        Self { world, script, blue }
    }

    fn fired(&self, kind: &str) -> u64 {
        self.world.fired().get(kind).copied().unwrap_or(0)
    }

    async fn target(&self) -> Target {
        let described = self.world.provisioner.describe(Colour::Blue).await.unwrap().unwrap();
        Target {
            generation: Generation(1),
            colour: Colour::Blue,
            cluster_id: self.blue.cluster_id(),
            bootstrap: described.bootstrap,
        }
    }
}

async fn cluster(world: &MemoryWorld, colour: Colour) -> MemoryCluster {
    world.provisioner.provision(colour, &colour.as_str().into()).await.unwrap();
    let cluster = world.cluster(colour).unwrap();
    cluster.add_topic("t", 3);
    cluster
}

fn place(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn record(payload: &str) -> StoredRecord {
    StoredRecord { payload: Some(payload.into()), ..StoredRecord::default() }
}

fn payloads(cluster: &MemoryCluster, partition: i32) -> Vec<String> {
    let log = cluster.log(&place(partition), kutover_core::words::Offset(0));
    let text = |record: StoredRecord| String::from_utf8(record.payload.unwrap_or_default()).unwrap();
    log.into_iter().map(|(_, record)| text(record)).collect()
}

/// Lets virtual time pass: nothing comes within it.
async fn pass(ms: u64) {
    let nothing = std::future::pending::<()>();
    let _ = tokio::time::timeout(std::time::Duration::from_millis(ms), nothing).await;
}

/// A run that asks for a kind that the world never counts would fail for ever, and one left out would go unasked.
#[test]
fn the_kinds_are_those_that_the_source_counts() {
    let source = [
        include_str!("../../src/cluster.rs"),
        include_str!("../../src/cluster/brokers.rs"),
        include_str!("../../src/cluster/fences.rs"),
        include_str!("../../src/cluster/groups.rs"),
        include_str!("../../src/cluster/log.rs"),
        include_str!("../../src/cluster/reader.rs"),
        include_str!("../../src/cluster/transactions.rs"),
        include_str!("../../src/dns.rs"),
        include_str!("../../src/faults.rs"),
        include_str!("../../src/journal.rs"),
        include_str!("../../src/producer/attempt.rs"),
        include_str!("../../src/producer/foreign.rs"),
        include_str!("../../src/resolver.rs"),
    ];
    let literals: std::collections::BTreeSet<_> = source.iter().flat_map(|text| text.split('"')).collect();
    for kind in FAULT_KINDS {
        assert!(literals.contains(kind), "{kind} is never counted");
    }
    let fired = source.iter().flat_map(|text| text.split("fire(\"").skip(1));
    for kind in fired.filter_map(|rest| rest.split('"').next()) {
        assert!(FAULT_KINDS.contains(&kind), "{kind} is not listed");
    }
    assert!(FAULT_KINDS.is_sorted());
}
