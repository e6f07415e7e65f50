//! Kafka Connect's REST interface behind kutover's [`ConnectAdmin`](kutover_core::ports::ConnectAdmin) port.
//!
//! Workers of Kafka Connect 3.7 and newer, distributed or standalone, over HTTP or HTTPS. Distributed workers take a change
//! before they carry it out, so every call that changes something waits, with a bound, until it is seen.

mod admin;
mod http;
mod wire;

pub use admin::HttpConnect;
pub use http::ConnectOptions;
