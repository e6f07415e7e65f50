//! Keeps an embedded cluster quick under load.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use krafka::testing::ClusterState;

use super::EmbeddedCluster;
use super::merge::merged;

/// How often the request log is forgotten. Short, because `FakeBroker` scans it on every request.
const EVERY: Duration = Duration::from_millis(20);
/// Every how many ticks the rest is looked after: that wakes every held fetch.
const SELDOM: u32 = 10;
/// How many batches a partition may have that were not merged yet.
const MERGE_FROM: usize = 256;

/// Until the cluster ends: forgets the records that `FakeBroker` keeps of what was asked, and merges small batches.
pub(super) async fn keep_tidy(cluster: Weak<EmbeddedCluster>) {
    let mut tick = tokio::time::interval(EVERY);
    let mut merges = Merges::default();
    for ticks in 1u32.. {
        tick.tick().await;
        let Some(cluster) = cluster.upgrade() else { return };
        cluster.fake.clear_requests();
        if ticks % SELDOM == 0 {
            cluster.fake.with_state(|state| {
                state.list_offsets_lookups.clear();
                state.consumer_group_heartbeats.clear();
                state.leave_group_members.clear();
                merges.merge(state);
            });
        }
    }
}

/// How many batches at the start of each partition's log are merged already. A topic that is made again has a new
/// id and starts afresh.
#[derive(Default)]
struct Merges {
    done: BTreeMap<([u8; 16], usize), usize>,
}

impl Merges {
    fn merge(&mut self, state: &mut ClusterState) {
        for topic in state.topics.values_mut() {
            for (index, partition) in topic.partitions.iter_mut().enumerate() {
                let done = self.done.entry((topic.topic_id, index)).or_default();
                if partition.log.len() < *done + MERGE_FROM {
                    continue;
                }
                let tail = merged(&partition.log[*done..]);
                partition.log.truncate(*done);
                partition.log.extend(tail);
                *done = partition.log.len();
            }
        }
    }
}
