//! Which worlds there are, how large each is known to be, and which controls it catches.

use kutover_core::controls::Control;
use kutover_core::cutover::StateName;
use kutover_core::switch::Order;
use kutover_core::words::Colour::{Blue, Green};

use crate::check::{Outcome, check};
use crate::cutover_world::{Budget, CutoverWorld, Mover};
use crate::ground::Faults;
use crate::switch_world::SwitchWorld;

/// One world.
pub struct World {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// It has at least so many states; fewer mean that something no longer happens in it.
    pub least: usize,
    run: fn(&'static str, usize) -> Outcome,
}

impl World {
    /// Visits all of it, with so many threads.
    pub fn check(&self, threads: usize) -> Outcome {
        (self.run)(self.name, threads)
    }
}

/// Which world shows what is lost without a defence.
pub const CATCHES: &[(Control, &str)] = &[
    (Control::NoFlush, "switch"),
    (Control::FlushNotReports, "switch"),
    (Control::OlderMoves, "switch"),
    (Control::PurgedNotWritten, "switch"),
    (Control::ReuseClient, "switch"),
    (Control::IgnoreLaterAcks, "switch-fences"),
    (Control::TrustDns, "switch-trouble"),
    (Control::LivingIgnored, "members"),
    (Control::SkipTerm, "takeover"),
    (Control::ClaimsIgnored, "takeover"),
    (Control::LateActsStay, "rollback-takeover"),
    (Control::NoIntents, "adoption"),
    (Control::MarkLate, "adoption"),
    (Control::MarkLate, "takeover"),
    (Control::PublishFirst, "rollback"),
    (Control::PublishFirst, "rollback-order"),
    (Control::LiftFirst, "rollback"),
    (Control::LiftFirst, "rollback-order"),
];

const NONE: Faults = Faults {
    lost_acks: 0,
    late_appends: 0,
    known_failures: 0,
    connect_failures: 0,
    wrong_clusters: 0,
    look_failures: 0,
    fatals: 0,
    slow_flushes: 0,
};

const SLOW: Faults = Faults { lost_acks: 1, late_appends: 1, slow_flushes: 1, ..NONE };

/// Two producers share nothing but the clusters and the faults, so most is found with one; it may then meet more.
const SWITCH: SwitchWorld = SwitchWorld {
    order: Order::Ordered,
    records: &[2, 1],
    generations: &[Green, Blue],
    fence: false,
    faults: SLOW,
};

/// One controller that does it all, and nothing goes wrong.
const CUTOVER: CutoverWorld = CutoverWorld {
    from: Some(StateName::Redirecting),
    controllers: 1,
    remove_old: true,
    budget: Budget {
        takeovers: 0,
        crashes: 0,
        unknowns: 0,
        strangers: 0,
        rollbacks: 0,
        deaths: 0,
        kills: 0,
        beats: 0,
    },
    producers: &[],
    late: false,
    movers: &[],
    members: false,
    faults: NONE,
};

/// The same from converging on, with a way back: the old cluster stays.
const ROLLBACK: CutoverWorld =
    CutoverWorld { from: Some(StateName::Converging), remove_old: false, ..CUTOVER };

/// A producer that has not heard of the new cluster.
const LATE: &[Mover] = &[Mover::new(Blue, 1, 2)];

/// One that has moved, and one that has not heard of it.
const TWO: &[Mover] = &[Mover::new(Green, 2, 1), Mover::new(Blue, 1, 1)];

const GOING_BACK: Option<StateName> = Some(StateName::RollingBack);

/// A way back from a cluster that may die.
pub(crate) const ROLLBACK_DEAD: CutoverWorld = CutoverWorld {
    from: GOING_BACK,
    budget: Budget { deaths: 1, ..CUTOVER.budget },
    movers: LATE,
    ..ROLLBACK
};

/// Every world.
pub const WORLDS: &[World] = &[
    World {
        name: "switch",
        about: "two producers, three records, a newer generation in every state; ordered",
        least: 250_000,
        run: |name, threads| check(name, &SWITCH, threads),
    },
    World {
        name: "switch-overlap",
        about: "the same, overlapping",
        least: 600_000,
        run: |name, threads| check(name, &SwitchWorld { order: Order::Overlap, ..SWITCH }, threads),
    },
    World {
        name: "switch-fences",
        about: "one producer, three records; what was left is fenced without a word, records fail",
        least: 150_000,
        run: |name, threads| {
            let faults = Faults { known_failures: 1, ..SLOW };
            check(name, &SwitchWorld { records: &[3], fence: true, faults, ..SWITCH }, threads)
        },
    },
    World {
        name: "switch-fences-overlap",
        about: "the same with two records, overlapping",
        least: 75_000,
        run: |name, threads| {
            let (order, faults) = (Order::Overlap, Faults { known_failures: 1, ..SLOW });
            check(name, &SwitchWorld { order, records: &[2], fence: true, faults, ..SWITCH }, threads)
        },
    },
    World {
        name: "switch-trouble",
        about: "one producer, two records; clients that die, lead elsewhere or nowhere; looks without an answer",
        least: 250_000,
        run: |name, threads| {
            let faults =
                Faults { connect_failures: 1, wrong_clusters: 1, look_failures: 1, fatals: 1, ..SLOW };
            check(name, &SwitchWorld { records: &[2], faults, ..SWITCH }, threads)
        },
    },
    World {
        name: "adoption",
        about: "one controller from nothing to the removal; killed anywhere, an answer lost, a producer nobody knows of",
        least: 16_500,
        run: |name, threads| {
            let budget = Budget { crashes: 1, unknowns: 1, strangers: 1, ..CUTOVER.budget };
            check(name, &CutoverWorld { from: None, budget, ..CUTOVER }, threads)
        },
    },
    World {
        name: "takeover",
        about: "two controllers from the redirect to the removal; the first may sleep anywhere and act late",
        least: 70_000,
        run: |name, threads| {
            let budget = Budget { takeovers: 1, strangers: 1, ..CUTOVER.budget };
            check(name, &CutoverWorld { controllers: 2, budget, ..CUTOVER }, threads)
        },
    },
    World {
        name: "takeover-unknown",
        about: "the same, and an answer is lost, of what was done or of what was not",
        least: 350_000,
        run: |name, threads| {
            let budget = Budget { takeovers: 1, unknowns: 1, strangers: 1, ..CUTOVER.budget };
            check(name, &CutoverWorld { controllers: 2, budget, ..CUTOVER }, threads)
        },
    },
    World {
        name: "controllers",
        about: "two controllers from nothing to the removal; the first may sleep anywhere and act late",
        least: 150_000,
        run: |name, threads| {
            let budget = Budget { takeovers: 1, strangers: 1, ..CUTOVER.budget };
            check(name, &CutoverWorld { from: None, controllers: 2, budget, ..CUTOVER }, threads)
        },
    },
    World {
        name: "rollback",
        about: "a rollback asked for from converging on; a controller that is killed, a producer that nobody knows of",
        least: 43_000,
        run: |name, threads| {
            let budget = Budget { crashes: 1, rollbacks: 1, strangers: 1, ..CUTOVER.budget };
            check(name, &CutoverWorld { budget, ..ROLLBACK }, threads)
        },
    },
    World {
        name: "rollback-takeover",
        about: "the same with two controllers, the first of which may sleep anywhere and act late",
        least: 345_000,
        run: |name, threads| {
            let budget = Budget { takeovers: 1, rollbacks: 1, ..CUTOVER.budget };
            check(name, &CutoverWorld { controllers: 2, budget, ..ROLLBACK }, threads)
        },
    },
    World {
        name: "rollback-order",
        about: "a rollback asked for from converging on, a producer that holds the older generation, an ordered reader",
        least: 100_000,
        run: |name, threads| {
            let budget = Budget { rollbacks: 1, ..CUTOVER.budget };
            check(name, &CutoverWorld { budget, movers: LATE, ..ROLLBACK }, threads)
        },
    },
    World {
        name: "rollback-order-two",
        about: "a rollback in the middle of converging, one producer that has moved and one that has not, an ordered reader",
        least: 45_000,
        run: |name, threads| {
            let movers = TWO;
            check(name, &CutoverWorld { from: GOING_BACK, movers, ..ROLLBACK }, threads)
        },
    },
    World {
        name: "rollback-dead",
        about: "green dies before its fence is proven for a rollback; producers and reader go back without it",
        least: 92_000,
        run: |name, threads| check(name, &ROLLBACK_DEAD, threads),
    },
    World {
        name: "members",
        about: "two producers that say where they are and that they live, one of which dies anywhere; to the removal",
        least: 160_000,
        run: |name, threads| {
            let budget = Budget { kills: 1, beats: 1, ..CUTOVER.budget };
            let from = Some(StateName::Converging);
            check(name, &CutoverWorld { from, budget, movers: TWO, members: true, ..CUTOVER }, threads)
        },
    },
    World {
        name: "late-producer",
        about: "a producer that starts late behind a stale resolver while its segment closes",
        least: 16_500,
        run: |name, threads| {
            let world = CutoverWorld { remove_old: false, producers: &[1], late: true, ..CUTOVER };
            check(name, &world, threads)
        },
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_world_has_a_name_of_its_own_and_every_catch_names_one() {
        let names: BTreeSet<&str> = WORLDS.iter().map(|world| world.name).collect();
        assert_eq!(names.len(), WORLDS.len());
        assert!(CATCHES.iter().all(|(_, world)| names.contains(world)));
    }

    /// All of them are run, with optimisation, by `cargo xtask test --only worlds`; this one is small enough for a test.
    #[test]
    fn one_producer_with_one_record_keeps_every_promise_and_ends() {
        let world = SwitchWorld { records: &[1], fence: true, ..SWITCH };
        let outcome = check("one", &world, 1);
        assert!(outcome.found.is_none(), "{:?}", outcome.found);
        assert!(outcome.states > 500 && outcome.ends > 10, "{outcome:?}");
    }

    /// A run gives the same count every time.
    #[test]
    fn the_count_is_the_same_again() {
        let world = SwitchWorld { records: &[1], ..SWITCH };
        let states = || check("one", &world, 2).states;
        assert_eq!(states(), states());
    }
}
