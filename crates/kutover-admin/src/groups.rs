//! Consumer groups: which there are, and where they start.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use krafka::admin::{
    AlterConsumerGroupOffsetsOptions, ConsumerGroupDescription, ConsumerGroupListing,
    DescribeConsumerGroupsOptions, DescribeShareGroupOffsetsOptions, GroupOffset, GroupType,
    ListConsumerGroupOffsetsOptions, ListConsumerGroupsOptions,
};
use krafka::error::{ErrorCode, KrafkaError};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::GroupListing;
use kutover_core::words::{GroupId, Offset, TopicName, TopicPartition};

use crate::admin::KafkaAdmin;
use crate::ends::Answers;
use crate::errors::{code, provider};
use crate::listing;

/// Groups asked at once: the answers come from one coordinator each, over one shared pool of connections.
pub(crate) const GROUPS_AT_ONCE: usize = 64;

/// Where Kafka keeps groups; there since somebody first looked for a coordinator.
const OFFSETS_TOPIC: &str = "__consumer_offsets";

const LIST: &str = "list groups";

/// Groups described in one request.
const GROUPS_DESCRIBED: usize = 500;

/// krafka's name of a partition.
pub(crate) fn place_of(place: &TopicPartition) -> krafka::admin::TopicPartition {
    krafka::admin::TopicPartition::new(place.topic.as_str(), place.partition)
}

/// Our name of a partition.
pub(crate) fn our_place(place: &krafka::admin::TopicPartition) -> TopicPartition {
    TopicPartition::new(place.topic.as_str(), place.partition)
}

/// Whether what the members read may not be told yet: while a classic group rebalances its coordinator keeps their subscriptions to
/// itself, and a pattern (KIP-848) names no topic before the first assignment. Other kinds, as Connect's workers, read none.
fn is_unsettled(group: &ConsumerGroupDescription) -> bool {
    let consumes = match group.group_type {
        GroupType::Classic => group.protocol_type.as_deref() == Some("consumer"),
        GroupType::Consumer => true,
        _ => false,
    };
    consumes && group.state != "Stable" && !group.members.is_empty()
}

/// What the members of a group have subscribed to or been given.
pub(crate) fn topics_of_members(group: &ConsumerGroupDescription) -> BTreeSet<TopicName> {
    let topics = group.members.iter().flat_map(|member| {
        let named = member.subscribed_topic_names.iter().flatten().map(String::as_str);
        let given = member.assignment.iter().flatten().map(|given| given.topic_name.as_str());
        named.chain(given)
    });
    topics.filter(|topic| !topic.is_empty()).map(TopicName::new).collect()
}

impl KafkaAdmin {
    pub(crate) async fn read_groups(&self) -> ProviderResult<GroupListing> {
        let (mut listed, mut occupied) = (BTreeMap::new(), Vec::new());
        let Some(groups) = self.list_groups().await? else { return Ok(GroupListing::Unsupported) };
        for group in groups {
            let shares = matches!(&group.group_type, Some(GroupType::Unknown(name)) if name == "share");
            let id = GroupId::new(group.group_id);
            // Where a broker does not tell the state (before 2.6), every group may have members.
            let described = !matches!(&group.group_type, Some(GroupType::Unknown(_)));
            if described && group.state.as_deref() != Some("Empty") {
                occupied.push(id.clone());
            }
            listed.insert(id, shares);
        }
        let (subscribed, unsettled) = self.subscriptions(&occupied).await?;
        let mut groups: BTreeMap<GroupId, BTreeSet<TopicName>> = stream::iter(listed)
            .map(|(group, shares)| async move {
                let topics = self.topics_of(&group, shares).await?;
                ProviderResult::Ok((group, topics))
            })
            .buffer_unordered(GROUPS_AT_ONCE)
            .try_collect()
            .await?;
        for (group, topics) in subscribed {
            groups.entry(group).or_default().extend(topics);
        }
        if let Some(group) = unsettled.iter().find(|group| groups.get(*group).is_none_or(BTreeSet::is_empty))
        {
            let reason = format!(
                "group {group} is rebalancing and has committed nothing yet: what it reads is not known until that is over (where \
                 it never is, stop its consumers)"
            );
            return Err(ProviderError::new(ErrorKind::Unavailable, LIST, reason));
        }
        Ok(GroupListing::Listed(groups))
    }

    /// What every coordinator lists; `None` where the cluster has no such call. One that does not answer is an error, and so is
    /// what none coordinates just now (L9).
    pub(crate) async fn list_groups(&self) -> ProviderResult<Option<Vec<ConsumerGroupListing>>> {
        let ask = self.admin.list_consumer_groups(ListConsumerGroupsOptions::default());
        match listing::whole(&self.admin, OFFSETS_TOPIC, LIST, ask).await {
            Err(error) if error.kind == ErrorKind::Unsupported => Ok(None),
            listed => listed.map(Some),
        }
    }

    /// What the live members of groups read, or are about to: a group that has committed nothing yet reads all the same
    /// (L9). And groups of which that may not be all.
    async fn subscriptions(
        &self,
        groups: &[GroupId],
    ) -> ProviderResult<(BTreeMap<GroupId, BTreeSet<TopicName>>, BTreeSet<GroupId>)> {
        let (mut subscribed, mut unsettled) = (BTreeMap::new(), BTreeSet::new());
        for chunk in groups.chunks(GROUPS_DESCRIBED) {
            let names = chunk.iter().map(GroupId::as_str);
            let described = self
                .admin
                .describe_consumer_groups(names, DescribeConsumerGroupsOptions::default())
                .await
                .map_err(|error| provider("describe groups", &error))?;
            for (group, answer) in described {
                let group = match answer {
                    Ok(group) => group,
                    // Gone since it was listed.
                    Err(error) if code(&error) == Some(ErrorCode::GroupIdNotFound) => continue,
                    Err(error) => return Err(provider(format!("describe group {group}"), &error)),
                };
                let id = GroupId::new(group.group_id.as_str());
                if is_unsettled(&group) {
                    unsettled.insert(id.clone());
                }
                subscribed.insert(id, topics_of_members(&group));
            }
        }
        Ok((subscribed, unsettled))
    }

    async fn topics_of(&self, group: &GroupId, shares: bool) -> ProviderResult<BTreeSet<TopicName>> {
        let what = format!("read the offsets of group {group}");
        if shares {
            return self.topics_of_share_group(group).await.map_err(|error| provider(what, &error));
        }
        let mut topics = BTreeSet::new();
        let commits = self.offsets(group, None, false).await.map_err(|error| provider(&what, &error))?;
        for (place, answer) in commits.unwrap_or_default() {
            if answer
                .map_err(|error| provider(format!("{what} on {}", our_place(&place)), &error))?
                .offset
                .is_some()
            {
                topics.insert(TopicName::new(place.topic));
            }
        }
        Ok(topics)
    }

    /// The topics on which a share group has a start offset.
    pub(crate) async fn topics_of_share_group(
        &self,
        group: &GroupId,
    ) -> Result<BTreeSet<TopicName>, KrafkaError> {
        let options = DescribeShareGroupOffsetsOptions::default();
        let answers = self.admin.describe_share_group_offsets(group.as_str(), options).await?;
        Ok(answers.keys().map(|place| TopicName::new(place.topic.as_str())).collect())
    }

    /// A group's commits: all of them, or those on some partitions. `None` if the cluster knows no such group.
    pub(crate) async fn offsets(
        &self,
        group: &GroupId,
        places: Option<&[TopicPartition]>,
        stable: bool,
    ) -> Result<Option<Answers<GroupOffset>>, KrafkaError> {
        let mut options = ListConsumerGroupOffsetsOptions::default().require_stable(stable);
        if let Some(places) = places {
            options = options.partitions(places.iter().map(place_of).collect());
        }
        match self.admin.list_consumer_group_offsets(group.as_str(), options).await {
            Err(error) if code(&error) == Some(ErrorCode::GroupIdNotFound) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Sets start offsets where there is no commit. Offsets know no compare-and-set: what keeps a commit of a live
    /// group from being overwritten is that Kafka refuses the call while the group has members.
    pub(crate) async fn write_start_offsets(
        &self,
        group: &GroupId,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> ProviderResult<Vec<TopicPartition>> {
        let what = format!("set the start offsets of group {group}");
        let places: Vec<TopicPartition> = offsets.keys().cloned().collect();
        if places.is_empty() {
            return Ok(Vec::new());
        }
        // A commit in a transaction that is still open may yet stand: stable answers only.
        let commits =
            self.offsets(group, Some(&places), true).await.map_err(|error| provider(&what, &error))?;
        let (mut left_alone, mut again, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        for (place, offset) in offsets {
            let commit = commits.as_ref().map(|commits| commits.get(&place_of(place)));
            match commit {
                Some(Some(Ok(commit))) if commit.offset.is_some() => {
                    if commit.offset == Some(offset.0) {
                        again.push((place_of(place), offset.0));
                    }
                    left_alone.push(place.clone());
                }
                Some(Some(Err(error))) => return Err(provider(format!("{what} on {place}"), error)),
                Some(None) => {
                    let reason = "the cluster did not say whether it has a commit there";
                    return Err(ProviderError::new(ErrorKind::Invalid, format!("{what} on {place}"), reason));
                }
                Some(Some(Ok(_))) | None => wanted.push((place_of(place), offset.0)),
            }
        }
        let alter = |offsets| {
            let options = AlterConsumerGroupOffsetsOptions::default();
            self.admin.alter_consumer_group_offsets(group.as_str(), offsets, options)
        };
        if !wanted.is_empty() {
            let answers = alter(wanted).await.map_err(|error| provider(&what, &error))?;
            for (place, answer) in answers {
                answer.map_err(|error| refused_offset(&what, &our_place(&place), &error))?;
            }
        }
        // A start offset that nobody has come for yet ages (L7): it is made young again. Who has members refuses, and needs
        // it no more; after another error it is as old as it was.
        if !again.is_empty() {
            let _ = alter(again).await;
        }
        Ok(left_alone)
    }
}

fn refused_offset(what: &str, place: &TopicPartition, error: &KrafkaError) -> ProviderError {
    let what = format!("{what} on {place}");
    match code(error) {
        // What Kafka answers to a commit from outside while members are there.
        Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration | ErrorCode::NonEmptyGroup) => {
            let reason = format!("the group has live members; stop them first ({error})");
            ProviderError::new(ErrorKind::Refused, what, reason)
        }
        _ => provider(what, error),
    }
}
