//! One module per port, one function per clause of its `# Contract`.
//!
//! Each function panics with the clause's text when a backend breaks it. Backends with a real cluster behind them pass
//! names of their own (topics, groups, endpoints), so that runs do not meet. `check_all` of a module runs every clause
//! that needs nothing but the backend itself; the others say what else they need.

pub mod admin;
pub mod dns;
pub mod journal;
pub mod lag;
pub mod producer;
pub mod provision;
pub mod registry;
pub mod watch;
