//! Which of a failure's faults it needs.

use std::collections::BTreeSet;

use crate::run::{Options, Outcome, run};
use crate::weather::Occurrence;

/// How many runs a shrinking may take.
const RUNS: usize = 120;

/// Leaves faults out, in ever smaller parts, for as long as the same promise stays broken (delta debugging). What is left
/// still breaks it; bounded, so it need not be the least.
pub fn shrink(failed: &Outcome, options: &Options) -> BTreeSet<Occurrence> {
    let promises: BTreeSet<_> = failed.violations.iter().map(|violation| violation.invariant).collect();
    let mut runs = 0;
    let mut fails = |only: &[Occurrence]| {
        runs += 1;
        if runs > RUNS {
            return false;
        }
        let options = Options { only: Some(only.iter().copied().collect()), lines: false, ..options.clone() };
        run(failed.seed, &options).violations.iter().any(|violation| promises.contains(violation.invariant))
    };
    let mut left: Vec<Occurrence> = failed.struck.iter().map(|struck| struck.what).collect();
    if fails(&[]) {
        return BTreeSet::new();
    }
    let mut parts = 2;
    while !left.is_empty() && parts <= left.len() {
        let size = left.len().div_ceil(parts);
        let without = (0..left.len()).step_by(size).find_map(|start| {
            let mut rest = left.clone();
            rest.drain(start..(start + size).min(left.len()));
            fails(&rest).then_some(rest)
        });
        match without {
            Some(rest) => {
                left = rest;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(left.len()),
        }
    }
    left.into_iter().collect()
}
