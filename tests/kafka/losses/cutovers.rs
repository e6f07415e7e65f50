//! One cutover there and back, steered by a controller in this process.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use krafka::admin::{
    AclBinding, AclFilter, AclOperation, AclPatternType, CreateAclsOptions, DeleteAclsOptions,
};
use krafka::consumer::GroupProtocol;
use kutover_admin::AdminConfig;
use kutover_controller::driver::Operator;
use kutover_core::controls::Control;
use kutover_core::cutover::{ApprovalGate, Event, StateName, Stop};
use kutover_core::decisions::separation::BLOCK;
use kutover_core::messages::{HEARTBEAT_MS, MemberKind, MemberState};
use kutover_core::owner::Target;
use kutover_core::ports::{ClusterAdmin as _, MemberLink, MemberLinks as _, NewTopic, ProducerIds as _};
use kutover_core::words::{Colour, Generation, TopicName};
use kutover_kafka::{ClientProperties, KafkaMemberLinks};
use kutover_testkit::until;
use kutover_tests_kafka::clients::{BOUND, Topic, commit, make_topics, read_as, try_write, write};
use kutover_tests_kafka::controller::{Deployed, Running};
use kutover_tests_kafka::world::client;
use tokio::task::JoinHandle;

use super::claimed::{self, Both};
use super::hint::{self, Till};
use super::sinks::Connected;
use super::{Stage, admin, stopped};

const PLAN: &str = "approve = \"manual\"\nconverge_deadline = \"40s\"\nquiet_window = \"1s\"\nsoak = \"0s\"\nhold_limit = \"2m\"\n\
                    drain_poll = \"200ms\"\nseparation_head_room = 1000\nraise_retention = [\"orders\"]\n";

/// What users have set on topic `orders`.
const RETENTION: (&str, &str) = ("retention.ms", "1209600000");
/// Looks at the drain within which a group that is early has long been seen.
const LOOKS: u32 = 100;

/// Nobody reads it and nothing was ever written to it.
const EMPTY: &str = "empty";

fn holds(event: &Event, why: &str) -> bool {
    matches!(event, Event::Hold { reason, .. } if reason.contains(why))
}

fn leads_to(event: &Event, colour: Colour) -> bool {
    matches!(event, Event::Published { target } if target.colour == colour)
}

async fn awaits(run: &mut Running, wanted: ApprovalGate) {
    let is_it = |event: &Event| matches!(event, Event::AwaitingApproval { gate, .. } if *gate == wanted);
    assert!(run.event(is_it).await.is_some(), "it waits for a person");
}

/// What takes long is played where it is wanted.
#[derive(Clone, Copy)]
pub(super) struct Longer {
    /// What dies with blue is not waived at first.
    pub(super) history: bool,
    /// A producer on blue is not over.
    pub(super) living: bool,
    /// There are connectors.
    pub(super) sinks: bool,
    /// Somebody moves, and somebody else goes on to write.
    pub(super) stragglers: bool,
}

/// A cutover whose every step is looked at from outside, and its rollback.
pub(super) async fn there_and_back(stage: &Stage, longer: Longer) {
    let bare = [EMPTY, hint::TOPIC, claimed::TOPIC].map(|topic| -> Topic<'_> { (topic, 1, &[]) });
    make_topics(&stage.kafka, &[&[("orders", 1, &[RETENTION] as &[_])], &bare[..]].concat()).await;
    write(&stage.kafka, "orders", 1, 5).await;
    for group in ["billing", "sleeper"] {
        commit(&stage.kafka, group, "orders", 1, 0).await;
    }
    let deployed = Deployed::new(&stage.world).await;
    if longer.history {
        history_holds(stage, &deployed).await;
    }
    let connected = if longer.sinks { Some(Connected::start(stage).await) } else { None };
    let tables = connected.as_ref().map(Connected::tables).unwrap_or_default();
    let mut run = deployed.start(&stage.world, &tables, &format!("{PLAN}waive_history = \"*\"\n")).await;
    awaits(&mut run, ApprovalGate::Redirect).await;
    ids_are_apart(stage).await;
    let raised = retention(stage).await;
    let without_limit = [("retention.bytes", "-1"), ("retention.ms", "-1")];
    let is_raised = raised.iter().all(|own| *own == set(&without_limit));
    stopped(is_raised, Control::RetentionNotRaised, format!("blue and green keep {raised:?}"));
    let till = Till::open(&deployed).await;
    let both = if longer.stragglers { Some(Both::start(stage, &deployed).await) } else { None };
    run.say(Operator::Approve(ApprovalGate::Redirect));
    assert!(run.event(|event| leads_to(event, Colour::Green)).await.is_some());
    let green = client(&stage.world.green).await;
    write(&green, "orders", 1, 2).await;
    // From classic to KIP-848, as a new cluster has it.
    let modern = ("billing", GroupProtocol::Consumer);
    assert_eq!(read_as(&green, modern, "orders", 2).await, [0, 1], "it starts where green's segment does");
    if let Some(both) = both {
        both.who_stays_alone_is_named(stage, &mut run).await;
    }
    closed_is_closed(stage, &mut run).await;
    till.moves_when_it_is_refused(stage).await;
    early_is_named(&mut run).await;
    if let Some(connected) = &connected {
        connected.sink_waits().await;
    }
    let classic = ("billing", GroupProtocol::Classic);
    assert_eq!(read_as(&stage.kafka, classic, "orders", 5).await, [0, 1, 2, 3, 4], "readers are let in");
    let left_behind = if longer.living { Some(Beating::start(stage).await) } else { None };
    commit(&stage.kafka, "sleeper", "orders", 1, 5).await;
    if let Some(producer) = left_behind {
        living_holds(&mut run).await;
        producer.end().await;
    }
    awaits(&mut run, ApprovalGate::Removal).await;
    a_topic_made_anew_holds(stage, &mut run).await;
    back(stage, &green, run).await;
    if let Some(connected) = &connected {
        connected.are_home().await;
    }
}

/// L18: nothing is removed over history that nobody waived.
async fn history_holds(stage: &Stage, deployed: &Deployed) {
    let mut run = deployed.start(&stage.world, "", PLAN).await;
    let why = "would die with the old cluster";
    let goes_on = |event: &Event| matches!(event, Event::Entered { state } if *state == StateName::Preparing);
    let event = run.event(|event| holds(event, why) || goes_on(event)).await;
    let held = event.as_ref().is_some_and(|event| holds(event, why));
    stopped(held, Control::HistoryIgnored, format!("five records of orders would go with blue: {event:?}"));
    run.say(Operator::Abort);
    let end = run.end().await;
    assert!(matches!(end.stop, Stop::Aborted(_)), "{:?}", end.stop);
}

/// L16: before anybody is led to green, an id that it gives out is above all that blue gives out and the head-room.
async fn ids_are_apart(stage: &Stage) {
    let green = admin(&stage.world.green, AdminConfig::default()).await;
    let (old, new) = (stage.admin.newest().await.expect("ids"), green.newest().await.expect("ids"));
    let ids = |newest: BTreeMap<i32, Result<u64, String>>| {
        newest.into_values().map(|id| id.expect("an id")).collect::<Vec<u64>>()
    };
    let (old, new) = (ids(old), ids(new));
    let apart = new.iter().min() > old.iter().max().map(|highest| highest + BLOCK).as_ref();
    stopped(apart, Control::NoSeparation, format!("blue gives out {old:?} and green {new:?}"));
}

/// L8: once a segment is closed, who stayed behind is refused.
async fn closed_is_closed(stage: &Stage, run: &mut Running) {
    let closed = run.event(|event| matches!(event, Event::Closed { .. })).await;
    let late = try_write(&stage.kafka, "orders", 1, 1).await;
    let what = format!("a record was acknowledged behind {closed:?}");
    stopped(late.is_err(), Control::ReceiptsClose, what);
}

/// A member's heartbeats on blue, from a producer that never learns of the move.
struct Beating {
    link: Arc<dyn MemberLink>,
    state: MemberState,
    beats: JoinHandle<()>,
}

impl Beating {
    async fn start(stage: &Stage) -> Self {
        let cluster_id = stage.admin.identity().await.expect("an identity").cluster_id;
        let bootstrap = stage.world.blue.bootstrap.clone();
        let target = Target { generation: Generation(1), colour: Colour::Blue, cluster_id, bootstrap };
        let links = KafkaMemberLinks::new([(Colour::Blue, ClientProperties::default())].into());
        let link = links.open(&target).await.expect("a link");
        let mut state = MemberState::new(MemberKind::Producer, "left-behind".into(), "run".into());
        link.tell(&state.beat(&target)).await.expect("its first");
        let (telling, mut beating) = (Arc::clone(&link), state.clone());
        let beats = tokio::spawn(async move {
            let mut beats = tokio::time::interval(Duration::from_millis(HEARTBEAT_MS));
            loop {
                beats.tick().await;
                telling.tell(&beating.beat(&target)).await.expect("its next");
            }
        });
        Self { link, state, beats }
    }

    /// It ends as it should.
    async fn end(&self) {
        self.beats.abort();
        self.link.end(&self.state).await.expect("its tombstone");
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.beats.abort();
    }
}

/// L8: nobody is shut out of blue while a producer there says that it lives.
async fn living_holds(run: &mut Running) {
    let why = "still alive elsewhere than on the new cluster: producer/left-behind";
    let goes_on = |event: &Event| matches!(event, Event::AwaitingApproval { .. });
    let event = run.event(|event| holds(event, why) || goes_on(event)).await;
    let held = event.as_ref().is_some_and(|event| holds(event, why));
    stopped(held, Control::LivingIgnored, format!("it would have been shut out: {event:?}"));
}

/// L19: a group has begun to read green, and blue's records are unread: it is named while the drain goes on.
async fn early_is_named(run: &mut Running) {
    let looks = Cell::new(0);
    let named =
        |event: &Event| matches!(event, Event::EarlyMembers { early } if early.group().as_str() == "billing");
    let in_vain = |event: &Event| {
        looks.set(looks.get() + u32::from(matches!(event, Event::Draining { .. })));
        looks.get() > LOOKS
    };
    let is_named = run.has_seen(named)
        || run.event(|event| named(event) || in_vain(event)).await.is_some_and(|event| named(&event));
    stopped(is_named, Control::EarlyMembersIgnored, "billing reads green, and nobody is told");
}

/// What `orders` has set itself of retention, on blue and on green.
async fn retention(stage: &Stage) -> [BTreeMap<String, String>; 2] {
    let green = admin(&stage.world.green, AdminConfig::default()).await;
    let mut both = [BTreeMap::new(), BTreeMap::new()];
    for (own, cluster) in both.iter_mut().zip([&stage.admin, &green]) {
        let topics = cluster.topics().await.expect("topics");
        let orders = topics.into_iter().find(|topic| topic.name.as_str() == "orders").expect("orders");
        *own = orders.configs.expect("Kafka tells configs");
        own.retain(|config, _| config.starts_with("retention."));
    }
    both
}

fn set(configs: &[(&str, &str)]) -> BTreeMap<String, String> {
    configs.iter().map(|(config, value)| ((*config).to_owned(), (*value).to_owned())).collect()
}

/// L12: somebody deletes a topic on blue and makes it again, as empty as it was, while a person is asked.
async fn a_topic_made_anew_holds(stage: &Stage, run: &mut Running) {
    let name = TopicName::new(EMPTY);
    // Under the fence that takes a right of its own, for as long as it is made use of.
    let right = AclBinding {
        operation: AclOperation::Delete,
        // krafka's own number for LITERAL is MATCH to a broker; 3 is LITERAL.
        ..AclBinding::allow_read_topic(EMPTY, "User:*").with_pattern_type(AclPatternType::from_i8(3))
    };
    let kafka = stage.kafka.admin();
    let made = kafka.create_acls(vec![right], CreateAclsOptions::default()).await.expect("an answer");
    assert!(made.iter().all(|(_, result)| result.is_ok()), "{made:?}");
    stage.admin.delete_topics(std::slice::from_ref(&name)).await.expect("deleted");
    let taken = AclFilter::all().resource_name(EMPTY).operation(AclOperation::Delete);
    let taken = kafka.delete_acls(vec![taken], DeleteAclsOptions::default()).await.expect("an answer");
    assert!(taken.iter().all(|(_, result)| result.is_ok()), "{taken:?}");
    let gone = async || {
        let topics = stage.admin.topics().await.expect("topics");
        topics.iter().all(|topic| topic.name != name).then_some(())
    };
    until("the topic to be gone", BOUND, gone).await;
    let again = NewTopic { name: name.clone(), partitions: 1, replication: 1, configs: [].into() };
    stage.admin.create_topic(&again).await.expect("made again");
    let led = async || stage.admin.ends(std::slice::from_ref(&name)).await.ok();
    until("its leader", BOUND, led).await;
    run.say(Operator::Approve(ApprovalGate::Removal));
    let why = "re-created on the old cluster";
    let is_over = |event: &Event| matches!(event, Event::Removed { .. });
    let event = run.event(|event| holds(event, why) || is_over(event)).await;
    let held = event.as_ref().is_some_and(|event| holds(event, why));
    stopped(held, Control::ReCreatedIgnored, format!("blue went with a topic that nobody proved: {event:?}"));
}

/// L7 on the way back: a group that lived on green, one that never came there and one that was born there all go on where
/// blue's new segment starts, although they would begin at the end.
async fn back(stage: &Stage, green: &krafka::Kafka, mut run: Running) {
    commit(green, "born-there", "orders", 1, 2).await;
    run.say(Operator::RollBack);
    assert!(run.event(|event| leads_to(event, Colour::Blue)).await.is_some());
    assert!(try_write(green, "orders", 1, 1).await.is_err(), "green is fenced");
    write(&stage.kafka, "orders", 1, 3).await;
    for group in ["billing", "sleeper", "born-there"] {
        let read = read_as(&stage.kafka, (group, GroupProtocol::Classic), "orders", 3).await;
        assert_eq!(read, [5, 6, 7], "{group}");
    }
    // The one that never came has green's two records to read yet.
    commit(green, "sleeper", "orders", 1, 2).await;
    let end = run.end().await;
    assert!(matches!(end.stop, Stop::RolledBack(_)), "{:?}", end.stop);
    let restored = retention(stage).await;
    let is_restored = restored.iter().all(|own| *own == set(&[RETENTION]));
    stopped(is_restored, Control::RetentionNotRestored, format!("blue and green keep {restored:?}"));
}
