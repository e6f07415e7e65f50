//! The proof that a fence does readers no harm (L17): whom a leader let read before it, it lets read under it.
//!
//! The probe asks one leader of each topic whether it takes records, and whether it lets somebody read. The latter is a
//! fetch from behind the end of its log: who may read is told that there is no such offset, who may not that it may not
//! (Kafka looks at rights first), and no record is sent. What the probe could not read before the fence, it says nothing of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use krafka::__private::kafka_metadata;
use krafka::__private::protocol::{
    ApiKey, FetchPartitionRequest, FetchRequest, FetchResponse, FetchTopicRequest, VersionedDecode as _,
    VersionedEncode as _,
};
use krafka::Kafka;
use krafka::error::{ErrorCode, KrafkaError};
use kutover_core::decisions::closing::Why;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult, Retry};
use kutover_core::ports::FenceKind;
use kutover_core::words::{TopicName, TopicPartition};
use tokio::time::{Instant, timeout};

use crate::admin::KafkaAdmin;
use crate::errors::provider;
use crate::fetch::{FIRST, NAMED};
use crate::probe::{CHUNK, LEADERS_AT_ONCE, ProbeAnswer, ask};

/// How long one leader may take to answer: what the others say is not lost over it.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a refusal may be that of a broker which knows of one rule of a fence and not yet of the next.
const GRACE: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// No log reaches as far.
const BEHIND_THE_END: i64 = i64::MAX;

/// Whether a leader lets the probe read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reading {
    LetIn,
    Refused,
    /// It was not told: the reason.
    Unclear(String),
}

/// What one leader of a topic lets the probe do, asked in this order: who reads where records are refused reads under the
/// fence.
#[derive(Clone, Debug)]
struct Rights {
    writes: ProbeAnswer,
    reads: Reading,
}

impl Rights {
    fn unclear(reason: &str) -> Self {
        Self { writes: ProbeAnswer::Unclear(reason.to_owned()), reads: Reading::Unclear(reason.to_owned()) }
    }
}

impl KafkaAdmin {
    /// Puts up the fence, and is `Ok` once every topic that took records and could be read before it refuses records and can
    /// still be read. A fence that shuts readers out is taken away again.
    pub(crate) async fn raise(&self, topics: &[TopicName]) -> ProviderResult<FenceKind> {
        // A cluster that does not answer is fenced all the same: one flees from it.
        let before = timeout(self.config.timeouts.proof, self.rights(topics)).await;
        self.remember(&before.ok().and_then(Result::ok).unwrap_or_default());
        let switch = self.fence.switch();
        switch.raise(topics).await?;
        let fenced: BTreeSet<TopicName> =
            self.unproven().intersection(&topics.iter().cloned().collect()).cloned().collect();
        self.prove_readers(fenced).await?;
        Ok(switch.kind())
    }

    fn unproven(&self) -> MutexGuard<'_, BTreeSet<TopicName>> {
        self.unproven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under a fence that stands already, of a call that did not come to its end, what was seen before it holds.
    fn remember(&self, before: &BTreeMap<TopicName, Rights>) {
        let mut unproven = self.unproven();
        for (topic, rights) in before.iter().filter(|(_, rights)| rights.writes == ProbeAnswer::Open) {
            if rights.reads == Reading::LetIn {
                unproven.insert(topic.clone());
            } else {
                unproven.remove(topic);
            }
        }
    }

    /// Looks until all of the topics are seen fenced and read.
    async fn prove_readers(&self, fenced: BTreeSet<TopicName>) -> ProviderResult<()> {
        let since = Instant::now();
        let patience = self.config.timeouts.proof;
        loop {
            let asked: Vec<TopicName> = self.unproven().intersection(&fenced).cloned().collect();
            if asked.is_empty() {
                return Ok(());
            }
            let mut found = match timeout(patience, self.rights(&asked)).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => all(&asked, &error.to_string()),
                Err(_) => all(&asked, "no answer in time"),
            };
            found.retain(|_, rights| {
                (&rights.writes, &rights.reads) != (&ProbeAnswer::Fenced, &Reading::LetIn)
            });
            self.unproven().retain(|topic| !asked.contains(topic) || found.contains_key(topic));
            let shut_out = || found.iter().find(|(_, rights)| rights.reads == Reading::Refused);
            if let Some((topic, _)) = shut_out().filter(|_| since.elapsed() >= GRACE.min(patience)) {
                return Err(self.take_away(topic, &fenced).await);
            }
            if let Some((topic, rights)) = found.first_key_value().filter(|_| since.elapsed() >= patience) {
                return Err(not_known(topic, rights));
            }
            if !found.is_empty() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// Lifts a fence that shuts readers out of a topic, and says so.
    async fn take_away(&self, topic: &TopicName, fenced: &BTreeSet<TopicName>) -> ProviderError {
        let topics: Vec<TopicName> = fenced.iter().cloned().collect();
        let lifted = match self.fence.lift(&topics).await {
            Ok(()) => {
                self.unproven().retain(|topic| !fenced.contains(topic));
                "so it was lifted again".to_owned()
            }
            Err(error) => format!("and it could not be lifted ({error})"),
        };
        let reason = format!(
            "{} could read topic {topic} before and is refused under the fence, as consumers may be, {lifted}. Find the rule that \
             shuts readers out and let them read, or use another kind of fence",
            self.probes_principal()
        );
        let what = format!("raise the fence of topic {topic}");
        ProviderError::new(ErrorKind::Refused, what, reason).with_retry(Retry::Later)
    }

    /// What one leader of each topic lets a new ordinary client do.
    async fn rights(&self, topics: &[TopicName]) -> ProviderResult<BTreeMap<TopicName, Rights>> {
        let mut found = all(topics, "no answer");
        if topics.is_empty() {
            return Ok(found);
        }
        let client = self.open_probe().await?;
        let metadata = kafka_metadata(&client);
        let names: Vec<&str> = topics.iter().map(TopicName::as_str).collect();
        metadata
            .refresh_for_topics(Some(&names))
            .await
            .map_err(|error| provider("read the metadata as an ordinary client", &error))?;
        let mut led: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        for (topic, rights) in &mut found {
            let partitions = 0..metadata.partition_count(topic.as_str()).unwrap_or(0);
            let mut partitions = partitions.filter_map(|partition| i32::try_from(partition).ok());
            let leader = partitions.find_map(|partition| {
                Some((
                    metadata.leader(topic.as_str(), partition)?,
                    TopicPartition::new(topic.clone(), partition),
                ))
            });
            match (leader, metadata.topic_error(topic.as_str())) {
                (Some((leader, place)), _) => led.entry(leader).or_default().push(place),
                // Who may not even describe it may not read it.
                (None, Some(ErrorCode::TopicAuthorizationFailed)) => rights.reads = Reading::Refused,
                (None, Some(code)) => *rights = Rights::unclear(&format!("{code:?}")),
                (None, None) => *rights = Rights::unclear("it has no leader"),
            }
        }
        let chunks =
            led.iter().flat_map(|(leader, places)| places.chunks(CHUNK).map(move |some| (*leader, some)));
        let client = &client;
        let asked: Vec<_> = chunks.map(|(leader, places)| rights_at(client, leader, places)).collect();
        let answered: Vec<_> = stream::iter(asked).buffer_unordered(LEADERS_AT_ONCE).collect().await;
        found.extend(answered.into_iter().flatten());
        Ok(found)
    }
}

fn all(topics: &[TopicName], reason: &str) -> BTreeMap<TopicName, Rights> {
    topics.iter().map(|topic| (topic.clone(), Rights::unclear(reason))).collect()
}

/// Neither fenced and read, nor shut out.
fn not_known(topic: &TopicName, rights: &Rights) -> ProviderError {
    let (kind, reason) = match rights {
        Rights { reads: Reading::Unclear(reason), .. } => {
            (ErrorKind::Unavailable, format!("whether readers are let in under it is not known: {reason}"))
        }
        Rights { writes: ProbeAnswer::Unclear(reason), .. } => {
            (ErrorKind::Unavailable, Why::Unclear { reason: reason.clone() }.to_string())
        }
        _ => (ErrorKind::Refused, Why::TakesRecords.to_string()),
    };
    ProviderError::new(kind, format!("raise the fence of topic {topic}"), reason).with_retry(Retry::Later)
}

/// What a leader says of one partition of each of some topics.
async fn rights_at(client: &Kafka, leader: i32, places: &[TopicPartition]) -> Vec<(TopicName, Rights)> {
    let questions = async {
        let writes = ask(client, leader, places).await?;
        Ok::<_, KrafkaError>((writes, ask_to_read(client, leader, places).await?))
    };
    let (writes, reads) = match timeout(ANSWER, questions).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => return silent(places, &error.to_string()),
        Err(_) => return silent(places, "no answer in time"),
    };
    let (mut writes, mut reads) =
        (writes.into_iter().collect::<BTreeMap<_, _>>(), reads.into_iter().collect::<BTreeMap<_, _>>());
    let of = |place: &TopicPartition| {
        let mut rights = Rights::unclear("no answer");
        rights.writes = writes.remove(place).unwrap_or(rights.writes);
        rights.reads = reads.remove(place).unwrap_or(rights.reads);
        (place.topic.clone(), rights)
    };
    places.iter().map(of).collect()
}

fn silent(places: &[TopicPartition], reason: &str) -> Vec<(TopicName, Rights)> {
    let reason = format!("its leader could not be asked: {reason}");
    places.iter().map(|place| (place.topic.clone(), Rights::unclear(&reason))).collect()
}

/// One fetch for all of some partitions of a leader's.
async fn ask_to_read(
    client: &Kafka,
    leader: i32,
    places: &[TopicPartition],
) -> Result<Vec<(TopicPartition, Reading)>, KrafkaError> {
    let mut request = FetchRequest::default();
    request.topics = places.iter().map(behind_the_end).collect();
    let connection = kafka_metadata(client).get_broker_connection(leader).await?;
    let version = connection
        .negotiate_api_version(ApiKey::Fetch, NAMED, FIRST)
        .ok_or_else(|| KrafkaError::broker(ErrorCode::UnsupportedVersion, "no fetch by topic name"))?;
    let mut answer = connection
        .send_request(ApiKey::Fetch, version, |buffer| request.encode_versioned(version, buffer))
        .await?;
    let answer = FetchResponse::decode_versioned(version, &mut answer)?;
    if !answer.error_code.is_ok() {
        return Err(KrafkaError::broker(answer.error_code, "the fetch as a whole"));
    }
    let mut found = Vec::new();
    for topic in answer.responses {
        for partition in topic.partitions {
            let place = TopicPartition::new(TopicName::new(topic.topic.as_str()), partition.partition);
            found.push((place, meaning(partition.error_code)));
        }
    }
    Ok(found)
}

fn behind_the_end(place: &TopicPartition) -> FetchTopicRequest {
    let mut partition = FetchPartitionRequest::default();
    partition.partition = place.partition;
    partition.fetch_offset = BEHIND_THE_END;
    let mut topic = FetchTopicRequest::default();
    topic.topic = place.topic.as_str().to_owned();
    topic.partitions = vec![partition];
    topic
}

fn meaning(code: ErrorCode) -> Reading {
    match code {
        ErrorCode::None | ErrorCode::OffsetOutOfRange => Reading::LetIn,
        ErrorCode::TopicAuthorizationFailed => Reading::Refused,
        other => Reading::Unclear(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_shuts_out_and_only_the_logs_own_answer_lets_in() {
        assert_eq!(meaning(ErrorCode::OffsetOutOfRange), Reading::LetIn);
        assert_eq!(meaning(ErrorCode::TopicAuthorizationFailed), Reading::Refused);
        for code in [ErrorCode::NotLeaderForPartition, ErrorCode::UnknownTopicOrPartition] {
            assert!(matches!(meaning(code), Reading::Unclear(_)), "{code:?}");
        }
    }
}
