//! What the machine says, done.

use kutover_core::ports::DeliveryFate;
use kutover_core::switch::{AckMarks, AnyLater, Input, LaneId, Output, Returned};
use kutover_core::words::Colour;

use super::{Client, Ending, NEVER, Pending, Producer, TOPIC, sequence};
use crate::names::cluster_id;
use crate::promise::Promise;

impl Client {
    /// The marks that its acknowledgements have left.
    fn marks(&self) -> AckMarks {
        let marks = AckMarks::with_room_for(1);
        self.acknowledged.iter().for_each(|record| marks.note(TOPIC, 0, sequence(*record)));
        marks
    }
}

impl Producer {
    pub(super) fn act(&mut self, output: Output) {
        match output {
            Output::Connect { lane, target } => self.pending.push(Pending::Connect(lane, target)),
            Output::ReadControl { lane } => self.pending.push(Pending::ReadControl(lane)),
            Output::CloseGate { lane } => {
                if self.replay.is_some_and(|(replayed, _)| replayed == lane) {
                    self.replay = None;
                }
                let client = self.clients.get_mut(&lane).expect("a gate to close");
                (client.gate_open, client.sealing) = (false, true);
            }
            Output::Flush { seal, lane, .. } => {
                self.pending.push(Pending::Flush { seal, lane, progress: false });
            }
            Output::Purge { seal, lane } => self.pending.push(Pending::Purge(seal, lane)),
            Output::Look { look } => self.pending.push(Pending::Look(look)),
            Output::ReturnHeld => self.return_held(),
            Output::Offer { lane, left, settled } => self.begin_replay(lane, left, settled),
            Output::OpenGate { lane } => {
                let client = self.clients.get_mut(&lane).expect("a gate to open");
                (client.gate_open, client.sealing) = (true, false);
                self.current = Some(lane);
            }
            Output::Discard { lane } => self.discard(lane),
            Output::SendReceipt(_) | Output::Notify(_) | Output::Wait(_) => {}
        }
    }

    /// What is outstanding on a client that is dropped has no report, ever.
    fn discard(&mut self, lane: LaneId) {
        if let Some(client) = self.clients.remove(&lane)
            && let Some(record) = client.queue.first()
        {
            self.broke(Promise::G1, format!("record {record} was dropped with its client"));
        }
        self.current = self.current.filter(|current| *current != lane);
    }

    fn begin_replay(&mut self, lane: LaneId, left: LaneId, settled: bool) {
        let returned = match self.clients.get(&left) {
            Some(client) if settled => self.hand_over.settle(&client.marks()),
            _ => self.hand_over.settle(&AnyLater),
        };
        self.give_back(returned);
        self.clients.get_mut(&lane).expect("a client to offer to").sealing = false;
        self.replay = Some((lane, false));
    }

    fn return_held(&mut self) {
        if let Some((lane, true)) = self.replay {
            self.replay = Some((lane, false));
            let refused = self.hand_over.next_offer().and_then(|offer| self.hand_over.refused(offer));
            self.give_back(refused);
        }
        let released = self.hand_over.release();
        self.give_back(released);
    }

    fn give_back(&mut self, returned: impl IntoIterator<Item = Returned>) {
        for returned in returned {
            self.end(returned.token.0 as u8, Ending::Returned(returned.fate));
        }
    }

    pub(super) fn connected(&mut self, lane: LaneId, meant: Colour, colour: Colour) {
        let client = Client {
            colour,
            meant,
            gate_open: false,
            sealing: false,
            queue: Vec::new(),
            acknowledged: Vec::new(),
            dead: false,
        };
        self.clients.insert(lane, client);
        self.input(&Input::Connected { lane, cluster_id: cluster_id(colour) });
    }

    /// A caller sends the next record.
    pub(super) fn send(&mut self, refused: bool) {
        let record = self.records.len() as u8;
        self.to_send -= 1;
        self.records.push(super::Rec::default());
        let open = self.current.filter(|lane| self.clients.get(lane).is_some_and(|client| client.gate_open));
        let Some(lane) = open else {
            let token = kutover_core::ports::Token(record.into());
            self.hand_over.park(sequence(record), token, 1, NEVER).expect("there is room");
            return;
        };
        let client = self.clients.get_mut(&lane).expect("it is there");
        if client.dead || refused {
            let dead = client.dead;
            self.hold(record, None, DeliveryFate::NotWritten);
            self.input(&if dead { Input::Fatal { lane } } else { Input::Refused { lane } });
        } else {
            client.queue.push(record);
        }
    }

    /// Offers the next of those that wait.
    pub(super) fn replay_one(&mut self, fenced: [bool; 2]) {
        let Some((lane, false)) = self.replay else { return };
        let Some(offer) = self.hand_over.next_offer() else {
            self.replay = None;
            return self.input(&Input::Offered { lane });
        };
        let client = self.clients.get_mut(&lane).expect("a client to offer to");
        if client.dead || fenced[crate::names::index(client.colour)] {
            let dead = client.dead;
            self.replay = Some((lane, true));
            return self.input(&if dead { Input::Fatal { lane } } else { Input::Refused { lane } });
        }
        let record = offer.token.0 as u8;
        client.queue.push(record);
        self.records[usize::from(record)].maybe_written |= offer.maybe_written;
        self.hand_over.took(offer);
    }

    /// A failed delivery report.
    pub(super) fn failed(&mut self, lane: LaneId, record: u8, fate: DeliveryFate, fenced: bool) {
        if fenced || self.clients[&lane].sealing {
            self.hold(record, Some(0), fate);
            if fenced {
                self.input(&Input::Refused { lane });
            }
        } else {
            let unknown = self.records[usize::from(record)].maybe_written || fate == DeliveryFate::Unknown;
            let fate = if unknown { DeliveryFate::Unknown } else { DeliveryFate::NotWritten };
            self.end(record, Ending::Returned(fate));
        }
    }

    pub(super) fn end(&mut self, record: u8, ending: Ending) {
        if let Some(before) = self.records[usize::from(record)].ending.replace(ending) {
            self.broke(Promise::G1, format!("record {record} ended twice: {before:?}, then {ending:?}"));
        }
    }
}
