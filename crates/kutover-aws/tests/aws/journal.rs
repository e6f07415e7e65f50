//! The journal in S3.

use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use kutover_aws::S3Journal;
use kutover_core::error::ErrorKind;
use kutover_core::ports::{Journal as _, JournalEntry};
use kutover_core::words::Term;
use kutover_testkit::conformance::journal;

use crate::proxy::{Lost, Proxy};
use crate::server::{MiniStack, SECRET, ministack};

pub(crate) const KEY: &str = "cutover/orders.journal";

pub(crate) async fn bucket(server: &MiniStack, name: &str) -> Client {
    let client = Client::new(server.aws(None).await.config());
    client.create_bucket().bucket(name).send().await.unwrap();
    client
}

pub(crate) fn entry(index: u64, term: u64, text: &str) -> JournalEntry {
    JournalEntry { index, term: Term(term), body: serde_json::json!({ "text": text }) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let Some(server) = ministack("it_keeps_the_contract").await else { return };
    let client = bucket(server, "conformance").await;
    let aws = server.aws(None).await;
    let open = async || S3Journal::new(&aws, "conformance", KEY);
    journal::check_all(Arc::new(open().await)).await;
    journal::appended_entries_survive(open).await;
    let damage = async || {
        let object = client.get_object().bucket("conformance").key(KEY).send().await.unwrap();
        let text = String::from_utf8(object.body.collect().await.unwrap().to_vec()).unwrap();
        let spoilt = ByteStream::from(text.replacen("entry", "entrz", 1).into_bytes());
        client.put_object().bucket("conformance").key(KEY).body(spoilt).send().await.unwrap();
    };
    journal::damage_is_named(async || Ok(open().await), damage).await;
}

/// Thirty-two controllers that never spoke with each other, each sure to be the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_thirty_two_controllers_one_appends() {
    let Some(server) = ministack("of_thirty_two_controllers_one_appends").await else { return };
    let client = bucket(server, "race").await;
    let aws = server.aws(None).await;
    S3Journal::new(&aws, "race", KEY).append(&entry(0, 1, "first")).await.unwrap();
    let racers: Vec<_> = (0..32)
        .map(|number| {
            let journal = S3Journal::new(&aws, "race", KEY);
            tokio::spawn(async move {
                let result = journal.append(&entry(1, 2, &format!("racer {number}"))).await;
                (number, result)
            })
        })
        .collect();
    let (mut winners, mut losers) = (Vec::new(), Vec::new());
    for racer in racers {
        match racer.await.unwrap() {
            (number, Ok(())) => winners.push(number),
            (_, Err(error)) => losers.push(error),
        }
    }
    let object = client.get_object().bucket("race").key(KEY).send().await.unwrap();
    let text = String::from_utf8(object.body.collect().await.unwrap().to_vec()).unwrap();
    // The form of a line: its checksum, the attempt, the entry.
    let attempt = text.lines().nth(2).and_then(|line| line.split(' ').nth(1)).unwrap();
    for error in &losers {
        let says_who = error.reason.contains(&format!("term 2, written by attempt {attempt};"));
        assert!(error.kind == ErrorKind::Conflict && says_who, "{error}");
    }
    assert_eq!(losers.len(), 31);
    let found = S3Journal::new(&aws, "race", KEY).read().await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(
        winners,
        [found[1].body["text"].as_str().unwrap().replace("racer ", "").parse::<i32>().unwrap()]
    );
}

/// L14: a reply that got lost is no refusal, and a request that got lost is made again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_an_append_is_found_out() {
    let Some(server) = ministack("what_became_of_an_append_is_found_out").await else { return };
    bucket(server, "lossy").await;
    let proxy = Proxy::before(server.address).await;
    let journal = S3Journal::new(&server.aws(Some(proxy.address)).await, "lossy", KEY);
    for (index, part) in [(0, Lost::Reply), (1, Lost::Request), (2, Lost::Reply)] {
        proxy.lose(part, "PUT /lossy/");
        journal.append(&entry(index, 1, "once")).await.unwrap();
    }
    assert_eq!(proxy.lost(), [Lost::Reply, Lost::Request, Lost::Reply]);
    let expected: Vec<_> = (0..3).map(|index| entry(index, 1, "once")).collect();
    assert_eq!(journal.read().await.unwrap(), expected);
}

/// L20: a controller of an older term, also one that never looked, adds nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_term_is_refused_and_told_why() {
    let Some(server) = ministack("an_older_term_is_refused_and_told_why").await else { return };
    bucket(server, "terms").await;
    let aws = server.aws(None).await;
    let (old, new) = (S3Journal::new(&aws, "terms", KEY), S3Journal::new(&aws, "terms", KEY));
    old.append(&entry(0, 3, "begun")).await.unwrap();
    new.read().await.unwrap();
    new.append(&entry(1, 4, "taken over")).await.unwrap();
    let error = old.append(&entry(1, 3, "woken")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Superseded);
    assert!(error.reason.contains("term 4 is in force"), "{error}");
    let missing = S3Journal::new(&aws, "no-such-bucket", KEY).append(&entry(0, 1, "x")).await.unwrap_err();
    assert!(missing.kind == ErrorKind::NotFound && missing.reason.contains("make the bucket"), "{missing}");
    let shown = format!("{aws:?} {old:?} {error:?} {missing:?}");
    assert!(!shown.contains(SECRET), "a secret is shown");
}
