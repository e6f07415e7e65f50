//! The ports: what kutover needs from the world, as object-safe async traits chosen at run time by configuration.
//!
//! Each trait has a `# Contract`; the conformance suites of kutover-testkit test it clause by clause. Two rules hold
//! for all of them: a mutation that timed out is [`Outcome::Unknown`](crate::error::Outcome::Unknown), never "did not
//! happen"; and every mutation is repeatable, so that a caller who does not know may ask again.

mod access;
mod admin;
mod connect;
mod dns;
mod journal;
mod lag;
mod producer;
mod producer_ids;
mod provision;
mod registry;
mod survey;
mod token;
mod writers;

pub use access::{Access, AclRule, NewAccess, QuotaEntity, Quotas, ScramUsers};
pub use admin::{
    ClusterAdmin, ClusterIdentity, FenceKind, FenceProof, FenceSwitch, GroupListing, NewTopic, PartitionEnd,
    TopicConfigs, TopicDescription,
};
pub use connect::{
    ConnectAdmin, ConnectorConfig, ConnectorDescription, ConnectorKind, ConnectorState, SourceOffsets,
};
pub use dns::{DnsProvider, EndpointAnswer, EndpointWatch, Published, RecordData, RecordSet};
pub use journal::{Journal, JournalEntry};
pub use lag::{LagBatch, LagQuery, LagSource};
pub use producer::{
    ClientEvents, Delivery, DeliveryFate, ErrorCode, HeaderList, HeadersRef, ProducerClient, ProducerFactory,
    RecordBody, RecordRef, Refusal, Token,
};
pub use producer_ids::{NewestIds, ProducerIds};
pub use provision::{ClusterProvisioner, Incarnation};
pub use registry::{MemberLink, MemberLinks, Registry};
pub use survey::{
    ClusterSurvey, ConfigMap, ConfigSource, ConfigValue, GroupDescription, GroupProtocol, Item, RefusedTopics,
};
pub use token::{AccessToken, TokenProvider};
pub use writers::ProducerSurvey;
