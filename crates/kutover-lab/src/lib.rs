//! A whole world on one machine: embedded and real Apache Kafka clusters, ZooKeeper, and the forwarder that stands
//! for a load balancer. For the demo, rehearsals and tests; never a dependency of what production embeds.

mod apache;
mod cluster_id;
pub mod embedded;
pub mod forwarder;
pub mod loopback;
mod net_runtime;
mod provision;
mod spec;
mod store;

pub use apache::{ApacheCluster, ConnectWorker, Identity, MachineTurn, Secured, TlsAlone, Tools, ZooKeeper};
pub use cluster_id::random_cluster_id;
pub use provision::{DEFAULT_PORT, LabOptions, LabProvisioner};
pub use spec::{ClusterKind, ClusterSpec, KafkaVersion};
