//! What stood at each endpoint comes back there: of several with different TTLs, of one that needs none lowered, and whichever
//! way a cutover ends.

mod common;

use common::zones::{FIRST, SECOND, THIRD, Zones, controller_of, made_by_hand};
use common::{holds, world};
use kutover_controller::driver::Operator;
use kutover_core::cutover::{Event, Record, StateName, Stop};
use kutover_core::ports::Journal as _;
use kutover_core::words::Colour;
use kutover_memory::MemoryWorld;
use serde_json::Value;
use tokio::sync::mpsc;

const ALL: [&str; 3] = [FIRST, SECOND, THIRD];
/// The third one's is `plan.ttl`, and none of them is `dns.ttl_s`.
const STOOD_S: [u32; 3] = [60, 300, 1];

fn ttls(world: &MemoryWorld) -> [u32; 3] {
    ALL.map(|name| world.dns.published(&name.into()).endpoint.unwrap().ttl_s)
}

/// Runs a cutover of them, in which a person says this when that state is entered.
async fn run(said: Option<(StateName, Operator)>) -> (MemoryWorld, Stop) {
    let world = world().await;
    for (endpoint, ttl_s) in ALL.into_iter().zip(STOOD_S) {
        made_by_hand(&world, endpoint, ttl_s, None).await;
    }
    let (operator, words) = mpsc::unbounded_channel();
    let (mut events, mut lowered) = (vec![], false);
    let run = controller_of(&world, &ALL, Zones::new(&world), "").run(words, |event| {
        match &event {
            Event::Entered { state } => {
                lowered |= ttls(&world) == [1; 3];
                if let Some((_, word)) = said.filter(|(at, _)| at == state) {
                    operator.send(word).unwrap();
                }
            }
            Event::Draining { .. } => {
                if let Some(green) = world.cluster(Colour::Green) {
                    green.read_all(&common::group());
                }
            }
            _ => {}
        }
        events.push(event);
    });
    let finished = run.await.unwrap();
    assert!(lowered && holds(&events).is_empty(), "{:?}", holds(&events));
    (world, finished.stop)
}

#[tokio::test(start_paused = true)]
async fn endpoints_of_different_ttls_get_their_own_back() {
    let (world, stop) = run(None).await;
    assert_eq!((stop, ttls(&world)), (Stop::Complete, STOOD_S));
}

#[tokio::test(start_paused = true)]
async fn so_they_do_after_an_abort() {
    let (world, stop) = run(Some((StateName::Ready, Operator::Abort))).await;
    assert!(matches!(stop, Stop::Aborted(_)), "{stop:?}");
    assert_eq!(ttls(&world), STOOD_S);
}

#[tokio::test(start_paused = true)]
async fn so_they_do_after_a_rollback() {
    let (world, stop) = run(Some((StateName::Draining, Operator::RollBack))).await;
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    assert_eq!(ttls(&world), STOOD_S);
}

/// Takes out what a journal of before does not have; gives how often it was there.
fn without_each(value: &mut Value) -> usize {
    match value {
        Value::Object(fields) => {
            let known =
                ["old_ttls", "each"].into_iter().filter(|name| fields.remove(*name).is_some()).count();
            known + fields.values_mut().map(without_each).sum::<usize>()
        }
        Value::Array(values) => values.iter_mut().map(without_each).sum(),
        _ => 0,
    }
}

/// A journal that knows one TTL for all of them is read.
#[tokio::test(start_paused = true)]
async fn a_journal_of_before_is_read() {
    let (world, _) = run(None).await;
    let mut taken = 0;
    for mut entry in world.journal.read().await.unwrap() {
        taken += without_each(&mut entry.body);
        serde_json::from_value::<Record>(entry.body).unwrap();
    }
    assert!(taken > 0);
}
