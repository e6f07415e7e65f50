//! What can happen to a producer.

use kutover_core::error::{ErrorKind, ProviderError};
use kutover_core::ports::DeliveryFate;
use kutover_core::switch::{Fences, Input, LaneId};
use kutover_core::words::{Colour, Generation};

use super::{Ending, Pending, Producer};
use crate::ground::{Faults, Ground};
use crate::names::index;
use crate::promise::Promise;

/// One thing that happens to a producer, or that it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Send { refused: bool },
    Deliver(LaneId),
    FailKnown(LaneId),
    LoseAck { lane: LaneId, written: bool },
    LateAppend(usize),
    Connect { nth: usize, to: Option<Colour> },
    ReadControl { nth: usize },
    Flush { nth: usize, settled: bool },
    Purge { nth: usize, written: bool },
    Look { nth: usize, heard: Option<usize> },
    Replay,
    Hear(usize),
    Control,
    Fatal(LaneId),
    Tick,
}

impl Producer {
    /// All that can happen next.
    pub(crate) fn acts(&self, ground: &Ground, faults: &Faults, acts: &mut Vec<Act>) {
        if self.to_send > 0 && self.current.is_some() {
            acts.push(Act::Send { refused: false });
            if self.on_current(|colour| ground.at(colour).fenced) {
                acts.push(Act::Send { refused: true });
            }
        }
        for (lane, client) in &self.clients {
            if !client.queue.is_empty() {
                acts.push(Act::Deliver(*lane));
                if faults.known_failures > 0 {
                    acts.push(Act::FailKnown(*lane));
                }
                if faults.lost_acks > 0 && !ground.at(client.colour).fenced {
                    acts.push(Act::LoseAck { lane: *lane, written: true });
                    acts.push(Act::LoseAck { lane: *lane, written: false });
                }
            }
            if faults.fatals > 0 && !client.dead {
                acts.push(Act::Fatal(*lane));
            }
        }
        if faults.late_appends > 0 {
            let open = |(_, (colour, _)): &(usize, &(Colour, u8))| !ground.at(*colour).fenced;
            acts.extend(self.late.iter().enumerate().filter(open).map(|(nth, _)| Act::LateAppend(nth)));
        }
        for (nth, pending) in self.pending.iter().enumerate() {
            self.endings(nth, pending, ground, faults, acts);
        }
        if matches!(self.replay, Some((_, false))) {
            acts.push(Act::Replay);
        }
        acts.extend((0..ground.owner.len()).map(Act::Hear));
        if self.on_current(|colour| ground.at(colour).control.deployment.is_some()) {
            acts.push(Act::Control);
        }
        if self.due {
            acts.push(Act::Tick);
        }
    }

    fn on_current(&self, is: impl Fn(Colour) -> bool) -> bool {
        self.current.and_then(|lane| self.clients.get(&lane)).is_some_and(|client| is(client.colour))
    }

    fn endings(&self, nth: usize, pending: &Pending, ground: &Ground, faults: &Faults, acts: &mut Vec<Act>) {
        match pending {
            Pending::Connect(_, target) => {
                if !ground.at(target.colour).dead {
                    acts.push(Act::Connect { nth, to: Some(target.colour) });
                }
                if faults.wrong_clusters > 0 {
                    acts.push(Act::Connect { nth, to: Some(target.colour.other()) });
                }
                if faults.connect_failures > 0 {
                    acts.push(Act::Connect { nth, to: None });
                }
            }
            Pending::ReadControl(_) => acts.push(Act::ReadControl { nth }),
            Pending::Flush { lane, .. } => {
                let settled = self.clients.get(lane).is_none_or(|client| client.queue.is_empty());
                if settled || faults.slow_flushes > 0 {
                    acts.push(Act::Flush { nth, settled });
                }
            }
            Pending::Purge(..) => {
                acts.push(Act::Purge { nth, written: true });
                acts.push(Act::Purge { nth, written: false });
            }
            Pending::Look(_) => {
                acts.extend((0..ground.owner.len()).map(|heard| Act::Look { nth, heard: Some(heard) }));
                if faults.look_failures > 0 {
                    acts.push(Act::Look { nth, heard: None });
                }
            }
        }
    }

    /// Does one.
    pub(crate) fn take(&mut self, act: &Act, ground: &mut Ground, faults: &mut Faults) {
        let before = self.generation();
        match *act {
            Act::Send { refused } => self.send(refused),
            Act::Deliver(lane) => self.deliver(lane, ground),
            Act::FailKnown(lane) => {
                faults.known_failures -= 1;
                if let Some(record) = self.pop(lane) {
                    self.failed(lane, record, DeliveryFate::NotWritten, false);
                }
            }
            Act::LoseAck { lane, written } => {
                faults.lost_acks -= 1;
                if let Some(record) = self.pop(lane) {
                    self.lose_ack(lane, record, written, ground);
                }
            }
            Act::LateAppend(nth) => {
                faults.late_appends -= 1;
                let (colour, record) = self.late.remove(nth);
                self.append(colour, record, ground);
            }
            Act::Replay => {
                let fenced = Colour::BOTH.map(|colour| ground.at(colour).fenced);
                self.replay_one(fenced);
            }
            Act::Hear(nth) => self.hear(nth, ground),
            Act::Control => self.read_control(ground),
            Act::Fatal(lane) => {
                faults.fatals -= 1;
                self.clients.get_mut(&lane).expect("it is there").dead = true;
                self.input(&Input::Fatal { lane });
            }
            Act::Tick => self.input(&Input::Tick),
            Act::Connect { nth, .. }
            | Act::ReadControl { nth }
            | Act::Flush { nth, .. }
            | Act::Purge { nth, .. }
            | Act::Look { nth, .. } => {
                let pending = self.pending.remove(nth);
                self.finish(pending, act, ground, faults);
            }
        }
        if faults.late_appends == 0 {
            self.late.clear();
        }
        self.settle_down();
        self.judge(before);
    }

    fn finish(&mut self, pending: Pending, act: &Act, ground: &mut Ground, faults: &mut Faults) {
        match (pending, act) {
            (Pending::Connect(lane, target), Act::Connect { to: Some(colour), .. }) => {
                faults.wrong_clusters -= u8::from(*colour != target.colour);
                self.connected(lane, target.colour, *colour);
            }
            (Pending::Connect(lane, _), _) => {
                faults.connect_failures -= 1;
                let error = ProviderError::new(ErrorKind::Unreachable, "connect", "nobody answered");
                self.input(&Input::ConnectFailed { lane, error });
            }
            (Pending::ReadControl(lane), _) => {
                if let Some(colour) = self.clients.get(&lane).map(|client| client.colour) {
                    self.viewed(colour, ground);
                }
                self.input(&Input::ControlRead { lane });
            }
            (Pending::Flush { seal, progress, .. }, Act::Flush { settled, .. }) => {
                faults.slow_flushes -= u8::from(!settled);
                self.input(&Input::Flushed { seal, settled: *settled, progress });
            }
            (Pending::Purge(seal, lane), Act::Purge { written, .. }) => {
                self.purged(lane, *written, ground);
                self.input(&Input::Purged { seal });
            }
            (Pending::Look(look), Act::Look { heard, .. }) => {
                match heard {
                    Some(heard) => {
                        self.hear(*heard, ground);
                        self.read_control(ground);
                    }
                    None => faults.look_failures -= 1,
                }
                self.input(&Input::Looked { look });
            }
            (pending, act) => unreachable!("{act:?} does not end {pending:?}"),
        }
    }

    fn pop(&mut self, lane: LaneId) -> Option<u8> {
        let queue = &mut self.clients.get_mut(&lane)?.queue;
        (!queue.is_empty()).then(|| queue.remove(0))
    }

    fn deliver(&mut self, lane: LaneId, ground: &mut Ground) {
        let Some(record) = self.pop(lane) else { return };
        let client = self.clients.get_mut(&lane).expect("it is there");
        let dead = client.dead;
        if ground.at(client.colour).fenced || dead {
            return self.failed(lane, record, DeliveryFate::NotWritten, !dead);
        }
        client.acknowledged.push(record);
        let colour = client.colour;
        for pending in &mut self.pending {
            if let Pending::Flush { lane: flushed, progress, .. } = pending {
                *progress |= *flushed == lane;
            }
        }
        self.append(colour, record, ground);
        self.end(record, Ending::Acknowledged);
    }

    fn lose_ack(&mut self, lane: LaneId, record: u8, written: bool, ground: &mut Ground) {
        let colour = self.clients[&lane].colour;
        if written {
            self.append(colour, record, ground);
        } else {
            self.late.push((colour, record));
        }
        self.failed(lane, record, DeliveryFate::Unknown, false);
    }

    /// The oldest record was in flight, what is behind it in the queue.
    fn purged(&mut self, lane: LaneId, written: bool, ground: &mut Ground) {
        let Some(client) = self.clients.get_mut(&lane) else { return };
        let (mut left, dead) = (std::mem::take(&mut client.queue).into_iter(), client.dead);
        if let Some(in_flight) = left.next() {
            let written = written && !ground.at(client.colour).fenced && !dead;
            self.lose_ack(lane, in_flight, written, ground);
        }
        for record in left {
            self.failed(lane, record, DeliveryFate::NotWritten, false);
        }
    }

    fn append(&mut self, colour: Colour, record: u8, ground: &mut Ground) {
        self.appends.push((colour, record));
        if let Some(client) =
            self.clients.values().find(|client| client.colour == colour && client.meant != colour)
        {
            let meant = client.meant;
            self.broke(Promise::G1, format!("record {record} was meant for {meant} and stands in {colour}"));
        }
        if ground.offsets {
            ground.at_mut(colour).log.push((self.name, record));
        }
    }

    /// An answer of the resolver: what the owner record says, or said.
    fn hear(&mut self, nth: usize, ground: &Ground) {
        let said = ground.owner[nth].clone();
        // A stale answer says nothing of fences either.
        if self.switch.newest().is_none_or(|newest| newest.generation <= said.target.generation) {
            self.owner_intent = said.intent;
            self.fences_changed();
        }
        self.input(&Input::Target(said.target));
    }

    /// The control topic of the cluster that it is on.
    fn read_control(&mut self, ground: &Ground) {
        let on = self.current.and_then(|lane| self.clients.get(&lane)).map(|client| client.colour);
        if let Some(colour) = on {
            self.viewed(colour, ground);
        }
    }

    fn viewed(&mut self, colour: Colour, ground: &Ground) {
        let view = &ground.clusters[index(colour)].control;
        if view.deployment.is_none() {
            return;
        }
        let target = view.target.clone();
        self.view = Fences {
            intent: view.intent.clone(),
            fenced: view.fenced.iter().copied().collect(),
            generation: target.as_ref().map_or(Generation(0), |target| target.generation),
        };
        self.fences_changed();
        if let Some(target) = target {
            self.input(&Input::Target(target));
        }
    }
}
