//! The pure heart of kutover: words, ports, the cutover machine, the switch, the chain and the drain proof.
//!
//! There is no tokio, no clock, no random number and no I/O in here: time comes in as an argument, acts go out as data.

pub mod chain;
pub mod controls;
pub mod cutover;
pub mod decisions;
pub mod drain;
pub mod error;
pub mod messages;
pub mod owner;
pub mod parity;
pub mod ports;
pub mod survey;
pub mod switch;
pub mod words;
