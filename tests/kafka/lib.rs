//! What tests of the program on real Apache Kafka share: two clusters, and raw requests that no client makes.

pub mod raw;
pub mod world;
