//! Retention that is raised on both clusters while a cutover runs, and restored exactly (L11).

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::{CONFIG, RETENTION_MS, assert_restored, backends, controller, holds, world};
use futures_util::FutureExt as _;
use kutover_controller::config::Config;
use kutover_controller::driver::{Controller, Finished, Operator};
use kutover_core::cutover::{ApprovalGate, Event, StateName, Stop};
use kutover_core::error::ProviderResult;
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterAdmin as _, ClusterProvisioner, Incarnation};
use kutover_core::words::{Colour, IncarnationId, Nonce};
use kutover_memory::{MemoryCluster, MemoryProvisioner, MemoryWorld};
use tokio::sync::mpsc;

/// A cutover in which something happens before it is approved.
async fn cutover(
    world: &MemoryWorld,
    happens: impl Fn(&MemoryCluster, &MemoryCluster) + Sync,
) -> (Finished, Vec<Event>) {
    let config = CONFIG.replace("[plan]", "[plan]\napprove = \"manual\"");
    let (operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller(world, &config)
        .run(words, |event| {
            if let Event::AwaitingApproval { gate, .. } = &event {
                if *gate == ApprovalGate::Redirect {
                    happens(&world.cluster(Colour::Blue).unwrap(), &world.cluster(Colour::Green).unwrap());
                }
                operator.send(Operator::Approve(*gate)).unwrap();
            }
            events.push(event);
        })
        .await
        .unwrap();
    (finished, events)
}

fn is_raised(cluster: &MemoryCluster) -> bool {
    let own = cluster.configs_of("orders");
    ["retention.ms", "retention.bytes"]
        .iter()
        .all(|config| own.get(*config).is_some_and(|value| value == "-1"))
}

/// L11: nothing that is unread is deleted on either cluster while it runs; afterwards both are as they were, the one that
/// is let go of too: it may belong to somebody else. What is raised is no difference between them.
#[tokio::test(start_paused = true)]
async fn retention_is_raised_while_it_runs_and_restored_exactly() {
    let world = world().await;
    let blue = world.cluster(Colour::Blue).unwrap();
    let (_operator, words) = mpsc::unbounded_channel();
    let mut raised = vec![];
    let mut events = vec![];
    let finished = controller(&world, CONFIG)
        .run(words, |event| {
            if let (Event::Entered { state }, Some(green)) = (&event, world.cluster(Colour::Green)) {
                raised.push((*state, is_raised(&blue), is_raised(&green)));
            }
            events.push(event);
        })
        .await
        .unwrap();
    assert_eq!(finished.stop, Stop::Complete, "{:?}", holds(&events));
    let during = raised.iter().filter(|(state, ..)| (StateName::Ready..StateName::Complete).contains(state));
    let during: Vec<_> = during.collect();
    assert!(during.len() >= 8, "{raised:?}");
    assert!(during.iter().all(|(_, blue, green)| *blue && *green), "deleted while unread: {raised:?}");
    assert_restored(&blue, "let go of");
    assert_restored(&world.cluster(Colour::Green).unwrap(), "serves");
    let differs = |event: &&Event| matches!(event, Event::Note { text } if text.contains("retention.ms is"));
    assert_eq!(events.iter().filter(differs).count(), 0, "{events:?}");
}

/// A cluster that somebody else manages: there for every request, and let go of instead of destroyed.
struct Managed(MemoryProvisioner);

#[async_trait]
impl ClusterProvisioner for Managed {
    async fn provision(&self, colour: Colour, _: &Nonce) -> ProviderResult<Incarnation> {
        Ok(self.0.describe(colour).await?.expect("it is there"))
    }
    async fn describe(&self, colour: Colour) -> ProviderResult<Option<Incarnation>> {
        self.0.describe(colour).await
    }
    async fn isolate(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        self.0.isolate(incarnation, nonce).await
    }
    async fn put_back(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        self.0.put_back(incarnation, nonce).await
    }
    async fn destroy(&self, _: &RemovalMark) -> ProviderResult<()> {
        Ok(())
    }
    async fn is_ready(&self, incarnation: &IncarnationId) -> ProviderResult<()> {
        self.0.is_ready(incarnation).await
    }
}

/// L11: an abort leaves nothing raised on a new cluster that stays, nor on the old one.
#[tokio::test(start_paused = true)]
async fn an_abort_restores_a_new_cluster_that_somebody_else_manages() {
    let world = world().await;
    world.provisioner.provision(Colour::Green, &"theirs".into()).await.unwrap();
    let (blue, green) = (world.cluster(Colour::Blue).unwrap(), world.cluster(Colour::Green).unwrap());
    green.add_topic("orders", 2);
    green.set_config("orders", "retention.ms", RETENTION_MS);
    let mut backends = backends(&world);
    backends.green = Arc::new(Managed(world.provisioner.clone()));
    let config = Config::parse(&CONFIG.replace("[plan]", "[plan]\napprove = \"manual\"")).unwrap();
    let (operator, words) = mpsc::unbounded_channel();
    let finished = Controller::new(config.cutover_plan(), config.deployment(), backends)
        .run(words, |event| {
            if matches!(event, Event::AwaitingApproval { .. }) {
                assert!(is_raised(&blue) && is_raised(&green));
                operator.send(Operator::Abort).unwrap();
            }
        })
        .await
        .unwrap();
    assert!(matches!(finished.stop, Stop::Aborted(_)), "{:?}", finished.stop);
    assert_restored(&blue, "serves");
    assert_restored(&green, "stays");
}

/// What somebody has set meanwhile is theirs: it stays, and that is said.
#[tokio::test(start_paused = true)]
async fn what_somebody_has_changed_meanwhile_stays() {
    let world = world().await;
    let (finished, events) = cutover(&world, |blue, green| {
        assert!(is_raised(blue) && is_raised(green));
        green.set_config("orders", "retention.ms", "7200000");
    })
    .await;
    assert_eq!(finished.stop, Stop::Complete, "{:?}", holds(&events));
    let own = world.cluster(Colour::Green).unwrap().configs_of("orders");
    assert_eq!(own, [("retention.ms".to_owned(), "7200000".to_owned())].into());
    let said = "retention.ms on green is `7200000` and not -1, to which it was raised: somebody has changed it, and it stays; \
                before, it was `3600000`";
    assert!(events.iter().any(|event| event.to_string().contains(said)), "{events:?}");
}

/// A topic that is made again on green, like blue's, gets what blue keeps in ordinary times, not what is raised there for the
/// time being.
#[tokio::test(start_paused = true)]
async fn what_is_raised_is_not_copied() {
    let world = world().await;
    let (finished, events) = cutover(&world, |_, green| {
        green.delete_topics(&["orders".into()]).now_or_never().unwrap().unwrap();
    })
    .await;
    assert_eq!(finished.stop, Stop::Complete, "{:?}", holds(&events));
    let own = world.cluster(Colour::Green).unwrap().configs_of("orders");
    assert_eq!(own, [("retention.ms".to_owned(), RETENTION_MS.to_owned())].into());
}

/// A plan that raises nothing touches nothing.
#[tokio::test(start_paused = true)]
async fn nothing_is_raised_that_the_plan_does_not_name() {
    let world = world().await;
    let config = CONFIG.replace("raise_retention = \"*\"", "raise_retention = []");
    let (_operator, words) = mpsc::unbounded_channel();
    let finished = controller(&world, &config).run(words, |_| {}).await.unwrap();
    assert_eq!(finished.stop, Stop::Complete);
    assert!(!world.faults.calls().iter().any(|call| call.ends_with("alter_configs")));
}
