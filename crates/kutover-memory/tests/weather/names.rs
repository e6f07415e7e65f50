//! DNS as it is served and kept.

use kutover_core::owner::{OwnerRecord, Target};
use kutover_core::ports::{
    DnsProvider as _, EndpointAnswer, EndpointWatch as _, Published, RecordData, RecordSet,
};
use kutover_core::words::{Colour, DnsName, Generation, Term};
use kutover_memory::*;

use crate::{Scene, pass};

fn endpoint() -> DnsName {
    "kafka.test".into()
}

fn published(generation: u64) -> Published {
    let target = Target {
        generation: Generation(generation),
        colour: Colour::Blue,
        cluster_id: "c".into(),
        bootstrap: vec![],
    };
    let owner = OwnerRecord {
        deployment: "d".into(),
        term: Term(1),
        nonce: "n".into(),
        target,
        intent: None,
        removal: None,
    };
    let addresses = RecordData::Addresses(vec![[10, 0, 0, generation as u8].into()]);
    Published { endpoint: Some(RecordSet { ttl_s: 60, data: addresses }), owner: Some(owner) }
}

/// The generations that addresses and owner record are of.
fn generations(answer: &EndpointAnswer) -> (u64, u64) {
    let EndpointAnswer::Found { addresses, owner: Some(owner), .. } = answer else { panic!("{answer:?}") };
    let std::net::IpAddr::V4(address) = addresses[0] else { panic!("{answer:?}") };
    (u64::from(address.octets()[3]), owner.target.generation.0)
}

#[tokio::test(start_paused = true)]
async fn a_change_becomes_visible_late() {
    let scene = Scene::new().await;
    let dns = &scene.world.dns;
    *scene.script.visible_ms.lock() = 50;
    dns.compare_and_set(&endpoint(), &Published::default(), &Published::default()).await.unwrap();
    assert_eq!(scene.fired("dns-visible-late"), 0, "that is not late");
    *scene.script.visible_ms.lock() = 4000;
    dns.compare_and_set(&endpoint(), &Published::default(), &published(1)).await.unwrap();
    assert_eq!(dns.read(&endpoint()).await.unwrap(), published(1), "stored, not visible");
    assert!(!dns.is_visible(&endpoint(), &published(1)).await.unwrap());
    let resolver = MemoryResolver::new(dns, "r", ResolverOptions::default());
    assert_eq!(resolver.look_up(&endpoint()).await, EndpointAnswer::Empty);
    pass(4000).await;
    assert!(dns.is_visible(&endpoint(), &published(1)).await.unwrap());
    assert_eq!(generations(&resolver.look_up(&endpoint()).await), (1, 1));
    assert_eq!(scene.fired("dns-visible-late"), 1);
}

/// L4: record and owner record are two names with two times to live.
#[tokio::test(start_paused = true)]
async fn record_and_owner_record_are_kept_apart() {
    let scene = Scene::new().await;
    let dns = &scene.world.dns;
    dns.overwrite(&endpoint(), published(1));
    let resolver = MemoryResolver::new(dns, "r", ResolverOptions::default());
    let slow = AnswerWeather { delay_ms: 3000, fate: AnswerFate::Fresh };
    scene.script.answers.lock().push_back((OwnerRecord::name_for(&endpoint()), slow));
    let name = endpoint();
    let asked = resolver.look_up(&name);
    let changing = async {
        pass(1000).await;
        dns.overwrite(&endpoint(), published(2));
    };
    let (answer, ()) = tokio::join!(asked, changing);
    assert_eq!(generations(&answer), (1, 2));
    assert_eq!(scene.fired("dns-parts-disagree"), 1);
    pass(57_001).await;
    assert_eq!(generations(&resolver.look_up(&endpoint()).await), (2, 2), "the record's time is over");
}

#[tokio::test(start_paused = true)]
async fn a_resolver_may_be_old_dead_empty_or_broken() {
    let scene = Scene::new().await;
    let dns = &scene.world.dns;
    dns.overwrite(&endpoint(), published(1));
    let resolver = MemoryResolver::new(dns, "r", ResolverOptions::default());
    let watch = resolver.watch(&endpoint());
    assert_eq!(generations(&watch.next().await), (1, 1));
    dns.overwrite(&endpoint(), published(2));
    let fates = [AnswerFate::Old, AnswerFate::Dead, AnswerFate::ServFail, AnswerFate::Empty];
    let answers = fates.map(|fate| (endpoint(), AnswerWeather { delay_ms: 0, fate }));
    scene.script.answers.lock().extend(answers);
    assert_eq!(generations(&watch.next().await), (1, 2), "the record is old, the owner record is not");
    assert!(matches!(watch.next().await, EndpointAnswer::Failed(_)));
    assert!(matches!(watch.next().await, EndpointAnswer::Failed(_)));
    assert_eq!(watch.next().await, EndpointAnswer::Empty);
    assert_eq!(generations(&watch.next().await), (2, 2));
    for kind in ["dns-old", "dns-dead", "dns-servfail", "dns-empty"] {
        assert_eq!(scene.fired(kind), 1, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_resolver_may_keep_answers_for_longer_than_it_may() {
    let scene = Scene::new().await;
    let dns = &scene.world.dns;
    dns.overwrite(&endpoint(), published(1));
    let options = ResolverOptions { min_ttl_ms: 300_000, ..ResolverOptions::default() };
    let resolver = MemoryResolver::new(dns, "r", options);
    let watch = resolver.watch(&endpoint());
    assert_eq!(generations(&watch.next().await), (1, 1));
    dns.overwrite(&endpoint(), published(2));
    pass(299_000).await;
    assert_eq!(generations(&watch.ask_now().await), (1, 1));
    pass(1001).await;
    assert_eq!(generations(&watch.ask_now().await), (2, 2));
}
