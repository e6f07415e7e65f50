//! What an earlier life left on the clusters: a fence that no journal knows, consumers that came too early.

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::{CONFIG, backends, controller, group, holds, links, place, record, run, world};
use kutover_controller::config::Config;
use kutover_controller::driver::{ClusterConnector, ClusterLinks, Controller, Operator};
use kutover_core::cutover::{Event, Record, State, StateName, Stop};
use kutover_core::decisions::early_members::Member;
use kutover_core::error::ProviderResult;
use kutover_core::ports::{
    ClusterAdmin as _, ClusterSurvey, GroupDescription, GroupProtocol, Incarnation, Journal as _,
};
use kutover_core::words::{Colour, TopicName};
use kutover_memory::{Fault, FenceStyle, MemoryJournal, MemoryWorld};
use kutover_testkit::mocks::MockClusterSurvey;
use tokio::sync::mpsc;

/// A cutover over a fence that was left on blue: it completes, and blue takes records before it begins. Gives its events.
async fn blue_takes_records_before_it_begins(world: &MemoryWorld) -> Vec<Event> {
    let blue = world.cluster(Colour::Blue).unwrap();
    let (_operator, words) = mpsc::unbounded_channel();
    let (mut events, mut taken) = (vec![], None);
    let finished = controller(world, CONFIG)
        .run(words, |event| {
            if matches!(event, Event::Entered { state: StateName::Planned }) {
                taken = Some(blue.produce(&place(0), record("before the cutover begins")).is_ok());
                blue.read_all(&group());
            }
            events.push(event);
        })
        .await;
    assert_eq!(finished.unwrap().stop, Stop::Complete, "{:?}", holds(&events));
    assert_eq!(taken, Some(true), "blue still refuses records: {events:?}");
    events
}

/// A fence of kutover's own that no journal knows of is found on the active cluster, named, and lifted whole before
/// anything else is done.
#[tokio::test(start_paused = true)]
async fn a_fence_that_no_journal_knows_is_lifted() {
    let world = world().await;
    let blue = world.cluster(Colour::Blue).unwrap();
    // A rule about a topic outlives it.
    blue.add_topic("gone", 1);
    blue.raise_fence(&["gone".into(), "orders".into()]).await.unwrap();
    blue.delete_topics(&["gone".into()]).await.unwrap();
    let events = blue_takes_records_before_it_begins(&world).await;
    let left =
        Event::FenceLeft { colour: Colour::Blue, topics: vec!["gone".into(), "orders".into()], more: 0 };
    let named = events.iter().position(|event| *event == left).expect("it is named");
    assert!(
        blue.fenced().contains(&"orders".into()) && !blue.fenced().contains(&"gone".into()),
        "fenced in the end"
    );
    assert!(events[named + 1].to_string().contains("is lifted, and every leader takes records again"));
}

/// The same for a fence that a command made, which cannot be asked where it stands: leaders can.
#[tokio::test(start_paused = true)]
async fn a_left_over_fence_that_cannot_be_asked_is_lifted() {
    let world = world().await;
    let blue = world.cluster(Colour::Blue).unwrap();
    blue.configure(|options| options.fence_style = FenceStyle::Unasked);
    blue.raise_fence(&["orders".into()]).await.unwrap();
    let events = blue_takes_records_before_it_begins(&world).await;
    let told: Vec<String> = events.iter().map(ToString::to_string).collect();
    let said = |text: &str| told.iter().any(|told| told.contains(text));
    assert!(said("blue, where producers belong, refuses records"), "{told:?}");
    assert!(said("is lifted, and every leader takes records again"), "{told:?}");
}

/// A cluster that is not open after the fence was lifted holds the start, with the reason; it goes on when the cause ends.
#[tokio::test(start_paused = true)]
async fn a_start_waits_until_the_active_cluster_takes_records() {
    let world = world().await;
    let blue = world.cluster(Colour::Blue).unwrap();
    blue.raise_fence(&["orders".into()]).await.unwrap();
    world.faults.always("blue.prove_open", Fault::NotDone);
    let config = CONFIG.replace("hold_limit = \"60s\"", "hold_limit = \"5s\"");
    let (finished, events) = run(&world, &config).await;
    assert!(matches!(finished.unwrap().stop, Stop::Held(_)), "{events:?}");
    assert!(world.cluster(Colour::Green).is_none(), "nothing was begun");
    world.faults.clear();
    assert_eq!(run(&world, CONFIG).await.0.unwrap().stop, Stop::Complete);
}

/// In the middle of a rollback the fence on the active cluster is meant, also if the journal is an older copy that knows
/// nothing of the rollback: the owner record does.
#[tokio::test(start_paused = true)]
async fn a_fence_of_a_rollback_that_the_journal_does_not_know_stays() {
    let world = world().await;
    world.faults.always("green.prove_fence", Fault::NotDone);
    let config = CONFIG.replace("hold_limit = \"60s\"", "hold_limit = \"5s\"");
    let (operator, words) = mpsc::unbounded_channel();
    let finished = controller(&world, &config)
        .run(words, |event| {
            if matches!(event, Event::Entered { state: StateName::Draining }) {
                operator.send(Operator::RollBack).unwrap();
            }
        })
        .await;
    assert!(matches!(finished.unwrap().stop, Stop::Held(_)));
    let green = world.cluster(Colour::Green).unwrap();
    let fenced = green.fenced();
    assert!(fenced.contains(&TopicName::new("orders")));

    world.faults.clear();
    let older = MemoryJournal::new(&world.faults);
    for entry in world.journal.entries() {
        let goes_back = match serde_json::from_value::<Record>(entry.body.clone()).unwrap() {
            Record::Checkpoint { progress } => matches!(progress.state, State::RollingBack(..)),
            _ => false,
        };
        if goes_back {
            break;
        }
        older.append(&entry).await.unwrap();
    }
    let config = Config::parse(&config).unwrap();
    let backends = kutover_controller::driver::Backends { journal: Arc::new(older), ..backends(&world) };
    let (_operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let restored = Controller::new(config.cutover_plan(), config.deployment(), backends);
    let finished = restored.run(words, |event| events.push(event)).await.unwrap();
    assert!(!events.iter().any(|event| matches!(event, Event::FenceLeft { .. })), "{events:?}");
    assert_eq!(green.fenced(), fenced, "it was lifted in the middle of a rollback: {:?}", finished.stop);
    assert!(world.cluster(Colour::Blue).is_some(), "the way home is gone");
}

/// Green tells of a group that has a member there.
struct Early(MemoryWorld);

#[async_trait]
impl ClusterConnector for Early {
    async fn connect(&self, incarnation: &Incarnation) -> ProviderResult<ClusterLinks> {
        Ok(links(self.0.cluster(incarnation.colour).unwrap()))
    }

    async fn survey(&self, incarnation: &Incarnation) -> ProviderResult<Arc<dyn ClusterSurvey>> {
        assert_eq!(incarnation.colour, Colour::Green, "blue's groups are where they should be");
        let member = Member { client_id: "billing-7".into(), host: "/10.0.0.7".into() };
        let described = GroupDescription {
            protocol: GroupProtocol::Classic,
            protocol_type: "consumer".into(),
            assignor: None,
            state: "Stable".into(),
            members: Some([member].into()),
            topics: [TopicName::new("orders")].into(),
        };
        let mut mock = MockClusterSurvey::new();
        mock.expect_describe_groups().returning(move || {
            Ok([(group(), Ok(described.clone())), ("others".into(), Err("silent".into()))].into())
        });
        Ok(Arc::new(mock))
    }
}

/// L19: a group whose consumers came up on green while blue is unread is named at once, once, and with who it is.
#[tokio::test(start_paused = true)]
async fn a_group_that_is_early_on_the_new_cluster_is_named() {
    let world = world().await;
    let blue = world.cluster(Colour::Blue).unwrap();
    blue.produce(&place(0), record("unread")).unwrap();
    let backends =
        kutover_controller::driver::Backends { clusters: Arc::new(Early(world.clone())), ..backends(&world) };
    let config = Config::parse(CONFIG).unwrap();
    let (_operator, words) = mpsc::unbounded_channel();
    let (mut events, mut looks) = (vec![], 0);
    let finished = Controller::new(config.cutover_plan(), config.deployment(), backends)
        .run(words, |event| {
            if matches!(&event, Event::Draining { remaining, .. } if !remaining.is_empty()) {
                looks += 1;
                if looks > 100 {
                    blue.read_all(&group());
                }
            }
            events.push(event);
        })
        .await;
    assert_eq!(finished.unwrap().stop, Stop::Complete, "{:?}", holds(&events));
    let place = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).expect("it happened");
    let named = place(&|event| matches!(event, Event::EarlyMembers { .. }));
    let closed = place(&|event| matches!(event, Event::Closed { .. }));
    assert!(named < closed, "named while producers still move");
    let said =
        "group billing must still read the old cluster, but is on the new one: billing-7 at /10.0.0.7; point";
    assert!(events[named].to_string().starts_with(said), "{}", events[named]);
    let times = events.iter().filter(|event| matches!(event, Event::EarlyMembers { .. })).count();
    assert_eq!(times, 1, "once, in ten seconds");
}
