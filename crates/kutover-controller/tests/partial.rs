//! Publications that come to some of several endpoints only: what the hold says, and what is done meanwhile.

mod common;

use std::sync::Arc;

use common::zones::{FIRST, SECOND, THIRD, Zones, controller_of, generation, made_by_hand};
use common::{CONFIG, backends, holds, world};
use kutover_controller::config::Config;
use kutover_controller::driver::{Backends, Controller, Operator};
use kutover_core::cutover::{Event, StateName, Stop};
use kutover_core::ports::{DnsProvider, Published, RecordData, RecordSet};
use kutover_core::words::{Generation, ZoneId};
use kutover_memory::MemoryWorld;
use tokio::sync::mpsc;

const ALL: [&str; 3] = [FIRST, SECOND, THIRD];

async fn three_endpoints() -> (MemoryWorld, Arc<Zones>) {
    let world = world().await;
    for endpoint in [SECOND, THIRD] {
        made_by_hand(&world, endpoint, 30, None).await;
    }
    let dns = Zones::new(&world);
    (world, dns)
}

/// Runs it until a hold has been mended; gives what that said, and which endpoints were switched then.
async fn held(world: &MemoryWorld, dns: &Arc<Zones>, mend: impl Fn() + Send + Sync) -> (String, [bool; 3]) {
    let (_operator, words) = mpsc::unbounded_channel();
    let (mut said, mut switched) = (None, [false; 3]);
    let mut events = vec![];
    let run = controller_of(world, &ALL, Arc::clone(dns), "").run(words, |event| {
        if let Event::Hold { reason, .. } = &event {
            assert!(!events.iter().any(|event| matches!(event, Event::Published { .. })));
            said.get_or_insert(reason.clone());
            switched = ALL.map(|name| generation(&world.dns.published(&name.into())) == Some(Generation(2)));
            mend();
        }
        events.push(event);
    });
    let finished = run.await.unwrap();
    assert_eq!(finished.stop, Stop::Complete, "{:?}", holds(&events));
    (said.expect("it did not hold"), switched)
}

/// Each that refuses is named, and one that does not is switched, however many before it refuse.
#[tokio::test(start_paused = true)]
async fn every_endpoint_is_tried_and_all_that_are_missing_are_named() {
    let (world, dns) = three_endpoints().await;
    dns.refuse(&[SECOND, THIRD]);
    let (said, switched) = held(&world, &dns, || dns.refuse(&[])).await;
    assert_eq!(
        said,
        format!(
            "publish generation 2: switched: {FIRST}; missing: {SECOND} (publish {SECOND}: this zone is not yours), {THIRD} \
             (publish {THIRD}: this zone is not yours)"
        )
    );
    assert_eq!(switched, [true, false, false]);
    let (world, dns) = three_endpoints().await;
    dns.refuse(&[SECOND]);
    let (said, switched) = held(&world, &dns, || dns.refuse(&[])).await;
    assert!(said.contains(&format!("switched: {FIRST}, {THIRD}; missing: {SECOND} (")), "{said}");
    assert_eq!(switched, [true, false, true]);
}

/// The first one's owner record holds the term: no copy is written before it, or where it cannot be.
#[tokio::test(start_paused = true)]
async fn nothing_is_switched_without_the_first() {
    let (world, dns) = three_endpoints().await;
    dns.refuse(&[FIRST]);
    let (said, switched) = held(&world, &dns, || dns.refuse(&[])).await;
    assert!(
        said.contains(&format!("switched: none; missing: {FIRST} (publish {FIRST}: this zone")),
        "{said}"
    );
    assert!(
        said.contains(&format!("{SECOND} (waits for the others), {THIRD} (waits for the others)")),
        "{said}"
    );
    assert_eq!(switched, [false; 3]);
}

/// G5: green is fenced, and somebody has pointed a further endpoint elsewhere. Producers are led home by the first one all the
/// same; the other is held and named until it is put right.
#[tokio::test(start_paused = true)]
async fn a_further_endpoint_bars_no_way_back() {
    let (world, dns) = three_endpoints().await;
    let at = |name: &str| world.dns.published(&name.into());
    let point = |data: &RecordData| {
        let there = at(THIRD);
        let set = there.endpoint.map(|set| RecordSet { data: data.clone(), ..set });
        world.dns.overwrite(&THIRD.into(), Published { endpoint: set, ..there });
    };
    let elsewhere = RecordData::Addresses(vec!["10.9.9.9".parse().unwrap()]);
    let green = std::sync::Mutex::new(None);
    let (operator, words) = mpsc::unbounded_channel();
    let (mut said, mut events) = (None, vec![]);
    let run = controller_of(&world, &ALL, Arc::clone(&dns), "").run(words, |event| {
        match &event {
            Event::Entered { state: StateName::Draining } => {
                *green.lock().unwrap() = at(THIRD).endpoint.map(|set| set.data);
                point(&elsewhere);
                operator.send(Operator::RollBack).unwrap();
            }
            Event::Hold { reason, .. } if reason.contains("publish generation 3") => {
                said.get_or_insert((reason.clone(), generation(&at(FIRST)), generation(&at(THIRD))));
                point(green.lock().unwrap().as_ref().unwrap());
            }
            _ => {}
        }
        events.push(event);
    });
    let finished = run.await.unwrap();
    assert!(matches!(finished.stop, Stop::RolledBack(_)), "{:?}", holds(&events));
    let (reason, first, third) = said.expect("it did not hold");
    assert!(reason.contains(&format!("switched: {FIRST}, {SECOND}; missing: {THIRD} (")), "{reason}");
    assert_eq!((first, third), (Some(Generation(3)), Some(Generation(2))));
    assert_eq!(ALL.map(|name| generation(&at(name))), [Some(Generation(3)); 3]);
}

/// As with a change in Route 53 that stays PENDING: the endpoint is named, before the command's time is over.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_not_served_is_named() {
    let (world, dns) = three_endpoints().await;
    dns.behind(&[SECOND]);
    let (said, switched) = held(&world, &dns, || dns.behind(&[])).await;
    assert!(said.contains(&format!("serves the change yet at {SECOND};")) && !said.contains(THIRD), "{said}");
    assert_eq!(switched, [true; 3]);
}

/// One name in two zones is two endpoints: each is switched in its own, with its own owner record and its own TTL.
#[tokio::test(start_paused = true)]
async fn one_name_in_two_zones_is_switched_in_both() {
    let (world, other) = (world().await, MemoryWorld::new());
    made_by_hand(&world, FIRST, 60, None).await;
    let stands = world.dns.published(&FIRST.into());
    other.dns.overwrite(
        &FIRST.into(),
        Published { endpoint: stands.endpoint.map(|set| RecordSet { ttl_s: 300, ..set }), owner: None },
    );
    let of = |zone: &str| format!("{{ name = \"{FIRST}\", port = 9092, zone_id = \"{zone}\" }}");
    let text = CONFIG
        .replace(&format!("{{ name = \"{FIRST}\", port = 9092 }}"), &[of("Z1"), of("Z2")].join(", "))
        .replace("kind = \"local\"", "kind = \"route53\"")
        .replace("listen = \"127.0.0.1:5353\"\n", "");
    let config = Config::parse(&text).unwrap();
    let dns: [(ZoneId, Arc<dyn DnsProvider>); 2] =
        [("Z1".into(), Arc::new(world.dns.clone())), ("Z2".into(), Arc::new(other.dns.clone()))];
    let backends = Backends { dns: Arc::new(MemoryWorld::new().dns), zones: dns.into(), ..backends(&world) };
    let controller = Controller::new(config.cutover_plan(), config.deployment(), backends);
    let (_operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller.run(words, |event| events.push(event)).await.unwrap();
    assert_eq!(finished.stop, Stop::Complete, "{:?}", holds(&events));
    let [first, second] = [&world, &other].map(|world| world.dns.published(&FIRST.into()));
    assert_eq!([&first, &second].map(generation), [Some(Generation(2)); 2]);
    let [first, second] = [first, second].map(|published| published.endpoint.unwrap());
    assert_eq!((first.ttl_s, second.ttl_s, &first.data), (60, 300, &second.data));
}
