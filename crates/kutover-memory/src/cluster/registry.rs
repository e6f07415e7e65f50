//! The control and members topics, as logs of the cluster.

use std::collections::BTreeMap;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::messages::{ControlMessage, ControlView, MemberState};
use kutover_core::ports::{MemberLink, Registry};
use kutover_core::words::{CONTROL_TOPIC, MEMBERS_TOPIC, TopicPartition};
use tokio::sync::watch;

use super::{MemoryCluster, State, StoredRecord};

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
        self.act("say", |state| {
            let payload = serde_json::to_vec(message)
                .map_err(|error| ProviderError::new(ErrorKind::Invalid, "say", error))?;
            state.write(&State::control_place(), message.key(), Some(payload))
        })
        .await
    }

    async fn control(&self) -> ProviderResult<ControlView> {
        self.act("control", |state| state.control()).await
    }

    async fn members(&self) -> ProviderResult<Vec<MemberState>> {
        self.act("members", |state| state.members()).await
    }
}

impl MemoryCluster {
    /// Opens a member's link to this cluster, which no fence binds but isolation does.
    pub fn link(&self) -> MemoryLink {
        MemoryLink { cluster: self.clone(), seen: tokio::sync::Mutex::new((None, self.changed.subscribe())) }
    }
}

/// A member's link to its cluster.
#[derive(Debug)]
pub struct MemoryLink {
    cluster: MemoryCluster,
    seen: tokio::sync::Mutex<(Option<ControlView>, watch::Receiver<u64>)>,
}

impl MemoryLink {
    async fn act<T>(
        &self,
        name: &str,
        act: impl FnOnce(&mut State) -> ProviderResult<T> + Send,
    ) -> ProviderResult<T> {
        let call = self.cluster.call(name);
        self.cluster
            .act(name, |state| {
                if !state.isolations.is_empty() {
                    return Err(ProviderError::new(ErrorKind::Unreachable, call, "the cluster is isolated"));
                }
                act(state)
            })
            .await
    }
}

#[async_trait]
impl MemberLink for MemoryLink {
    async fn next_control(&self) -> ControlView {
        let mut seen = self.seen.lock().await;
        loop {
            seen.1.mark_unchanged();
            if self.cluster.client_reaches() {
                let read = self.cluster.state.lock().control();
                if let Ok(view) = read
                    && seen.0.as_ref() != Some(&view)
                {
                    seen.0 = Some(view.clone());
                    return view;
                }
            }
            // The sender lives in the cluster that this link holds, so it cannot end.
            let _ = seen.1.changed().await;
        }
    }

    async fn control_now(&self) -> ProviderResult<ControlView> {
        self.act("control_now", |state| state.control()).await
    }

    async fn tell(&self, member: &MemberState) -> ProviderResult<()> {
        self.act("tell", |state| {
            let payload = serde_json::to_vec(member)
                .map_err(|error| ProviderError::new(ErrorKind::Invalid, "tell", error))?;
            state.write(&State::members_place(), member.key(), Some(payload))
        })
        .await
    }

    async fn end(&self, member: &MemberState) -> ProviderResult<()> {
        self.act("end", |state| state.write(&State::members_place(), member.key(), None)).await
    }
}

impl State {
    fn write(&mut self, place: &TopicPartition, key: String, payload: Option<Vec<u8>>) -> ProviderResult<()> {
        if self.partition(place).is_none() {
            let what = format!("write to {place}");
            return Err(ProviderError::new(ErrorKind::NotFound, what, "it is not there; prepare it first"));
        }
        self.append(place, StoredRecord { key: Some(key.into_bytes()), payload, ..StoredRecord::default() });
        Ok(())
    }

    /// The messages of one of the two topics, with their offsets.
    fn messages(&self, place: &TopicPartition) -> ProviderResult<Vec<(i64, &StoredRecord)>> {
        let what = || format!("read {place}");
        if self.silent.contains(place) {
            return Err(ProviderError::new(ErrorKind::Unavailable, what(), "it has no leader"));
        }
        let log = self.partition(place);
        let log = log.ok_or_else(|| ProviderError::new(ErrorKind::NotFound, what(), "it is not there"))?;
        Ok(log.from(log.start).collect())
    }

    fn control(&self) -> ProviderResult<ControlView> {
        let place = Self::control_place();
        let mut view = ControlView::default();
        for (offset, record) in self.messages(&place)? {
            let Some(payload) = &record.payload else { continue };
            view.apply(&parse::<ControlMessage>(&place, offset, payload)?);
        }
        Ok(view)
    }

    fn members(&self) -> ProviderResult<Vec<MemberState>> {
        let place = Self::members_place();
        let mut newest: BTreeMap<&[u8], (i64, &[u8])> = BTreeMap::new();
        for (offset, record) in self.messages(&place)? {
            let key = record.key.as_deref().unwrap_or_default();
            match &record.payload {
                Some(payload) => newest.insert(key, (offset, payload)),
                None => newest.remove(key),
            };
        }
        newest.values().map(|(offset, payload)| parse(&place, *offset, payload)).collect()
    }
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
