//! What an embedded cluster does with a request before it is served: one decision in one place.
//!
//! `FakeBroker` queues hooks per API and an unlimited one blocks those behind it, so there is exactly one permanent
//! hook per API, and it consults this state.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control};
use kutover_core::words::{CONTROLLER_CLIENT_ID, Nonce, PROBE_CLIENT_ID, TopicName, is_reserved_topic};

/// The prefix of every client id of kutover's own, which no fence binds.
const OWN_PREFIX: &str = "kutover-";

/// Whom a fault strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Every client.
    Everyone,
    /// Every client but kutover's own.
    Ordinary,
    /// Clients whose client id starts with this.
    Prefix(String),
}

impl Who {
    fn is_struck(&self, client: &str) -> bool {
        match self {
            Who::Everyone => true,
            Who::Ordinary => !client.starts_with(OWN_PREFIX),
            Who::Prefix(prefix) => client.starts_with(prefix),
        }
    }
}

/// What a fault does to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Answered with this error, not applied.
    Error(ErrorCode),
    /// The connection is dropped, not applied.
    Disconnect,
    /// Applied, and then the connection is dropped: the client cannot know.
    ApplyThenDisconnect,
    /// Served late.
    Delay(Duration),
    /// Never answered, not applied.
    Silence,
}

/// A fault to inject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The API it strikes.
    pub api: ApiKey,
    /// The broker it strikes; `None` is all of them.
    pub broker: Option<i32>,
    /// Whom it strikes.
    pub who: Who,
    /// How many requests it strikes; `None` is every one until the faults are cleared.
    pub times: Option<u32>,
    /// What it does.
    pub harm: Harm,
}

impl Fault {
    /// A fault that strikes all ordinary clients on all brokers, every time.
    pub fn new(api: ApiKey, harm: Harm) -> Self {
        Self { api, broker: None, who: Who::Ordinary, times: None, harm }
    }

    /// The same, for a number of requests only.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// The same, on one broker only.
    #[must_use]
    pub fn on_broker(mut self, broker: i32) -> Self {
        self.broker = Some(broker);
        self
    }

    /// The same, for other clients.
    #[must_use]
    pub fn against(mut self, who: Who) -> Self {
        self.who = who;
        self
    }
}

/// The state that the hooks consult.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    fenced: BTreeSet<TopicName>,
    isolations: BTreeSet<Nonce>,
    faults: Vec<Fault>,
    faults_struck: u64,
    fetch_pace: Duration,
    /// When the last request that a fault holds back will be served.
    held_until: Option<Instant>,
}

impl Rules {
    pub(crate) fn new(fetch_pace: Duration) -> Self {
        Self { fetch_pace, ..Self::default() }
    }

    pub(crate) fn raise_fence(&mut self, topics: &[TopicName]) {
        self.fenced.extend(topics.iter().filter(|topic| !is_reserved_topic(topic.as_str())).cloned());
    }

    pub(crate) fn lift_fence(&mut self, topics: &[TopicName]) {
        self.fenced.retain(|topic| !topics.contains(topic));
    }

    pub(crate) fn fenced(&self) -> &BTreeSet<TopicName> {
        &self.fenced
    }

    /// Whether this changed anything.
    pub(crate) fn isolate(&mut self, nonce: &Nonce) -> bool {
        self.isolations.insert(nonce.clone())
    }

    /// Whether clients may come in again.
    pub(crate) fn put_back(&mut self, nonce: &Nonce) -> bool {
        self.isolations.remove(nonce);
        self.isolations.is_empty()
    }

    pub(crate) fn is_isolated(&self) -> bool {
        !self.isolations.is_empty()
    }

    pub(crate) fn inject(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(crate) fn clear_faults(&mut self) {
        self.faults.clear();
    }

    pub(crate) fn faults_struck(&self) -> u64 {
        self.faults_struck
    }

    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// What becomes of a request. Isolation comes before the fence and the fence before faults, so that no fault
    /// lets a record in that they keep out.
    pub(crate) fn decide(&mut self, api: ApiKey, broker: i32, client: &str, now: Instant) -> Control {
        if self.is_isolated() && !client.starts_with(CONTROLLER_CLIENT_ID) {
            return Control::Disconnect;
        }
        let is_fenced = !self.fenced.is_empty();
        if api == ApiKey::Produce {
            if client.starts_with(PROBE_CLIENT_ID) {
                // A probe's batch has a wrong checksum: it is never stored.
                let code =
                    if is_fenced { ErrorCode::TopicAuthorizationFailed } else { ErrorCode::CorruptMessage };
                return Control::Error(code);
            }
            if is_fenced && !client.starts_with(OWN_PREFIX) {
                return Control::Error(ErrorCode::TopicAuthorizationFailed);
            }
        }
        if let Some(harm) = self.strike(api, broker, client) {
            return self.control(harm, now);
        }
        if api == ApiKey::Fetch && !self.fetch_pace.is_zero() && !client.starts_with(OWN_PREFIX) {
            return Control::Delay(self.fetch_pace);
        }
        Control::Pass
    }

    /// The first fault that strikes, used up by one.
    fn strike(&mut self, api: ApiKey, broker: i32, client: &str) -> Option<Harm> {
        let index = self.faults.iter().position(|fault| {
            fault.api == api && fault.broker.is_none_or(|only| only == broker) && fault.who.is_struck(client)
        })?;
        let fault = &mut self.faults[index];
        let harm = fault.harm.clone();
        self.faults_struck += 1;
        if let Some(left) = fault.times.as_mut() {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.faults.remove(index);
            }
        }
        Some(harm)
    }

    fn control(&mut self, harm: Harm, now: Instant) -> Control {
        match harm {
            Harm::Error(code) => Control::Error(code),
            Harm::Disconnect => Control::Disconnect,
            Harm::ApplyThenDisconnect => Control::ApplyThen(Box::new(Control::Disconnect)),
            Harm::Delay(delay) => {
                self.held_until = self.held_until.max(Some(now + delay));
                Control::Delay(delay)
            }
            Harm::Silence => Control::Silence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(rules: &mut Rules, api: ApiKey, client: &str) -> Control {
        rules.decide(api, 0, client, Instant::now())
    }

    #[test]
    fn a_fence_binds_ordinary_clients_and_probes_only() {
        let mut rules = Rules::default();
        assert!(matches!(
            decide(&mut rules, ApiKey::Produce, "kutover-probe"),
            Control::Error(ErrorCode::CorruptMessage)
        ));
        rules.raise_fence(&["orders".into()]);
        for client in ["rdkafka", "", "kutover-probe"] {
            let control = decide(&mut rules, ApiKey::Produce, client);
            assert!(
                matches!(control, Control::Error(ErrorCode::TopicAuthorizationFailed)),
                "{client}: {control:?}"
            );
        }
        assert!(matches!(decide(&mut rules, ApiKey::Produce, "kutover-member-3"), Control::Pass));
        assert!(matches!(decide(&mut rules, ApiKey::Fetch, "rdkafka"), Control::Pass));
        rules.lift_fence(&["orders".into()]);
        assert!(matches!(decide(&mut rules, ApiKey::Produce, "rdkafka"), Control::Pass));
    }

    #[test]
    fn reserved_topics_raise_no_fence() {
        let mut rules = Rules::default();
        rules.raise_fence(&["kutover.control".into(), "__consumer_offsets".into()]);
        assert!(matches!(decide(&mut rules, ApiKey::Produce, "rdkafka"), Control::Pass));
    }

    #[test]
    fn a_late_put_back_of_another_nonce_undoes_nothing() {
        let mut rules = Rules::default();
        rules.isolate(&"two".into());
        assert!(!rules.put_back(&"one".into()));
        for client in ["rdkafka", "kutover-member"] {
            assert!(matches!(decide(&mut rules, ApiKey::Metadata, client), Control::Disconnect));
        }
        assert!(matches!(decide(&mut rules, ApiKey::Metadata, "kutover-controller-x"), Control::Pass));
        assert!(rules.put_back(&"two".into()));
    }

    #[test]
    fn faults_strike_in_order_and_are_used_up() {
        let mut rules = Rules::default();
        rules.inject(Fault::new(ApiKey::Produce, Harm::ApplyThenDisconnect).times(1).on_broker(0));
        rules.inject(Fault::new(ApiKey::Produce, Harm::Delay(Duration::from_secs(1))).times(1));
        assert!(matches!(rules.decide(ApiKey::Produce, 1, "rdkafka", Instant::now()), Control::Delay(_)));
        assert!(rules.held_until().is_some());
        assert!(matches!(decide(&mut rules, ApiKey::Produce, "kutover-member"), Control::Pass));
        assert!(matches!(decide(&mut rules, ApiKey::Produce, "rdkafka"), Control::ApplyThen(_)));
        assert!(matches!(decide(&mut rules, ApiKey::Produce, "rdkafka"), Control::Pass));
    }
}
