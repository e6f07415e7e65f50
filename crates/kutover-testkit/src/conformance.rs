//! One module per port, one function or several per clause of its `# Contract`.
//!
//! Each function panics with the clause's text when a backend breaks it. Backends with a real cluster behind them pass
//! names of their own (topics, groups, endpoints), so that runs do not meet. `check_all` of a module runs every clause
//! that needs nothing but the backend itself; the others say what else they need.

pub mod admin;
mod admin_fence;
pub mod connect;
pub mod dns;
pub mod fence;
pub mod journal;
pub mod lag;
pub mod producer;
pub mod producer_ids;
pub mod provision;
pub mod registry;
pub mod survey;
pub mod token;
pub mod watch;
pub mod writers;

use std::fmt::Debug;

use kutover_core::error::{ErrorKind, Outcome, ProviderResult};

/// A clause of a port's contract, by number and in words.
#[derive(Clone, Copy, Debug)]
struct Clause {
    port: &'static str,
    number: u8,
    text: &'static str,
}

impl Clause {
    const fn new(port: &'static str, number: u8, text: &'static str) -> Self {
        Self { port, number, text }
    }

    /// Panics with the clause if it does not hold.
    #[track_caller]
    fn holds(self, holds: bool, found: impl Debug) {
        assert!(holds, "{}, clause {}: {}; found: {found:?}", self.port, self.number, self.text);
    }

    /// The value, or a panic with the clause.
    #[track_caller]
    fn ok<T>(self, given: ProviderResult<T>) -> T {
        given.unwrap_or_else(|error| {
            panic!("{}, clause {}: {}; found the error: {error}", self.port, self.number, self.text)
        })
    }

    /// Panics with the clause unless it is an error of this kind that is known not to have been done. Gives its text.
    #[track_caller]
    fn refused<T: Debug>(self, given: ProviderResult<T>, kind: ErrorKind) -> String {
        match given {
            Err(error) if error.kind == kind && error.outcome == Outcome::NotDone => error.to_string(),
            other => {
                self.holds(false, other);
                String::new()
            }
        }
    }
}
