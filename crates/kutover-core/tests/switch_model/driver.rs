//! The driver: does what the machine says, one act at a time.

use kutover_core::error::{ErrorKind, ProviderError};
use kutover_core::owner::Target;
use kutover_core::ports::DeliveryFate;
use kutover_core::switch::{AckMarks, AnyLater, Highest, Input, LaneId, Output, SealId, Sequence, TopicKey};
use kutover_core::words::Millis;

use super::{Client, Mutant, PARTITIONS, Pending, World};

struct NoneLater;

impl Highest for NoneLater {
    fn in_partition(&self, _: TopicKey, _: i32) -> Option<Sequence> {
        None
    }

    fn in_topic(&self, _: TopicKey) -> Option<Sequence> {
        None
    }
}

impl World {
    pub(super) fn input(&mut self, input: Input) {
        if let Err(violation) = self.switch.handle(self.now, &input) {
            self.violations.push(violation.to_string());
        }
        loop {
            match self.switch.poll() {
                Output::Wait(_) => return,
                output => self.act(output),
            }
        }
    }

    pub(super) fn act(&mut self, output: Output) {
        match output {
            Output::Connect { lane, target } => self.pending.push_back(Pending::Connect(lane, target)),
            Output::ReadControl { lane } => self.pending.push_back(Pending::ReadControl(lane)),
            Output::CloseGate { lane } => {
                if self.replay.is_some_and(|(replayed, _)| replayed == lane) {
                    self.replay = None;
                }
                let client = self.clients.get_mut(&lane).expect("a gate to close");
                client.gate_open = self.mutant == Mutant::NoGate;
                client.sealing = true;
            }
            Output::Flush { seal, lane, deadline } => {
                let before = self.clients[&lane].acknowledged;
                self.pending.push_back(Pending::Flush { seal, lane, deadline, before });
            }
            Output::Purge { seal, lane } => self.pending.push_back(Pending::Purge(seal, lane)),
            Output::Look { look } => self.pending.push_back(Pending::Look(look)),
            Output::ReturnHeld => self.return_held(),
            Output::Offer { lane, left, settled } => self.begin_replay(lane, left, settled),
            Output::OpenGate { lane } => {
                let client = self.clients.get_mut(&lane).expect("a gate to open");
                (client.gate_open, client.sealing) = (true, false);
                self.current = Some(lane);
            }
            Output::Discard { lane } => {
                // What is outstanding on a client that is dropped has no report: the judge finds it stranded.
                self.clients.remove(&lane);
            }
            Output::SendReceipt(receipt) => self.switches += usize::from(receipt.from != receipt.to),
            Output::Notify(_) | Output::Wait(_) => {}
        }
    }

    pub(super) fn begin_replay(&mut self, lane: LaneId, left: LaneId, settled: bool) {
        let returned = if self.mutant == Mutant::IgnoreLater {
            self.hand_over.settle(&NoneLater)
        } else if settled {
            self.hand_over.settle(&self.clients[&left].marks)
        } else {
            self.hand_over.settle(&AnyLater)
        };
        for returned in returned {
            self.give_back(returned);
        }
        self.clients.get_mut(&lane).expect("a client to offer to").sealing = false;
        self.replay = Some((lane, false));
    }

    pub(super) fn replay_one(&mut self) {
        let Some((lane, refused)) = self.replay else { return };
        if refused {
            return;
        }
        let offer = if self.mutant == Mutant::OfferLastFirst {
            let mut rest = self.hand_over.clone();
            let offers = std::iter::from_fn(|| {
                let offer = rest.next_offer()?;
                rest.took(offer);
                Some(offer)
            });
            offers.last()
        } else {
            self.hand_over.next_offer()
        };
        let Some(offer) = offer else {
            self.replay = None;
            return self.input(Input::Offered { lane });
        };
        let record = offer.token.0 as usize;
        let client = self.clients.get_mut(&lane).expect("a client to offer to");
        if client.dead || self.fenced.contains(&client.colour) {
            let dead = client.dead;
            self.replay = Some((lane, true));
            return self.input(if dead { Input::Fatal { lane } } else { Input::Refused { lane } });
        }
        let partition = self.records[record].partition;
        client.queues[partition].push_back(record);
        self.records[record].maybe_written |= offer.maybe_written;
        self.hand_over.took(offer);
    }

    pub(super) fn return_held(&mut self) {
        if let Some((lane, true)) = self.replay {
            self.replay = Some((lane, false));
            if let Some(returned) =
                self.hand_over.next_offer().and_then(|offer| self.hand_over.refused(offer))
            {
                self.give_back(returned);
            }
        }
        for returned in self.hand_over.release() {
            self.give_back(returned);
        }
    }

    /// Ends one of the acts under way.
    pub(super) fn finish(&mut self, nth: usize, well: bool) {
        let nth = nth % self.pending.len().max(1);
        let Some(pending) = self.pending.remove(nth) else { return };
        match pending {
            Pending::Connect(lane, target) if well => self.connected(lane, &target),
            Pending::Connect(lane, _) => {
                let error = ProviderError::new(ErrorKind::Unreachable, "connect", "nobody answered");
                self.input(Input::ConnectFailed { lane, error });
            }
            Pending::ReadControl(lane) => self.input(Input::ControlRead { lane }),
            Pending::Flush { seal, lane, deadline, before } => self.flushed(seal, lane, deadline, before),
            Pending::Purge(seal, lane) => self.purged(seal, lane, well),
            Pending::Look(look) => {
                if well {
                    let newest = self.published.last().expect("one is published").clone();
                    self.view();
                    self.input(Input::Target(newest));
                }
                self.input(Input::Looked { look });
            }
        }
    }

    pub(super) fn connected(&mut self, lane: LaneId, target: &Target) {
        let client = Client {
            colour: target.colour,
            gate_open: false,
            sealing: false,
            queues: Default::default(),
            marks: AckMarks::with_room_for(PARTITIONS),
            acknowledged: 0,
            dead: false,
        };
        self.clients.insert(lane, client);
        self.input(Input::Connected { lane, cluster_id: target.cluster_id.clone() });
    }

    pub(super) fn flushed(&mut self, seal: SealId, lane: LaneId, deadline: Millis, before: u64) {
        let client = &self.clients[&lane];
        let (done, late) = (client.outstanding() == 0, self.now >= deadline);
        let believed = match self.mutant {
            Mutant::DropWithoutFlush => true,
            Mutant::CountFlushNotReports => late,
            _ => false,
        };
        if done || late || believed {
            let progress = client.acknowledged > before;
            self.input(Input::Flushed { seal, settled: done || believed, progress });
        } else {
            self.pending.push_back(Pending::Flush { seal, lane, deadline, before });
        }
    }

    /// Each partition's oldest record was in flight, what is behind it in the queue.
    pub(super) fn purged(&mut self, seal: SealId, lane: LaneId, written: bool) {
        for partition in 0..PARTITIONS {
            let client = self.clients.get_mut(&lane).expect("a client to purge");
            let mut left = std::mem::take(&mut client.queues[partition]);
            let Some(in_flight) = left.pop_front() else { continue };
            if self.mutant == Mutant::PurgedIsNotWritten {
                let colour = client.colour;
                if written {
                    self.append(colour, in_flight);
                }
                self.failed(lane, in_flight, DeliveryFate::NotWritten, false);
            } else {
                self.lose_ack(lane, in_flight, written);
            }
            for record in left {
                self.failed(lane, record, DeliveryFate::NotWritten, false);
            }
        }
        self.input(Input::Purged { seal });
    }
}
