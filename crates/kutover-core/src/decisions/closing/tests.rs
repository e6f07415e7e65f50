//! What is closed, and what is not.

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
        refuses: true,
        stable_end: Offset(end),
        high_watermark: Offset(end),
        epoch: Some(4),
        leader_end: LeaderEnd::At(Offset(end)),
    }
}

fn look(ends: &[i64]) -> Look {
    let partitions = i32::try_from(ends.len()).unwrap();
    Look {
        topics: [("orders".into(), (Some("id-1".into()), partitions))].into(),
        leaders: (0..).zip(ends).map(|(partition, end)| (place(partition), Ok(answer(*end)))).collect(),
    }
}

/// A look at one partition with something changed.
fn but(change: impl FnOnce(&mut LeaderAnswer)) -> Look {
    let mut answer = answer(7);
    change(&mut answer);
    Look { leaders: [(place(0), Ok(answer))].into(), ..look(&[7]) }
}

fn refused(first: &Look, second: &Look) -> (Remedy, String) {
    let against = prove(&orders(), first, second).unwrap_err();
    (against.why.remedy(), format!("{}: {}", against.place(), against.why))
}

#[test]
fn two_equal_looks_at_refusing_leaders_close() {
    assert_eq!(prove(&orders(), &look(&[7, 0]), &look(&[7, 0])), Ok(()));
    let alone = but(|answer| answer.leader_end = LeaderEnd::Alone);
    assert!(prove(&orders(), &alone, &alone).is_ok(), "one replica is its own in-sync set");
    let reserved = [TopicName::new("kutover.control")].into();
    assert!(prove(&reserved, &Look::default(), &Look::default()).is_ok(), "never fenced");
}

/// The measured case: a stopped follower, high watermark 3, leader's log end 7.
#[test]
fn a_stopped_follower_is_waited_for() {
    let behind = but(|answer| (answer.stable_end, answer.high_watermark) = (Offset(3), Offset(3)));
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
    assert!(
        said.starts_with("topic orders, partition 0: a transaction is open from 5 (end 7)")
            && said.ends_with("`kafka-transactions.sh abort`, --start-offset 5"),
        "{said}"
    );
}

#[test]
fn every_leader_must_refuse_and_answer_in_both_looks() {
    let open = but(|answer| answer.refuses = false);
    assert_eq!(refused(&open, &look(&[7])).0, Remedy::Fence);
    assert_eq!(refused(&look(&[7]), &open).0, Remedy::Fence);
    let silent = Look { leaders: BTreeMap::new(), ..look(&[7]) };
    assert!(refused(&look(&[7]), &silent).1.contains("did not refuse as a fenced one does: no answer"));
    assert!(refused(&silent, &look(&[7])).1.contains("did not refuse as a fenced one does: no answer"));
    let elected = but(|answer| answer.epoch = Some(5));
    assert!(refused(&look(&[7]), &elected).1.contains("its leader changed (epoch 4, now 5)"));
    assert!(refused(&look(&[6]), &look(&[7])).1.contains("moved from 6 to 7"));
}

/// L12: what was looked at is no more what is there.
#[test]
fn topics_that_changed_between_two_looks_begin_anew() {
    let grown = refused(&look(&[7]), &look(&[7, 0]));
    assert!(grown.0 == Remedy::Anew && grown.1.contains("had 1 partitions and has 2"), "{grown:?}");
    let gone = refused(&look(&[7]), &Look::default());
    assert!(gone.0 == Remedy::Anew && gone.1.contains("topic orders: it is not there any more"), "{gone:?}");
    let mut again = look(&[7]);
    again.topics.insert("orders".into(), (Some("id-2".into()), 1));
    let again = refused(&look(&[7]), &again);
    assert!(again.0 == Remedy::Anew && again.1.contains("made again (id id-1, now id-2)"), "{again:?}");
}

/// What no waiting mends is not hidden behind what passes.
#[test]
fn what_weighs_most_is_named() {
    let mut both = look(&[7, 7]);
    both.leaders.insert(place(0), Err("no leader".into()));
    both.leaders.insert(place(1), Ok(LeaderAnswer { refuses: false, ..answer(7) }));
    let (remedy, said) = refused(&both, &both);
    assert!(remedy == Remedy::Fence && said.starts_with("topic orders, partition 1: "), "{said}");
}

/// A small log under a fence that goes up and down, with a follower and one transaction.
#[derive(Clone, Debug)]
struct Log {
    written: i64,
    replicated: i64,
    open_from: Option<i64>,
    epoch: i32,
    fenced: bool,
    lifted: bool,
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

/// What happens between the questions of a look.
type Between = [Option<Op>; 3];

impl Log {
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
            Op::Lift => (self.fenced, self.lifted) = (false, true),
            Op::Write | Op::Begin | Op::Commit => {}
        }
    }

    /// Asks one thing after the other, while the log goes on.
    fn look(&mut self, between: Between) -> Look {
        self.lifted = false;
        let [after_probe, after_stable_end, after_high_watermark] = between;
        let refuses = self.fenced;
        after_probe.into_iter().for_each(|op| self.step(op));
        let stable_end = Offset(self.open_from.map_or(self.replicated, |from| from.min(self.replicated)));
        after_stable_end.into_iter().for_each(|op| self.step(op));
        let (high_watermark, epoch) = (Offset(self.replicated), self.epoch);
        after_high_watermark.into_iter().for_each(|op| self.step(op));
        // It is asked for the epoch in which the high watermark was read.
        let leader_end = match self.epoch == epoch {
            true => LeaderEnd::At(Offset(self.written)),
            false => LeaderEnd::Unknown,
        };
        let answer = LeaderAnswer { refuses, stable_end, high_watermark, epoch: Some(epoch), leader_end };
        Look { leaders: [(place(0), Ok(answer))].into(), ..look(&[0]) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(5_000) })]

    /// Whatever happened before the two looks and in the middle of them: once they close it, nothing lands behind the end
    /// unless the fence is lifted.
    #[test]
    fn a_closed_end_is_final_while_the_fence_stands(
        before in proptest::collection::vec(any_op(), 0..12),
        in_first in between(),
        betweens in proptest::collection::vec(any_op(), 0..3),
        in_second in between(),
        after in proptest::collection::vec(any_op(), 0..12),
    ) {
        let mut log =
            Log { written: 0, replicated: 0, open_from: None, epoch: 0, fenced: false, lifted: false };
        before.into_iter().for_each(|op| log.step(op));
        let first = log.look(in_first);
        betweens.into_iter().for_each(|op| log.step(op));
        let second = log.look(in_second);
        if prove(&orders(), &first, &second).is_err() {
            return Ok(());
        }
        let end = second.leader(&place(0)).unwrap().high_watermark;
        for op in after {
            log.step(op);
            let written = Offset(log.written);
            prop_assert!(log.lifted || written == end, "{written} behind {end} under the fence");
        }
    }
}

fn between() -> impl Strategy<Value = Between> {
    proptest::array::uniform3(proptest::option::weighted(0.3, any_op()))
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
