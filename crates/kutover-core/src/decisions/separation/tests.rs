//! Marks, what is above them, and an allocator like Kafka's to try them on.

use proptest::prelude::*;

use super::*;

fn given(cluster: &str, from: u64, newest: &[u64]) -> Given {
    Given { cluster_id: cluster.into(), from, newest: (0..).zip(newest.iter().map(|id| Ok(*id))).collect() }
}

fn silent(mut given: Given) -> Given {
    given.newest.insert(9, Err("timed out".into()));
    given
}

const ROOM: Room = Room { head_room: 500, most: 50_000 };

/// Nobody has written.
const NOBODY: Option<&BTreeSet<u64>> = Some(&BTreeSet::new());

/// The measured case: both clusters are fresh and give out id 0 first.
#[test]
fn fresh_clusters_are_not_separated() {
    let (blue, green) = (given("b", 0, &[0]), given("g", 0, &[0]));
    let separation = judge(&green, std::slice::from_ref(&blue), NOBODY, ROOM);
    // Blue's block ends at 1000, it may hold one more, and the head-room is rounded up to a block.
    assert_eq!(separation, Separation::Burn { mark: 3_000, behind: [0].into(), ids: 4_000 });
    assert_eq!(
        separation.to_string(),
        "1 brokers hand out producer ids below 3000: up to 4000 ids to use up, about 1 s"
    );
    let green = given("g", 0, &[3_000]);
    assert_eq!(judge(&green, &[blue], NOBODY, ROOM), Separation::Separated { mark: 3_000 });
}

/// A broker's unfinished old block counts too.
#[test]
fn every_broker_must_have_passed_the_mark() {
    let blue = given("b", 0, &[0]);
    let green = given("g", 0, &[3_400, 2_999, 3_000]);
    let Separation::Burn { behind, .. } = judge(&green, &[blue], NOBODY, ROOM) else { panic!() };
    assert_eq!(behind, [1].into());
}

#[test]
fn unknown_is_not_separated() {
    let (blue, green) = (given("b", 0, &[0]), given("g", 0, &[90_000]));
    for (green, blue) in [
        (green.clone(), silent(blue.clone())),
        (silent(green.clone()), blue.clone()),
        (green.clone(), given("b", 0, &[])),
        (given("g", 0, &[]), blue),
    ] {
        let separation = judge(&green, &[blue], NOBODY, ROOM);
        assert!(matches!(separation, Separation::Unknown(_)), "{separation}");
    }
}

#[test]
fn too_far_is_refused_with_a_number() {
    let blue = given("b", 0, &[9_000_000]);
    let separation = judge(&given("g", 0, &[0]), &[blue], NOBODY, ROOM);
    assert!(matches!(separation, Separation::TooFar { most: 50_000, .. }), "{separation}");
    let top = given("b", 0, &[u64::MAX]);
    assert!(!judge(&given("g", 0, &[0]), &[top], NOBODY, ROOM).is_separated(), "no overflow");
}

/// What is told is an upper bound of what has to be used up, broker by broker, and as much as is accepted is done.
#[test]
fn only_brokers_that_are_behind_have_ids_to_use_up() {
    let blue = [given("b", 0, &[0])];
    let green = given("g", 0, &[3_000, 2_999]);
    let burn = Separation::Burn { mark: 3_000, behind: [1].into(), ids: 1_001 };
    assert_eq!(judge(&green, &blue, NOBODY, Room { most: 1_001, ..ROOM }), burn);
    let too_far = Separation::TooFar { mark: 3_000, ids: 1_001, most: 1_000 };
    assert_eq!(judge(&green, &blue, NOBODY, Room { most: 1_000, ..ROOM }), too_far);
}

/// Every text names what is known and what to do.
#[test]
fn it_says_where_ids_stand() {
    let far = judge(&given("g", 0, &[0]), &[given("b", 0, &[9_000_000])], NOBODY, ROOM).to_string();
    assert!(
        far.starts_with("passing producer id 9003000 takes up to 9004000 ids, about 1638 s, more than"),
        "{far}"
    );
    let blue = || given("b", 0, &[0]);
    let nobody = judge(&given("g", 0, &[]), &[blue()], NOBODY, ROOM).to_string();
    assert_eq!(nobody, "cluster g has no broker that says where its producer ids stand");
    let silent = judge(&silent(given("g", 0, &[0])), &[blue()], NOBODY, ROOM).to_string();
    assert_eq!(silent, "where producer ids of cluster g stand is not known: broker 9: timed out");
}

/// Q wrote to green under id 0 before the ids were separated: P, who brings blue's id 0, loses two records there.
#[test]
fn state_under_a_foreign_id_is_a_clash_that_no_burning_mends() {
    let blue = given("b", 0, &[7]);
    let green = given("g", 0, &[90_000]);
    let separation = judge(&green, std::slice::from_ref(&blue), Some(&[0, 90_000].into()), ROOM);
    assert_eq!(separation, Separation::Clash { ids: [0].into() });
    assert!(separation.to_string().contains("1 producer ids with state there"), "{separation}");
}

/// Who wrote is asked where it matters: not on a cluster whose every id lies above all that others gave out.
#[test]
fn writers_are_asked_where_ids_may_overlap() {
    let blue = [given("b", 0, &[7])];
    assert_eq!(judge(&given("g", 0, &[90_000]), &blue, None, ROOM), Separation::AskWriters);
    let apart = given("g", 3_000, &[90_000]);
    assert_eq!(judge(&apart, &blue, None, ROOM), Separation::Separated { mark: 3_000 });
    let again = |newest| judge_again(&apart, &[given("b", 0, &[newest])], None, 3_000, ROOM);
    assert_eq!(again(1_500), Separation::Separated { mark: 3_000 });
    assert_eq!(again(2_500), Separation::AskWriters, "blue may have given out what green gave out since");
}

/// A way back: blue's own old ids clash with nobody, and it must pass all that green gave out.
#[test]
fn going_back_separates_from_the_cluster_that_was_left() {
    let green = given("g", 3_000, &[3_100]);
    let blue = given("b", 0, &[700]);
    let both = [blue.clone(), green];
    let Separation::Burn { mark, .. } = judge(&blue, &both, Some(&[5, 700].into()), ROOM) else { panic!() };
    assert_eq!(mark, 6_000);
}

/// After the fence: what the old cluster gave out since must still lie within the head-room.
#[test]
fn head_room_that_is_used_up_means_a_new_mark() {
    let green = given("g", 0, &[3_100]);
    let again = |newest| judge_again(&green, &[given("b", 0, &[newest])], NOBODY, 3_000, ROOM);
    assert_eq!(again(1_500), Separation::Separated { mark: 3_000 });
    assert!(matches!(again(2_000), Separation::Burn { mark: 5_000, .. }));
    // A client of blue has come along with its id, as is wanted; only ids from the mark on are green's own.
    let (green, come_along) = (given("g", 3_000, &[3_100]), [7, 3_050].into());
    let blue = |newest| [given("b", 0, &[newest])];
    let seen = judge_again(&green, &blue(1_500), Some(&come_along), 3_000, ROOM);
    assert_eq!(seen, Separation::Separated { mark: 3_000 });
    let overtaken = judge_again(&green, &blue(2_500), Some(&come_along), 3_000, ROOM);
    assert_eq!(overtaken, Separation::Clash { ids: [3_050].into() }, "blue may have given it out as well");
    let unknown = judge_again(&green, &[silent(given("b", 0, &[0]))], NOBODY, 3_000, ROOM);
    assert!(!unknown.is_separated());
}

/// Ids as Kafka hands them out: blocks from one counter, a broker uses up its own and may hold the next in advance.
struct Allocator {
    next: u64,
    brokers: Vec<(u64, u64, Option<u64>)>,
}

impl Allocator {
    fn new(brokers: usize) -> Self {
        Self { next: 0, brokers: vec![(0, 0, None); brokers] }
    }

    fn block(&mut self) -> u64 {
        self.next += BLOCK;
        self.next - BLOCK
    }

    /// Gives an id, and fetches the next block in advance near the end of this one.
    fn give(&mut self, broker: usize) -> u64 {
        let (mut at, mut end, mut ahead) = self.brokers[broker];
        if at == end {
            at = match ahead.take() {
                Some(start) => start,
                None => self.block(),
            };
            end = at + BLOCK;
        }
        if end - at < BLOCK / 10 && ahead.is_none() {
            ahead = Some(self.block());
        }
        self.brokers[broker] = (at + 1, end, ahead);
        at
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// After using up what was asked for, wherever the ids went, no id is ever given out by both clusters, as long as
    /// the old one stays within its head-room.
    #[test]
    fn separated_clusters_share_no_id(
        blue_gives in proptest::collection::vec(0..3_usize, 1..2_000),
        green_gives in proptest::collection::vec(0..4_usize, 0..500),
        late in proptest::collection::vec(0..3_usize, 0..400),
        busiest in 0..4_usize,
    ) {
        let (mut blue, mut green) = (Allocator::new(3), Allocator::new(4));
        let mut of_blue: BTreeSet<u64> = blue_gives.into_iter().map(|broker| blue.give(broker)).collect();
        green_gives.into_iter().for_each(|broker| { green.give(broker); });
        let probe = |allocator: &mut Allocator, brokers| -> Vec<u64> {
            (0..brokers).map(|broker| allocator.give(broker)).collect()
        };
        let room = Room { head_room: 1_000, most: u64::MAX };
        let seen = probe(&mut blue, 3);
        of_blue.extend(&seen);
        let blue_given = given("b", 0, &seen);
        let mut burnt = 0;
        let mut rounds = 0;
        let (mark, newest) = loop {
            let newest = probe(&mut green, 4);
            match judge(&given("g", 0, &newest), std::slice::from_ref(&blue_given), NOBODY, room) {
                Separation::Separated { mark } => break (mark, newest),
                Separation::Burn { mark, behind, ids } => {
                    // One broker takes most of it; then whoever is behind finishes its own.
                    let first = if behind.contains(&(busiest as i32)) { busiest } else { *behind.first().unwrap() as usize };
                    let mut used = 0;
                    for broker in std::iter::once(first).chain(behind.iter().map(|broker| *broker as usize)) {
                        while green.give(broker) < mark { used += 1; }
                    }
                    prop_assert!(used <= ids, "{used} were needed, {ids} were told");
                    burnt += used;
                }
                other => prop_assert!(false, "{other}"),
            }
            rounds += 1;
            prop_assert!(rounds < 3, "{burnt} ids and no end");
        };
        prop_assert!(newest.iter().all(|id| *id >= mark));
        of_blue.extend(late.into_iter().map(|broker| blue.give(broker)));
        let of_green: BTreeSet<u64> = (0..400).map(|at| green.give(at % 4)).collect();
        prop_assert!(of_blue.is_disjoint(&of_green));
    }
}
