//! The producers that are compared, behind the little that a run needs of them.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use kutover_core::owner::{OwnerRecord, Target};
use kutover_core::ports::{EndpointAnswer, EndpointWatch, Registry};
use kutover_core::words::{Colour, Generation, Term};
use kutover_kafka::{ClientHooks, ClientProperties, KafkaRegistry};
use kutover_producer::BlueGreenProducer;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};

use crate::world::{self, TOPIC, World};

/// The bound of each call that prepares a cluster.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of an offered record.
pub(crate) enum Offered<D> {
    /// It was taken; the future ends with its delivery.
    Taken(D),
    /// There is no room now.
    Full,
}

/// A producer with `send_result` as rdkafka's `FutureProducer` has it.
pub(crate) trait Contender: Sized {
    /// Ends when a record has been delivered.
    type Delivery;

    /// Connects, with librdkafka's defaults but for strong acks.
    async fn open(world: &World) -> Result<Self>;

    /// Offers a record without waiting.
    fn offer(&self, payload: &[u8]) -> Result<Offered<Self::Delivery>>;

    /// Waits for one delivery. An undelivered record is an error.
    fn settle(delivery: Self::Delivery) -> impl Future<Output = Result<()>>;

    /// Ends the producer, all of whose records have been delivered.
    async fn close(self) -> Result<()>;
}

/// rdkafka's `FutureProducer` alone, with the acks that kutover insists on.
pub(crate) struct Bare(FutureProducer);

impl Contender for Bare {
    type Delivery = DeliveryFuture;

    async fn open(world: &World) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", world.bootstrap().join(","));
        config.set("acks", "all").set("enable.idempotence", "true");
        Ok(Self(config.create()?))
    }

    fn offer(&self, payload: &[u8]) -> Result<Offered<DeliveryFuture>> {
        match self.0.send_result(FutureRecord::<[u8], [u8]>::to(TOPIC).payload(payload)) {
            Ok(delivery) => Ok(Offered::Taken(delivery)),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(Offered::Full),
            Err((error, _)) => Err(error.into()),
        }
    }

    async fn settle(delivery: DeliveryFuture) -> Result<()> {
        delivery.await?.map_err(|(error, _)| anyhow!("not delivered: {error}"))?;
        Ok(())
    }

    async fn close(self) -> Result<()> {
        let closed = tokio::task::spawn_blocking(move || {
            self.0.flush(REGISTRY_TIMEOUT)
            // The client goes here, on a thread that may block.
        });
        Ok(closed.await??)
    }
}

/// The whole of a `BlueGreenProducer`: gate, slab, member's link and all. Only DNS is stood in for.
pub(crate) struct Ours(BlueGreenProducer);

impl Contender for Ours {
    type Delivery = kutover_producer::DeliveryFuture;

    async fn open(world: &World) -> Result<Self> {
        let properties = ClientProperties::default();
        KafkaRegistry::open(&world.bootstrap(), &properties, ClientHooks::default(), REGISTRY_TIMEOUT)
            .await?
            .prepare()
            .await?;
        let none: [(&str, &str); 0] = [];
        let producer = BlueGreenProducer::builder()
            .deployment(world::DEPLOYMENT)
            .cluster(Colour::Blue, none)
            .cluster(Colour::Green, none)
            .watch(Arc::new(SteadyDns::new(world)))
            .topics([TOPIC])
            .build()
            .await?;
        Ok(Self(producer))
    }

    fn offer(&self, payload: &[u8]) -> Result<Offered<Self::Delivery>> {
        match self.0.send_result(FutureRecord::<[u8], [u8]>::to(TOPIC).payload(payload)) {
            Ok(delivery) => Ok(Offered::Taken(delivery)),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(Offered::Full),
            Err((error, _)) => Err(error.into()),
        }
    }

    async fn settle(delivery: Self::Delivery) -> Result<()> {
        delivery.await?;
        Ok(())
    }

    async fn close(self) -> Result<()> {
        self.0.close().await;
        Ok(())
    }
}

/// DNS that always says the same.
struct SteadyDns {
    answer: EndpointAnswer,
    said: AtomicBool,
}

impl SteadyDns {
    fn new(world: &World) -> Self {
        let target = Target {
            generation: Generation(1),
            colour: Colour::Blue,
            cluster_id: world.cluster.cluster_id(),
            bootstrap: world.bootstrap(),
        };
        let owner = OwnerRecord {
            deployment: world::DEPLOYMENT.into(),
            term: Term(1),
            nonce: "bench".into(),
            target,
            intent: None,
            removal: None,
        };
        let addresses = world.cluster.brokers().iter().map(SocketAddr::ip).collect();
        let answer = EndpointAnswer::Found { addresses, owner: Some(owner), ttl_ms: 60_000 };
        Self { answer, said: AtomicBool::new(false) }
    }
}

#[async_trait]
impl EndpointWatch for SteadyDns {
    async fn next(&self) -> EndpointAnswer {
        if self.said.swap(true, Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.answer.clone()
    }

    async fn ask_now(&self) -> EndpointAnswer {
        self.answer.clone()
    }
}
