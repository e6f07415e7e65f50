//! The switch's own thread: it drives the machine, and nothing a caller does can block it.

mod act;
mod close;
mod member;
mod replay;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kutover_core::error::{ProviderError, ProviderResult};
use kutover_core::messages::ControlView;
use kutover_core::ports::{
    EndpointAnswer, EndpointWatch, MemberLink, MemberLinks, ProducerClient, ProducerFactory,
};
use kutover_core::switch::{Input, LaneId, LookId, Output, Seal, State, Switch, SwitchPolicy, Violation};
use kutover_core::words::{DeploymentName, InstanceName, Millis};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::events::{ProducerEvent, read};
use crate::lane::LaneEvents;
use crate::shared::{LaneHandle, Shared};
use member::Member;
use replay::Replay;
use world::World;

/// What reaches the switch's thread.
pub(crate) enum Message {
    Input(Input),
    Answer(EndpointAnswer),
    View(LaneId, ControlView),
    Connected(LaneId, ProviderResult<Arc<dyn ProducerClient>>),
    Opened(LaneId, ProviderResult<Arc<dyn MemberLink>>),
    /// The control topic was read at the start, or given up on; the registration was written, or given up on.
    ControlRead(LaneId, Option<ControlView>, Option<Arc<dyn MemberLink>>),
    Looked(LookId, Option<EndpointAnswer>, Option<ControlView>),
    Told(LaneId, ProviderResult<()>),
    Close(Option<oneshot::Sender<()>>),
}

/// How the producer finds out where to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Owner record and control topic say it.
    Owned,
    /// Somebody else moves the record; clients bootstrap from its addresses at this port.
    FollowDns { port: u16 },
}

/// What the thread is made from.
pub(crate) struct Setup {
    pub(crate) deployment: DeploymentName,
    pub(crate) instance: InstanceName,
    pub(crate) incarnation: String,
    pub(crate) mode: Mode,
    pub(crate) policy: SwitchPolicy,
    pub(crate) factory: Arc<dyn ProducerFactory>,
    pub(crate) watch: Arc<dyn EndpointWatch>,
    pub(crate) links: Option<Arc<dyn MemberLinks>>,
    pub(crate) heartbeat: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) topics: Vec<String>,
    pub(crate) started: oneshot::Sender<Result<(), String>>,
}

pub(crate) struct Driver {
    shared: Arc<Shared>,
    switch: Switch,
    inbox: mpsc::UnboundedReceiver<Message>,
    factory: Arc<dyn ProducerFactory>,
    watch: Arc<dyn EndpointWatch>,
    links: Option<Arc<dyn MemberLinks>>,
    connecting: BTreeMap<LaneId, Arc<LaneEvents>>,
    lanes: BTreeMap<LaneId, Arc<LaneHandle>>,
    replay: Option<Replay>,
    world: World,
    member: Member,
    started: Option<oneshot::Sender<Result<(), String>>>,
    closing: Option<(Vec<oneshot::Sender<()>>, Instant)>,
    close_timeout: Duration,
    watching: JoinHandle<()>,
    wait: Option<Millis>,
    next_metrics: Instant,
    labels: Vec<metrics::Label>,
    /// What has been published of each counter.
    published: [u64; 5],
}

/// How often metrics are published.
const METRICS: Duration = Duration::from_secs(1);

/// Runs the thread until the producer ends.
pub(crate) fn run(shared: Arc<Shared>, setup: Setup, inbox: mpsc::UnboundedReceiver<Message>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = setup.started.send(Err(format!("no runtime for the switch's thread: {error}")));
            return;
        }
    };
    runtime.block_on(async {
        let mut driver = Driver::new(shared, setup, inbox);
        driver.serve().await;
    });
    // What is still connecting or reading then ends with its own bound; nobody waits for it.
    runtime.shutdown_background();
}

impl Driver {
    fn new(shared: Arc<Shared>, setup: Setup, inbox: mpsc::UnboundedReceiver<Message>) -> Self {
        shared.topics.lock().extend(setup.topics);
        let (watch, to) = (Arc::clone(&setup.watch), shared.inbox.clone());
        let watching = tokio::spawn(async move {
            loop {
                let answer = watch.next().await;
                if to.send(Message::Answer(answer)).is_err() {
                    return;
                }
            }
        });
        let labels = vec![
            metrics::Label::new("deployment", setup.deployment.to_string()),
            metrics::Label::new("instance", setup.instance.to_string()),
        ];
        Self {
            switch: Switch::new(setup.policy, shared.now()),
            inbox,
            factory: setup.factory,
            watch: setup.watch,
            links: setup.links,
            connecting: BTreeMap::new(),
            lanes: BTreeMap::new(),
            replay: None,
            world: World::new(setup.mode, setup.deployment),
            member: Member::new(setup.instance, setup.incarnation, setup.heartbeat),
            started: Some(setup.started),
            closing: None,
            close_timeout: setup.close_timeout,
            watching,
            wait: None,
            next_metrics: Instant::now() + METRICS,
            labels,
            published: [0; 5],
            shared,
        }
    }

    async fn serve(&mut self) {
        self.input(Input::Tick);
        loop {
            self.replay_some();
            let now = Instant::now();
            self.expire();
            self.heartbeat(now);
            if now >= self.next_metrics {
                self.next_metrics = now + METRICS;
                self.publish_metrics();
            }
            if self.may_finish(now) {
                return self.finish().await;
            }
            let until = self.next_instant();
            tokio::select! {
                biased;
                message = self.inbox.recv() => match message {
                    Some(message) => self.take_in(message),
                    None => return self.finish().await,
                },
                () = tokio::time::sleep_until(until.into()) => self.input(Input::Tick),
            }
        }
    }

    fn take_in(&mut self, message: Message) {
        match message {
            Message::Input(input) => {
                // Before it is looked at: what is refused from here on is told anew.
                if let Input::Refused { lane } = &input
                    && let Some(handle) = self.lanes.get(lane)
                {
                    handle.events.refusal_told.store(false, Ordering::SeqCst);
                }
                self.input(input);
            }
            Message::Answer(answer) => self.answered(answer),
            Message::View(lane, view) => {
                if self.member.link_lane() == Some(lane) {
                    self.viewed(view);
                }
            }
            Message::Connected(lane, result) => self.connected(lane, result),
            Message::Opened(lane, result) => self.opened(lane, result),
            Message::ControlRead(lane, view, link) => {
                if let Some(link) = link {
                    self.use_link(lane, link);
                }
                if let Some(view) = view {
                    self.viewed(view);
                }
                self.input(Input::ControlRead { lane });
            }
            Message::Looked(look, answer, view) => {
                if let Some(answer) = answer {
                    self.answered(answer);
                }
                if let Some(view) = view {
                    self.viewed(view);
                }
                self.input(Input::Looked { look });
            }
            Message::Told(lane, result) => self.told(lane, result),
            Message::Close(reply) => {
                let deadline = Instant::now() + self.close_timeout;
                let closing = self.closing.get_or_insert((Vec::new(), deadline));
                closing.0.extend(reply);
            }
        }
    }

    /// Gives the machine an input and does what it says.
    fn input(&mut self, input: Input) {
        if let Input::Target(target) = &input {
            self.world.note_announcement(self.switch.newest(), target, self.shared.now());
        }
        let result = self.switch.handle(self.shared.now(), &input);
        let outputs = self.drain();
        self.follow(outputs, result);
    }

    fn follow(&mut self, outputs: Vec<Output>, result: Result<(), Violation>) {
        if let Some(target) = self.current_target() {
            self.shared.generation.store(target.generation.0, Ordering::SeqCst);
        }
        for (lane, handle) in &self.lanes {
            if let Some(fenced) = self.switch.is_under_fence(*lane) {
                handle.events.announced.store(fenced, Ordering::Release);
            }
        }
        self.act(outputs);
        if let Err(violation) = result {
            self.stop(violation.to_string());
        }
    }

    fn drain(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        loop {
            match self.switch.poll() {
                Output::Wait(until) => {
                    self.wait = until;
                    return outputs;
                }
                output => outputs.push(output),
            }
        }
    }

    fn next_instant(&self) -> Instant {
        let shared = &self.shared;
        let mut next = self.next_metrics.min(self.member.next_heartbeat());
        // An instant that the clock cannot name is not worth waking for.
        let far = next;
        let at = |millis: Millis| shared.origin.checked_add(Duration::from_millis(millis.0)).unwrap_or(far);
        if let Some(replay) = &self.replay
            && let Some(retry) = replay.next_try()
        {
            next = next.min(retry);
        }
        if !shared.entrance.lock().hand_over.is_empty() {
            next = next.min(Instant::now() + world::EXPIRY_CHECK);
        }
        if let Some((_, deadline)) = &self.closing {
            next = next.min(*deadline).min(Instant::now() + world::EXPIRY_CHECK);
        }
        if let Some(wait) = self.wait {
            next = next.min(at(wait));
        }
        next
    }

    /// Records that outlived their delivery timeout while they waited.
    fn expire(&mut self) {
        let now = self.shared.now();
        let expired = {
            let mut parking = self.shared.entrance.lock();
            if self.world.expiry_due(&parking.hand_over, now) {
                parking.hand_over.expire(now)
            } else {
                Vec::new()
            }
        };
        for returned in expired {
            self.shared.give_back(returned);
        }
    }

    /// Whether a client takes what is sent; another one may be being connected meanwhile.
    fn is_serving(&self) -> bool {
        matches!(self.switch.state(), State::Serving { .. } | State::Preparing { seal: Seal::Open, .. })
    }

    fn trouble(&self, error: ProviderError) {
        self.shared.listeners.tell(ProducerEvent::MemberTrouble(error));
    }

    fn publish_metrics(&mut self) {
        let shared = &self.shared;
        let values = [
            ("kutover_producer_acknowledged_total", shared.acknowledged()),
            ("kutover_producer_returned_not_written_total", read(&shared.tally.not_written)),
            ("kutover_producer_returned_unknown_total", read(&shared.tally.unknown)),
            ("kutover_producer_possibly_duplicated_total", read(&shared.tally.possibly_duplicated)),
            ("kutover_producer_switches_total", shared.switches.lock().len() as u64),
        ];
        let labels = || self.labels.clone();
        for ((name, value), published) in values.into_iter().zip(&mut self.published) {
            // What was added, not what it has come to: one of the same name that was made before has counted too.
            metrics::counter!(name, labels()).increment(value.saturating_sub(*published));
            *published = value;
        }
        let gauge = |name: &'static str, value: f64| metrics::gauge!(name, labels()).set(value);
        gauge("kutover_producer_in_flight", shared.in_flight() as f64);
        gauge("kutover_producer_parked_bytes", shared.entrance.lock().hand_over.bytes() as f64);
        let generation = self.switch.newest().map_or(0, |target| target.generation.0);
        gauge("kutover_producer_newest_generation", generation as f64);
    }
}
