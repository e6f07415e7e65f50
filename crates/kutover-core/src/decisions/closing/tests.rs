//! What is closed, what is not, and what opens it again.

use proptest::prelude::*;

use super::*;

fn place(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn orders() -> BTreeSet<TopicName> {
    ["orders".into()].into()
}

fn answer(end: i64) -> LeaderAnswer {
    LeaderAnswer {
        epoch: Some(4),
        refuses: true,
        high_watermark: Offset(end),
        stable_end: Offset(end),
        leader_end: LeaderEnd::At(Offset(end)),
    }
}

fn look(ends: &[i64]) -> Look {
    let partitions = i32::try_from(ends.len()).unwrap();
    Look {
        topics: [("orders".into(), TopicThere { id: Some("id-1".into()), partitions })].into(),
        leaders: (0..).zip(ends).map(|(partition, end)| (place(partition), Ok(answer(*end)))).collect(),
    }
}

/// A look at one partition with something changed.
fn but(change: impl FnOnce(&mut LeaderAnswer)) -> Look {
    let mut answer = answer(7);
    change(&mut answer);
    Look { leaders: [(place(0), Ok(answer))].into(), ..look(&[7]) }
}

fn words(against: &[NotClosed]) -> Vec<String> {
    against.iter().map(ToString::to_string).collect()
}

fn refused(first: &Look, second: &Look) -> (Remedy, String) {
    let against = prove(&orders(), first, second).unwrap_err();
    assert_eq!(against.len(), 1, "{against:?}");
    (against[0].remedy(), against[0].to_string())
}

#[test]
fn two_equal_looks_at_refusing_leaders_close() {
    let proof = prove(&orders(), &look(&[7, 0]), &look(&[7, 0])).unwrap();
    assert_eq!(proof.topics, look(&[7, 0]).topics);
    assert_eq!(proof.ends[&place(0)], ClosedEnd { end: Offset(7), epoch: Some(4) });
    assert_eq!(proof.ends.len(), 2);
    assert_eq!(changes(&proof, &look(&[7, 0])), []);
    let alone = but(|answer| answer.leader_end = LeaderEnd::Alone);
    assert!(prove(&orders(), &alone, &alone).is_ok(), "one replica is its own in-sync set");
    let reserved = [TopicName::new("kutover.control")].into();
    assert!(prove(&reserved, &Look::default(), &Look::default()).unwrap().ends.is_empty(), "never fenced");
}

/// The measured case: a stopped follower, high watermark 3, leader's log end 7.
#[test]
fn a_stopped_follower_is_waited_for() {
    let behind = but(|answer| answer.high_watermark = Offset(3));
    let (remedy, said) = refused(&behind, &behind);
    assert_eq!(remedy, Remedy::Wait);
    assert_eq!(said, "topic orders, partition 0: replicas are behind, 3 of 7; waiting for the in-sync set");
    let unknown = but(|answer| answer.leader_end = LeaderEnd::Unknown);
    assert_eq!(refused(&look(&[7]), &unknown).0, Remedy::Wait);
}

/// L10: the marker of a transaction that is open now will stand behind the end.
#[test]
fn an_open_transaction_is_waited_for() {
    let open = but(|answer| answer.stable_end = Offset(5));
    let (remedy, said) = refused(&open, &open);
    assert_eq!(remedy, Remedy::Wait);
    assert!(said.contains("a transaction is open from 5 (end 7)"), "{said}");
}

#[test]
fn every_leader_must_refuse_and_answer_in_both_looks() {
    let open = but(|answer| answer.refuses = false);
    assert_eq!(refused(&open, &look(&[7])).0, Remedy::Fence);
    assert_eq!(refused(&look(&[7]), &open).0, Remedy::Fence);
    let silent = Look { leaders: BTreeMap::new(), ..look(&[7]) };
    assert!(refused(&look(&[7]), &silent).1.contains("did not answer (no answer)"));
    assert!(refused(&silent, &look(&[7])).1.contains("did not answer (no answer)"));
    let elected = but(|answer| answer.epoch = Some(5));
    assert_eq!(refused(&look(&[7]), &elected).0, Remedy::ProveAgain);
    assert!(refused(&look(&[6]), &look(&[7])).1.contains("moved from 6 to 7"));
    assert!(refused(&look(&[7]), &look(&[7, 0])).1.contains("had 1 partitions and has 2"));
    assert!(refused(&Look::default(), &look(&[7])).1.contains("not there any more"));
}

/// L12: a topic that was made again, or a log that goes on, is a hold; a new leader is a reason to prove again.
#[test]
fn what_opens_a_closed_segment_again() {
    let proof = prove(&orders(), &look(&[7]), &look(&[7])).unwrap();
    let mut again = look(&[7]);
    again.topics.insert("orders".into(), TopicThere { id: Some("id-2".into()), partitions: 1 });
    let against = changes(&proof, &again);
    assert_eq!(against[0].remedy(), Remedy::Hold);
    assert!(against[0].to_string().contains("made again (id id-1, now id-2)"), "{against:?}");

    let past = changes(&proof, &look(&[8]));
    assert_eq!((past.len(), past[0].remedy()), (1, Remedy::Hold));
    assert_eq!(
        words(&past),
        ["topic orders, partition 0: closed at 7, but the log goes on to 8; somebody wrote behind the fence"]
    );
    let unreplicated = changes(&proof, &but(|answer| answer.leader_end = LeaderEnd::At(Offset(9))));
    assert_eq!(unreplicated[0].why, Why::PastClosedEnd { closed: Offset(7), found: Offset(9) });

    let short = changes(&proof, &look(&[6]));
    assert_eq!(short[0].remedy(), Remedy::Hold);
    let elected = changes(&proof, &but(|answer| answer.epoch = Some(5)));
    assert_eq!((elected.len(), elected[0].remedy()), (1, Remedy::ProveAgain));
    let lifted = changes(&proof, &but(|answer| answer.refuses = false));
    assert_eq!((lifted.len(), lifted[0].remedy()), (1, Remedy::Fence));
    assert_eq!(changes(&proof, &Look { leaders: BTreeMap::new(), ..look(&[7]) })[0].remedy(), Remedy::Wait);
    assert_eq!(changes(&proof, &Look::default()).len(), 2);
}

#[test]
fn a_proof_survives_the_journal() {
    let proof = prove(&orders(), &look(&[7, 3]), &look(&[7, 3])).unwrap();
    let json = serde_json::to_string(&proof).unwrap();
    assert_eq!(serde_json::from_str::<ClosedProof>(&json).unwrap(), proof);
}

/// A small log under a fence that goes up and down, with a follower and one transaction.
#[derive(Clone, Debug)]
struct Log {
    written: i64,
    replicated: i64,
    open_from: Option<i64>,
    epoch: i32,
    fenced: bool,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Write,
    Replicate,
    Begin,
    Commit,
    Elect,
    Fence,
    Lift,
}

impl Log {
    /// Whether the step put a record, or a marker, behind what was there.
    fn step(&mut self, op: Op) {
        match op {
            Op::Write if !self.fenced => self.written += 1,
            Op::Replicate => self.replicated = self.written,
            Op::Begin if !self.fenced && self.open_from.is_none() => {
                self.open_from = Some(self.written);
                self.written += 1;
            }
            // Markers pass every fence.
            Op::Commit if self.open_from.is_some() => {
                self.open_from = None;
                self.written += 1;
            }
            Op::Elect => {
                self.epoch += 1;
                self.written = self.replicated;
                self.open_from = self.open_from.filter(|from| *from < self.written);
            }
            Op::Fence => self.fenced = true,
            Op::Lift => self.fenced = false,
            Op::Write | Op::Begin | Op::Commit => {}
        }
    }

    fn look(&self) -> Look {
        let answer = LeaderAnswer {
            epoch: Some(self.epoch),
            refuses: self.fenced,
            high_watermark: Offset(self.replicated),
            stable_end: Offset(self.open_from.map_or(self.replicated, |from| from.min(self.replicated))),
            leader_end: LeaderEnd::At(Offset(self.written)),
        };
        Look { leaders: [(place(0), Ok(answer))].into(), ..look(&[0]) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    /// Whatever happened before the two looks: once they close it, nothing lands behind the end unless the fence is
    /// lifted, and whatever is different later is told.
    #[test]
    fn a_closed_end_is_final_while_the_fence_stands(
        before in proptest::collection::vec(any_op(), 0..12),
        between in proptest::collection::vec(any_op(), 0..3),
        after in proptest::collection::vec(any_op(), 0..12),
    ) {
        let mut log = Log { written: 0, replicated: 0, open_from: None, epoch: 0, fenced: false };
        before.into_iter().for_each(|op| log.step(op));
        let first = log.look();
        between.into_iter().for_each(|op| log.step(op));
        let second = log.look();
        let Ok(proof) = prove(&orders(), &first, &second) else { return Ok(()) };
        let end = proof.ends[&place(0)].end;
        let mut lifted = false;
        for op in after {
            lifted |= matches!(op, Op::Lift);
            log.step(op);
            let written = Offset(log.written);
            prop_assert!(lifted || written == end, "{written} behind {end} under the fence");
            let told = changes(&proof, &log.look());
            prop_assert_eq!(written > end, told.iter().any(|one| matches!(one.why, Why::PastClosedEnd { .. })));
            prop_assert!(written == end || told.iter().any(|one| one.remedy() == Remedy::Hold));
            prop_assert!(log.fenced || !told.is_empty());
        }
    }
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Write),
        3 => Just(Op::Replicate),
        1 => Just(Op::Begin),
        1 => Just(Op::Commit),
        1 => Just(Op::Elect),
        4 => Just(Op::Fence),
        1 => Just(Op::Lift),
    ]
}
