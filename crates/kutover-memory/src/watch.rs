//! A producer's look at an endpoint, without a clock: a change stands for a TTL that ran out.

use std::collections::VecDeque;

use async_trait::async_trait;
use kutover_core::ports::{EndpointAnswer, EndpointWatch};
use kutover_core::words::DnsName;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::dns::MemoryDns;

/// Answers from a [`MemoryDns`], or what a test says instead (stale, empty, failed).
#[derive(Debug)]
pub struct MemoryWatch {
    dns: MemoryDns,
    endpoint: DnsName,
    instead: Mutex<VecDeque<EndpointAnswer>>,
    said: tokio::sync::Notify,
    changes: tokio::sync::Mutex<(bool, watch::Receiver<u64>)>,
}

impl MemoryWatch {
    pub(crate) fn new(dns: MemoryDns, endpoint: DnsName, changes: watch::Receiver<u64>) -> Self {
        Self {
            dns,
            endpoint,
            instead: Mutex::default(),
            said: tokio::sync::Notify::new(),
            changes: tokio::sync::Mutex::new((false, changes)),
        }
    }

    /// The next answer is this one, whatever the map says. Wakes a `next` that waits.
    pub fn say(&self, answer: EndpointAnswer) {
        self.instead.lock().push_back(answer);
        self.said.notify_one();
    }

    fn now(&self) -> EndpointAnswer {
        self.instead.lock().pop_front().unwrap_or_else(|| self.dns.answer(&self.endpoint))
    }
}

#[async_trait]
impl EndpointWatch for MemoryWatch {
    async fn next(&self) -> EndpointAnswer {
        let mut changes = self.changes.lock().await;
        if changes.0 && self.instead.lock().is_empty() {
            tokio::select! {
                _ = changes.1.changed() => {}
                () = self.said.notified() => {}
            }
        }
        changes.0 = true;
        changes.1.mark_unchanged();
        self.now()
    }

    async fn ask_now(&self) -> EndpointAnswer {
        self.now()
    }
}
