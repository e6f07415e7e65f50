//! Records that others change, or that cannot be changed, in the middle of a cutover: it holds and says why, goes on when
//! the cause ends, and nothing is lost. On embedded clusters: nothing of this is about Kafka.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_route53::types::RrType;
use kutover_core::owner::OwnerRecord;
use kutover_core::ports::{DnsProvider as _, Published, RecordData};
use kutover_core::words::{Colour, DnsName};

use crate::bridge::is_change;
use crate::name_servers::ZONE;
use crate::proxy::reply;
use crate::scene::{ENDPOINT, SOME, Scene};

/// Twice by hand: before the switch to somewhere else, and after it back to blue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_changed_by_hand_holds_the_cutover_and_loses_nothing() {
    let test = "a_record_changed_by_hand_holds_the_cutover_and_loses_nothing";
    let Some(scene) = Scene::open(test, &[ZONE]).await else { return };
    let path = scene.configuration("by-hand.journal", &[ZONE]);
    let zone = scene.zones[0].as_str();
    let to = async |address: &str| scene.account.by_hand(zone, ENDPOINT, RrType::A, 1, address).await;
    let (mut up, mut live) = scene.begun(&mut scene.up(&path)).await;
    scene.comes_to_the_switch(&mut up, &mut live).await;

    to("10.9.9.9").await;
    up.say("approve redirect");
    let why = up.wait_for("hold: publish kafka.orders.test");
    assert!(why.contains("10.9.9.9") && why.contains("neither blue nor green"), "{why}");
    let owner = scene.served(ENDPOINT).await.owner.expect("an owner record");
    assert_eq!(owner.target.generation.0, 1, "it was published over somebody else's change");
    live.goes_on(SOME).await;
    to("127.8.8.1").await;

    up.wait_for("approve removal");
    to("127.8.8.1").await;
    up.say("approve removal");
    let why = up.wait_for("hold: check where kafka.orders.test points");
    assert!(why.contains("127.8.8.1") && why.contains("put it right"), "{why}");
    live.goes_on(SOME).await;
    to("127.8.8.2").await;
    scene.completes(&mut up, live).await;
    let served = scene.served(ENDPOINT).await;
    let (set, owner) = (served.endpoint.expect("a record set"), served.owner.expect("an owner record"));
    assert_eq!(set.data, RecordData::Addresses(vec![[127, 8, 8, 2].into()]));
    assert_eq!((owner.target.generation.0, owner.target.colour), (2, Colour::Green));
}

/// The owner record becomes another deployment's, in the middle: before the switch, and again before the removal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_owner_record_holds_the_cutover_and_loses_nothing() {
    let test = "a_foreign_owner_record_holds_the_cutover_and_loses_nothing";
    let Some(scene) = Scene::open(test, &[ZONE]).await else { return };
    let path = scene.configuration("foreign.journal", &[ZONE]);
    let zone = scene.zones[0].as_str();
    let writes = async |owner: &OwnerRecord| {
        let name = OwnerRecord::name_for(&DnsName::new(ENDPOINT));
        let strings: Vec<String> = owner.to_txt().iter().map(|text| format!("\"{text}\"")).collect();
        scene.account.by_hand(zone, name.as_str(), RrType::Txt, 1, &strings.join(" ")).await;
    };
    let (mut up, mut live) = scene.begun(&mut scene.up(&path)).await;
    scene.comes_to_the_switch(&mut up, &mut live).await;
    for (generation, step) in [(1, "redirect"), (2, "removal")] {
        if step == "removal" {
            up.wait_for("approve removal");
        }
        let ours = scene.owner().await;
        assert_eq!(ours.target.generation.0, generation, "{step}");
        let theirs = OwnerRecord { deployment: "payments".into(), ..ours.clone() };
        writes(&theirs).await;
        up.say(&format!("approve {step}"));
        let why = up.wait_for("hold: record of kafka.orders.test");
        assert!(why.contains("belongs to deployment payments, not orders"), "{step}: {why}");
        live.goes_on(SOME).await;
        assert_eq!(scene.owner().await, theirs, "{step}: something was written over it");
        writes(&ours).await;
    }
    scene.completes(&mut up, live).await;
    let owner = scene.owner().await;
    assert_eq!((owner.target.generation.0, owner.target.colour, owner.removal), (2, Colour::Green, None));
}

/// One of two endpoints cannot be switched: a partial switch is a hold that names what is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_endpoints_that_refuses_holds_the_switch_and_loses_nothing() {
    let test = "one_of_two_endpoints_that_refuses_holds_the_switch_and_loses_nothing";
    let apexes = [ZONE, "internal.orders.test"];
    let Some(scene) = Scene::open(test, &apexes).await else { return };
    let names = [ENDPOINT, "kafka.internal.orders.test"];
    the_second_refuses(&scene, &apexes, names, names.map(str::to_owned)).await;
}

/// The same for one name in two zones of one name, as a private and a public one are: both are switched, each with an owner
/// record of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_in_two_zones_is_switched_in_both() {
    let apexes = [ZONE, ZONE];
    let Some(scene) = Scene::open("one_name_in_two_zones_is_switched_in_both", &apexes).await else { return };
    let shown = [0, 1].map(|at: usize| format!("{ENDPOINT}@{}", scene.zones[at]));
    the_second_refuses(&scene, &apexes, [ENDPOINT; 2], shown).await;
}

async fn the_second_refuses(scene: &Scene, apexes: &[&str; 2], names: [&str; 2], shown: [String; 2]) {
    let path = scene.configuration(&format!("{}.journal", shown.concat()), apexes);
    scene.account.by_hand(&scene.zones[1], names[1], RrType::A, 1, "127.8.8.1").await;
    let stands = async |at: usize| {
        let found = scene.account.records(&scene.zones[at..=at]).read(&DnsName::new(names[at])).await;
        let Published { endpoint, owner } = found.expect("Route 53 answers");
        let target = owner.map(|owner: OwnerRecord| (owner.target.generation.0, owner.target.colour));
        (endpoint.expect("a record set").data, target)
    };
    let at = |last: u8| RecordData::Addresses(vec![[127, 8, 8, last].into()]);
    let refuses = Arc::new(AtomicBool::new(false));
    scene.bridge.refuses({
        let (zone, refuses) = (scene.zones[1].clone(), Arc::clone(&refuses));
        move |request| {
            let refused = refuses.load(Ordering::SeqCst) && is_change(request) && request.contains(&zone);
            refused.then(|| reply("403 Forbidden", DENIED))
        }
    });
    let (mut up, mut live) = scene.begun(&mut scene.up(&path)).await;
    scene.comes_to_the_switch(&mut up, &mut live).await;

    refuses.store(true, Ordering::SeqCst);
    up.say("approve redirect");
    let [first, second] = &shown;
    let hold = format!("hold: publish generation 2: switched: {first}; missing: {second} (");
    let why = up.wait_for(&hold);
    assert!(why.contains("not authorized to change this hosted zone"), "{why}");
    assert_eq!(stands(0).await, (at(2), Some((2, Colour::Green))), "the first one was switched");
    assert_eq!(stands(1).await, (at(1), None));
    live.goes_on(SOME).await;
    refuses.store(false, Ordering::SeqCst);
    up.wait_for("approve removal");
    up.say("approve removal");
    scene.completes(&mut up, live).await;
    for (which, name) in shown.iter().enumerate() {
        assert_eq!(stands(which).await, (at(2), Some((2, Colour::Green))), "{name}");
    }
}

/// As Route 53 refuses who may not.
const DENIED: &str = "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
    <Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User is not authorized to change this hosted zone\
    </Message></Error><RequestId>r-1</RequestId></ErrorResponse>";
