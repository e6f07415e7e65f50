//! Brokers: who leads which partition, who is gone, and what a moving leader leaves unanswered.

use std::time::Duration;

use kutover_core::words::{TopicName, TopicPartition};
use tokio::time::Instant;

use super::{MemoryCluster, State};

impl MemoryCluster {
    /// The broker that leads a partition.
    pub fn leader_of(&self, place: &TopicPartition) -> Option<i32> {
        self.state.lock().partition(place).map(|log| log.leader)
    }

    /// A broker dies. What it led is led by another one after so many milliseconds, or by nobody until it is back.
    pub fn stop_broker(&self, broker: i32, election_ms: Option<u64>) {
        self.faults.fire("broker-stops");
        let mut state = self.state.lock();
        state.down.insert(broker);
        if let Some(election_ms) = election_ms {
            for place in state.led_by(broker) {
                state.elect(&place, election_ms);
            }
        }
        state.control.raise();
    }

    /// A broker is back, with all it had.
    pub fn start_broker(&self, broker: i32) {
        let mut state = self.state.lock();
        state.down.remove(&broker);
        state.control.raise();
    }

    /// The leader of a partition moves to the next living broker; until then nobody answers for it.
    pub fn move_leader(&self, place: &TopicPartition, election_ms: u64) {
        self.faults.fire("leader-moves");
        self.state.lock().elect(place, election_ms);
    }
}

impl State {
    /// The leader that a new partition gets.
    pub(super) fn first_leader(&self, topics_made: u64, partition: usize) -> i32 {
        let brokers = u64::try_from(self.options.broker_count).unwrap_or(1).max(1);
        ((topics_made + partition as u64) % brokers) as i32
    }

    fn led_by(&self, broker: i32) -> Vec<TopicPartition> {
        let names: Vec<TopicName> = self.topics.keys().cloned().collect();
        let places = names.iter().flat_map(|name| self.places(name));
        places.filter(|place| self.partition(place).is_some_and(|log| log.leader == broker)).collect()
    }

    fn elect(&mut self, place: &TopicPartition, election_ms: u64) {
        let count = self.options.broker_count;
        let Some(leader) = self.partition(place).map(|log| log.leader) else { return };
        let next = (1..=count).map(|step| (leader + step) % count).find(|broker| !self.down.contains(broker));
        if next.is_some() {
            self.truncate(place);
        }
        if let Some(next) = next {
            self.catch_up(next);
        }
        let Some(log) = self.partition_mut(place) else { return };
        if let Some(next) = next {
            log.leader = next;
            log.epoch += 1;
            log.leaderless_until = Some(Instant::now() + Duration::from_millis(election_ms));
        }
    }

    /// Why nobody answers for a partition, if nobody does.
    pub(super) fn unanswered(&self, place: &TopicPartition) -> Option<&'static str> {
        if self.silent.contains(place) {
            return Some("it has no leader");
        }
        let log = self.partition(place)?;
        if log.leaderless_until.is_some_and(|until| Instant::now() < until) {
            return Some("its leader is being elected");
        }
        self.down.contains(&log.leader).then_some("its leader is down")
    }
}
