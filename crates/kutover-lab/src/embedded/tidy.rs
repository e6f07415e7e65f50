//! Keeps an embedded cluster quick under load.

use std::sync::Weak;
use std::time::Duration;

use super::EmbeddedCluster;

/// How often. Short, because `FakeBroker` scans its whole request log on every request.
const EVERY: Duration = Duration::from_millis(20);

/// Until the cluster ends: forgets the records that `FakeBroker` keeps of what was asked.
pub(super) async fn keep_tidy(cluster: Weak<EmbeddedCluster>) {
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        let Some(cluster) = cluster.upgrade() else { return };
        cluster.fake.clear_requests();
        if cluster.fake.list_offsets_lookups().is_empty() {
            continue;
        }
        cluster.fake.with_state(|state| {
            state.list_offsets_lookups.clear();
            state.consumer_group_heartbeats.clear();
            state.leave_group_members.clear();
        });
    }
}
