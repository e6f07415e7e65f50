//! Mocks for kutover's ports and one conformance suite per port.

mod skip;

pub use skip::{SKIP_LOG, skip};
