//! What makes a cluster refuse records, as far as Kafka itself can: ACLs, or a size that nothing fits.

mod acl;
mod size;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use krafka::admin::AdminClient;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::FenceSwitch;
use kutover_core::words::TopicName;

pub(crate) use acl::AclFence;
pub(crate) use acl::EVERYONE;
pub use acl::MARKER_PRINCIPAL;
pub(crate) use size::SizeFence;

/// What is to make a cluster refuse records.
#[derive(Clone, Default)]
pub enum FenceWith {
    /// ACLs, marked with [`MARKER_PRINCIPAL`]. Needs an authorizer, binds no super users.
    #[default]
    Acl,
    /// `max.message.bytes=0` on each topic. Binds everybody, needs no authorizer, and is refused where anybody uses
    /// transactions: an open one could never be ended (L17).
    Size,
    /// Something outside Kafka, or an embedded cluster's own hook.
    Switch(Arc<dyn FenceSwitch>),
}

impl fmt::Debug for FenceWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FenceWith::Acl => f.write_str("Acl"),
            FenceWith::Size => f.write_str("Size"),
            FenceWith::Switch(switch) => write!(f, "Switch({:?})", switch.kind()),
        }
    }
}

/// The fence in use. Kafka's own kinds are looked at beyond what the port says: their traces are part of the proof.
pub(crate) enum Fence {
    Acl(AclFence),
    Size(SizeFence),
    Switch(Arc<dyn FenceSwitch>),
}

impl Fence {
    pub(crate) fn new(with: &FenceWith, admin: &Arc<AdminClient>) -> Self {
        match with {
            FenceWith::Acl => Fence::Acl(AclFence::new(Arc::clone(admin))),
            FenceWith::Size => Fence::Size(SizeFence::new(Arc::clone(admin))),
            FenceWith::Switch(switch) => Fence::Switch(Arc::clone(switch)),
        }
    }

    pub(crate) fn switch(&self) -> &dyn FenceSwitch {
        match self {
            Fence::Acl(acl) => acl,
            Fence::Size(size) => size,
            Fence::Switch(switch) => &**switch,
        }
    }

    /// The topics that carry anything of ours: a fence that stands, or what a half-lifted one left behind.
    pub(crate) async fn traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
        match self {
            Fence::Acl(acl) => acl.traces().await,
            Fence::Size(size) => size.traces().await,
            Fence::Switch(_) => {
                let reason = "the fence in use is not Kafka's own";
                Err(ProviderError::new(ErrorKind::Unsupported, "look for traces of a fence", reason))
            }
        }
    }

    /// The topics of these on which nothing of Kafka's own refuses everybody. A refusal says that the probe may not
    /// write; this says that nobody may.
    pub(crate) async fn unfenced(&self, topics: &[TopicName]) -> ProviderResult<Vec<TopicName>> {
        match self {
            Fence::Acl(acl) => acl.unfenced(topics).await,
            Fence::Size(size) => size.unfenced(topics).await,
            Fence::Switch(_) => Ok(Vec::new()),
        }
    }
}
