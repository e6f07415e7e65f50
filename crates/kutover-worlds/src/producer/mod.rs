//! A producer: the real switch and hand-over, and a driver that does what they say one act at a time, in any order.

mod act;
mod driver;
mod judge;

use std::collections::BTreeMap;

use kutover_core::owner::{Intent, Target};
use kutover_core::ports::{DeliveryFate, Token};
use kutover_core::switch::{
    Failure, Fences, HandOver, Input, LaneId, LookId, Output, Sequence, State, Switch, SwitchPolicy,
    TopicKey, UnknownPolicy,
};
use kutover_core::switch::{Order, SealId};
use kutover_core::words::{Colour, Generation, Millis};

use crate::promise::{Broken, Promise};

pub(crate) use act::Act;

/// Time stands still: every deadline is a choice.
pub(crate) const NOW: Millis = Millis(0);
/// Nothing expires.
const NEVER: Millis = Millis(u64::MAX);
const TOPIC: TopicKey = TopicKey(1);

/// How a record ended for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ending {
    Acknowledged,
    Returned(DeliveryFate),
}

/// A record that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Rec {
    pub(crate) ending: Option<Ending>,
    /// Its slot remembers that it was sent again after it may have been written.
    pub(crate) maybe_written: bool,
}

/// One client of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    /// The cluster that it really is on.
    pub(crate) colour: Colour,
    /// The cluster that it was meant for.
    meant: Colour,
    gate_open: bool,
    sealing: bool,
    queue: Vec<u8>,
    /// In the order of their acknowledgement.
    acknowledged: Vec<u8>,
    dead: bool,
}

/// What the driver was asked to do and has not done yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pending {
    Connect(LaneId, Target),
    ReadControl(LaneId),
    Flush { seal: SealId, lane: LaneId, progress: bool },
    Purge(SealId, LaneId),
    Look(LookId),
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Producer {
    pub(crate) name: u8,
    order: Order,
    switch: Switch,
    hand_over: HandOver,
    clients: BTreeMap<LaneId, Client>,
    current: Option<LaneId>,
    pending: Vec<Pending>,
    /// The client that takes what waits, and whether it has refused.
    replay: Option<(LaneId, bool)>,
    owner_intent: Option<Intent>,
    view: Fences,
    announced: Fences,
    to_send: u8,
    pub(crate) records: Vec<Rec>,
    /// Every append of its records, in the order in which it happened.
    pub(crate) appends: Vec<(Colour, u8)>,
    /// Appends that may come yet.
    late: Vec<(Colour, u8)>,
    /// Whether the instant has come that the machine waits for.
    due: bool,
    pub(crate) broken: Option<Broken>,
}

impl Producer {
    /// A producer that has not started.
    pub(crate) fn new(name: u8, order: Order, to_send: u8) -> Self {
        let policy = SwitchPolicy {
            order,
            start_ms: 1, // Never reached: the worlds are not about a producer that gives up starting.
            seal_ms: 0,
            purge_ms: 0,
            back_off_ms: 0,
            back_off_max_ms: 0,
            returns: 1,
            look_ms: 0,
        };
        Self {
            name,
            order,
            switch: Switch::new(policy, NOW),
            hand_over: HandOver::new(order, UnknownPolicy::default_for(order), 100),
            clients: BTreeMap::new(),
            current: None,
            pending: Vec::new(),
            replay: None,
            owner_intent: None,
            view: Fences::default(),
            announced: Fences::default(),
            to_send,
            records: Vec::new(),
            appends: Vec::new(),
            late: Vec::new(),
            due: false,
            broken: None,
        }
    }

    /// One that serves a target already.
    pub(crate) fn serving(mut self, target: &Target) -> Self {
        self.input(&Input::Target(target.clone()));
        let lane = *self
            .pending
            .iter()
            .find_map(|pending| match pending {
                Pending::Connect(lane, _) => Some(lane),
                _ => None,
            })
            .expect("a target is connected");
        self.pending.clear();
        self.connected(lane, target.colour, target.colour);
        self.pending.clear();
        self.input(&Input::ControlRead { lane });
        self.settle_down();
        self
    }

    /// The cluster that it serves on, with nothing under way.
    pub(crate) fn rests_on(&self) -> Option<&Target> {
        let quiet = self.pending.is_empty() && self.replay.is_none() && self.hand_over.is_empty();
        let settled = self.clients.values().all(|client| client.queue.is_empty());
        match self.switch.state() {
            State::Serving { lane, held: false } if quiet && settled => Some(&lane.target),
            _ => None,
        }
    }

    /// The generation of the client that takes its records, or is the last that took some.
    fn generation(&self) -> Option<Generation> {
        match self.switch.state() {
            State::Serving { lane, .. }
            | State::Preparing { lane, .. }
            | State::Sealing { lane, .. }
            | State::Replaying { lane, .. } => Some(lane.target.generation),
            State::Starting { .. } | State::Stopped { .. } => None,
        }
    }

    /// Whether all its records have been sent and have ended.
    pub(crate) fn is_done(&self) -> bool {
        self.to_send == 0 && self.records.iter().all(|record| record.ending.is_some())
    }

    /// Gives every number a normal form, so that what only counts makes no new state.
    pub(crate) fn settle_down(&mut self) {
        self.hand_over.reset_counts();
        let mut known: Vec<u64> = self.clients.keys().map(|lane| lane.0).collect();
        known.extend(self.current.map(|lane| lane.0));
        known.extend(self.replay.map(|(lane, _)| lane.0));
        for pending in &mut self.pending {
            pending.each_number(|number| known.push(*number));
        }
        let names = self.switch.renumber(known);
        let lane = |lane: LaneId| LaneId(names[&lane.0]);
        self.clients =
            std::mem::take(&mut self.clients).into_iter().map(|(id, client)| (lane(id), client)).collect();
        self.current = self.current.map(lane);
        self.replay = self.replay.map(|(id, refused)| (lane(id), refused));
        for pending in &mut self.pending {
            pending.each_number(|number| *number = names[number]);
        }
    }

    fn broke(&mut self, promise: Promise, seen: String) {
        let name = self.name;
        self.broken.get_or_insert_with(|| Broken::new(promise, format!("producer {name}: {seen}")));
    }

    /// Gives the machine an input and does what it says.
    fn input(&mut self, input: &Input) {
        if let Err(violation) = self.switch.handle(NOW, input) {
            self.broke(Promise::Machine, violation.to_string());
        }
        loop {
            match self.switch.poll() {
                Output::Wait(due) => {
                    self.due = due.is_some_and(|due| due <= NOW);
                    return;
                }
                output => self.act(output),
            }
        }
    }

    fn fences_changed(&mut self) {
        let intent = self.owner_intent.clone().or_else(|| self.view.intent.clone());
        let fences = Fences { intent, ..self.view.clone() };
        if self.announced != fences {
            self.announced = fences.clone();
            self.input(&Input::Fences(fences));
        }
    }

    fn hold(&mut self, record: u8, partition: Option<i32>, fate: DeliveryFate) {
        let token = Token(record.into());
        if self.records[usize::from(record)].maybe_written {
            self.hand_over.remember_unknown(token);
        }
        self.hand_over.failed(Failure {
            token,
            sequence: sequence(record),
            topic: TOPIC,
            partition,
            fate,
            bytes: 1,
            expires: NEVER,
        });
    }
}

impl Pending {
    fn each_number(&mut self, mut each: impl FnMut(&mut u64)) {
        match self {
            Pending::Connect(lane, _) | Pending::ReadControl(lane) => each(&mut lane.0),
            Pending::Flush { seal, lane, .. } | Pending::Purge(seal, lane) => {
                each(&mut seal.0);
                each(&mut lane.0);
            }
            Pending::Look(look) => each(&mut look.0),
        }
    }
}

fn sequence(record: u8) -> Sequence {
    Sequence(u64::from(record) + 1)
}
