//! With a defence taken out, the promises are seen to break: `KUTOVER_WITHOUT=no-flush cargo test -p kutover-sim
//! --features controls`. Without one in the environment there is nothing to see.
#![cfg(feature = "controls")]

use kutover_core::controls::{Control, without};
use kutover_sim::{Options, run};

#[test]
fn a_defence_that_is_missing_is_noticed() {
    let Some(control) = Control::ALL.iter().copied().find(|control| without(*control)) else { return };
    let caught = (0..40).find(|seed| !run(*seed, &Options::default()).violations.is_empty());
    assert!(caught.is_some(), "{} survived 40 seeds", control.name());
}
