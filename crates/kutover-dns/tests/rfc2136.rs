//! Dynamic updates against real name servers: the port's contract, races, lost messages, wrong keys.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::name_servers::{KEY, Kind, NameServer, SECRET, ZONE, free_port, key};
use common::proxy::{Next, Proxy};
use common::{addresses, cname, endpoint, owner, published, server};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use kutover_core::error::{ErrorKind, Outcome, ProviderError};
use kutover_core::owner::OwnerRecord;
use kutover_core::ports::{DnsProvider, Published};
use kutover_core::words::{DnsName, Term};
use kutover_dns::{Rfc2136, Rfc2136Options};
use kutover_testkit::conformance::dns;
use kutover_testkit::until;
use tokio::sync::{Barrier, Notify};

const BOUND: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bind_is_a_dns_provider() {
    if let Some(server) = NameServer::start("bind_is_a_dns_provider", Kind::Bind).await {
        everything(&server).await;
        a_secondary_is_waited_for(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_dns_is_a_dns_provider() {
    if let Some(server) = NameServer::start("power_dns_is_a_dns_provider", Kind::PowerDns).await {
        everything(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn knot_is_a_dns_provider() {
    if let Some(server) = NameServer::start("knot_is_a_dns_provider", Kind::Knot).await {
        everything(&server).await;
    }
}

/// All of it on one server, each part at an endpoint of its own.
async fn everything(server: &NameServer) {
    let provider = Arc::new(server.provider());
    provider.check_access().await.expect("the key may update the zone");
    dns::check_all(provider.clone(), &endpoint()).await;
    let owner = OwnerRecord::name_for(&endpoint());
    dns::the_owners_ttl_is_the_sets(&*provider, &endpoint(), async || {
        (ttl_s(server, &endpoint(), RecordType::A).await, ttl_s(server, &owner, RecordType::TXT).await)
    })
    .await;
    dns::a_spoilt_owner_record_is_invalid(&*provider, &DnsName::new("spoilt.orders.test")).await;
    dns::a_cname_in_the_owners_place_is_refused(&*provider, &DnsName::new("taken.orders.test")).await;
    let proxy = Proxy::start(server.address).await;
    let through = Rfc2136::new(Rfc2136Options { server: proxy.address, ..server.options() });
    dns::a_lost_answer_is_unknown(&through, &endpoint(), || {
        proxy.next_update(Next::LoseReplyAndNextConnection);
    })
    .await;
    assert!(proxy.is_through());

    one_of_32_writers_wins(&provider).await;
    a_lost_reply_is_found_to_be_its_own(&proxy, &through).await;
    a_lost_request_is_done_again(&proxy, &through).await;
    an_older_term_is_refused(&provider).await;
    a_ttl_alone_is_compared(&proxy, &through, &provider).await;
    names_take_turns_with_addresses(&provider).await;
    a_key_that_the_server_does_not_take_is_not_authorised(server).await;
    a_zone_that_it_does_not_have_is_named(server).await;
}

async fn ttl_s(server: &NameServer, name: &DnsName, kind: RecordType) -> u32 {
    let mut tcp = ConnectionConfig::tcp();
    tcp.port = server.address.port();
    let from = NameServerConfig::new(server.address.ip(), true, vec![tcp]);
    let config = ResolverConfig::from_name_servers(vec![from]);
    let mut options = ResolverOpts::default();
    options.cache_size = 0;
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .expect("a resolver");
    let found = resolver.lookup(format!("{name}."), kind).await.expect("it is there");
    found.answers()[0].ttl
}

fn at(name: &str) -> DnsName {
    DnsName::new(format!("{name}.{ZONE}"))
}

fn not_done(error: &ProviderError, kind: ErrorKind, words: &[&str]) {
    assert_eq!((error.kind, error.outcome), (kind, Outcome::NotDone), "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "no `{word}` in: {error}");
    }
}

async fn one_of_32_writers_wins(provider: &Arc<Rfc2136>) {
    let (endpoint, expected) = (at("race"), published(100));
    provider.compare_and_set(&endpoint, &Published::default(), &expected).await.unwrap();
    let barrier = Arc::new(Barrier::new(32));
    let racers: Vec<_> = (101..133)
        .map(|number| {
            let (provider, barrier) = (Arc::clone(provider), Arc::clone(&barrier));
            let (endpoint, expected) = (endpoint.clone(), expected.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                (number, provider.compare_and_set(&endpoint, &expected, &published(number)).await)
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
    assert_eq!((winners.len(), losers.len()), (1, 31), "{winners:?}");
    let who = format!("attempt attempt-{};", winners[0]);
    for error in losers {
        not_done(&error, ErrorKind::Conflict, &[&who, "deployment orders's", "term 1"]);
    }
    assert_eq!(provider.read(&endpoint).await.unwrap(), published(winners[0]));
}

async fn a_lost_reply_is_found_to_be_its_own(proxy: &Proxy, provider: &Rfc2136) {
    let endpoint = at("reply");
    proxy.next_update(Next::LoseReply);
    provider.compare_and_set(&endpoint, &Published::default(), &published(1)).await.unwrap();
    assert!(proxy.is_through());
    assert_eq!(provider.read(&endpoint).await.unwrap(), published(1));
}

async fn a_lost_request_is_done_again(proxy: &Proxy, provider: &Rfc2136) {
    let endpoint = at("request");
    let swap = async || provider.compare_and_set(&endpoint, &Published::default(), &published(1)).await;
    proxy.next_update(Next::LoseRequest);
    let error = swap().await.unwrap_err();
    assert!(proxy.is_through());
    assert_eq!((error.kind, error.outcome), (ErrorKind::Unreachable, Outcome::Unknown), "{error}");
    assert_eq!(provider.read(&endpoint).await.unwrap(), Published::default());
    swap().await.unwrap();
    assert_eq!(provider.read(&endpoint).await.unwrap(), published(1));
}

async fn an_older_term_is_refused(provider: &Rfc2136) {
    let endpoint = at("term");
    let of_term = |term, number| Published {
        owner: Some(OwnerRecord { term: Term(term), ..owner(number) }),
        ..published(number)
    };
    let older = of_term(4, 1);
    provider.compare_and_set(&endpoint, &Published::default(), &older).await.unwrap();
    // A controller takes over; the older one wakes and goes by what it read.
    provider.compare_and_set(&endpoint, &older, &of_term(5, 2)).await.unwrap();
    let error = provider.compare_and_set(&endpoint, &older, &of_term(4, 3)).await.unwrap_err();
    not_done(&error, ErrorKind::Conflict, &["term 5 (newer than ours", "attempt-2"]);
    assert_eq!(provider.read(&endpoint).await.unwrap(), of_term(5, 2));
}

/// A prerequisite does not compare TTLs. Between this one's look and its update another one changes nothing but the TTL.
async fn a_ttl_alone_is_compared(proxy: &Proxy, through: &Rfc2136, provider: &Rfc2136) {
    let endpoint = at("ttl");
    let before = published(1);
    provider.compare_and_set(&endpoint, &Published::default(), &before).await.unwrap();
    let (there, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    proxy.next_update(Next::Hold { there: Arc::clone(&there), go: Arc::clone(&go) });
    let shorter = Published { endpoint: Some(addresses(5, &["127.1.0.1"])), ..before.clone() };
    let wanted = published(2);
    let held = through.compare_and_set(&endpoint, &before, &wanted);
    let (error, ()) = tokio::join!(held, async {
        there.notified().await;
        provider.compare_and_set(&endpoint, &before, &shorter).await.unwrap();
        go.notify_one();
    });
    not_done(&error.unwrap_err(), ErrorKind::Conflict, &["TTL 5 s"]);
    assert_eq!(provider.read(&endpoint).await.unwrap(), shorter);
}

async fn names_take_turns_with_addresses(provider: &Rfc2136) {
    let endpoint = at("kinds");
    let mut now = Published::default();
    for (number, set) in [
        addresses(30, &["127.0.0.1", "127.0.0.2", "::1"]),
        cname(30, "Lb-A.orders.test."),
        cname(5, "lb-b.elsewhere.test"),
        addresses(5, &["::1"]),
    ]
    .into_iter()
    .enumerate()
    {
        let wanted = Published { endpoint: Some(set), owner: Some(owner(number as u64)) };
        provider.compare_and_set(&endpoint, &now, &wanted).await.unwrap();
        now = provider.read(&endpoint).await.unwrap();
        assert!(provider.is_visible(&endpoint, &wanted).await.unwrap(), "{now:?}");
    }
    let nothing = Published::default();
    provider.compare_and_set(&endpoint, &now, &nothing).await.unwrap();
    assert_eq!(provider.read(&endpoint).await.unwrap(), nothing);
    // A CNAME beside other types would be dropped by the server, after what it replaces is gone.
    let mail = at("mail");
    let found = provider.read(&mail).await.unwrap();
    let wanted = Published { endpoint: Some(cname(60, "lb.orders.test")), owner: Some(owner(1)) };
    let error = provider.compare_and_set(&mail, &found, &wanted).await.unwrap_err();
    not_done(&error, ErrorKind::Refused, &["MX", "RFC 1034"]);
    assert_eq!(provider.read(&mail).await.unwrap(), found);
}

async fn a_key_that_the_server_does_not_take_is_not_authorised(server: &NameServer) {
    let endpoint = at("keys");
    let wrong_secret = "b3RoZXItc2VjcmV0LW9mLXRoZS1zYW1lLWxlbmd0aC0wMDA=";
    for key in [key("somebody", SECRET), key(KEY, wrong_secret)] {
        let provider = Rfc2136::new(Rfc2136Options { key, ..server.options() });
        let refused =
            provider.compare_and_set(&endpoint, &Published::default(), &published(1)).await.unwrap_err();
        let asked = provider.check_access().await.unwrap_err();
        for error in [refused, asked] {
            not_done(&error, ErrorKind::NotAuthorised, &["not authorised", "`dns.key_name`", "`dns.secret`"]);
            for never in [SECRET, wrong_secret, "hickory"] {
                assert!(!error.to_string().contains(never), "{error}");
            }
        }
        assert_eq!(provider.read(&endpoint).await.unwrap(), Published::default());
    }
}

async fn a_zone_that_it_does_not_have_is_named(server: &NameServer) {
    let zone = DnsName::new("elsewhere.test");
    let provider = Rfc2136::new(Rfc2136Options { zone, ..server.options() });
    let endpoint = DnsName::new("kafka.elsewhere.test");
    not_done(&provider.read(&endpoint).await.unwrap_err(), ErrorKind::NotFound, &["`dns.zone`"]);
    let error = provider.check_access().await.unwrap_err();
    assert!(error.outcome == Outcome::NotDone && error.to_string().contains("elsewhere.test"), "{error}");
    let elsewhere = server.provider().read(&endpoint).await.unwrap_err();
    not_done(&elsewhere, ErrorKind::NotFound, &["`orders.test`"]);
}

/// A change is visible when every server that is to be asked shows it, a secondary too, and not before.
async fn a_secondary_is_waited_for(primary: &NameServer) {
    let (endpoint, wanted) = (at("secondary"), published(1));
    let secondary = free_port();
    let visible_at = vec![primary.address, secondary];
    let provider = Rfc2136::new(Rfc2136Options { visible_at, ..primary.options() });
    provider.compare_and_set(&endpoint, &Published::default(), &wanted).await.unwrap();
    let error = provider.is_visible(&endpoint, &wanted).await.unwrap_err();
    not_done(&error, ErrorKind::Unreachable, &[&secondary.to_string()]);
    let _secondary = NameServer::start_secondary(primary.address, secondary).await;
    // Until it has the zone it answers that it does not.
    let shows = async || provider.is_visible(&endpoint, &wanted).await.unwrap_or(false).then_some(());
    until("the secondary to serve the zone", BOUND, shows).await;

    // One that has something else: the change is visible at the primary alone.
    let other = server().await;
    let visible_at = vec![primary.address, other.address()];
    let provider = Rfc2136::new(Rfc2136Options { visible_at, ..primary.options() });
    assert!(!provider.is_visible(&endpoint, &wanted).await.unwrap());
    other.compare_and_set(&endpoint, &Published::default(), &wanted).await.unwrap();
    assert!(provider.is_visible(&endpoint, &wanted).await.unwrap());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_and_nothing_is_done() {
    let nobody = free_port();
    let options = Rfc2136Options {
        server: nobody,
        zone: DnsName::new(ZONE),
        key: key(KEY, SECRET),
        visible_at: Vec::new(),
        limit: Duration::from_secs(20),
    };
    assert!(!format!("{options:?}").contains(SECRET), "{options:?}");
    let provider = Rfc2136::new(options);
    let swap = provider.compare_and_set(&endpoint(), &Published::default(), &published(1)).await;
    for error in [swap.unwrap_err(), provider.read(&endpoint()).await.unwrap_err()] {
        not_done(&error, ErrorKind::Unreachable, &[&nobody.to_string()]);
    }
}
