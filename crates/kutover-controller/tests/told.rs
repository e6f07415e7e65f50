//! What a controller tells: people of groups that have been on the new cluster too early, by what they left there; producers
//! of a fence that is over.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use common::{CONFIG, Connector, backends, group, place, record, world};
use kutover_controller::config::Config;
use kutover_controller::driver::{Backends, ClusterConnector, ClusterLinks, Controller, Finished, Operator};
use kutover_core::cutover::{Event, StateName, Stop};
use kutover_core::decisions::early_members::Early;
use kutover_core::error::ProviderResult;
use kutover_core::ports::{ClusterSurvey, Incarnation, Registry as _};
use kutover_core::words::Colour;
use kutover_memory::MemoryWorld;
use kutover_testkit::mocks::MockClusterSurvey;
use tokio::sync::mpsc;

/// The world's clusters, where groups are asked for and none is there any more.
struct Left(Connector);

#[async_trait]
impl ClusterConnector for Left {
    async fn connect(&self, incarnation: &Incarnation) -> ProviderResult<ClusterLinks> {
        self.0.connect(incarnation).await
    }

    async fn survey(&self, _: &Incarnation) -> ProviderResult<Arc<dyn ClusterSurvey>> {
        let mut mock = MockClusterSurvey::new();
        mock.expect_describe_groups().returning(|| Ok(BTreeMap::new()));
        Ok(Arc::new(mock))
    }
}

async fn run(
    world: &MemoryWorld,
    clusters: Arc<dyn ClusterConnector>,
    at: impl FnMut(&Event) + Send,
) -> Finished {
    let mut at = at;
    let config = Config::parse(CONFIG).expect("a configuration");
    let backends = Backends { clusters, ..backends(world) };
    let controller = Controller::new(config.cutover_plan(), config.deployment(), backends);
    let (_operator, words) = mpsc::unbounded_channel();
    controller.run(words, |event| at(&event)).await.expect("the journal")
}

/// L19: the group read a record on green and went away before it had read blue. Nobody is there to be seen, but its commits are.
#[tokio::test(start_paused = true)]
async fn who_has_been_on_green_too_early_is_named_by_its_commits() {
    for early in [true, false] {
        let (world, mut named) = (world().await, Vec::new());
        let blue = world.cluster(Colour::Blue).expect("blue");
        blue.produce(&place(0), record("unread")).expect("taken");
        let finished = run(&world, Arc::new(Left(Connector(world.clone()))), |event| match event {
            Event::Published { .. } if early => {
                let green = world.cluster(Colour::Green).expect("green");
                green.produce(&place(1), record("of green")).expect("taken");
                green.read_all(&group());
            }
            Event::EarlyMembers { early } => named.push(early.clone()),
            Event::Entered { state: StateName::Draining } => blue.read_all(&group()),
            _ => {}
        });
        assert_eq!(finished.await.stop, Stop::Complete);
        let moved = matches!(&named[..], [Early::There { group: who, moved, .. }] if *who == group() && !moved.is_empty());
        assert!(if early { moved } else { named.is_empty() }, "{early}: {named:?}");
    }
}

/// Producers go by what is said last: one that took blue's old fence for one that stands would leave blue at its first refusal.
#[tokio::test(start_paused = true)]
async fn a_fence_that_was_announced_is_said_to_be_over() {
    let world = world().await;
    let (operator, words) = mpsc::unbounded_channel();
    let mut fenced = Vec::new();
    let there = common::controller(&world, CONFIG).run(words, |event| {
        if matches!(event, Event::Closed { .. }) {
            operator.send(Operator::RollBack).expect("it listens");
        }
    });
    let stop = there.await.expect("the journal").stop;
    assert!(matches!(stop, Stop::RolledBack(_)), "{stop:?}");
    for colour in Colour::BOTH {
        let Some(cluster) = world.cluster(colour) else { continue };
        fenced.push(cluster.control().await.expect("what was said").fenced);
    }
    assert!(!fenced.is_empty() && fenced.iter().all(|fenced| !fenced.contains(&Colour::Blue)), "{fenced:?}");
}
