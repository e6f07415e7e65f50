//! rdkafka behind kutover's data-path ports: producer clients, the members and control topics, the witness of a cluster's id.
//!
//! - [`KafkaProducerFactory`] makes a new client for every cluster ([`kutover_core::ports::ProducerFactory`]).
//! - [`KafkaRegistry`] and [`KafkaMemberLink`] are the two sides of kutover's own topics.
//! - [`FileTokens`] reads tokens for OAUTHBEARER; [`ClientHooks::with_tokens`] takes them from any provider.
//! - [`witness_cluster_id`] asks a cluster who it is; [`read_topic`] reads a topic whole with a stock consumer.
//!
//! librdkafka's calls block. None of them runs on an async worker: they run on threads of this crate's own or under
//! `spawn_blocking`, and clients are torn down off the caller's thread.

mod client;
mod context;
mod error;
mod factory;
mod fate;
mod hooks;
mod link;
mod properties;
mod reader;
mod registry;
mod tail;
mod tokens;
mod topics;
mod writer;

pub use client::KafkaProducerClient;
pub use factory::KafkaProducerFactory;
pub use hooks::{ClientHooks, OAuthToken};
pub use link::{KafkaMemberLink, KafkaMemberLinks};
pub use properties::{ClientProperties, PropertyError, Waiver};
pub use reader::{StoredRecord, TopicRange, read_topic, witness_cluster_id};
pub use registry::KafkaRegistry;
pub use tokens::FileTokens;
