//! What AWS's answers mean that the emulator does not give by itself.

use std::time::{Duration, Instant};

use kutover_aws::{Route53, Route53Options, S3Journal};
use kutover_core::error::{ErrorKind, Outcome};
use kutover_core::ports::{ClusterProvisioner as _, DnsProvider as _, Journal as _, Published};
use kutover_core::words::{Colour, DnsName, ZoneId};
use kutover_testkit::conformance::dns::{self, published};

use crate::journal::{KEY, bucket, entry};
use crate::proxy::{Deed, Lost, Proxy};
use crate::route53::Zone;
use crate::server::ministack;
use crate::world::World;

const CHANGE: &str = "ChangeResourceRecordSetsRequest";
const LIST: &str = "/rrset";
const LOOK: &str = "GET /2013-04-01/hostedzone/";

/// Others of the account use up the quota; a change of theirs is still on its way; a server of AWS's is ill. All pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_is_asked_again() {
    let Some(server) = ministack("what_passes_is_asked_again").await else { return };
    let zone = Zone::new(server, "passing.test").await;
    let proxy = Proxy::before(server.address).await;
    let aws = server.aws(Some(proxy.address)).await;
    let provider = zone.provider(&aws);
    let endpoint = zone.endpoint();
    let mut before = Published::default();
    for (number, status, code) in
        [(1, 400, "Throttling"), (2, 400, "PriorRequestNotComplete"), (3, 500, "InternalFailure")]
    {
        proxy.then(Deed::Refuse(status, code), LIST);
        proxy.then(Deed::Refuse(status, code), CHANGE);
        provider.compare_and_set(&endpoint, &before, &published(number)).await.expect(code);
        before = published(number);
    }
    assert_eq!(provider.read(&endpoint).await.unwrap(), before);
    assert_eq!(proxy.seen(CHANGE).len(), 6);
    bucket(server, "passing").await;
    let journal = S3Journal::new(&aws, "passing", KEY);
    let passing =
        [(503, "SlowDown"), (409, "OperationAborted"), (500, "InternalError"), (400, "RequestTimeout")];
    for (index, (status, code)) in (0..).zip(passing) {
        proxy.then(Deed::Refuse(status, code), "PUT /passing/");
        journal.append(&entry(index, 1, "once")).await.expect(code);
    }
    assert_eq!(journal.read().await.unwrap().len(), 4);
}

/// Every request counts against the account's quota: what looks, what changes, what asks how far a change is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_requests_of_a_provider_keep_the_quota() {
    let Some(server) = ministack("all_requests_of_a_provider_keep_the_quota").await else { return };
    let zone = Zone::new(server, "quota.test").await;
    let proxy = Proxy::before(server.address).await;
    let gap = Duration::from_millis(60);
    let options = Route53Options { gap, ..Route53Options::new("quota.test".into()) };
    let provider = Route53::new(&server.aws(Some(proxy.address)).await, options);
    let begun = Instant::now();
    let endpoints = ["a.quota.test", "b.quota.test", "c.quota.test", "d.quota.test"].map(DnsName::new);
    let publish = async |endpoint: &DnsName| {
        provider.compare_and_set(endpoint, &Published::default(), &published(1)).await.unwrap();
        provider.is_visible(endpoint, &published(1)).await.unwrap();
    };
    let [a, b, c, d] = &endpoints;
    tokio::join!(publish(a), publish(b), publish(c), publish(d));
    let requests = u32::try_from(proxy.seen("/2013-04-01/").len()).unwrap();
    assert_eq!(requests, 13, "the zone; then, four times, a look, a change and a question");
    assert!(begun.elapsed() >= gap * (requests - 1), "{requests} requests in {:?}", begun.elapsed());
    assert_eq!(zone.provider(&server.aws(None).await).read(d).await.unwrap(), published(1));
}

/// One name in two zones is asked for by two providers, and the quota is still the account's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pinned_zones_keep_one_quota() {
    let Some(server) = ministack("two_pinned_zones_keep_one_quota").await else { return };
    let zones = [Zone::new(server, "one.shared.test").await, Zone::new(server, "two.shared.test").await];
    let proxy = Proxy::before(server.address).await;
    let gap = Duration::from_millis(100);
    let options = Route53Options { gap, ..Route53Options::new("shared.test".into()) };
    let any = Route53::new(&server.aws(Some(proxy.address)).await, options);
    let begun = Instant::now();
    let publish = async |zone: &Zone| {
        let provider = any.pinned(&ZoneId::new(&zone.id));
        let endpoint = zone.endpoint();
        provider.compare_and_set(&endpoint, &Published::default(), &published(1)).await.unwrap();
        provider.is_visible(&endpoint, &published(1)).await.unwrap();
    };
    let [one, two] = &zones;
    tokio::join!(publish(one), publish(two));
    let requests = u32::try_from(proxy.seen("/2013-04-01/").len()).unwrap();
    assert_eq!(requests, 8, "twice the zone, a look, a change and a question");
    assert!(begun.elapsed() >= gap * (requests - 1), "{requests} requests in {:?}", begun.elapsed());
}

/// A change whose reply got lost, and each look at what became of it too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_cannot_be_looked_up_is_unknown() {
    let Some(server) = ministack("a_change_that_cannot_be_looked_up_is_unknown").await else { return };
    let zone = Zone::new(server, "unknown.test").await;
    let proxy = Proxy::before(server.address).await;
    let provider = zone.provider(&server.aws(Some(proxy.address)).await);
    let lose = || {
        proxy.lose(Lost::Reply, CHANGE);
        proxy.then(Deed::Pass, LOOK);
        (0..5).for_each(|_| proxy.lose(Lost::Reply, LOOK));
    };
    dns::a_lost_answer_is_unknown(&provider, &zone.endpoint(), lose).await;
    assert_eq!(proxy.lost(), [Lost::Reply; 6]);
    assert_eq!(provider.read(&zone.endpoint()).await.unwrap(), published(41), "it was carried out");
}

/// It gives up in the end, and says that nothing was done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_pass_is_given_up() {
    let Some(server) = ministack("what_does_not_pass_is_given_up").await else { return };
    let zone = Zone::new(server, "busy.test").await;
    let proxy = Proxy::before(server.address).await;
    let provider = zone.provider(&server.aws(Some(proxy.address)).await);
    for _ in 0..5 {
        proxy.then(Deed::Refuse(400, "Throttling"), LIST);
    }
    let error = provider.read(&zone.endpoint()).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::Unavailable, Outcome::NotDone));
    assert_eq!(proxy.seen(LIST).len(), 5);
}

/// Whoever may not is told where it says what is needed, and is not asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_told_what_is_needed() {
    let Some(server) = ministack("who_may_not_is_told_what_is_needed").await else { return };
    let zone = Zone::new(server, "forbidden.test").await;
    let proxy = Proxy::before(server.address).await;
    let aws = server.aws(Some(proxy.address)).await;
    let (provider, endpoint) = (zone.provider(&aws), zone.endpoint());
    provider.read(&endpoint).await.unwrap();
    let stacks = World::new(server, "Forbidden").await.provisioner(&aws);
    let journal = S3Journal::new(&aws, "forbidden", KEY);
    let refuse = |of: &'static str| proxy.then(Deed::Refuse(403, "AccessDenied"), of);
    for of in [LIST, CHANGE, "GET /forbidden/", "Action=DescribeStacks"] {
        refuse(of);
    }
    let errors = [
        provider.read(&endpoint).await.map(drop).unwrap_err(),
        provider.compare_and_set(&endpoint, &Published::default(), &published(1)).await.unwrap_err(),
        journal.read().await.map(drop).unwrap_err(),
        stacks.describe(Colour::Blue).await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind, error.outcome), (ErrorKind::NotAuthorised, Outcome::NotDone), "{error}");
        assert!(error.reason.contains("docs/aws.md"), "{error}");
    }
    assert_eq!(proxy.seen(CHANGE).len(), 1);
}
