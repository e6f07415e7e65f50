//! One small runtime of the lab's own for its network parts.
//!
//! Forwarders must go on while a test blocks its own single-threaded runtime in a synchronous client call, so they
//! never run on the caller's.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// The runtime's handle. It lives as long as the process.
pub(crate) fn handle() -> Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("kutover-lab-net")
                .enable_all()
                .build()
                .expect("a thread for the lab's forwarders can be started")
        })
        .handle()
        .clone()
}
