//! Commands that raise retention for the time of a cutover and restore it (L11).

use kutover_core::cutover::Answer;
use kutover_core::decisions::raise::Raised;
use kutover_core::error::ProviderResult;
use kutover_core::ports::{Incarnation, TopicDescription};

use super::world::{World, same_cluster};

impl World {
    pub(super) async fn read_configs(&self, old: &Incarnation, new: &Incarnation) -> ProviderResult<Answer> {
        let (old, new) = (self.links(old).await?.admin, self.links(new).await?.admin);
        Ok(Answer::Configs { old: old.topics().await?, new: new.topics().await? })
    }

    pub(super) async fn raise_retention(&self, raised: &[Raised]) -> ProviderResult<Answer> {
        for one in raised {
            let (found, admin) = self.who(&one.on).await?;
            same_cluster("raise retention", &one.on, &found, &one.cluster_id)?;
            let there = admin.topics().await?;
            let mut changes = one.changes();
            changes.retain(|topic, _| there.iter().any(|known| known.name == *topic));
            admin.alter_configs(&changes).await?;
        }
        Ok(Answer::Done)
    }

    /// A cluster that has been replaced by another one has nothing that was raised.
    pub(super) async fn restore_retention(&self, raised: &Raised) -> ProviderResult<Answer> {
        let (found, admin) = self.who(&raised.on).await?;
        if let Err(replaced) = same_cluster("restore retention", &raised.on, &found, &raised.cluster_id) {
            return Ok(Answer::RetentionRestored { left: vec![replaced.to_string()] });
        }
        let restoring = raised.restoring(&admin.topics().await?);
        admin.alter_configs(&restoring.changes).await?;
        Ok(Answer::RetentionRestored { left: restoring.left })
    }
}

/// Topics as they are but for what is raised on their cluster for the time being.
pub(super) fn as_before(
    topics: Vec<TopicDescription>,
    on: &Incarnation,
    raised: &[Raised],
) -> Vec<TopicDescription> {
    match raised.iter().find(|raised| raised.on.id == on.id) {
        Some(raised) => topics.into_iter().map(|topic| raised.as_before(topic)).collect(),
        None => topics,
    }
}
