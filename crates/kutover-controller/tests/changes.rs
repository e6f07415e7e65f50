//! What changes in the world while a cutover waits.

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::{CONFIG, backends, controller, group, holds, links, place, reached, record, run, world};
use futures_util::FutureExt as _;
use kutover_controller::config::Config;
use kutover_controller::driver::{ClusterConnector, ClusterLinks, Controller, Finished, Operator};
use kutover_core::chain::SegmentEnd;
use kutover_core::cutover::{ApprovalGate, Event, StateName, Stop};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{ClusterAdmin as _, ClusterProvisioner as _, Incarnation};
use kutover_core::words::{Colour, GroupId, Nonce, Offset, Term};
use kutover_memory::{Fault, MemoryCluster, MemoryWorld};
use tokio::sync::mpsc;

/// Leads to another cluster behind green than the one that was verified there.
struct Replaced(MemoryWorld, MemoryCluster);

#[async_trait]
impl ClusterConnector for Replaced {
    async fn connect(&self, incarnation: &Incarnation) -> ProviderResult<ClusterLinks> {
        let cluster = match incarnation.colour {
            Colour::Green => self.1.clone(),
            Colour::Blue => self.0.cluster(Colour::Blue).unwrap(),
        };
        Ok(links(cluster))
    }
}

/// L13: an abort deletes nothing on a cluster that somebody put behind green while the controller was away.
#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_on_a_cluster_that_nobody_verified() {
    let world = world().await;
    let config = CONFIG.replace("[plan]", "[plan]\napprove = \"manual\"");
    let (_operator, words) = mpsc::unbounded_channel();
    let (tell, mut told) = mpsc::unbounded_channel();
    {
        let first = controller(&world, &config).run(words, move |event| {
            if matches!(event, Event::AwaitingApproval { .. }) {
                tell.send(()).unwrap();
            }
        });
        tokio::select! {
            finished = first => panic!("{finished:?}"),
            _ = told.recv() => {}
        }
    }
    let options = Default::default();
    let brokers = ["10.9.9.9:9092".to_owned()];
    let stranger = MemoryCluster::new("stranger", "stranger".into(), brokers, options, &world.faults);
    stranger.add_topic("orders", 2);
    stranger.produce(&place(0), record("somebody else's")).unwrap();
    let mut backends = backends(&world);
    backends.clusters = Arc::new(Replaced(world.clone(), stranger.clone()));
    let parsed = Config::parse(&config).unwrap();
    let (operator, words) = mpsc::unbounded_channel();
    operator.send(Operator::Abort).unwrap();
    let finished = Controller::new(parsed.cutover_plan(), parsed.deployment(), backends)
        .run(words, |_| {})
        .await
        .unwrap();
    let (Stop::Refused(why) | Stop::Held(why)) = &finished.stop else { panic!("{:?}", finished.stop) };
    assert!(why.contains("is now stranger: find out who replaced it"), "{why}");
    assert_eq!(stranger.produce(&place(0), record("still there")).unwrap(), Offset(1));
    assert!(!world.faults.calls().iter().any(|call| call == "stranger.say" || call == "stranger.prepare"));
}

/// Runs a cutover from a cluster that these groups read to its end once they hold the drain.
async fn drained_by(
    world: &MemoryWorld,
    config: &str,
    old: &MemoryCluster,
    groups: &[GroupId],
) -> (Finished, Vec<Event>) {
    let (_operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller(world, config).run(words, |event| {
        if matches!(event, Event::Draining { .. }) {
            groups.iter().for_each(|group| old.read_all(group));
        }
        events.push(event);
    });
    (finished.await.unwrap(), events)
}

/// L12: a colour that was kept, and to which a cutover back was aborted, is fenced again; what could be written there
/// meanwhile is in the next segment.
#[tokio::test(start_paused = true)]
async fn an_aborted_way_to_a_kept_colour_leaves_it_fenced() {
    let world = world().await;
    let there = CONFIG.replace("[plan]", "[plan]\nremove_old = false");
    assert_eq!(run(&world, &there).await.0.unwrap().stop, Stop::Complete);
    let (blue, green) = (world.cluster(Colour::Blue).unwrap(), world.cluster(Colour::Green).unwrap());
    green.read_all(&group());
    assert!(blue.produce(&place(0), record("straggler")).is_err());
    let back = CONFIG.replace("[plan]", "[plan]\nto = \"blue\"");
    let (_operator, words) = mpsc::unbounded_channel();
    let (faults, mut wrote) = (world.faults.clone(), None);
    let finished = controller(&world, &back)
        .run(words, |event| {
            if matches!(event, Event::Entered { state: StateName::Redirecting }) {
                // Blue is reopened, and that is never learnt.
                faults.always("blue.prove_open", Fault::NotDone);
            }
            if matches!(event, Event::Hold { .. }) {
                wrote.get_or_insert_with(|| blue.produce(&place(0), record("straggler")));
            }
        })
        .await
        .unwrap();
    assert!(matches!(finished.stop, Stop::Aborted(_)), "{:?}", finished.stop);
    assert_eq!(wrote.unwrap().unwrap(), Offset(10), "the straggler got through while blue was open");
    assert!(blue.fenced().contains(&"orders".into()), "blue is open after the abort");
    world.faults.clear();
    // Who comes along only now must not miss it.
    let late = GroupId::new("late");
    green.commit(&late, &place(0), Offset(0));
    let (finished, events) = drained_by(&world, &back, &green, &[group(), late.clone()]).await;
    assert_eq!(blue.committed(&late, &place(0)), Some(Offset(10)), "not the end: where the segment starts");
    assert_eq!(finished.stop, Stop::Complete, "{:?}", holds(&events));
    let segments = finished.progress.chain.segments(&place(0));
    let SegmentEnd::Closed { end, .. } = segments[0].end else { panic!("{segments:?}") };
    assert_eq!((end, segments[2].start), (Offset(10), Offset(10)), "{segments:?}");
}

/// L7: start offsets that expire while a slow group still reads the old cluster are set again, where the segment starts.
#[tokio::test(start_paused = true)]
async fn start_offsets_are_kept_fresh_while_the_drain_lasts() {
    let world = world().await;
    let blue = world.cluster(Colour::Blue).unwrap();
    let slow = GroupId::new("slow");
    blue.commit(&slow, &place(1), Offset(3));
    let (_operator, words) = mpsc::unbounded_channel();
    let mut looks = 0;
    let finished = controller(&world, CONFIG)
        .run(words, |event| {
            let Event::Draining { .. } = event else { return };
            looks += 1;
            let green = world.cluster(Colour::Green).unwrap();
            match looks {
                1 => {
                    green.produce(&place(1), record("after the switch")).unwrap();
                    green.expire_group(&slow);
                    assert_eq!(green.committed(&slow, &place(1)), None);
                }
                // 100 ms apart: well after the next time that they are looked after.
                400 => {
                    assert_eq!(green.committed(&slow, &place(1)), Some(Offset(0)), "not the end: the start");
                    blue.read_all(&slow);
                }
                _ => {}
            }
        })
        .await
        .unwrap();
    assert_eq!(finished.stop, Stop::Complete);
    assert!(looks >= 400);
}

/// L13: the old cluster's removal was never learnt, and somebody built a new one behind its colour: that one stays.
#[tokio::test(start_paused = true)]
async fn a_cluster_built_after_the_removal_is_not_taken_for_the_old_one() {
    let clean = world().await;
    assert_eq!(run(&clean, CONFIG).await.0.unwrap().stop, Stop::Complete);
    let number = clean.faults.calls().iter().position(|call| call == "provisioner.destroy").unwrap();
    let world = world().await;
    world.faults.at(number, Fault::HangDone);
    let (_operator, words) = mpsc::unbounded_channel();
    tokio::select! {
        finished = controller(&world, CONFIG).run(words, |_| {}) => panic!("{finished:?}"),
        () = reached(&world, number) => {}
    }
    let reborn = world.provisioner.provision(Colour::Blue, &Nonce::new("reborn")).await.unwrap();
    assert_eq!(run(&world, CONFIG).await.0.unwrap().stop, Stop::Complete);
    assert!(!world.provisioner.destroyed().contains(&reborn.id), "{:?}", world.provisioner.destroyed());
}

/// L20: while a controller waits for its approval another one takes over, from another journal. The first one comes back
/// to a record of a newer term, and leaves it as it is.
#[tokio::test(start_paused = true)]
async fn a_record_of_a_newer_term_is_never_written() {
    let world = world().await;
    let config = CONFIG.replace("[plan]", "[plan]\napprove = \"manual\"");
    let endpoint = "kafka.orders.test".into();
    let (operator, words) = mpsc::unbounded_channel();
    let mut newer = None;
    let finished = controller(&world, &config)
        .run(words, |event| {
            if let Event::AwaitingApproval { gate, .. } = event {
                let mut published = world.dns.published(&endpoint);
                let owner = published.owner.as_mut().unwrap();
                (owner.term, owner.nonce) = (Term(owner.term.0 + 1), Nonce::new("somebody else"));
                world.dns.overwrite(&endpoint, published.clone());
                newer = Some(published);
                operator.send(Operator::Approve(gate)).unwrap();
            }
        })
        .await
        .unwrap();
    assert_eq!(Some(world.dns.published(&endpoint)), newer, "it was written all the same");
    assert!(matches!(finished.stop, Stop::Superseded(_)), "{:?}", finished.stop);
}

/// G5: the last cluster that serves is not removed, although a person has approved it.
#[tokio::test(start_paused = true)]
async fn a_dead_new_cluster_holds_the_removal() {
    let world = world().await;
    let config = CONFIG
        .replace("[plan]", "[plan]\napprove = \"manual\"")
        .replace("hold_limit = \"60s\"", "hold_limit = \"3s\"");
    let (operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller(&world, &config)
        .run(words, |event| {
            if let Event::AwaitingApproval { gate, .. } = event {
                if gate == ApprovalGate::Removal {
                    world.cluster(Colour::Green).unwrap().kill();
                }
                operator.send(Operator::Approve(gate)).unwrap();
            }
            events.push(event);
        })
        .await
        .unwrap();
    assert!(matches!(finished.stop, Stop::Held(_)), "{:?}", finished.stop);
    assert!(world.provisioner.destroyed().is_empty());
    assert!(world.cluster(Colour::Blue).is_some(), "there is a way home");
}

/// L13: who aborts while a cluster is being asked for does not destroy what somebody else has put there.
#[tokio::test(start_paused = true)]
async fn an_abort_while_provisioning_leaves_a_foreign_cluster() {
    let world = world().await;
    let theirs = Nonce::new("somebody-elses");
    let theirs = world.provisioner.provision(Colour::Green, &theirs).await.unwrap();
    let (operator, words) = mpsc::unbounded_channel();
    let finished = controller(&world, CONFIG)
        .run(words, |event| {
            if matches!(event, Event::Entered { state: StateName::Provisioning }) {
                operator.send(Operator::Abort).unwrap();
            }
        })
        .await
        .unwrap();
    assert!(matches!(finished.stop, Stop::Aborted(_)), "{:?}", finished.stop);
    assert!(world.provisioner.destroyed().is_empty(), "{} is theirs", theirs.id);
}

/// L8, L9: where the old cluster stays, what somebody made there after the switch is found all the same.
#[tokio::test(start_paused = true)]
async fn a_topic_made_on_a_kept_cluster_after_the_switch_holds_the_end() {
    let world = world().await;
    let config = CONFIG
        .replace("[plan]", "[plan]\nremove_old = false")
        .replace("hold_limit = \"60s\"", "hold_limit = \"3s\"");
    let (_operator, words) = mpsc::unbounded_channel();
    let finished = controller(&world, &config)
        .run(words, |event| {
            if matches!(event, Event::Published { .. }) {
                world.cluster(Colour::Blue).unwrap().add_topic("ledger", 1);
            }
        })
        .await
        .unwrap();
    let Stop::Held(why) = &finished.stop else { panic!("{:?}", finished.stop) };
    assert!(why.starts_with("topic ledger was made on the old cluster after it was closed"), "{why}");
}

/// A topic that goes while a person takes their time does not hold the switch of the others.
#[tokio::test(start_paused = true)]
async fn a_topic_that_goes_before_the_switch_holds_nothing() {
    let world = world().await;
    let blue = world.cluster(Colour::Blue).unwrap();
    blue.add_topic("ledger", 1);
    let config = CONFIG.replace("[plan]", "[plan]\napprove = \"manual\"");
    let (operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller(&world, &config)
        .run(words, |event| {
            if let Event::AwaitingApproval { gate, .. } = event {
                if gate == ApprovalGate::Redirect {
                    blue.delete_topics(&["ledger".into()]).now_or_never().unwrap().unwrap();
                }
                operator.send(Operator::Approve(gate)).unwrap();
            }
            events.push(event);
        })
        .await
        .unwrap();
    assert_eq!(finished.stop, Stop::Complete, "{:?}", holds(&events));
    assert_eq!(holds(&events), Vec::<&str>::new());
}

/// Leaders that refuse the probe without a fence would prove nothing by refusing it under one. It is told, with the topic and
/// the fix, before anything moves; where no fence is wanted, nobody asks.
#[tokio::test(start_paused = true)]
async fn a_probe_that_may_not_write_is_told_before_the_switch() {
    let world = world().await;
    let what = "prove that topic orders, partition 0 takes records";
    let refused = ProviderError::new(ErrorKind::Refused, what, "its leader refuses ordinary clients");
    world.faults.always("blue.prove_open", Fault::Fail(refused));
    let config = CONFIG.replace("hold_limit = \"60s\"", "hold_limit = \"5s\"");
    let (finished, events) = run(&world, &config).await;
    let Stop::Aborted(why) = finished.unwrap().stop else { panic!("{:?}", holds(&events)) };
    assert!(why.contains("topic orders") && why.contains("grant it Write on the topics"), "{why}");
    assert!(why.contains("clusters.blue.probe_properties"), "{why}");
    assert!(!events.iter().any(|event| matches!(event, Event::Published { .. })), "{events:?}");

    let (fence, keeps) = ("fence = \"waived\"", "remove_old = false\nquiet_window = \"1s\"");
    let waived = CONFIG.replace("[plan]", &format!("[plan]\n{fence}\n{keeps}"));
    let (finished, events) = run(&world, &waived).await;
    assert_eq!(finished.unwrap().stop, Stop::Complete, "{:?}", holds(&events));
}

/// The new cluster stands, and the old one cannot be described for a while: that is waited for, and takes nothing away.
#[tokio::test(start_paused = true)]
async fn an_old_cluster_that_cannot_be_described_holds_and_aborts_nothing() {
    let world = world().await;
    let stuck =
        ProviderError::new(ErrorKind::Refused, "describe stack KafkaA", "continue its update rollback");
    let (faults, mut events) = (world.faults.clone(), vec![]);
    let (_operator, words) = mpsc::unbounded_channel();
    let finished = controller(&world, CONFIG)
        .run(words, |event| {
            if matches!(event, Event::Entered { state: StateName::Provisioning }) {
                faults.always("provisioner.describe", Fault::Fail(stuck.clone()));
            }
            if matches!(&event, Event::Hold { reason, .. } if reason.contains("continue its update rollback"))
            {
                faults.clear();
            }
            events.push(event);
        })
        .await;
    assert_eq!(finished.unwrap().stop, Stop::Complete, "{:?}", holds(&events));
    assert_eq!(holds(&events).len(), 1, "{:?}", holds(&events));
}

/// L20: a fence that a late act of an older term has put up on the cluster that is left refuses the probe too. That says
/// nothing of who asks, and holds no switch, which leads producers out of it.
#[tokio::test(start_paused = true)]
async fn a_fence_that_came_late_does_not_hold_the_switch() {
    let world = world().await;
    let blue = world.cluster(Colour::Blue).unwrap();
    let (_operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller(&world, CONFIG)
        .run(words, |event| {
            if matches!(event, Event::Entered { state: StateName::Preparing }) {
                blue.raise_fence(&["orders".into()]).now_or_never().unwrap().unwrap();
            }
            events.push(event);
        })
        .await;
    assert_eq!(finished.unwrap().stop, Stop::Complete, "{:?}", holds(&events));
    assert_eq!(holds(&events), Vec::<&str>::new());
}

/// G5: that the cluster on which producers are now has died is told while the old one is still being read.
#[tokio::test(start_paused = true)]
async fn a_new_cluster_that_dies_during_the_drain_is_told() {
    let world = world().await;
    world.cluster(Colour::Blue).unwrap().commit(&GroupId::new("slow"), &place(1), Offset(3));
    let (operator, words) = mpsc::unbounded_channel();
    let (mut told, mut looks) = (vec![], 0);
    let finished = controller(&world, CONFIG)
        .run(words, |event| match event {
            Event::Entered { state: StateName::Draining } => world.cluster(Colour::Green).unwrap().kill(),
            Event::Note { text } if text.contains("producers belong there") => {
                operator.send(Operator::RollBack).unwrap();
                told.push(text);
            }
            // Nobody else ends the drain: without this bound a controller that says nothing would never return.
            Event::Draining { .. } => {
                looks += 1;
                assert!(looks < 1_000, "the new cluster is dead, and nobody is told");
            }
            _ => {}
        })
        .await
        .unwrap();
    assert!(matches!(finished.stop, Stop::RolledBack(_)), "{:?}", finished.stop);
    assert!(told[0].starts_with("green does not take start offsets, and producers belong there"), "{told:?}");
}

/// Clients come the platform's way, not the controller's: what its load balancer would pass nothing on to is not switched to,
/// however well it answers here. What the platform says of the old cluster is nobody's concern.
#[tokio::test(start_paused = true)]
async fn a_new_cluster_that_is_not_ready_is_waited_for_before_anything_is_published() {
    let world = world().await;
    world.provisioner.set_ready(Colour::Blue, false);
    let config = CONFIG.replace("[plan]", "[plan]\napprove = \"manual\"");
    let (operator, words) = mpsc::unbounded_channel();
    let (mut held, mut events) = (vec![], vec![]);
    let finished = controller(&world, &config)
        .run(words, |event| {
            if let Event::AwaitingApproval { gate, .. } = &event {
                if *gate == ApprovalGate::Redirect {
                    world.provisioner.set_ready(Colour::Green, false);
                }
                operator.send(Operator::Approve(*gate)).unwrap();
            }
            if let Event::Hold { state, reason } = &event {
                let owner = world.dns.published(&"kafka.orders.test".into()).owner.unwrap();
                held.push((*state, owner.target.colour, reason.clone()));
                world.provisioner.set_ready(Colour::Green, true);
            }
            events.push(event);
        })
        .await
        .unwrap();
    assert_eq!(finished.stop, Stop::Complete, "{:?}", holds(&events));
    let [(state, leads_to, reason)] = &held[..] else { panic!("{held:?}") };
    assert_eq!((*state, *leads_to), (StateName::Redirecting, Colour::Blue));
    assert!(reason.contains("look whether KafkaB-2 is ready: none of its targets is healthy"), "{reason}");
    let switched = events.iter().filter(|event| matches!(event, Event::Published { .. })).count();
    let asked = world.faults.calls().iter().filter(|call| *call == "provisioner.is_ready").count();
    assert_eq!((switched, asked), (1, 2), "{events:?}");
}
