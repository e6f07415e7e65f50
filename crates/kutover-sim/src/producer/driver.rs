//! The switch's own task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kutover_core::error::ProviderResult;
use kutover_core::messages::{ControlView, HEARTBEAT_MS};
use kutover_core::owner::Intent;
use kutover_core::ports::{EndpointAnswer, MemberLink, ProducerClient};
use kutover_core::switch::{Fences, Input, LaneId, LookId, Output, State, Switch, SwitchPolicy, Violation};
use kutover_core::words::{Generation, Millis};
use rand::Rng as _;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::lane::LaneEvents;
use super::member::Member;
use super::replay::Replay;
use super::{Reach, Shared, shown};
use crate::weather::Fault;
use crate::witness::note;
use crate::world::World;

/// What reaches the switch's task.
pub(crate) enum Message {
    Input(Input),
    /// A send has left the gate.
    Left,
    Answer(EndpointAnswer),
    View(LaneId, ControlView),
    Connected(LaneId, ProviderResult<Arc<dyn ProducerClient>>),
    Opened(LaneId, ProviderResult<Arc<dyn MemberLink>>),
    ControlRead(LaneId, Option<ControlView>, Option<Arc<dyn MemberLink>>),
    Looked(LookId, Option<EndpointAnswer>, Option<ControlView>),
    Told(bool),
}

pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) switch: Switch,
    pub(super) reach: Reach,
    pub(super) connecting: BTreeMap<LaneId, Arc<LaneEvents>>,
    pub(super) replay: Option<Replay>,
    pub(super) member: Member,
    pub(super) dice: SmallRng,
    /// Everything that this process started: it ends with it.
    pub(super) tasks: JoinSet<()>,
    inbox: mpsc::UnboundedReceiver<Message>,
    wait: Option<Millis>,
    owner_intent: Option<Intent>,
    view: ControlView,
    announced: Fences,
    /// Since when a client is being settled behind its closed gate.
    pub(super) sealing_ms: Option<u64>,
    failed: bool,
}

/// How often waiting records are looked through for expired ones.
const EXPIRY_CHECK: Duration = Duration::from_millis(50);

/// Runs one process. Whether it was killed and is to be started again.
pub(super) async fn live_once(world: &Arc<World>, number: usize, life: u64, reach: &Reach) -> bool {
    let (inbox, messages) = mpsc::unbounded_channel();
    let shared = Shared::new(world, number, life, inbox);
    let driver = Driver::new(&shared, messages, reach.clone(), life);
    let mut driving = tokio::spawn(driver.serve());
    let traffic = tokio::spawn(traffic(Arc::clone(&shared), life));
    let killed = tokio::select! {
        biased;
        () = killer(world) => true,
        () = world.until_ending() => false,
        _ = &mut driving => true, // It could not start, or broke: a service restarts it. A panic is a violation all the same.
    };
    if !killed {
        // A send that sleeps inside the gate is still one of its sends.
        let _ = traffic.await;
        settle(&shared).await;
    } else {
        traffic.abort();
    }
    driving.abort();
    if !driving.is_finished() {
        let _ = driving.await;
    }
    if killed {
        shared.killed();
    }
    shared.core.lock().gone = true;
    killed && !world.is_ending()
}

async fn killer(world: &World) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if world.weather.strikes(Fault::ProducerKilled).is_some() {
            return;
        }
    }
}

/// Waits until every accepted record has ended, bounded.
async fn settle(shared: &Shared) {
    let bound = Duration::from_secs(4 * 3_600);
    let settled = async {
        while shared.in_flight() > 0 {
            let _ = tokio::time::timeout(Duration::from_millis(200), shared.changed.notified()).await;
        }
    };
    if tokio::time::timeout(bound, settled).await.is_err() {
        let stuck = format!("producer {}: {} records never ended", shared.number, shared.in_flight());
        shared.world.witness.observed().end.stuck.push(stuck);
    }
}

async fn traffic(shared: Arc<Shared>, life: u64) {
    let scene = shared.world.scene.producers[shared.number].clone();
    let mut dice = shared.world.weather.dice(10_000 * (life + 1) + shared.number as u64);
    let (topics, burst) = (shared.world.scene.topics.len(), shared.world.scene.burst);
    let mut sent = 0_u64;
    tokio::select! {
        biased;
        () = shared.started.raised() => {}
        () = shared.world.until_ending() => return,
    }
    while !shared.world.is_ending() {
        // Who has sent much sends less often: an hour of virtual time must not cost one of real time.
        let slower = 1 << (sent / burst).min(8);
        let gap = dice.random_range(1..scene.gap_ms * 2) * slower;
        let sleep = tokio::time::sleep(Duration::from_millis(gap));
        tokio::select! {
            biased;
            () = shared.world.until_ending() => return,
            () = sleep => {}
        }
        for _ in 0..dice.random_range(1..4) {
            if !shared.send(dice.random_range(0..topics), dice.random_range(0..4)).await {
                return;
            }
            sent += 1;
        }
    }
}

impl Driver {
    fn new(shared: &Arc<Shared>, inbox: mpsc::UnboundedReceiver<Message>, reach: Reach, life: u64) -> Self {
        let policy = SwitchPolicy { order: shared.order, ..SwitchPolicy::default() };
        let mut tasks = JoinSet::new();
        let (watch, to) = (Arc::clone(&reach.watch), shared.inbox.clone());
        tasks.spawn(async move {
            loop {
                let answer = watch.next().await;
                if to.send(Message::Answer(answer)).is_err() {
                    return;
                }
            }
        });
        let incarnation = format!("{}-{life}", shared.number);
        let member = Member::new(shared.name.as_str().into(), incarnation, HEARTBEAT_MS);
        shared.world.producers.lock().insert(member.key(), Arc::downgrade(shared));
        Self {
            switch: Switch::new(policy, shared.now()),
            reach,
            connecting: BTreeMap::new(),
            replay: None,
            member,
            dice: shared.world.weather.dice(20_000 * (life + 1) + shared.number as u64),
            tasks,
            inbox,
            wait: None,
            owner_intent: None,
            view: ControlView::default(),
            announced: Fences::default(),
            sealing_ms: None,
            failed: false,
            shared: Arc::clone(shared),
        }
    }

    async fn serve(mut self) {
        self.input(Input::Tick).await;
        while !self.failed {
            self.replay_some().await;
            self.expire();
            self.heartbeat();
            while self.tasks.try_join_next().is_some() {}
            let until = self.next_instant();
            tokio::select! {
                biased;
                message = self.inbox.recv() => match message {
                    Some(message) => self.take_in(message).await,
                    None => return,
                },
                () = tokio::time::sleep_until(until) => self.input(Input::Tick).await,
            }
        }
    }

    async fn take_in(&mut self, message: Message) {
        match message {
            Message::Input(input) => self.input(input).await,
            Message::Left => {}
            Message::Answer(answer) => self.answered(answer).await,
            Message::View(lane, view) => {
                if self.member.link_lane() == Some(lane) {
                    self.viewed(view).await;
                }
            }
            Message::Connected(lane, result) => self.connected(lane, result).await,
            Message::Opened(lane, result) => self.opened(lane, result),
            Message::ControlRead(lane, view, link) => {
                if let Some(link) = link {
                    self.use_link(lane, link);
                }
                if let Some(view) = view {
                    self.viewed(view).await;
                }
                self.input(Input::ControlRead { lane }).await;
            }
            Message::Looked(look, answer, view) => {
                if let Some(answer) = answer {
                    self.answered(answer).await;
                }
                if let Some(view) = view {
                    self.viewed(view).await;
                }
                self.input(Input::Looked { look }).await;
            }
            Message::Told(well) => self.told(well),
        }
    }

    /// Gives the machine an input and does what it says.
    pub(super) async fn input(&mut self, input: Input) {
        note!(self.shared.world.witness, "producer {}: {}", self.shared.number, named(&input));
        let result = self.switch.handle(self.shared.now(), &input);
        let outputs = self.drain();
        self.follow(outputs, result).await;
    }

    pub(super) async fn follow(&mut self, outputs: Vec<Output>, result: Result<(), Violation>) {
        self.watch_seal();
        let lanes: Vec<_> = self.shared.core.lock().lanes.values().cloned().collect();
        for lane in lanes {
            if let Some(fenced) = self.switch.is_under_fence(lane.id) {
                lane.events.announced.store(fenced, Ordering::Relaxed);
            }
        }
        for output in outputs {
            self.act(output).await;
        }
        if let Err(violation) = result {
            self.shared.world.witness.observed().broken.push(violation.to_string());
            self.failed = true;
        }
    }

    pub(super) fn drain(&mut self) -> Vec<Output> {
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

    pub(super) fn stopped(&mut self) {
        let returned = {
            let mut core = self.shared.core.lock();
            core.ended = true;
            core.hand_over.abandon()
        };
        for record in returned {
            self.shared.give_back(record);
        }
        self.failed = true;
    }

    fn next_instant(&self) -> Instant {
        let mut next = self.member.next_heartbeat();
        if let Some(replay) = &self.replay
            && let Some(retry) = replay.next_try()
        {
            next = next.min(retry);
        }
        if !self.shared.core.lock().hand_over.is_empty() {
            next = next.min(Instant::now() + EXPIRY_CHECK);
        }
        if let Some(wait) = self.wait {
            next = next.min(Instant::now() + self.shared.until(wait));
        }
        next
    }

    fn expire(&mut self) {
        let now = self.shared.now();
        let expired = self.shared.core.lock().hand_over.expire(now);
        for returned in expired {
            self.shared.give_back(returned);
        }
    }

    /// A DNS answer. Failed and empty ones, and another deployment's, move nobody (L4).
    async fn answered(&mut self, answer: EndpointAnswer) {
        let EndpointAnswer::Found { owner: Some(owner), .. } = answer else { return };
        if owner.deployment != self.shared.world.scene.plan.deployment {
            return;
        }
        if self.switch.newest().is_none_or(|newest| newest.generation <= owner.target.generation) {
            self.owner_intent = owner.intent;
            self.fences_changed().await;
        }
        self.input(Input::Target(owner.target)).await;
    }

    async fn viewed(&mut self, view: ControlView) {
        if view.deployment.as_ref().is_some_and(|name| *name != self.shared.world.scene.plan.deployment) {
            return;
        }
        let target = view.target.clone();
        self.view = view;
        self.fences_changed().await;
        if let Some(target) = target {
            self.input(Input::Target(target)).await;
        }
    }

    async fn fences_changed(&mut self) {
        let fences = Fences {
            intent: self.owner_intent.clone().or_else(|| self.view.intent.clone()),
            fenced: self.view.fenced.iter().copied().collect(),
            generation: self.view.target.as_ref().map_or(Generation(0), |target| target.generation),
        };
        if self.announced != fences {
            self.announced = fences.clone();
            self.input(Input::Fences(fences)).await;
        }
    }

    /// The client that serves now, and its target as the machine knows it.
    pub(super) fn serving_lane(&self) -> Option<(LaneId, kutover_core::owner::Target)> {
        match self.switch.state() {
            State::Serving { lane, .. } | State::Preparing { lane, .. } => {
                Some((lane.id, lane.target.clone()))
            }
            _ => None,
        }
    }

    pub(super) fn random(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.dice.random_range(range)
    }
}

fn named(input: &Input) -> String {
    match input {
        Input::Tick => "tick".into(),
        Input::Target(target) => format!("target {}", shown(target.generation)),
        other => format!("{other:?}"),
    }
}

/// What listens to a link's control topic.
pub(super) type Listening = AbortHandle;
