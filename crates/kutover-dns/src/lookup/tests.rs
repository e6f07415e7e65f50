use hickory_proto::op::Query;
use hickory_proto::rr::rdata::{NS, SOA, TXT};
use hickory_resolver::net::ForwardNSData;

use super::*;

fn wire(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn text(bytes: &[u8]) -> Record {
    Record::from_rdata(wire("_kutover.kafka.test."), 5, RData::TXT(TXT::from_bytes(vec![bytes])))
}

fn no_records(code: ResponseCode) -> NoRecords {
    NoRecords::new(Query::query(wire("kafka.test."), RecordType::A), code)
}

#[test]
fn only_a_server_that_knows_gives_an_empty_answer() {
    assert!(is_empty_answer(&no_records(ResponseCode::NoError)));
    assert!(is_empty_answer(&no_records(ResponseCode::NXDomain)));
    assert!(!is_empty_answer(&no_records(ResponseCode::ServFail)));
    assert!(!is_empty_answer(&no_records(ResponseCode::Unknown(4000))));

    let ns = Record::from_rdata(wire("test."), 5, RData::NS(NS(wire("ns.test."))));
    let mut referral = no_records(ResponseCode::NoError);
    referral.ns = Some([ForwardNSData { ns, glue: [].into() }].into());
    assert!(!is_empty_answer(&referral), "a lame server refers to others");
    let soa = SOA::new(wire("ns.test."), wire("hostmaster.test."), 1, 1, 1, 1, 1);
    referral.soa = Some(Box::new(Record::from_rdata(wire("test."), 5, soa)));
    assert!(is_empty_answer(&referral), "an authoritative one may name itself (RFC 2308, 2.2)");
}

#[test]
fn of_several_texts_none_is_taken_for_the_owner_record() {
    assert_eq!(owner_of(&[]), Ok(None));
    let reason = owner_of(&[text(b"v=kutover1"), text(b"v=kutover1")]).unwrap_err();
    assert!(reason.contains("2 TXT records"), "{reason}");
}

#[test]
fn bytes_that_are_no_text_are_not_read_as_another_text() {
    let reason = owner_of(&[text(b"v=kutover1;deployment=\xff")]).unwrap_err();
    assert!(reason.contains("UTF-8"), "{reason}");
}

#[test]
fn the_systems_configuration_is_used_without_a_cache_or_named_as_the_fault() {
    match Resolvers::System.build(Duration::from_secs(5)) {
        Ok(resolver) => assert_eq!(resolver.options().cache_size, 0),
        Err(error) => assert!(error.to_string().contains("/etc/resolv.conf"), "{error}"),
    }
}
