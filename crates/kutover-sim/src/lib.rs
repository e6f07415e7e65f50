//! Seeded simulation of whole deployments over kutover's real machines.
//!
//! One seed is one world: clusters, DNS, journal and clients in memory, controllers, producers and groups of readers, and
//! what goes wrong with them, all in virtual time on one thread. The controller is `kutover-controller`'s own; producers
//! drive `kutover-core`'s gate, hand-over and switch. First things go wrong, then they stop, and everything has to come to
//! its end. What really happened is [observed] and set against the [invariants].
//!
//! A seed decides everything, so the same seed gives the same trace.

pub mod batch;
mod data;
pub mod invariants;
pub mod observed;
mod operator;
mod panics;
mod ports;
mod producer;
mod readers;
pub mod rolling;
mod run;
pub mod scene;
pub mod shrink;
mod stock;
pub mod weather;
mod witness;
mod world;

pub use run::{Options, Outcome, run};
