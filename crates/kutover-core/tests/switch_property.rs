//! The switch over arbitrary interleavings of sends, deliveries, failures, refusals, DNS answers, newer generations and
//! deadlines: no record is lost, stranded, duplicated unaccounted or reordered.
//!
//! A failure prints its shrunk list of operations, which goes below as a named regression. `PROPTEST_CASES=n` runs more
//! cases; `PROPTEST_RNG_SEED=n` runs the same ones again.

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "small numbers of a test's own"
)]
mod switch_model;

use kutover_core::switch::{Order, UnknownPolicy};
use kutover_core::words::Colour;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use switch_model::{Mutant, Op, PARTITIONS, World};

fn colour() -> impl Strategy<Value = Colour> {
    prop_oneof![Just(Colour::Blue), Just(Colour::Green)]
}

fn op() -> impl Strategy<Value = Op> {
    let lane = 0..3_usize;
    let partition = 0..PARTITIONS;
    prop_oneof![
        12 => partition.clone().prop_map(|partition| Op::Send { partition }),
        5 => (lane.clone(), partition.clone()).prop_map(|(lane, partition)| Op::Deliver { lane, partition }),
        2 => lane.clone().prop_map(|lane| Op::DeliverAll { lane }),
        2 => (lane.clone(), partition.clone()).prop_map(|(lane, partition)| Op::FailKnown { lane, partition }),
        2 => (lane.clone(), partition, any::<bool>())
            .prop_map(|(lane, partition, written)| Op::FailUnknown { lane, partition, written }),
        1 => Just(Op::LateAppend),
        2 => (colour(), any::<bool>(), any::<bool>())
            .prop_map(|(colour, up, announced)| Op::Fence { colour, up, announced }),
        2 => colour().prop_map(|colour| Op::Publish { colour }),
        3 => (0..4_usize).prop_map(|age| Op::Answer { age }),
        1 => Just(Op::EmptyAnswer),
        9 => (0..3_usize, prop::bool::weighted(0.85)).prop_map(|(nth, well)| Op::Finish { nth, well }),
        6 => Just(Op::Replay),
        1 => lane.prop_map(|lane| Op::Fatal { lane }),
        3 => (1..3_000_u64).prop_map(|ms| Op::Time { ms }),
    ]
}

fn run(order: Order, unknown: UnknownPolicy, mutant: Mutant, ops: &[Op]) -> (World, Result<(), String>) {
    let mut world = World::new(order, unknown, mutant);
    for op in ops {
        world.step(op);
    }
    world.heal();
    let verdict = world.judge();
    (world, verdict)
}

fn holds(order: Order, unknown: UnknownPolicy, mutant: Mutant, cases: u32) -> Result<usize, String> {
    let mut config = Config::with_cases(cases);
    config.failure_persistence = None;
    config.max_shrink_iters = if mutant == Mutant::None { 20_000 } else { 0 };
    let switches = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&prop::collection::vec(op(), 20..250), |ops| {
            // A broken driver may run into the machine's own expectations; that is caught as well.
            let (world, verdict) = run(order, unknown, mutant, &ops);
            switches.set(switches.get() + world.switches);
            verdict.map_err(TestCaseError::fail)
        })
        .map(|()| switches.get())
        .map_err(|error| error.to_string())
}

const CASES: u32 = 250;

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests may ask for more")]
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES)
}

#[test]
fn ordered_keeps_every_promise() {
    let switches = holds(Order::Ordered, UnknownPolicy::Return, Mutant::None, cases()).unwrap();
    assert!(switches > cases() as usize / 4, "the world hardly switches: {switches}");
}

#[test]
fn ordered_that_sends_again_keeps_every_promise() {
    holds(Order::Ordered, UnknownPolicy::SendAgain, Mutant::None, cases()).unwrap();
}

#[test]
fn overlap_keeps_every_promise() {
    holds(Order::Overlap, UnknownPolicy::SendAgain, Mutant::None, cases()).unwrap();
    holds(Order::Overlap, UnknownPolicy::Return, Mutant::None, cases()).unwrap();
}

/// Each defence is taken out once, and the property notices.
#[test]
fn every_mutant_is_caught() {
    for mutant in [
        Mutant::DropWithoutFlush,
        Mutant::CountFlushNotReports,
        Mutant::NoGate,
        Mutant::IgnoreLater,
        Mutant::OfferLastFirst,
        Mutant::PurgedIsNotWritten,
        Mutant::MoveOnEmptyAnswer,
    ] {
        let caught = holds(Order::Ordered, UnknownPolicy::Return, mutant, 8 * CASES);
        assert!(caught.is_err(), "{mutant:?} went unnoticed");
    }
}

/// Shrunk failures of the past, each with the promise that it broke.
mod regressions {
    use super::*;

    fn keeps(order: Order, unknown: UnknownPolicy, ops: &[Op]) {
        let (_, verdict) = run(order, unknown, Mutant::None, ops);
        verdict.unwrap();
    }

    /// "Nothing is offered to a tainted client": the candidate became fatal while the old client was being shut, and a
    /// newer generation on the candidate's cluster was taken for good news.
    #[test]
    fn a_candidate_that_became_fatal_is_not_adopted() {
        let ops = [
            Op::Fence { colour: Colour::Blue, up: true, announced: false },
            Op::Send { partition: 0 },
            Op::Publish { colour: Colour::Green },
            Op::Publish { colour: Colour::Green },
            Op::Finish { nth: 0, well: true },
            Op::Finish { nth: 0, well: true },
            Op::Publish { colour: Colour::Green },
            Op::Fatal { lane: 1 },
        ];
        keeps(Order::Ordered, UnknownPolicy::Return, &ops);
    }

    /// The second cutover, back to blue: the first one's announcement was taken back, so a producer that hears of the new
    /// target late, by the refusals of green's fence, moves.
    #[test]
    fn a_straggler_of_the_second_cutover_moves() {
        let ops = [
            Op::Fence { colour: Colour::Blue, up: true, announced: true },
            Op::Publish { colour: Colour::Green },
            Op::Answer { age: 0 },
            Op::Finish { nth: 0, well: true },
            Op::Finish { nth: 0, well: true },
            Op::Finish { nth: 0, well: true },
            Op::Replay,
            Op::Fence { colour: Colour::Green, up: true, announced: true },
            Op::Send { partition: 0 },
            Op::Send { partition: 0 },
            Op::Publish { colour: Colour::Blue },
            Op::Send { partition: 0 },
            Op::DeliverAll { lane: 0 },
        ];
        keeps(Order::Ordered, UnknownPolicy::Return, &ops);
    }

    /// A late append of a record that is sent again stands before its older neighbour; that is no broken promise, and
    /// the record counts as possibly duplicated.
    #[test]
    fn a_late_append_is_counted() {
        let ops = [
            Op::Send { partition: 1 },
            Op::Send { partition: 1 },
            Op::Fatal { lane: 0 },
            Op::Deliver { lane: 0, partition: 1 },
            Op::FailUnknown { lane: 0, partition: 1, written: false },
            Op::LateAppend,
        ];
        keeps(Order::Ordered, UnknownPolicy::SendAgain, &ops);
    }
}
