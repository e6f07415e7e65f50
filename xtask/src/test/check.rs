//! A check of a section's own: something that is no cargo test and still counts as one.

use anyhow::Result;

use super::{Context, tally::Tally};

/// How a check ended that did not fail.
#[derive(Debug)]
pub(crate) enum Ran {
    /// It was carried out and held.
    Passed,
    /// It could not be carried out, and why. With `CI=true` that is a failure.
    Skipped(String),
}

/// A named check. An error is a failure, and its text says what to mend.
pub(crate) struct Check {
    /// What holds if it passes.
    pub(crate) name: &'static str,
    /// Carries it out.
    pub(crate) run: fn(&Context) -> Result<Ran>,
}

impl Check {
    /// Carries it out, prints the result as libtest would, and counts it.
    pub(crate) fn run(&self, context: &Context, section: &str) -> Tally {
        let name = self.name;
        let mut tally = Tally::default();
        match (self.run)(context) {
            Ok(Ran::Passed) => {
                println!("check {section}: {name} ... ok");
                tally.passed += 1;
            }
            Ok(Ran::Skipped(why)) if context.ci => {
                println!("check {section}: {name} ... FAILED\n{why}");
                tally.fail(format!("{section}: {name}: {why} (CI=true: nothing may be missing)"));
            }
            Ok(Ran::Skipped(why)) => {
                println!("check {section}: {name} ... skipped: {why}");
                tally.skip(format!("{section}: {name}: {why}"));
            }
            Err(error) => {
                println!("check {section}: {name} ... FAILED\n{error:#}");
                tally.fail(format!("{section}: {name}"));
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::{Check, Ran};
    use crate::test::Context;

    const MISSING: Check = Check { name: "a part", run: |_| Ok(Ran::Skipped("it is not here".into())) };

    #[test]
    fn a_missing_part_is_skipped_by_hand_and_fails_in_ci() {
        let mut context = Context::new(false).unwrap();
        context.ci = false;
        let tally = MISSING.run(&context, "lint");
        assert_eq!((tally.passed, tally.failed, tally.skipped), (0, 0, 1));
        assert_eq!(tally.skips, ["lint: a part: it is not here"]);
        context.ci = true;
        let tally = MISSING.run(&context, "lint");
        assert_eq!((tally.passed, tally.failed, tally.skipped), (0, 1, 0));
    }
}
