//! A zone that is kept in a file.

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use common::{addresses, endpoint, publish, published};
use kutover_core::error::{ErrorKind, Outcome, ProviderResult};
use kutover_core::ports::{DnsProvider, Published};
use kutover_core::words::{DnsName, IncarnationId};
use kutover_dns::LocalServer;

async fn start(path: &Path, zone: &'static str) -> ProviderResult<Arc<LocalServer>> {
    LocalServer::start_kept(SocketAddr::from(([127, 0, 0, 1], 0)), DnsName::new(zone), path).await
}

async fn open(path: &Path) -> Arc<LocalServer> {
    start(path, "orders.test").await.unwrap()
}

#[tokio::test]
async fn what_was_published_survives_a_restart_and_is_served_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.journal.zone");
    let other = DnsName::new("other.orders.test");
    let plain = Published { endpoint: Some(addresses(5, &["127.0.0.9", "::1"])), owner: None };
    let mut marked = published(2);
    if let Some(owner) = &mut marked.owner {
        let mark = kutover_core::owner::RemovalMark {
            incarnation: IncarnationId::new("blue-1;odd=name"),
            cluster_id: owner.target.cluster_id.clone(),
        };
        owner.removal = Some(mark);
        owner.target.bootstrap = vec!["a-long-name-of-a-broker.orders.test:9092".into(); 20];
    }
    let first = open(&path).await;
    publish(&first, common::ENDPOINT, &published(1)).await;
    publish(&first, common::ENDPOINT, &marked).await;
    publish(&first, other.as_str(), &plain).await;
    publish(&first, "gone.orders.test", &plain).await;
    publish(&first, "gone.orders.test", &Published::default()).await;
    first.stop().await;
    drop(first);

    let again = open(&path).await;
    assert_eq!(again.read(&endpoint()).await.unwrap(), marked);
    assert_eq!(again.read(&DnsName::new("gone.orders.test")).await.unwrap(), Published::default());
    assert!(again.is_visible(&endpoint(), &marked).await.unwrap());
    let found = again.read(&other).await.unwrap();
    assert!(again.is_visible(&other, &found).await.unwrap());
    assert_eq!(found.endpoint.unwrap().ttl_s, 5);
}

#[tokio::test]
async fn a_compare_and_set_goes_by_what_was_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zone");
    publish(&*open(&path).await, common::ENDPOINT, &published(1)).await;

    let again = open(&path).await;
    for expected in [Published::default(), published(3)] {
        let error = again.compare_and_set(&endpoint(), &expected, &published(2)).await.unwrap_err();
        assert_eq!((error.kind, error.outcome), (ErrorKind::Conflict, Outcome::NotDone));
    }
    assert_eq!(open(&path).await.read(&endpoint()).await.unwrap(), published(1), "a conflict keeps nothing");
    again.compare_and_set(&endpoint(), &published(1), &published(2)).await.unwrap();
    assert_eq!(open(&path).await.read(&endpoint()).await.unwrap(), published(2));
}

#[tokio::test]
async fn a_damaged_file_is_named_with_the_fix() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.journal.zone");
    publish(&*open(&path).await, common::ENDPOINT, &published(1)).await;
    let good = std::fs::read(&path).unwrap();
    let digit = good.windows(9).position(|part| part == b"127.1.0.1").expect("its address") + 8;
    let mut flipped = good.clone();
    flipped[digit] ^= 1;
    for (bytes, words) in [
        (flipped, "checksum"),
        (good[..good.len() - 1].to_vec(), "checksum"),
        (Vec::new(), "first line"),
        (b"$ORIGIN orders.test.\n".to_vec(), "kutover-zone 1"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = start(&path, "orders.test").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        let text = error.to_string();
        for words in ["orders.journal.zone", "damaged", "restore it from a copy", words] {
            assert!(text.contains(words), "`{words}` is not in {text}");
        }
    }
    std::fs::write(&path, good).unwrap();
    let error = start(&path, "invoices.test").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.to_string().contains("`orders.test`"), "{error}");
    open(&path).await;
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_published() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("place").join("zone");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    let server = open(&path).await;
    publish(&server, common::ENDPOINT, &published(1)).await;
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    let error = server.compare_and_set(&endpoint(), &published(1), &published(2)).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::NotFound, Outcome::NotDone), "{error}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert_eq!(server.read(&endpoint()).await.unwrap(), published(1));
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    server.compare_and_set(&endpoint(), &published(1), &published(2)).await.unwrap();
    assert_eq!(open(&path).await.read(&endpoint()).await.unwrap(), published(2));
}
