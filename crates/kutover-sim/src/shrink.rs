//! Which of a failure's faults it needs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::run::{Options, Outcome, run};
use crate::weather::Occurrence;

/// What a shrinking came to.
#[derive(Debug)]
pub struct Needed {
    /// With these alone a promise is broken that was broken with all of them: seen in a run of its own.
    pub faults: BTreeSet<Occurrence>,
    /// How many runs it took.
    pub runs: usize,
    /// Whether each of them is needed; otherwise the time was over first.
    pub each: bool,
}

/// Leaves faults out, whole kinds first and then ever smaller parts, for as long as the same promise stays broken (delta
/// debugging), until the time is over. `None` if the faults that struck do not break it when nothing else may strike.
pub fn shrink(failed: &Outcome, options: &Options, limit: Duration) -> Option<Needed> {
    let promises: BTreeSet<_> = failed.violations.iter().map(|violation| violation.invariant).collect();
    let began = Instant::now();
    let (mut runs, mut over) = (0, false);
    let mut fails = |only: &[Occurrence]| {
        over = over || (runs > 0 && began.elapsed() > limit);
        if over {
            return false;
        }
        runs += 1;
        let options = Options { only: Some(only.iter().copied().collect()), lines: false, ..options.clone() };
        run(failed.seed, &options).violations.iter().any(|violation| promises.contains(violation.invariant))
    };
    let all: Vec<Occurrence> = failed.struck.iter().map(|struck| struck.what).collect();
    let left = fails(&all).then(|| least(all, &mut fails))?;
    Some(Needed { faults: left.into_iter().collect(), runs, each: !over })
}

fn least(mut left: Vec<Occurrence>, fails: &mut impl FnMut(&[Occurrence]) -> bool) -> Vec<Occurrence> {
    if fails(&[]) {
        return Vec::new();
    }
    let kinds: BTreeSet<_> = left.iter().map(|fault| fault.fault).collect();
    for kind in kinds {
        let others: Vec<_> = left.iter().copied().filter(|fault| fault.fault != kind).collect();
        if fails(&others) {
            left = others;
        }
    }
    let mut parts = 2;
    while parts <= left.len() {
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
    left
}
