//! How the program ends when it does not end well.

use std::fmt;

use kutover_core::error::{ErrorKind, ProviderError};

/// Why a command did not end well, by exit status.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was asked for makes no sense: status 2.
    Input(anyhow::Error),
    /// It was tried and did not succeed: status 1.
    Run(anyhow::Error),
    /// A person or a supervisor ended it: status 130, as shells have it for an interrupt. Says what became of what it did.
    Interrupted(String),
}

impl Failure {
    /// A file of the deployment's cannot be used. One that is damaged is bad input; anything else is a trouble of this run.
    pub(crate) fn of_file(error: ProviderError) -> Self {
        match error.kind {
            ErrorKind::Invalid => Self::Input(error.into()),
            _ => Self::Run(error.into()),
        }
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Failure::Input(_) => 2,
            Failure::Run(_) => 1,
            Failure::Interrupted(_) => 130,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Input(error) | Failure::Run(error) => write!(f, "{error:#}"),
            Failure::Interrupted(left) => write!(f, "interrupted; {left}"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Run(error)
    }
}
