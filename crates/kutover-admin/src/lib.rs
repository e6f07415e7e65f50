//! krafka's admin client behind kutover's [`LagSource`](kutover_core::ports::LagSource),
//! [`ClusterAdmin`](kutover_core::ports::ClusterAdmin), [`FenceSwitch`](kutover_core::ports::FenceSwitch) and
//! [`ProducerIds`](kutover_core::ports::ProducerIds) ports.
//!
//! [`KafkaAdmin`] works on Apache Kafka from 2.8 and on the embedded clusters, which have no group listing, no
//! cluster description, no configs, no ACLs and no leader epochs' ends. What a cluster cannot tell is said to be
//! unknown, never made up: a partition or group without an answer is an error in its place, and
//! [`Unsupported`](kutover_core::error::ErrorKind::Unsupported) means that the cluster has no such call.

mod access;
mod admin;
mod config;
mod configs;
mod ends;
mod errors;
mod fence;
mod fetch;
mod groups;
mod identity;
mod lag;
mod listing;
mod probe;
mod producer_ids;
mod proof;
mod readers;
mod security;
mod survey;
mod tail;
mod topics;
mod transactions;
mod writers;

pub use access::ScramPasswords;
pub use admin::KafkaAdmin;
pub use config::{AdminConfig, Timeouts};
pub use fence::{FenceWith, MARKER_PRINCIPAL};
pub use probe::ProbeAnswer;
pub use security::check_security;
