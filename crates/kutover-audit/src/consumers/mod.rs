//! Consumer groups of stock clients: they read everything and commit as they go.
//!
//! Under kutover a group follows the chain in the least way there is: it reads one cluster to its closed end, commits,
//! leaves, and starts on the next one where its offsets stand, with a barrier for the topic as a whole. Where nothing says
//! how far a log goes, a group reads both clusters at once, as the published recipe has it.

mod book;
mod reader;
mod route;

pub use book::{GroupBook, Positions};
pub use reader::ReaderSet;
