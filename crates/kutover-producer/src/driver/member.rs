//! What the producer says of itself in the members topic, and the link that it listens to control through.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kutover_core::error::ProviderResult;
use kutover_core::messages::{MemberKind, MemberState, Receipt};
use kutover_core::owner::Target;
use kutover_core::ports::{MemberLink, MemberLinks};
use kutover_core::switch::{LaneId, State, SwitchReceipt};
use kutover_core::words::{ClusterId, InstanceName};
use rand::Rng;
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;

use super::{Driver, Message};
use crate::events::SwitchReport;

/// How long the control topic and the registration may hold up the start: a dead topic must not stop a producer.
const REGISTRATION: Duration = Duration::from_secs(2);
/// The pause after something could not be told.
const RETRY: Duration = Duration::from_secs(1);

/// How long a tombstone may take.
const TOMBSTONE: Duration = Duration::from_secs(2);

struct Link {
    lane: LaneId,
    cluster_id: Option<ClusterId>,
    link: Arc<dyn MemberLink>,
    listening: JoinHandle<()>,
}

/// See the [module](self).
pub(super) struct Member {
    state: MemberState,
    /// The clusters on which a word of this incarnation may stand.
    spoken_on: BTreeMap<ClusterId, Target>,
    link: Option<Link>,
    opening: Option<LaneId>,
    heartbeat: Duration,
    next: Instant,
    /// The message under way: on which client's cluster, and how many receipts it carries.
    telling: Option<(LaneId, usize)>,
    /// Acknowledged, and producer ids, of clients that were left since the last receipt.
    left: (u64, Vec<i64>),
}

impl Member {
    pub(super) fn new(instance: InstanceName, incarnation: String, heartbeat: Duration) -> Self {
        let state = MemberState::new(MemberKind::Producer, instance, incarnation);
        let next = Instant::now() + heartbeat;
        Self {
            state,
            spoken_on: BTreeMap::new(),
            link: None,
            opening: None,
            heartbeat,
            next,
            telling: None,
            left: (0, Vec::new()),
        }
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

    /// A client was left.
    pub(super) fn left(&mut self, acknowledged: u64, producer_ids: &[i64]) {
        self.left.0 += acknowledged;
        self.left.1.extend_from_slice(producer_ids);
    }

    /// What it says next.
    fn beat(&mut self, target: &Target) -> MemberState {
        self.spoken_on.insert(target.cluster_id.clone(), target.clone());
        self.state.beat(target)
    }

    /// Says goodbye on every cluster where a word of it may stand: on one that it has left it would count as a producer that has
    /// not moved. Not when it leaves, for until it ends that word is all that a controller knows of it who cannot
    /// reach the other cluster.
    pub(super) fn end(&mut self, links: Option<&Arc<dyn MemberLinks>>) -> Vec<JoinHandle<()>> {
        let current = self.link.take();
        if let Some(link) = &current {
            link.listening.abort();
        }
        let (Some(links), spoken_on) = (links, std::mem::take(&mut self.spoken_on)) else {
            return Vec::new();
        };
        let goodbye = |(cluster_id, target)| {
            let current = current.as_ref().filter(|link| link.cluster_id.as_ref() == Some(&cluster_id));
            let current = current.map(|link| Arc::clone(&link.link));
            let (links, state) = (Arc::clone(links), self.state.clone());
            tokio::spawn(async move {
                let link = match current {
                    Some(link) => Ok(link),
                    None => in_time(tokio::time::timeout(TOMBSTONE, links.open(&target)).await),
                };
                let ended = match &link {
                    Ok(link) => in_time(tokio::time::timeout(TOMBSTONE, link.end(&state)).await),
                    Err(why) => Err(why.clone()),
                };
                if let Err(why) = ended {
                    tracing::debug!(instance = %state.instance, cluster = %cluster_id, "no tombstone: {why}");
                }
                // Tearing a link down may block.
                tokio::task::spawn_blocking(move || drop(link));
            })
        };
        spoken_on.into_iter().map(goodbye).collect()
    }

    /// A heartbeat later, give or take a fifth, so that many producers do not write all at once.
    fn schedule(&mut self, base: Duration) {
        self.next = Instant::now() + base.mul_f64(rand::rng().random_range(0.8..1.2));
    }
}

/// What was answered in time, or why nothing was.
fn in_time<T>(answered: Result<ProviderResult<T>, Elapsed>) -> Result<T, String> {
    answered.map_err(|late| late.to_string())?.map_err(|error| error.to_string())
}

impl Driver {
    /// At the start: reads control to its end and registers, both bounded.
    pub(super) fn read_control(&mut self, lane: LaneId) {
        let to = self.shared.inbox.clone();
        let (Some(links), Some(handle)) = (self.links.clone(), self.lanes.get(&lane)) else {
            let _ = to.send(Message::ControlRead(lane, None, None));
            return;
        };
        let target = handle.events.target.clone();
        let state = self.member.beat(&target);
        tokio::spawn(async move {
            let link = match in_time(tokio::time::timeout(REGISTRATION, links.open(&target)).await) {
                Ok(link) => link,
                Err(why) => {
                    tracing::warn!(cluster = %target.cluster_id, "no link to the control topic: {why}");
                    let _ = to.send(Message::ControlRead(lane, None, None));
                    return;
                }
            };
            let (view, told) = tokio::join!(
                tokio::time::timeout(REGISTRATION, link.control_now()),
                tokio::time::timeout(REGISTRATION, link.tell(&state)),
            );
            if let Err(why) = in_time(told) {
                tracing::warn!(instance = %state.instance, "not registered; heartbeats go on trying: {why}");
            }
            let _ = to.send(Message::ControlRead(lane, view.ok().and_then(Result::ok), Some(link)));
        });
    }

    pub(super) fn use_link(&mut self, lane: LaneId, link: Arc<dyn MemberLink>) {
        let (listened, to) = (Arc::clone(&link), self.shared.inbox.clone());
        let listening = tokio::spawn(async move {
            loop {
                let view = listened.next_control().await;
                if to.send(Message::View(lane, view)).is_err() {
                    return;
                }
            }
        });
        let cluster_id = self.lanes.get(&lane).map(|handle| handle.events.target.cluster_id.clone());
        if let Some(old) = self.member.link.replace(Link { lane, cluster_id, link, listening }) {
            old.listening.abort();
            tokio::task::spawn_blocking(move || drop(old));
        }
    }

    /// Adds what the driver knows to the machine's receipt, and tells it on the new cluster.
    pub(super) fn receipt(&mut self, receipt: SwitchReceipt) {
        let counts = {
            let mut parking = self.shared.entrance.lock();
            let counts = parking.hand_over.counts();
            parking.hand_over.reset_counts();
            counts
        };
        let (acknowledged, producer_ids) = std::mem::take(&mut self.member.left);
        self.member.state.receipts.push(Receipt {
            generation: receipt.generation,
            from: receipt.from.clone(),
            to: receipt.to.clone(),
            acknowledged,
            possibly_duplicated: counts.possibly_duplicated,
            returned: counts.returned,
            sealed_ms: receipt.sealed_ms,
            producer_ids,
        });
        if receipt.from != receipt.to || receipt.sealed_ms > 0 {
            let since = self.shared.now().since(self.world.announced_at());
            self.shared.switches.lock().push(SwitchReport::new(receipt, counts, since));
        }
        self.shared.receipt_told.store(false, Ordering::SeqCst);
        self.member.next = Instant::now();
    }

    /// The client that serves now, and its target as the machine knows it: a newer generation may have been adopted.
    fn serving_lane(&self) -> Option<(LaneId, Target)> {
        match self.switch.state() {
            State::Serving { lane, .. } | State::Preparing { lane, .. } => {
                Some((lane.id, lane.target.clone()))
            }
            _ => None,
        }
    }

    pub(super) fn current_target(&self) -> Option<Target> {
        self.serving_lane().map(|(_, target)| target)
    }

    pub(super) fn heartbeat(&mut self, now: Instant) {
        if now < self.member.next {
            return;
        }
        self.member.schedule(self.member.heartbeat);
        let Some((lane, target)) = self.serving_lane() else { return self.member.schedule(RETRY) };
        let Some(links) = self.links.clone() else { return };
        let link = self.member.link.as_ref().filter(|link| link.lane == lane).map(|link| link.link.clone());
        let to = self.shared.inbox.clone();
        // A message to a cluster that was left may take its time, if that one is dead: the news of the move must not wait for it.
        let telling = self.member.telling.is_some_and(|(told, _)| told == lane);
        match link {
            Some(link) if !telling => {
                let state = self.member.beat(&target);
                self.member.telling = Some((lane, state.receipts.len()));
                tokio::spawn(async move {
                    let _ = to.send(Message::Told(lane, link.tell(&state).await));
                });
            }
            None if self.member.opening != Some(lane) => {
                self.member.opening = Some(lane);
                tokio::spawn(async move {
                    let _ = to.send(Message::Opened(lane, links.open(&target).await));
                });
            }
            _ => self.member.schedule(RETRY),
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
            // The producer has moved on meanwhile.
            Ok(link) => drop(tokio::task::spawn_blocking(move || drop(link))),
            Err(error) => {
                self.trouble(error);
                self.member.schedule(RETRY);
            }
        }
    }

    pub(super) fn told(&mut self, lane: LaneId, result: ProviderResult<()>) {
        let Some((_, receipts)) = self.member.telling.take_if(|(telling, _)| *telling == lane) else {
            return;
        };
        match result {
            Ok(()) if receipts == self.member.state.receipts.len() => {
                self.shared.receipt_told.store(receipts > 0, Ordering::SeqCst);
            }
            Ok(()) => self.member.next = Instant::now(),
            Err(error) => {
                self.trouble(error);
                self.member.schedule(RETRY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use kutover_core::error::{ErrorKind, ProviderError};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_cluster_s_own_words_say_why_it_did_not_answer() {
        let refused =
            ProviderError::new(ErrorKind::NotAuthorised, "kutover.control", "not authorised to read it");
        let why = in_time::<()>(Ok(Err(refused))).unwrap_err();
        assert!(why.contains("not authorised to read it"), "{why}");
        let late = tokio::time::timeout(REGISTRATION, pending::<ProviderResult<()>>()).await;
        assert!(in_time(late).unwrap_err().contains("elapsed"));
    }
}
