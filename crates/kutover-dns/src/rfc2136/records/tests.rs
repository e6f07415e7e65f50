use kutover_core::owner::Target;
use kutover_core::ports::RecordSet;
use kutover_core::words::{Colour, Generation, Term};

use super::*;

fn names() -> Names {
    Names::new(&DnsName::new("orders.test"), &DnsName::new("kafka.orders.test")).unwrap()
}

fn owner(nonce: &str) -> OwnerRecord {
    OwnerRecord {
        deployment: "orders".into(),
        term: Term(3),
        nonce: nonce.into(),
        target: Target {
            generation: Generation(7),
            colour: Colour::Blue,
            cluster_id: "c".into(),
            bootstrap: vec!["broker-with-a-long-name.orders.test:9092".into(); 20],
        },
        intent: None,
        removal: None,
    }
}

fn published(addresses: &[&str], ttl_s: u32) -> Published {
    let data = RecordData::Addresses(addresses.iter().map(|address| address.parse().unwrap()).collect());
    Published { endpoint: Some(RecordSet { ttl_s, data }), owner: Some(owner("n")) }
}

/// As a server would hold it after the swap.
fn stored(published: &Published) -> Stored {
    let (owner, set) = records(&names(), published)
        .unwrap()
        .into_iter()
        .partition(|record| record.record_type() == RecordType::TXT);
    Stored { set, owner }
}

fn lines(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| {
        format!("{} {} {} {}", record.name, record.ttl, record.dns_class, record.record_type())
    };
    records.iter().map(line).collect()
}

#[test]
fn what_is_written_reads_back() {
    for wanted in [
        published(&["10.0.0.1", "10.0.0.2", "fd00::1"], 30),
        Published {
            endpoint: Some(RecordSet { ttl_s: 60, data: RecordData::Cname(DnsName::new("lb.orders.test")) }),
            ..published(&[], 60)
        },
        Published { endpoint: None, ..published(&[], 60) },
        Published::default(),
    ] {
        assert_eq!(stored(&wanted).published().unwrap(), wanted);
    }
}

/// TTLs are not compared by a prerequisite: without the text's own field, a change of the TTL alone would be overwritten
/// by whoever read before it.
#[test]
fn a_ttl_alone_changes_what_is_compared() {
    let (old, new) = (stored(&published(&["10.0.0.1"], 30)), stored(&published(&["10.0.0.1"], 5)));
    assert_eq!(old.set, new.set, "records are equal whatever their TTL");
    assert_ne!(old.owner, new.owner);
}

#[test]
fn all_that_was_found_is_required_and_all_else_required_to_be_absent() {
    let found = stored(&published(&["10.0.0.1", "10.0.0.2"], 30));
    let desired = Published {
        endpoint: Some(RecordSet { ttl_s: 5, data: RecordData::Cname(DnsName::new("lb.orders.test")) }),
        owner: Some(owner("m")),
    };
    let message = swap(&names(), &found, &desired).unwrap();
    assert_eq!(
        lines(&message.answers),
        [
            "kafka.orders.test. 0 IN A",
            "kafka.orders.test. 0 IN A",
            "_kutover.kafka.orders.test. 0 IN TXT",
            "kafka.orders.test. 0 NONE AAAA",
        ]
    );
    assert_eq!(
        lines(&message.authorities),
        [
            "kafka.orders.test. 0 ANY A",
            "_kutover.kafka.orders.test. 0 ANY TXT",
            "kafka.orders.test. 5 IN CNAME",
            "_kutover.kafka.orders.test. 5 IN TXT",
        ]
    );
    let message = swap(&names(), &Stored::default(), &Published::default()).unwrap();
    assert_eq!(
        lines(&message.answers),
        [
            "kafka.orders.test. 0 NONE CNAME",
            "kafka.orders.test. 0 NONE A",
            "kafka.orders.test. 0 NONE AAAA",
            "_kutover.kafka.orders.test. 0 NONE TXT",
            "_kutover.kafka.orders.test. 0 NONE CNAME",
        ]
    );
    assert!(message.authorities.is_empty());
}

#[test]
fn two_ttls_or_a_foreign_text_make_no_sense() {
    let mut found = stored(&published(&["10.0.0.1", "fd00::1"], 30));
    found.set[1].ttl = 5;
    assert!(found.published().unwrap_err().contains("different TTLs"));
    let text = |text: &str| {
        let data = RData::TXT(TXT::new(vec![text.to_owned()]));
        Record::from_rdata(names().owner, 5, data)
    };
    let found = Stored { set: Vec::new(), owner: vec![text("v=kutover1;term=x")] };
    assert!(found.published().unwrap_err().contains("mend or remove it"));
    let found = Stored { set: Vec::new(), owner: vec![text("a"), text("b")] };
    assert!(found.published().unwrap_err().contains("2 TXT records"));
}
