//! Where producer ids stand.

use std::collections::BTreeSet;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{NewestIds, ProducerIds};
use kutover_core::words::TopicName;

use super::{MemoryCluster, State};

/// Ids that one call of `pass` uses up at each broker, at most: a mark that is far away takes several.
const AT_ONCE: usize = 2_500;

#[async_trait]
impl ProducerIds for MemoryCluster {
    async fn newest(&self) -> ProviderResult<NewestIds> {
        self.act("newest_ids", |state| Ok(state.newest_ids())).await
    }

    async fn pass(&self, mark: u64) -> ProviderResult<NewestIds> {
        self.act("pass_ids", move |state| {
            let mut newest = state.newest_ids();
            for (broker, id) in &mut newest {
                let Ok(id) = id else { continue };
                for _ in 0..AT_ONCE {
                    if *id >= mark {
                        break;
                    }
                    *id = state.take_id(*broker);
                }
            }
            Ok(newest)
        })
        .await
    }

    async fn live(&self, topics: &[TopicName]) -> ProviderResult<BTreeSet<u64>> {
        let topics = topics.to_vec();
        self.act("live_ids", move |state| state.live_ids(&topics)).await
    }
}

impl State {
    fn take_id(&mut self, broker: i32) -> u64 {
        u64::try_from(self.producer_ids.take(broker)).unwrap_or_default()
    }

    fn newest_ids(&mut self) -> NewestIds {
        let mut newest = NewestIds::new();
        for broker in 0..self.options.broker_count.max(1) {
            let down = self.down.contains(&broker);
            newest.insert(broker, if down { Err("it is down".into()) } else { Ok(self.take_id(broker)) });
        }
        newest
    }

    fn live_ids(&self, topics: &[TopicName]) -> ProviderResult<BTreeSet<u64>> {
        let what = |place: &dyn std::fmt::Display| format!("read the producers of {place}");
        let mut live = BTreeSet::new();
        for name in topics {
            if !self.topics.contains_key(name) {
                return Err(ProviderError::new(ErrorKind::NotFound, what(name), "it is not there"));
            }
            for place in self.places(name) {
                if let Some(reason) = self.unanswered(&place) {
                    return Err(ProviderError::new(ErrorKind::Unavailable, what(&place), reason));
                }
                let ids = self.partition(&place).into_iter().flat_map(|log| log.producers.ids());
                live.extend(ids.filter_map(|id| u64::try_from(id).ok()));
            }
        }
        Ok(live)
    }
}
