//! What the tests against a real server share.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

pub(crate) mod name_servers;
pub(crate) mod proxy;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use kutover_core::owner::{OwnerRecord, Target};
use kutover_core::ports::{DnsProvider, EndpointAnswer, Published, RecordData, RecordSet};
use kutover_core::words::{ClusterId, Colour, DeploymentName, DnsName, Generation, Nonce, Term};
use kutover_dns::{LocalServer, ResolverWatch, WatchOptions};

pub(crate) const ENDPOINT: &str = "kafka.orders.test";

pub(crate) fn endpoint() -> DnsName {
    DnsName::new(ENDPOINT)
}

pub(crate) async fn server() -> Arc<LocalServer> {
    LocalServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), DnsName::new("orders.test")).await.unwrap()
}

pub(crate) fn owner(generation: u64) -> OwnerRecord {
    OwnerRecord {
        deployment: DeploymentName::new("orders"),
        term: Term(1),
        nonce: Nonce::new(format!("attempt-{generation}")),
        target: Target {
            generation: Generation(generation),
            colour: Colour::Blue,
            cluster_id: ClusterId::new("blue-cluster"),
            bootstrap: vec!["127.1.0.1:9092".into()],
        },
        intent: None,
        removal: None,
    }
}

pub(crate) fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn addresses(ttl_s: u32, texts: &[&str]) -> RecordSet {
    RecordSet { ttl_s, data: RecordData::Addresses(ips(texts)) }
}

pub(crate) fn cname(ttl_s: u32, target: &str) -> RecordSet {
    RecordSet { ttl_s, data: RecordData::Cname(DnsName::new(target)) }
}

/// A record set on one address that carries the generation, with its owner record.
pub(crate) fn published(generation: u64) -> Published {
    let address = format!("127.1.0.{generation}");
    Published { endpoint: Some(addresses(30, &[&address])), owner: Some(owner(generation)) }
}

pub(crate) async fn publish(server: &LocalServer, name: &str, desired: &Published) {
    let name = DnsName::new(name);
    let now = server.read(&name).await.unwrap();
    server.compare_and_set(&name, &now, desired).await.unwrap();
}

/// Without jitter, so that times are exact; a look may be slow on a busy machine.
pub(crate) fn options() -> WatchOptions {
    WatchOptions { jitter: 0.0, look_limit: Duration::from_secs(60), ..WatchOptions::default() }
}

pub(crate) fn watch(server: &LocalServer) -> ResolverWatch {
    ResolverWatch::new(&endpoint(), server.resolvers(), options()).unwrap()
}

/// The generation of a real answer.
pub(crate) fn generation(answer: &EndpointAnswer) -> u64 {
    match answer {
        EndpointAnswer::Found { owner: Some(owner), .. } => owner.target.generation.0,
        other => panic!("no owner record in {other:?}"),
    }
}

pub(crate) fn failure(answer: EndpointAnswer) -> String {
    match answer {
        EndpointAnswer::Failed(reason) => reason,
        other => panic!("{other:?} is no failure"),
    }
}

/// Keeps a paused clock from running ahead while sockets are waited for: it moves by itself only while nothing runs,
/// and a blocking task runs until this is dropped.
pub(crate) struct HeldTime(mpsc::Sender<()>);

impl HeldTime {
    pub(crate) fn hold() -> Self {
        let (release, released) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || released.recv());
        Self(release)
    }
}
