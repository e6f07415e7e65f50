//! Groups as their coordinators describe them, transactional ids.

use std::collections::{BTreeMap, BTreeSet};

use krafka::admin::{
    ConsumerGroupDescription, DescribeConsumerGroupsOptions, DescribeStreamsGroupsOptions, GroupType,
};
use kutover_core::decisions::early_members::Member;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{GroupDescription, GroupProtocol, Item};
use kutover_core::words::{GroupId, TopicName};

use crate::admin::KafkaAdmin;
use crate::errors::{provider, reason};
use crate::groups::topics_of_members;
use crate::transactions;

/// A group as the listing has it.
struct Listed {
    protocol: GroupProtocol,
    protocol_type: String,
    state: String,
}

impl KafkaAdmin {
    pub(super) async fn read_descriptions(
        &self,
    ) -> ProviderResult<BTreeMap<GroupId, Item<GroupDescription>>> {
        let listed = self.list_protocols().await?;
        let of = |wanted: &[GroupProtocol]| -> Vec<String> {
            let matching = listed.iter().filter(|(_, one)| wanted.contains(&one.protocol));
            matching.map(|(group, _)| group.as_str().to_owned()).collect()
        };
        let mut found = BTreeMap::new();
        let partitioned = of(&[GroupProtocol::Classic, GroupProtocol::Consumer]);
        let answers = self
            .admin
            .describe_consumer_groups(partitioned, DescribeConsumerGroupsOptions::default())
            .await
            .map_err(|error| provider("describe groups", &error))?;
        for (group, answer) in answers {
            found.insert(GroupId::new(group), answer.map(described).map_err(|error| reason(&error)));
        }
        let streams = of(&[GroupProtocol::Streams]);
        if !streams.is_empty() {
            let answers = self
                .admin
                .describe_streams_groups(streams, DescribeStreamsGroupsOptions::default())
                .await
                .map_err(|error| provider("describe Streams groups", &error))?;
            for (group, answer) in answers {
                found.insert(GroupId::new(group), answer.map(streams_group).map_err(|error| reason(&error)));
            }
        }
        for (group, one) in listed {
            if found.contains_key(&group) {
                continue;
            }
            let answer = match one.protocol {
                GroupProtocol::Share => self.share_group(&group, one).await,
                GroupProtocol::Other(_) => Ok(plain(one, BTreeSet::new())),
                _ => Err("its coordinator left it out of its answer".to_owned()),
            };
            found.insert(group, answer);
        }
        Ok(found)
    }

    async fn list_protocols(&self) -> ProviderResult<BTreeMap<GroupId, Listed>> {
        let Some(groups) = self.list_groups().await? else {
            let reason = "the cluster has no such call";
            return Err(ProviderError::new(ErrorKind::Unsupported, "list groups", reason));
        };
        let mut listed = BTreeMap::new();
        for group in groups {
            let protocol = match group.group_type {
                // Brokers from before KIP-848 know classic ones only, and do not say it.
                None | Some(GroupType::Classic) => GroupProtocol::Classic,
                Some(GroupType::Consumer) => GroupProtocol::Consumer,
                Some(GroupType::Unknown(name)) => match name.as_str() {
                    "share" => GroupProtocol::Share,
                    "streams" => GroupProtocol::Streams,
                    _ => GroupProtocol::Other(name),
                },
                Some(other) => GroupProtocol::Other(format!("{other:?}")),
            };
            let state = group.state.unwrap_or_default();
            let one = Listed { protocol, protocol_type: group.protocol_type, state };
            listed.insert(GroupId::new(group.group_id), one);
        }
        Ok(listed)
    }

    async fn share_group(&self, group: &GroupId, listed: Listed) -> Item<GroupDescription> {
        let topics = self.topics_of_share_group(group).await.map_err(|error| reason(&error))?;
        Ok(plain(listed, topics))
    }

    pub(super) async fn read_transactional_ids(&self) -> ProviderResult<BTreeMap<String, String>> {
        let listed = transactions::list_all(&self.admin).await?;
        Ok(listed.into_iter().map(|one| (one.transactional_id, one.state)).collect())
    }
}

/// A group of which no more is known than its listing.
fn plain(listed: Listed, topics: BTreeSet<TopicName>) -> GroupDescription {
    GroupDescription {
        protocol: listed.protocol,
        protocol_type: listed.protocol_type,
        assignor: None,
        state: listed.state,
        members: None,
        topics,
    }
}

fn described(group: ConsumerGroupDescription) -> GroupDescription {
    let members = group
        .members
        .iter()
        .map(|member| Member { client_id: member.client_id.clone(), host: member.client_host.clone() });
    GroupDescription {
        protocol: match &group.group_type {
            GroupType::Consumer => GroupProtocol::Consumer,
            GroupType::Unknown(name) => GroupProtocol::Other(name.clone()),
            _ => GroupProtocol::Classic,
        },
        protocol_type: group.protocol_type.clone().unwrap_or_else(|| "consumer".to_owned()),
        assignor: group.assignor.clone().filter(|assignor| !assignor.is_empty()),
        members: Some(members.collect()),
        topics: topics_of_members(&group),
        state: group.state,
    }
}

fn streams_group(group: krafka::admin::DescribedStreamsGroup) -> GroupDescription {
    let members = group
        .members
        .iter()
        .map(|member| Member { client_id: member.client_id.clone(), host: member.client_host.clone() });
    let parts = group.topology.and_then(|topology| topology.subtopologies).unwrap_or_default();
    GroupDescription {
        protocol: GroupProtocol::Streams,
        protocol_type: "streams".to_owned(),
        assignor: None,
        members: Some(members.collect()),
        topics: parts.into_iter().flat_map(|part| part.source_topics).map(TopicName::new).collect(),
        state: group.group_state,
    }
}
