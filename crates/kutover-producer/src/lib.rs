//! `BlueGreenProducer`: an rdkafka producer that moves between the clusters of a blue/green deployment without losing a
//! record.
//!
//! ```no_run
//! use std::time::Duration;
//! use kutover_producer::{BlueGreenProducer, Colour, FutureRecord};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let producer = BlueGreenProducer::builder()
//!     .deployment("orders")
//!     .endpoint("kafka.orders.example")
//!     .cluster(Colour::Blue, [("client.id", "billing")])
//!     .cluster(Colour::Green, [("client.id", "billing")])
//!     .build()
//!     .await?;
//! producer.send(FutureRecord::to("invoices").key("4711").payload("paid"), Duration::from_secs(5)).await?;
//! producer.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # The send path
//!
//! A send takes a slot of the slab (`slab`), enters the gate of the client in use, offers the record under the
//! slot's token and leaves. Nothing of ours is allocated or locked on that way, but for a topic's first record (and, among more
//! than a few hundred topics, now and then for another). The report of an acknowledged record marks its
//! partition, completes the slot and wakes its future. Only while a switch has the gate closed are records copied and parked,
//! under kutover-core's one lock (`Entrance`); the machine that decides about it all is kutover-core's, driven by a thread of
//! its own (`driver`).

mod builder;
mod driver;
mod events;
mod lane;
mod producer;
mod record;
mod shared;
mod slab;

pub use builder::{BuildError, Builder};
pub use events::{Events, ProducerEvent, Report, Stalls, SwitchReport};
pub use kutover_core::ports::{AccessToken, TokenProvider};
pub use kutover_core::switch::{Order, SwitchEvent, SwitchPolicy, UnknownPolicy};
pub use kutover_core::words::Colour;
pub use kutover_dns::{Resolvers, WatchOptions};
pub use kutover_kafka::{ClientHooks, FileTokens, Waiver};
pub use producer::{BlueGreenProducer, DeliveryFuture};
pub use rdkafka::message::{Header, OwnedHeaders, OwnedMessage, ToBytes};
pub use rdkafka::producer::FutureRecord;
pub use rdkafka::producer::future_producer::Delivery;
pub use rdkafka::util::Timeout;
pub use record::{Fate, SendError};
