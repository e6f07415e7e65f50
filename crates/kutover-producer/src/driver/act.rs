//! Carries out what the machine says.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kutover_core::error::ProviderResult;
use kutover_core::messages::ControlView;
use kutover_core::owner::Target;
use kutover_core::ports::{EndpointAnswer, ProducerClient};
use kutover_core::switch::{Gate, Input, LaneId, LookId, Output, Parked, Patience, SealId, SwitchEvent};
use kutover_core::words::Millis;

use super::{Driver, Message};
use crate::events::{ProducerEvent, add};
use crate::lane::LaneEvents;
use crate::shared::LaneHandle;

/// How long a look at DNS and control topic may take.
const LOOK: Duration = Duration::from_secs(2);
/// How long the slower of the two sources is waited for once the other has answered. The control topic is followed all the
/// time besides, so a look that misses it knows it as of a fetch ago.
const GRACE: Duration = Duration::from_millis(10);

impl Driver {
    pub(super) fn act(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            self.act_on(output);
        }
    }

    fn act_on(&mut self, output: Output) {
        match output {
            Output::Connect { lane, target } => self.connect(lane, target),
            Output::ReadControl { lane } => self.read_control(lane),
            Output::CloseGate { lane } => self.close_gate(lane),
            Output::Flush { seal, lane, deadline } => self.flush(seal, lane, deadline),
            Output::Purge { seal, lane } => self.purge(seal, lane),
            Output::Look { look } => self.look(look),
            Output::ReturnHeld => self.return_held(),
            Output::Offer { lane, left, settled } => self.begin_replay(lane, left, settled),
            Output::OpenGate { lane } => {
                let shared = Arc::clone(&self.shared);
                let mut parked = shared.entrance.lock();
                self.open_gate(lane, &mut parked);
                drop(parked);
                shared.room.notify_waiters();
            }
            Output::Discard { lane } => self.discard(lane),
            Output::SendReceipt(receipt) => self.receipt(receipt),
            Output::Notify(event) => self.notify(event),
            Output::Wait(_) => {}
        }
    }

    fn connect(&mut self, lane: LaneId, target: Target) {
        let events = Arc::new(LaneEvents::new(lane, target.clone(), Arc::clone(&self.shared)));
        self.connecting.insert(lane, Arc::clone(&events));
        let topics: Vec<String> = self.shared.topics.lock().iter().cloned().collect();
        let (factory, to) = (Arc::clone(&self.factory), self.shared.inbox.clone());
        tokio::spawn(async move {
            let result = factory.connect(&target, &topics, events).await;
            let _ = to.send(Message::Connected(lane, result));
        });
    }

    pub(super) fn connected(&mut self, lane: LaneId, result: ProviderResult<Arc<dyn ProducerClient>>) {
        let Some(events) = self.connecting.remove(&lane) else { return };
        match result {
            Ok(client) => {
                let cluster_id = client.cluster_id();
                self.shared.lanes.lock().push(Arc::clone(&events));
                let handle = Arc::new(LaneHandle { gate: Gate::closed(), client, events });
                self.lanes.insert(lane, handle);
                self.input(Input::Connected { lane, cluster_id });
            }
            Err(error) => self.input(Input::ConnectFailed { lane, error }),
        }
    }

    fn close_gate(&mut self, lane: LaneId) {
        if self.replay.as_ref().is_some_and(|replay| replay.is_on(lane)) {
            self.replay = None;
            // It may have been turning senders away, who were to wait for its end. There is none, and what comes may wait long.
            self.shared.entrance.lock().shut = false;
            self.shared.room.notify_waiters();
        }
        let Some(handle) = self.lanes.get(&lane) else { return };
        handle.events.sealing.store(true, Ordering::SeqCst);
        handle.gate.seal(std::thread::yield_now);
    }

    /// Opens the gate under the lock of the parked records. Whoever waits for room is woken after it, by the caller.
    pub(super) fn open_gate(&self, lane: LaneId, parked: &mut Parked<'_, LaneHandle>) {
        let Some(handle) = self.lanes.get(&lane) else { return };
        handle.events.sealing.store(false, Ordering::SeqCst);
        parked.open(handle);
    }

    fn flush(&mut self, seal: SealId, lane: LaneId, deadline: Millis) {
        let Some(handle) = self.lanes.get(&lane).cloned() else { return };
        let timeout_ms = deadline.since(self.shared.now());
        let to = self.shared.inbox.clone();
        tokio::task::spawn_blocking(move || {
            let before = handle.events.acknowledged.load(Ordering::SeqCst);
            let flushed = handle.client.flush(timeout_ms);
            // The reports are counted, whatever flush says (L1).
            let settled = flushed && handle.client.outstanding() == 0;
            let progress = handle.events.acknowledged.load(Ordering::SeqCst) > before;
            let _ = to.send(Message::Input(Input::Flushed { seal, settled, progress }));
        });
    }

    fn purge(&mut self, seal: SealId, lane: LaneId) {
        let Some(handle) = self.lanes.get(&lane).cloned() else { return };
        let to = self.shared.inbox.clone();
        tokio::task::spawn_blocking(move || {
            // A purge that left something outstanding is not done: its fate is not known yet.
            loop {
                handle.client.purge();
                if handle.client.outstanding() == 0 {
                    break;
                }
                tracing::error!(?lane, "purged records have no report yet");
            }
            let _ = to.send(Message::Input(Input::Purged { seal }));
        });
    }

    fn look(&mut self, look: LookId) {
        let (watch, link, to) = (Arc::clone(&self.watch), self.member.link(), self.shared.inbox.clone());
        let patience = self.switch.patience();
        tokio::spawn(async move {
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

    pub(super) fn discard(&mut self, lane: LaneId) {
        let Some(handle) = self.lanes.remove(&lane) else { return };
        let current = self.shared.entrance.current();
        if current.is_some_and(|current| current.events.id == lane) {
            self.shared.forget_current();
        }
        let acknowledged = {
            let mut lanes = self.shared.lanes.lock();
            lanes.retain(|events| events.id != lane);
            let acknowledged = handle.events.acknowledged.load(Ordering::SeqCst);
            add(&self.shared.acknowledged_before, acknowledged);
            acknowledged
        };
        self.member.left(acknowledged, &handle.events.producer_ids.lock());
        // Tearing a client down may block; it has nothing outstanding.
        tokio::task::spawn_blocking(move || drop(handle));
    }

    fn notify(&mut self, event: SwitchEvent) {
        match &event {
            SwitchEvent::Started { .. } => {
                if let Some(started) = self.started.take() {
                    let _ = started.send(Ok(()));
                }
            }
            SwitchEvent::Stopped { reason } => self.stop(reason.clone()),
            _ => {}
        }
        self.shared.listeners.tell(ProducerEvent::Switch(event));
    }

    /// The producer has stopped for good: what waits goes back to its callers.
    pub(super) fn stop(&mut self, reason: String) {
        let _ = self.shared.dead.set(reason.clone());
        if let Some(started) = self.started.take() {
            let _ = started.send(Err(reason));
        }
        self.replay = None;
        let returned = self.shared.entrance.lock().end();
        for record in returned {
            self.shared.give_back(record);
        }
        for handle in self.lanes.values() {
            handle.gate.close();
            handle.events.sealing.store(false, Ordering::SeqCst);
        }
        self.shared.room.notify_waiters();
    }
}

/// Both sources, but once one has said what is needed the other gets only a moment more: a dead resolver or a dead cluster
/// must not hold senders up.
async fn both_or_soon(
    answer: impl Future<Output = Option<EndpointAnswer>>,
    view: impl Future<Output = Option<ControlView>>,
    patience: &Patience,
) -> (Option<EndpointAnswer>, Option<ControlView>) {
    let (mut answer, mut view) = (std::pin::pin!(answer), std::pin::pin!(view));
    tokio::select! {
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

#[cfg(test)]
mod tests {
    use kutover_core::owner::OwnerRecord;
    use kutover_core::ports::EndpointWatch;
    use kutover_core::switch::{HandOver, Order, SwitchPolicy, UnknownPolicy};
    use kutover_core::words::{Colour, Generation, Term};
    use kutover_testkit::mocks::MockProducerFactory;
    use tokio::sync::{mpsc, oneshot};

    use super::super::{Mode, Setup};
    use super::*;
    use crate::shared::Shared;

    struct Silent;

    #[async_trait::async_trait]
    impl EndpointWatch for Silent {
        async fn next(&self) -> EndpointAnswer {
            std::future::pending().await
        }

        async fn ask_now(&self) -> EndpointAnswer {
            std::future::pending().await
        }
    }

    fn driver() -> Driver {
        let (inbox, messages) = mpsc::unbounded_channel();
        let hand_over = HandOver::new(Order::Ordered, UnknownPolicy::Return, 1_000);
        let shared = Arc::new(Shared::new(hand_over, Duration::from_secs(60), inbox));
        let setup = Setup {
            deployment: "orders".into(),
            instance: "app-1".into(),
            incarnation: "i".into(),
            mode: Mode::Owned,
            policy: SwitchPolicy::default(),
            factory: Arc::new(MockProducerFactory::new()),
            watch: Arc::new(Silent),
            links: None,
            heartbeat: Duration::from_secs(5),
            close_timeout: Duration::from_secs(30),
            topics: Vec::new(),
            started: oneshot::channel().0,
        };
        Driver::new(shared, setup, messages)
    }

    /// A replay that has become late turns senders away until it ends. One that is refused never does, and what is sent while
    /// the way onward is looked for is to be parked.
    #[tokio::test(start_paused = true)]
    async fn a_replay_that_is_given_up_turns_nobody_away() {
        let mut driver = driver();
        driver.begin_replay(LaneId(2), LaneId(1), true);
        driver.shared.entrance.lock().shut = true;
        driver.act(vec![Output::CloseGate { lane: LaneId(1) }]);
        assert!(driver.shared.entrance.lock().shut, "its replay goes on");
        driver.act(vec![Output::CloseGate { lane: LaneId(2) }]);
        assert!(!driver.shared.entrance.lock().shut);
    }

    /// DNS answers at once and leads to this generation; the control topic takes longer than the grace.
    async fn view_is_there(generation: u64, patience: Patience) -> bool {
        let target = Target {
            generation: Generation(generation),
            colour: Colour::Blue,
            cluster_id: "b".into(),
            bootstrap: Vec::new(),
        };
        let owner = OwnerRecord {
            deployment: "orders".into(),
            term: Term(1),
            nonce: "n".into(),
            target,
            intent: None,
            removal: None,
        };
        let answer = EndpointAnswer::Found { addresses: Vec::new(), owner: Some(owner), ttl_ms: 1 };
        let view = async {
            tokio::time::sleep(GRACE * 30).await;
            Some(ControlView::default())
        };
        let (answer, view) = both_or_soon(async { Some(answer) }, view, &patience).await;
        assert!(answer.is_some());
        view.is_some()
    }

    /// A refusal that an announced fence explains is not the caller's, however quickly DNS says what is known already.
    #[tokio::test(start_paused = true)]
    async fn a_slow_control_topic_is_waited_for_unless_senders_wait_or_dns_has_news() {
        let known = Some(Generation(7));
        assert!(view_is_there(7, Patience { sealed: false, known }).await, "it may explain a refusal");
        assert!(!view_is_there(7, Patience { sealed: true, known }).await, "senders wait behind the gate");
        assert!(!view_is_there(8, Patience { sealed: false, known }).await, "DNS has said where to go");
    }
}
