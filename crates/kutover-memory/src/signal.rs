//! Tells waiters that something changed, in the order in which they came.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// A count that can be waited on. Tokio's own watch channel wakes its receivers in a random order, which would make a
/// run that cannot be repeated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signal(Arc<(AtomicU64, Notify)>);

impl Signal {
    pub(crate) fn raise(&self) {
        self.0.0.fetch_add(1, Ordering::SeqCst);
        self.0.1.notify_waiters();
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.0.load(Ordering::SeqCst)
    }

    /// Waits until the count differs from one that was seen.
    pub(crate) async fn differs_from(&self, seen: u64) {
        loop {
            let mut told = pin!(self.0.1.notified());
            told.as_mut().enable();
            if self.count() != seen {
                return;
            }
            told.await;
        }
    }
}
