//! Who is a straggler, and who only looks like one.

use proptest::prelude::*;

use super::*;
use crate::messages::{MemberKind, Receipt};
use crate::words::Generation;

fn place(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn state(last_sequence: i32) -> ProducerState {
    ProducerState {
        epoch: 0,
        last_sequence,
        last_timestamp_ms: 77,
        transactional: false,
        coordinator_epoch: -1,
        open_since: None,
    }
}

fn look(at_ms: u64, end: i64, producers: &[(i64, ProducerState)]) -> Look {
    let producers = producers.iter().copied().collect();
    let writers = PartitionWriters { end_before: Offset(end), end: Offset(end), producers };
    Look { at_ms, partitions: [(place(0), Ok(writers))].into() }
}

fn words(report: &Report) -> (Vec<String>, Vec<String>) {
    let shown = |list: &[Straggler]| list.iter().map(ToString::to_string).collect();
    (shown(&report.writing), shown(&report.silent))
}

/// L8: whom no receipt claims is named, with rate and last write.
#[test]
fn an_id_that_nobody_claims_is_a_straggler() {
    let first = look(0, 10, &[(4, state(9)), (5, state(3)), (6, state(0))]);
    let second = look(2_000, 17, &[(4, state(16)), (5, state(3)), (6, state(0))]);
    let report = stragglers(&first, &second, &[6].into());
    assert_eq!(
        words(&report),
        (
            vec![
                "producer id 4 on topic orders, partition 0: 7 records in 2000 ms (3/s), last write at 77"
                    .to_owned()
            ],
            vec!["producer id 5 on topic orders, partition 0: silent, last write at 77".to_owned()]
        )
    );
    assert!(!report.nobody_writes());
    let later = stragglers(&second, &second, &[6].into());
    assert!(later.nobody_writes() && later.silent.len() == 2, "{later:?}");
}

/// A receipt is a word, not a proof.
#[test]
fn a_claimed_id_that_writes_is_named_with_its_claim() {
    let report = stragglers(&look(0, 1, &[(6, state(0))]), &look(9, 2, &[(6, state(1))]), &[6].into());
    assert!(report.writing[0].claimed);
    assert!(report.writing[0].to_string().ends_with("a receipt says that it has left"));
}

/// Producers without idempotence have no id: what no id accounts for is theirs.
#[test]
fn records_without_an_id_are_somebodys() {
    let report = stragglers(&look(0, 10, &[(4, state(4))]), &look(9, 15, &[(4, state(6))]), &[].into());
    let unnamed = report.writing.iter().find(|straggler| straggler.producer_id.is_none()).unwrap();
    assert_eq!(unnamed.records, 3);
    assert!(unnamed.to_string().starts_with("a producer without an id (no idempotence)"));
    let open = ProducerState { transactional: true, ..state(4) };
    let committed = ProducerState { last_timestamp_ms: 78, ..open };
    let marker = stragglers(&look(0, 10, &[(4, open)]), &look(9, 11, &[(4, committed)]), &[].into());
    assert!(marker.nobody_writes(), "a marker is nobody's record: {marker:?}");
}

/// Unknown is not nobody.
#[test]
fn what_did_not_answer_is_not_quiet() {
    let mut silent = look(0, 0, &[]);
    silent.partitions.insert(place(1), Err("timed out".into()));
    for (first, second) in [(look(0, 0, &[]), silent.clone()), (silent, look(9, 0, &[]))] {
        let report = stragglers(&first, &second, &[].into());
        assert_eq!(report.unanswered.len(), 1);
        assert!(!report.nobody_writes());
    }
}

#[test]
fn sequences_wrap_and_begin_again_in_a_new_epoch() {
    assert_eq!(written(Some(&state(i32::MAX)), &state(1)), 2);
    assert_eq!(written(Some(&state(100)), &ProducerState { epoch: 1, ..state(1) }), 2);
    assert_eq!(written(None, &state(0)), 1);
    assert_eq!(written(None, &state(-1)), 0);
}

/// Only receipts for this cluster count: ids of another one mean other producers.
#[test]
fn a_receipt_claims_ids_of_the_cluster_that_it_left() {
    let receipt = |from: &str, ids: &[i64]| Receipt {
        generation: Generation(2),
        from: from.into(),
        to: "g".into(),
        acknowledged: 1,
        possibly_duplicated: 0,
        returned: 0,
        sealed_ms: 1,
        producer_ids: ids.to_vec(),
    };
    let member = MemberState {
        kind: MemberKind::Producer,
        instance: "p".into(),
        incarnation: "r".into(),
        heartbeat: 1,
        generation: Generation(3),
        cluster_id: "g".into(),
        receipts: vec![receipt("b", &[1, 2]), receipt("g", &[9])],
    };
    assert_eq!(claimed_ids(&[member], &"b".into()), [1, 2].into());
}

/// The last records say who it is, as far as they are its own.
#[test]
fn a_straggler_is_known_by_its_last_record() {
    let first = look(0, 10, &[(4, state(9))]);
    let mut report = stragglers(&first, &look(1_000, 15, &[(4, state(11))]), &[].into());
    let said = |producer_id, timestamp_ms, client: &str| LastRecord {
        offset: Offset(1),
        timestamp_ms,
        producer_id,
        sign: Sign::of(Some(b"k-1"), [("client-id", Some(client.as_bytes())), ("token", Some(b"secret"))]),
    };
    let last = vec![
        said(Some(4), 1, "older"),
        said(Some(4), 2, "till"),
        said(Some(9), 3, "other"),
        said(None, 4, "cron"),
    ];
    report.recognise(&[(place(0), last)].into());
    let (writing, _) = words(&report);
    assert!(
        writing[1].ends_with("; its last record: key \"k-1\", headers client-id=\"till\", token"),
        "{writing:?}"
    );
    assert!(writing[0].contains("client-id=\"cron\""), "{writing:?}");
    assert!(!writing.concat().contains("secret"));
    assert_eq!(report.places(5), [place(0)].into());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However writers come and go between the two looks: each that wrote is named, with as many records as it wrote,
    /// and nobody else is said to write.
    #[test]
    fn who_writes_is_named(
        early in proptest::collection::vec((0..5_i64, 0..2_i32), 0..40),
        late in proptest::collection::vec((0..5_i64, 0..2_i32), 0..40),
        claimed in proptest::collection::btree_set(0..5_i64, 0..5),
    ) {
        // Id 4 stands for producers without one.
        let mut logs: BTreeMap<TopicPartition, PartitionWriters> = (0..2)
            .map(|at| {
                let (end_before, end) = (Offset(0), Offset(0));
                (place(at), PartitionWriters { end_before, end, producers: BTreeMap::new() })
            })
            .collect();
        let look = |at_ms, logs: &BTreeMap<TopicPartition, PartitionWriters>| Look {
            at_ms,
            partitions: logs.iter().map(|(place, log)| (place.clone(), Ok(log.clone()))).collect(),
        };
        let write = |logs: &mut BTreeMap<TopicPartition, PartitionWriters>, id: i64, partition: i32| {
            let log = logs.get_mut(&place(partition)).unwrap();
            log.end.0 += 1;
            log.end_before = log.end;
            if id != 4 {
                log.producers.entry(id).or_insert(state(-1)).last_sequence += 1;
            }
        };
        early.iter().for_each(|(id, partition)| write(&mut logs, *id, *partition));
        let first = look(0, &logs);
        late.iter().for_each(|(id, partition)| write(&mut logs, *id, *partition));
        let report = stragglers(&first, &look(1, &logs), &claimed);
        let mut wrote: BTreeMap<Option<i64>, u64> = BTreeMap::new();
        for (id, _) in &late {
            *wrote.entry((*id != 4).then_some(*id)).or_default() += 1;
        }
        let named: BTreeMap<Option<i64>, u64> =
            report.writing.iter().map(|straggler| (straggler.producer_id, straggler.records)).collect();
        prop_assert_eq!(&named, &wrote);
        for straggler in &report.silent {
            let id = straggler.producer_id.unwrap();
            prop_assert!(!claimed.contains(&id) && !wrote.contains_key(&Some(id)));
        }
        let known: BTreeSet<i64> = early.iter().map(|(id, _)| *id).filter(|id| *id != 4).collect();
        for id in known.difference(&claimed).filter(|id| !wrote.contains_key(&Some(**id))) {
            prop_assert!(report.silent.iter().any(|straggler| straggler.producer_id == Some(*id)));
        }
    }
}
