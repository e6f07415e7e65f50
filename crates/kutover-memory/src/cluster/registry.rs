//! The control and members topics, as logs of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::messages::{ControlMessage, ControlView, MemberState};
use kutover_core::ports::{MemberLink, Registry};
use kutover_core::words::{CONTROL_TOPIC, MEMBERS_TOPIC, TopicId, TopicPartition};

use super::{MemoryCluster, State, StoredRecord};
use crate::faults::pause;
use crate::signal::Signal;

/// The pause after a read of the control topic that was not answered.
const READ_RETRY: Duration = Duration::from_millis(500);

#[async_trait]
impl Registry for MemoryCluster {
    async fn prepare(&self) -> ProviderResult<()> {
        self.act("prepare", |state| {
            for topic in [CONTROL_TOPIC, MEMBERS_TOPIC] {
                if !state.topics.contains_key(&topic.into()) {
                    let compacted = [("cleanup.policy".to_owned(), "compact".to_owned())];
                    state.add_topic(&topic.into(), 1, 1, compacted.into());
                }
            }
            Ok(())
        })
        .await
    }

    async fn say(&self, message: &ControlMessage) -> ProviderResult<()> {
        let message = message.clone();
        self.act("say", move |state| {
            let payload = serde_json::to_vec(&message)
                .map_err(|error| ProviderError::new(ErrorKind::Invalid, "say", error))?;
            state.write(&State::control_place(), message.key(), Some(payload))
        })
        .await
    }

    async fn control(&self) -> ProviderResult<ControlView> {
        Ok(Arc::unwrap_or_clone(self.act("control", |state| state.control()).await?))
    }

    async fn members(&self) -> ProviderResult<Vec<MemberState>> {
        self.act("members", |state| state.members()).await
    }
}

impl MemoryCluster {
    /// Opens a member's link to this cluster, which no fence binds but isolation does.
    pub fn link(&self) -> MemoryLink {
        let control = self.state.lock().control.clone();
        MemoryLink { cluster: self.clone(), control, seen: tokio::sync::Mutex::new(None) }
    }
}

/// A member's link to its cluster.
#[derive(Debug)]
pub struct MemoryLink {
    cluster: MemoryCluster,
    control: Signal,
    seen: tokio::sync::Mutex<Option<Arc<ControlView>>>,
}

impl MemoryLink {
    fn read_now(&self) -> Option<Arc<ControlView>> {
        if !self.cluster.client_reaches() {
            return None;
        }
        self.cluster.state.lock().control().ok()
    }

    async fn travel(&self) {
        let Some(weather) = self.cluster.faults.weather() else { return };
        let call = weather.call(&self.cluster.call("next_control"));
        pause(call.before_ms + call.after_ms).await;
    }
}

#[async_trait]
impl MemberLink for MemoryLink {
    async fn next_control(&self) -> ControlView {
        let mut seen = self.seen.lock().await;
        loop {
            let count = self.control.count();
            let changed = self.control.differs_from(count);
            match self.read_now() {
                Some(view) if seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &view) || *seen == view) => {
                    changed.await;
                }
                Some(_) => {
                    // What a read that takes its time brings is what stands there at its end.
                    self.travel().await;
                    if let Some(view) = self.read_now() {
                        *seen = Some(Arc::clone(&view));
                        return Arc::unwrap_or_clone(view);
                    }
                }
                // An election comes to its end without a word.
                None if self.cluster.faults.weather().is_some() => {
                    let _ = tokio::time::timeout(READ_RETRY, changed).await;
                }
                None => changed.await,
            }
        }
    }

    async fn control_now(&self) -> ProviderResult<ControlView> {
        let view = self.cluster.client_act("control_now", |state| state.control()).await?;
        Ok(Arc::unwrap_or_clone(view))
    }

    async fn tell(&self, member: &MemberState) -> ProviderResult<()> {
        let member = member.clone();
        self.cluster
            .client_act("tell", move |state| {
                let payload = serde_json::to_vec(&member)
                    .map_err(|error| ProviderError::new(ErrorKind::Invalid, "tell", error))?;
                state.write(&State::members_place(), member.key(), Some(payload))
            })
            .await
    }

    async fn end(&self, member: &MemberState) -> ProviderResult<()> {
        let key = member.key();
        self.cluster.client_act("end", move |state| state.write(&State::members_place(), key, None)).await
    }
}

impl State {
    fn write(&mut self, place: &TopicPartition, key: String, payload: Option<Vec<u8>>) -> ProviderResult<()> {
        if self.partition(place).is_none() {
            let what = format!("write to {place}");
            return Err(ProviderError::new(ErrorKind::NotFound, what, "it is not there; prepare it first"));
        }
        let record = StoredRecord { key: Some(key.into_bytes()), payload, ..StoredRecord::default() };
        self.append(place, Arc::new(record), None, None);
        Ok(())
    }

    /// The messages of one of the two topics from an offset on, and the incarnation of the topic. All of them, if it is
    /// another incarnation than the one that was read up to there.
    fn messages(&self, place: &TopicPartition, read: &ReadTo) -> ProviderResult<Unread> {
        let what = || format!("read {place}");
        if let Some(reason) = self.unanswered(place) {
            return Err(ProviderError::new(ErrorKind::Unavailable, what(), reason));
        }
        let log = self.partition(place).zip(self.topics.get(&place.topic));
        let (log, topic) =
            log.ok_or_else(|| ProviderError::new(ErrorKind::NotFound, what(), "it is not there"))?;
        let anew = read.topic.as_ref() != Some(&topic.id);
        let from = if anew { log.start } else { read.next };
        let messages = log.from(from).map(|(offset, entry)| (offset, Arc::clone(&entry.record)));
        Ok(Unread { anew, topic: topic.id.clone(), next: log.end(), messages: messages.collect() })
    }

    /// Reads on from where it was read to: a run asks thousands of times.
    fn control(&mut self) -> ProviderResult<Arc<ControlView>> {
        let place = Self::control_place();
        let unread = self.messages(&place, &self.control_read.to)?;
        if unread.messages.is_empty() && !unread.anew {
            return Ok(Arc::clone(&self.control_read.view));
        }
        let mut view =
            if unread.anew { ControlView::default() } else { ControlView::clone(&self.control_read.view) };
        for (offset, record) in &unread.messages {
            let Some(payload) = &record.payload else { continue };
            view.apply(&parse::<ControlMessage>(&place, *offset, payload)?);
        }
        let to = ReadTo { topic: Some(unread.topic), next: unread.next };
        let view = Arc::new(view);
        self.control_read = ControlRead { to, view: Arc::clone(&view) };
        Ok(view)
    }

    fn members(&mut self) -> ProviderResult<Vec<MemberState>> {
        let place = Self::members_place();
        let unread = self.messages(&place, &self.members_read.to)?;
        if unread.anew {
            self.members_read.newest.clear();
        }
        // Superseded messages are not looked at, as compaction may have removed them. Where one makes no sense, reading
        // ends there, every time.
        let mut raw: BTreeMap<&[u8], (i64, &Option<Vec<u8>>)> = BTreeMap::new();
        for (offset, record) in &unread.messages {
            raw.insert(record.key.as_deref().unwrap_or_default(), (*offset, &record.payload));
        }
        let mut newest: Vec<(Vec<u8>, Option<MemberState>)> = Vec::new();
        for (key, (offset, payload)) in raw {
            let member = payload.as_ref().map(|payload| parse(&place, offset, payload)).transpose()?;
            newest.push((key.to_vec(), member));
        }
        for (key, member) in newest {
            match member {
                Some(member) => self.members_read.newest.insert(key, member),
                None => self.members_read.newest.remove(&key),
            };
        }
        self.members_read.to = ReadTo { topic: Some(unread.topic), next: unread.next };
        Ok(self.members_read.newest.values().cloned().collect())
    }
}

#[derive(Debug, Default)]
struct ReadTo {
    topic: Option<TopicId>,
    next: i64,
}

struct Unread {
    anew: bool,
    topic: TopicId,
    next: i64,
    messages: Vec<(i64, Arc<StoredRecord>)>,
}

/// What the control topic was found to say, and up to where.
#[derive(Debug, Default)]
pub(super) struct ControlRead {
    to: ReadTo,
    view: Arc<ControlView>,
}

/// Who the members topic was found to name, and up to where.
#[derive(Debug, Default)]
pub(super) struct MembersRead {
    to: ReadTo,
    newest: BTreeMap<Vec<u8>, MemberState>,
}

fn parse<T: for<'de> serde::Deserialize<'de>>(
    place: &TopicPartition,
    offset: i64,
    payload: &[u8],
) -> ProviderResult<T> {
    serde_json::from_slice(payload).map_err(|error| {
        let what = format!("read {place}, offset {offset}");
        ProviderError::new(ErrorKind::Invalid, what, format!("it makes no sense ({error})"))
    })
}
