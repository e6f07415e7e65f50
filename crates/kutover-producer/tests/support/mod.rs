//! Two embedded clusters, a DNS server, and what a controller would do between them.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kutover_core::messages::{ControlBody, ControlMessage, MemberState};
use kutover_core::owner::{OwnerRecord, Target};
use kutover_core::ports::{DnsProvider, FenceSwitch, Published, RecordData, RecordSet, Registry};
use kutover_core::words::{Colour, DnsName, Generation, Term};
use kutover_dns::{LocalServer, WatchOptions};
use kutover_kafka::{ClientHooks, ClientProperties, KafkaRegistry, StoredRecord, read_topic};
use kutover_lab::embedded::{EmbeddedCluster, EmbeddedOptions};
use kutover_producer::{BlueGreenProducer, Builder, Report};

/// The bound of every wait in these tests.
pub(crate) const BOUND: Duration = Duration::from_secs(40);
pub(crate) const TOPIC: &str = "orders";
const ENDPOINT: &str = "kafka.orders.test";
const TERM: Term = Term(1);

pub(crate) struct World {
    pub(crate) dns: Arc<LocalServer>,
    pub(crate) blue: Arc<EmbeddedCluster>,
    pub(crate) green: Arc<EmbeddedCluster>,
}

pub(crate) fn properties() -> ClientProperties {
    ClientProperties::new(BTreeMap::new()).expect("no properties are fine")
}

impl World {
    /// Both clusters with the topic and kutover's own; generation 1 is on blue.
    pub(crate) async fn start(partitions: i32) -> Self {
        let dns =
            LocalServer::start(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), "orders.test".into())
                .await
                .expect("the DNS server starts");
        let start = || async {
            let options = EmbeddedOptions { brokers: 2, ..EmbeddedOptions::default() };
            let cluster = EmbeddedCluster::start(options).await.expect("an embedded cluster starts");
            cluster.fake().create_topic(TOPIC, partitions);
            cluster
        };
        let world = Self { dns, blue: start().await, green: start().await };
        for colour in Colour::BOTH {
            world.registry(colour).await.prepare().await.expect("the two topics are made");
        }
        world.publish(1, Colour::Blue).await;
        world
    }

    pub(crate) fn cluster(&self, colour: Colour) -> &Arc<EmbeddedCluster> {
        match colour {
            Colour::Blue => &self.blue,
            Colour::Green => &self.green,
        }
    }

    fn bootstrap(&self, colour: Colour) -> Vec<String> {
        self.cluster(colour).brokers().iter().map(ToString::to_string).collect()
    }

    pub(crate) fn target(&self, generation: u64, colour: Colour) -> Target {
        Target {
            generation: Generation(generation),
            colour,
            cluster_id: self.cluster(colour).cluster_id(),
            bootstrap: self.bootstrap(colour),
        }
    }

    /// A target where nobody listens.
    pub(crate) fn nowhere(&self, generation: u64, colour: Colour) -> Target {
        // Its listener is gone by the time that anybody asks.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr();
        Target {
            bootstrap: vec![free.expect("it has an address").to_string()],
            ..self.target(generation, colour)
        }
    }

    pub(crate) async fn registry(&self, colour: Colour) -> KafkaRegistry {
        KafkaRegistry::open(&self.bootstrap(colour), &properties(), ClientHooks::default(), BOUND)
            .await
            .expect("the registry opens")
    }

    /// Endpoint and owner record.
    pub(crate) async fn publish(&self, generation: u64, colour: Colour) {
        self.publish_target(self.target(generation, colour)).await;
    }

    /// The same with a target that need not be what it says.
    pub(crate) async fn publish_target(&self, target: Target) {
        let endpoint = DnsName::new(ENDPOINT);
        let before = self.dns.read(&endpoint).await.expect("DNS is read");
        let after = Published {
            endpoint: Some(RecordSet {
                ttl_s: 1,
                data: RecordData::Addresses(vec![self.cluster(target.colour).brokers()[0].ip()]),
            }),
            owner: Some(OwnerRecord {
                deployment: "orders".into(),
                term: TERM,
                nonce: "n".into(),
                target,
                intent: None,
                removal: None,
            }),
        };
        self.dns.compare_and_set(&endpoint, &before, &after).await.expect("DNS is changed");
    }

    pub(crate) async fn say(&self, colour: Colour, body: ControlBody) {
        self.say_for("orders", colour, body).await;
    }

    /// Says something for any deployment.
    pub(crate) async fn say_for(&self, deployment: &str, colour: Colour, body: ControlBody) {
        let message = ControlMessage { deployment: deployment.into(), term: TERM, body };
        self.registry(colour).await.say(&message).await.expect("control takes it");
    }

    /// As the controller does: DNS first, then both control topics.
    pub(crate) async fn announce(&self, generation: u64, colour: Colour) {
        self.publish(generation, colour).await;
        for to in Colour::BOTH {
            self.say(to, ControlBody::Announce { target: self.target(generation, colour) }).await;
        }
    }

    /// Announces the fence, then raises it.
    pub(crate) async fn fence(&self, colour: Colour) {
        for to in Colour::BOTH {
            self.say(to, ControlBody::Fence { colour, up: true }).await;
        }
        self.cluster(colour).fence().raise(&[TOPIC.into()]).await.expect("the fence goes up");
    }

    pub(crate) fn builder(&self) -> Builder {
        let pairs = [("client.id", "app"), ("linger.ms", "1")];
        BlueGreenProducer::builder()
            .deployment("orders")
            .endpoint(ENDPOINT)
            .instance("app-1")
            .cluster(Colour::Blue, pairs)
            .cluster(Colour::Green, pairs)
            .topics([TOPIC])
            .resolvers(self.dns.resolvers())
            .watch_options(WatchOptions {
                min_poll: Duration::from_millis(200),
                min_retry: Duration::from_millis(100),
                ..WatchOptions::default()
            })
            .heartbeat(Duration::from_millis(500))
    }

    pub(crate) async fn producer(&self) -> BlueGreenProducer {
        tokio::time::timeout(BOUND, self.builder().build()).await.expect("in time").expect("it starts")
    }

    /// Everything in a colour's log of the topic, in order within each partition.
    pub(crate) async fn read(&self, colour: Colour) -> Vec<StoredRecord> {
        let (to, from) = std::sync::mpsc::channel();
        let visit = move |record| to.send(record).expect("the reader is there");
        read_topic(&self.bootstrap(colour), &properties(), "kutover-controller-audit", TOPIC, BOUND, visit)
            .await
            .expect("the topic is read");
        from.into_iter().collect()
    }

    /// Payloads in both logs, blue's first.
    pub(crate) async fn payloads(&self) -> Vec<String> {
        let mut payloads = Vec::new();
        for colour in Colour::BOTH {
            for record in self.read(colour).await {
                payloads.push(String::from_utf8(record.payload.unwrap_or_default()).expect("text"));
            }
        }
        payloads
    }

    pub(crate) async fn member(&self, colour: Colour) -> Option<MemberState> {
        let members = self.registry(colour).await.members().await.expect("members are read");
        members.into_iter().find(|member| member.instance.as_str() == "app-1")
    }
}

/// Waits until a look gives something.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl FnMut() -> F) -> T {
    kutover_testkit::until(what, BOUND, look).await
}

pub(crate) async fn report_until(producer: &BlueGreenProducer, what: &str, check: impl Fn(&Report) -> bool) {
    let waited = until(what, || async { Some(producer.report()).filter(|report| check(report)) });
    waited.await;
}

pub(crate) async fn on_generation(producer: &BlueGreenProducer, generation: u64) {
    report_until(producer, &format!("generation {generation}"), |report| {
        report.generation == Generation(generation) && report.in_flight == 0
    })
    .await;
}
