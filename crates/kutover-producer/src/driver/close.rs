//! The end of a producer: what was accepted is settled first.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Driver;
use crate::events::add;

impl Driver {
    /// Whether the end that was asked for can come: a switch under way is waited for, bounded.
    pub(super) fn may_finish(&self, now: Instant) -> bool {
        let Some((_, deadline)) = &self.closing else { return false };
        let waits = !self.shared.entrance.lock().hand_over.is_empty();
        now >= *deadline || self.shared.dead.get().is_some() || self.is_serving() && !waits
    }

    pub(super) async fn finish(&mut self) {
        let (replies, deadline) = self.closing.take().unwrap_or((Vec::new(), Instant::now()));
        self.watching.abort();
        self.stop("the producer was closed".into());
        let shared = Arc::clone(&self.shared);
        for (_, handle) in std::mem::take(&mut self.lanes) {
            handle.gate.count_out(std::thread::yield_now);
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            let ended = tokio::task::spawn_blocking(move || {
                if !handle.client.flush(timeout_ms) {
                    handle.client.purge();
                }
            });
            if let Err(error) = ended.await {
                tracing::error!("closing a client failed: {error}");
            }
        }
        // A refusal on the last moment may have left records behind.
        let rest = {
            let mut parked = shared.entrance.lock();
            parked.hand_over.abandon()
        };
        for record in rest {
            shared.give_back(record);
        }
        for goodbye in self.member.end(self.links.as_ref()) {
            if let Err(error) = goodbye.await {
                tracing::error!("saying goodbye failed: {error}");
            }
        }
        self.publish_metrics();
        shared.forget_current();
        let lanes = {
            let mut lanes = shared.lanes.lock();
            // Who looks must find each acknowledgement in one of the two places: a flush would wait for ever for what it missed.
            for lane in lanes.iter() {
                add(&shared.acknowledged_before, lane.acknowledged.load(Ordering::SeqCst));
            }
            std::mem::take(&mut *lanes)
        };
        // Clients' callbacks point back at what is shared; letting go of them here ends the circle.
        drop(lanes);
        shared.listeners.close();
        for reply in replies {
            let _ = reply.send(());
        }
    }
}
