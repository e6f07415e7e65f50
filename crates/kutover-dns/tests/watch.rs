//! A producer's watch over an endpoint, through a real server and its faults.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use common::{
    HeldTime, addresses, cname, endpoint, failure, generation, ips, options, owner, publish, published,
    server, watch,
};
use kutover_core::error::ErrorKind;
use kutover_core::owner::OwnerRecord;
use kutover_core::ports::{EndpointAnswer, EndpointWatch, Published};
use kutover_core::words::DnsName;
use kutover_dns::{Fault, LookupError, ResolverWatch, Resolvers, Scope, WatchOptions, lookup_addresses};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn both_address_families_and_the_owner_record_are_found() {
    let server = server().await;
    let set = addresses(7, &["127.0.0.9", "::1", "127.0.0.3"]);
    publish(&server, common::ENDPOINT, &Published { endpoint: Some(set), owner: Some(owner(4)) }).await;
    let expected = EndpointAnswer::Found {
        addresses: ips(&["127.0.0.3", "127.0.0.9", "::1"]),
        owner: Some(owner(4)),
        ttl_ms: 7000,
    };
    assert_eq!(watch(&server).ask_now().await, expected);
}

#[tokio::test]
async fn ipv6_alone_is_enough() {
    let server = server().await;
    let set = addresses(7, &["::1"]);
    publish(&server, common::ENDPOINT, &Published { endpoint: Some(set), owner: None }).await;
    let expected = EndpointAnswer::Found { addresses: ips(&["::1"]), owner: None, ttl_ms: 7000 };
    assert_eq!(watch(&server).ask_now().await, expected);
}

#[tokio::test]
async fn an_answer_lives_as_long_as_the_shortest_link_of_its_chain() {
    let server = server().await;
    let balancer = Published { endpoint: Some(addresses(3, &["127.0.0.7"])), owner: None };
    publish(&server, "lb-1.orders.test", &balancer).await;
    let middle = Published { endpoint: Some(cname(60, "lb-1.orders.test")), owner: None };
    publish(&server, "blue.orders.test", &middle).await;
    let set = cname(20, "blue.orders.test");
    publish(&server, common::ENDPOINT, &Published { endpoint: Some(set), owner: Some(owner(1)) }).await;
    let expected =
        EndpointAnswer::Found { addresses: ips(&["127.0.0.7"]), owner: Some(owner(1)), ttl_ms: 3000 };
    assert_eq!(watch(&server).ask_now().await, expected);

    let gone = Published { endpoint: Some(cname(20, "gone.orders.test")), owner: Some(owner(1)) };
    publish(&server, common::ENDPOINT, &gone).await;
    assert_eq!(watch(&server).next().await, EndpointAnswer::Empty, "a CNAME that leads nowhere");
}

#[tokio::test]
async fn failed_and_empty_answers_are_kept_apart_and_end_with_their_cause() {
    let server = server().await;
    let faults = server.faults();
    let watch = watch(&server);
    assert_eq!(watch.ask_now().await, EndpointAnswer::Empty, "nothing is published yet");
    publish(&server, common::ENDPOINT, &published(1)).await;
    assert_eq!(generation(&watch.ask_now().await), 1);

    for scope in [Scope::Everything, Scope::Addresses, Scope::Name(endpoint())] {
        faults.set(scope.clone(), Fault::ServFail);
        let reason = failure(watch.ask_now().await);
        assert!(reason.contains("kafka.orders.test A") && reason.contains("SERVFAIL"), "{reason}");
        for empty in [Fault::NoData, Fault::NxDomain] {
            faults.set(scope.clone(), empty);
            assert_eq!(watch.ask_now().await, EndpointAnswer::Empty, "{scope:?} {empty:?}");
        }
        faults.clear(scope);
        assert_eq!(generation(&watch.ask_now().await), 1);
    }
}

#[tokio::test]
async fn an_owner_record_that_cannot_be_had_is_no_absent_one() {
    let server = server().await;
    let faults = server.faults();
    publish(&server, common::ENDPOINT, &published(1)).await;
    let watch = watch(&server);
    faults.set(Scope::Owner, Fault::ServFail);
    let reason = failure(watch.ask_now().await);
    assert!(reason.contains("_kutover.kafka.orders.test TXT") && reason.contains("SERVFAIL"), "{reason}");
    for absent in [Fault::NoData, Fault::NxDomain] {
        faults.set(Scope::Owner, absent);
        let expected = EndpointAnswer::Found { addresses: ips(&["127.1.0.1"]), owner: None, ttl_ms: 30_000 };
        assert_eq!(watch.ask_now().await, expected);
    }
}

#[tokio::test]
async fn a_malformed_owner_record_fails_with_its_field() {
    let server = server().await;
    publish(&server, common::ENDPOINT, &published(1)).await;
    let watch = watch(&server);
    for (text, words) in [
        ("v=kutover1;deployment=orders;term=soon", "field `term`"),
        ("v=kutover9", "field `v`"),
        ("", "field `v`: is missing"),
        ("google-site-verification=1", "field `v`: is missing"),
    ] {
        server.faults().put_owner_text(&endpoint(), &[text]);
        let reason = failure(watch.ask_now().await);
        assert!(reason.contains(words) && reason.contains("_kutover.kafka.orders.test"), "{reason}");
    }
    server.faults().remove_owner_text(&endpoint());
    assert_eq!(generation(&watch.ask_now().await), 1);
}

#[tokio::test]
async fn one_address_family_without_an_answer_does_not_hide_the_other() {
    let server = server().await;
    publish(&server, common::ENDPOINT, &published(1)).await;
    server.faults().set(Scope::Ipv6, Fault::ServFail);
    assert_eq!(generation(&watch(&server).ask_now().await), 1);
    // But where the other family has nothing, the failed one may have had something.
    server.faults().set(Scope::Addresses, Fault::NoData);
    let reason = failure(watch(&server).ask_now().await);
    assert!(reason.contains("kafka.orders.test AAAA"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_as_a_failure_and_the_next_question_is_a_new_one() {
    let server = server().await;
    publish(&server, common::ENDPOINT, &published(1)).await;
    let faults = server.faults();
    let watch = Arc::new(watch(&server));
    for (scope, words) in
        [(Scope::Everything, "kafka.orders.test A:"), (Scope::Owner, "_kutover.kafka.orders.test TXT:")]
    {
        faults.set(scope.clone(), Fault::Silence);
        let held = HeldTime::hold();
        let before = faults.queries();
        let asking = tokio::spawn({
            let watch = Arc::clone(&watch);
            async move { watch.ask_now().await }
        });
        let silenced = |counts: &kutover_dns::QueryCounts| match scope {
            Scope::Owner => counts.owner > before.owner,
            _ => counts.addresses > before.addresses,
        };
        faults.queried(silenced).await;
        let started = Instant::now();
        drop(held);
        let reason = failure(asking.await.unwrap());
        assert!(reason.contains(words) && reason.contains("in time"), "{reason}");
        assert!(started.elapsed() <= options().look_limit, "a look is bounded");
        faults.heal();
        let _held = HeldTime::hold();
        assert_eq!(generation(&watch.ask_now().await), 1);
    }
}

#[tokio::test]
async fn a_stale_answer_is_given_as_it_is_and_followed_by_the_new_one() {
    let server = server().await;
    publish(&server, common::ENDPOINT, &published(1)).await;
    server.faults().freeze();
    publish(&server, common::ENDPOINT, &published(2)).await;
    let watch = watch(&server);
    assert_eq!(generation(&watch.next().await), 1);
    server.faults().thaw();
    assert_eq!(generation(&watch.ask_now().await), 2, "no cache of ours keeps the old one");
}

/// A question is asked again when the TTL has run out, not before, counted at the server. Time is paused and moves by
/// `advance` alone, while the sockets are real.
#[tokio::test(start_paused = true)]
async fn the_ttl_is_honoured() {
    let server = server().await;
    publish(&server, common::ENDPOINT, &published(1)).await;
    let watch = Arc::new(watch(&server));
    let _held = HeldTime::hold();
    let start = Instant::now();
    assert_eq!(generation(&watch.next().await), 1);
    publish(&server, common::ENDPOINT, &published(2)).await;
    let asked = |server: &kutover_dns::LocalServer| {
        server.faults().queries().by_name[&OwnerRecord::name_for(&endpoint())]
    };
    for later in [2, 3] {
        let next = tokio::spawn({
            let watch = Arc::clone(&watch);
            async move { (watch.next().await, Instant::now()) }
        });
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_millis(29_999)).await;
        // Round trips of somebody else's: time enough for a question that must not be asked.
        for _ in 0..5 {
            let other = DnsName::new("other.orders.test");
            lookup_addresses(&server.resolvers(), &other, LIMIT).await.unwrap_err();
        }
        assert_eq!(asked(&server), later - 1, "1 ms before the TTL has run out");
        tokio::time::advance(Duration::from_millis(1)).await;
        let (answer, at) = next.await.unwrap();
        assert_eq!(generation(&answer), 2);
        assert_eq!(asked(&server), later);
        // The clock ticks in milliseconds.
        let waited = at - start;
        assert!(
            waited - Duration::from_secs(30) * u32::try_from(later - 1).unwrap() < Duration::from_millis(5)
        );
    }
}

#[tokio::test]
async fn a_dead_name_server_is_a_failure_and_a_second_one_helps() {
    let server = server().await;
    publish(&server, common::ENDPOINT, &published(1)).await;
    // Bound, so that nobody else gets the port, and never read.
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead_address = dead.local_addr().unwrap();
    let short = WatchOptions { look_limit: Duration::from_millis(500), ..options() };
    let watch = ResolverWatch::new(&endpoint(), Resolvers::Servers(vec![dead_address]), short).unwrap();
    failure(watch.ask_now().await);
    let both = Resolvers::Servers(vec![dead_address, server.address()]);
    let watch = ResolverWatch::new(&endpoint(), both, options()).unwrap();
    assert_eq!(generation(&watch.ask_now().await), 1);
}

#[tokio::test]
async fn a_plain_look_up_tells_found_empty_and_failed_apart() {
    let server = server().await;
    let look = || async { lookup_addresses(&server.resolvers(), &endpoint(), LIMIT).await };
    assert_eq!(look().await, Err(LookupError::Empty(endpoint())));
    publish(&server, common::ENDPOINT, &published(1)).await;
    let found = look().await.unwrap();
    assert_eq!((found.addresses, found.ttl_s), (ips(&["127.1.0.1"]), 30));
    server.faults().set(Scope::Everything, Fault::ServFail);
    let error = look().await.unwrap_err();
    assert!(matches!(error, LookupError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("SERVFAIL"), "{error}");
}

#[test]
fn what_cannot_be_watched_is_said_at_once() {
    let servers = Resolvers::Servers(vec![SocketAddr::from(([127, 0, 0, 1], 53))]);
    let refused = |name: &str, resolvers: &Resolvers, options| {
        let error = ResolverWatch::new(&DnsName::new(name), resolvers.clone(), options).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        error.to_string()
    };
    assert!(refused(common::ENDPOINT, &Resolvers::Servers(vec![]), options()).contains("name at least one"));
    assert!(refused("", &servers, options()).contains("empty"));
    assert!(refused("kafka..test", &servers, options()).contains("kafka..test"));
    let bounds = WatchOptions { min_poll: LIMIT, max_poll: Duration::ZERO, ..options() };
    assert!(refused(common::ENDPOINT, &servers, bounds).contains("min_poll"));
    let jitter = WatchOptions { jitter: f64::NAN, ..options() };
    assert!(refused(common::ENDPOINT, &servers, jitter).contains("jitter"));
}

/// More than one TXT string (255 bytes), more than one UDP answer (1232 bytes, so over TCP), and a great deal more.
#[tokio::test]
async fn a_long_owner_record_arrives_whole() {
    let server = server().await;
    let watch = watch(&server);
    for brokers in [20, 100, 1000] {
        let mut owner = owner(brokers);
        owner.target.bootstrap =
            (0..brokers).map(|id| format!("broker-{id}.blue.orders.test:9092")).collect();
        assert!(owner.to_txt().len() > 1, "several strings");
        let desired = Published { endpoint: Some(addresses(5, &["127.0.0.1"])), owner: Some(owner.clone()) };
        publish(&server, common::ENDPOINT, &desired).await;
        let expected =
            EndpointAnswer::Found { addresses: ips(&["127.0.0.1"]), owner: Some(owner), ttl_ms: 5000 };
        assert_eq!(watch.ask_now().await, expected);
    }
}

/// Whatever an owner record holds, the producer reads what the controller wrote. A failure prints its seed; run it
/// again with `KUTOVER_SEED=<seed>`.
#[test]
fn any_owner_record_survives_the_wire() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(server());
    let watch = watch(&server);
    let records =
        ("\\PC{1,60}", "\\PC{0,60}", proptest::collection::vec("\\PC{1,90}", 0..12), any::<[u64; 2]>());
    let seed = std::env::var("KUTOVER_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    let config =
        Config { cases: 64, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..Config::default() };
    let mut runner = TestRunner::new(config);
    let run = runner.run(&records, |(name, nonce, bootstrap, numbers)| {
        let mut owner = owner(numbers[0]);
        owner.deployment = name.as_str().into();
        owner.nonce = nonce.as_str().into();
        owner.term = kutover_core::words::Term(numbers[1]);
        owner.target.bootstrap = bootstrap;
        let desired = Published { endpoint: Some(addresses(5, &["127.0.0.1"])), owner: Some(owner.clone()) };
        let answer = runtime.block_on(async {
            publish(&server, common::ENDPOINT, &desired).await;
            watch.ask_now().await
        });
        let expected =
            EndpointAnswer::Found { addresses: ips(&["127.0.0.1"]), owner: Some(owner), ttl_ms: 5000 };
        prop_assert_eq!(answer, expected);
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("KUTOVER_SEED={seed}: {error}"));
}
