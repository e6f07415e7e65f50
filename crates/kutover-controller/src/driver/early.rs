//! The command that looks for groups that are on the new cluster too early (L19).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use kutover_core::cutover::Answer;
use kutover_core::decisions::early_members::GroupThere;
use kutover_core::error::{ErrorKind, ProviderResult};
use kutover_core::ports::{Incarnation, Item, LagBatch, LagQuery};
use kutover_core::words::{GroupId, Offset, TopicName, TopicPartition};

use super::world::World;

/// What the cluster says of each group.
type There = BTreeMap<GroupId, Item<GroupThere>>;

impl World {
    /// That it cannot be told is an answer: nothing waits for it.
    pub(super) async fn look_for_early(
        &self,
        new: &Incarnation,
        groups: &BTreeMap<GroupId, BTreeSet<TopicName>>,
        starts: &[(TopicPartition, Offset)],
    ) -> Answer {
        let there = self.groups_there(new, groups, starts).await;
        if there.as_ref().is_err_and(|error| error.kind == ErrorKind::Unreachable) {
            self.forget(new);
        }
        Answer::EarlyLooked { there: there.map_err(|error| error.to_string()) }
    }

    async fn groups_there(
        &self,
        new: &Incarnation,
        groups: &BTreeMap<GroupId, BTreeSet<TopicName>>,
        starts: &[(TopicPartition, Offset)],
    ) -> ProviderResult<There> {
        let described = self.look(new).await?.describe_groups().await?;
        let mut there = There::new();
        for (group, answer) in described.into_iter().filter(|(group, _)| groups.contains_key(group)) {
            let members = answer.and_then(|told| {
                told.members.ok_or_else(|| format!("its members are not told, its state is {}", told.state))
            });
            let here = members.map(|members| GroupThere { members, ..GroupThere::default() });
            there.insert(group, here);
        }
        // Who has been there and is gone again has left commits behind the start.
        let query = LagQuery {
            groups: groups.clone(),
            partitions: starts.iter().map(|(place, _)| place.clone()).collect(),
            ..LagQuery::default()
        };
        let starts: BTreeMap<_, _> = starts.iter().map(|(place, at)| (place, *at)).collect();
        let links = self.links(new).await?;
        let mut batches = links.lag.lag(query);
        while let Some(batch) = batches.next().await {
            let LagBatch::Group(group, progress) = batch? else { continue };
            let begun = |place: &TopicPartition, at: Option<Offset>| at > starts.get(place).copied();
            let moved = progress.into_iter().filter_map(|(place, one)| {
                let committed = one.ok()?.committed;
                begun(&place, committed).then_some(place)
            });
            let moved: BTreeSet<TopicPartition> = moved.collect();
            if let Ok(here) = there.entry(group).or_insert_with(|| Ok(GroupThere::default())) {
                here.moved = moved;
            }
        }
        Ok(there)
    }
}
