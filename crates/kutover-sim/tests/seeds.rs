//! A few seeds: clean, repeatable, and hard on other strategies. `cargo xtask simulate` runs many.

use kutover_sim::scene::{Size, Strategy};
use kutover_sim::weather::Level;
use kutover_sim::{Options, Outcome, run};

fn run_all(seeds: std::ops::Range<u64>, options: &Options) -> Vec<Outcome> {
    seeds.map(|seed| run(seed, options)).collect()
}

fn again(outcome: &Outcome) -> String {
    format!("run it again: cargo xtask simulate --seeds {}", outcome.seed)
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let options = Options { lines: true, ..Options::default() };
    let (first, second) = (run(7, &options), run(7, &options));
    let differs = first.lines.iter().zip(&second.lines).find(|(first, second)| first != second);
    assert_eq!(differs, None, "{}", again(&first));
    assert_eq!((first.trace, first.events), (second.trace, second.events));
    assert_ne!(run(8, &options).trace, first.trace);
}

#[test]
fn a_few_seeds_keep_every_promise() {
    for outcome in run_all(0..6, &Options::default()) {
        assert_eq!(outcome.violations, [], "{}", again(&outcome));
        assert_eq!(outcome.count.lost, 0, "{}", again(&outcome));
    }
}

#[test]
fn without_faults_nothing_is_duplicated_and_nobody_stays_behind() {
    let options = Options { level: Level::None, ..Options::default() };
    for outcome in run_all(0..3, &options) {
        assert_eq!(outcome.violations, [], "{}", again(&outcome));
        assert_eq!((outcome.count.returned, outcome.count.duplicated), (0, 0), "{}", again(&outcome));
        assert!(outcome.struck.is_empty());
    }
}

#[test]
fn a_crowd_keeps_every_promise() {
    let size = Size { producers: Some(120), groups: None, resolvers: Some(9) };
    let options = Options { level: Level::Light, size, ..Options::default() };
    for outcome in run_all(0..1, &options) {
        assert_eq!(outcome.violations, [], "{} --producers 120 --resolvers 9", again(&outcome));
        assert_eq!((outcome.count.producers, outcome.count.groups), (120, 12));
    }
}

/// The published recipe drops what its old client still holds.
#[test]
fn the_recipe_loses_records() {
    let options = Options { strategy: Strategy::Recipe, level: Level::Light, ..Options::default() };
    let lost: u64 = run_all(0..4, &options).iter().map(|outcome| outcome.count.lost).sum();
    assert!(lost > 0);
}

/// A stock client asks DNS once: a change of it moves nobody.
#[test]
fn dns_alone_moves_nobody() {
    let options = Options { strategy: Strategy::DnsOnly, level: Level::None, ..Options::default() };
    let outcomes = run_all(0..12, &options);
    let never_moved: u64 = outcomes.iter().map(|outcome| outcome.count.never_moved).sum();
    assert!(never_moved > 0);
}
