//! What the two stock strategies share: a plain `FutureProducer`, and a look at the endpoint's name.
//!
//! librdkafka resolves names with the system's resolver, which does not know the world's own name server; so the name
//! is looked up here, at exactly the moments at which a stock client looks one up: when it is made.

use std::sync::Arc;

use kutover_audit::{Completion, Fate, Refused, TOPIC, TrafficRecord, producer_properties};
use kutover_core::ports::{EndpointAnswer, EndpointWatch};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord};

/// How a stock client comes to its cluster: the endpoint's name and port.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// Looks the name up.
    pub watch: Arc<dyn EndpointWatch>,
    /// The port of the bootstrap servers behind it.
    pub port: u16,
}

impl Endpoint {
    /// `host:port` of what the name leads to now.
    pub(crate) async fn resolve(&self) -> Result<String, String> {
        match self.watch.ask_now().await {
            EndpointAnswer::Found { addresses, .. } => {
                Ok(addresses.iter().map(|ip| format!("{ip}:{}", self.port)).collect::<Vec<_>>().join(","))
            }
            EndpointAnswer::Empty => Err("the endpoint's name leads nowhere".into()),
            EndpointAnswer::Failed(reason) => Err(reason),
        }
    }

    /// A new stock client that bootstraps from what the name leads to now.
    pub(crate) async fn connect(&self) -> Result<(FutureProducer, String), String> {
        let bootstrap = self.resolve().await?;
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &bootstrap);
        for (key, value) in producer_properties() {
            config.set(key, value);
        }
        let producer = config.create().map_err(|error| error.to_string())?;
        Ok((producer, bootstrap))
    }
}

/// Offers a record to a stock client.
pub(crate) fn offer(producer: &FutureProducer, record: &TrafficRecord) -> Result<Completion, Refused> {
    let (key, payload) = (record.key_text(), record.payload());
    match producer.send_result(FutureRecord::to(TOPIC).key(&key).payload(&payload[..])) {
        Ok(delivery) => Ok(Box::pin(async move {
            match delivery.await {
                Ok(Ok(_)) => Some(Fate::Acknowledged),
                Ok(Err(_)) => Some(Fate::Failed),
                Err(_dropped) => None,
            }
        })),
        Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
            Err(Refused("the client's queue is full".into()))
        }
        Err((error, _)) => Err(Refused(error.to_string())),
    }
}
