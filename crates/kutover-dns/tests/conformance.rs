//! The ports' own conformance suites against the local server and the resolver watch.

mod common;

use std::time::Duration;

use common::{addresses, endpoint, ips, options, owner, publish, server};
use kutover_core::ports::{EndpointAnswer, Published};
use kutover_dns::{LocalServer, ResolverWatch, WatchOptions};
use kutover_testkit::conformance::{dns, watch};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_server_is_a_dns_provider() {
    let server = server().await;
    dns::check_all(server.clone(), &endpoint()).await;
    server.faults().put_owner_text(&endpoint(), &["v=kutover1;term=x"]);
    dns::a_spoilt_owner_record_is_invalid(&*server, &endpoint()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_server_with_a_file_is_a_dns_provider() {
    let directory = tempfile::tempdir().unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let path = directory.path().join("zone");
    let server = LocalServer::start_kept(address, "orders.test".into(), &path).await.unwrap();
    dns::check_all(server.clone(), &endpoint()).await;
    server.faults().put_owner_text(&endpoint(), &["v=kutover1;term=x"]);
    dns::a_spoilt_owner_record_is_invalid(&*server, &endpoint()).await;
}

#[tokio::test]
async fn the_resolver_watch_is_an_endpoint_watch() {
    let server = server().await;
    let set = |address: &str, generation| Published {
        endpoint: Some(addresses(0, &[address])),
        owner: Some(owner(generation)),
    };
    let answer = |address: &str, generation| EndpointAnswer::Found {
        addresses: ips(&[address]),
        owner: Some(owner(generation)),
        ttl_ms: 0,
    };
    publish(&server, common::ENDPOINT, &set("127.1.0.1", 1)).await;
    let quick = WatchOptions { min_poll: Duration::from_millis(10), ..options() };
    let new = || ResolverWatch::new(&endpoint(), server.resolvers(), quick.clone()).unwrap();
    watch::the_first_answer_is_what_stands_there(&new(), &answer("127.1.0.1", 1)).await;
    watch::a_change_is_seen_after_a_dropped_wait(&new(), async || {
        publish(&server, common::ENDPOINT, &set("127.1.0.2", 2)).await;
        answer("127.1.0.2", 2)
    })
    .await;
}
