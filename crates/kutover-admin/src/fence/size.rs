//! The fence made of a size: `max.message.bytes=0` on each topic, which no record fits.
//!
//! It binds super users too and needs no authorizer. It also refuses a transaction's commit marker: the commit says OK,
//! the transaction stays in `PrepareCommit`, and readers of committed records wait for ever, even after the fence is
//! lifted (seen on real brokers; L17). So it is raised only where nobody can have a transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use krafka::admin::{AdminClient, ConfigOp, DescribeConfigsOptions, ListTopicsOptions};
use kutover_core::decisions::fence::{Transactions, size_holds};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{FenceKind, FenceSwitch};
use kutover_core::words::TopicName;

use crate::admin::fenceable;
use crate::configs::{alter, own_configs};
use crate::errors::provider;
use crate::transactions;

const LIMIT: &str = "max.message.bytes";
/// Nothing fits, and nobody else would set it.
const NOTHING_FITS: &str = "0";
/// What a transaction's state says when it is over (Kafka's `TransactionState`).
const ENDED: [&str; 4] = ["Empty", "CompleteCommit", "CompleteAbort", "Dead"];

/// Fences with a size. See the [module](self).
pub(crate) struct SizeFence {
    admin: Arc<AdminClient>,
}

impl SizeFence {
    pub(crate) fn new(admin: Arc<AdminClient>) -> Self {
        Self { admin }
    }

    /// The topics of these that take records.
    pub(crate) async fn unfenced(&self, topics: &[TopicName]) -> ProviderResult<Vec<TopicName>> {
        let fenced = self.ours(topics).await?;
        Ok(topics.iter().filter(|topic| !fenced.contains(*topic)).cloned().collect())
    }

    /// The limits that are set on topics themselves.
    async fn overrides(&self, topics: &[TopicName]) -> ProviderResult<BTreeMap<TopicName, String>> {
        let options = DescribeConfigsOptions::default().config_names(vec![LIMIT.into()]);
        let Some(configs) = own_configs(&self.admin, topics, options).await? else {
            let reason = "the cluster cannot describe configs";
            return Err(ProviderError::new(ErrorKind::Unsupported, format!("read {LIMIT}"), reason));
        };
        let limit =
            |(topic, mut set): (TopicName, BTreeMap<String, String>)| Some((topic, set.remove(LIMIT)?));
        Ok(configs.into_iter().filter_map(limit).collect())
    }

    /// Those of the topics whose limit is ours.
    async fn ours(&self, topics: &[TopicName]) -> ProviderResult<BTreeSet<TopicName>> {
        let limits = self.overrides(topics).await?;
        Ok(limits.into_iter().filter(|(_, limit)| limit == NOTHING_FITS).map(|(topic, _)| topic).collect())
    }

    async fn alter(&self, what: &str, topics: &[TopicName], op: &ConfigOp) -> ProviderResult<()> {
        let changes: Vec<_> = topics.iter().map(|topic| (topic.clone(), vec![op.clone()])).collect();
        alter(&self.admin, what, &changes).await
    }

    async fn take_away(&self, topics: &[TopicName]) -> ProviderResult<()> {
        self.alter("lift the fence", topics, &ConfigOp::Delete { name: LIMIT.into() }).await
    }

    /// What is known of transactions. A coordinator that does not answer leaves it unknown, and so does an id that it does not
    /// tell.
    async fn transactions(&self) -> Transactions {
        let listed = match transactions::list_all(&self.admin).await {
            Ok(listed) => listed,
            Err(error) => return Transactions::Unknown { reason: error.to_string() },
        };
        let open = listed.iter().filter(|one| !ENDED.contains(&one.state.as_str()));
        let open = open.map(|one| one.transactional_id.clone()).collect();
        Transactions::Listed { ids: listed.into_iter().map(|one| one.transactional_id).collect(), open }
    }

    async fn harmless(&self) -> ProviderResult<()> {
        let held = size_holds(&self.transactions().await);
        held.map_err(|refusal| ProviderError::new(ErrorKind::Refused, "raise the fence", refusal))
    }
}

#[async_trait]
impl FenceSwitch for SizeFence {
    fn kind(&self) -> FenceKind {
        FenceKind::Size
    }

    async fn raise(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let topics = fenceable(topics);
        self.harmless().await?;
        let own = self.overrides(&topics).await?;
        if let Some((topic, limit)) = own.iter().find(|(_, limit)| *limit != NOTHING_FITS) {
            let reason = format!(
                "topic {topic} has a {LIMIT} of its own ({limit}), which a size fence would not bring back; take the \
                 override away, or use another kind of fence"
            );
            return Err(ProviderError::new(ErrorKind::Refused, "raise the fence", reason));
        }
        let set = ConfigOp::Set { name: LIMIT.into(), value: NOTHING_FITS.into() };
        self.alter("raise the fence", &topics, &set).await?;
        // Somebody may have begun a transaction meanwhile: it must be able to end. A broker that is asked may not know of the
        // change yet, so what was set is taken away without asking.
        if let Err(error) = self.harmless().await {
            self.take_away(&topics).await?;
            return Err(error);
        }
        Ok(())
    }

    async fn lift(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let ours: Vec<TopicName> = self.ours(&fenceable(topics)).await?.into_iter().collect();
        self.take_away(&ours).await
    }

    /// Every topic whose limit is ours.
    async fn traces(&self) -> ProviderResult<BTreeSet<TopicName>> {
        let listed = self
            .admin
            .list_topics(ListTopicsOptions::default())
            .await
            .map_err(|error| provider("list topics", &error))?;
        let names: Vec<TopicName> = listed.into_iter().map(TopicName::new).collect();
        self.ours(&fenceable(&names)).await
    }
}
