use super::*;

struct Acknowledged(BTreeMap<(TopicKey, i32), u64>);

impl Highest for Acknowledged {
    fn in_partition(&self, topic: TopicKey, partition: i32) -> Option<Sequence> {
        self.0.get(&(topic, partition)).copied().map(Sequence)
    }

    fn in_topic(&self, topic: TopicKey) -> Option<Sequence> {
        self.0.iter().filter(|(place, _)| place.0 == topic).map(|(_, sequence)| Sequence(*sequence)).max()
    }
}

const ORDERS: TopicKey = TopicKey(1);

fn failure(sequence: u64, partition: Option<i32>, fate: DeliveryFate) -> Failure {
    Failure {
        token: Token(sequence),
        sequence: Sequence(sequence),
        topic: ORDERS,
        partition,
        fate,
        bytes: 10,
        expires: Millis(100),
    }
}

fn hand_over(order: Order) -> HandOver {
    HandOver::new(order, UnknownPolicy::default_for(order), 100)
}

fn acknowledged(marks: &[(i32, u64)]) -> Acknowledged {
    Acknowledged(marks.iter().map(|(partition, sequence)| ((ORDERS, *partition), *sequence)).collect())
}

fn offers(hand_over: &mut HandOver) -> Vec<u64> {
    std::iter::from_fn(|| {
        let offer = hand_over.next_offer()?;
        hand_over.took(offer);
        Some(offer.sequence.0)
    })
    .collect()
}

/// L3: callbacks come in any order; offers go out in send order, what failed before what is parked.
#[test]
fn failures_and_parked_records_are_offered_in_send_order() {
    let mut hand_over = hand_over(Order::Ordered);
    hand_over.park(Sequence(8), Token(8), 10, Millis(100)).unwrap();
    hand_over.failed(failure(5, Some(0), DeliveryFate::NotWritten));
    hand_over.failed(failure(3, Some(1), DeliveryFate::NotWritten));
    hand_over.park(Sequence(9), Token(9), 10, Millis(100)).unwrap();
    assert_eq!(hand_over.settle(&acknowledged(&[(0, 4), (1, 2)])), []);
    assert_eq!(offers(&mut hand_over), [3, 5, 8, 9]);
    assert_eq!(hand_over.bytes(), 0);
    assert_eq!(hand_over.counts().offered_again, 2);
}

/// L3: in `Ordered` a record whose partition has moved on is returned, another partition's is not; `Overlap` sends all.
#[test]
fn a_record_overtaken_in_its_partition_is_returned() {
    for (order, left) in [(Order::Ordered, vec![3]), (Order::Overlap, vec![3, 5])] {
        let mut hand_over = hand_over(order);
        hand_over.failed(failure(3, Some(1), DeliveryFate::NotWritten));
        hand_over.failed(failure(5, Some(0), DeliveryFate::NotWritten));
        let returned = hand_over.settle(&acknowledged(&[(0, 6), (1, 2)]));
        if order == Order::Ordered {
            let (fate, reason) = (DeliveryFate::NotWritten, ReturnReason::OutOfOrder);
            assert_eq!(returned, [Returned { token: Token(5), fate, reason }]);
        }
        assert_eq!(offers(&mut hand_over), left);
    }
}

/// L3: a refusal has no partition, so any later acknowledgement of the topic counts.
#[test]
fn a_refused_record_is_judged_by_its_topic() {
    let mut hand_over = hand_over(Order::Ordered);
    hand_over.failed(failure(3, None, DeliveryFate::NotWritten));
    assert_eq!(hand_over.settle(&acknowledged(&[(7, 4)])).len(), 1);
    hand_over.failed(failure(3, None, DeliveryFate::NotWritten));
    assert_eq!(hand_over.settle(&acknowledged(&[(7, 2)])).len(), 0);
}

/// G2, G3: what becomes of unknown records is policy, and every one sent again is counted.
#[test]
fn unknown_records_go_by_policy() {
    let mut ordered = hand_over(Order::Ordered);
    ordered.failed(failure(3, Some(0), DeliveryFate::Unknown));
    let returned = ordered.settle(&acknowledged(&[]));
    assert_eq!(returned[0].reason, ReturnReason::FateUnknown);
    assert_eq!(returned[0].fate, DeliveryFate::Unknown);

    let mut overlap = hand_over(Order::Overlap);
    overlap.failed(failure(3, Some(0), DeliveryFate::Unknown));
    assert_eq!(overlap.settle(&acknowledged(&[])), []);
    assert_eq!(overlap.counts().possibly_duplicated, 1);
    let offer = overlap.next_offer().unwrap();
    assert!(offer.maybe_written, "the slot has to remember that it may stand twice");
}

/// A record that was unknown once is never returned as `NotWritten`, whatever became of its second try.
#[test]
fn once_unknown_always_unknown() {
    let mut overlap = hand_over(Order::Overlap);
    overlap.failed(failure(3, Some(0), DeliveryFate::Unknown));
    overlap.settle(&acknowledged(&[]));
    let expired = overlap.expire(Millis(100));
    assert_eq!(expired[0].fate, DeliveryFate::Unknown);

    overlap.remember_unknown(Token(4));
    overlap.failed(failure(4, Some(0), DeliveryFate::NotWritten));
    overlap.settle(&acknowledged(&[]));
    let offer = overlap.next_offer().unwrap();
    assert_eq!(overlap.refused(offer).map(|returned| returned.fate), Some(DeliveryFate::Unknown));
}

/// G2: also where nothing has judged what came back, because it is let go, outlives its time-out, or the producer stops.
#[test]
fn what_was_never_judged_keeps_that_it_was_unknown() {
    let ways: [fn(&mut HandOver) -> Vec<Returned>; 3] =
        [HandOver::release, |hand_over| hand_over.expire(Millis(100)), HandOver::abandon];
    for take in ways {
        let mut hand_over = hand_over(Order::Overlap);
        hand_over.failed(failure(3, Some(0), DeliveryFate::Unknown));
        hand_over.failed(failure(4, Some(0), DeliveryFate::NotWritten));
        let fates: Vec<_> = take(&mut hand_over).into_iter().map(|back| (back.token, back.fate)).collect();
        assert_eq!(fates, [(Token(3), DeliveryFate::Unknown), (Token(4), DeliveryFate::NotWritten)]);
        assert_eq!((hand_over.len(), hand_over.bytes()), (0, 0));
    }
}

/// L3: only a later acknowledgement overtakes a record.
#[test]
fn a_mark_of_the_same_sequence_is_not_later() {
    let mut hand_over = hand_over(Order::Ordered);
    hand_over.failed(failure(3, Some(0), DeliveryFate::NotWritten));
    assert_eq!(hand_over.settle(&acknowledged(&[(0, 3)])), []);
    assert_eq!(offers(&mut hand_over), [3]);
}

/// What waits is counted as long as it waits, however it goes: taken, refused, overtaken or expired.
#[test]
fn what_waits_is_counted_until_it_goes() {
    let mut hand_over = hand_over(Order::Ordered);
    for sequence in [7, 8] {
        hand_over.park(Sequence(sequence), Token(sequence), 10, Millis(90)).unwrap();
    }
    for sequence in [1, 2, 3] {
        hand_over.failed(failure(sequence, Some(0), DeliveryFate::NotWritten));
    }
    assert!(!hand_over.is_empty());
    assert_eq!((hand_over.len(), hand_over.bytes()), (5, 50));
    assert_eq!(hand_over.next_expiry(), Some(Millis(90)), "of both kinds");
    assert_eq!(hand_over.settle(&acknowledged(&[(0, 2)])).len(), 1);
    assert_eq!((hand_over.len(), hand_over.bytes()), (4, 40));
    let first = hand_over.next_offer().unwrap();
    hand_over.took(first);
    assert_eq!((hand_over.len(), hand_over.bytes()), (3, 30));
    let refused = hand_over.next_offer().unwrap();
    let back = hand_over.refused(refused).unwrap();
    assert_eq!((back.token, back.reason), (Token(3), ReturnReason::Refused));
    assert_eq!((hand_over.len(), hand_over.bytes()), (2, 20));
    assert_eq!(hand_over.expire(Millis(90)).len(), 2);
    assert_eq!((hand_over.len(), hand_over.bytes(), hand_over.next_expiry()), (0, 0, None));
    let counts = Counts { possibly_duplicated: 0, returned: 4, offered_again: 2, parked: 2 };
    assert_eq!(hand_over.counts(), counts);
    hand_over.reset_counts();
    assert_eq!(hand_over.counts(), Counts::default());
}

#[test]
fn the_park_is_full_at_its_last_byte() {
    let mut hand_over = hand_over(Order::Ordered);
    hand_over.park(Sequence(1), Token(1), 40, Millis(100)).unwrap();
    hand_over.park(Sequence(2), Token(2), 60, Millis(100)).unwrap();
    assert!(!hand_over.has_room(1));
}

#[test]
fn parking_is_bounded_but_one_record_always_fits() {
    let mut hand_over = hand_over(Order::Ordered);
    hand_over.park(Sequence(1), Token(1), 1_000, Millis(100)).unwrap();
    let full = hand_over.park(Sequence(2), Token(2), 1, Millis(100)).unwrap_err();
    assert_eq!(full, ParkFull { parked_bytes: 1_000, limit_bytes: 100 });
    assert_eq!(hand_over.next_expiry(), Some(Millis(100)));
    assert_eq!(hand_over.expire(Millis(99)), []);
    assert_eq!(hand_over.expire(Millis(100)).len(), 1);
    assert!(hand_over.is_empty());
    assert_eq!(hand_over.bytes(), 0);
}
