//! What tests of the program on real Apache Kafka share: two clusters, their ordinary clients, a controller in this
//! process, and raw requests that no client makes.

pub mod clients;
pub mod controller;
pub mod raw;
pub mod world;
