//! What makes a cluster refuse records, as far as Kafka itself can: ACLs, or a size that nothing fits.

mod acl;
mod size;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use krafka::admin::{AclOperation, AdminClient};
use kutover_core::error::{ErrorKind, ProviderResult};
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
        lift_each(self.switch(), self.others(), topics).await
    }

    /// Carries out a change of topics, once more with the right to it if it was the ACL fence that took that away.
    pub(crate) async fn let_through<F: Future<Output = ProviderResult<()>>>(
        &self,
        right: AclOperation,
        topics: &[TopicName],
        change: impl Fn() -> F,
    ) -> ProviderResult<()> {
        let denied = match change().await {
            Err(denied) if denied.kind == ErrorKind::NotAuthorised => denied,
            done => return done,
        };
        let lent = match self.acl.lend(right, topics).await {
            Ok(lent) if !lent.is_empty() => lent,
            _ => return Err(denied),
        };
        let changed = change().await;
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

/// Lifts the kind that is in use, and what is left of others. That the cluster has no such thing as the former says nothing of
/// these: it may have been fenced by one of them before another was configured.
async fn lift_each(
    used: &dyn FenceSwitch,
    others: impl Iterator<Item = &dyn FenceSwitch>,
    topics: &[TopicName],
) -> ProviderResult<()> {
    let lifted = used.lift(topics).await;
    if lifted.as_ref().is_err_and(|error| error.kind != ErrorKind::Unsupported) {
        return lifted;
    }
    let mut found = false;
    for other in others {
        let left = have_it(other.traces().await)?;
        let left: Vec<TopicName> = topics.iter().filter(|topic| left.contains(*topic)).cloned().collect();
        if !left.is_empty() {
            other.lift(&left).await?;
            found = true;
        }
    }
    if found { Ok(()) } else { lifted }
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use kutover_core::error::ProviderError;
    use kutover_core::ports::FenceKind;

    use super::*;

    /// A kind of fence that stands on some topics, or that the cluster has not.
    struct Kind(ProviderResult<Mutex<BTreeSet<TopicName>>>);

    impl Kind {
        fn standing_on(topics: &[&str]) -> Self {
            Self(Ok(Mutex::new(topics.iter().map(|topic| TopicName::new(*topic)).collect())))
        }

        fn failing(kind: ErrorKind) -> Self {
            Self(Err(ProviderError::new(kind, "test", "made to fail")))
        }

        fn stands_on(&self) -> usize {
            self.0.as_ref().map_or(0, |topics| topics.lock().unwrap().len())
        }
    }

    #[async_trait]
    impl FenceSwitch for Kind {
        fn kind(&self) -> FenceKind {
            FenceKind::Hook
        }

        async fn raise(&self, _: &[TopicName]) -> ProviderResult<()> {
            unreachable!()
        }

        async fn lift(&self, topics: &[TopicName]) -> ProviderResult<()> {
            let stands = self.0.as_ref().map_err(Clone::clone)?;
            stands.lock().unwrap().retain(|topic| !topics.contains(topic));
            Ok(())
        }

        async fn traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
            Ok(self.0.as_ref().map_err(Clone::clone)?.lock().unwrap().clone())
        }
    }

    async fn lift(used: &Kind, other: &Kind) -> ProviderResult<()> {
        lift_each(used, [other as &dyn FenceSwitch].into_iter(), &["orders".into()]).await
    }

    /// A size fence is left over on a cluster without an authorizer, and the configuration says ACLs by now.
    #[tokio::test]
    async fn a_kind_that_the_cluster_has_not_keeps_no_other_up() {
        let size = Kind::standing_on(&["orders", "ledger"]);
        lift(&Kind::failing(ErrorKind::Unsupported), &size).await.expect("what stands is lifted");
        assert_eq!(size.stands_on(), 1, "and on no other topic");
    }

    #[tokio::test]
    async fn what_cannot_be_lifted_is_told() {
        for kind in [ErrorKind::Unsupported, ErrorKind::NotAuthorised, ErrorKind::Unreachable] {
            let told = lift(&Kind::failing(kind), &Kind::standing_on(&[])).await;
            assert_eq!(told.map_err(|error| error.kind), Err(kind), "there is nothing else");
        }
        let told = lift(&Kind::standing_on(&["orders"]), &Kind::failing(ErrorKind::Unreachable)).await;
        assert_eq!(told.map_err(|error| error.kind), Err(ErrorKind::Unreachable));
    }
}
