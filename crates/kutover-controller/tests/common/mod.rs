//! A world in memory and a controller in it.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod zones;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kutover_controller::config::Config;
use kutover_controller::driver::{
    Backends, ClusterConnector, ClusterLinks, Controller, DriveError, Finished,
};
use kutover_core::cutover::Event;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{ClusterProvisioner as _, Incarnation};
use kutover_core::words::{Colour, GroupId, Nonce, TopicPartition};
use kutover_memory::{MemoryCluster, MemoryWorld};
use tokio::sync::mpsc;

pub const CONFIG: &str = r#"
deployment = "orders"
journal = "unused.journal"
endpoints = [{ name = "kafka.orders.test", port = 9092 }]

[dns]
kind = "local"
zone = "orders.test"
listen = "127.0.0.1:5353"
ttl_s = 30

[clusters.blue.provisioner]
kind = "static"
bootstrap = ["127.0.0.1:9092"]
endpoint = { addresses = ["127.0.0.1"] }

[clusters.green.provisioner]
kind = "static"
bootstrap = ["127.0.0.2:9092"]
endpoint = { addresses = ["127.0.0.2"] }

[plan]
ttl = "1s"
groups = ["billing"]
waive_history = "*"
soak = "2s"
drain_poll = "100ms"
converge_deadline = "5s"
command_timeout = "5s"
hold_limit = "60s"
separation_head_room = 1000
raise_retention = "*"
"#;

/// What topic `orders` keeps.
pub const RETENTION_MS: &str = "3600000";

/// That what was raised is restored: topic `orders` has the one config that its users have set.
pub fn assert_restored(cluster: &MemoryCluster, about: &str) {
    let own = [("retention.ms".to_owned(), RETENTION_MS.to_owned())];
    assert_eq!(cluster.configs_of("orders"), own.into(), "{about}: of cluster {}", cluster.cluster_id());
}

pub fn group() -> GroupId {
    GroupId::new("billing")
}

pub fn place(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

/// All that a controller reaches a cluster by.
pub fn links(cluster: MemoryCluster) -> ClusterLinks {
    let cluster = Arc::new(cluster);
    ClusterLinks {
        admin: cluster.clone(),
        lag: cluster.clone(),
        survey: cluster.clone(),
        registry: cluster.clone(),
        ids: cluster,
    }
}

/// Connects to the world's clusters; a cluster that is gone does not answer.
pub struct Connector(pub MemoryWorld);

#[async_trait]
impl ClusterConnector for Connector {
    async fn connect(&self, incarnation: &Incarnation) -> ProviderResult<ClusterLinks> {
        let cluster = self.0.cluster(incarnation.colour).ok_or_else(|| {
            ProviderError::new(ErrorKind::Unreachable, format!("connect to {}", incarnation.id), "it is gone")
        })?;
        Ok(links(cluster))
    }
}

/// Blue with a topic, 10 records in each of two partitions, and a group that has read them.
pub async fn world() -> MemoryWorld {
    with_blue(MemoryWorld::new()).await
}

/// The same in a world of one's own.
pub async fn with_blue(world: MemoryWorld) -> MemoryWorld {
    world.provisioner.provision(Colour::Blue, &Nonce::new("first")).await.unwrap();
    let blue = world.cluster(Colour::Blue).unwrap();
    blue.add_topic("orders", 2);
    blue.set_config("orders", "retention.ms", RETENTION_MS);
    for n in 0..20 {
        let payload = format!("record {n}");
        blue.produce(&place(n % 2), record(&payload)).unwrap();
    }
    blue.read_all(&group());
    world
}

pub fn record(payload: &str) -> kutover_memory::StoredRecord {
    kutover_memory::StoredRecord { payload: Some(payload.as_bytes().to_vec()), ..Default::default() }
}

pub fn backends(world: &MemoryWorld) -> Backends {
    let provisioner = Arc::new(world.provisioner.clone());
    Backends {
        dns: Arc::new(world.dns.clone()),
        zones: BTreeMap::new(),
        blue: provisioner.clone(),
        green: provisioner,
        clusters: Arc::new(Connector(world.clone())),
        journal: Arc::new(world.journal.clone()),
    }
}

pub fn controller(world: &MemoryWorld, config: &str) -> Controller {
    let config = Config::parse(config).unwrap();
    Controller::new(config.cutover_plan(), config.deployment(), backends(world))
}

pub async fn run(world: &MemoryWorld, config: &str) -> (Result<Finished, DriveError>, Vec<Event>) {
    let (_operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller(world, config).run(words, |event| events.push(event)).await;
    (finished, events)
}

pub fn holds(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Hold { reason, .. } => Some(reason.as_str()),
            _ => None,
        })
        .collect()
}

/// Returns once the world has seen the call of this number.
pub async fn reached(world: &MemoryWorld, number: usize) {
    while world.faults.calls().len() <= number {
        tokio::task::yield_now().await;
        tokio::time::advance(std::time::Duration::from_millis(10)).await;
    }
}
