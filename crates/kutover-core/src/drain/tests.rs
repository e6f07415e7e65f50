use super::*;

fn place(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn required(closed: Option<i64>) -> Required {
    Required {
        groups: [(GroupId::new("billing"), [TopicName::new("orders")].into())].into(),
        partitions: vec![(place(3), closed.map(Offset))],
        ..Required::default()
    }
}

fn seen(start: i64, end: i64, committed: Option<i64>, tail: Tail) -> Observation {
    Observation {
        logs: [(place(3), Ok(LogRange { start: Offset(start), end: Offset(end) }))].into(),
        progress: [(
            ("billing".into(), place(3)),
            Ok(GroupProgress { committed: committed.map(Offset), tail }),
        )]
        .into(),
        ..Observation::default()
    }
}

fn words(required: &Required, seen: &Observation) -> Vec<String> {
    prove(required, seen).remaining.iter().map(ToString::to_string).collect()
}

#[test]
fn says_why_not_in_an_operators_terms() {
    let unread = words(&required(None), &seen(0, 100, Some(59), Tail::NotRead));
    assert_eq!(unread, ["group billing, topic orders, partition 3: 41 records unread"]);
    assert_eq!(prove(&required(None), &seen(0, 100, Some(59), Tail::Data)).unread, 41);
    let never = words(&required(None), &seen(10, 12, None, Tail::NotRead));
    assert_eq!(never, ["group billing, topic orders, partition 3: no commit, 2 records unread"]);
}

/// L9: a partition or group without an answer is not drained.
#[test]
fn unanswered_is_not_drained() {
    assert_eq!(
        words(&required(None), &Observation::default()),
        ["topic orders, partition 3: its log did not answer (no answer)"]
    );
    let mut half = seen(0, 1, Some(1), Tail::NotRead);
    half.progress.clear();
    assert_eq!(
        words(&required(None), &half),
        ["group billing, topic orders, partition 3: its offset was not answered (no answer)"]
    );
    let unknown_topic = Required { partitions: vec![], ..required(None) };
    assert_eq!(
        words(&unknown_topic, &seen(0, 0, None, Tail::NotRead)),
        [
            "group billing, topic orders, partition -1: its log did not answer (the topic's partitions are not known)"
        ]
    );
}

/// L9: commits that expired are gone, what they counted is not.
#[test]
fn a_group_whose_commits_expired_is_not_drained() {
    let expired = prove(&required(Some(100)), &seen(90, 100, None, Tail::Data));
    assert_eq!((expired.is_drained(), expired.unread), (false, 10));
    assert!(prove(&required(None), &seen(90, 100, None, Tail::NoData)).is_drained(), "but for markers");
}

/// L9: a log that lost its end (an unclean election, a topic made anew) may have been written to since, up to offsets that
/// the group had committed for what stood there before.
#[test]
fn a_commit_beyond_the_end_is_not_drained() {
    let beyond = words(&required(Some(20)), &seen(0, 20, Some(100), Tail::Beyond));
    assert!(beyond[0].contains("its commit 100 lies beyond the end of the log"), "{beyond:?}");
    let broken = prove(&required(None), &seen(0, 20, Some(100), Tail::Beyond)).broken_end();
    assert!(broken.is_some(), "no time ends it");
    // Behind a closed end the group has read on, within the log.
    assert!(prove(&required(Some(20)), &seen(0, 20, Some(25), Tail::NotRead)).is_drained());
    let emptied = seen(20, 20, Some(100), Tail::Beyond);
    assert!(prove(&required(None), &emptied).is_drained(), "nothing stands there");
    let starts = [(place(3), Offset(0))].into();
    assert!(!prove(&Required { starts, ..required(None) }, &emptied).is_drained(), "retention took what did");
}

/// L10: what nobody can commit past is read to see.
#[test]
fn markers_and_empty_partitions_count_as_drained() {
    assert!(prove(&required(None), &seen(0, 11, Some(10), Tail::NoData)).is_drained());
    assert!(!prove(&required(None), &seen(0, 11, Some(10), Tail::NotRead)).is_drained());
    assert!(prove(&required(None), &seen(0, 0, None, Tail::NotRead)).is_drained());
    assert!(prove(&required(None), &seen(7, 7, None, Tail::NotRead)).is_drained());
}

/// L10: a transaction that is open is no marker. It is named, with the command that ends it.
#[test]
fn an_open_transaction_is_not_drained_and_is_named() {
    let mut stuck = seen(0, 13, Some(11), Tail::Open);
    let hanging = OpenTransaction {
        producer_id: 7,
        epoch: 0,
        coordinator_epoch: 0,
        since: Offset(11),
        last_write_ms: 1,
        coordinator: Coordinated::Forgotten,
    };
    assert_eq!(prove(&required(None), &stuck).unread, 2);
    stuck.open.insert(place(3), vec![hanging]);
    let words = words(&required(None), &stuck).concat();
    assert!(words.contains("2 records unread, behind an open transaction; "), "{words}");
    assert!(words.contains("producer id 7 hangs since offset 11"), "{words}");
    assert!(words.ends_with("abort --topic orders --partition 3 --start-offset 11"), "{words}");
    let never = prove(&required(None), &seen(11, 13, None, Tail::Open)).remaining;
    assert_eq!(never[0].why, NotDrained::Open { records: 2, transactions: vec![] }, "nor without a commit");
}

/// L11: what retention ate is reported, not taken for read.
#[test]
fn a_commit_below_the_start_is_a_loss() {
    assert_eq!(
        words(&required(None), &seen(20, 20, Some(15), Tail::NotRead)),
        ["group billing, topic orders, partition 3: retention deleted 5 records before they were read"]
    );
}

/// L10, L11: markers that retention takes once a tail was read were nobody's to read, also in the journal's words. What
/// comes before them was, and so is all of a log whose end is not closed.
#[test]
fn markers_that_retention_takes_are_no_loss() {
    let before = seen(0, 100, Some(99), Tail::NoData);
    let known = prove(&required(Some(100)), &before).read_out;
    let json = serde_json::to_string(&known).unwrap();
    let required_again = Required { read_out: serde_json::from_str(&json).unwrap(), ..required(Some(100)) };
    assert!(prove(&required_again, &seen(100, 100, Some(99), Tail::NotRead)).is_drained());
    let reset = prove(&required_again, &seen(100, 100, Some(98), Tail::NotRead));
    assert_eq!(reset.remaining[0].why, NotDrained::Lost { records: 2 }, "it was set back since");
    assert_eq!(prove(&required(None), &before).read_out, ReadOut::default());
    assert_eq!(prove(&required(Some(100)), &seen(0, 100, Some(99), Tail::Data)).read_out, ReadOut::default());
}

/// L9, L11: who has committed nothing may have read nothing, and what retention took of it is no more drained than what is
/// there. Markers alone were nobody's to read; what comes before the segment was the last cutover's.
#[test]
fn what_retention_took_from_a_group_without_a_commit_is_not_drained() {
    let from = |start| Required { starts: [(place(3), Offset(start))].into(), ..required(Some(100)) };
    for (start, tail) in [(100, Tail::NotRead), (90, Tail::Data), (90, Tail::NoData)] {
        let gone = prove(&from(40), &seen(start, 100, None, tail));
        assert_eq!(gone.remaining[0].why, NotDrained::LostUncommitted { records: start - 40 });
        assert!(gone.broken_end().is_some_and(|why| why.contains("--reset-offsets")));
    }
    assert!(prove(&from(40), &seen(100, 100, Some(100), Tail::NotRead)).is_drained(), "it says so");
    assert!(prove(&from(100), &seen(100, 100, None, Tail::NotRead)).is_drained(), "nothing was written");
    let markers = prove(&from(99), &seen(99, 100, None, Tail::NoData));
    assert!(markers.is_drained());
    let after = Required { read_out: markers.read_out, ..from(99) };
    assert!(prove(&after, &seen(100, 100, None, Tail::NotRead)).is_drained());
}

/// L11: a group that stands at the start of the log has lost nothing.
#[test]
fn a_commit_at_the_start_is_none() {
    let verdict = prove(&required(None), &seen(20, 30, Some(20), Tail::Data));
    assert_eq!(verdict.remaining[0].why, NotDrained::Unread { records: 10 });
    assert_eq!((verdict.pairs, verdict.unread), (1, 10));
}

/// L11, L12: what no waiting mends is told from what it does.
#[test]
fn a_broken_end_is_told_from_what_is_yet_to_be_read() {
    let broken = |required, seen| prove(&required, &seen).broken_end();
    let lost = broken(required(None), seen(20, 20, Some(15), Tail::NotRead));
    assert!(lost.is_some_and(|why| why.contains("retention deleted 5 records")));
    let past = broken(required(Some(100)), seen(0, 101, Some(101), Tail::NotRead));
    assert!(past.is_some_and(|why| why.contains("goes on to 101")));
    let short = broken(required(Some(100)), seen(0, 99, Some(99), Tail::NotRead));
    assert!(short.is_some_and(|why| why.contains("ends at 99")));
    assert_eq!(broken(required(None), seen(0, 100, Some(59), Tail::Data)), None);
}

/// L12: records past a closed end re-open it as a hold.
#[test]
fn a_closed_end_must_stand() {
    assert!(prove(&required(Some(100)), &seen(0, 100, Some(100), Tail::NotRead)).is_drained());
    assert_eq!(
        words(&required(Some(100)), &seen(0, 101, Some(101), Tail::NotRead)),
        ["topic orders, partition 3: closed at 100, but the log goes on to 101"]
    );
    assert_eq!(
        words(&required(Some(100)), &seen(0, 99, Some(99), Tail::NotRead)),
        ["topic orders, partition 3: closed at 100, but the log ends at 99"]
    );
}
