//! What tests of the program on real Apache Kafka share: two clusters, their ordinary clients and Connect workers, a
//! controller in this process, and raw requests that no client makes.

pub mod clients;
pub mod connectors;
pub mod controller;
pub mod raw;
pub mod world;
