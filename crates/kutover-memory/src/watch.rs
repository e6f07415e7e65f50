//! A producer's look at an endpoint, without a clock: a change stands for a TTL that ran out.

use std::collections::VecDeque;

use async_trait::async_trait;
use kutover_core::ports::{EndpointAnswer, EndpointWatch};
use kutover_core::words::DnsName;
use parking_lot::Mutex;

use crate::dns::MemoryDns;
use crate::signal::Signal;

/// Answers from a [`MemoryDns`], or what a test says instead (stale, empty, failed).
#[derive(Debug)]
pub struct MemoryWatch {
    dns: MemoryDns,
    endpoint: DnsName,
    instead: Mutex<VecDeque<EndpointAnswer>>,
    said: tokio::sync::Notify,
    changed: Signal,
    /// The count of changes at the last answer, once there was one.
    seen: tokio::sync::Mutex<Option<u64>>,
}

impl MemoryWatch {
    pub(crate) fn new(dns: MemoryDns, endpoint: DnsName, changed: Signal) -> Self {
        Self {
            dns,
            endpoint,
            instead: Mutex::default(),
            said: tokio::sync::Notify::new(),
            changed,
            seen: tokio::sync::Mutex::default(),
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
        let mut seen = self.seen.lock().await;
        if let Some(seen) = *seen
            && self.instead.lock().is_empty()
        {
            tokio::select! {
                biased;
                () = self.changed.differs_from(seen) => {}
                () = self.said.notified() => {}
            }
        }
        *seen = Some(self.changed.count());
        self.now()
    }

    async fn ask_now(&self) -> EndpointAnswer {
        self.now()
    }
}
