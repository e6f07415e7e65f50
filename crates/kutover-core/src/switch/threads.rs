//! Gate and entrance over every interleaving of their threads, weak memory included, with loom: `cargo test -p kutover-core
//! --profile sim --features threads --lib threads`. `KUTOVER_NIGHTLY=1` allows one preemption more.
//!
//! What is driven is the real [`Gate`], [`Entrance`] and [`HandOver`]; clients are words of memory. After every run each
//! accepted record stands in exactly one place: what the old client had when it was flushed, the new client, or a caller.

use std::sync::Mutex as Unseen;
use std::sync::atomic::Ordering;

use loom::sync::Arc as Shared;
use loom::sync::atomic::{AtomicBool, AtomicU64};
use loom::thread;

use super::UnknownPolicy;
use super::{AckMarks, Entrance, Failure, Gate, Gated, HandOver, Order, Sequence, TopicKey, TurnedAway};
use crate::ports::{DeliveryFate, Token};
use crate::words::Millis;

/// A client: which records it was given, as a set of bits, in memory that only the gate orders.
struct Client {
    gate: Gate,
    given: AtomicU64,
    /// Refuses everything, as behind a fence.
    fenced: bool,
    order: Unseen<Vec<u64>>,
}

impl Client {
    fn new(fenced: bool) -> std::sync::Arc<Self> {
        let (given, order) = (AtomicU64::new(0), Unseen::default());
        std::sync::Arc::new(Self { gate: Gate::closed(), given, fenced, order })
    }

    fn give(&self, token: Token) {
        let before = self.given.fetch_or(1 << token.0, Ordering::Relaxed);
        assert_eq!(before & 1 << token.0, 0, "{token:?} was given to a client twice");
        self.order.lock().unwrap().push(token.0);
    }
}

impl Gated for Client {
    fn gate(&self) -> &Gate {
        &self.gate
    }
}

struct World {
    entrance: Entrance<Client>,
    old: std::sync::Arc<Client>,
    new: std::sync::Arc<Client>,
    /// A refusal has told the switch's thread that there is a fence.
    told: AtomicBool,
    accepted: AtomicU64,
    returned: AtomicU64,
}

/// Each record has this size, so that a limit of 10 parks one at a time.
const SIZE: usize = 10;

impl World {
    fn new(fenced: bool, limit: usize) -> Shared<Self> {
        let hand_over = HandOver::new(Order::Ordered, UnknownPolicy::Return, limit);
        let world = Self {
            entrance: Entrance::new(hand_over),
            old: Client::new(fenced),
            new: Client::new(false),
            told: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            returned: AtomicU64::new(0),
        };
        world.entrance.lock().open(&world.old);
        Shared::new(world)
    }

    /// One send, as the producer's `accept` does it. A refusal is held inside the gate and told.
    fn try_send(&self, token: Token) -> Result<(), TurnedAway> {
        let send = |client: &Client, sequence: Sequence| {
            if client.fenced {
                assert!(self.entrance.hold(failure(token, sequence), false, || true));
                self.told.store(true, Ordering::Release);
            } else {
                client.give(token);
            }
        };
        self.entrance.pass(send, || ((), SIZE), |_, ()| (token, Millis(0))).map(|_| ())?;
        self.accepted.fetch_or(1 << token.0, Ordering::Relaxed);
        Ok(())
    }

    /// Sends until it is accepted, as a caller does that waits for room.
    fn send(&self, token: Token) {
        loop {
            match self.try_send(token) {
                Ok(()) => return,
                Err(TurnedAway::Full) => thread::yield_now(),
                Err(TurnedAway::Ended) => {
                    self.returned.fetch_or(1 << token.0, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    /// The switch's thread: seals the old client, flushes it and drops it. Gives what it had at the flush.
    fn leave_old(&self) -> u64 {
        self.old.gate.seal(thread::yield_now);
        self.old.given.load(Ordering::Relaxed)
    }

    /// Offers what waits to a client, in send order, and opens its gate once nothing waits.
    fn move_to(&self, client: &std::sync::Arc<Client>) {
        let back = self.entrance.lock().hand_over.settle(&AckMarks::with_room_for(1));
        assert!(back.is_empty(), "nothing was acknowledged, and nothing is unknown");
        loop {
            let mut parked = self.entrance.lock();
            let Some(offer) = parked.hand_over.next_offer() else { return parked.open(client) };
            client.give(offer.token);
            parked.hand_over.took(offer);
            drop(parked);
            thread::yield_now();
        }
    }

    /// Every one of so many records is in one place, and the count of the send order is theirs.
    fn check(&self, records: u64, flushed: u64) {
        let [old, new] = [&self.old, &self.new].map(|client| client.given.load(Ordering::Relaxed));
        let (accepted, returned) =
            (self.accepted.load(Ordering::Relaxed), self.returned.load(Ordering::Relaxed));
        assert_eq!(old, flushed, "L2: a send slipped past the seal");
        assert_eq!(self.entrance.lock().hand_over.len(), 0, "a record is stranded");
        assert_eq!(old & new, 0, "a record was given to both");
        assert_eq!((old | new) & returned, 0, "a record was sent and given back");
        assert_eq!(old | new | returned, (1 << records) - 1, "a record is nowhere");
        assert_eq!(old | new, accepted, "a record was sent and not counted");
        assert_eq!(
            self.entrance.sequences(),
            u64::from(accepted.count_ones()),
            "counted twice, or not at all"
        );
    }
}

fn failure(token: Token, sequence: Sequence) -> Failure {
    Failure {
        token,
        sequence,
        topic: TopicKey(1),
        partition: None,
        fate: DeliveryFate::NotWritten,
        bytes: SIZE,
        expires: Millis(0),
    }
}

/// Every interleaving with at most so many preemptions; at night with more.
fn explore(name: &str, preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    #[allow(clippy::disallowed_methods, reason = "the test command's word for long forms")]
    let nightly = std::env::var_os("KUTOVER_NIGHTLY").is_some();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(if nightly { preemptions + 1 } else { preemptions });
    builder.max_branches = 10_000;
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&runs);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        scenario();
    });
    let bound = builder.preemption_bound;
    #[allow(clippy::print_stdout, reason = "how much was searched belongs into the log of a proof")]
    {
        println!("{name}: {} interleavings, preemptions at most {bound:?}", runs.load(Ordering::Relaxed));
    }
}

fn sends(world: &Shared<World>, tokens: &'static [u64]) -> thread::JoinHandle<()> {
    let world = Shared::clone(world);
    thread::spawn(move || tokens.iter().for_each(|token| world.send(Token(*token))))
}

/// L2: two senders, and a switch that seals, flushes, offers and opens. One of them sends twice: order is kept.
#[test]
fn no_send_slips_past_a_seal_and_none_is_stranded() {
    explore("two senders over a switch", 3, || {
        let world = World::new(false, 100);
        let senders = [sends(&world, &[0, 1]), sends(&world, &[2])];
        let flushed = world.leave_old();
        world.move_to(&world.new);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        world.check(3, flushed);
        let order = world.new.order.lock().unwrap().clone();
        let place = |token| order.iter().position(|given| *given == token);
        assert!(place(0).is_none() || place(0) < place(1), "G3: {order:?}");
    });
}

/// A send that is refused parks what it has, inside the gate, and so begins the seal that has to wait for it.
#[test]
fn a_seal_that_begins_inside_a_send_misses_no_refused_record() {
    explore("a seal from inside a send", 3, || {
        let world = World::new(true, 100);
        let senders = [sends(&world, &[0]), sends(&world, &[1])];
        while !world.told.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let flushed = world.leave_old();
        world.move_to(&world.new);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        world.check(2, flushed);
    });
}

/// The park holds one record: the other sender waits and gets in, during the hand-over or after it.
#[test]
fn who_waits_for_room_gets_in() {
    explore("a full park", 3, || {
        let world = World::new(false, SIZE);
        let flushed = world.leave_old();
        let senders = [sends(&world, &[0]), sends(&world, &[1])];
        world.move_to(&world.new);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        world.check(2, flushed);
    });
}

/// The target was taken back: the client that was sealed is opened again, and what waited goes there.
#[test]
fn a_client_that_was_sealed_and_opened_again_loses_nothing() {
    explore("sealed and opened again", 3, || {
        let world = World::new(false, 100);
        let senders = [sends(&world, &[0]), sends(&world, &[1])];
        world.leave_old();
        world.move_to(&world.old);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        // It is still in use: what it has now is what it will be asked to flush.
        let flushed = world.leave_old();
        world.check(2, flushed);
    });
}

/// The producer ends while senders are on their way: what is taken is flushed or given back, the rest is turned away.
#[test]
fn the_end_leaves_nobody_inside_and_nothing_parked() {
    explore("the end", 3, || {
        let world = World::new(false, 100);
        world.old.gate.close();
        let senders = [sends(&world, &[0]), sends(&world, &[1])];
        world.move_to(&world.old);
        let mut back = world.entrance.lock().end();
        world.old.gate.close();
        world.old.gate.count_out(thread::yield_now);
        let flushed = world.old.given.load(Ordering::Relaxed);
        back.extend(world.entrance.lock().hand_over.abandon());
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        for record in back {
            world.returned.fetch_or(1 << record.token.0, Ordering::Relaxed);
        }
        let old = world.old.given.load(Ordering::Relaxed);
        assert_eq!(old, flushed, "L2: a send slipped past the end");
        assert_eq!(world.entrance.lock().hand_over.len(), 0, "a record is stranded");
        let returned = world.returned.load(Ordering::Relaxed);
        assert_eq!((old & returned, old | returned), (0, 3), "each is flushed or given back");
    });
}
