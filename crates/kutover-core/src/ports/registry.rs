//! The two small topics that carry what DNS cannot: `kutover.control` and `kutover.members`.

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::ProviderResult;
use crate::messages::{ControlMessage, ControlView, MemberState};
use crate::owner::Target;

/// The controller's side, on one cluster.
///
/// # Contract
///
/// 1. `prepare` makes both topics (one partition, compacted) where they are missing.
/// 2. `say` returns `Ok` once the message is acknowledged by all in-sync replicas; saying it again is harmless.
/// 3. `control` and `members` read their topic from its start to its end as it stands at the call. A topic that
///    cannot be read to that end is an error, never a shorter answer.
/// 4. A member whose tombstone is the newest message of its key is left out. A message that makes no sense is an
///    error of kind `Invalid` that names its offset.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Makes sure that both topics are there.
    ///
    /// # Errors
    /// Unreachable, not authorised.
    async fn prepare(&self) -> ProviderResult<()>;

    /// Writes a control message.
    ///
    /// # Errors
    /// Unreachable (outcome unknown), not authorised.
    async fn say(&self, message: &ControlMessage) -> ProviderResult<()>;

    /// What the control topic says as a whole.
    ///
    /// # Errors
    /// As the contract says.
    async fn control(&self) -> ProviderResult<ControlView>;

    /// Every member that has not ended.
    ///
    /// # Errors
    /// As the contract says.
    async fn members(&self) -> ProviderResult<Vec<MemberState>>;
}

/// A member's side, on the cluster it is on.
///
/// # Contract
///
/// 1. `next_control` first gives the view at the end of the topic as it stood when the link was opened, then each
///    change. It is cancel-safe. While the topic cannot be read it waits; it never makes an answer up.
/// 2. `tell` returns once the message is acknowledged, or fails; it is bounded in time.
/// 3. `control_now` reads to the end as it stands at the call, bounded in time.
#[async_trait]
pub trait MemberLink: Send + Sync {
    /// Waits for the next change of the control topic.
    async fn next_control(&self) -> ControlView;

    /// Reads the control topic to its end now.
    ///
    /// # Errors
    /// Unreachable, in time.
    async fn control_now(&self) -> ProviderResult<ControlView>;

    /// Writes what the member says of itself.
    ///
    /// # Errors
    /// Unreachable, not authorised.
    async fn tell(&self, state: &MemberState) -> ProviderResult<()>;

    /// Writes the member's tombstone.
    ///
    /// # Errors
    /// Unreachable, not authorised.
    async fn end(&self, state: &MemberState) -> ProviderResult<()>;
}

/// Opens members' links.
///
/// # Contract
///
/// 1. `open` returns without waiting for the topics: an unreadable topic shows in the link's own calls.
/// 2. Every call makes a link of its own; dropping it ends what it reads.
#[async_trait]
pub trait MemberLinks: Send + Sync {
    /// Opens a link to the target's cluster.
    ///
    /// # Errors
    /// The client properties of that colour are wrong.
    async fn open(&self, target: &Target) -> ProviderResult<Arc<dyn MemberLink>>;
}
