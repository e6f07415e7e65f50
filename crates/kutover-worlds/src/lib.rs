//! Exhaustive small worlds: kutover's real machines inside a model checker, all interleavings and not samples.

#![allow(clippy::large_enum_variant, reason = "steps and answers are data that live one at a time")]

mod check;
mod cutover_world;
mod ground;
mod kept;
mod names;
mod producer;
mod promise;
mod switch_world;
mod tell;
mod worlds;

pub use check::{Found, Outcome};
pub use worlds::{CATCHES, WORLDS, World};
