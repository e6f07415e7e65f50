//! What tests of the program on real Apache Kafka share: two clusters, their ordinary clients and Connect workers, a
//! registered producer, a controller in this process, and raw requests that no client makes.

pub mod clients;
pub mod connectors;
pub mod controller;
pub mod members;
pub mod raw;
pub mod world;
