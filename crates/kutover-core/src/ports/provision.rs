//! Where clusters come from.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::ProviderResult;
use crate::owner::RemovalMark;
use crate::ports::RecordData;
use crate::words::{Colour, IncarnationId, Nonce};

/// One particular set of infrastructure behind a colour.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// Its id: names it for ever, also after it is gone.
    pub id: IncarnationId,
    /// The colour it stands behind.
    pub colour: Colour,
    /// `host:port` of the bootstrap servers that clients use for this colour.
    pub bootstrap: Vec<String>,
    /// `host:port` of bootstrap servers that still answer while the incarnation is isolated. The same as `bootstrap`
    /// where the provisioner cannot isolate.
    pub controller_bootstrap: Vec<String>,
    /// What the deployment's endpoints must point at to lead here.
    pub endpoint: RecordData,
}

/// Makes, describes, isolates and destroys incarnations.
///
/// # Contract
///
/// 1. `provision` is keyed by `request`: called again with the same one it gives the same incarnation, never a second.
///    It returns once the cluster serves. Where an incarnation stands that another request made, it is `Refused`,
///    `NotDone`: whoever takes back what they have made would take that one. (`static` makes none, takes none back, and
///    gives what stands there to everybody.)
/// 2. `describe` of a colour with nothing behind it is `Ok(None)`. What is only being made is an error (`Unavailable`),
///    never `None`: whoever gives up making it would take it for gone, and it would come up behind their back.
/// 3. `isolate` shuts clients out while `controller_bootstrap` still answers and the data stays; the isolation is a
///    resource of its own, named by `nonce`. `put_back` with the same nonce undoes it; a late `put_back` of another
///    nonce undoes nothing. A provisioner that cannot isolate answers `Unsupported`.
/// 4. `destroy` removes the marked incarnation only, and refuses (`Refused`, `NotDone`) when the cluster found there
///    has another id than the mark. An incarnation that is gone already is `Ok`. A cluster that somebody else manages
///    (`static`) is released, not destroyed.
/// 5. `is_ready` of an incarnation that serves is `Ok`. One that the platform knows to be out of service (no healthy target
///    behind its load balancer) is an error, `NotDone`, that says what is not as it should be. It changes nothing, and an
///    isolation in force is no reason against it: whoever switches to an isolated incarnation puts it back first.
#[async_trait]
pub trait ClusterProvisioner: Send + Sync {
    /// Makes sure that there is an incarnation behind the colour, and gives it.
    ///
    /// # Errors
    /// Whatever the platform says, with the first failed resource's own reason. `Refused` ends a cutover where nothing
    /// stands: it is for what will not be done however often it is asked for.
    async fn provision(&self, colour: Colour, request: &Nonce) -> ProviderResult<Incarnation>;

    /// The incarnation behind a colour, if there is one.
    ///
    /// # Errors
    /// Unreachable, or a state file that makes no sense.
    async fn describe(&self, colour: Colour) -> ProviderResult<Option<Incarnation>>;

    /// Shuts clients out of an incarnation.
    ///
    /// # Errors
    /// As the contract says.
    async fn isolate(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()>;

    /// Undoes the isolation that carries this nonce.
    ///
    /// # Errors
    /// Unreachable.
    async fn put_back(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()>;

    /// Removes the incarnation that the mark names.
    ///
    /// # Errors
    /// As the contract says.
    async fn destroy(&self, mark: &RemovalMark) -> ProviderResult<()>;

    /// Whether traffic that is sent to this incarnation would be served, as far as the platform knows. It is asked right
    /// before a switch, which waits for it, and never before a way back. A platform that knows nothing of it says `Ok`.
    ///
    /// # Errors
    /// What is not ready, and what to do about it: `Unavailable` where that may pass. Whatever the platform says.
    async fn is_ready(&self, incarnation: &IncarnationId) -> ProviderResult<()> {
        let _ = incarnation;
        Ok(())
    }
}
