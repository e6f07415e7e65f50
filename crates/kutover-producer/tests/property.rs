//! Arbitrary interleavings with real threads: a real producer between two embedded clusters, fewer cases than the
//! machine's own property (kutover-core) has, but librdkafka, the slab and the switch's thread are in it.
//!
//! A failure prints its shrunk operations; put them into a test of their own that says which promise they broke.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kutover_core::messages::ControlBody;
use kutover_core::ports::FenceSwitch as _;
use kutover_core::words::Colour;
use kutover_dns::{Fault as DnsFault, Scope};
use kutover_lab::embedded::{ApiKey, Fault, Harm};
use kutover_producer::{BlueGreenProducer, Fate, FutureRecord};
use proptest::prelude::*;
use support::{BOUND, TOPIC, World, on_generation};

const KEYS: u64 = 5;

/// One thing that happens. Nothing waits for it, but for `Settle`.
#[derive(Clone, Debug)]
enum Op {
    /// That many records are sent.
    Send(u8),
    /// The other colour is published and announced; the one that is left may be fenced at once.
    Move { fence: bool },
    /// DNS answers nothing, or not.
    Dns(bool),
    /// The next produce requests on the active cluster are applied, and their answers lost.
    LoseAnswers(u8),
    /// They are dropped before they are applied.
    Drop(u8),
    /// They are served late.
    Slow(u8),
    /// All that was sent is settled.
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (1..120_u8).prop_map(Op::Send),
        3 => any::<bool>().prop_map(|fence| Op::Move { fence }),
        1 => any::<bool>().prop_map(Op::Dns),
        2 => (1..4_u8).prop_map(Op::LoseAnswers),
        1 => (1..4_u8).prop_map(Op::Drop),
        1 => (1..4_u8).prop_map(Op::Slow),
        1 => Just(Op::Settle),
    ]
}

type Settled = tokio::task::JoinHandle<(String, Result<(), Fate>)>;

struct Run {
    world: World,
    producer: BlueGreenProducer,
    generation: u64,
    active: Colour,
    fenced: BTreeSet<Colour>,
    sent: u64,
    open: Vec<Settled>,
    fates: BTreeMap<String, Result<(), Fate>>,
}

impl Run {
    async fn start() -> Self {
        let world = World::start(3).await;
        let producer = world.producer().await;
        Self {
            world,
            producer,
            generation: 1,
            active: Colour::Blue,
            fenced: BTreeSet::new(),
            sent: 0,
            open: Vec::new(),
            fates: BTreeMap::new(),
        }
    }

    async fn act(&mut self, op: &Op) {
        match op {
            Op::Send(count) => (0..*count).for_each(|_| self.send()),
            Op::Move { fence } => self.go(*fence).await,
            Op::Dns(true) => self.world.dns.faults().heal(),
            Op::Dns(false) => self.world.dns.faults().set(Scope::Everything, DnsFault::ServFail),
            Op::LoseAnswers(times) => self.harm(Harm::ApplyThenDisconnect, *times),
            Op::Drop(times) => self.harm(Harm::Disconnect, *times),
            Op::Slow(times) => self.harm(Harm::Delay(Duration::from_millis(150)), *times),
            Op::Settle => self.settle().await,
        }
    }

    fn send(&mut self) {
        let payload = format!("k{}:{:08}", self.sent % KEYS, self.sent);
        let key = format!("k{}", self.sent % KEYS);
        // A full queue accepts nothing, and so promises nothing.
        let Ok(delivery) = self.producer.send_result(FutureRecord::to(TOPIC).key(&key).payload(&payload))
        else {
            return;
        };
        self.sent += 1;
        self.open.push(tokio::spawn(async move {
            (payload, delivery.await.map(drop).map_err(|returned| returned.fate()))
        }));
    }

    /// As a controller does: a colour that was fenced is opened before it is published.
    async fn go(&mut self, fence: bool) {
        let left = self.active;
        self.active = left.other();
        self.generation += 1;
        if self.fenced.remove(&self.active) {
            self.world.cluster(self.active).fence().lift(&[TOPIC.into()]).await.expect("the fence is lifted");
            for to in Colour::BOTH {
                self.world.say(to, ControlBody::Fence { colour: self.active, up: false }).await;
            }
        }
        self.world.announce(self.generation, self.active).await;
        if fence {
            self.fenced.insert(left);
            self.world.fence(left).await;
        }
    }

    fn harm(&self, harm: Harm, times: u8) {
        let fault = Fault { times: Some(times.into()), ..Fault::new(ApiKey::Produce, harm) };
        self.world.cluster(self.active).inject(fault);
    }

    async fn settle(&mut self) {
        for record in self.open.drain(..) {
            let settled = tokio::time::timeout(BOUND, record).await.expect("every record is settled in time");
            let (payload, fate) = settled.expect("it does not panic");
            self.fates.insert(payload, fate);
        }
    }

    /// The faults end: the producer gets to where it belongs, everything is settled, and both logs are read.
    async fn judge(mut self) -> Result<(), TestCaseError> {
        self.world.dns.faults().heal();
        for colour in Colour::BOTH {
            self.world.cluster(colour).clear_faults();
        }
        on_generation(&self.producer, self.generation).await;
        self.settle().await;
        let moves = self.producer.report().switches.len();
        let mut where_it_is: BTreeMap<String, Vec<Colour>> = BTreeMap::new();
        for colour in Colour::BOTH {
            let mut last: BTreeMap<String, String> = BTreeMap::new();
            for record in self.world.read(colour).await {
                let payload = String::from_utf8(record.payload.unwrap_or_default()).expect("text");
                let (key, number) = payload.split_once(':').expect("key and number");
                let before = last.insert(key.to_owned(), number.to_owned());
                let grows = before.as_deref().is_none_or(|before| before < number);
                prop_assert!(grows, "{} on {}: {:?} before {}", key, colour, before, number);
                where_it_is.entry(payload).or_default().push(colour);
            }
        }
        self.judge_fates(&where_it_is)?;
        for key in 0..KEYS {
            let prefix = format!("k{key}:");
            let colours: Vec<Colour> = where_it_is
                .range(prefix.clone()..)
                .take_while(|(payload, _)| payload.starts_with(&prefix))
                .map(|(_, colours)| colours[0])
                .collect();
            let changes = colours.windows(2).filter(|pair| pair[0] != pair[1]).count();
            prop_assert!(
                changes <= moves,
                "key {} changed cluster {} times in {} moves",
                key,
                changes,
                moves
            );
        }
        self.producer.close().await;
        Ok(())
    }

    fn judge_fates(&self, where_it_is: &BTreeMap<String, Vec<Colour>>) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.fates.len() as u64, self.sent);
        for (payload, fate) in &self.fates {
            let copies = where_it_is.get(payload).map_or(0, Vec::len);
            match fate {
                Ok(()) => prop_assert_eq!(copies, 1, "acknowledged {}", payload),
                Err(Fate::NotWritten) => prop_assert_eq!(copies, 0, "{}, returned as not written", payload),
                Err(Fate::Unknown) => prop_assert!(copies <= 1, "{} of unknown fate", payload),
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// G1 to G3, in order: nothing accepted is lost, nothing is there twice, each key's order stands.
    #[test]
    fn no_interleaving_loses_a_record(ops in prop::collection::vec(op(), 3..14)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut run = Run::start().await;
            for op in &ops {
                run.act(op).await;
            }
            run.judge().await
        })?;
    }
}
