//! Carries out what the machine says.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kutover_core::controls::{Control, without};
use kutover_core::error::ProviderResult;
use kutover_core::messages::ControlView;
use kutover_core::owner::Target;
use kutover_core::ports::{EndpointAnswer, ProducerClient};
use kutover_core::switch::{Gate, Input, LaneId, LookId, Output, Patience, SealId, SwitchEvent};
use kutover_core::words::Millis;

use super::Message;
use super::driver::Driver;
use super::lane::{Lane, LaneEvents};
use crate::witness::note;

/// How long a look at DNS and control topic may take.
const LOOK: Duration = Duration::from_secs(2);
/// How long the slower of the two sources is waited for once the other has answered.
const GRACE: Duration = Duration::from_millis(10);

impl Driver {
    pub(super) async fn act(&mut self, output: Output) {
        match output {
            Output::Connect { lane, target } => self.connect(lane, target),
            Output::ReadControl { lane } => self.read_control(lane),
            Output::CloseGate { lane } => self.close_gate(lane).await,
            Output::Flush { seal, lane, deadline } => self.flush(seal, lane, deadline),
            Output::Purge { seal, lane } => self.purge(seal, lane),
            Output::Look { look } => self.look(look),
            Output::ReturnHeld => self.return_held(),
            Output::Offer { lane, left, settled } => self.begin_replay(lane, left, settled),
            Output::OpenGate { lane } => self.open_gate(lane),
            Output::Discard { lane } => self.discard(lane),
            Output::SendReceipt(receipt) => self.receipt(receipt),
            Output::Notify(event) => self.notify(event),
            Output::Wait(_) => {}
        }
    }

    fn connect(&mut self, lane: LaneId, target: Target) {
        let events = Arc::new(LaneEvents::new(lane, target.clone(), &self.shared));
        self.connecting.insert(lane, Arc::clone(&events));
        let topics = self.shared.world.scene.topics.iter();
        let topics: Vec<String> = topics.map(|(topic, _)| topic.as_str().to_owned()).collect();
        let (factory, to) = (Arc::clone(&self.reach.factory), self.shared.inbox.clone());
        self.tasks.spawn(async move {
            let result = factory.connect(&target, &topics, events).await;
            let _ = to.send(Message::Connected(lane, result));
        });
    }

    pub(super) async fn connected(&mut self, lane: LaneId, result: ProviderResult<Arc<dyn ProducerClient>>) {
        let Some(events) = self.connecting.remove(&lane) else { return };
        match result {
            Ok(client) => {
                let cluster_id = client.cluster_id();
                let made = Arc::new(Lane { id: lane, gate: Gate::closed(), client, events });
                self.shared.core.lock().lanes.insert(lane, made);
                Box::pin(self.input(Input::Connected { lane, cluster_id })).await;
            }
            Err(error) => Box::pin(self.input(Input::ConnectFailed { lane, error })).await,
        }
    }

    pub(super) fn lane(&self, lane: LaneId) -> Option<Arc<Lane>> {
        self.shared.core.lock().lanes.get(&lane).cloned()
    }

    /// Closes a gate and counts out those inside, however long they sleep (L2).
    async fn close_gate(&mut self, lane: LaneId) {
        if self.replay.as_ref().is_some_and(|replay| replay.is_on(lane)) {
            self.replay = None;
            // It may have been turning senders away.
            self.shared.core.lock().shut = false;
            self.shared.changed.notify_waiters();
        }
        let Some(lane) = self.lane(lane) else { return };
        if !without(Control::OpenGate) {
            lane.gate.close();
        }
        lane.events.sealing.store(true, Ordering::Relaxed);
        while lane.gate.entries() != 0 && !without(Control::EntriesUncounted) {
            let left = self.shared.changed.notified();
            let _ = tokio::time::timeout(Duration::from_millis(500), left).await;
        }
    }

    /// Opens the gate: under the lock of the parked records.
    pub(super) fn open_gate(&mut self, lane: LaneId) {
        let mut core = self.shared.core.lock();
        let Some(handle) = core.lanes.get(&lane).cloned() else { return };
        handle.events.sealing.store(false, Ordering::Relaxed);
        handle.gate.open();
        core.current = Some(lane);
        core.shut = false;
        drop(core);
        let (world, cluster) = (&self.shared.world, handle.client.cluster_id());
        let at_ms = world.now_ms();
        let mut observed = world.witness.observed();
        let moves = &mut observed.producers[self.shared.number].moves;
        if moves.last().is_none_or(|(_, last)| *last != cluster) {
            moves.push((at_ms, cluster));
        }
        drop(observed);
        self.shared.changed.notify_waiters();
    }

    /// A client's own flush would block the only thread there is; what it does is waited for here.
    fn flush(&mut self, seal: SealId, lane: LaneId, deadline: Millis) {
        let Some(lane) = self.lane(lane) else { return };
        let limit = self.shared.until(deadline);
        let shared = Arc::downgrade(&self.shared);
        let to = self.shared.inbox.clone();
        self.tasks.spawn(async move {
            let before = lane.events.acknowledged.load(Ordering::Relaxed);
            let flushed = async {
                while lane.client.outstanding() > 0 {
                    let Some(shared) = shared.upgrade() else { return };
                    let report = shared.changed.notified();
                    let _ = tokio::time::timeout(Duration::from_millis(100), report).await;
                }
            };
            let flushed = tokio::time::timeout(limit, flushed).await.is_ok();
            // The reports are counted, whatever a flush says (L1).
            let settled = flushed && lane.client.outstanding() == 0;
            let progress = lane.events.acknowledged.load(Ordering::Relaxed) > before;
            let _ = to.send(Message::Input(Input::Flushed { seal, settled, progress }));
        });
    }

    fn purge(&mut self, seal: SealId, lane: LaneId) {
        let Some(lane) = self.lane(lane) else { return };
        let to = self.shared.inbox.clone();
        self.tasks.spawn(async move {
            while lane.client.outstanding() > 0 {
                lane.client.purge();
                tokio::task::yield_now().await;
            }
            let _ = to.send(Message::Input(Input::Purged { seal }));
        });
    }

    fn look(&mut self, look: LookId) {
        let (watch, link, to) =
            (Arc::clone(&self.reach.watch), self.member.link(), self.shared.inbox.clone());
        let patience = self.switch.patience();
        self.tasks.spawn(async move {
            let answer = async { tokio::time::timeout(LOOK, watch.ask_now()).await.ok() };
            let view = async {
                match link {
                    Some(link) => tokio::time::timeout(LOOK, link.control_now()).await.ok()?.ok(),
                    None => None,
                }
            };
            let (answer, view) = both_or_soon(answer, view, &patience).await;
            let _ = to.send(Message::Looked(look, answer, view));
        });
    }

    fn discard(&mut self, lane: LaneId) {
        let mut core = self.shared.core.lock();
        let Some(handle) = core.lanes.remove(&lane) else { return };
        if core.current == Some(lane) {
            core.current = None;
        }
        drop(core);
        let acknowledged = handle.events.acknowledged.load(Ordering::Relaxed);
        self.member.left(acknowledged, &handle.events.producer_ids.lock());
    }

    fn notify(&mut self, event: SwitchEvent) {
        let (world, number) = (&self.shared.world, self.shared.number);
        note!(world.witness, "producer {number}: {event:?}");
        match event {
            SwitchEvent::Stopped { .. } => self.stopped(),
            SwitchEvent::Started { .. } => self.shared.started.raise(),
            _ => {}
        }
    }
}

/// Both sources, but once one has said what is needed the other gets only a moment more.
async fn both_or_soon(
    answer: impl Future<Output = Option<EndpointAnswer>>,
    view: impl Future<Output = Option<ControlView>>,
    patience: &Patience,
) -> (Option<EndpointAnswer>, Option<ControlView>) {
    let (mut answer, mut view) = (std::pin::pin!(answer), std::pin::pin!(view));
    tokio::select! {
        biased;
        found = &mut answer => {
            let view = match found {
                Some(EndpointAnswer::Found { ref owner, .. }) if patience.is_over(owner.as_ref()) => {
                    tokio::time::timeout(GRACE, view).await.unwrap_or(None)
                }
                _ => view.await,
            };
            (found, view)
        }
        read = &mut view => {
            let answer = match read {
                Some(_) => tokio::time::timeout(GRACE, answer).await.unwrap_or(None),
                None => answer.await,
            };
            (answer, read)
        }
    }
}
