//! Who says that the old cluster is drained is right: every group that was there has been handed all that stood on it. A
//! rollback that ends says so of the cluster that it left, unless it has said that it gave that one up.

use std::collections::{BTreeMap, BTreeSet};

use kutover_core::cutover::StateName;
use kutover_core::words::{ClusterId, Offset, TopicPartition};

use super::{Violation, broken};
use crate::observed::{Act, Append, Observed};

pub(super) const NAME: &str = "drain_is_true";

pub(super) fn check(observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    let chains = observed.chains();
    for (index, acted) in observed.acts.iter().enumerate() {
        let back = match acted.act {
            Act::Entered(StateName::Soaking) => false,
            Act::Entered(StateName::RolledBack) => true,
            _ => continue,
        };
        let Some(active) = observed.owner_at(index).map(|owner| owner.target.cluster_id.clone()) else {
            continue;
        };
        for left in standing(observed, index).into_iter().filter(|cluster| *cluster != active) {
            let by = acted.by.unwrap_or_default();
            if back && is_given_up(observed, index, &left) {
                continue;
            }
            // No segment has what came behind a quiet end, or behind a fence that was lifted by what had been given up: it may
            // have come after the look that this rests on. A removal looks again, and is held against all of it.
            let counts = |append: &Append| {
                !(chains.is_behind_quiet(append)
                    || (back && observed.is_behind_a_lifted_fence(&chains, append)))
            };
            for missed in unread_of(observed, &left, acted.at_ms, counts) {
                found.push(broken!("controller {by} called {left} drained at {} ms; {missed}", acted.at_ms));
            }
        }
    }
    found
}

/// Whether a controller has said by then that a cluster does not answer and is given up.
fn is_given_up(observed: &Observed, index: usize, cluster: &ClusterId) -> bool {
    observed.acts[..index].iter().any(|acted| {
        let Act::GivenUp(given_up) = acted.act else { return false };
        observed
            .owners()
            .any(|(_, owner)| owner.target.generation == given_up && owner.target.cluster_id == *cluster)
    })
}

fn standing(observed: &Observed, index: usize) -> BTreeSet<ClusterId> {
    let mut standing = BTreeSet::new();
    for acted in &observed.acts[..index] {
        match &acted.act {
            Act::Made(_, _, cluster, _) => {
                standing.insert(cluster.clone());
            }
            Act::Destroyed(_, cluster) => {
                standing.remove(cluster);
            }
            _ => {}
        }
    }
    standing
}

/// What stood on a cluster at an instant and a group that is required had not been handed by then.
pub(super) fn unread(observed: &Observed, cluster: &ClusterId, at_ms: u64) -> Vec<String> {
    unread_of(observed, cluster, at_ms, |_| true)
}

fn unread_of(
    observed: &Observed,
    cluster: &ClusterId,
    at_ms: u64,
    counts: impl Fn(&Append) -> bool,
) -> Vec<String> {
    let mut missed = Vec::new();
    let (appended, retained) = (observed.appended(cluster, at_ms), observed.retained(at_ms));
    let expired: BTreeSet<_> = observed
        .expired(at_ms)
        .filter(|(of, ..)| *of == cluster)
        .map(|(_, group, place)| (group.as_str(), place))
        .collect();
    for group in &observed.groups {
        let begun = group.begun(at_ms);
        let mut read: BTreeMap<&TopicPartition, Offset> = BTreeMap::new();
        for handed in &group.handed {
            if handed.cluster == *cluster && handed.at_ms <= at_ms {
                let furthest = read.entry(&handed.place).or_insert(handed.offset);
                *furthest = (*furthest).max(handed.offset);
            }
        }
        // A group that has found a part of its log gone has read that part, as far as there is anything to read.
        for skipped in &group.skipped {
            if skipped.cluster == *cluster && skipped.at_ms <= at_ms {
                let furthest = read.entry(&skipped.place).or_insert(Offset(-1));
                *furthest = (*furthest).max(Offset(skipped.to.0 - 1));
            }
        }
        let mut behind: Vec<&Append> = Vec::new();
        for (place, appends) in appended.iter().filter(|(place, _)| group.topics.contains(&place.topic)) {
            let read = read.get(place).copied();
            let left = retained.get(&(cluster, place)).copied().unwrap_or(Offset(0));
            let nothing_left = appends.last().is_none_or(|last| last.offset < left);
            let uncommitted = read.is_none() || expired.contains(&(group.name.as_str(), place));
            if nothing_left && uncommitted {
                continue; // Retention took all of it, and no commit says that the group had not read it (L11).
            }
            let Some(begun) = begun.on(cluster, place) else { continue };
            let read = read.unwrap_or(Offset(begun.0 - 1));
            let from = appends.partition_point(|append| append.offset <= read);
            behind.extend(appends[from..].iter().filter(|append| counts(append)));
        }
        behind.sort_by_key(|append| append.at_ms);
        if let Some(first) = behind.first() {
            let (name, count) = (&group.name, behind.len());
            missed.push(format!(
                "group {name} had not read {count} records, first {} @{} of {} ms",
                first.place, first.offset, first.at_ms
            ));
        }
    }
    missed
}

#[cfg(test)]
mod tests {
    use kutover_core::words::Generation;

    use super::super::fixtures::{acted, append, handed, made, one_unread, owner};
    use super::*;

    #[test]
    fn a_drain_that_a_group_had_not_done_is_reported() {
        let mut observed = one_unread("b");
        observed.acts = vec![
            made("b"),
            made("g"),
            acted(6, Act::Published(Box::new(owner(2, "g", 1)))),
            acted(9, Act::Entered(StateName::Soaking)),
        ];
        assert_eq!(check(&observed).len(), 1);
        observed.groups[0].handed.push(handed(8, "b", 0, 0));
        assert_eq!(check(&observed), []);
    }

    /// L11: who reads on behind what retention took has read it; who has not looked yet has not.
    #[test]
    fn what_retention_took_is_no_drain_of_its_own() {
        let mut observed = one_unread("b");
        observed.appends.push(append(6, "b", 1, 0));
        observed.groups[0].handed.push(handed(7, "b", 0, 0));
        let place = TopicPartition::new("t0", 0);
        observed.acts.push(acted(8, Act::Retained("b".into(), place.clone(), Offset(2))));
        let unread = |observed: &Observed| unread(observed, &"b".into(), 10).len();
        assert_eq!(unread(&observed), 1, "its commit stands before the start of the log");
        let (at_ms, cluster, to) = (9, "b".into(), Offset(2));
        observed.groups[0].skipped.push(crate::observed::Skipped { at_ms, cluster, place, to });
        assert_eq!(unread(&observed), 0);
        observed.groups[0].skipped.clear();
        observed.groups[0].handed.clear();
        assert_eq!(unread(&observed), 0, "it never committed, and nothing is left");
        observed.appends.push(append(9, "b", 2, 0));
        assert_eq!(unread(&observed), 1, "something is left");
    }

    /// An expired commit excuses the group and the partition whose it was, no others.
    #[test]
    fn an_expired_commit_excuses_its_own_group_alone() {
        let mut observed = one_unread("b");
        observed.appends.push(append(6, "b", 1, 0));
        observed.groups[0].handed.push(handed(7, "b", 0, 0));
        let place = TopicPartition::new("t0", 0);
        observed.acts.push(acted(8, Act::Retained("b".into(), place.clone(), Offset(2))));
        let expire =
            |group: &str| acted(9, Act::OffsetsExpired("b".into(), vec![(group.into(), place.clone())]));
        let unread = |observed: &Observed| unread(observed, &"b".into(), 10).len();
        observed.acts.push(expire("another"));
        assert_eq!(unread(&observed), 1);
        let own = observed.groups[0].name.clone();
        observed.acts.push(expire(&own));
        assert_eq!(unread(&observed), 0);
    }

    /// Nobody knows of a group that is born late where it has not begun to read; from there on it counts.
    #[test]
    fn a_group_that_was_born_late_counts_from_where_it_began() {
        let mut observed = one_unread("b");
        observed.appends.push(append(6, "b", 1, 0));
        observed.appends.push(append(6, "b", 2, 0));
        observed.groups[0].born_ms = 5_000;
        let unread = |observed: &Observed| unread(observed, &"b".into(), 10).len();
        assert_eq!(unread(&observed), 0);
        observed.groups[0].handed.push(handed(11, "b", 1, 0));
        assert_eq!(unread(&observed), 0, "it begins later");
        observed.groups[0].handed[0].at_ms = 7;
        assert_eq!(unread(&observed), 1);
        observed.groups[0].handed.push(handed(8, "b", 2, 0));
        assert_eq!(unread(&observed), 0);
    }

    #[test]
    fn a_rollback_that_ends_says_that_green_is_drained_or_given_up() {
        let mut observed = one_unread("g");
        observed.acts = vec![
            made("b"),
            made("g"),
            acted(4, Act::Published(Box::new(owner(2, "g", 1)))),
            acted(6, Act::Published(Box::new(owner(3, "b", 1)))),
            acted(9, Act::Entered(StateName::RolledBack)),
        ];
        assert_eq!(check(&observed).len(), 1);
        observed.acts.insert(4, acted(8, Act::GivenUp(Generation(3))));
        assert_eq!(check(&observed).len(), 1, "another cluster's generation");
        observed.acts[4] = acted(8, Act::GivenUp(Generation(2)));
        assert_eq!(check(&observed), []);
        observed.acts.remove(4);
        observed.groups[0].handed.push(handed(8, "g", 0, 0));
        assert_eq!(check(&observed), []);
    }
}
