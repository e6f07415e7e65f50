//! What the producer says of itself in the members topic, and the link that it listens to control through.

use std::sync::Arc;
use std::time::Duration;

use kutover_core::error::ProviderResult;
use kutover_core::messages::{MemberKind, MemberState, Receipt};
use kutover_core::ports::MemberLink;
use kutover_core::switch::{LaneId, SwitchReceipt};
use kutover_core::words::InstanceName;
use tokio::time::Instant;

use super::driver::{Driver, Listening};
use super::{Message, Shared};
use crate::observed::Told;
use crate::weather::Fault;
use crate::witness::note;

/// How long the control topic and the registration may hold up the start.
const REGISTRATION: Duration = Duration::from_secs(2);
/// The pause after something could not be told.
const RETRY: Duration = Duration::from_secs(1);

struct Link {
    lane: LaneId,
    link: Arc<dyn MemberLink>,
    listening: Listening,
}

/// See the [module](self).
pub(super) struct Member {
    state: MemberState,
    link: Option<Link>,
    opening: Option<LaneId>,
    heartbeat_ms: u64,
    next: Instant,
    /// How many receipts the message under way carries.
    telling: Option<usize>,
    left: (u64, Vec<i64>),
}

impl Member {
    pub(super) fn new(instance: InstanceName, incarnation: String, heartbeat_ms: u64) -> Self {
        let state = MemberState::new(MemberKind::Producer, instance, incarnation);
        let next = Instant::now() + Duration::from_millis(heartbeat_ms);
        Self { state, link: None, opening: None, heartbeat_ms, next, telling: None, left: (0, Vec::new()) }
    }

    pub(super) fn key(&self) -> String {
        self.state.key()
    }

    pub(super) fn link(&self) -> Option<Arc<dyn MemberLink>> {
        self.link.as_ref().map(|link| Arc::clone(&link.link))
    }

    pub(super) fn link_lane(&self) -> Option<LaneId> {
        self.link.as_ref().map(|link| link.lane)
    }

    pub(super) fn next_heartbeat(&self) -> Instant {
        self.next
    }

    pub(super) fn left(&mut self, acknowledged: u64, producer_ids: &[i64]) {
        self.left.0 += acknowledged;
        self.left.1.extend_from_slice(producer_ids);
    }
}

/// Writes a member's state, and notes that it stands.
async fn tell(shared: Arc<Shared>, link: Arc<dyn MemberLink>, state: MemberState) -> bool {
    let told = link.tell(&state).await.is_ok();
    let world = &shared.world;
    note!(world.witness, "producer {} tells heartbeat {}: {told}", shared.number, state.heartbeat);
    // What failed may stand all the same, and is held against it too.
    let (at_ms, producer) = (world.now_ms(), shared.number);
    let MemberState { generation, receipts, .. } = state;
    world.witness.observed().told.push(Told { at_ms, producer, generation, receipts });
    told
}

impl Driver {
    /// At the start: reads control to its end and registers, both bounded.
    pub(super) fn read_control(&mut self, lane: LaneId) {
        let to = self.shared.inbox.clone();
        let Some(target) = self.lane(lane).map(|lane| lane.events.target.clone()) else {
            let _ = to.send(Message::ControlRead(lane, None, None));
            return;
        };
        let state = self.member.state.beat(&target);
        let (links, shared) = (Arc::clone(&self.reach.links), Arc::clone(&self.shared));
        self.tasks.spawn(async move {
            let opened = tokio::time::timeout(REGISTRATION, links.open(&target)).await;
            let Ok(Ok(link)) = opened else {
                let _ = to.send(Message::ControlRead(lane, None, None));
                return;
            };
            let view = tokio::time::timeout(REGISTRATION, link.control_now()).await;
            let told = tell(shared, Arc::clone(&link), state);
            let _ = tokio::time::timeout(REGISTRATION, told).await;
            let _ = to.send(Message::ControlRead(lane, view.ok().and_then(Result::ok), Some(link)));
        });
    }

    pub(super) fn use_link(&mut self, lane: LaneId, link: Arc<dyn MemberLink>) {
        let (listened, to) = (Arc::clone(&link), self.shared.inbox.clone());
        let listening = self.tasks.spawn(async move {
            loop {
                let view = listened.next_control().await;
                if to.send(Message::View(lane, view)).is_err() {
                    return;
                }
            }
        });
        if let Some(old) = self.member.link.replace(Link { lane, link, listening }) {
            old.listening.abort();
        }
    }

    /// Adds what the driver knows to the machine's receipt, and tells it on the new cluster.
    pub(super) fn receipt(&mut self, receipt: SwitchReceipt) {
        let counts = {
            let mut core = self.shared.core.lock();
            let counts = core.hand_over.counts();
            core.hand_over.reset_counts();
            counts
        };
        let (acknowledged, producer_ids) = std::mem::take(&mut self.member.left);
        self.member.state.receipts.push(Receipt {
            generation: receipt.generation,
            from: receipt.from,
            to: receipt.to,
            acknowledged,
            possibly_duplicated: counts.possibly_duplicated,
            returned: counts.returned,
            sealed_ms: receipt.sealed_ms,
            producer_ids,
        });
        if self.shared.world.weather.strikes(Fault::ReceiptLost).is_some() {
            // It dies between its move and its receipt.
            return self.stopped();
        }
        self.member.next = Instant::now();
    }

    pub(super) fn heartbeat(&mut self) {
        let now = Instant::now();
        if now < self.member.next {
            return;
        }
        let jittered = self.member.heartbeat_ms * self.random(80..120) / 100;
        self.member.next = now + Duration::from_millis(jittered);
        let Some((lane, target)) = self.serving_lane() else {
            self.member.next = now + RETRY;
            return;
        };
        let link = self.member.link.as_ref().filter(|link| link.lane == lane).map(|link| link.link.clone());
        let to = self.shared.inbox.clone();
        match link {
            Some(link) if self.member.telling.is_none() => {
                let state = self.member.state.beat(&target);
                self.member.telling = Some(state.receipts.len());
                let shared = Arc::clone(&self.shared);
                self.tasks.spawn(async move {
                    // A call that never answers must not silence the member for ever.
                    let told = tokio::time::timeout(REGISTRATION, tell(shared, link, state)).await;
                    let _ = to.send(Message::Told(told.unwrap_or(false)));
                });
            }
            None if self.member.opening != Some(lane) => {
                self.member.opening = Some(lane);
                let links = Arc::clone(&self.reach.links);
                self.tasks.spawn(async move {
                    let _ = to.send(Message::Opened(lane, links.open(&target).await));
                });
            }
            _ => self.member.next = now + RETRY,
        }
    }

    pub(super) fn opened(&mut self, lane: LaneId, result: ProviderResult<Arc<dyn MemberLink>>) {
        if self.member.opening == Some(lane) {
            self.member.opening = None;
        }
        match result {
            Ok(link) if self.serving_lane().is_some_and(|(serving, _)| serving == lane) => {
                self.use_link(lane, link);
                self.member.next = Instant::now();
            }
            Ok(_) => {} // The producer has moved on meanwhile.
            Err(_) => self.member.next = Instant::now() + RETRY,
        }
    }

    pub(super) fn told(&mut self, well: bool) {
        let receipts = self.member.telling.take().unwrap_or(0);
        if !well {
            self.member.next = Instant::now() + RETRY;
        } else if receipts != self.member.state.receipts.len() {
            self.member.next = Instant::now();
        }
    }
}
