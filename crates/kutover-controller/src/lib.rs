//! The tokio driver of the cutover machine: configuration, journal, resume, progress events.

pub mod config;
pub mod driver;
pub mod journal;
mod settings;
pub mod survey;
