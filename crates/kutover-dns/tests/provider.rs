//! The contract of `DnsProvider`, clause by clause, against the server for one machine.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::{HeldTime, addresses, cname, endpoint, owner, publish, published, server};
use kutover_core::error::{ErrorKind, Outcome, ProviderResult};
use kutover_core::ports::{DnsProvider, Published};
use kutover_core::words::{DnsName, Nonce};
use kutover_dns::{Fault, LocalServer, Lost, Scope, lookup_addresses};
use tokio::sync::Barrier;

#[tokio::test]
async fn what_is_set_is_read_and_served() {
    let server = server().await;
    assert_eq!(server.read(&endpoint()).await.unwrap(), Published::default());
    assert!(server.is_visible(&endpoint(), &Published::default()).await.unwrap());

    let desired =
        Published { endpoint: Some(addresses(5, &["127.0.0.9", "127.0.0.3", "::1"])), owner: Some(owner(1)) };
    server.compare_and_set(&endpoint(), &Published::default(), &desired).await.unwrap();
    let stored = server.read(&endpoint()).await.unwrap();
    assert_eq!(stored.endpoint, Some(addresses(5, &["127.0.0.3", "127.0.0.9", "::1"])), "in ascending order");
    assert_eq!(stored.owner, desired.owner);
    assert!(server.is_visible(&endpoint(), &desired).await.unwrap());
    for other in [
        Published { endpoint: Some(addresses(6, &["127.0.0.3", "127.0.0.9", "::1"])), ..desired.clone() },
        Published { endpoint: Some(addresses(5, &["127.0.0.3", "::1"])), ..desired.clone() },
        Published { owner: Some(owner(2)), ..desired.clone() },
        Published { owner: None, ..desired.clone() },
        Published { endpoint: None, ..desired.clone() },
    ] {
        assert!(!server.is_visible(&endpoint(), &other).await.unwrap(), "{other:?} is not what is served");
    }

    // However the name is spelt.
    assert_eq!(server.read(&DnsName::new("KAFKA.orders.TEST.")).await.unwrap(), stored);
    server.compare_and_set(&endpoint(), &desired, &Published::default()).await.unwrap();
    assert_eq!(server.read(&endpoint()).await.unwrap(), Published::default());
}

#[tokio::test]
async fn anything_but_the_expected_is_a_conflict_and_changes_nothing() {
    let server = server().await;
    let standing = published(1);
    publish(&server, common::ENDPOINT, &standing).await;
    let mut other_ttl = standing.clone();
    other_ttl.endpoint.as_mut().unwrap().ttl_s += 1;
    let mut other_nonce = standing.clone();
    other_nonce.owner.as_mut().unwrap().nonce = Nonce::new("another attempt");
    let stale = [Published::default(), published(2), other_ttl, other_nonce];
    for expected in stale {
        let error = server.compare_and_set(&endpoint(), &expected, &published(3)).await.unwrap_err();
        assert_eq!((error.kind, error.outcome), (ErrorKind::Conflict, Outcome::NotDone), "{expected:?}");
        assert!(error.reason.contains("generation 1, term 1"), "{error}");
        assert_eq!(server.read(&endpoint()).await.unwrap(), standing);
    }
}

const RACERS: u64 = 32;

/// Lets writers with the same expectation race, and gives the generations of those that were told `Ok`. The others are told
/// whose record stands there.
async fn winners(provider: Arc<dyn DnsProvider>) -> Vec<u64> {
    let start = Arc::new(Barrier::new(usize::try_from(RACERS).unwrap()));
    let racers: Vec<_> = (1..=RACERS)
        .map(|generation| {
            let (provider, start) = (Arc::clone(&provider), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                let written = provider
                    .compare_and_set(&endpoint(), &Published::default(), &published(generation))
                    .await;
                match written {
                    Ok(()) => Ok(generation),
                    Err(error) => {
                        assert_eq!((error.kind, error.outcome), (ErrorKind::Conflict, Outcome::NotDone));
                        Err(error.reason)
                    }
                }
            })
        })
        .collect();
    let (mut winners, mut told) = (Vec::new(), Vec::new());
    for racer in racers {
        match racer.await.unwrap() {
            Ok(generation) => winners.push(generation),
            Err(reason) => told.push(reason),
        }
    }
    let who = |reason: &String| winners.iter().any(|won| reason.contains(&format!("generation {won}, ")));
    assert!(told.iter().all(who), "{winners:?}: {told:?}");
    winners
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_writers_exactly_one_wins() {
    for _ in 0..20 {
        let server = server().await;
        let winners = winners(server.clone()).await;
        let [winner] = winners.as_slice() else { panic!("{} writers won", winners.len()) };
        assert_eq!(server.read(&endpoint()).await.unwrap(), published(*winner));
    }
}

/// Compares first and sets afterwards: what the server would be without its lock.
struct CompareThenSet {
    server: Arc<LocalServer>,
    compared: Barrier,
}

#[async_trait]
impl DnsProvider for CompareThenSet {
    async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published> {
        self.server.read(endpoint).await
    }

    async fn compare_and_set(
        &self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        let is_expected = self.read(endpoint).await? == *expected;
        self.compared.wait().await;
        assert!(is_expected, "nobody has written yet");
        while self.server.compare_and_set(endpoint, &self.read(endpoint).await?, desired).await.is_err() {}
        Ok(())
    }

    async fn is_visible(&self, endpoint: &DnsName, published: &Published) -> ProviderResult<bool> {
        self.server.is_visible(endpoint, published).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn control_the_race_finds_a_compare_and_set_that_is_none() {
    let compared = Barrier::new(usize::try_from(RACERS).unwrap());
    let winners = winners(Arc::new(CompareThenSet { server: server().await, compared })).await;
    assert!(winners.len() > 1, "the race has to show that several were told Ok");
}

#[tokio::test]
async fn stored_is_not_visible_until_it_is_served() {
    let server = server().await;
    publish(&server, common::ENDPOINT, &published(1)).await;
    server.faults().freeze();
    publish(&server, common::ENDPOINT, &published(2)).await;
    assert_eq!(server.read(&endpoint()).await.unwrap(), published(2));
    assert!(!server.is_visible(&endpoint(), &published(2)).await.unwrap());
    assert!(server.is_visible(&endpoint(), &published(1)).await.unwrap());
    server.faults().thaw();
    assert!(server.is_visible(&endpoint(), &published(2)).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn visible_is_what_the_wire_says() {
    let server = server().await;
    publish(&server, common::ENDPOINT, &published(1)).await;
    let faults = server.faults();
    let held = HeldTime::hold();
    faults.set(Scope::Everything, Fault::NoData);
    assert!(!server.is_visible(&endpoint(), &published(1)).await.unwrap());
    faults.set(Scope::Everything, Fault::ServFail);
    let error = server.is_visible(&endpoint(), &published(1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.reason.contains("SERVFAIL"), "{error}");

    faults.set(Scope::Everything, Fault::Silence);
    let asked = faults.queries().total();
    let silent = tokio::spawn({
        let server = server.clone();
        async move { server.is_visible(&endpoint(), &published(1)).await }
    });
    faults.queried(|counts| counts.total() > asked).await;
    drop(held);
    let error = silent.await.unwrap().unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::Unreachable, Outcome::NotDone));
}

#[tokio::test]
async fn after_a_lost_message_only_reading_tells() {
    let server = server().await;
    server.faults().lose_next(Lost::Request);
    server.faults().lose_next(Lost::Reply);
    for happened in [false, true] {
        let error =
            server.compare_and_set(&endpoint(), &Published::default(), &published(1)).await.unwrap_err();
        assert_eq!((error.kind, error.outcome), (ErrorKind::Unreachable, Outcome::Unknown));
        let nonce = server.read(&endpoint()).await.unwrap().owner.map(|owner| owner.nonce);
        assert_eq!(nonce, happened.then(|| owner(1).nonce));
    }
    server.compare_and_set(&endpoint(), &published(1), &published(2)).await.unwrap();
}

#[tokio::test]
async fn a_foreign_text_is_invalid_not_absent() {
    let server = server().await;
    publish(&server, common::ENDPOINT, &published(1)).await;
    server.faults().put_owner_text(&endpoint(), &["v=kutover1;deployment=orders;term=soon"]);
    let read = server.read(&endpoint()).await.unwrap_err();
    let written = server.compare_and_set(&endpoint(), &published(1), &published(2)).await.unwrap_err();
    for error in [read, written] {
        assert_eq!((error.kind, error.outcome), (ErrorKind::Invalid, Outcome::NotDone));
        assert!(error.reason.contains("field `term`"), "{error}");
    }
    server.faults().remove_owner_text(&endpoint());
    assert_eq!(server.read(&endpoint()).await.unwrap(), published(1));
}

#[tokio::test]
async fn what_no_zone_should_hold_is_refused() {
    let server = server().await;
    let set = |endpoint| Published { endpoint: Some(endpoint), owner: None };
    let mut too_long = owner(1);
    too_long.target.bootstrap = vec!["broker.orders.test:9092".into(); 4000];
    let cases = [
        ("elsewhere.test", set(addresses(5, &["127.0.0.1"])), ErrorKind::NotFound, "`orders.test`"),
        ("noorders.test", set(addresses(5, &["127.0.0.1"])), ErrorKind::NotFound, "`orders.test`"),
        ("orders.test", set(cname(5, "blue.orders.test")), ErrorKind::Refused, "apex"),
        ("kafka.orders.test", set(cname(5, "Kafka.orders.test.")), ErrorKind::Refused, "itself"),
        ("kafka.orders.test", set(cname(5, "a..b")), ErrorKind::Refused, "a..b"),
        ("kafka.orders.test", set(addresses(5, &[])), ErrorKind::Refused, "without addresses"),
        ("kafka.orders.test", set(addresses(1 << 31, &["127.0.0.1"])), ErrorKind::Refused, "TTL"),
        ("_kutover.a.orders.test", set(addresses(5, &["127.0.0.1"])), ErrorKind::Refused, "owner record"),
        ("kafka..orders.test", set(addresses(5, &["127.0.0.1"])), ErrorKind::Invalid, "no DNS name"),
        ("käfka.orders.test", set(addresses(5, &["127.0.0.1"])), ErrorKind::Invalid, "xn--"),
        (
            "kafka.orders.test",
            Published { endpoint: None, owner: Some(too_long) },
            ErrorKind::Refused,
            "bootstrap",
        ),
    ];
    for (name, desired, kind, words) in cases {
        let name = DnsName::new(name);
        let error = server.compare_and_set(&name, &Published::default(), &desired).await.unwrap_err();
        assert_eq!((error.kind, error.outcome), (kind, Outcome::NotDone), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_cname_is_served_and_followed() {
    let server = server().await;
    let balancer = Published { endpoint: Some(addresses(60, &["127.0.0.7"])), owner: None };
    publish(&server, "blue.orders.test", &balancer).await;
    let desired = Published { endpoint: Some(cname(5, "Blue.orders.test.")), owner: Some(owner(1)) };
    publish(&server, common::ENDPOINT, &desired).await;
    assert!(server.is_visible(&endpoint(), &desired).await.unwrap());
    let elsewhere = Published { endpoint: Some(cname(5, "green.orders.test")), owner: Some(owner(1)) };
    assert!(!server.is_visible(&endpoint(), &elsewhere).await.unwrap());
    let found = lookup_addresses(&server.resolvers(), &endpoint(), Duration::from_secs(60)).await.unwrap();
    assert_eq!((found.addresses, found.ttl_s), (common::ips(&["127.0.0.7"]), 5));
}

#[tokio::test]
async fn a_server_that_cannot_start_names_the_address_and_the_fix() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let refused = |address: SocketAddr, zone: &'static str| async move {
        LocalServer::start(address, DnsName::new(zone)).await.unwrap_err()
    };
    let error = refused(address, "orders.test").await;
    assert_eq!(error.kind, ErrorKind::Refused);
    for words in [address.to_string().as_str(), "in use", "choose another port"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    let error = refused(([192, 0, 2, 1], 0).into(), "orders.test").await;
    assert!(error.to_string().contains("loopback"), "{error}");
    let error = refused(([127, 0, 0, 1], 0).into(), "orders.localhost").await;
    assert!(error.to_string().contains("RFC 6761"), "{error}");
}

#[tokio::test]
async fn a_stopped_server_gives_its_port_back() {
    let first = server().await;
    let address = first.address();
    publish(&first, common::ENDPOINT, &published(1)).await;
    assert!(first.is_visible(&endpoint(), &published(1)).await.unwrap());
    first.stop().await;
    let second = LocalServer::start(address, DnsName::new("orders.test")).await.unwrap();
    assert_eq!(second.address(), address);
    drop(second);
    // Dropping the last handle ends the tasks; the port is free as soon as the runtime has dropped them.
    let restarted = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            match LocalServer::start(address, DnsName::new("orders.test")).await {
                Ok(server) => break server,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    restarted.await.expect("the port of a dropped server was not given back");
}
