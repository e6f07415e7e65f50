//! Records in Route 53.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_route53::Client;
use aws_sdk_route53::types::{Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet, RrType};
use kutover_aws::{Aws, Route53, Route53Options};
use kutover_core::error::ErrorKind;
use kutover_core::ports::{DnsProvider as _, Published, RecordData, RecordSet};
use kutover_core::words::{DnsName, Term, ZoneId};
use kutover_testkit::conformance::dns::{self, published};

use crate::proxy::{Lost, Proxy};
use crate::server::{MiniStack, SECRET, ministack};

/// A hosted zone of a test's own.
pub(crate) struct Zone {
    client: Client,
    pub(crate) id: String,
    apex: DnsName,
}

impl Zone {
    pub(crate) async fn new(server: &MiniStack, apex: &str) -> Self {
        let client = Client::new(server.aws(None).await.config());
        let made = client.create_hosted_zone().name(apex).caller_reference(apex).send().await.unwrap();
        let id = made.hosted_zone.unwrap().id.trim_start_matches("/hostedzone/").to_owned();
        Self { client, id, apex: apex.into() }
    }

    pub(crate) fn endpoint(&self) -> DnsName {
        DnsName::new(format!("kafka.{}", self.apex))
    }

    /// The quota is the account's, and this is none: what is made here may be asked as fast as it answers.
    pub(crate) fn provider(&self, aws: &Aws) -> Route53 {
        Route53::new(
            aws,
            Route53Options { gap: Duration::from_millis(5), ..Route53Options::new(self.apex.clone()) },
        )
    }

    /// Writes past kutover, as a person does.
    async fn upsert(&self, name: &str, kind: RrType, ttl: i64, value: &str, weighted: bool) {
        let record = ResourceRecord::builder().value(value).build().unwrap();
        let set = ResourceRecordSet::builder().name(name).r#type(kind).ttl(ttl).resource_records(record);
        let set = if weighted { set.set_identifier("blue").weight(10) } else { set };
        let change = Change::builder().action(ChangeAction::Upsert).resource_record_set(set.build().unwrap());
        let batch = ChangeBatch::builder().changes(change.build().unwrap()).build().unwrap();
        self.client
            .change_resource_record_sets()
            .hosted_zone_id(&self.id)
            .change_batch(batch)
            .send()
            .await
            .unwrap();
    }

    /// The TTLs of an endpoint's record set and owner record.
    async fn ttls(&self) -> (u32, u32) {
        let listed = self.client.list_resource_record_sets().hosted_zone_id(&self.id).send().await.unwrap();
        let ttl = |name: String| {
            let set = listed.resource_record_sets.iter().find(|set| set.name == name).unwrap();
            u32::try_from(set.ttl().unwrap()).unwrap()
        };
        (ttl(format!("{}.", self.endpoint())), ttl(format!("_kutover.{}.", self.endpoint())))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let Some(server) = ministack("it_keeps_the_contract").await else { return };
    let zone = Zone::new(server, "conformance.test").await;
    let provider = Arc::new(zone.provider(&server.aws(None).await));
    dns::check_all(provider.clone(), &zone.endpoint()).await;
    dns::the_owners_ttl_is_the_sets(&*provider, &zone.endpoint(), async || zone.ttls().await).await;
    // An apex has everything below it, and the owner record may be pages away.
    for number in 0..150 {
        zone.upsert(&format!("a{number:03}.conformance.test."), RrType::A, 5, "10.0.0.1", false).await;
    }
    dns::ok_means_stored(&*provider, &zone.apex).await;
    zone.upsert("_kutover.kafka.conformance.test.", RrType::Txt, 5, "\"v=spf1\"", false).await;
    dns::a_spoilt_owner_record_is_invalid(&*provider, &zone.endpoint()).await;
    // MiniStack would take the TXT beside it, as Route 53 does not.
    zone.upsert("_kutover.taken.conformance.test.", RrType::Cname, 5, "x.conformance.test.", false).await;
    dns::a_cname_in_the_owners_place_is_refused(&*provider, &"taken.conformance.test".into()).await;
}

/// A name goes from addresses to a CNAME and back; the change is waited for by its id, also by a controller that did not
/// make it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cname_takes_the_place_of_addresses() {
    let Some(server) = ministack("a_cname_takes_the_place_of_addresses").await else { return };
    let zone = Zone::new(server, "cname.test").await;
    let aws = server.aws(None).await;
    let provider = zone.provider(&aws);
    let endpoint = zone.endpoint();
    let first = published(1);
    provider.compare_and_set(&endpoint, &Published::default(), &first).await.unwrap();
    let data = RecordData::Cname("KafkaB-1.elb.eu-west-1.amazonaws.com.".into());
    let second = Published { endpoint: Some(RecordSet { ttl_s: 7, data }), ..published(2) };
    provider.compare_and_set(&endpoint, &first, &second).await.unwrap();
    assert_eq!(provider.read(&endpoint).await.unwrap(), second.normal());
    let resumed = zone.provider(&aws);
    assert!(!resumed.is_visible(&endpoint, &first).await.unwrap(), "it was replaced");
    let visible = async || resumed.is_visible(&endpoint, &second).await.unwrap();
    let looks =
        kutover_testkit::until("INSYNC", Duration::from_secs(30), || async { visible().await.then_some(()) });
    looks.await;
    assert_eq!(resumed.read(&endpoint).await.unwrap(), second.normal(), "looking changed nothing");
    resumed.compare_and_set(&endpoint, &second, &first).await.unwrap();
    assert_eq!(provider.read(&endpoint).await.unwrap(), first);
}

/// What Route 53 has stored is not yet what its servers answer with: `INSYNC` is waited for, and that what is in sync is
/// what stands there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_in_sync_is_not_visible() {
    let Some(server) = ministack("what_is_not_in_sync_is_not_visible").await else { return };
    let zone = Zone::new(server, "sync.test").await;
    let aws = server.aws(None).await;
    let (provider, other) = (zone.provider(&aws), zone.provider(&aws));
    let endpoint = zone.endpoint();
    let (first, second) = (published(1), published(2));
    provider.compare_and_set(&endpoint, &Published::default(), &first).await.unwrap();
    // The emulator calls a change pending when it is first asked for it.
    assert!(!provider.is_visible(&endpoint, &first).await.unwrap(), "it is pending");
    assert!(provider.is_visible(&endpoint, &first).await.unwrap(), "it is in sync");
    other.compare_and_set(&endpoint, &first, &second).await.unwrap();
    assert!(!provider.is_visible(&endpoint, &first).await.unwrap(), "it was in sync, and has a successor");
    let empty = DnsName::new("empty.sync.test");
    assert!(
        provider.is_visible(&empty, &Published::default()).await.unwrap(),
        "there is nothing to wait for"
    );
    assert!(!provider.is_visible(&empty, &first).await.unwrap());
}

/// Of several hosted zones, the one with the longest name that it lies in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_kept_in_its_nearest_zone() {
    let Some(server) = ministack("an_endpoint_is_kept_in_its_nearest_zone").await else { return };
    let aws = server.aws(None).await;
    let (outer, inner) = (Zone::new(server, "outer.test").await, Zone::new(server, "inner.outer.test").await);
    let provider = |ids: &[&String]| {
        let zone_ids = ids.iter().map(|id| (*id).clone()).collect();
        let options =
            Route53Options { gap: Duration::from_millis(5), ..Route53Options::new("unused.test".into()) };
        Route53::new(&aws, Route53Options { zone_ids, ..options })
    };
    let both = provider(&[&outer.id, &inner.id]);
    for (zone, number) in [(&outer, 1), (&inner, 2)] {
        let endpoint = zone.endpoint();
        both.compare_and_set(&endpoint, &Published::default(), &published(number)).await.unwrap();
        assert_eq!(zone.ttls().await, (5, 5), "it is not in {}", zone.apex);
    }
    let error = both.read(&"kafka.elsewhere.test".into()).await.unwrap_err();
    assert!(error.reason.contains("`outer.test`, `inner.outer.test`"), "{error}");
    let error = provider(&[&"ZNONE".to_owned()]).read(&outer.endpoint()).await.unwrap_err();
    assert!(error.kind == ErrorKind::NotFound && error.what.contains("ZNONE"), "{error}");
    assert!(error.reason.ends_with("correct `dns.zone_ids`"), "{error}");
}

/// An alias may stand where a CNAME must not; it has the load balancer's own TTL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apex_leads_to_a_load_balancer_by_an_alias() {
    let Some(server) = ministack("an_apex_leads_to_a_load_balancer_by_an_alias").await else { return };
    let zone = Zone::new(server, "apex.test").await;
    let aws = server.aws(None).await;
    let to = |balancer: &str, number: u64| {
        let data = RecordData::Cname(DnsName::new(format!("{balancer}.elb.eu-west-1.amazonaws.com")));
        Published { endpoint: Some(RecordSet { ttl_s: 60, data }), ..published(number) }
    };
    let (blue, green) = (to("kafkaa-1", 1), to("kafkab-2", 2));
    let error =
        zone.provider(&aws).compare_and_set(&zone.apex, &Published::default(), &blue).await.unwrap_err();
    assert!(error.kind == ErrorKind::Refused && error.reason.contains("apex"), "{error}");
    let options = Route53Options { gap: Duration::from_millis(5), ..Route53Options::new(zone.apex.clone()) };
    let aliases = Route53::new(&aws, Route53Options { alias_zone_id: Some("ZELB".into()), ..options });
    aliases.compare_and_set(&zone.apex, &Published::default(), &blue).await.unwrap();
    aliases.compare_and_set(&zone.apex, &blue, &green).await.unwrap();
    assert_eq!(aliases.read(&zone.apex).await.unwrap(), green);
    let listed = zone.client.list_resource_record_sets().hosted_zone_id(&zone.id).send().await.unwrap();
    let alias = listed.resource_record_sets.iter().find_map(|set| set.alias_target()).unwrap();
    assert_eq!((alias.hosted_zone_id(), alias.evaluate_target_health()), ("ZELB", false));
}

/// Thirty-two controllers: one wins, and each loser says who.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_thirty_two_controllers_one_publishes() {
    let Some(server) = ministack("of_thirty_two_controllers_one_publishes").await else { return };
    let zone = Zone::new(server, "race.test").await;
    let aws = server.aws(None).await;
    let endpoint = zone.endpoint();
    let before = published(1);
    zone.provider(&aws).compare_and_set(&endpoint, &Published::default(), &before).await.unwrap();
    let racers: Vec<_> = (2..34)
        .map(|number| {
            let (provider, endpoint, before) = (zone.provider(&aws), endpoint.clone(), before.clone());
            tokio::spawn(async move {
                (number, provider.compare_and_set(&endpoint, &before, &published(number)).await)
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
    let [winner] = winners[..] else { panic!("{winners:?} won") };
    assert_eq!(zone.provider(&aws).read(&endpoint).await.unwrap(), published(winner));
    for error in &losers {
        let says_who = error.reason.contains(&format!("term {winner}"));
        assert!(error.kind == ErrorKind::Conflict && says_who, "{error}");
    }
    assert_eq!(losers.len(), 31);
}

/// L14: a change whose reply got lost is found to be ours; one whose request got lost is made again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_a_change_is_found_out() {
    let Some(server) = ministack("what_became_of_a_change_is_found_out").await else { return };
    let zone = Zone::new(server, "lossy.test").await;
    let proxy = Proxy::before(server.address).await;
    let provider = zone.provider(&server.aws(Some(proxy.address)).await);
    let endpoint = zone.endpoint();
    let mut before = Published::default();
    for (number, part) in [(1, Lost::Reply), (2, Lost::Request), (3, Lost::Reply)] {
        proxy.lose(part, "ChangeResourceRecordSetsRequest");
        provider.compare_and_set(&endpoint, &before, &published(number)).await.unwrap();
        before = published(number);
        assert_eq!(provider.read(&endpoint).await.unwrap(), before);
    }
    assert_eq!(proxy.lost(), [Lost::Reply, Lost::Request, Lost::Reply]);
    // Somebody else's change to the very same record set is not ours.
    let theirs = Published { endpoint: published(4).endpoint, ..published(9) };
    zone.provider(&server.aws(None).await).compare_and_set(&endpoint, &before, &theirs).await.unwrap();
    let error = provider.compare_and_set(&endpoint, &before, &published(4)).await.unwrap_err();
    assert!(error.kind == ErrorKind::Conflict && error.reason.contains("term 9"), "{error}");
}

/// L20, and what a person has set up that kutover does not steer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_refused_and_told_why() {
    let Some(server) = ministack("who_may_not_is_refused_and_told_why").await else { return };
    let zone = Zone::new(server, "refused.test").await;
    let aws = server.aws(None).await;
    let provider = zone.provider(&aws);
    let endpoint = zone.endpoint();
    let with_term = |number: u64, term: u64| {
        let mut published = published(number);
        published.owner.as_mut().unwrap().term = Term(term);
        published
    };
    provider.compare_and_set(&endpoint, &Published::default(), &with_term(1, 3)).await.unwrap();
    provider.compare_and_set(&endpoint, &with_term(1, 3), &with_term(2, 4)).await.unwrap();
    let older = provider.compare_and_set(&endpoint, &with_term(1, 3), &with_term(3, 3)).await.unwrap_err();
    assert!(older.kind == ErrorKind::Conflict && older.reason.contains("term 4"), "{older}");
    assert!(older.reason.contains("a newer one than this"), "{older}");
    zone.upsert("weighted.refused.test.", RrType::A, 5, "10.0.0.1", true).await;
    let weighted = provider.read(&"weighted.refused.test".into()).await.unwrap_err();
    assert!(
        weighted.kind == ErrorKind::Refused && weighted.reason.contains("one plain record set"),
        "{weighted}"
    );
    let elsewhere = provider.read(&"kafka.elsewhere.test".into()).await.unwrap_err();
    assert!(
        elsewhere.kind == ErrorKind::NotFound && elsewhere.reason.contains("`refused.test`"),
        "{elsewhere}"
    );
    // Two zones of one name: it must be said which.
    let twin =
        zone.client.create_hosted_zone().name("refused.test").caller_reference("twin").send().await.unwrap();
    let id = twin.hosted_zone.unwrap().id;
    let twins = zone.provider(&aws).read(&endpoint).await.unwrap_err();
    let both = [zone.id.as_str(), id.trim_start_matches("/hostedzone/")];
    assert!(
        both.iter().all(|id| twins.reason.contains(id)) && twins.reason.contains("dns.zone_ids"),
        "{twins}"
    );
    let options =
        Route53Options { zone_ids: vec![zone.id.clone()], ..Route53Options::new("refused.test".into()) };
    assert_eq!(Route53::new(&aws, options).read(&endpoint).await.unwrap(), with_term(2, 4));
    // Both are no answer: an endpoint is kept in one, and the other would go on leading to where it led.
    let options = Route53Options {
        zone_ids: both.map(str::to_owned).to_vec(),
        ..Route53Options::new("refused.test".into())
    };
    let named = Route53::new(&aws, options).read(&endpoint).await.unwrap_err();
    assert!(named.kind == ErrorKind::Refused && named.reason.contains("with its `zone_id`"), "{named}");
    assert!(both.iter().all(|id| named.reason.contains(id)), "{named}");
    let shown = format!("{aws:?} {provider:?} {older:?} {weighted:?} {elsewhere:?} {twins:?}");
    assert!(!shown.contains(SECRET), "a secret is shown");
}

/// One name in two zones of one name, as a private and a public one: each is kept in its own, and named by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_two_zones_is_two_endpoints() {
    let Some(server) = ministack("a_name_in_two_zones_is_two_endpoints").await else { return };
    let zone = Zone::new(server, "split.test").await;
    let twin = zone.client.create_hosted_zone().name("split.test").caller_reference("split-2").send().await;
    let twin = twin.unwrap().hosted_zone.unwrap().id.trim_start_matches("/hostedzone/").to_owned();
    let any = zone.provider(&server.aws(None).await);
    let both = [&zone.id, &twin].map(|id| any.pinned(&ZoneId::new(id)));
    let endpoint = zone.endpoint();
    for (number, provider) in (1..).zip(&both) {
        provider.compare_and_set(&endpoint, &Published::default(), &published(number)).await.unwrap();
    }
    for (number, provider) in (1..).zip(&both) {
        assert_eq!(provider.read(&endpoint).await.unwrap(), published(number));
        let visible = async || provider.is_visible(&endpoint, &published(number)).await.unwrap();
        kutover_testkit::until("INSYNC", Duration::from_secs(30), || async { visible().await.then_some(()) })
            .await;
    }
    let stale = both[1].compare_and_set(&endpoint, &published(1), &published(3)).await.unwrap_err();
    assert_eq!((stale.kind, stale.what), (ErrorKind::Conflict, format!("publish kafka.split.test@{twin}")));
    let elsewhere = both[1].read(&"kafka.elsewhere.test".into()).await.unwrap_err();
    assert!(elsewhere.reason.contains("or its `zone_id`"), "{elsewhere}");
}
