//! Fences: who is refused, from when on, and the harm that a badly chosen fence does (L17).

use std::time::Duration;

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::FenceKind;
use kutover_core::words::{TopicName, TopicPartition, is_reserved_topic};
use tokio::time::Instant;

use super::State;
use crate::faults::SLOW_MS;

/// What a fence does besides refusing records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FenceStyle {
    /// Nothing.
    #[default]
    Whole,
    /// An ACL deny on a topic that had no ACL, without the allowance to read: readers are shut out too.
    ReadersShutOut,
    /// `max.message.bytes=0`: a transaction that is open on the topic cannot be ended any more.
    MessageSize,
    /// Made by a command: it cannot be asked where it stands.
    Unasked,
}

impl State {
    pub(super) fn fence(&mut self, topics: &[TopicName]) -> ProviderResult<FenceKind> {
        let Some(kind) = self.options.fence else {
            let reason = "the cluster has nothing to fence with; waive the fence (plan.fence = \"waived\")";
            return Err(ProviderError::new(ErrorKind::Unsupported, "raise the fence", reason));
        };
        for topic in topics.iter().filter(|topic| !is_reserved_topic(topic.as_str())) {
            if self.fenced.insert(topic.clone()) {
                self.spread(topic, true);
            }
        }
        Ok(kind)
    }

    pub(super) fn unfence(&mut self, topics: &[TopicName]) {
        for topic in topics {
            if self.fenced.remove(topic) {
                self.spread(topic, false);
            }
        }
    }

    /// Each broker obeys at a moment of its own.
    fn spread(&mut self, topic: &TopicName, up: bool) {
        let Some(weather) = self.faults.weather().cloned() else { return };
        let now = Instant::now();
        for broker in 0..self.options.broker_count {
            let delay = weather.fence_ms(&self.id, broker);
            if delay >= SLOW_MS {
                self.faults.fire("fence-spreads");
            }
            let changes = self.spreading.entry((topic.clone(), broker)).or_default();
            // A broker reads the changes in the order in which they were made.
            let after = changes.last().map_or(now, |(at, _)| *at);
            changes.push((after.max(now + Duration::from_millis(delay)), up));
        }
    }

    /// Fences stand in the same metadata log as elections (KRaft): a broker that leads has read all that came before.
    pub(super) fn catch_up(&mut self, broker: i32) {
        let now = Instant::now();
        let changes = self.spreading.iter_mut().filter(|((_, of), _)| *of == broker);
        for (at, _) in changes.flat_map(|(_, changes)| changes) {
            *at = (*at).min(now);
        }
    }

    /// Whether the leader of a partition refuses records because of the fence.
    pub(super) fn refuses(&self, place: &TopicPartition) -> bool {
        if self.leaks.contains(place) {
            if self.fenced.contains(&place.topic) {
                self.faults.fire("fence-leaks");
            }
            return false;
        }
        let leader = self.partition(place).map_or(0, |log| log.leader);
        let Some(changes) = self.spreading.get(&(place.topic.clone(), leader)) else {
            return self.fenced.contains(&place.topic);
        };
        let now = Instant::now();
        let newest = changes.iter().rev().find(|(at, _)| *at <= now);
        // They alternate, so before the first one it was the other way round.
        newest.map_or_else(|| changes.first().is_some_and(|(_, up)| !up), |(_, up)| *up)
    }

    pub(super) fn refusal(&self) -> (i32, &'static str) {
        match self.options.fence_style {
            FenceStyle::MessageSize => (10, "MessageSizeTooLarge"),
            FenceStyle::Whole | FenceStyle::ReadersShutOut | FenceStyle::Unasked => {
                (29, "TopicAuthorizationFailed")
            }
        }
    }
}
