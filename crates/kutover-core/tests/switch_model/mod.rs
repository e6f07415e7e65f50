//! A small world for the switch: two clusters that can be fenced, die, lose acknowledgements; clients with queues; a
//! driver that does what the machine says, one act at a time, in any order; and a judge that looks at the logs.

mod driver;
mod judge;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kutover_core::owner::Target;
use kutover_core::ports::{DeliveryFate, Token};
use kutover_core::switch::{
    AckMarks, Failure, Fences, HandOver, Input, LaneId, LookId, Order, Returned, SealId, Sequence, Switch,
    SwitchPolicy, TopicKey, UnknownPolicy,
};
use kutover_core::words::{Colour, Generation, Millis};

pub(crate) const PARTITIONS: usize = 3;
const TOPIC: TopicKey = TopicKey(1);
const DELIVERY_TIMEOUT_MS: u64 = 400_000;

/// What is taken out of the driver, to see that the property notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    None,
    /// L1: the flush is left out.
    DropWithoutFlush,
    /// L1: what flush says is believed at its deadline; reports are not counted.
    CountFlushNotReports,
    /// L2: the gate stays open during the flush.
    NoGate,
    /// L3: later acknowledgements are not looked at.
    IgnoreLater,
    /// L3: what waits is offered in the order of callbacks, turned round.
    OfferLastFirst,
    /// L3: what was purged in flight counts as not written.
    PurgedIsNotWritten,
    /// L4: an empty answer flips the colour, as the published recipe does.
    MoveOnEmptyAnswer,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Send {
        partition: usize,
    },
    /// The oldest record of a partition is written and acknowledged.
    Deliver {
        lane: usize,
        partition: usize,
    },
    /// All of a client's records are.
    DeliverAll {
        lane: usize,
    },
    /// The oldest fails and was not written.
    FailKnown {
        lane: usize,
        partition: usize,
    },
    /// The oldest fails, nobody knows.
    FailUnknown {
        lane: usize,
        partition: usize,
        written: bool,
    },
    /// A record that failed as unknown is written after all.
    LateAppend,
    Fence {
        colour: Colour,
        up: bool,
        announced: bool,
    },
    Publish {
        colour: Colour,
    },
    /// An answer that may be stale.
    Answer {
        age: usize,
    },
    EmptyAnswer,
    /// The oldest pending act of the driver comes to its end, well or badly.
    Finish {
        nth: usize,
        well: bool,
    },
    Replay,
    Fatal {
        lane: usize,
    },
    Time {
        ms: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Acknowledged,
    Returned(DeliveryFate),
}

#[derive(Debug)]
struct Record {
    partition: usize,
    accepted: Millis,
    ending: Option<Ending>,
    maybe_written: bool,
}

struct Client {
    colour: Colour,
    gate_open: bool,
    sealing: bool,
    queues: [VecDeque<usize>; PARTITIONS],
    marks: AckMarks,
    acknowledged: u64,
    dead: bool,
}

impl Client {
    fn outstanding(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }
}

#[derive(Debug)]
enum Pending {
    Connect(LaneId, Target),
    ReadControl(LaneId),
    Flush { seal: SealId, lane: LaneId, deadline: Millis, before: u64 },
    Purge(SealId, LaneId),
    Look(LookId),
}

pub(crate) struct World {
    now: Millis,
    order: Order,
    mutant: Mutant,
    switch: Switch,
    hand_over: HandOver,
    records: Vec<Record>,
    clients: BTreeMap<LaneId, Client>,
    current: Option<LaneId>,
    pending: VecDeque<Pending>,
    replay: Option<(LaneId, bool)>,
    /// Every append in the order in which it happened: cluster, partition, record.
    log: Vec<(Colour, usize, usize)>,
    late: Vec<(Colour, usize)>,
    published: Vec<Target>,
    fenced: BTreeSet<Colour>,
    announced: BTreeSet<Colour>,
    pub(crate) switches: usize,
    pub(crate) violations: Vec<String>,
}

fn target(generation: u64, colour: Colour) -> Target {
    Target {
        generation: Generation(generation),
        colour,
        cluster_id: colour.as_str().into(),
        bootstrap: vec![colour.as_str().into()],
    }
}

impl World {
    pub(crate) fn new(order: Order, unknown: UnknownPolicy, mutant: Mutant) -> Self {
        let policy = SwitchPolicy {
            order,
            start_ms: u64::MAX / 2,
            seal_ms: 1_000,
            purge_ms: 3_000,
            ..SwitchPolicy::default()
        };
        let mut world = Self {
            now: Millis(0),
            order,
            mutant,
            switch: Switch::new(policy, Millis(0)),
            hand_over: HandOver::new(order, unknown, 10_000),
            records: Vec::new(),
            clients: BTreeMap::new(),
            current: None,
            pending: VecDeque::new(),
            replay: None,
            log: Vec::new(),
            late: Vec::new(),
            published: vec![target(1, Colour::Blue)],
            fenced: BTreeSet::new(),
            announced: BTreeSet::new(),
            switches: 0,
            violations: Vec::new(),
        };
        world.input(Input::Target(target(1, Colour::Blue)));
        for _ in 0..2 {
            world.finish(0, true);
        }
        world
    }

    pub(crate) fn step(&mut self, op: &Op) {
        match *op {
            Op::Send { partition } => self.send(partition % PARTITIONS),
            Op::Deliver { lane, partition } => {
                if let Some(lane) = self.nth(lane) {
                    self.deliver(lane, partition % PARTITIONS);
                }
            }
            Op::DeliverAll { lane } => {
                if let Some(lane) = self.nth(lane) {
                    self.deliver_all(lane);
                }
            }
            Op::FailKnown { lane, partition } => {
                if let Some((lane, record)) = self.pop(lane, partition % PARTITIONS) {
                    self.failed(lane, record, DeliveryFate::NotWritten, false);
                }
            }
            Op::FailUnknown { lane, partition, written } => {
                if let Some((lane, record)) = self.pop(lane, partition % PARTITIONS) {
                    self.lose_ack(lane, record, written);
                }
            }
            Op::LateAppend => {
                if let Some((colour, record)) = self.late.pop() {
                    self.append(colour, record);
                }
            }
            Op::Fence { colour, up, announced } => self.fence(colour, up, announced),
            Op::Publish { colour } => self.publish(colour),
            Op::Answer { age } => {
                let nth = self.published.len().saturating_sub(1 + age % 4);
                self.input(Input::Target(self.published[nth].clone()));
            }
            Op::EmptyAnswer => self.empty_answer(),
            Op::Finish { nth, well } => self.finish(nth, well),
            Op::Replay => self.replay_one(),
            Op::Fatal { lane } => {
                if let Some(lane) = self.nth(lane) {
                    self.clients.get_mut(&lane).expect("it is there").dead = true;
                    self.input(Input::Fatal { lane });
                }
            }
            Op::Time { ms } => self.pass(ms),
        }
    }

    fn nth(&self, nth: usize) -> Option<LaneId> {
        self.clients.keys().nth(nth % self.clients.len().max(1)).copied()
    }

    fn pop(&mut self, nth: usize, partition: usize) -> Option<(LaneId, usize)> {
        let lane = self.nth(nth)?;
        let record = self.clients.get_mut(&lane)?.queues[partition].pop_front()?;
        Some((lane, record))
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        for returned in self.hand_over.expire(self.now) {
            self.give_back(returned);
        }
        self.input(Input::Tick);
    }

    fn send(&mut self, partition: usize) {
        let record = self.records.len();
        let sequence = Sequence(record as u64 + 1);
        let accepted = Record { partition, accepted: self.now, ending: None, maybe_written: false };
        let lane = self.current.filter(|lane| self.clients.get(lane).is_some_and(|client| client.gate_open));
        match lane {
            Some(lane) => {
                self.records.push(accepted);
                self.offer_to(lane, record);
            }
            None if self.hand_over.has_room(1) => {
                self.records.push(accepted);
                let expires = self.now.plus(DELIVERY_TIMEOUT_MS);
                self.hand_over.park(sequence, Token(record as u64), 1, expires).expect("there is room");
            }
            // The caller keeps it.
            None => {}
        }
    }

    /// `try_send` of a caller.
    fn offer_to(&mut self, lane: LaneId, record: usize) {
        let client = &self.clients[&lane];
        let refused = client.dead || self.fenced.contains(&client.colour) && record.is_multiple_of(2);
        if refused {
            let dead = client.dead;
            self.hold(record, None, DeliveryFate::NotWritten);
            self.input(if dead { Input::Fatal { lane } } else { Input::Refused { lane } });
        } else {
            let partition = self.records[record].partition;
            self.clients.get_mut(&lane).expect("it is there").queues[partition].push_back(record);
        }
    }

    fn hold(&mut self, record: usize, partition: Option<i32>, fate: DeliveryFate) {
        let token = Token(record as u64);
        if self.records[record].maybe_written {
            self.hand_over.remember_unknown(token);
        }
        self.hand_over.failed(Failure {
            token,
            sequence: Sequence(record as u64 + 1),
            topic: TOPIC,
            partition,
            fate,
            bytes: 1,
            expires: self.records[record].accepted.plus(DELIVERY_TIMEOUT_MS),
        });
    }

    fn deliver(&mut self, lane: LaneId, partition: usize) {
        let client = self.clients.get_mut(&lane).expect("it is there");
        let Some(record) = client.queues[partition].pop_front() else { return };
        let colour = client.colour;
        if self.fenced.contains(&colour) || client.dead {
            return self.failed(lane, record, DeliveryFate::NotWritten, true);
        }
        client.acknowledged += 1;
        client.marks.note(TOPIC, partition as i32, Sequence(record as u64 + 1));
        self.append(colour, record);
        self.end(record, Ending::Acknowledged);
    }

    fn deliver_all(&mut self, lane: LaneId) {
        for partition in 0..PARTITIONS {
            while self.clients.get(&lane).is_some_and(|client| !client.queues[partition].is_empty()) {
                self.deliver(lane, partition);
            }
        }
    }

    fn lose_ack(&mut self, lane: LaneId, record: usize, written: bool) {
        let colour = self.clients[&lane].colour;
        if written {
            self.append(colour, record);
        } else {
            self.late.push((colour, record));
        }
        self.failed(lane, record, DeliveryFate::Unknown, false);
    }

    /// A failed delivery report.
    fn failed(&mut self, lane: LaneId, record: usize, fate: DeliveryFate, fenced: bool) {
        let partition = self.records[record].partition as i32;
        if fenced || self.clients[&lane].sealing {
            self.hold(record, Some(partition), fate);
            if fenced {
                self.input(Input::Refused { lane });
            }
        } else {
            let unknown = self.records[record].maybe_written || fate == DeliveryFate::Unknown;
            let fate = if unknown { DeliveryFate::Unknown } else { DeliveryFate::NotWritten };
            self.end(record, Ending::Returned(fate));
        }
    }

    fn append(&mut self, colour: Colour, record: usize) {
        if !self.published.iter().any(|target| target.colour == colour) {
            self.violations.push(format!("record {record} stands in {colour}, which was never published"));
        }
        self.log.push((colour, self.records[record].partition, record));
    }

    fn end(&mut self, record: usize, ending: Ending) {
        if let Some(before) = self.records[record].ending.replace(ending) {
            self.violations.push(format!("record {record} ended twice: {before:?}, {ending:?}"));
        }
    }

    fn give_back(&mut self, returned: Returned) {
        self.end(returned.token.0 as usize, Ending::Returned(returned.fate));
    }

    /// What the control topic says of fences reaches the producer.
    fn view(&mut self) {
        let generation = Generation(self.published.len() as u64);
        self.input(Input::Fences(Fences { intent: None, fenced: self.announced.clone(), generation }));
    }

    fn fence(&mut self, colour: Colour, up: bool, announced: bool) {
        if up {
            self.fenced.insert(colour);
            if announced {
                self.announced.insert(colour);
            }
        } else {
            self.fenced.remove(&colour);
            self.announced.remove(&colour);
        }
        self.view();
    }

    /// As the controller does: the fence comes down and is taken back in so many words, then the target is named.
    fn publish(&mut self, colour: Colour) {
        self.fence(colour, false, true);
        let generation = self.published.len() as u64 + 1;
        self.published.push(target(generation, colour));
    }

    fn empty_answer(&mut self) {
        if self.mutant == Mutant::MoveOnEmptyAnswer {
            let known = self.switch.newest().expect("it started").clone();
            self.input(Input::Target(target(known.generation.0 + 1, known.colour.other())));
        }
    }
}
