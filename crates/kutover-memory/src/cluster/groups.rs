//! Consumer groups as the cluster sees them: commits, members, and what makes them disappear.

use kutover_core::words::{GroupId, Offset, TopicPartition};

use super::{Commit, MemoryCluster, State};

impl MemoryCluster {
    /// Commits for a group, as its member would.
    pub fn commit(&self, group: &GroupId, place: &TopicPartition, offset: Offset) {
        let at_ms = self.faults.now_ms();
        self.state.lock().commits.insert((group.clone(), place.clone()), Commit { offset, at_ms });
    }

    /// What a group has committed on a partition.
    pub fn committed(&self, group: &GroupId, place: &TopicPartition) -> Option<Offset> {
        self.state.lock().committed(group, place)
    }

    /// Lets a group read everything that stands in the data topics, and commit it.
    pub fn read_all(&self, group: &GroupId) {
        let at_ms = self.faults.now_ms();
        let mut state = self.state.lock();
        let ends: Vec<_> = state.data_partitions().map(|(place, log)| (place, Offset(log.end()))).collect();
        let commits =
            ends.into_iter().map(|(place, offset)| ((group.clone(), place), Commit { offset, at_ms }));
        state.commits.extend(commits);
    }

    /// Whether a group has members: such a group's offsets cannot be set from outside, and do not expire.
    pub fn set_live(&self, group: &GroupId, live: bool) {
        let mut state = self.state.lock();
        if live {
            state.live_groups.insert(group.clone());
        } else {
            state.live_groups.remove(group);
        }
    }

    /// A group's offsets expire, and the group with them (L9).
    pub fn expire_group(&self, group: &GroupId) {
        let mut state = self.state.lock();
        let before = state.commits.len();
        state.commits.retain(|(of, _), _| of != group);
        if state.commits.len() < before {
            self.faults.fire("group-expires");
        }
    }

    /// Offsets that are older than so many milliseconds expire, unless their group has members
    /// (`offsets.retention.minutes`). Returns what went.
    pub fn expire_offsets(&self, retention_ms: u64) -> Vec<(GroupId, TopicPartition)> {
        let oldest = self.faults.now_ms().saturating_sub(retention_ms);
        let mut state = self.state.lock();
        let State { commits, live_groups, .. } = &mut *state;
        let mut expired = Vec::new();
        commits.retain(|key, commit| {
            let stays = commit.at_ms >= oldest || live_groups.contains(&key.0);
            if !stays {
                expired.push(key.clone());
            }
            stays
        });
        if !expired.is_empty() {
            self.faults.fire("group-expires");
        }
        expired
    }

    /// Whether the cluster can list its groups just now.
    pub fn set_groups_answer(&self, answer: bool) {
        if !answer {
            self.faults.fire("groups-unlisted");
        }
        self.state.lock().groups_hidden = !answer;
    }

    /// Whether a group's coordinator answers: without it nobody knows its offsets.
    pub fn set_coordinator(&self, group: &GroupId, answers: bool) {
        let mut state = self.state.lock();
        if answers {
            state.lost_groups.remove(group);
        } else {
            self.faults.fire("coordinator-silent");
            state.lost_groups.insert(group.clone());
        }
    }
}

impl State {
    pub(super) fn committed(&self, group: &GroupId, place: &TopicPartition) -> Option<Offset> {
        self.commits.get(&(group.clone(), place.clone())).map(|commit| commit.offset)
    }
}
