//! What a user chooses about a switch.

use serde::{Deserialize, Serialize};

/// How a switch treats sends that arrive while it is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The order per key is kept: everything offered to the old cluster is settled before anything is offered to the
    /// new one. Sends wait meanwhile.
    #[default]
    Ordered,
    /// New sends go to the new cluster at once while the old client settles. Nobody waits; order is not kept.
    Overlap,
}

/// What becomes of a record that may or may not stand in the old cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownPolicy {
    /// It is returned to the caller, who is told that its fate is unknown.
    Return,
    /// It is sent again and counted as a possible duplicate.
    SendAgain,
}

impl UnknownPolicy {
    /// What an order implies where the user has not chosen: `Ordered` returns, `Overlap` sends again.
    pub fn default_for(order: Order) -> Self {
        match order {
            Order::Ordered => UnknownPolicy::Return,
            Order::Overlap => UnknownPolicy::SendAgain,
        }
    }
}

/// The numbers a switch goes by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SwitchPolicy {
    /// How sends are treated.
    pub order: Order,
    /// For how long starting may take before it is an error, in milliseconds.
    pub start_ms: u64,
    /// How long one flush may take before a healthy old cluster is gone back to, in milliseconds.
    pub seal_ms: u64,
    /// How long a flush may take in all before what is left is purged, in milliseconds.
    pub purge_ms: u64,
    /// The first pause before trying again what failed, in milliseconds; it doubles up to `back_off_max_ms`.
    pub back_off_ms: u64,
    /// The longest such pause, in milliseconds.
    pub back_off_max_ms: u64,
    /// How often a slow old cluster is gone back to before its rest is purged instead.
    pub returns: u32,
    /// For how long "nothing is under way" may be believed after it was looked up, in milliseconds: so long refusals
    /// are returned without another look.
    pub look_ms: u64,
}

impl Default for SwitchPolicy {
    fn default() -> Self {
        Self {
            order: Order::Ordered,
            start_ms: 30_000,
            seal_ms: 2_000,
            purge_ms: 10_000,
            back_off_ms: 250,
            back_off_max_ms: 5_000,
            returns: 3,
            look_ms: 1_000,
        }
    }
}
