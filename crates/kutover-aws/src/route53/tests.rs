use super::records::{Stored, check};
use super::*;
use aws_sdk_route53::types::{AliasTarget, ChangeAction, ResourceRecord};
use kutover_core::error::ErrorKind;
use kutover_core::ports::{RecordData, RecordSet};
use kutover_testkit::conformance::dns::published;

const BALANCER: &str = "kafkaa-0123.elb.eu-west-1.amazonaws.com";

fn endpoint() -> DnsName {
    DnsName::new("kafka.orders.test")
}

fn set(
    name: &str,
    kind: RrType,
    ttl: i64,
    values: &[&str],
) -> aws_sdk_route53::types::builders::ResourceRecordSetBuilder {
    let records = values.iter().map(|value| ResourceRecord::builder().value(*value).build().unwrap());
    ResourceRecordSet::builder()
        .name(name)
        .r#type(kind)
        .ttl(ttl)
        .set_resource_records(Some(records.collect()))
}

fn alias(kind: RrType, to: &str) -> ResourceRecordSet {
    let target =
        AliasTarget::builder().hosted_zone_id("ZELB").dns_name(format!("{to}.")).evaluate_target_health(true);
    let set = ResourceRecordSet::builder().name("kafka.orders.test.").r#type(kind);
    set.alias_target(target.build().unwrap()).build().unwrap()
}

fn read(sets: Vec<ResourceRecordSet>) -> ProviderResult<Published> {
    Stored::new(sets, &endpoint()).published("read")
}

fn cname(ttl_s: u32, target: &str) -> Published {
    Published { endpoint: Some(RecordSet { ttl_s, data: RecordData::Cname(target.into()) }), owner: None }
}

/// Weighted answers are drawn anew at each look-up: a client would flap.
#[test]
fn what_flaps_or_has_no_ttl_is_refused_with_advice() {
    let weighted = set("kafka.orders.test.", RrType::A, 5, &["10.0.0.1"]).set_identifier("blue").weight(10);
    let policy = set("kafka.orders.test.", RrType::A, 5, &["10.0.0.1"]).traffic_policy_instance_id("t");
    let no_ttl = set("kafka.orders.test.", RrType::A, 5, &["10.0.0.1"]).set_ttl(None);
    let other_alias = alias(RrType::A, "www.orders.test");
    for (set, said) in [
        (weighted.build().unwrap(), "`blue`"),
        (policy.build().unwrap(), "traffic policy"),
        (no_ttl.build().unwrap(), "has no TTL"),
        (other_alias, "no load balancer"),
    ] {
        let error = read(vec![set]).unwrap_err();
        assert!(error.kind == ErrorKind::Refused && error.reason.contains(said), "{error}");
    }
}

#[test]
fn addresses_of_both_kinds_are_one_set_with_the_longer_ttl() {
    let found = read(vec![
        set("kafka.orders.test.", RrType::Aaaa, 30, &["fd00::1"]).build().unwrap(),
        set("Kafka.Orders.test.", RrType::A, 60, &["10.0.0.2", "10.0.0.1"]).build().unwrap(),
        set("other.orders.test.", RrType::A, 90, &["10.0.0.9"]).build().unwrap(),
    ]);
    let addresses = ["10.0.0.1", "10.0.0.2", "fd00::1"].map(|address| address.parse().unwrap()).to_vec();
    let expected = RecordSet { ttl_s: 60, data: RecordData::Addresses(addresses) };
    assert_eq!(found.unwrap().endpoint, Some(expected));
}

/// The deletion is of what stands there, to the letter: health evaluation and zone id of an alias too.
#[test]
fn a_batch_deletes_what_stands_there_to_the_letter() {
    let standing = vec![alias(RrType::A, BALANCER), alias(RrType::Aaaa, BALANCER)];
    let stored = Stored::new(standing.clone(), &endpoint());
    assert_eq!(stored.published("read").unwrap(), cname(60, BALANCER));
    let to = cname(60, "kafkab-4567.elb.eu-west-1.amazonaws.com");
    let batch = stored.batch(&endpoint(), &to, Some("ZELB"), "publish").unwrap().unwrap();
    let of = |action: ChangeAction| {
        let chosen = batch.changes().iter().filter(|change| *change.action() == action);
        chosen.filter_map(|change| change.resource_record_set().cloned()).collect::<Vec<_>>()
    };
    assert_eq!(of(ChangeAction::Delete), standing);
    let created = of(ChangeAction::Create);
    assert_eq!(created.len(), 2, "a dual-stack balancer stays one");
    assert_eq!(Stored::new(created, &endpoint()).published("read").unwrap(), to);
    // Without its zone, a load balancer is pointed at by a CNAME of the TTL that is wanted.
    let batch = stored.batch(&endpoint(), &cname(5, BALANCER), None, "publish").unwrap().unwrap();
    let plain = batch.changes().last().unwrap().resource_record_set().unwrap();
    assert_eq!((plain.r#type(), plain.ttl()), (&RrType::Cname, Some(5)));
}

/// An owner record of any length is read back as it was written: it is cut into strings of 255 bytes.
#[test]
fn a_long_owner_record_survives_its_quotes() {
    let mut wanted = published(7);
    let owner = wanted.owner.as_mut().unwrap();
    owner.target.bootstrap =
        (0..30).map(|broker| format!("broker-{broker}.kafkaa.orders.test:9092")).collect();
    let batch =
        Stored::new(Vec::new(), &endpoint()).batch(&endpoint(), &wanted, None, "publish").unwrap().unwrap();
    let sets = batch.changes().iter().filter_map(|change| change.resource_record_set().cloned()).collect();
    assert_eq!(read(sets).unwrap(), wanted);
    owner_of(&mut wanted).target.bootstrap = vec!["b".repeat(200) + ":9092"; 30];
    let nothing = Published::default();
    let reason = check(&endpoint(), &"orders.test".into(), &nothing, &wanted, false).unwrap_err();
    assert!(reason.contains("fewer bootstrap servers"), "{reason}");
}

fn owner_of(published: &mut Published) -> &mut OwnerRecord {
    published.owner.as_mut().unwrap()
}

#[test]
fn what_route_53_would_refuse_is_refused_before() {
    let apex = DnsName::new("orders.test");
    let nothing = Published::default();
    let aliases = |desired: &Published, at: &DnsName, on: bool| check(at, &apex, &nothing, desired, on);
    let reason = aliases(&cname(5, "lb.test"), &apex, true).unwrap_err();
    assert!(reason.contains("apex"), "{reason}");
    let reason = aliases(&cname(5, BALANCER), &endpoint(), true).unwrap_err();
    assert!(reason.contains("60 s, not 5 s; set `dns.ttl_s` to 60"), "{reason}");
    // As when the first owner record is put beside a CNAME that stands there.
    let stands = cname(300, BALANCER);
    let reason = check(&endpoint(), &apex, &stands, &stands, true).unwrap_err();
    assert!(reason.contains("60 s, not 300 s; set the record's own TTL to 60 s"), "{reason}");
    let there = stands.endpoint.unwrap();
    let by_name = Route53Options::new(apex.clone());
    let by_alias = Route53Options { alias_zone_id: Some("ZELB".into()), ..by_name.clone() };
    assert_eq!((by_name.fault_of(&there), by_alias.fault_of(&there)), (None, Some(reason)));
    assert_eq!(by_alias.fault_of(&cname(60, BALANCER).endpoint.unwrap()), None);
    assert_eq!(by_alias.fault_of(&cname(300, "lb.test").endpoint.unwrap()), None);
    aliases(&cname(60, BALANCER), &apex, true).unwrap();
    aliases(&cname(5, BALANCER), &endpoint(), false).unwrap();
    let many = |count: u32| {
        let addresses = (0..count).map(|at| std::net::Ipv4Addr::from(0x0a00_0000 + at).into()).collect();
        let set = RecordSet { ttl_s: 5, data: RecordData::Addresses(addresses) };
        Published { endpoint: Some(set), owner: None }
    };
    aliases(&many(400), &endpoint(), false).unwrap();
    let reason = aliases(&many(401), &endpoint(), false).unwrap_err();
    assert!(reason.contains("401 addresses"), "{reason}");
    let beside =
        Stored::new(vec![set("kafka.orders.test.", RrType::Mx, 5, &["1 m."]).build().unwrap()], &endpoint());
    let error = beside.check_room(&endpoint(), &cname(5, "lb.test"), false, "publish").unwrap_err();
    assert!(error.kind == ErrorKind::Refused && error.reason.contains("MX records"), "{error}");
    beside.check_room(&endpoint(), &cname(60, BALANCER), true, "publish").unwrap();
}

/// A text without quotes, two values, another program's text: never an absent owner record.
#[test]
fn a_spoilt_owner_record_is_invalid() {
    for values in [&["hello"][..], &["\"v=spf1 -all\""], &["\"v=kutover1\"", "\"v=kutover1\""]] {
        let set = set("_kutover.kafka.orders.test.", RrType::Txt, 5, values).build().unwrap();
        assert_eq!(read(vec![set]).unwrap_err().kind, ErrorKind::Invalid, "{values:?}");
    }
}

/// Five requests a second are the account's quota.
#[test]
fn the_quota_is_kept_unless_told_otherwise() {
    let options = Route53Options::new("orders.test".into());
    assert_eq!(options.gap * 5, Duration::from_secs(1));
    assert!(options.zone_ids.is_empty() && options.alias_zone_id.is_none(), "{options:?}");
}
