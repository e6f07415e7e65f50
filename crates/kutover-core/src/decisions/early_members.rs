//! Early members (L19): consumers that share the producers' name restart in the middle of the drain and come up on the
//! new cluster, before their group has read the old one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::words::{GroupId, TopicPartition};

/// One live member of a group, as the coordinator describes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Its client id.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.client_id, self.host)
    }
}

/// What the new cluster says about one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupThere {
    /// Its live members.
    pub members: BTreeSet<Member>,
    /// Partitions on which it has committed something else than the start offsets that kutover set.
    pub moved: BTreeSet<TopicPartition>,
}

/// A group that must still read the old cluster, and is not where it should be, or did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "early")]
pub enum Early {
    /// It has members on the new cluster, or had some long enough to commit.
    There {
        /// The group.
        group: GroupId,
        /// Its live members.
        members: BTreeSet<Member>,
        /// Partitions on which it has begun to read there.
        moved: BTreeSet<TopicPartition>,
    },
    /// The new cluster did not answer for it.
    Unknown {
        /// The group.
        group: GroupId,
        /// Why.
        reason: String,
    },
}

impl Early {
    /// Which group it is about.
    pub fn group(&self) -> &GroupId {
        match self {
            Early::There { group, .. } | Early::Unknown { group, .. } => group,
        }
    }
}

impl fmt::Display for Early {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Early::There { group, members, moved } => {
                write!(f, "group {group} must still read the old cluster, but ")?;
                if members.is_empty() {
                    f.write_str("was on the new one")?;
                } else {
                    let named: Vec<String> = members.iter().map(ToString::to_string).collect();
                    write!(f, "is on the new one: {}", named.join(", "))?;
                }
                if !moved.is_empty() {
                    write!(f, ", and has begun to read {} partitions there", moved.len())?;
                }
                f.write_str("; point its consumers at the old colour's own name until the group is released")
            }
            Early::Unknown { group, reason } => {
                write!(f, "group {group}: the new cluster did not say whether it is there ({reason})")
            }
        }
    }
}

/// Groups that are on the new cluster before their release. Groups that need not read the old one may be where they
/// like; a required group that is absent from `there` has no members: the listing was answered as a whole.
pub fn early_members(
    required: &BTreeSet<GroupId>,
    released: &BTreeSet<GroupId>,
    there: &BTreeMap<GroupId, Result<GroupThere, String>>,
) -> Vec<Early> {
    let unreleased = required.difference(released).filter_map(|group| Some((group, there.get(group)?)));
    unreleased
        .filter_map(|(group, answer)| match answer {
            Ok(there) if there.members.is_empty() && there.moved.is_empty() => None,
            Ok(GroupThere { members, moved }) => {
                Some(Early::There { group: group.clone(), members: members.clone(), moved: moved.clone() })
            }
            Err(reason) => Some(Early::Unknown { group: group.clone(), reason: reason.clone() }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn groups(names: &[&str]) -> BTreeSet<GroupId> {
        names.iter().map(|name| GroupId::new(*name)).collect()
    }

    fn with_member() -> GroupThere {
        let member = Member { client_id: "billing-7".into(), host: "/10.0.0.7".into() };
        GroupThere { members: [member].into(), moved: BTreeSet::new() }
    }

    #[test]
    fn who_is_there_before_the_release_is_named() {
        let mut there = with_member();
        there.moved.insert(TopicPartition::new("orders", 3));
        let seen = [("billing".into(), Ok(there))].into();
        let early = early_members(&groups(&["billing"]), &groups(&[]), &seen);
        assert_eq!(
            early.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "group billing must still read the old cluster, but is on the new one: billing-7 at /10.0.0.7, and has \
              begun to read 1 partitions there; point its consumers at the old colour's own name until the group is \
              released"
            ]
        );
        assert!(early_members(&groups(&["billing"]), &groups(&["billing"]), &seen).is_empty(), "released");
        assert!(early_members(&groups(&["audit"]), &groups(&[]), &seen).is_empty(), "not required");
    }

    /// A member that came, committed and went has moved the group's start all the same.
    #[test]
    fn who_has_been_there_is_named_too() {
        let gone = GroupThere { moved: [TopicPartition::new("orders", 0)].into(), ..GroupThere::default() };
        let early = early_members(&groups(&["g"]), &groups(&[]), &[("g".into(), Ok(gone))].into());
        assert!(early[0].to_string().contains("was on the new one, and has begun to read 1 partitions"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Exactly the unreleased, required groups with a member or without an answer are named, each once.
        #[test]
        fn the_unreleased_are_named(kinds in proptest::collection::vec((any::<bool>(), any::<bool>(), 0..3_u8), 0..12)) {
            let name = |at: usize| GroupId::new(format!("g{at}"));
            let pick = |wanted: fn(&(bool, bool, u8)) -> bool| -> BTreeSet<GroupId> {
                kinds.iter().enumerate().filter(|(_, kind)| wanted(kind)).map(|(at, _)| name(at)).collect()
            };
            let there = kinds.iter().enumerate().map(|(at, kind)| (name(at), match kind.2 {
                0 => Ok(GroupThere::default()),
                1 => Ok(with_member()),
                _ => Err("silent".to_owned()),
            })).collect();
            let early = early_members(&pick(|kind| kind.0), &pick(|kind| kind.1), &there);
            let named: Vec<&GroupId> = early.iter().map(Early::group).collect();
            let expected = pick(|kind| kind.0 && !kind.1 && kind.2 > 0);
            prop_assert_eq!(named, expected.iter().collect::<Vec<_>>());
        }
    }
}
