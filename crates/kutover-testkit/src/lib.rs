//! Mocks for kutover's ports and one conformance suite per port.
//!
//! A backend's tests call the functions of [`conformance`]: one per clause of a port's `# Contract`, each of which panics
//! with the clause's text when the backend breaks it, and a `check_all` per port. Code that is written against the ports
//! is tested with the [`mocks`].

pub mod conformance;
pub mod mocks;
mod skip;
mod until;

pub use skip::{SKIP_LOG, skip};
pub use until::until;
