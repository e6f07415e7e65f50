//! The names of states.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A state's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are the names of State's variants")]
pub enum StateName {
    Planned,
    Provisioning,
    Verifying,
    Preparing,
    Ready,
    Redirecting,
    Converging,
    Fencing,
    Draining,
    Soaking,
    Isolating,
    Retiring,
    Complete,
    Aborting,
    Aborted,
    RollingBack,
    RolledBack,
}

impl StateName {
    /// The states of a cutover that goes well, in order.
    pub const FORWARD: [StateName; 13] = [
        StateName::Planned,
        StateName::Provisioning,
        StateName::Verifying,
        StateName::Preparing,
        StateName::Ready,
        StateName::Redirecting,
        StateName::Converging,
        StateName::Fencing,
        StateName::Draining,
        StateName::Soaking,
        StateName::Isolating,
        StateName::Retiring,
        StateName::Complete,
    ];

    /// The name in kebab-case.
    pub fn as_str(self) -> &'static str {
        match self {
            StateName::Planned => "planned",
            StateName::Provisioning => "provisioning",
            StateName::Verifying => "verifying",
            StateName::Preparing => "preparing",
            StateName::Ready => "ready",
            StateName::Redirecting => "redirecting",
            StateName::Converging => "converging",
            StateName::Fencing => "fencing",
            StateName::Draining => "draining",
            StateName::Soaking => "soaking",
            StateName::Isolating => "isolating",
            StateName::Retiring => "retiring",
            StateName::Complete => "complete",
            StateName::Aborting => "aborting",
            StateName::Aborted => "aborted",
            StateName::RollingBack => "rolling-back",
            StateName::RolledBack => "rolled-back",
        }
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
