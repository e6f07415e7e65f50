//! Reads one of kutover's own topics: its single partition from the start, then whatever follows.

use std::time::{Duration, Instant};

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use rdkafka::Offset;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::context::LinkContext;
use crate::error::{kind_of, provider_error};
use crate::properties::takes_tokens;

/// How long one poll waits while a read goes on.
const STEP: Duration = Duration::from_millis(50);

/// How long a reader waits to be asked for its first token. librdkafka asks as soon as the client is made.
const FIRST_TOKEN: Duration = Duration::from_secs(10);

/// A topic's record, or the news that the topic starts over.
pub(crate) enum TailItem {
    /// What was read so far no longer stands in the topic: forget it.
    Restart,
    /// Records were taken from the topic that this reader has not read, or that somebody else may have.
    Truncated,
    /// The next record.
    Record(TailRecord),
}

/// A record of one of kutover's own topics.
pub(crate) struct TailRecord {
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
}

/// A reader of partition 0 of a topic. Its calls block.
pub(crate) struct TopicTail {
    consumer: BaseConsumer<LinkContext>,
    topic: &'static str,
    /// The offset after the last one that is known to have been read or to hold nothing; `None` before the first read.
    position: Option<i64>,
}

impl TopicTail {
    pub(crate) fn new(
        config: &ClientConfig,
        context: LinkContext,
        topic: &'static str,
    ) -> ProviderResult<Self> {
        let consumer: BaseConsumer<LinkContext> = config
            .create_with_context(context)
            .map_err(|error| provider_error(format!("make a reader of topic {topic}"), &error))?;
        if takes_tokens(config) {
            // A token is asked for by polls alone, and what a reader does first, asking for metadata, is none.
            let deadline = Instant::now() + FIRST_TOKEN;
            while !consumer.client().context().was_asked_for_a_token() && Instant::now() < deadline {
                // There is no assignment yet, so nothing can be lost; trouble shows at the first question.
                let _ = consumer.poll(STEP);
            }
        }
        Ok(Self { consumer, topic, position: None })
    }

    fn what(&self) -> String {
        format!("read topic {}", self.topic)
    }

    fn assign(&self, from: Offset) -> ProviderResult<()> {
        let mut partitions = TopicPartitionList::new();
        partitions
            .add_partition_offset(self.topic, 0, from)
            .and_then(|()| self.consumer.assign(&partitions))
            .map_err(|error| provider_error(self.what(), &error))
    }

    /// Reads on to the end of the topic as it stands at the call.
    pub(crate) fn read_to_end(
        &mut self,
        timeout: Duration,
        on: &mut dyn FnMut(TailItem),
    ) -> ProviderResult<()> {
        let deadline = Instant::now() + timeout;
        if self.position.is_none() {
            self.check_topic(timeout)?;
        }
        let (low, high) = self
            .consumer
            .fetch_watermarks(self.topic, 0, deadline.saturating_duration_since(Instant::now()))
            .map_err(|error| provider_error(self.what(), &error))?;
        // Compaction leaves a log's start where it is: one that has moved says that somebody deleted records.
        let missed = self.position.unwrap_or(0) < low;
        // An end that lies before what was read is another log than the one that was read.
        let anew = self.position.is_some_and(|position| position > high);
        if self.position.is_none() || anew {
            on(TailItem::Restart);
            self.position = Some(low);
            self.assign(Offset::Beginning)?;
        }
        if missed || anew {
            on(TailItem::Truncated);
        }
        let mut since_assigned = false;
        let mut last_error = None;
        while self.position.is_some_and(|position| position < high) {
            if Instant::now() >= deadline {
                return Err(self.too_late(high, last_error));
            }
            match self.step(STEP, on)? {
                Step::Record => {}
                Step::End if since_assigned => self.position = Some(high),
                // Offsets up to `high` may hold no record (compaction, markers), and an end-of-partition event may be
                // an older one. Only one of an assignment made after `high` was read proves that nothing is there.
                Step::End => {
                    self.assign(Offset::Offset(self.position.unwrap_or(low)))?;
                    since_assigned = true;
                }
                Step::Nothing if !since_assigned => {
                    self.assign(Offset::Offset(self.position.unwrap_or(low)))?;
                    since_assigned = true;
                }
                Step::Nothing => {}
                Step::Trouble(error) => last_error = Some(error),
            }
        }
        Ok(())
    }

    /// Waits for the next record, `wait` at most; `true` if there was one.
    pub(crate) fn follow(&mut self, wait: Duration, on: &mut dyn FnMut(TailItem)) -> ProviderResult<bool> {
        Ok(matches!(self.step(wait, on)?, Step::Record))
    }

    fn step(&mut self, wait: Duration, on: &mut dyn FnMut(TailItem)) -> ProviderResult<Step> {
        let message = match self.consumer.poll(wait) {
            None => return Ok(Step::Nothing),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Step::End),
            Some(Err(error)) => return self.trouble(error),
            Some(Ok(message)) => message,
        };
        let offset = message.offset();
        // A new assignment at an offset whose batch starts earlier never gives what was given before.
        if self.position.is_none_or(|position| offset >= position) {
            let record = TailRecord {
                offset,
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().map(<[u8]>::to_vec),
            };
            self.position = Some(offset + 1);
            on(TailItem::Record(record));
        }
        Ok(Step::Record)
    }

    /// Tells errors that waiting may mend from those that it will not.
    fn trouble(&self, error: KafkaError) -> ProviderResult<Step> {
        let group_only =
            [RDKafkaErrorCode::GroupAuthorizationFailed, RDKafkaErrorCode::CoordinatorNotAvailable];
        match error.rdkafka_error_code() {
            // The group's name is a stand-in; whatever its coordinator says is of no interest.
            Some(code) if group_only.contains(&code) => Ok(Step::Nothing),
            Some(code) if matches!(kind_of(code), ErrorKind::NotAuthorised | ErrorKind::NotFound) => {
                Err(provider_error(self.what(), &error))
            }
            _ => Ok(Step::Trouble(error)),
        }
    }

    fn check_topic(&self, timeout: Duration) -> ProviderResult<()> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(self.topic), timeout)
            .map_err(|error| provider_error(self.what(), &error))?;
        match metadata.topics().first() {
            Some(topic) if topic.error().is_none() && topic.partitions().len() == 1 => Ok(()),
            Some(topic) if topic.error().is_none() && topic.partitions().len() > 1 => {
                let reason = format!("it has {} partitions and must have one", topic.partitions().len());
                Err(ProviderError::new(ErrorKind::Invalid, self.what(), reason))
            }
            Some(topic) => match topic.error().map(RDKafkaErrorCode::from) {
                None => Err(ProviderError::new(ErrorKind::NotFound, self.what(), MISSING)),
                Some(code) if kind_of(code) == ErrorKind::NotFound => {
                    Err(ProviderError::new(ErrorKind::NotFound, self.what(), MISSING))
                }
                Some(code) => Err(provider_error(self.what(), &KafkaError::MetadataFetch(code))),
            },
            None => Err(ProviderError::new(ErrorKind::NotFound, self.what(), MISSING)),
        }
    }

    fn too_late(&self, high: i64, last: Option<KafkaError>) -> ProviderError {
        let position = self.position.unwrap_or(0);
        let reason = match last {
            Some(error) => format!("at offset {position} of {high} in time: {error}"),
            None => format!("at offset {position} of {high} in time"),
        };
        ProviderError::new(ErrorKind::Unreachable, self.what(), format!("only {reason}"))
    }
}

const MISSING: &str = "the cluster has no such topic; a controller makes it when it adopts the deployment";

enum Step {
    Record,
    End,
    Nothing,
    Trouble(KafkaError),
}

/// Drops its content on a thread of its own: tearing a librdkafka client down blocks.
pub(crate) struct OffThread<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> OffThread<T> {
    pub(crate) fn new(content: T) -> Self {
        Self(Some(content))
    }

    #[allow(clippy::expect_used, reason = "only `drop` empties it")]
    pub(crate) fn get(&self) -> &T {
        self.0.as_ref().expect("filled until dropped")
    }
}

impl<T: Send + 'static> Drop for OffThread<T> {
    fn drop(&mut self) {
        let content = self.0.take();
        let spawned =
            std::thread::Builder::new().name("kutover-teardown".into()).spawn(move || drop(content));
        if let Err(error) = spawned {
            // The closure, and with it the content, has been dropped right here.
            tracing::warn!("no thread to tear a client down on: {error}");
        }
    }
}
