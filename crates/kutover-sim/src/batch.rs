//! Many seeds, on every core, and what came of them together.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kutover_memory::FAULT_KINDS;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::run::{Options, Outcome, run};
use crate::scene::Strategy;
use crate::weather::{ELSEWHERE, Fault, HERE, Level};

/// Every so many seeds one is run twice, and has to give the same trace.
const TWICE_EVERY: u64 = 50;
/// From so many seeds on, what is true of them all together is promised: if they are heavy, every kind of fault must have
/// struck.
const ENOUGH: u64 = 200;
/// At most one record in so many may come back to its caller with an error.
const RETURNED_AT_MOST: u64 = 20;

/// What came of many seeds.
#[derive(Debug)]
pub struct Batch {
    /// Seeds that were run.
    pub seeds: u64,
    /// How much went wrong.
    pub level: Level,
    /// What moved the producers.
    pub strategy: Strategy,
    /// Sums over all seeds.
    pub sums: Sums,
    /// How often each kind of fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each kind of fault that the world in memory counts took effect; without those that happen elsewhere.
    pub fired: BTreeMap<&'static str, u64>,
    /// Seeds whose promises were broken, lowest first; the first few of them.
    pub failed: Vec<Outcome>,
    /// Seeds that gave another trace when they were run again.
    pub differed: Vec<u64>,
    /// How long it took.
    pub took: Duration,
    /// Whether every fault was free to strike.
    pub whole: bool,
}

/// Sums over seeds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// Things that happened.
    pub events: u64,
    /// Cutovers that came to their end.
    pub cutovers: u64,
    /// Of them, rolled back.
    pub rollbacks: u64,
    /// Cutovers that were aborted, each time that one was.
    pub aborts: u64,
    /// Cutovers that the operator took back, since they were held with nothing left to wait for.
    pub taken_back: u64,
    /// Controllers that died.
    pub crashes: u64,
    /// Controllers that slept.
    pub pauses: u64,
    /// Controllers that went on where another had stopped.
    pub resumes: u64,
    /// Accepted records.
    pub accepted: u64,
    /// Of them, those of producers that the strategy moves: without strangers'.
    pub own: u64,
    /// Lost records.
    pub lost: u64,
    /// Of `own`, those that came back to their caller with an error.
    pub returned: u64,
    /// Copies beyond the first.
    pub duplicated: u64,
    /// First copies that stand too late.
    pub out_of_order: u64,
    /// What retention took before a group had read it, counted for every group.
    pub aged_out: u64,
    /// Producers that never moved.
    pub never_moved: u64,
    /// Producers.
    pub producers: u64,
    /// Groups.
    pub groups: u64,
    /// The longest that a send waited at a switch, in milliseconds.
    pub longest_wait_ms: u64,
    /// The longest that one waited for room, in milliseconds.
    pub longest_room_ms: u64,
    /// The longest that one waited while a controller was awake and nothing went wrong, in milliseconds.
    pub longest_calm_wait_ms: u64,
    /// The longest that a client took to be settled behind its closed gate, in milliseconds.
    pub longest_seal_ms: u64,
    /// Broken promises.
    pub violations: u64,
}

impl Sums {
    fn add(&mut self, outcome: &Outcome) {
        self.events += outcome.events;
        self.cutovers += outcome.cutovers;
        self.rollbacks += outcome.rollbacks;
        self.aborts += outcome.aborts;
        self.taken_back += outcome.taken_back;
        self.crashes += outcome.crashes;
        self.pauses += outcome.pauses;
        self.resumes += outcome.resumes;
        self.accepted += outcome.count.accepted;
        self.own += outcome.count.own;
        self.lost += outcome.count.lost;
        self.returned += outcome.count.returned;
        self.duplicated += outcome.count.duplicated;
        self.out_of_order += outcome.count.out_of_order;
        self.aged_out += outcome.count.aged_out;
        self.never_moved += outcome.count.never_moved;
        self.producers += outcome.count.producers;
        self.groups += outcome.count.groups;
        self.longest_wait_ms = self.longest_wait_ms.max(outcome.count.longest_wait_ms);
        self.longest_room_ms = self.longest_room_ms.max(outcome.count.longest_room_ms);
        self.longest_calm_wait_ms = self.longest_calm_wait_ms.max(outcome.count.longest_calm_wait_ms);
        self.longest_seal_ms = self.longest_seal_ms.max(outcome.count.longest_seal_ms);
        self.violations += outcome.violations.len() as u64;
    }
}

/// Runs seeds on every core; `each` is told of every outcome, in no particular order.
///
/// # Panics
/// If a world panicked.
pub fn run_all(
    seeds: Range<u64>,
    options: &Options,
    limit: Option<Duration>,
    each: impl Fn(&Outcome) + Sync,
) -> Batch {
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let batch = Mutex::new(Batch {
        seeds: 0,
        level: options.level,
        strategy: options.strategy,
        sums: Sums::default(),
        faults: Fault::ALL.iter().map(|fault| (fault.name(), 0)).collect(),
        fired: FAULT_KINDS
            .into_iter()
            .filter(|kind| !ELSEWHERE.contains(kind))
            .chain(HERE)
            .map(|kind| (kind, 0))
            .collect(),
        failed: Vec::new(),
        differed: Vec::new(),
        took: Duration::ZERO,
        whole: options.only.is_none(),
    });
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || limit.is_some_and(|limit| began.elapsed() > limit) {
                        return;
                    }
                    let outcome = run(seed, options);
                    let differs =
                        seed.is_multiple_of(TWICE_EVERY) && run(seed, options).trace != outcome.trace;
                    each(&outcome);
                    let mut batch = batch.lock();
                    if differs {
                        batch.differed.push(seed);
                    }
                    batch.add(outcome);
                }
            });
        }
    });
    let mut batch = batch.into_inner();
    batch.took = began.elapsed();
    batch
}

impl Batch {
    fn add(&mut self, mut outcome: Outcome) {
        self.seeds += 1;
        self.sums.add(&outcome);
        for struck in &outcome.struck {
            *self.faults.entry(struck.what.fault.name()).or_default() += 1;
        }
        for (kind, times) in &outcome.fired {
            if let Some(sum) = self.fired.get_mut(kind) {
                *sum += times;
            }
        }
        if !outcome.violations.is_empty() {
            outcome.lines.clear();
            self.failed.push(outcome);
            self.failed.sort_by_key(|failed| failed.seed);
            self.failed.truncate(20);
        }
    }

    /// Why this is no success; empty if it is one.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.sums.violations > 0 {
            wrong.push(format!(
                "{} broken promises, the first in seed {:?}",
                self.sums.violations,
                self.first()
            ));
        }
        if self.strategy == Strategy::Kutover && self.sums.lost > 0 {
            wrong.push(format!("{} lost records", self.sums.lost));
        }
        for seed in &self.differed {
            wrong.push(format!("seed {seed} gave another trace when it was run again"));
        }
        let enough = self.strategy == Strategy::Kutover && self.seeds >= ENOUGH && self.whole;
        // Who hands everything back loses nothing either. One world may hand back more than all of them do.
        if enough && self.sums.returned * RETURNED_AT_MOST > self.sums.own {
            let Sums { returned, own, .. } = self.sums;
            wrong.push(format!(
                "{returned} of {own} records came back to their caller, more than one in {RETURNED_AT_MOST}"
            ));
        }
        if enough && self.level == Level::Heavy {
            let never = self.faults.iter().filter(|(_, struck)| **struck == 0);
            wrong.extend(never.map(|(fault, _)| format!("no {fault} ever struck")));
            let never = self.fired.iter().filter(|(_, times)| **times == 0);
            wrong.extend(never.map(|(kind, _)| format!("no {kind} ever took effect")));
        }
        wrong
    }

    fn first(&self) -> Option<u64> {
        self.failed.first().map(|failed| failed.seed)
    }

    fn events_per_s(&self) -> u64 {
        (self.sums.events as f64 / self.took.as_secs_f64().max(0.001)) as u64
    }

    /// The result as `kutover.simulation/1`.
    pub fn json(&self) -> Value {
        let sums = &self.sums;
        json!({
            "schema": "kutover.simulation/1",
            "strategy": self.strategy,
            "seeds": self.seeds,
            "seconds": self.took.as_secs_f64(),
            "events": sums.events,
            "events_per_s": self.events_per_s(),
            "producers": sums.producers,
            "groups": sums.groups,
            "accepted": sums.accepted,
            "own": sums.own,
            "cutovers": sums.cutovers,
            "rollbacks": sums.rollbacks,
            "aborts": sums.aborts,
            "taken_back": sums.taken_back,
            "crashes": sums.crashes,
            "pauses": sums.pauses,
            "resumes": sums.resumes,
            "lost": sums.lost,
            "returned": sums.returned,
            "duplicated": sums.duplicated,
            "out_of_order": sums.out_of_order,
            "aged_out": sums.aged_out,
            "never_moved": sums.never_moved,
            "longest_wait_ms": sums.longest_wait_ms,
            "longest_room_ms": sums.longest_room_ms,
            "longest_calm_wait_ms": sums.longest_calm_wait_ms,
            "longest_seal_ms": sums.longest_seal_ms,
            "violations": sums.violations,
            "failed_seeds": self.failed.iter().map(|failed| failed.seed).collect::<Vec<_>>(),
            "faults": self.faults,
            "took_effect": self.fired,
        })
    }

    /// The result for people.
    pub fn text(&self) -> String {
        let sums = &self.sums;
        let faults: Vec<_> = self.faults.iter().map(|(fault, struck)| format!("{fault} {struck}")).collect();
        format!(
            "{} seeds, {} events in {:.1} s ({} per s)\n{} cutovers, {} rolled back, {} of them since they were held for \
             good; {} aborts; controllers: {} died, {} slept, {} went on\n{} records of {} producers: {} lost, {} returned, {} duplicated, {} out of order, {} \
             deleted by retention before a group had read them; {} producers never moved\nat a switch a send \
             waited for {} ms at most, of it {} ms for room; {} ms while nothing went wrong; {} ms until a client was settled\n{} broken promises\nfaults: {}",
            self.seeds,
            sums.events,
            self.took.as_secs_f64(),
            self.events_per_s(),
            sums.cutovers,
            sums.rollbacks,
            sums.taken_back,
            sums.aborts,
            sums.crashes,
            sums.pauses,
            sums.resumes,
            sums.accepted,
            sums.producers,
            sums.lost,
            sums.returned,
            sums.duplicated,
            sums.out_of_order,
            sums.aged_out,
            sums.never_moved,
            sums.longest_wait_ms,
            sums.longest_room_ms,
            sums.longest_calm_wait_ms,
            sums.longest_seal_ms,
            sums.violations,
            faults.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fires by itself would hide a fault that does nothing.
    #[test]
    fn an_effect_is_counted_only_where_its_fault_has_struck() {
        let options = Options { level: Level::None, ..Options::default() };
        let batch = run_all(0..3, &options, None, |_| {});
        assert!(batch.sums.cutovers > 0);
        for fault in Fault::ALL {
            let Some(effect) = fault.effect() else { continue };
            assert_eq!(batch.fired.get(effect), Some(&0), "{fault} by {effect}");
        }
    }

    #[test]
    fn a_run_in_which_too_many_records_came_back_is_no_success() {
        let options = Options { level: Level::Light, ..Options::default() };
        let mut batch = run_all(0..0, &options, None, |_| {});
        (batch.sums.own, batch.sums.returned) = (100, 6);
        assert!(batch.wrong().is_empty(), "few worlds promise nothing of the kind");
        batch.seeds = ENOUGH;
        assert_eq!(batch.wrong(), ["6 of 100 records came back to their caller, more than one in 20"]);
        batch.sums.returned = 5;
        assert!(batch.wrong().is_empty());
        (batch.sums.returned, batch.strategy) = (6, Strategy::Recipe);
        assert!(batch.wrong().is_empty(), "what the recipe hands back is a figure, and no failure");
    }
}
