//! What makes a cluster refuse records, as far as Kafka itself can: ACLs, or a size that nothing fits.

mod acl;
mod size;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use krafka::admin::{AclOperation, AdminClient};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::FenceSwitch;
use kutover_core::words::TopicName;

pub(crate) use acl::AclFence;
pub use acl::MARKER_PRINCIPAL;
pub(crate) use acl::{EVERYONE, literal};
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

/// What a cluster can be fenced with. Kafka's own kinds are all looked at, since another may be in use now than the one that
/// was left over.
pub(crate) struct Fence {
    with: FenceWith,
    acl: AclFence,
    size: SizeFence,
}

impl Fence {
    pub(crate) fn new(with: &FenceWith, admin: &Arc<AdminClient>) -> Self {
        let (acl, size) = (AclFence::new(Arc::clone(admin)), SizeFence::new(Arc::clone(admin)));
        Self { with: with.clone(), acl, size }
    }

    /// The one in use.
    pub(crate) fn switch(&self) -> &dyn FenceSwitch {
        match &self.with {
            FenceWith::Acl => &self.acl,
            FenceWith::Size => &self.size,
            FenceWith::Switch(switch) => &**switch,
        }
    }

    /// Kafka's own kinds that are not in use.
    fn others(&self) -> impl Iterator<Item = &dyn FenceSwitch> {
        let used = self.switch().kind();
        let own: [&dyn FenceSwitch; 2] = [&self.acl, &self.size];
        own.into_iter().filter(move |switch| switch.kind() != used)
    }

    /// The topics that carry anything of a fence: one that stands, or what a half-lifted one left behind. A cluster that has no
    /// such thing as one of Kafka's own kinds carries none of it.
    pub(crate) async fn traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
        let used = self.switch().traces().await;
        let mut found = BTreeSet::new();
        for other in self.others() {
            found.extend(have_it(other.traces().await)?);
        }
        match used {
            Ok(traces) => found.extend(traces),
            Err(error)
                if error.kind == ErrorKind::Unsupported
                    && (!found.is_empty() || !matches!(self.with, FenceWith::Switch(_))) => {}
            Err(error) => return Err(error),
        }
        Ok(found)
    }

    /// Takes all of it away, whatever kind it is of.
    pub(crate) async fn lift(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.switch().lift(topics).await?;
        for other in self.others() {
            let left = have_it(other.traces().await)?;
            let left: Vec<TopicName> = topics.iter().filter(|topic| left.contains(*topic)).cloned().collect();
            if !left.is_empty() {
                other.lift(&left).await?;
            }
        }
        Ok(())
    }

    /// Carries out a change of topics that was not authorised, if it was the ACL fence that took the right away.
    pub(crate) async fn let_through(
        &self,
        right: AclOperation,
        topics: &[TopicName],
        denied: ProviderError,
        change: impl Future<Output = ProviderResult<()>>,
    ) -> ProviderResult<()> {
        let lent = match self.acl.lend(right, topics).await {
            Ok(lent) if !lent.is_empty() => lent,
            _ => return Err(denied),
        };
        let changed = change.await;
        self.acl.take_back(right, &lent).await?;
        changed
    }

    /// The topics of these on which nothing of Kafka's own refuses everybody. A refusal says that the probe may not
    /// write; this says that nobody may.
    pub(crate) async fn unfenced(&self, topics: &[TopicName]) -> ProviderResult<Vec<TopicName>> {
        match self.with {
            FenceWith::Acl => self.acl.unfenced(topics).await,
            FenceWith::Size => self.size.unfenced(topics).await,
            FenceWith::Switch(_) => Ok(Vec::new()),
        }
    }
}

/// Traces of a kind of fence; none where the cluster has no such thing, or the controller may not ask.
fn have_it(traces: ProviderResult<BTreeSet<TopicName>>) -> ProviderResult<BTreeSet<TopicName>> {
    match traces {
        Err(error) if matches!(error.kind, ErrorKind::Unsupported | ErrorKind::NotAuthorised) => {
            Ok(BTreeSet::new())
        }
        traces => traces,
    }
}
