//! kutover's own topics: how messages become views, and how the topics come to be.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::messages::{ControlMessage, ControlView, HEARD_AGAIN_MS, MemberState};
use kutover_core::ports::{ClusterAdmin, TopicConfigs, TopicDescription};
use kutover_core::words::{CONTROL_TOPIC, MEMBERS_TOPIC};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::de::DeserializeOwned;

use crate::context::LinkContext;
use crate::error::provider_error;
use crate::tail::{TailItem, TailRecord};

/// Replicas of kutover's own topics where the cluster has as many brokers.
const REPLICAS: i16 = 3;
const HEARD_AGAIN: Duration = Duration::from_millis(HEARD_AGAIN_MS);
const POLICY: &str = "cleanup.policy";
const COMPACT: &str = "compact";

fn parse<T: DeserializeOwned>(topic: &str, offset: i64, payload: &[u8]) -> Result<T, ProviderError> {
    serde_json::from_slice(payload).map_err(|error| {
        ProviderError::new(
            ErrorKind::Invalid,
            format!("read topic {topic}"),
            format!("the message at offset {offset} makes no sense: {error}"),
        )
    })
}

/// The control topic, folded so far.
#[derive(Default)]
pub(crate) struct ControlFold {
    pub(crate) view: ControlView,
    /// The first message that made no sense.
    invalid: Option<ProviderError>,
}

impl ControlFold {
    pub(crate) fn apply(&mut self, item: TailItem) {
        match item {
            TailItem::Restart => *self = Self::default(),
            // What is in force is said again by every claim; what is gone of the chain, nobody can tell.
            TailItem::Truncated => tracing::warn!("records were deleted from topic {CONTROL_TOPIC}"),
            // Nobody writes tombstones here; one says nothing.
            TailItem::Record(TailRecord { payload: None, .. }) => {}
            TailItem::Record(TailRecord { offset, payload: Some(payload), .. }) => {
                match parse::<ControlMessage>(CONTROL_TOPIC, offset, &payload) {
                    Ok(message) => {
                        self.view.apply(&message);
                    }
                    Err(error) => {
                        tracing::warn!("{error}");
                        self.invalid.get_or_insert(error);
                    }
                }
            }
        }
    }

    pub(crate) fn answer(&self) -> ProviderResult<ControlView> {
        match &self.invalid {
            Some(error) => Err(error.clone()),
            None => Ok(self.view.clone()),
        }
    }
}

/// The members topic, folded so far.
#[derive(Default)]
pub(crate) struct MembersFold {
    members: BTreeMap<Vec<u8>, Result<MemberState, ProviderError>>,
    /// When it was seen that records are gone.
    truncated: Option<Instant>,
}

impl MembersFold {
    pub(crate) fn apply(&mut self, item: TailItem) {
        match item {
            TailItem::Restart => *self = Self::default(),
            TailItem::Truncated => self.truncated = Some(Instant::now()),
            TailItem::Record(TailRecord { key, payload: None, .. }) => {
                self.members.remove(&key.unwrap_or_default());
            }
            TailItem::Record(TailRecord { offset, key, payload: Some(payload) }) => {
                let state = parse::<MemberState>(MEMBERS_TOPIC, offset, &payload);
                self.members.insert(key.unwrap_or_default(), state);
            }
        }
    }

    pub(crate) fn answer(&self) -> ProviderResult<Vec<MemberState>> {
        self.answer_at(Instant::now())
    }

    /// A message that makes no sense counts until a newer one of its key replaces it. Where messages are gone nobody knows who is
    /// missing, before everybody who lives has said all of itself again (L8).
    fn answer_at(&self, now: Instant) -> ProviderResult<Vec<MemberState>> {
        if self.truncated.is_some_and(|seen| now.saturating_duration_since(seen) < HEARD_AGAIN) {
            let what = format!("read topic {MEMBERS_TOPIC}");
            let reason =
                "messages were deleted from it: who is a member is known once all have sent heartbeats again";
            // The cluster answers: it must not count as silent.
            return Err(ProviderError::new(ErrorKind::Invalid, what, reason));
        }
        self.members.values().cloned().collect()
    }
}

/// Makes both topics where they are missing, and waits until each has a leader.
pub(crate) async fn prepare(
    admin: &std::sync::Arc<crate::tail::OffThread<AdminClient<LinkContext>>>,
    timeout: Duration,
) -> ProviderResult<()> {
    let deadline = Instant::now() + timeout;
    let brokers = look(admin, timeout).await?.brokers;
    for topic in [CONTROL_TOPIC, MEMBERS_TOPIC] {
        create(admin.get(), topic, brokers.clamp(1, usize::try_from(REPLICAS).unwrap_or(1)), timeout).await?;
    }
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    loop {
        let seen = look(admin, timeout).await?;
        for (topic, partitions) in &seen.partitions {
            if *partitions > 1 {
                return Err(too_many(topic, partitions));
            }
        }
        if seen.ready {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let what = format!("prepare topics {CONTROL_TOPIC} and {MEMBERS_TOPIC}");
            return Err(ProviderError::new(ErrorKind::Unavailable, what, "no leader in time"));
        }
        pause.tick().await;
    }
}

/// Makes both topics where they are missing, by another client's calls.
pub(crate) async fn prepare_by(admin: &dyn ClusterAdmin) -> ProviderResult<()> {
    for topic in [CONTROL_TOPIC, MEMBERS_TOPIC] {
        let compacted = kutover_core::ports::NewTopic {
            name: topic.into(),
            partitions: 1,
            replication: REPLICAS,
            configs: BTreeMap::from([(POLICY.to_owned(), COMPACT.to_owned())]),
        };
        admin.create_topic(&compacted).await?;
    }
    let found = admin.topics().await?;
    let changes = to_mend(&found)?;
    if changes.is_empty() {
        return Ok(());
    }
    match admin.alter_configs(&changes).await {
        // Whoever takes over in the middle of a switch is not held up by it.
        Err(error) if matches!(error.kind, ErrorKind::NotAuthorised | ErrorKind::Unsupported) => {
            tracing::warn!(%error, "set {POLICY}={COMPACT} on kutover's own topics");
            Ok(())
        }
        done => done,
    }
}

/// Somebody else may have made them. Without compaction the chain would be gone after the topic's retention.
fn to_mend(found: &[TopicDescription]) -> ProviderResult<TopicConfigs> {
    let mut changes = TopicConfigs::new();
    for topic in found.iter().filter(|topic| [CONTROL_TOPIC, MEMBERS_TOPIC].contains(&topic.name.as_str())) {
        if topic.partitions > 1 {
            return Err(too_many(topic.name.as_str(), topic.partitions));
        }
        // `None`: the cluster cannot tell.
        let compacts =
            |configs: &BTreeMap<_, _>| configs.get(POLICY).is_some_and(|policy: &String| policy == COMPACT);
        if topic.configs.as_ref().is_some_and(|configs| !compacts(configs)) {
            let compacted = BTreeMap::from([(POLICY.to_owned(), Some(COMPACT.to_owned()))]);
            changes.insert(topic.name.clone(), compacted);
        }
    }
    Ok(changes)
}

fn too_many(topic: &str, partitions: impl std::fmt::Display) -> ProviderError {
    let reason = format!("it has {partitions} partitions and must have one; delete it");
    ProviderError::new(ErrorKind::Refused, format!("prepare topic {topic}"), reason)
}

/// Compacted where the cluster can; a cluster without topic configs (the embedded one) gets a plain topic.
async fn create(
    admin: &AdminClient<LinkContext>,
    topic: &str,
    replicas: usize,
    timeout: Duration,
) -> ProviderResult<()> {
    let options = AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
    let replicas = i32::try_from(replicas).unwrap_or(1);
    let plain = NewTopic::new(topic, 1, TopicReplication::Fixed(replicas));
    let compacted = NewTopic::new(topic, 1, TopicReplication::Fixed(replicas)).set(POLICY, COMPACT);
    let mut answer = admin.create_topics([&compacted], &options).await;
    if !made(&answer) && without_configs(&answer) {
        answer = admin.create_topics([&plain], &options).await;
    }
    if made(&answer) {
        return Ok(());
    }
    let what = format!("make topic {topic}");
    match answer {
        Err(error) => Err(provider_error(what, &error)),
        Ok(results) => match results.into_iter().next() {
            Some(Err((_, code))) => Err(provider_error(what, &KafkaError::AdminOp(code))),
            _ => Err(ProviderError::new(ErrorKind::Invalid, what, "the cluster's answer names no topic")),
        },
    }
}

type CreateAnswer = Result<Vec<Result<String, (String, RDKafkaErrorCode)>>, KafkaError>;

fn made(answer: &CreateAnswer) -> bool {
    matches!(
        answer.as_ref().map(|results| results.first()),
        Ok(Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))))
    )
}

fn without_configs(answer: &CreateAnswer) -> bool {
    let code = match answer {
        Err(error) => error.rdkafka_error_code(),
        Ok(results) => results.first().and_then(|result| result.as_ref().err()).map(|(_, code)| *code),
    };
    matches!(
        code,
        Some(
            RDKafkaErrorCode::InvalidConfig
                | RDKafkaErrorCode::InvalidRequest
                | RDKafkaErrorCode::UnsupportedVersion
                | RDKafkaErrorCode::UnsupportedFeature
        )
    )
}

struct Seen {
    brokers: usize,
    partitions: Vec<(&'static str, usize)>,
    ready: bool,
}

async fn look(
    admin: &std::sync::Arc<crate::tail::OffThread<AdminClient<LinkContext>>>,
    timeout: Duration,
) -> ProviderResult<Seen> {
    let what = "look at kutover's own topics";
    let admin = std::sync::Arc::clone(admin);
    let looked = tokio::task::spawn_blocking(move || {
        let mut seen = Seen { brokers: 0, partitions: Vec::new(), ready: true };
        for topic in [CONTROL_TOPIC, MEMBERS_TOPIC] {
            let metadata = admin
                .get()
                .inner()
                .fetch_metadata(Some(topic), timeout)
                .map_err(|error| provider_error(what, &error))?;
            seen.brokers = metadata.brokers().len();
            let found = metadata.topics().first();
            let led = found.is_some_and(|found| {
                found.error().is_none()
                    && !found.partitions().is_empty()
                    && found.partitions().iter().all(|partition| partition.leader() >= 0)
            });
            seen.ready &= led;
            seen.partitions.push((topic, found.map_or(0, |found| found.partitions().len())));
        }
        Ok(seen)
    });
    looked.await.map_err(|error| crate::error::task_failed(what, &error))?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L8: who is missing from a topic that somebody cut is not there to be waited for.
    #[test]
    fn a_cut_members_topic_is_no_answer_before_everybody_was_heard_again() {
        let mut fold = MembersFold::default();
        fold.apply(TailItem::Restart);
        assert!(fold.answer().unwrap().is_empty());
        fold.apply(TailItem::Truncated);
        let seen = fold.truncated.unwrap();
        let error = fold.answer_at(seen + HEARD_AGAIN / 2).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.to_string().contains("messages were deleted"), "{error}");
        assert!(fold.answer_at(seen + HEARD_AGAIN).unwrap().is_empty());
    }

    /// With deletion the chain of a quiet topic would be gone after a week.
    #[test]
    fn a_topic_of_somebody_elses_making_is_compacted_and_has_one_partition() {
        let found = |name: &str, partitions, configs: Option<&[(&str, &str)]>| TopicDescription {
            name: name.into(),
            id: None,
            partitions,
            replication: 1,
            configs: configs.map(|configs| {
                configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
            }),
            defaults: BTreeMap::new(),
        };
        let changes = |configs| to_mend(&[found(CONTROL_TOPIC, 1, configs), found("orders", 6, Some(&[]))]);
        assert!(changes(Some(&[(POLICY, COMPACT)])).unwrap().is_empty());
        assert!(changes(None).unwrap().is_empty(), "the embedded cluster cannot tell");
        let mended = BTreeMap::from([(POLICY.to_owned(), Some(COMPACT.to_owned()))]);
        for wrong in [&[][..], &[(POLICY, "compact,delete")], &[(POLICY, "delete")]] {
            assert_eq!(changes(Some(wrong)).unwrap(), [(CONTROL_TOPIC.into(), mended.clone())].into());
        }
        let wide = to_mend(&[found(CONTROL_TOPIC, 2, None)]);
        assert!(wide.unwrap_err().to_string().contains("2 partitions"));
    }
}
