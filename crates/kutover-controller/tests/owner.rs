//! What stands in the owner record and is not ours, and what a publication waits for.

mod common;

use common::{CONFIG, controller, holds, world};
use kutover_controller::driver::{Finished, Operator};
use kutover_core::cutover::{ApprovalGate, Event, StateName, Stop};
use kutover_core::owner::{OwnerRecord, RemovalMark};
use kutover_core::words::{ClusterId, DnsName, Generation};
use kutover_memory::MemoryWorld;
use tokio::sync::mpsc;

/// Runs a cutover that a person approves; just before they approve this gate, somebody writes into the owner record.
async fn overwritten_at(
    world: &MemoryWorld,
    at: ApprovalGate,
    write: impl Fn(&mut OwnerRecord) + Sync,
) -> (Finished, Vec<Event>) {
    let config = CONFIG
        .replace("[plan]", "[plan]\napprove = \"manual\"")
        .replace("hold_limit = \"60s\"", "hold_limit = \"3s\"");
    let endpoint = DnsName::new("kafka.orders.test");
    let (operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller(world, &config).run(words, |event| {
        if let Event::AwaitingApproval { gate, .. } = event {
            if gate == at {
                let mut published = world.dns.published(&endpoint);
                write(published.owner.as_mut().unwrap());
                world.dns.overwrite(&endpoint, published);
            }
            operator.send(Operator::Approve(gate)).unwrap();
        }
        events.push(event);
    });
    (finished.await.unwrap(), events)
}

/// L13: a removal of something else that is under way is not overwritten, and nothing is destroyed.
#[tokio::test(start_paused = true)]
async fn another_mark_holds_the_removal() {
    let world = world().await;
    let (finished, events) = overwritten_at(&world, ApprovalGate::Removal, |owner| {
        owner.removal = Some(RemovalMark {
            incarnation: "somebody-elses".into(),
            cluster_id: ClusterId::new("stranger"),
        });
    })
    .await;
    assert!(matches!(finished.stop, Stop::Held(_)), "{:?}", finished.stop);
    assert!(
        holds(&events).iter().any(|why| why.contains("already marks somebody-elses")),
        "{:?}",
        holds(&events)
    );
    assert!(world.provisioner.destroyed().is_empty());
    let left = world.dns.published(&"kafka.orders.test".into()).owner.unwrap().removal.unwrap();
    assert_eq!(left.cluster_id, ClusterId::new("stranger"), "it was written over");
}

/// G4: a generation never goes back, also not under our own term.
#[tokio::test(start_paused = true)]
async fn a_higher_generation_is_not_written_over() {
    let world = world().await;
    let (finished, events) = overwritten_at(&world, ApprovalGate::Redirect, |owner| {
        owner.target.generation = Generation(9);
    })
    .await;
    assert!(matches!(finished.stop, Stop::Held(_)), "{:?}", finished.stop);
    let why = holds(&events).first().copied().unwrap_or_default();
    assert!(why.contains("already says generation 9"), "{why}");
    let left = world.dns.published(&"kafka.orders.test".into()).owner.unwrap();
    assert_eq!(left.target.generation, Generation(9), "it was written over");
}

/// A record counts as published once every authoritative server serves it.
#[tokio::test(start_paused = true)]
async fn a_publication_waits_until_it_is_visible() {
    let world = world().await;
    let (_operator, words) = mpsc::unbounded_channel();
    let asked = || world.faults.calls().iter().filter(|call| *call == "dns.is_visible").count();
    let mut waited = vec![];
    let finished = controller(&world, CONFIG)
        .run(words, |event| match event {
            Event::Entered { state: StateName::Redirecting } => {
                world.dns.hide_for(5);
                waited.push(asked());
            }
            Event::Published { .. } => waited.push(asked()),
            _ => {}
        })
        .await
        .unwrap();
    assert_eq!(finished.stop, Stop::Complete);
    assert_eq!(waited[1] - waited[0], 6, "five times no, then yes");
}

/// L4: the old TTL is waited out from when the lowered one is served, not from when it is stored: a server that has not heard
/// of it goes on giving answers that live as long as before. Restoring it is no reason to wait.
#[tokio::test(start_paused = true)]
async fn the_old_ttl_is_waited_out_once_the_new_one_is_served() {
    let world = world().await;
    let endpoint = DnsName::new("kafka.orders.test");
    let (_operator, words) = mpsc::unbounded_channel();
    let asked = || world.faults.calls().iter().filter(|call| *call == "dns.is_visible").count();
    let mut looks = vec![];
    let finished = controller(&world, CONFIG)
        .run(words, |event| match event {
            Event::Entered { state: StateName::Preparing } => world.dns.hide_for(5),
            Event::Entered { state: StateName::Ready } => looks.push(asked()),
            Event::Published { .. } => looks.push(asked()),
            _ => {}
        })
        .await
        .unwrap();
    assert_eq!(finished.stop, Stop::Complete);
    assert_eq!(world.dns.published(&endpoint).endpoint.unwrap().ttl_s, 30);
    assert_eq!(looks, [6, 7], "five times no, then yes; and once for the publication");
    assert_eq!(asked(), 7);
}
